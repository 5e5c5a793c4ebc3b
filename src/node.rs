//! What all shards of a node share: settings, registrations, admission, mailboxes, and whether it is stopping.
//!
//! The edge (HTTP handlers, a program that embeds Fanfare) calls it: publish, kick, unregister. Here, and only here, is
//! waited for credits. It owns no connection and no topic.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use crossbeam_utils::CachePadded;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use self::phase::Phases;
pub(crate) use self::{
    ordering::{Ordered, Placed},
    surveys::{ConnectionName, SlowClient, Survey, SurveyCredit},
};
pub use self::{
    ordering::{Published, Wishes},
    phase::Phase,
    registering::RegisterError,
};
use crate::{
    admission::{Admission, Credits},
    clients::{Claim, Clients},
    engine::{
        AtShard, Fabric, Fanout, Goodbye, Ingress, Kick, Mailboxes, Manner, Memory, Query, Rung, TopicsFull,
    },
    gate::Gate,
    limits::{KICKS_INFLIGHT, QUERIES_INFLIGHT},
    metrics::{Metrics, Refused},
    publication::{Content, Position, Publication},
    settings::{Settings, SettingsError},
    topic::Topic,
    websocket::CloseCode,
};

pub use topics::{HistoryPage, TopicState, Viewer};

mod ordering;
mod phase;
mod registering;
mod surveys;
mod topics;

/// A node: everything its shards share. A handle to it is an `Arc<Node>`.
#[derive(Debug)]
pub struct Node {
    /// The checked options. Looked up by each request and each turn of a shard, never for a delivery.
    settings: ArcSwap<Settings>,
    /// The registered clients.
    clients: Clients,
    /// What this start of the node is called.
    name: String,
    /// When it was made.
    began: std::time::Instant,
    fabric: Fabric,
    gate: Arc<Gate>,
    admission: Admission,
    /// One permit a kick under way.
    kicks: Arc<Semaphore>,
    /// One permit a question about a topic.
    queries: Arc<Semaphore>,
    /// The way of operators' questions to the shards.
    surveys: surveys::Surveys,
    /// Connections of each shard that speak HTTP; written by the acceptor and by the shard.
    http_connections: Box<[CachePadded<AtomicUsize>]>,
    /// What it is doing.
    phases: Phases,
    /// Shards whose clients have all been told to go.
    closed_shards: AtomicUsize,
}

/// Why a publication was not taken. Nothing of it was, except that with [`Self::Stopping`] that is not known if it had been
/// handed to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The message is longer than `max_message`.
    MessageTooLarge,
    /// There were no credits within `publish_wait`: the node has as much under way as it may. Or its memory is used up.
    Overloaded,
    /// The topic is new and the node can keep no further topic.
    TopicsFull,
    /// Another publication has its idempotency key, and that one was taken.
    Conflict,
    /// It is to go to no topic, or to more than it may.
    TopicCount {
        /// How many it may go to.
        max: usize,
    },
    /// The node is stopping.
    Stopping,
}

/// Why a question is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryError {
    /// The node has too much in work.
    Overloaded,
    /// The node is stopping.
    Stopping,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MessageTooLarge => f.write_str("the message is too long"),
            Self::Overloaded => f.write_str("the node has too much in work"),
            Self::TopicsFull => TopicsFull.fmt(f),
            Self::Conflict => f.write_str("another publication has this idempotency key"),
            Self::TopicCount { max } => write!(f, "a publication goes to 1 to {max} topics"),
            Self::Stopping => f.write_str("the node is stopping"),
        }
    }
}

impl std::error::Error for PublishError {}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overloaded => "the node has too much in work",
            Self::Stopping => "the node is stopping",
        })
    }
}

impl std::error::Error for QueryError {}

impl From<TopicsFull> for PublishError {
    fn from(_: TopicsFull) -> Self {
        Self::TopicsFull
    }
}

/// Why a connection is closed from outside its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KickReason {
    /// Another connection claimed its registration: 4409, and what is queued is thrown away.
    Replaced,
    /// Its registration was removed: 1000, behind what is queued.
    Unregistered,
}

impl Node {
    /// A node with these settings, which were checked, and nobody connected.
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        let number = RandomState::new().hash_one(std::process::id());
        let fabric = Fabric::new(&settings, number);
        Arc::new(Self {
            name: format!("{number:016x}"),
            began: std::time::Instant::now(),
            clients: Clients::new(
                settings.registrations_max,
                settings.registration_ttl,
                settings.registration_grace,
            ),
            admission: Admission::new(settings.inflight_publications, settings.inflight_bytes),
            kicks: Arc::new(Semaphore::new(KICKS_INFLIGHT)),
            queries: Arc::new(Semaphore::new(QUERIES_INFLIGHT)),
            surveys: surveys::Surveys::new(settings.shards),
            http_connections: (0..settings.shards).map(|_| CachePadded::default()).collect(),
            phases: Phases::new(),
            closed_shards: AtomicUsize::new(0),
            gate: Gate::new(settings.gate.clone()),
            fabric,
            settings: ArcSwap::from_pointee(settings),
        })
    }

    /// The options in force. They may be others the next time: whoever needs several that fit together asks once, and gives
    /// them back before waiting for anything, since few may be held at once without a cost.
    pub fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Puts other options in force, as far as they can be changed while the node runs: see [`Settings::changed_to`].
    ///
    /// # Errors
    /// When they are not allowed ([`Settings::check`]), or would not be beside those that stay. Then nothing is changed.
    pub fn reconfigure(&self, wanted: Settings) -> Result<(), SettingsError> {
        wanted.check()?;
        let settings = self.settings().changed_to(wanted);
        settings.check()?;
        self.gate.replace(settings.gate.clone());
        self.settings.store(Arc::new(settings));
        Ok(())
    }

    /// Publishes `content` (a [`Message`](crate::publication::Message) is for everyone) to `topic`: waits for credits, then for its place. When this returns, the publication is in
    /// the queue of every shard that has subscribers of the topic.
    ///
    /// Must be called in a tokio runtime with its time enabled.
    ///
    /// # Errors
    /// When it was not taken; nothing of it was.
    ///
    /// # Cancel safety
    /// Dropped while it waits for credits, nothing was taken. Dropped later, the publication goes on.
    pub async fn publish(&self, topic: Topic, content: impl Into<Content>) -> Result<Position, PublishError> {
        let until = Instant::now() + self.settings().publish_wait;
        self.submit(topic, content.into(), until).await?.position().await
    }

    /// The first half of [`Self::publish`]: waits for credits, `until` at the latest, and hands the publication to its
    /// home.
    pub(crate) async fn submit(
        &self,
        topic: Topic,
        content: Content,
        until: Instant,
    ) -> Result<Submitted, PublishError> {
        let credits = self.credits(1, &content, until).await?;
        let home = topic.home(self.settings().shards);
        let answer = self.mailboxes().publish(Publication { topic, content, credits });
        Ok(Submitted { home, answer })
    }

    /// Asks these shards what they know of a topic, and waits `join_wait` at most. The answers are in their order.
    pub(crate) async fn ask(
        &self,
        topic: &Topic,
        shards: impl Iterator<Item = usize>,
    ) -> Result<Vec<AtShard>, QueryError> {
        let until = Instant::now() + self.settings().join_wait;
        // The semaphore is never closed.
        let credit = timeout_at(until, self.queries.clone().acquire_owned()).await;
        let credit = credit.ok().and_then(Result::ok).map(Arc::new).ok_or(QueryError::Overloaded)?;
        let ask = |shard| {
            let (reply, answer) = oneshot::channel();
            let query = Query { topic: topic.clone(), reply, credit: Some(credit.clone()) };
            self.mailboxes().to_home(shard, Ingress::Query(Box::new(query)));
            answer
        };
        let asked: Vec<_> = shards.map(ask).collect();
        // It comes back when every shard has answered, also if whoever asks here is gone by then.
        drop(credit);
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            let answer = timeout_at(until, answer).await.map_err(|_| QueryError::Overloaded)?;
            answers.push(answer.map_err(|_| QueryError::Stopping)?);
        }
        Ok(answers)
    }

    /// Waits for the right to kick one connection. Taken before the step that decides on the kick, so that nobody who
    /// goes away while waiting leaves a connection behind that should have been kicked.
    pub(crate) async fn kick_credit(&self) -> KickCredit {
        // The semaphore is never closed.
        KickCredit(self.kicks.clone().acquire_owned().await.ok())
    }

    /// Closes the connection that holds, or held, `claim`.
    pub(crate) fn kick(&self, credit: KickCredit, claim: Claim, reason: KickReason) {
        let (code, reason, manner) = match reason {
            KickReason::Replaced => (CloseCode::REPLACED, "replaced", Manner::Discard),
            KickReason::Unregistered => (CloseCode::NORMAL, "unregistered", Manner::Flush),
        };
        let kick = Kick { key: claim.key, goodbye: Goodbye { code, reason }, manner, credit: credit.0 };
        self.mailboxes().to_shard(claim.shard.into(), Fanout::Kick(kick));
    }

    /// What the node is doing.
    pub fn phase(&self) -> Phase {
        self.phases.now()
    }

    /// Waits until a phase, or a later one, has begun; returns at once if it has.
    pub async fn reached(&self, phase: Phase) {
        self.phases.reached(phase).await;
    }

    /// Every shard is at work: the node is ready, unless it is to end already.
    pub(crate) fn begin_serving(&self) {
        self.phases.advance(Phase::Serving);
    }

    /// Begins to end the node politely: it is not ready any more, and its server goes on for `drain_delay`, then closes its
    /// clients over `drain_duration`, and stops. Told again, nothing changes.
    pub fn begin_draining(&self) {
        self.phases.advance(Phase::Draining);
    }

    /// Begins to close the clients: register and upgrade are refused from now on, and every shard closes its clients over
    /// `drain_duration`. Returns how many there are.
    pub(crate) fn begin_closing(&self) -> u64 {
        let audience = self.client_count();
        self.fabric.retry.spread(audience, self.settings().drain_duration);
        self.phases.advance(Phase::Closing);
        audience
    }

    /// Every client of a shard was told to go; to be called once for each shard. With the last the node stops.
    pub(crate) fn shard_closed(&self) {
        // Relaxed: a count and nothing else.
        if self.closed_shards.fetch_add(1, Ordering::Relaxed) + 1 == self.settings().shards {
            self.begin_stopping();
        }
    }

    /// Begins to stop: publish, register and upgrade are refused from now on.
    pub fn begin_stopping(&self) {
        if self.phase() < Phase::Closing {
            self.fabric.retry.spread(self.client_count(), Duration::ZERO);
        }
        self.phases.advance(Phase::Stopping);
    }

    /// Whether stopping has begun.
    pub fn is_stopping(&self) -> bool {
        self.phase() == Phase::Stopping
    }

    /// Waits until stopping begins; returns at once if it has.
    pub async fn stopping(&self) {
        self.reached(Phase::Stopping).await;
    }

    /// Waits until every publication taken so far is in the logs of all interested shards.
    pub(crate) async fn admission_drained(&self) {
        self.admission.drained().await;
    }

    /// Has every shard say goodbye, behind everything that is in its fanout queue. To be called once.
    pub(crate) fn say_goodbye(&self) {
        for shard in 0..self.settings().shards {
            self.mailboxes().to_shard(shard, Fanout::Stop(Goodbye::RESTART));
        }
    }

    /// What this start of the node is called: 16 hex digits, with which its epochs begin too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The metrics of all shards.
    pub fn metrics(&self) -> &Metrics {
        &self.fabric.metrics
    }

    /// Who may come in.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Counts a refusal, and logs it now and then.
    pub(crate) fn refuse(&self, reason: Refused, client: IpAddr) {
        let count = self.metrics().count_refused(reason);
        if self.gate.may_log(reason) {
            tracing::warn!(reason = reason.name(), %client, count, "connections are refused");
        }
    }

    /// What all shards hold together.
    pub fn memory(&self) -> &Memory {
        &self.fabric.memory
    }

    /// The mailboxes of all shards.
    pub fn mailboxes(&self) -> &Mailboxes {
        &self.fabric.mailboxes
    }

    /// A time on the clock of which publications are measured: microseconds since the node was made.
    pub(crate) fn micros(&self, at: std::time::Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }

    /// Publications under way.
    pub fn inflight(&self) -> usize {
        self.admission.inflight()
    }

    /// Connections of a shard that speak HTTP.
    pub(crate) fn http_connections(&self, shard: usize) -> usize {
        // Relaxed: a count and nothing else.
        self.http_connections[shard].load(Ordering::Relaxed)
    }

    /// Clients connected, those among them whose handshake is not answered yet.
    pub fn client_count(&self) -> u64 {
        (0..self.settings().shards).map(|shard| self.metrics().shard(shard).subscribers.get()).sum()
    }

    /// Connections of a shard, whatever they speak.
    pub fn load(&self, shard: usize) -> usize {
        self.http_connections(shard) + self.metrics().shard(shard).subscribers.get() as usize
    }

    /// The credits to publish `content` so many times, `until` at the latest.
    async fn credits(&self, count: u32, content: &Content, until: Instant) -> Result<Credits, PublishError> {
        let bytes = content.message.bytes().len();
        if bytes > self.settings().max_message {
            return Err(PublishError::MessageTooLarge);
        }
        if self.fabric.memory.rung() == Rung::Refuse {
            return Err(PublishError::Overloaded);
        }
        let asked = self.micros(std::time::Instant::now());
        let mut credits = match self.admission.try_admit_all(count, bytes) {
            Some(credits) if !self.is_stopping() => credits,
            _ => self.wait_for_credits(count, bytes, until).await?,
        };
        credits.note_asked(asked);
        Ok(credits)
    }

    async fn wait_for_credits(
        &self,
        count: u32,
        bytes: usize,
        until: Instant,
    ) -> Result<Credits, PublishError> {
        tokio::select! {
            biased;
            () = self.stopping() => Err(PublishError::Stopping),
            credits = timeout_at(until, self.admission.admit_all(count, bytes)) => match credits {
                Ok(Ok(credits)) => Ok(credits),
                Ok(Err(_)) => Err(PublishError::Stopping),
                Err(_) => Err(PublishError::Overloaded),
            },
        }
    }

    /// All the credits there are.
    #[cfg(test)]
    pub(crate) fn take_all_credits(&self) -> Credits {
        self.admission.try_admit(usize::MAX).expect("nothing is under way")
    }

    /// Counts a connection that speaks HTTP on a shard, while the guard lives.
    pub(crate) fn count_http(self: &Arc<Self>, shard: usize) -> HttpCount {
        self.http_connections[shard].fetch_add(1, Ordering::Relaxed);
        HttpCount { node: self.clone(), shard }
    }

    pub(crate) fn fabric(&self) -> &Fabric {
        &self.fabric
    }
}

/// The right to kick one connection.
pub(crate) struct KickCredit(Option<OwnedSemaphorePermit>);

/// A publication that is at its home, or on its way there.
pub(crate) struct Submitted {
    /// The home shard.
    pub(crate) home: usize,
    answer: oneshot::Receiver<Result<Position, TopicsFull>>,
}

impl Submitted {
    /// Waits for its place.
    pub(crate) async fn position(self) -> Result<Position, PublishError> {
        match self.answer.await {
            Ok(Ok(position)) => Ok(position),
            Ok(Err(full)) => Err(full.into()),
            Err(_) => Err(PublishError::Stopping),
        }
    }
}

/// One connection that speaks HTTP, counted.
#[derive(Debug)]
pub(crate) struct HttpCount {
    node: Arc<Node>,
    shard: usize,
}

impl Drop for HttpCount {
    fn drop(&mut self) {
        self.node.http_connections[self.shard].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{limits, publication::Message};

    #[tokio::test]
    async fn publisher_who_is_not_to_wait_is_refused_without_credits_and_nothing_of_it_is_taken() {
        let settings = Settings { shards: 1, publish_wait: Duration::ZERO, ..Settings::default() };
        let node = Node::new(settings);
        let all = node.take_all_credits();
        let topic = Topic::parse("cats").expect("a topic");
        let publish = || node.publish(topic.clone(), Message::text("purr"));
        assert_eq!(publish().await, Err(PublishError::Overloaded));
        drop(all);
        assert_eq!(node.inflight(), 0);
        let until = Instant::now();
        let submitted = node.submit(topic.clone(), Message::text("purr").into(), until);
        assert!(submitted.await.is_ok(), "with credits there is nothing to wait for");
    }

    #[tokio::test]
    async fn questions_under_way_are_bounded_and_their_place_comes_back_though_nobody_waits_for_the_answer() {
        let settings = Settings { shards: 2, join_wait: Duration::ZERO, ..Settings::default() };
        let node = Node::new(settings);
        let topic = Topic::parse("cats").expect("a topic");
        for asked in 1..=QUERIES_INFLIGHT {
            assert!(matches!(node.topic(&topic).await, Err(QueryError::Overloaded)), "no shard answers");
            assert_eq!(node.mailboxes().ingress(0).len(), asked);
        }
        assert!(matches!(node.topic(&topic).await, Err(QueryError::Overloaded)));
        assert_eq!(node.mailboxes().ingress(1).len(), QUERIES_INFLIGHT, "there was no place for one more");
        let mut shards: Vec<_> =
            (0..2).map(|n| crate::engine::Shard::new(n, node.fabric().clone())).collect();
        shards[0].sequence(usize::MAX);
        assert_eq!(node.queries.available_permits(), 0, "the other shard still has them");
        shards[1].sequence(usize::MAX);
        assert_eq!(node.queries.available_permits(), QUERIES_INFLIGHT);
    }

    #[test]
    #[should_panic(expected = "1 to 64 shards")]
    fn more_shards_than_a_set_can_hold_are_refused() {
        Node::new(Settings { shards: limits::SHARDS_MAX + 1, ..Settings::default() });
    }
}
