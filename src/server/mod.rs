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
};

use tokio::{
    net::TcpStream,
    runtime::{Builder, LocalRuntime},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::sleep,
};

use self::{
    acceptor::{Accepted, Acceptor, listen_on},
    reload::Reloader,
    signals::{Asked, Signals},
};
use crate::{
    admin::Admin,
    config::{Cli, Config},
    connection::{self, Local},
    http,
    limits::HANDSHAKES_OPEN,
    logging::{self, LogFilter},
    node::Node,
    settings::{AdminSettings, Settings},
    systemd::Environment,
};

mod acceptor;
mod draining;
mod reload;
mod signals;
mod supervision;

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

#[cfg(test)]
mod tests;
