//! Shards, their mailboxes and connections, and the model beside them; what a connection or a handler asks of the
//! engine. Every call of the engine is followed by a look at what came of it.

use std::collections::{HashMap, VecDeque};

use fanfare::{
    admission::Admission,
    engine::{Change, Encoding, Fabric, Fanout, Goodbye, Ingress, Key, Kick, Manner, Shard, TopicsFull},
    identity::{ClientId, User},
    publication::{Audience, Content, Message, Position, Publication},
    settings::Settings,
    topic::Topic,
    websocket::{CloseCode, frame},
};
use tokio::sync::oneshot;

use super::{
    model::{Model, Viewer},
    net::{Manners, Net},
    random::Random,
    seen::Seen,
    steps::note,
    stream::{HASH_SEED, PING, PONG, control_frame},
};

/// Where a subscriber stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Attaching,
    Attached,
    Closing,
    Ended,
    Lost,
    Gone,
}

/// One subscriber and everything that was asked for it.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) shard: usize,
    pub(crate) key: Key,
    pub(crate) viewer: Viewer,
    pub(crate) stage: Stage,
    /// Whether it is in no topic for good: being closed, lost, or to be closed when it has its socket.
    pub(crate) closed: bool,
    /// Whether it was to be closed when it had its socket, and what it had queued until then was needed as memory.
    pub(crate) given_up: bool,
    /// Whether its connection took no bytes when it was closed.
    pub(crate) was_blocked: bool,
    /// Topics of a change that waits for its joins.
    pub(crate) pending: Option<Vec<usize>>,
    /// Whether a change was given up for another since its topics were last told.
    pub(crate) gave_up: bool,
    /// Closes asked for, by their codes.
    pub(crate) asked: Vec<(u16, Manner)>,
    pub(crate) kicked: bool,
    /// Answers under way: their number, and the clock when they were given.
    pub(crate) answers: VecDeque<(u32, u64)>,
    pub(crate) pings: VecDeque<u32>,
    /// The last pong given, and the last that came.
    pub(crate) pongs: (u32, u32),
    /// Outcomes of its changes of topics.
    pub(crate) outcomes: Vec<Result<(), TopicsFull>>,
    /// The code of its close frame.
    pub(crate) code: Option<u16>,
}

/// The answer to a publish, on its way.
type Outstanding = (usize, oneshot::Receiver<Result<Position, TopicsFull>>);

/// Everything there is.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) fabric: Fabric,
    pub(crate) shards: Vec<Shard>,
    pub(crate) nets: Vec<Net>,
    pub(crate) admission: Admission,
    pub(crate) model: Model,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) now: u64,
    pub(crate) stopping: bool,
    pub(crate) seen: Seen,
    pub(crate) numbers: HashMap<(usize, Key), usize>,
    /// For each home the answers still to come, in the order of asking.
    pub(crate) outstanding: Vec<VecDeque<Outstanding>>,
    /// For each shard the tick up to which everything was handed to it.
    pub(crate) handed: Vec<u64>,
    /// Shards that took stop.
    pub(crate) stopped: Vec<bool>,
    pub(crate) control: u32,
}

impl World {
    pub(crate) fn new(settings: Settings, topics: usize, mut random: Random) -> Self {
        assert_eq!(Topic::fix_hash_seed(HASH_SEED), HASH_SEED, "a topic was parsed before");
        let shards = settings.shards;
        let fabric = Fabric::new(&settings, 7);
        Self {
            shards: (0..shards).map(|number| Shard::new(number, fabric.clone())).collect(),
            nets: (0..shards).map(|_| Net::new(random.fork())).collect(),
            admission: Admission::new(settings.inflight_publications, settings.inflight_bytes),
            model: Model::new(topics, shards),
            subscribers: Vec::new(),
            now: 0,
            stopping: false,
            seen: Seen::default(),
            numbers: HashMap::new(),
            outstanding: (0..shards).map(|_| VecDeque::new()).collect(),
            handed: vec![0; shards],
            stopped: vec![false; shards],
            control: 0,
            fabric,
            settings,
        }
    }

    // What a connection or a handler does.

    pub(crate) fn add(&mut self, shard: usize, user: Option<u64>) -> usize {
        let number = self.subscribers.len();
        note(|| format!("client {number} comes to shard {shard}, user {user:?}"));
        let client = ClientId::parse(&format!("{number:032x}")).expect("32 digits");
        let user = user.map(User::number);
        let key = self.shards[shard].add(Some(client), user.clone(), Encoding::Plain);
        let viewer = self.model.viewer(self.shards.len(), client, user);
        self.subscribers.push(Subscriber {
            shard,
            key,
            viewer,
            stage: Stage::Attaching,
            closed: false,
            given_up: false,
            was_blocked: false,
            pending: None,
            gave_up: false,
            asked: Vec::new(),
            kicked: false,
            answers: VecDeque::new(),
            pings: VecDeque::new(),
            pongs: (0, 0),
            outcomes: Vec::new(),
            code: None,
        });
        let before = self.numbers.insert((shard, key), number);
        assert_eq!(before, None, "a key is given twice");
        number
    }

    pub(crate) fn attach(&mut self, number: usize, manners: Manners) {
        note(|| format!("client {number} has its socket: {manners:?}"));
        let subscriber = &mut self.subscribers[number];
        assert_eq!(subscriber.stage, Stage::Attaching);
        let (shard, key) = (subscriber.shard, subscriber.key);
        let dropped = self.fabric.metrics.shard(shard).dropped_memory.get();
        subscriber.given_up = subscriber.closed && self.shards[shard].queued_bytes(key) == 0 && dropped > 0;
        subscriber.stage = Stage::Attached;
        self.nets[shard].connect(key, manners);
        self.shards[shard].attached(key);
        self.look(shard);
    }

    /// Adds a subscriber, gives it topics, and waits for them.
    pub(crate) fn subscribe(&mut self, shard: usize, user: Option<u64>, topics: &[usize]) -> usize {
        let number = self.add(shard, user);
        self.set_topics(number, topics);
        self.attach(number, Manners::Willing);
        self.settle();
        assert!(topics.iter().all(|&topic| self.subscribers[number].viewer.has(topic)));
        number
    }

    pub(crate) fn set_topics(&mut self, number: usize, wanted: &[usize]) -> Change {
        note(|| format!("client {number} is to have topics {wanted:?}"));
        let topics: Vec<_> = wanted.iter().map(|&topic| self.model.topics[topic].topic.clone()).collect();
        let subscriber = &mut self.subscribers[number];
        if subscriber.closed {
            assert_eq!(self.shards[subscriber.shard].set_topics(subscriber.key, topics), Change::Done);
            return Change::Done;
        }
        for &topic in wanted {
            subscriber.viewer.request(topic, &self.model);
        }
        let gives_up = subscriber.pending.take().is_some();
        subscriber.gave_up |= gives_up;
        self.seen.late_joins += u64::from(gives_up);
        let (shard, key) = (subscriber.shard, subscriber.key);
        let change = self.shards[shard].set_topics(key, topics);
        match change {
            Change::Done => self.topics_are(number, wanted),
            Change::Pending => self.subscribers[number].pending = Some(wanted.to_vec()),
        }
        self.look(shard);
        change
    }

    pub(crate) fn leave(&mut self, number: usize, topic: usize) -> bool {
        note(|| format!("client {number} leaves topic {topic}"));
        let subscriber = &mut self.subscribers[number];
        let (shard, key) = (subscriber.shard, subscriber.key);
        let name = &self.model.topics[topic].topic;
        let left = self.shards[shard].leave(key, name);
        assert!(left || !subscriber.viewer.has(topic), "it had the topic");
        if left {
            subscriber.viewer.left(topic, self.handed[shard], &mut self.model);
            self.state_topics(number);
        }
        self.look(shard);
        left
    }

    /// An answer that states what the subscriber's topics are now: a ping with a number, in order.
    pub(crate) fn answer(&mut self, number: usize) {
        self.state_topics(number);
        self.look(self.subscribers[number].shard);
    }

    pub(crate) fn ping(&mut self, number: usize) {
        note(|| format!("client {number} is sent a ping"));
        self.control += 1;
        let subscriber = &mut self.subscribers[number];
        if self.shards[subscriber.shard].is_open(subscriber.key) {
            subscriber.pings.push_back(self.control);
        }
        let (shard, key) = (subscriber.shard, subscriber.key);
        self.shards[shard].answer_ahead(key, control_frame(PING, b'p', self.control));
        self.look(shard);
    }

    pub(crate) fn pong(&mut self, number: usize) {
        note(|| format!("client {number} is sent a pong"));
        self.control += 1;
        let subscriber = &mut self.subscribers[number];
        if self.shards[subscriber.shard].is_open(subscriber.key) {
            subscriber.pongs.0 = self.control;
        }
        let (shard, key) = (subscriber.shard, subscriber.key);
        self.shards[shard].answer_ahead(key, control_frame(PONG, b'o', self.control));
        self.look(shard);
    }

    pub(crate) fn writable(&mut self, number: usize) {
        note(|| format!("client {number} takes bytes again"));
        let (shard, key) = (self.subscribers[number].shard, self.subscribers[number].key);
        self.nets[shard].get_mut(key).expect("it has a socket").blocked = false;
        self.shards[shard].writable(key);
        self.look(shard);
    }

    pub(crate) fn close(&mut self, number: usize, manner: Manner) {
        note(|| format!("client {number} is closed: {manner:?}"));
        let code = match manner {
            Manner::Flush => CloseCode::POLICY,
            Manner::Discard => CloseCode::NO_PONG,
        };
        let subscriber = &mut self.subscribers[number];
        subscriber.asked.push((code.get(), manner));
        let (shard, key) = (subscriber.shard, subscriber.key);
        self.shards[shard].close(key, Goodbye { code, reason: "asked for" }, manner);
        self.look(shard);
    }

    pub(crate) fn close_replying(&mut self, number: usize) {
        note(|| format!("client {number} closes"));
        let code = CloseCode::received(1001).expect("it may be sent");
        let subscriber = &mut self.subscribers[number];
        subscriber.asked.push((code.get(), Manner::Discard));
        let (shard, key) = (subscriber.shard, subscriber.key);
        self.shards[shard].close_replying(key, frame::close_reply(Some(code)).to_vec());
        self.look(shard);
    }

    pub(crate) fn kick(&mut self, number: usize, manner: Manner) {
        note(|| format!("client {number} is kicked: {manner:?}"));
        let code = match manner {
            Manner::Flush => CloseCode::REPLACED,
            Manner::Discard => CloseCode::NORMAL,
        };
        let subscriber = &mut self.subscribers[number];
        subscriber.kicked = true;
        subscriber.asked.push((code.get(), manner));
        let goodbye = Goodbye { code, reason: "kicked" };
        let kick = Kick { key: subscriber.key, goodbye, manner, credit: None };
        self.fabric.mailboxes.to_shard(subscriber.shard, Fanout::Kick(kick));
    }

    pub(crate) fn remove(&mut self, number: usize) {
        note(|| format!("client {number} is gone"));
        self.is_closed(number);
        let subscriber = &mut self.subscribers[number];
        let (shard, key) = (subscriber.shard, subscriber.key);
        subscriber.stage = Stage::Gone;
        self.numbers.remove(&(shard, key));
        self.shards[shard].remove(key);
        self.nets[shard].disconnect(key);
        self.look(shard);
    }

    /// Publishes, if there are credits. Returns the publication's number.
    pub(crate) fn publish(
        &mut self,
        topic: usize,
        audience: Audience,
        len: usize,
        text: bool,
    ) -> Option<usize> {
        let Some(credits) = self.admission.try_admit(len) else {
            self.seen.out_of_credits += 1;
            return None;
        };
        let number = self.model.publish(topic, audience.clone(), len, text);
        note(|| format!("publication {number} of {len} bytes to topic {topic} for {audience:?}"));
        let bytes = self.model.publications[number].bytes.clone();
        let message = match text {
            true => Message::Text(bytes.try_into().expect("the model makes it of letters")),
            false => Message::Binary(bytes),
        };
        let (topic, home) = (self.model.topics[topic].topic.clone(), self.model.topics[topic].home);
        let publication = Publication { topic, content: Content { message, audience, key: None }, credits };
        let (reply, answer) = oneshot::channel();
        self.fabric.mailboxes.to_home(home, Ingress::Publish(Box::new(publication), reply));
        self.outstanding[home].push_back((number, answer));
        Some(number)
    }

    /// Publishes to everyone; there must be credits.
    pub(crate) fn tell_everyone(&mut self, topic: usize, len: usize) -> usize {
        self.publish(topic, Audience::default(), len, false).expect("there are credits")
    }

    /// Stops every shard, when all ingress is done.
    pub(crate) fn stop(&mut self) {
        note(|| "all shards stop".to_owned());
        for shard in 0..self.shards.len() {
            while self.sequence(shard, 64) > 0 {}
        }
        self.stopping = true;
        let goodbye = Goodbye { code: CloseCode::RESTART, reason: "restart" };
        for shard in 0..self.shards.len() {
            self.fabric.mailboxes.to_shard(shard, Fanout::Stop(goodbye));
        }
    }
}

/// Settings with small limits.
pub(crate) fn small(shards: usize) -> Settings {
    Settings {
        shards,
        outbox_bytes: 64 * 1024,
        log_bytes: 1024 * 1024,
        shard_lag: 16 * 1024,
        topics_max: 1_000,
        inflight_publications: 64,
        inflight_bytes: 1024 * 1024,
        ..defaults()
    }
}

/// The default settings, once the hash of topics is the same in every run.
pub(crate) fn defaults() -> Settings {
    Topic::fix_hash_seed(HASH_SEED);
    Settings::default()
}
