//! Shards, their mailboxes and connections, and the model beside them. Every call of the engine goes through here and
//! is followed by a look at what it told, what it wrote, and whom it closed.

use std::collections::{HashMap, VecDeque};

use fanfare::{
    admission::Admission,
    engine::{Change, Common, Event, Fanout, Goodbye, Ingress, Key, Kick, Manner, Shard, TopicsFull},
    identity::{ClientId, User},
    publication::{Audience, Message, Position, Publication},
    settings::Settings,
    topic::Topic,
    websocket::{CloseCode, frame},
};
use tokio::sync::oneshot;

use super::{
    model::{Model, Viewer},
    net::{Manners, Net},
    random::Random,
    stream::{CLOSE, Frame, PING, PONG},
};

/// Bytes the engine may hold over `log_bytes` before a shard takes nothing: what it says, and one segment or large
/// frame more, with its index.
pub(crate) const LOG_SLACK: usize = 8 * 64 * 1024 + 2 * 66 * 1024;

/// Decides the homes of topics.
const HASH_SEED: u64 = 1;

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
    /// Whether its connection took no bytes when it was closed.
    was_blocked: bool,
    /// Topics of a change that waits for its joins.
    pub(crate) pending: Option<Vec<usize>>,
    /// Closes asked for, by their codes.
    asked: Vec<(u16, Manner)>,
    pub(crate) kicked: bool,
    /// Answers under way: their number, and the clock when they were given.
    answers: VecDeque<(u32, u64)>,
    pings: VecDeque<u32>,
    /// The last pong given, and the last that came.
    pongs: (u32, u32),
    /// Outcomes of its changes of topics.
    pub(crate) outcomes: Vec<Result<(), TopicsFull>>,
    /// The code of its close frame.
    pub(crate) code: Option<u16>,
}

macro_rules! counts {
    ($($name:ident,)*) => {
        /// How often something happened that a run must not do without.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Seen {
            $(pub(crate) $name: u64,)*
        }

        impl std::ops::AddAssign for Seen {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl Seen {
            /// What did not happen at all.
            pub(crate) fn never(&self) -> Vec<&'static str> {
                [$((stringify!($name), self.$name)),*].iter().filter(|(_, n)| *n == 0).map(|(name, _)| *name).collect()
            }
        }
    };
}

counts! {
    refused_publications,
    refused_changes,
    out_of_credits,
    lagging,
    kept_closes,
    lost,
    given_up,
    slow,
    dropped_bound,
    dropped_age,
    dropped_memory,
    dropped_closed,
    compactions,
    would_block,
    control_cuts,
    batched,
    frames,
    late_joins,
    completed,
}

/// The answer to a publish, on its way.
type Outstanding = (usize, oneshot::Receiver<Result<Position, TopicsFull>>);

/// Everything there is.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) common: Common,
    pub(crate) shards: Vec<Shard>,
    pub(crate) nets: Vec<Net>,
    pub(crate) admission: Admission,
    pub(crate) model: Model,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) now: u64,
    pub(crate) stopping: bool,
    pub(crate) seen: Seen,
    numbers: HashMap<(usize, Key), usize>,
    /// For each home the answers still to come, in the order of asking.
    outstanding: Vec<VecDeque<Outstanding>>,
    /// For each shard the tick up to which everything was handed to it.
    handed: Vec<u64>,
    /// Shards that took stop.
    pub(crate) stopped: Vec<bool>,
    control: u32,
}

impl World {
    pub(crate) fn new(settings: Settings, topics: usize, mut random: Random) -> Self {
        assert_eq!(Topic::fix_hash_seed(HASH_SEED), HASH_SEED, "a topic was parsed before");
        let shards = settings.shards;
        let common = Common::new(&settings, 7);
        Self {
            shards: (0..shards).map(|number| Shard::new(number, common.clone())).collect(),
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
            common,
            settings,
        }
    }

    // What a connection or a handler does.

    pub(crate) fn add(&mut self, shard: usize, user: Option<u64>) -> usize {
        let number = self.subscribers.len();
        let client = ClientId::parse(&format!("{number:032x}")).expect("32 digits");
        let user = user.map(User::Number);
        let key = self.shards[shard].add(Some(client), user.clone());
        let viewer = self.model.viewer(self.shards.len(), client, user);
        self.subscribers.push(Subscriber {
            shard,
            key,
            viewer,
            stage: Stage::Attaching,
            closed: false,
            was_blocked: false,
            pending: None,
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
        let subscriber = &mut self.subscribers[number];
        assert_eq!(subscriber.stage, Stage::Attaching);
        let (shard, key) = (subscriber.shard, subscriber.key);
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
        let topics: Vec<_> = wanted.iter().map(|&topic| self.model.topics[topic].topic.clone()).collect();
        let subscriber = &mut self.subscribers[number];
        if subscriber.closed {
            assert_eq!(self.shards[subscriber.shard].set_topics(subscriber.key, topics), Change::Done);
            return Change::Done;
        }
        for &topic in wanted {
            subscriber.viewer.request(topic, &self.model);
        }
        self.seen.late_joins += u64::from(subscriber.pending.take().is_some());
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
        let (shard, key) = (self.subscribers[number].shard, self.subscribers[number].key);
        self.nets[shard].get_mut(key).expect("it has a socket").blocked = false;
        self.shards[shard].writable(key);
        self.look(shard);
    }

    pub(crate) fn close(&mut self, number: usize, manner: Manner) {
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
        let code = CloseCode::received(1001).expect("it may be sent");
        let subscriber = &mut self.subscribers[number];
        subscriber.asked.push((code.get(), Manner::Discard));
        let (shard, key) = (subscriber.shard, subscriber.key);
        self.shards[shard].close_replying(key, frame::close_reply(Some(code)).to_vec());
        self.look(shard);
    }

    pub(crate) fn kick(&mut self, number: usize, manner: Manner) {
        let code = match manner {
            Manner::Flush => CloseCode::REPLACED,
            Manner::Discard => CloseCode::NORMAL,
        };
        let subscriber = &mut self.subscribers[number];
        subscriber.kicked = true;
        subscriber.asked.push((code.get(), manner));
        let goodbye = Goodbye { code, reason: "kicked" };
        let kick = Kick { key: subscriber.key, goodbye, manner, credit: None };
        self.common.mailboxes.to_shard(subscriber.shard, Fanout::Kick(kick));
    }

    pub(crate) fn remove(&mut self, number: usize) {
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
        let bytes = self.model.publications[number].bytes.clone();
        let message = if text { Message::Text(bytes) } else { Message::Binary(bytes) };
        let TopicPlace { topic, home } = self.place(topic);
        let publication = Publication { topic, message, audience, credits };
        let (reply, answer) = oneshot::channel();
        self.common.mailboxes.to_home(home, Ingress::Publish(Box::new(publication), reply));
        self.outstanding[home].push_back((number, answer));
        Some(number)
    }

    /// Publishes to everyone; there must be credits.
    pub(crate) fn tell_everyone(&mut self, topic: usize, len: usize) -> usize {
        self.publish(topic, Audience::default(), len, false).expect("there are credits")
    }

    /// Stops every shard, when all ingress is done.
    pub(crate) fn stop(&mut self) {
        for shard in 0..self.shards.len() {
            while self.sequence(shard, 64) > 0 {}
        }
        self.stopping = true;
        let goodbye = Goodbye { code: CloseCode::RESTART, reason: "restart" };
        for shard in 0..self.shards.len() {
            self.common.mailboxes.to_shard(shard, Fanout::Stop(goodbye));
        }
    }

    // What the driver of a shard does.

    pub(crate) fn begin_turn(&mut self, shard: usize) {
        self.shards[shard].begin_turn(self.now);
        self.look(shard);
    }

    pub(crate) fn drop_overdue(&mut self, shard: usize) {
        self.shards[shard].drop_overdue();
        self.look(shard);
    }

    pub(crate) fn sequence(&mut self, home: usize, entries: usize) -> usize {
        let done = self.shards[home].sequence(entries);
        self.look(home);
        while let Some((number, answer)) = self.outstanding[home].front_mut() {
            let Ok(outcome) = answer.try_recv() else { break };
            let number = *number;
            self.outstanding[home].pop_front();
            match outcome {
                Ok(position) => {
                    let topic = self.model.publications[number].topic;
                    let last = self.model.last_tick(topic);
                    let kept = self.subscribers.iter().any(|one| one.viewer.had_before(topic, last));
                    self.model.sequenced(number, position, kept);
                }
                Err(TopicsFull) => self.seen.refused_publications += 1,
            }
        }
        for (_, answer) in &mut self.outstanding[home] {
            assert!(answer.try_recv().is_err(), "answered before one that was asked before");
        }
        done
    }

    /// Takes entries one by one, so that what each brings about is seen before the next.
    pub(crate) fn take(&mut self, shard: usize, entries: usize) -> usize {
        for done in 0..entries {
            let taken = self.shards[shard].take(1);
            self.look(shard);
            if taken == 0 {
                if self.shards[shard].keeps_up() {
                    self.handed[shard] = self.model.tick;
                } else {
                    self.seen.lagging += 1;
                }
                return done;
            }
            let crowd = self.settings.outbox_bytes * self.shards[shard].subscribers();
            let most = self.settings.log_bytes + LOG_SLACK + crowd;
            assert!(
                self.shards[shard].log_bytes() <= most,
                "{} bytes of log",
                self.shards[shard].log_bytes()
            );
        }
        entries
    }

    pub(crate) fn flush(&mut self, shard: usize, offers: usize) -> usize {
        let done = self.shards[shard].flush(&mut self.nets[shard], offers);
        self.look(shard);
        done
    }

    /// Lets every shard work until none has anything to do. Nobody's manners change; who is blocked stays blocked.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut done = 0;
            for shard in 0..self.shards.len() {
                self.begin_turn(shard);
                done += self.sequence(shard, 64);
                done += self.take(shard, 64);
                done += self.flush(shard, 64);
            }
            if done == 0 && self.shards.iter().all(|shard| !shard.has_work()) {
                return;
            }
        }
        panic!("the shards do not come to rest");
    }

    /// As [`Self::settle`], and whoever is blocked takes bytes again.
    pub(crate) fn settle_unblocking(&mut self) {
        for _ in 0..10_000 {
            self.settle();
            let mut blocked = false;
            for number in 0..self.subscribers.len() {
                let (shard, key) = (self.subscribers[number].shard, self.subscribers[number].key);
                if self.nets[shard].get(key).is_some_and(|connection| connection.blocked && !connection.gone)
                {
                    self.writable(number);
                    blocked = true;
                }
            }
            if !blocked {
                return;
            }
        }
        panic!("somebody stays blocked");
    }
}

/// What publishing needs of a topic.
struct TopicPlace {
    topic: Topic,
    home: usize,
}

impl World {
    fn place(&self, topic: usize) -> TopicPlace {
        let topic = &self.model.topics[topic];
        TopicPlace { topic: topic.topic.clone(), home: topic.home }
    }

    /// The subscriber has exactly these topics now, of those it wished for and was not told of.
    fn topics_are(&mut self, number: usize, wanted: &[usize]) {
        let subscriber = &mut self.subscribers[number];
        for topic in 0..self.model.topics.len() {
            if wanted.contains(&topic) {
                subscriber.viewer.joined(topic, &self.model);
            } else {
                subscriber.viewer.left(topic, self.handed[subscriber.shard], &mut self.model);
            }
        }
        self.state_topics(number);
    }

    fn topics_refused(&mut self, number: usize) {
        let subscriber = &mut self.subscribers[number];
        if !self.shards[subscriber.shard].is_open(subscriber.key) {
            // Closed since, in the same call; that is looked at next.
            return;
        }
        for topic in 0..self.model.topics.len() {
            let has =
                self.shards[subscriber.shard].has_topic(subscriber.key, &self.model.topics[topic].topic);
            if subscriber.viewer.has(topic) {
                assert!(has, "a refused change took a topic away");
            } else if has {
                // A change before this one, given up when it was half done.
                subscriber.viewer.joined(topic, &self.model);
            } else {
                subscriber.viewer.left(topic, 0, &mut self.model);
            }
        }
        self.state_topics(number);
    }

    fn state_topics(&mut self, number: usize) {
        self.control += 1;
        self.model.clock += 1;
        let subscriber = &mut self.subscribers[number];
        let (shard, key) = (subscriber.shard, subscriber.key);
        if self.shards[shard].is_open(key) {
            subscriber.answers.push_back((self.control, self.model.clock));
        }
        self.shards[shard].answer(key, control_frame(PING, b'a', self.control));
    }

    /// Looks at everything a call may have brought about.
    fn look(&mut self, shard: usize) {
        self.look_at_frames(shard);
        let mut events: Vec<Event> = std::iter::from_fn(|| self.shards[shard].next_event()).collect();
        if events.contains(&Event::Stopped) {
            assert!(self.stopping && !self.stopped[shard]);
            self.stopped[shard] = true;
            // Stop comes behind everything that was accepted.
            self.handed[shard] = self.model.tick;
        }
        while !events.is_empty() {
            for event in std::mem::take(&mut events) {
                self.look_at_event(shard, event);
            }
            // The answers given meanwhile may have closed somebody.
            events.extend(std::iter::from_fn(|| self.shards[shard].next_event()));
        }
        for number in 0..self.subscribers.len() {
            let subscriber = &self.subscribers[number];
            if subscriber.shard == shard && !subscriber.closed && !self.shards[shard].is_open(subscriber.key)
            {
                assert_eq!(subscriber.stage, Stage::Attaching, "closed, and nobody was told");
                self.seen.kept_closes += 1;
                self.is_closed(number);
            }
        }
    }

    fn look_at_event(&mut self, shard: usize, event: Event) {
        let number_of = |key| *self.numbers.get(&(shard, key)).expect("an event of someone who is there");
        match event {
            Event::TopicsSet { key, outcome } => {
                let number = number_of(key);
                if !self.shards[shard].is_open(key) {
                    // A close is kept for it: whoever waits for its topics is told to go on.
                    self.subscribers[number].pending = None;
                    return;
                }
                let wanted = self.subscribers[number].pending.take().expect("a change waits for it");
                self.subscribers[number].outcomes.push(outcome);
                match outcome {
                    Ok(()) => self.topics_are(number, &wanted),
                    Err(TopicsFull) => {
                        self.seen.refused_changes += 1;
                        self.topics_refused(number);
                    }
                }
            }
            Event::Closing { key } => {
                let number = number_of(key);
                // One that has no socket yet may be closed by a close of its peer only.
                self.is_closed(number);
                self.subscribers[number].stage = Stage::Closing;
            }
            Event::Ended { key } => {
                let number = number_of(key);
                let connection = self.nets[shard].get(key).expect("it has a socket");
                assert_eq!(self.subscribers[number].stage, Stage::Closing);
                assert!(connection.stream.closed && !connection.blocked, "ended without a close frame");
                self.subscribers[number].stage = Stage::Ended;
            }
            Event::Lost { key } => {
                let number = number_of(key);
                let connection = self.nets[shard].get(key).expect("it has a socket");
                let given_up = connection.blocked && self.subscribers[number].stage == Stage::Closing;
                assert!(connection.gone || given_up, "given up, and it was not to be closed");
                self.is_closed(number);
                self.subscribers[number].stage = Stage::Lost;
                self.seen.lost += u64::from(!given_up);
                self.seen.given_up += u64::from(given_up);
            }
            Event::Stopped => {}
        }
    }

    /// It is in no topic from now on.
    fn is_closed(&mut self, number: usize) {
        let subscriber = &mut self.subscribers[number];
        if subscriber.closed {
            return;
        }
        subscriber.closed = true;
        subscriber.pending = None;
        let connection = self.nets[subscriber.shard].get(subscriber.key);
        subscriber.was_blocked = connection.is_none_or(|connection| connection.blocked);
        for topic in 0..self.model.topics.len() {
            subscriber.viewer.left(topic, self.handed[subscriber.shard], &mut self.model);
        }
    }

    fn look_at_frames(&mut self, shard: usize) {
        for (key, frames) in self.nets[shard].take_frames() {
            let number = self.numbers[&(shard, key)];
            for frame in frames {
                self.look_at_frame(number, &frame);
            }
        }
    }

    fn look_at_frame(&mut self, number: usize, frame: &Frame) {
        let subscriber = &mut self.subscribers[number];
        match (frame.opcode, frame.payload.first()) {
            (PING, Some(b'a')) => {
                let (answer, clock) = subscriber.answers.pop_front().expect("it was given");
                assert_eq!(number_in(frame), answer, "answers come in order, and all of them");
                subscriber.viewer.pass(clock, &self.model);
            }
            (PING, _) => assert_eq!(Some(number_in(frame)), subscriber.pings.pop_front()),
            (PONG, _) => {
                let pong = number_in(frame);
                assert!(pong > subscriber.pongs.1 && pong <= subscriber.pongs.0);
                subscriber.pongs.1 = pong;
            }
            (CLOSE, _) => {
                let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
                subscriber.code = Some(code);
                self.look_at_close(number, code);
            }
            _ => subscriber.viewer.receive(frame, &self.model),
        }
    }

    /// A close frame came: it was asked for, or the subscriber was slow; and what was to be written before it, was.
    fn look_at_close(&mut self, number: usize, code: u16) {
        let subscriber = &self.subscribers[number];
        assert!(subscriber.closed);
        if code == CloseCode::TRY_AGAIN_LATER.get() {
            self.seen.slow += 1;
            assert!(subscriber.was_blocked, "I9: a connection that takes bytes is no slow consumer");
            return;
        }
        let stop = (CloseCode::RESTART.get(), Manner::Flush);
        let asked = subscriber.asked.iter().chain(self.stopping.then_some(&stop));
        let asked = asked.copied().find(|&(other, _)| other == code);
        let (_, manner) = asked.unwrap_or_else(|| panic!("closed with {code}, and nobody asked for it"));
        if manner == Manner::Flush {
            self.seen.completed += 1;
            self.check_complete(number);
        }
    }

    /// Everything a subscriber is owed has come.
    pub(crate) fn check_complete(&self, number: usize) {
        let subscriber = &self.subscribers[number];
        subscriber.viewer.check_complete(&self.model);
        assert!(subscriber.answers.is_empty(), "answers are missing");
        if subscriber.code.is_none() {
            assert!(subscriber.pings.is_empty(), "pings are missing");
            assert_eq!(subscriber.pongs.0, subscriber.pongs.1, "the last pong is missing");
        }
    }

    /// I8, I6 and what the shards say of each subscriber, against what is known here.
    pub(crate) fn check_books(&self) {
        let total = self.common.metrics.total();
        let queued: u64 = self.shards.iter().map(Shard::queued_frames).sum();
        assert_eq!(total.matched, total.written + total.dropped() + queued, "I8: {total:?}");
        assert_eq!(total.written, self.nets.iter().map(|net| net.data_frames).sum::<u64>(), "I8: written");
        assert_eq!(total.bytes_written, self.nets.iter().map(|net| net.bytes).sum::<u64>());
        for subscriber in self.subscribers.iter().filter(|one| !one.closed && one.pending.is_none()) {
            for (topic, model) in self.model.topics.iter().enumerate() {
                let has = self.shards[subscriber.shard].has_topic(subscriber.key, &model.topic);
                assert_eq!(has, subscriber.viewer.has(topic), "{subscriber:?} has topic {topic}");
            }
        }
    }

    /// Removes everybody, and checks that nothing is left: no credit, no log, no topic, no record.
    pub(crate) fn end(mut self) -> Seen {
        for number in 0..self.subscribers.len() {
            if self.subscribers[number].stage != Stage::Gone {
                self.remove(number);
            }
        }
        self.settle();
        self.check_books();
        assert_eq!(self.admission.inflight(), 0, "credits are missing");
        assert!(self.outstanding.iter().all(VecDeque::is_empty), "answers to publishers are missing");
        self.now += fanfare::limits::TOPIC_IDLE_MS + 1;
        for shard in 0..self.shards.len() {
            self.begin_turn(shard);
            self.begin_turn(shard);
            assert_eq!(self.shards[shard].subscribers(), 0);
            assert!(self.shards[shard].log_bytes() < 8 * 66 * 1024, "the logs are not empty");
        }
        let total = self.common.metrics.total();
        assert_eq!((total.subscribers, total.blocked, total.topics, total.records), (0, 0, 0, 0));
        self.count(&total);
        self.seen
    }

    fn count(&mut self, total: &fanfare::metrics::Snapshot) {
        let seen = &mut self.seen;
        seen.dropped_bound = total.dropped_bound;
        seen.dropped_age = total.dropped_age;
        seen.dropped_memory = total.dropped_memory;
        seen.dropped_closed = total.dropped_closed;
        seen.compactions = total.compactions;
        seen.would_block = total.would_block;
        seen.control_cuts = self.nets.iter().map(|net| net.control_cuts).sum();
        seen.batched = self.nets.iter().map(|net| net.batched).sum();
        seen.frames = total.written;
    }
}

fn control_frame(opcode: u8, letter: u8, number: u32) -> Vec<u8> {
    let [a, b, c, d] = number.to_be_bytes();
    vec![0x80 | opcode, 5, letter, a, b, c, d]
}

fn number_in(frame: &Frame) -> u32 {
    u32::from_be_bytes(frame.payload[1..5].try_into().expect("four bytes"))
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
