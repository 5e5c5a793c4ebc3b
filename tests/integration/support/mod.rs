//! What the tests have in common: a server for the time of a test, waiting with a deadline, and the clients.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use fanfare::{metrics::Snapshot, node::Node, server::Server, settings::Settings};

pub(crate) use self::{
    http::{Answer, Http},
    websocket::{Ended, Frame, WebSocket},
};

pub(crate) mod certificate;
pub(crate) mod file;
mod http;
pub(crate) mod openmetrics;
pub(crate) mod process;
pub(crate) mod records;
pub(crate) mod token;
pub(crate) mod v1;
pub(crate) mod websocket;
pub(crate) mod wire;

/// How long a test waits for anything. It is far above what anything takes, so that a busy machine fails no test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The settings of a server with so many shards, all else as it is by default.
pub(crate) fn shards(shards: usize) -> Settings {
    Settings { shards, ..Settings::default() }
}

/// Waits until `holds`, and fails when it does not within the deadline.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Does something when its thread panics: so that a test that failed does not wait for threads which wait for it.
pub(crate) struct OnPanic<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
    }
}

/// Runs `test` against a server, then stops it and checks what must hold of every server that has stopped. What the
/// test opened is closed before.
pub(crate) fn serve(settings: Settings, test: impl FnOnce(&Running)) {
    let running = Running::start(settings);
    test(&running);
    running.stop();
}

/// A server in this process.
pub(crate) struct Running {
    server: Server,
}

impl Running {
    pub(crate) fn start(settings: Settings) -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { server: Server::start(any_port, settings).expect("a free port, and threads") }
    }

    /// Stops it. Every frame it ever matched must be accounted for then (I8), and nothing be left.
    pub(crate) fn stop(self) {
        self.begin_stopping();
        self.wait();
    }

    pub(crate) fn begin_stopping(&self) {
        self.server.stop();
    }

    /// Waits until it has stopped.
    pub(crate) fn wait(self) {
        let node = self.server.node().clone();
        self.server.wait().expect("every thread ends well");
        let total = node.metrics().total();
        assert_eq!(
            total.matched,
            total.written + total.dropped() + total.conflated,
            "a frame is written or counted: {total:?}"
        );
        assert_eq!(total.subscribers, 0, "nobody is left: {total:?}");
        assert_eq!(node.inflight(), 0, "every credit has come back");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.server.admin_address().expect("it has an admin listener")
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        self.server.node()
    }

    /// The metrics of all shards together.
    pub(crate) fn total(&self) -> Snapshot {
        self.node().metrics().total()
    }

    /// Subscribers of each shard.
    pub(crate) fn subscribers(&self) -> Vec<u64> {
        let shards = 0..self.node().settings().shards;
        shards.map(|shard| self.node().metrics().shard(shard).subscribers.get()).collect()
    }

    /// A connection that speaks HTTP.
    pub(crate) fn http(&self) -> Http {
        Http::connect(self.address())
    }

    /// Registers user 1 for `topics`; its id.
    pub(crate) fn register(&self, topics: &[&str]) -> String {
        let topics = serde_json::to_string(topics).expect("texts are JSON");
        self.http().register(&format!(r#"{{"user_id":1,"topics":{topics}}}"#))
    }

    /// Upgrades a registered client.
    pub(crate) fn connect(&self, id: &str) -> WebSocket {
        match WebSocket::connect(self.address(), id) {
            Ok(websocket) => websocket,
            Err(refused) => panic!("the upgrade was refused: {refused:?}"),
        }
    }

    /// A client of user 1, subscribed to `topics`.
    pub(crate) fn client(&self, topics: &[&str]) -> WebSocket {
        self.connect(&self.register(topics))
    }

    /// Connects, and says on which shard the client is.
    pub(crate) fn connect_noting_shard(&self, id: &str) -> (WebSocket, usize) {
        let before = self.subscribers();
        let websocket = self.connect(id);
        let after = self.subscribers();
        let risen = (0..before.len()).find(|&shard| after[shard] > before[shard]);
        (websocket, risen.expect("the client is counted before its 101"))
    }

    /// Waits until nobody is connected to a shard any more, in whatever state.
    pub(crate) fn wait_until_empty(&self) {
        eventually("every client is forgotten", || self.total().subscribers == 0);
    }
}
