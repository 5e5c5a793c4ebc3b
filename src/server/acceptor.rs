//! The acceptor: takes connections, asks the gate, and hands each to the shard that has the fewest.
//!
//! One thread of a [`Server`](super::Server). It holds at most [`HANDSHAKES_OPEN`](crate::limits::HANDSHAKES_OPEN) places for
//! each shard between accept and first response, and rests where there are no descriptors, so that the node's own calls still
//! have some. It carries out the first two steps of stopping. What a connection says is not its business.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};

use super::{StopAtEnd, draining};
use crate::{
    gate::Crowd,
    http::{HandshakeSlot, Newcomer},
    limits::{DESCRIPTORS_RESERVED, REFUSALS_LOGGED_MS},
    node::{HttpCount, Node, Phase},
    peer::Peer,
};

/// How long the acceptor rests when the kernel has no descriptors for it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it looks how many connections there are while there are nearly as many as may be.
const CROWDED_PAUSE: Duration = Duration::from_millis(10);

/// A connection on its way from the acceptor to its shard.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: std::net::TcpStream,
    pub(super) newcomer: Newcomer,
    /// It counts among the connections of its shard.
    pub(super) count: HttpCount,
}

/// Takes connections and hands them out.
pub(super) struct Acceptor {
    pub(super) node: Arc<Node>,
    pub(super) shards: Vec<mpsc::Sender<Accepted>>,
    pub(super) slots: Arc<Semaphore>,
}

impl Acceptor {
    pub(super) async fn run_and_keep_time(self, listener: std::net::TcpListener) -> io::Result<()> {
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

/// A listener on an address, with as long a queue as the kernel gives.
pub(super) fn listen_on(address: SocketAddr) -> io::Result<std::net::TcpListener> {
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
