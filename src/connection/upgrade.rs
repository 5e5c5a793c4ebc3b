//! The steps of an upgrade before and after its 101.
//!
//! Before: a subscriber is allocated, the registration claimed (the connection that had it is kicked), its topics
//! joined. After: the raw socket moves into the shard's poller. So whatever is published after a client has its 101
//! reaches it (I11). An upgrade that fails anywhere leaves nothing behind.

use std::{net::TcpStream, sync::Arc};

use socket2::SockRef;
use tokio::sync::oneshot;

use super::{admitted::Proof, local::Local, socket::Socket};
use crate::{
    engine::{Change, Encoding, Key, TopicsFull},
    gate::Pass,
    identity::{ClientId, User},
    logging::sampled,
    node::KickReason,
    protocol::v1::encode::{self, Hello, Joined},
    session::Session,
    tls,
    topic::Topic,
    units::milliseconds,
    websocket::frame,
};

/// Why an upgrade cannot be answered with 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttachError {
    /// The id is not registered (any more): 404.
    Unknown,
    /// The joins did not come back within `join_wait`: 503.
    Overloaded,
    /// A topic of the client is new and cannot be kept: 503.
    TopicsFull,
    /// As many clients are connected as may be: 503.
    Full,
    /// The node is stopping: 503.
    Stopping,
}

/// A subscriber that has joined its topics and waits for its socket. Dropping it removes the subscriber.
pub(crate) struct Attaching {
    local: Local,
    key: Key,
    client: ClientId,
    encoding: Encoding,
    proof: Proof,
    /// For its address, where connections are counted by that.
    pass: Option<Pass>,
    adopted: bool,
}

impl Local {
    /// Allocates a subscriber, claims the registration `client` for it, and joins its topics.
    ///
    /// # Errors
    /// When the upgrade must be refused; nothing is left behind then.
    pub(crate) async fn attach(
        &self,
        client: ClientId,
        encoding: Encoding,
    ) -> Result<Attaching, AttachError> {
        let credit = self.node().kick_credit().await;
        self.may_attach()?;
        let attaching = self.begin_attaching(client, encoding, Proof::None);
        let key = attaching.key;
        let claimed = self.node().clients().claim(client, self.claim_of(key));
        let claimed = claimed.map_err(|_| AttachError::Unknown)?;
        self.state().shard.set_user(key, claimed.user.clone());
        match claimed.replaced {
            Some(replaced) => self.node().kick(credit, replaced, KickReason::Replaced),
            // Not kept while the joins are under way: others need it.
            None => drop(credit),
        }
        self.join(key, claimed.topics).await?;
        attaching.greet(Some(&claimed.user));
        Ok(attaching)
    }

    /// Allocates a subscriber for a client that is not registered and will not be, and joins its topics. It is the user's that it
    /// has proved.
    ///
    /// # Errors
    /// As [`Self::attach`]; it is never unknown.
    pub(crate) async fn attach_unregistered(
        &self,
        topics: Arc<[Topic]>,
        encoding: Encoding,
        proof: Proof,
    ) -> Result<Attaching, AttachError> {
        self.may_attach()?;
        let attaching = self.begin_attaching(ClientId::random(), encoding, proof);
        if let Some(user) = attaching.proof.user() {
            self.state().shard.set_user(attaching.key, user.clone());
        }
        self.join(attaching.key, topics).await?;
        attaching.greet(attaching.proof.user());
        Ok(attaching)
    }

    /// Whether there may be another client. Nothing is waited for between this and the subscriber: so draining and stopping find
    /// it, and of those who come at once none is passed over in the count. (Shards that ask in the same instant may each let one
    /// in.)
    fn may_attach(&self) -> Result<(), AttachError> {
        let node = self.node();
        if !node.phase().takes_clients() {
            return Err(AttachError::Stopping);
        }
        if node.client_count() >= node.gate().clients_max() as u64 {
            return Err(AttachError::Full);
        }
        Ok(())
    }

    fn begin_attaching(&self, client: ClientId, encoding: Encoding, proof: Proof) -> Attaching {
        let shard = &mut self.state().shard;
        let key = shard.add(Some(client), None, encoding);
        if encoding.tells() {
            // The greeting comes first, and says where the topics stand when they are joined.
            shard.keep_place(key);
        }
        Attaching { local: self.clone(), key, client, encoding, proof, pass: None, adopted: false }
    }

    async fn join(&self, key: Key, topics: Arc<[Topic]>) -> Result<(), AttachError> {
        let joined = {
            let state = &mut *self.state();
            match state.shard.set_topics(key, topics) {
                Change::Done => return Ok(()),
                Change::Pending => {
                    let (joined, wait) = oneshot::channel();
                    state.attaching.insert(key, joined);
                    wait
                }
            }
        };
        let wait = self.node().settings().join_wait;
        match tokio::time::timeout(wait, joined).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(TopicsFull))) => Err(AttachError::TopicsFull),
            Ok(Err(_)) | Err(_) => Err(AttachError::Overloaded),
        }
    }
}

impl Attaching {
    /// The encoding agreed on.
    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Keeps the pass of its connection as long as the subscriber is there.
    pub(crate) fn carry(&mut self, pass: Option<Pass>) {
        self.pass = pass;
    }

    /// Queues the greeting of a protocol that has one: who the client is, and where its topics stand.
    fn greet(&self, user: Option<&User>) {
        if !self.encoding.tells() {
            return;
        }
        let node = self.local.node();
        let shard = &mut self.local.state().shard;
        let mut text = Vec::with_capacity(256);
        let hello = Hello {
            node: node.name(),
            client: self.client,
            ping_ms: milliseconds(node.settings().ping_interval),
            max_message: node.settings().max_message,
            user,
        };
        encode::hello(&mut text, &hello);
        let mut frames = frame::text(&text);
        let positions = shard.positions(self.key);
        if !positions.is_empty() {
            let joined = |(topic, position)| Joined { topic, position, recovered: None };
            let joined: Vec<_> = positions.into_iter().map(joined).collect();
            text.clear();
            encode::ok_positions(&mut text, None, &joined);
            frames.append(&mut frame::text(&text));
        }
        shard.fill_place(self.key, frames);
    }

    /// Hands the raw socket over to the shard's poller, with its TLS if it has one, and the bytes already read behind the
    /// handshake.
    pub(crate) fn adopt(mut self, stream: TcpStream, tls: Option<Box<tls::Connection>>, early: &[u8]) {
        if let Err(error) = self.try_adopt(stream, tls, early) {
            sampled!(WARN, %error, "an upgraded connection could not be taken over");
        }
        self.local.wake();
    }

    fn try_adopt(
        &mut self,
        stream: TcpStream,
        tls: Option<Box<tls::Connection>>,
        early: &[u8],
    ) -> std::io::Result<()> {
        let settings = self.local.node().settings();
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let options = SockRef::from(&stream);
        options.set_tcp_notsent_lowat(settings.socket_unsent)?;
        if settings.socket_send_buffer > 0 {
            options.set_send_buffer_size(settings.socket_send_buffer as usize)?;
        }
        // As an HTTP connection it had one; how long a WebSocket may be silent is for pings and the outbox to say.
        #[cfg(target_os = "linux")]
        options.set_tcp_user_timeout(None)?;
        let session = Session::new(self.client, self.local.now(), &settings);
        let stream = mio::net::TcpStream::from_std(stream);
        let mut socket = Socket::new(stream, self.key.generation, session, self.encoding);
        if let Some(mut tls) = tls {
            tls.count_unsent_in(&self.local.state().unsent);
            socket.secure(tls);
        }
        if !early.is_empty() {
            socket.hold(early);
        }
        let state = &mut *self.local.state();
        state.poller.register(self.key, &mut socket)?;
        state.sockets.insert(self.key, socket);
        if let Some(pass) = self.pass.take() {
            state.passes.insert(self.key, pass);
        }
        state.trim.note(self.local.now());
        self.local.admit(state, self.key, &self.proof);
        state.ages.note(self.key, self.local.now());
        state.shard.attached(self.key);
        state.list_ready(self.key);
        self.adopted = true;
        Ok(())
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        if self.adopted {
            return;
        }
        let state = &mut *self.local.state();
        state.attaching.remove(&self.key);
        state.shard.remove(self.key);
        self.local.give_back(state, self.client, self.key);
        self.local.wake();
    }
}
