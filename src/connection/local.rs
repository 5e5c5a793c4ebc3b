//! `Local`: the handle to the shard of this thread, and the state it leads to.
//!
//! Handlers, the driver and upgrades of one shard run as tasks of one single-threaded runtime. Each borrows the state
//! for a while without an `.await` in it, so there is never a second borrow (I1) and nobody waits for one. A task that panics
//! meanwhile leaves the state torn; then the driver ends the shard.

use std::{
    cell::{Cell, RefCell, RefMut},
    collections::{HashMap, VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    io,
    ops::{Deref, DerefMut},
    rc::Rc,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::AbortHandle,
};

use super::{
    admitted::Admitted,
    ages::Ages,
    drain::Drain,
    halves::Halves,
    liveness::Liveness,
    poller::{Happened, Poller},
    socket::{Flags, Socket, Sockets},
    trim::Trim,
    unflushed::UnflushedLook,
};
use crate::{
    clients::{Claim, Deadlines, Due, Release},
    engine::{Key, Shard, TopicsFull},
    gate::Pass,
    limits::{CLIENT_PUBLICATIONS_WAITING, CLOSE_MS, FRAGMENTS_MAX, READ_TURN_BYTES},
    metrics::ShardMetrics,
    node::{Node, Ordered, PublishError, Submitted, Wishes},
    publication::Content,
    settings::Settings,
    tls::UnsentTotal,
    topic::{SharedTopics, Topic},
    units::milliseconds,
    websocket::{Reader, ReaderLimits},
};

/// Ingress entries handled for one publisher; its own is the last of those that wait.
const SEQUENCE_AT_ONCE: usize = 256;

/// A handle to the shard of this thread. Cheap to clone; it never leaves the thread.
#[derive(Clone)]
pub(crate) struct Local(Rc<Inner>);

struct Inner {
    node: Arc<Node>,
    number: usize,
    began: Instant,
    /// One permit a client's publication that waits for credits.
    waiting_publications: Arc<Semaphore>,
    state: RefCell<State>,
    /// A task panicked while it had the state.
    torn: Cell<bool>,
}

/// The state, for as long as somebody has it.
pub(super) struct Borrowed<'a> {
    state: RefMut<'a, State>,
    torn: &'a Cell<bool>,
    /// The thread was panicking when it was borrowed: what is dropped for that panic has it, and tears nothing.
    amid_panic: bool,
}

/// Everything the thread of a shard owns.
pub(super) struct State {
    pub(super) shard: Shard,
    pub(super) sockets: Sockets,
    pub(super) poller: Poller,
    pub(super) happened: Vec<Happened>,
    /// Sockets with something to read, in the order in which they are served.
    pub(super) ready: VecDeque<Key>,
    /// The read buffer of all sockets.
    pub(super) scratch: Box<[u8]>,
    pub(super) reader_limits: ReaderLimits,
    /// Messages of clients that have not ended, and what they may take together, bytes.
    pub(super) halves: Halves,
    pub(super) half_messages_bytes: usize,
    /// The settings that were in force when the last turn began.
    followed: Arc<Settings>,
    pub(super) liveness: Liveness,
    pub(super) ages: Ages,
    /// Upgrades that wait for their joins.
    pub(super) attaching: HashMap<Key, oneshot::Sender<Result<(), TopicsFull>>>,
    /// Changes of topics under way, to be kept in the registration when they are in force.
    pub(super) changing: HashMap<Key, Arc<[Topic]>>,
    /// Clients with a token, or that have to send one.
    pub(super) admitted: Admitted,
    /// Publications of clients that are not answered yet: one a connection at most.
    pub(super) publishing: HashMap<Key, AbortHandle>,
    /// When closing connections are reset, with the time in milliseconds. All have the same patience.
    pub(super) closing: VecDeque<(u64, Key)>,
    /// Whom the node's draining closes, and when. There since it began to.
    pub(super) drain: Option<Drain>,
    /// Of those who are counted by their address. Apart from the sockets, which are as small without.
    pub(super) passes: HashMap<Key, Pass>,
    pub(super) deadlines: Deadlines,
    pub(super) shared_topics: SharedTopics,
    pub(super) trim: Trim,
    /// What clients hold of TLS that their kernels have not taken.
    pub(super) unsent: UnsentTotal,
    pub(super) unflushed_look: UnflushedLook,
    /// What was logged last of the node's memory, by the first shard.
    pub(super) told_rung: u64,
    /// When the ages of queued frames are looked at next, milliseconds.
    pub(super) next_age_check: u64,
    /// Stop was taken: no subscriber is left open, none may come.
    pub(super) stopped: bool,
}

impl Local {
    /// The shard `number` of `node`, on this thread. The runtime of the thread must be entered.
    ///
    /// # Errors
    /// When there is no descriptor for its poller.
    pub(crate) fn new(node: Arc<Node>, number: usize) -> io::Result<Self> {
        let settings = node.settings();
        let state = State {
            shard: Shard::new(number, node.fabric().clone()),
            sockets: Sockets::default(),
            poller: Poller::new()?,
            happened: Vec::new(),
            ready: VecDeque::new(),
            scratch: vec![0; READ_TURN_BYTES].into(),
            reader_limits: reader_limits(&settings),
            halves: Halves::default(),
            half_messages_bytes: settings.half_messages_bytes(),
            followed: Arc::clone(&settings),
            liveness: Liveness::new(settings.ping_interval, settings.pong_timeout),
            ages: Ages::new(settings.max_connection_age, RandomState::new().hash_one(number)),
            attaching: HashMap::new(),
            changing: HashMap::new(),
            admitted: Admitted::default(),
            publishing: HashMap::new(),
            closing: VecDeque::new(),
            drain: None,
            passes: HashMap::new(),
            deadlines: Deadlines::default(),
            shared_topics: SharedTopics::default(),
            trim: Trim::default(),
            unsent: UnsentTotal::default(),
            unflushed_look: UnflushedLook::default(),
            told_rung: 0,
            next_age_check: 0,
            stopped: false,
        };
        let waiting_publications = Arc::new(Semaphore::new(CLIENT_PUBLICATIONS_WAITING));
        drop(settings);
        let (began, state, torn) = (Instant::now(), RefCell::new(state), Cell::new(false));
        Ok(Self(Rc::new(Inner { node, number, began, waiting_publications, state, torn })))
    }

    /// The node this shard belongs to.
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.0.node
    }

    /// This shard's number.
    pub(crate) fn shard(&self) -> usize {
        self.0.number
    }

    /// Hands a publication to the engine, as [`Node::publish`] does, and waits for credits no longer than `until`. The order
    /// of these calls is the order of the publications, in each topic. When this shard is the topic's home the publication
    /// is sequenced at once, without a turn of the driver between: so a burst of pipelined requests is one burst for the
    /// subscribers too.
    ///
    /// # Errors
    /// When it was not taken; nothing of it was.
    pub(crate) async fn submit(
        &self,
        topic: Topic,
        content: Content,
        until: tokio::time::Instant,
    ) -> Result<Submitted, PublishError> {
        let submitted = self.node().submit(topic, content, until).await;
        let submitted = submitted.inspect_err(|error| self.count_refused(*error))?;
        self.sequence_if_home(submitted.home);
        Ok(submitted)
    }

    /// Hands an order to the engine, as [`Node::publish_to`] does, and waits for credits no longer than `until`. When this
    /// shard is the home of its first topic it is begun at once.
    ///
    /// # Errors
    /// When it was not taken; nothing of it was.
    pub(crate) async fn order(
        &self,
        topics: Arc<[Topic]>,
        content: Content,
        wishes: Wishes,
        until: tokio::time::Instant,
    ) -> Result<Ordered, PublishError> {
        let ordered = self.node().order(topics, content, wishes, until).await;
        let ordered = ordered.inspect_err(|error| self.count_refused(*error))?;
        self.sequence_if_home(ordered.home);
        Ok(ordered)
    }

    fn count_refused(&self, error: PublishError) {
        let metrics = self.metrics();
        match error {
            PublishError::Overloaded => metrics.refused_overloaded.add(1),
            PublishError::Stopping => metrics.refused_stopping.add(1),
            // Its home counts that; the others are mistakes of the publisher.
            PublishError::TopicsFull
            | PublishError::MessageTooLarge
            | PublishError::Conflict
            | PublishError::TopicCount { .. } => {}
        }
    }

    fn sequence_if_home(&self, home: usize) {
        if home == self.shard() {
            self.state().shard.sequence(SEQUENCE_AT_ONCE);
        }
    }

    /// The values of this shard, which its thread alone writes.
    pub(crate) fn metrics(&self) -> &ShardMetrics {
        self.node().metrics().shard(self.shard())
    }

    /// The same list, where possible the copy that other clients hold.
    pub(crate) fn share_topics(&self, topics: Arc<[Topic]>) -> Arc<[Topic]> {
        self.state().shared_topics.share(topics)
    }

    /// Remembers when a registration is to be looked at again.
    pub(crate) fn schedule(&self, due: Due) {
        self.state().deadlines.push(due);
    }

    /// Gives up every connection there still is: its time is over. What they had queued is counted lost.
    pub(crate) fn abandon(&self) {
        let state = &mut *self.state();
        let left = state.shard.remove_all();
        if left > 0 {
            tracing::warn!(shard = self.shard(), connections = left, "ended at the deadline");
        }
        state.sockets = Sockets::default();
        state.admitted = Admitted::default();
        state.halves = Halves::default();
        state.passes.clear();
    }

    /// Milliseconds since the shard began.
    pub(super) fn now(&self) -> u64 {
        milliseconds(self.0.began.elapsed())
    }

    /// The state. Whoever holds it must not `.await`.
    pub(super) fn state(&self) -> Borrowed<'_> {
        Borrowed { state: self.0.state.borrow_mut(), torn: &self.0.torn, amid_panic: thread::panicking() }
    }

    /// Whether a task panicked while it had the state, which may be half changed since: the runtime catches the panics of tasks,
    /// and goes on.
    pub(super) fn is_torn(&self) -> bool {
        self.0.torn.get()
    }

    /// Has the driver look: something was changed outside a turn.
    pub(super) fn wake(&self) {
        self.node().mailboxes().wakeup(self.shard()).wake();
    }

    /// The right to wait for credits with a client's publication, unless as many as may are waiting.
    pub(super) fn may_wait(&self) -> Option<OwnedSemaphorePermit> {
        self.0.waiting_publications.clone().try_acquire_owned().ok()
    }

    #[cfg(test)]
    pub(super) fn waiting_publications(&self) -> usize {
        CLIENT_PUBLICATIONS_WAITING - self.0.waiting_publications.available_permits()
    }

    pub(super) fn claim_of(&self, key: Key) -> Claim {
        Claim { shard: self.shard() as u16, key }
    }

    /// Gives up a client's claim on its registration, which then lives on for the grace period.
    pub(super) fn release(&self, state: &mut State, client: crate::identity::ClientId, key: Key) {
        state.keep_deadline(self.node().clients().release(client, &self.claim_of(key), Instant::now()));
    }

    /// Gives back a claim of which no connection came.
    pub(super) fn give_back(&self, state: &mut State, client: crate::identity::ClientId, key: Key) {
        state.keep_deadline(self.node().clients().give_back(client, &self.claim_of(key), Instant::now()));
    }

    /// Forgets a connection: its stream is closed, its subscriber removed.
    pub(super) fn drop_connection(&self, state: &mut State, key: Key) {
        state.shard.remove(key);
        state.changing.remove(&key);
        state.admitted.remove(key);
        state.halves.remove(key);
        state.passes.remove(&key);
        state.give_up_publishing(key);
        if let Some(mut socket) = state.sockets.remove(key) {
            socket.say_end();
            state.trim.note(self.now());
            self.release(state, socket.session.client(), key);
        }
    }
}

impl Deref for Borrowed<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if thread::panicking() && !self.amid_panic {
            self.torn.set(true);
        }
    }
}

impl State {
    /// Has what the shard keeps of the settings be that of those in force.
    pub(super) fn follow(&mut self, settings: &Arc<Settings>) {
        if !Arc::ptr_eq(&self.followed, settings) {
            self.reader_limits = reader_limits(settings);
            self.half_messages_bytes = settings.half_messages_bytes();
            self.shard.change_classes(settings);
            self.followed = settings.clone();
        }
    }

    /// Remembers when a registration that was given up is to be looked at again.
    fn keep_deadline(&mut self, released: Release) {
        if let Release::Kept(Some(due)) = released {
            self.deadlines.push(due);
        }
    }

    /// Puts a socket that may have something to read into the ready list.
    pub(super) fn list_ready(&mut self, key: Key) {
        if let Some(socket) = self.sockets.get_mut(key)
            && !socket.has(Flags::LISTED)
        {
            socket.set(Flags::LISTED);
            self.ready.push_back(key);
        }
    }

    /// Ends the task that publishes for a connection, which nobody can be told of any more. What has credits is in the
    /// engine and goes on; what waits for some is not published.
    pub(super) fn give_up_publishing(&mut self, key: Key) {
        if let Some(task) = self.publishing.remove(&key) {
            task.abort();
        }
    }

    /// Notes that a connection's end has begun.
    pub(super) fn begin_closing(&mut self, key: Key, now: u64) -> Option<&mut Socket> {
        self.closing.push_back((now + CLOSE_MS, key));
        let socket = self.sockets.get_mut(key)?;
        socket.set(Flags::CLOSING);
        socket.clear(Flags::PAUSED);
        drop(socket.take_held());
        // Nothing of it is parsed any more, and it may take its time to go.
        socket.reader = Reader::new();
        Some(socket)
    }

    /// Connections there are: attaching, open and closing ones.
    pub(super) fn is_empty(&self) -> bool {
        self.shard.subscribers() == 0
    }
}

fn reader_limits(settings: &Settings) -> ReaderLimits {
    let command = settings.command_bytes();
    ReaderLimits { frame: command, message: command, fragments: FRAGMENTS_MAX }
}

/// The time until the next slot of the shard's clock.
pub(super) fn until_next_slot(now: u64) -> Duration {
    Duration::from_millis(super::slots::SLOT_MS - now % super::slots::SLOT_MS)
}
