//! The server: one acceptor thread, one thread a shard, and the four steps of stopping.
//!
//! The acceptor hands each connection to the shard with the fewest, so that shards are even whatever the clients do.
//! Draining comes before stopping where it is asked for (`draining`). Stopping: (1) nothing is accepted, and publish, register and upgrade are refused; (2) what was taken is brought into
//! the logs of all interested shards; (3) `Stop` enters each fanout queue behind everything; (4) outboxes are flushed,
//! connections closed with 1012. All under one deadline; what is left then is counted lost.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, LocalRuntime},
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};

use self::reload::Reloader;
use crate::{
    admin::Admin,
    config::{Cli, Config},
    connection::{self, Local},
    gate::Crowd,
    http::{self, HandshakeSlot, Newcomer},
    limits::{DESCRIPTORS_RESERVED, HANDSHAKES_OPEN, REFUSALS_LOGGED_MS},
    logging::{self, LogFilter},
    node::{HttpCount, Node, Phase},
    peer::Peer,
    settings::{AdminSettings, Settings},
    systemd::Environment,
};

mod draining;
mod reload;
mod supervision;

/// How long the acceptor rests when the kernel has no descriptors for it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it looks how many connections there are while there are nearly as many as may be.
const CROWDED_PAUSE: Duration = Duration::from_millis(10);

/// A connection on its way from the acceptor to its shard.
#[derive(Debug)]
struct Accepted {
    stream: std::net::TcpStream,
    newcomer: Newcomer,
    /// It counts among the connections of its shard.
    count: HttpCount,
}

/// A running server. Dropping it begins to stop it; [`Server::wait`] waits until that is done.
#[derive(Debug)]
pub struct Server {
    node: Arc<Node>,
    address: SocketAddr,
    threads: Vec<JoinHandle<io::Result<()>>>,
    /// Ends last: as long as there is a node one may ask how it is.
    admin: Option<Admin>,
}

impl Server {
    /// Listens on `listen` (port 0: any free one) and starts the threads. Nobody is accepted before every shard has
    /// its descriptors: clients who come at once by the thousand must not take them.
    ///
    /// # Errors
    /// When the settings are not allowed ([`Settings::check`]; the kind is [`io::ErrorKind::InvalidInput`]), the address, or
    /// that of the admin listener, cannot be listened on, or a thread or poller cannot be had.
    pub fn start(listen: SocketAddr, settings: Settings) -> io::Result<Self> {
        settings.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let listener = listen_on(listen)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}")))?;
        let address = listener.local_addr()?;
        let node = Node::new(settings);
        let settings = node.settings();
        let admin = settings.admin.as_ref().map(|admin| start_admin(&node, admin)).transpose()?.flatten();
        let shards = settings.shards;
        drop(settings);
        let slots = HANDSHAKES_OPEN * shards;
        let mut threads = Vec::with_capacity(shards + 1);
        let mut shard_queues = Vec::with_capacity(shards);
        let (ready, all_ready) = sync_channel(shards);
        for number in 0..shards {
            // Each entry holds a handshake slot, so the queue is never full.
            let (queue, accepted) = mpsc::channel(slots);
            shard_queues.push(queue);
            let (node, ready) = (node.clone(), ready.clone());
            let run = move || run_shard(node, number, accepted, ready);
            threads.push(thread::Builder::new().name(format!("shard-{number}")).spawn(run)?);
        }
        drop(ready);
        if all_ready.iter().count() < shards {
            drop(shard_queues);
            node.say_goodbye();
            let ended = Self { node, address, threads, admin }.wait();
            return Err(ended.expect_err("a shard that does not begin its work says why"));
        }
        node.begin_serving();
        let acceptor =
            Acceptor { node: node.clone(), shards: shard_queues, slots: Arc::new(Semaphore::new(slots)) };
        let run = move || local_runtime()?.block_on(acceptor.run_and_keep_time(listener));
        threads.push(thread::Builder::new().name("acceptor".into()).spawn(run)?);
        Ok(Self { node, address, threads, admin })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin listener listens, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// The node, to publish from the same process or to look at its metrics.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Begins to stop; [`Self::wait`] returns when it is done, at the latest after the stop deadline.
    pub fn stop(&self) {
        self.node.begin_stopping();
    }

    /// Begins to end it politely, as SIGTERM does: see [`Node::begin_draining`]. [`Self::wait`] returns when it is done.
    pub fn drain(&self) {
        self.node.begin_draining();
    }

    /// Waits until every thread has ended, which takes [`Self::stop`] or [`Self::drain`]. It blocks its thread: an
    /// asynchronous program calls it where that may be, as with `tokio::task::spawn_blocking`.
    ///
    /// # Errors
    /// When a thread failed or panicked.
    pub fn wait(mut self) -> io::Result<()> {
        let mut result = Ok(());
        for thread in std::mem::take(&mut self.threads) {
            let name = thread.thread().name().unwrap_or("?").to_owned();
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other(format!("{name} panicked"))));
            result = result.and(ended);
        }
        if let Some(admin) = self.admin.take() {
            admin.end();
        }
        result
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.node.begin_stopping();
    }
}

/// Runs a server until SIGTERM, which has it drain ([`Node::begin_draining`]), or SIGINT, which has it stop without delay. A
/// second signal ends the process at once. SIGHUP has it read its configuration again: `config` is what `cli` came to when it
/// was read first.
///
/// # Errors
/// When it cannot be started, or one of its threads failed.
pub fn run(cli: Cli, config: Config, log: LogFilter) -> io::Result<()> {
    // Caught from before the first client: a process that is told to stop while it starts stops as it always does.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals::catch()?
    };
    let environment = Environment::read(std::process::id(), |name| std::env::var_os(name));
    let notifier = supervision::notifier(&environment);
    let server = Server::start(config.listen, config.settings.clone())?;
    tracing::info!(address = %server.address(), "listening");
    if let Some(notifier) = &notifier {
        supervision::begin(notifier.clone(), environment.watchdog, server.node().clone())?;
    }
    let node = server.node().clone();
    let mut reloader = Reloader::new(cli, config, log, node.clone());
    let watch = move || {
        // It ends by a panic only; then the process would be deaf to whoever wants it to end.
        let _stop = StopAtEnd(node.clone());
        runtime.block_on(async {
            loop {
                match signals.next().await {
                    Asked::Reload => {
                        notifier.iter().for_each(|notifier| notifier.reloading());
                        reloader.reload();
                        notifier.iter().for_each(|notifier| notifier.ready());
                    }
                    Asked::Drain => break node.begin_draining(),
                    Asked::Stop => break node.begin_stopping(),
                }
            }
            while signals.next().await == Asked::Reload {}
            tracing::warn!("second signal: ending now");
            logging::flush();
            std::process::exit(1)
        })
    };
    thread::Builder::new().name("signals".into()).spawn(watch)?;
    let node = server.node().clone();
    server.wait()?;
    let total = node.metrics().total();
    tracing::info!(written = total.written, dropped = total.dropped(), "stopped");
    Ok(())
}

/// Starts the admin listener, unless it cannot be had and need not be there.
fn start_admin(node: &Arc<Node>, settings: &AdminSettings) -> io::Result<Option<Admin>> {
    match Admin::start(node.clone(), settings.listen) {
        Ok(admin) => {
            tracing::info!(admin = %admin.address(), "admin listener");
            Ok(Some(admin))
        }
        Err(error) if settings.required => Err(error),
        Err(error) => {
            tracing::warn!(%error, "no admin listener: set --admin-listen, or off");
            Ok(None)
        }
    }
}

/// Takes connections and hands them out.
struct Acceptor {
    node: Arc<Node>,
    shards: Vec<mpsc::Sender<Accepted>>,
    slots: Arc<Semaphore>,
}

impl Acceptor {
    async fn run_and_keep_time(self, listener: std::net::TcpListener) -> io::Result<()> {
        let node = self.node.clone();
        let (ended, ()) = tokio::join!(self.run(listener), draining::keep_time(&node));
        ended
    }

    async fn run(self, listener: std::net::TcpListener) -> io::Result<()> {
        let _stop = StopAtEnd(self.node.clone());
        let listener = TcpListener::from_std(listener)?;
        tokio::select! {
            biased;
            () = self.node.reached(Phase::Closing) => {}
            () = self.accept_all(&listener) => self.node.begin_stopping(),
        }
        drop(listener);
        self.node.stopping().await;
        tracing::info!(connections = self.node.client_count(), "stopping");
        drop(self.shards);
        // Half of the time for what was taken, the other half for writing it and saying goodbye.
        let patience = self.node.settings().stop_deadline / 2;
        if timeout(patience, self.node.admission_drained()).await.is_err() {
            tracing::warn!(publications = self.node.inflight(), "stopping with publications still under way");
        }
        self.node.say_goodbye();
        Ok(())
    }

    async fn accept_all(&self, listener: &TcpListener) {
        let room = connections_max();
        self.node.gate().set_room(room);
        let mut complained: Option<Instant> = None;
        loop {
            let Ok(slot) = self.slots.clone().acquire_owned().await else { return };
            let connections: usize = (0..self.shards.len()).map(|shard| self.node.load(shard)).sum();
            let crowd = self.node.gate().note_connections(connections);
            let accepted = match crowd {
                Crowd::None => listener.accept().await,
                // The count is only as young as this look at it.
                Crowd::Near => match timeout(CROWDED_PAUSE, listener.accept()).await {
                    Ok(accepted) => accepted,
                    Err(_) => continue,
                },
                Crowd::Full => Err(no_descriptors()),
            };
            match accepted {
                Ok((stream, address)) => {
                    self.let_in(stream, address, HandshakeSlot::new(slot));
                }
                // The peer went away between its connect and our accept.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // No descriptors, mostly. The connections wait in the backlog meanwhile.
                Err(error) => {
                    let quiet = Duration::from_millis(REFUSALS_LOGGED_MS);
                    if complained.is_none_or(|when| when.elapsed() >= quiet) {
                        tracing::warn!(connections, %error, "accepting rests");
                        complained = Some(Instant::now());
                    }
                    sleep(if crowd == Crowd::Full { CROWDED_PAUSE } else { ACCEPT_PAUSE }).await;
                }
            }
        }
    }

    /// Lets a connection in, or turns it away without a word: whoever floods is to cost as little as can be.
    fn let_in(&self, stream: TcpStream, address: SocketAddr, slot: HandshakeSlot) {
        // It has no address of ours if it is gone already.
        let Ok(local) = stream.local_addr() else { return };
        let peer = Peer::direct(address, local);
        match self.node.gate().open(peer.client) {
            Ok(entrance) => self.hand_out(stream, Newcomer { peer, entrance, slot }),
            Err(reason) => {
                self.node.refuse(reason, peer.client);
                // Reset: an orderly end would be remembered by the kernel for a minute.
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
        }
    }

    fn hand_out(&self, stream: TcpStream, newcomer: Newcomer) {
        let least =
            (0..self.shards.len()).min_by_key(|&shard| self.node.load(shard)).expect("there is a shard");
        let Ok(stream) = stream.into_std() else { return };
        let count = self.node.count_http(least);
        let accepted = Accepted { stream, newcomer, count };
        if self.shards[least].try_send(accepted).is_err() {
            tracing::error!(shard = least, "a shard takes no connections");
        }
    }
}

/// The thread of a shard.
fn run_shard(
    node: Arc<Node>,
    number: usize,
    accepted: mpsc::Receiver<Accepted>,
    ready: SyncSender<()>,
) -> io::Result<()> {
    let _stop = StopAtEnd(node.clone());
    local_runtime()?.block_on(async {
        let local = Local::new(node.clone(), number)?;
        // Whoever starts the shards counts these, up to the last sender's end.
        ready.send(()).expect("it waits for this, and there is room for one of each shard");
        drop(ready);
        let deadline = async {
            node.stopping().await;
            let patience = node.settings().stop_deadline;
            sleep(patience).await;
        };
        let work = async {
            let (driven, ()) = tokio::join!(connection::drive(local.clone()), serve_all(&local, accepted));
            driven
        };
        tokio::select! {
            biased;
            result = work => result,
            () = deadline => {
                local.abandon();
                Ok(())
            }
        }
    })
}

/// Serves HTTP on every connection handed out to this shard, until there come no more and all have ended.
async fn serve_all(local: &Local, mut accepted: mpsc::Receiver<Accepted>) {
    let connections = http::Connections::new(&local.node().settings());
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_ended) = serving.join_next() => {}
            next = accepted.recv() => {
                let Some(Accepted { stream, newcomer, count }) = next else { break };
                match TcpStream::from_std(stream) {
                    Ok(stream) => {
                        let (local, connections) = (local.clone(), connections.clone());
                        serving.spawn_local(async move {
                            http::serve(local, connections, stream, newcomer).await;
                            drop(count);
                        });
                    }
                    Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
                }
            }
        }
    }
    while serving.join_next().await.is_some() {}
}

/// Stops the node when its thread ends, for whatever reason: a node without one of its threads must not look alive.
struct StopAtEnd(Arc<Node>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.begin_stopping();
    }
}

fn local_runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(Default::default())
}

fn listen_on(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    /// Connections the kernel holds until they are accepted; it cuts this to its own limit.
    const BACKLOG: i32 = 4_096;
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections there may be: the limit of descriptors, less those the node has open before the first connection, and
/// those kept back.
fn connections_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    // Where there is no such folder the reserve has to do; then accepting rests when the kernel says so.
    let own = std::fs::read_dir("/proc/self/fd").map_or(0, |open| open.count());
    limit.saturating_sub(own + DESCRIPTORS_RESERVED).max(1)
}

fn no_descriptors() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error())
}

/// The signals a server hears.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// SIGTERM, from whoever runs the service: to end politely.
    Drain,
    /// SIGINT, from whoever sits in front of it: to end.
    Stop,
    /// SIGHUP: to read the configuration again.
    Reload,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Asked::Drain,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read, Write},
        net::Shutdown,
    };

    use super::*;
    use crate::{identity::User, peer::Networks, settings::GateSettings, tls::Certificates};

    const DEADLINE: Duration = Duration::from_secs(10);

    fn start(settings: Settings) -> Server {
        Server::start("127.0.0.1:0".parse().expect("it is an address"), settings).expect("a port is free")
    }

    /// A client that is connected, its handshake answered.
    fn connect(server: &Server) -> std::net::TcpStream {
        let id = server.node().register(User::number(1), []).expect("there is room");
        let mut client = std::net::TcpStream::connect(server.address()).expect("it listens");
        client.set_read_timeout(Some(DEADLINE)).expect("it is no zero");
        let handshake = format!(
            "GET /ws/{id} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.write_all(handshake.as_bytes()).expect("it is connected");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).expect("the handshake is answered");
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        client
    }

    #[test]
    fn close_of_a_peer_that_shuts_its_side_down_with_it_is_answered() {
        let server = start(Settings { shards: 1, ..Settings::default() });
        let mut client = connect(&server);
        // "ping", and a close with 1000, masked with zeros.
        client.write_all(b"\x81\x84\0\0\0\0ping\x88\x82\0\0\0\0\x03\xe8").expect("it is connected");
        client.shutdown(Shutdown::Write).expect("it is connected");
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).expect("it is not reset");
        assert_eq!(answers, b"\x88\x02\x03\xe8", "its close is answered");
        server.stop();
        server.wait().expect("it stops");
    }

    /// A certificate of its own.
    fn certificates() -> Arc<Certificates> {
        let folder = std::env::temp_dir().join(format!("fanfare-{}-server", std::process::id()));
        std::fs::create_dir_all(&folder).expect("there is room");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("it can be signed");
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).expect("there is room");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("there is room");
        let certificates = Certificates::load(cert, key).expect("it is right");
        std::fs::remove_dir_all(folder).expect("it is ours");
        Arc::new(certificates)
    }

    /// Whether the peer has ended a connection, in order or not.
    fn has_ended(stream: &mut std::net::TcpStream) -> bool {
        match stream.read(&mut [0; 64]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    #[test]
    fn whoever_says_nothing_behind_its_proxy_header_makes_room_before_and_in_its_tls_handshake() {
        const ROOM: usize = 4;
        const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
        let server = start(Settings {
            shards: 1,
            tls: Some(certificates()),
            // Far longer than the test waits for anything.
            tls_handshake_timeout: Duration::from_secs(3_600),
            gate: GateSettings {
                trusted_proxies: Networks::new(vec!["127.0.0.1".parse().expect("it is an address")]),
                proxy_protocol: true,
                ..GateSettings::default()
            },
            ..Settings::default()
        });
        let begin = |more: &[u8]| {
            let mut stream = std::net::TcpStream::connect(server.address()).expect("it listens");
            stream.write_all(&[HEADER, more].concat()).expect("it is connected");
            stream
        };
        // Once somebody is served the acceptor has found out how much room there is.
        let mut served = begin(b"GET / HTTP/1.1\r\n\r\n");
        let mut answer = String::new();
        served.read_to_string(&mut answer).expect("it is not reset");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        drop(served);
        server.node().gate().set_room(ROOM);
        // Nothing, and the beginning of a record of TLS.
        let says = [&[][..], &[22, 3, 1, 2], &[]];
        let mut silent: Vec<_> = (0..2 * ROOM).map(|n| begin(says[n % says.len()])).collect();
        silent.iter().for_each(|stream| stream.set_nonblocking(true).expect("it is a socket"));
        let end = Instant::now() + 3 * DEADLINE;
        // Those who came before it was crowded may stay.
        while silent.len() >= ROOM {
            assert!(Instant::now() < end, "{} of {ROOM} and more stay", silent.len());
            silent.retain_mut(|stream| !has_ended(stream));
            thread::sleep(Duration::from_millis(1));
        }
        let mut served = begin(b"GET / HTTP/1.1\r\n\r\n");
        let mut answer = String::new();
        served.read_to_string(&mut answer).expect("it is not reset");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        server.stop();
        server.wait().expect("it stops");
    }
}
