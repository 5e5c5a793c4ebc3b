//! What a subscriber is told and shown of the past, and what that costs.

use std::{
    collections::{HashMap, HashSet},
    io::IoSlice,
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    admission::Admission,
    classes::{Class, Classes, History, Which},
    engine::{Answer, Encoding, Event, Fabric, Ingress, Key, Offered, Resume, Shard, TopicChange, Transport},
    identity::{ClientId, User},
    limits::HISTORY_MESSAGE_OVERHEAD,
    protocol::v1::CommandId,
    publication::{Audience, Content, Epoch, Message, Position, Publication},
    settings::Settings,
    topic::Topic,
};

mod bounds;
mod several;

const BOUND: usize = 1024 * 1024;
const TTL_MS: u64 = 60_000;

/// Connections that take everything, or nothing.
#[derive(Default)]
struct Wire {
    shut: bool,
    taken: HashMap<Key, Vec<u8>>,
}

impl Transport for Wire {
    fn offer(&mut self, key: Key, slices: &[IoSlice<'_>]) -> Offered {
        if self.shut {
            return Offered::WouldBlock;
        }
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        let taken = self.taken.entry(key).or_default();
        slices.iter().for_each(|slice| taken.extend_from_slice(slice));
        Offered::Wrote { bytes, unflushed: false }
    }
}

type Answers = Vec<oneshot::Receiver<Result<Position, crate::engine::TopicsFull>>>;

/// A node of one shard whose topics have a history, unless their names begin with `none`.
struct Bench {
    shard: Shard,
    fabric: Fabric,
    admission: Admission,
    wire: Wire,
    now: u64,
    closed: HashSet<Key>,
    answers: Answers,
}

impl Bench {
    fn new(messages: usize) -> Self {
        Self::with(messages, Settings::default())
    }

    fn with(messages: usize, settings: Settings) -> Self {
        let none = Class { name: "none".into(), ..Class::default_with(BOUND, Duration::from_secs(60)) };
        let history = History { messages, bytes: BOUND / 2, ttl: Duration::from_millis(TTL_MS) };
        let kept = Class { name: "kept".into(), history: Some(history), ..none.clone() };
        let rules = vec![(Which::Prefix("none".into()), "none".to_owned())];
        let classes = Arc::new(Classes::new(kept, vec![none], rules).expect("they fit together"));
        let fabric = Fabric::new(&Settings { shards: 1, classes, ..settings }, 1);
        Self {
            shard: Shard::new(0, fabric.clone()),
            fabric,
            admission: Admission::new(8_000, 64 << 20),
            wire: Wire::default(),
            now: 0,
            closed: HashSet::new(),
            answers: Vec::new(),
        }
    }

    fn client(&mut self, encoding: Encoding) -> Key {
        let key = self.shard.add(None, None, encoding);
        self.shard.attached(key);
        key
    }

    /// Asks for topics; the home has not heard of it yet.
    fn ask(&mut self, key: Key, wanted: &[(&Topic, Option<Resume>)]) {
        let topics: Arc<[Topic]> = wanted.iter().map(|(topic, _)| (*topic).clone()).collect();
        let resume = wanted.iter().filter_map(|(topic, resume)| Some(((*topic).clone(), (*resume)?)));
        let change = TopicChange {
            wanted: topics.clone(),
            resume: resume.collect(),
            answer: Some(Answer { id: CommandId::parse("1").ok(), topics }),
        };
        self.shard.change_topics(key, change);
    }

    fn resume(&mut self, key: Key, topic: &Topic, resume: Resume) -> Vec<Value> {
        self.ask(key, &[(topic, Some(resume))]);
        self.run();
        self.read(key)
    }

    fn publish(&mut self, topic: &Topic, content: impl Into<Content>) {
        let content = content.into();
        let credits = self.admission.try_admit(content.message.bytes().len()).expect("little is under way");
        let publication = Publication { topic: topic.clone(), content, credits };
        let (reply, answer) = oneshot::channel();
        self.fabric.mailboxes.to_home(0, Ingress::Publish(Box::new(publication), reply));
        self.answers.push(answer);
    }

    /// Publishes texts that begin with these numbers, and has them sequenced.
    fn publish_all(&mut self, topic: &Topic, numbers: std::ops::RangeInclusive<u64>, len: usize) {
        for number in numbers {
            self.publish(topic, Message::text(format!("{number:0len$}")));
            self.run();
        }
    }

    fn epoch(&mut self) -> Epoch {
        let answer = self.answers.last_mut().expect("something was published");
        answer.try_recv().expect("it is sequenced").expect("there is room").epoch
    }

    /// Turns until nothing is left to do.
    fn run(&mut self) {
        self.shard.begin_turn(self.now);
        loop {
            let mut done = self.shard.sequence(64);
            done += self.shard.take(64) + self.shard.flush(&mut self.wire, 64);
            while let Some(event) = self.shard.next_event() {
                if let Event::Closing { key, .. } = event {
                    self.closed.insert(key);
                }
            }
            if done == 0 && !self.shard.has_work() {
                return;
            }
        }
    }

    /// What came to a client since the last look.
    fn read(&mut self, key: Key) -> Vec<Value> {
        let bytes = self.wire.taken.remove(&key).unwrap_or_default();
        frames(&bytes).map(|payload| serde_json::from_slice(payload).expect("it is JSON")).collect()
    }

    fn check_books(&self) {
        let total = self.fabric.metrics.total();
        let queued = self.shard.queued_frames();
        assert_eq!(total.matched, total.written + total.dropped() + queued, "I8: {total:?}");
    }
}

/// The payloads of text frames.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = match bytes {
            [] => return None,
            [0x81, 126, a, b, rest @ ..] => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            [0x81, 127, rest @ ..] => {
                let (len, rest) = rest.split_at(8);
                (u64::from_be_bytes(len.try_into().expect("eight bytes")) as usize, rest)
            }
            [0x81, len, rest @ ..] => (usize::from(*len), rest),
            other => panic!("no text frame: {:?}", &other[..other.len().min(20)]),
        };
        let (payload, rest) = rest.split_at(len);
        bytes = rest;
        Some(payload)
    })
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("a topic")
}

fn since(epoch: Epoch, offset: u64) -> Resume {
    Resume::Since { epoch: Some(epoch), offset }
}

/// The offsets of messages; everything must be one.
fn offsets(messages: &[Value]) -> Vec<u64> {
    messages.iter().map(|message| message["offset"].as_u64().expect("it is a message")).collect()
}

fn for_user(user: u64) -> Content {
    let audience = Audience { user: Some(User::number(user)), exclude: None };
    Content { message: Message::text("secret"), audience, key: None }
}

#[test]
fn answer_comes_first_then_what_was_published_since_and_then_what_is_live() {
    let mut bench = Bench::new(100);
    let cats = topic("cats");
    bench.publish_all(&cats, 1..=5, 4);
    let epoch = bench.epoch();
    let key = bench.client(Encoding::V1);
    // On both sides of the join, in the queues with it.
    bench.publish(&cats, Message::text("6"));
    bench.ask(key, &[(&cats, Some(since(epoch, 3)))]);
    bench.publish(&cats, Message::text("7"));
    bench.run();
    bench.publish(&cats, Message::text("8"));
    bench.run();
    let told = bench.read(key);
    let position = &told[0]["positions"]["cats"];
    assert_eq!((&told[0]["ok"], &position["recovered"]), (&1.into(), &true.into()), "{told:?}");
    assert_eq!(position["epoch"], epoch.to_string());
    let head = position["offset"].as_u64().expect("a number");
    assert!((6..=7).contains(&head), "{told:?}");
    assert_eq!(offsets(&told[1..]), [4, 5, 6, 7, 8]);
    assert_eq!(bench.fabric.metrics.total().replayed, head - 3);
    bench.check_books();
}

#[test]
fn credits_come_back_though_the_message_is_kept() {
    let mut bench = Bench::new(100);
    let cats = topic("cats");
    let key = bench.client(Encoding::V1);
    bench.ask(key, &[(&cats, None)]);
    bench.publish_all(&cats, 1..=5, 4);
    bench.run();
    assert_eq!(bench.admission.inflight(), 0);
    assert_eq!(bench.fabric.metrics.total().history_bytes, 5 * (4 + HISTORY_MESSAGE_OVERHEAD as u64));
}

#[test]
fn what_history_reaches_no_longer_is_told_as_a_gap_ahead_of_the_rest() {
    let mut bench = Bench::new(3);
    let cats = topic("cats");
    bench.publish_all(&cats, 1..=7, 4);
    let epoch = bench.epoch();
    let key = bench.client(Encoding::V1);
    let told = bench.resume(key, &cats, since(epoch, 2));
    assert_eq!(told[0]["positions"]["cats"]["recovered"], false);
    let gap = serde_json::json!({
        "topic": "cats", "from": 3, "to": 4, "reason": "history", "conflated": 0, "dropped": 2,
    });
    assert_eq!(told[1]["gap"], gap);
    assert_eq!(offsets(&told[2..]), [5, 6, 7]);
}

#[test]
fn topic_without_history_recovers_who_missed_nothing_and_nobody_else() {
    let mut bench = Bench::new(3);
    let topic = topic("none");
    bench.publish_all(&topic, 1..=4, 4);
    let epoch = bench.epoch();
    let key = bench.client(Encoding::V1);
    let told = bench.resume(key, &topic, since(epoch, 4));
    assert_eq!((told.len(), &told[0]["positions"]["none"]["recovered"]), (1, &true.into()));
    let other = bench.client(Encoding::V1);
    let told = bench.resume(other, &topic, since(epoch, 1));
    assert_eq!(told[0]["positions"]["none"]["recovered"], false);
    assert_eq!((&told[1]["gap"]["from"], &told[1]["gap"]["to"]), (&2.into(), &4.into()));
    assert_eq!((&told[1]["gap"]["dropped"], told.len()), (&3.into(), 2));
}

#[test]
fn another_epoch_or_an_offset_beyond_the_head_is_a_reset() {
    let mut bench = Bench::new(3);
    let cats = topic("cats");
    bench.publish_all(&cats, 1..=4, 4);
    let epoch = bench.epoch();
    let other = Epoch { incarnation: epoch.incarnation + 1, ..epoch };
    for resume in [since(epoch, 5), since(other, 4), Resume::Since { epoch: None, offset: 0 }] {
        let key = bench.client(Encoding::V1);
        let told = bench.resume(key, &cats, resume);
        assert_eq!(told[0]["positions"]["cats"]["recovered"], false, "{resume:?}");
        let gap = &told[1]["gap"];
        assert_eq!((&gap["reason"], &gap["from"]), (&"reset".into(), &1.into()));
        assert_eq!((&gap["to"], &gap["dropped"]), (&1.into(), &1.into()));
        assert_eq!(offsets(&told[2..]), [2, 3, 4], "what there is of this epoch comes");
    }
}

#[test]
fn plain_client_gets_what_was_published_since_and_is_told_nothing() {
    let mut bench = Bench::new(3);
    let cats = topic("cats");
    bench.publish_all(&cats, 1..=5, 4);
    let epoch = bench.epoch();
    let key = bench.client(Encoding::Plain);
    let resume = [(cats.clone(), since(epoch, 1))].into_iter().collect();
    let change = TopicChange { wanted: [cats.clone()].into(), resume, answer: None };
    bench.shard.change_topics(key, change);
    bench.run();
    assert_eq!(bench.wire.taken[&key], b"\x81\x040003\x81\x040004\x81\x040005");
    bench.check_books();
}

#[test]
fn subscriber_without_an_answer_is_told_of_its_gap_all_the_same() {
    let mut bench = Bench::new(1);
    let cats = topic("cats");
    bench.publish_all(&cats, 1..=3, 4);
    let epoch = bench.epoch();
    let key = bench.client(Encoding::V1);
    let resume = [(cats.clone(), since(epoch, 0))].into_iter().collect();
    bench.shard.change_topics(key, TopicChange { wanted: [cats].into(), resume, answer: None });
    bench.run();
    let told = bench.read(key);
    assert_eq!((&told[0]["gap"]["dropped"], offsets(&told[1..])), (&2.into(), vec![3]));
}

#[test]
fn last_messages_are_those_meant_for_whoever_asks() {
    let mut bench = Bench::new(100);
    let cats = topic("cats");
    bench.publish_all(&cats, 1..=3, 4);
    bench.publish(&cats, for_user(1));
    bench.publish(&cats, for_user(2));
    bench.publish(&cats, for_user(2));
    bench.run();
    for (user, last, expected) in [
        (None, 1, vec![3]),
        (Some(1), 1, vec![4]),
        (Some(2), 3, vec![3, 5, 6]),
        (Some(1), 99, vec![1, 2, 3, 4]),
        (None, 0, vec![]),
    ] {
        let key = bench.shard.add(None, user.map(User::number), Encoding::V1);
        bench.shard.attached(key);
        let told = bench.resume(key, &cats, Resume::Last(last));
        assert_eq!(told[0]["positions"]["cats"].get("recovered"), None);
        assert_eq!(offsets(&told[1..]), expected, "the last {last} for {user:?}");
    }
    bench.check_books();
}

#[test]
fn topic_that_is_had_is_replayed_if_that_is_asked_for_and_goes_on_live() {
    let mut bench = Bench::new(3);
    let cats = topic("cats");
    bench.publish_all(&cats, 1..=2, 4);
    let key = bench.client(Encoding::V1);
    bench.ask(key, &[(&cats, None)]);
    bench.run();
    bench.publish_all(&cats, 3..=4, 4);
    let epoch = bench.epoch();
    assert_eq!(offsets(&bench.read(key)[1..]), [3, 4]);
    let told = bench.resume(key, &cats, since(epoch, 1));
    let position = &told[0]["positions"]["cats"];
    assert_eq!((&position["offset"], &position["recovered"]), (&4.into(), &true.into()));
    assert_eq!(offsets(&told[1..]), [2, 3, 4], "what came live comes again, in its order");
    bench.publish_all(&cats, 5..=6, 4);
    assert_eq!(offsets(&bench.read(key)), [5, 6]);
    let told = bench.resume(key, &cats, since(epoch, 1));
    assert_eq!(told[0]["positions"]["cats"]["recovered"], false);
    assert_eq!((&told[1]["gap"]["from"], &told[1]["gap"]["to"]), (&2.into(), &3.into()), "{told:?}");
    assert_eq!(offsets(&told[2..]), [4, 5, 6]);
    let told = bench.resume(key, &cats, Resume::Last(2));
    assert_eq!(offsets(&told[1..]), [5, 6]);
    let told = bench.resume(key, &cats, since(epoch, 6));
    assert_eq!((told.len(), &told[0]["positions"]["cats"]["recovered"]), (1, &true.into()));
    assert_eq!(bench.shard.topics_of(key), [cats]);
    bench.check_books();
}

#[test]
fn refused_change_leaves_a_topic_that_is_had_as_it_is() {
    let mut bench = Bench::with(10, Settings { topics_max: 1, ..Settings::default() });
    let cats = topic("cats");
    let key = bench.client(Encoding::V1);
    bench.ask(key, &[(&cats, None)]);
    bench.run();
    bench.publish_all(&cats, 1..=3, 4);
    let epoch = bench.epoch();
    bench.read(key);
    bench.ask(key, &[(&cats, Some(since(epoch, 1))), (&topic("dogs"), None)]);
    bench.run();
    let told = bench.read(key);
    assert!(told[0].get("error").is_some(), "{told:?}");
    bench.publish_all(&cats, 4..=4, 4);
    assert_eq!(offsets(&bench.read(key)), [4]);
    bench.check_books();
}

#[test]
fn refused_change_shows_nothing_of_the_past() {
    let mut bench = Bench::with(10, Settings { topics_max: 1, ..Settings::default() });
    let cats = topic("cats");
    bench.publish_all(&cats, 1..=3, 4);
    let key = bench.client(Encoding::V1);
    bench.ask(key, &[(&cats, Some(Resume::Last(3))), (&topic("dogs"), None)]);
    bench.run();
    let told = bench.read(key);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].get("error").is_some(), "{told:?}");
    bench.check_books();
}

#[test]
fn gap_of_a_change_that_is_given_up_is_told_where_its_answer_would_have_been() {
    let mut bench = Bench::new(1);
    let cats = topic("cats");
    bench.publish_all(&cats, 1..=3, 4);
    let epoch = bench.epoch();
    let key = bench.client(Encoding::V1);
    bench.ask(key, &[(&cats, Some(since(epoch, 0)))]);
    bench.shard.sequence(64);
    // Another home has not answered yet, so the change is under way.
    bench.shard.subscribers.profiles[key.index as usize].pending.as_mut().expect("it waits").missing += 1;
    bench.run();
    assert!(bench.read(key).is_empty(), "its answer is not known yet");
    bench.ask(key, &[(&cats, None)]);
    bench.run();
    let told = bench.read(key);
    assert_eq!(told[0]["gap"]["dropped"], 2, "{told:?}");
    assert_eq!((offsets(&told[1..2]), &told[2]["ok"]), (vec![3], &1.into()));
}

#[test]
fn random_histories_show_everyone_exactly_what_is_meant_for_it() {
    let mut random = 1_u64;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % n
    };
    for _ in 0..60 {
        let mut bench = Bench::new(below(60) as usize + 1);
        let cats = topic("cats");
        let client = |n: u64| ClientId::parse(&format!("{n:032x}")).expect("32 digits");
        let mut audiences = Vec::new();
        for n in 0..below(120) + 1 {
            let user = (below(3) == 0).then(|| User::number(below(3)));
            let exclude = (below(3) == 0).then(|| client(below(4)));
            let audience = Audience { user, exclude };
            audiences.push(audience.clone());
            let message = Message::text(format!("{n}{}", "x".repeat(below(300) as usize)));
            bench.publish(&cats, Content { message, audience, key: None });
            bench.run();
        }
        let epoch = bench.epoch();
        let head = audiences.len() as u64;
        let oldest = (head + 1).saturating_sub(bench.kept() as u64);
        for _ in 0..20 {
            let (me, user) = (client(below(5)), User::number(below(4)));
            let (me, user) = ((below(4) > 0).then_some(me), (below(4) > 0).then_some(user));
            let is_meant = |offset: u64| {
                let audience = &audiences[offset as usize - 1];
                let is_excluded = audience.exclude.is_some() && audience.exclude == me;
                (audience.user.is_none() || audience.user == user) && !is_excluded
            };
            let encoding = Encoding::V1;
            let key = bench.shard.add(me, user.clone(), encoding);
            bench.shard.attached(key);
            let (resume, behind, most) = match below(2) {
                0 => {
                    let offset = below(head + 1);
                    (since(epoch, offset), offset, usize::MAX)
                }
                _ => {
                    let most = below(head + 3);
                    (Resume::Last(most as u32), 0, most as usize)
                }
            };
            let told = bench.resume(key, &cats, resume);
            let gaps = told.iter().filter(|told| told.get("gap").is_some()).count();
            let all: Vec<u64> = (oldest.max(behind + 1)..=head).filter(|&offset| is_meant(offset)).collect();
            let expected = &all[all.len().saturating_sub(most)..];
            assert_eq!(offsets(&told[1 + gaps..]), expected, "{resume:?} of {me:?} {user:?}");
            let missing = most == usize::MAX && behind + 1 < oldest;
            assert_eq!(gaps, usize::from(missing));
            if missing {
                assert_eq!(told[1]["gap"]["dropped"], oldest - 1 - behind);
            }
        }
        bench.check_books();
    }
}

impl Bench {
    /// Messages the one topic's history holds.
    fn kept(&mut self) -> usize {
        let (_, run) = self.shard.home.history(&topic("cats"), self.now).expect("it has a record");
        run.map_or(0, |run| run.len())
    }
}
