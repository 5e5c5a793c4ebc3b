//! Orders in a node of several shards: who gets what, while clients come, go and change their topics.

use std::{
    collections::{BTreeMap, HashMap},
    io::IoSlice,
    sync::Arc,
    time::Duration,
};

use super::*;
use crate::{
    admission::Admission,
    classes::{Class, Classes, History, Policy, Which},
    engine::{Change, Encoding, Event, Fabric, Key, Offered, Transport},
    identity::{ClientId, User},
    limits::HELD_BACK_LOOK_MS,
    publication::{Audience, IdempotencyKey, Json, MessageKey, Publisher},
    settings::Settings,
};

mod receipts;

const TOPICS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// The connections of one shard.
#[derive(Default)]
struct Wires {
    taken: HashMap<Key, Vec<u8>>,
    stuck: Vec<Key>,
    gone: Vec<Key>,
}

impl Transport for Wires {
    fn offer(&mut self, key: Key, slices: &[IoSlice<'_>]) -> Offered {
        if self.gone.contains(&key) {
            return Offered::Closed;
        }
        if self.stuck.contains(&key) {
            return Offered::WouldBlock;
        }
        let taken = self.taken.entry(key).or_default();
        slices.iter().for_each(|slice| taken.extend_from_slice(slice));
        Offered::Wrote { bytes: slices.iter().map(|slice| slice.len()).sum(), unflushed: false }
    }
}

impl Wires {
    /// The texts of the messages that came to one subscriber.
    fn texts(&self, key: Key) -> Vec<String> {
        let mut bytes = self.taken.get(&key).map_or(&[][..], |taken| taken);
        let mut texts = Vec::new();
        while let [first, len, rest @ ..] = bytes {
            let (len, rest) = match len {
                126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
                len => (usize::from(*len), rest),
            };
            if *first == 0x81 {
                texts.push(String::from_utf8(rest[..len].to_vec()).expect("a text"));
            }
            bytes = &rest[len..];
        }
        texts
    }
}

struct Node {
    shards: Vec<Shard>,
    wires: Vec<Wires>,
    fabric: Fabric,
    admission: Admission,
    now: u64,
    sent: usize,
}

impl Node {
    fn new(shards: usize) -> Self {
        let bound = 64 * 1024;
        let class = |name: &str, policy| Class {
            name: name.into(),
            policy,
            ..Class::default_with(bound, Duration::from_secs(60))
        };
        let history = History { messages: 1_000, bytes: bound / 2, ttl: Duration::from_secs(60) };
        let kept = Class { history: Some(history), ..class("kept", Policy::Disconnect) };
        let further = vec![class("conflate", Policy::Conflate), class("newest", Policy::DropNewest), kept];
        let rules = ["conflate", "newest", "kept"].map(|name| (Which::Prefix(name.into()), name.to_owned()));
        let classes = Classes::new(class("default", Policy::Disconnect), further, rules.into());
        let classes = Arc::new(classes.expect("they fit together"));
        let settings = Settings { shards, outbox_bytes: bound, classes, ..Settings::default() };
        let fabric = Fabric::new(&settings, 1);
        Self {
            shards: (0..shards).map(|number| Shard::new(number, fabric.clone())).collect(),
            wires: (0..shards).map(|_| Wires::default()).collect(),
            admission: Admission::new(settings.inflight_publications, settings.inflight_bytes),
            fabric,
            now: 0,
            sent: 0,
        }
    }

    fn subscribe(&mut self, shard: usize, encoding: Encoding, topics: &[&str]) -> Key {
        let key = self.shards[shard].add(None, None, encoding);
        self.shards[shard].set_topics(key, names(topics));
        self.shards[shard].attached(key);
        key
    }

    /// Orders the next message, which is its number.
    fn order(&mut self, topics: &[&str], receipt: bool) -> oneshot::Receiver<Outcome> {
        let message = Message::text(self.sent.to_string());
        self.sent += 1;
        self.order_content(topics, message.into(), None, receipt)
    }

    fn order_content(
        &mut self,
        topics: &[&str],
        content: Content,
        key: Option<&str>,
        receipt: bool,
    ) -> oneshot::Receiver<Outcome> {
        let topics = names(topics);
        let home = topics[0].home(self.shards.len());
        let credits = self.admission.try_admit_all(topics.len() as u32, 10).expect("little is under way");
        let key = key.map(|key| ScopedKey {
            publisher: Publisher::Anonymous,
            key: IdempotencyKey::parse(key).expect("a key"),
        });
        let (order, outcome) = Order::new(topics, content, key, receipt, credits);
        self.fabric.mailboxes.to_home(home, Ingress::Order(Box::new(order)));
        outcome
    }

    /// One step of one shard. Says how much it did.
    fn step(&mut self, shard: usize, entries: usize) -> usize {
        let (one, wires) = (&mut self.shards[shard], &mut self.wires[shard]);
        one.begin_turn(self.now);
        one.sockets_looked_at();
        let done = one.sequence(entries) + one.take(entries) + one.flush(wires, entries);
        while let Some(event) = one.next_event() {
            if let Event::Ended { key } | Event::Lost { key } = event {
                one.remove(key);
            }
        }
        done
    }

    fn settle(&mut self) {
        while (0..self.shards.len()).map(|shard| self.step(shard, 64)).sum::<usize>() > 0
            || self.shards.iter().any(|shard| shard.holds_back() || shard.awaits_look())
        {
            self.now += HELD_BACK_LOOK_MS;
        }
        self.now += 1;
        (0..self.shards.len()).for_each(|shard| {
            self.step(shard, 64);
        });
    }
}

fn names(topics: &[&str]) -> Arc<[Topic]> {
    topics.iter().map(|name| Topic::parse(name).expect("a topic")).collect()
}

/// Topics whose homes are the first and the second of two shards.
fn one_of_each_home() -> [String; 2] {
    [0, 1].map(|home| {
        let mut all = (0..64).map(|n| format!("t{n}"));
        all.find(|name| names(&[name])[0].home(2) == home).expect("homes are spread")
    })
}

fn places(mut outcome: oneshot::Receiver<Outcome>) -> Places {
    match outcome.try_recv().expect("it is answered") {
        Outcome::Placed(places) => places,
        Outcome::Underway(places) => places.borrow().clone().expect("it is over"),
        Outcome::Conflict => panic!("a conflict"),
    }
}

/// The receipts of all topics of an order, which must be complete.
fn receipts(outcome: oneshot::Receiver<Outcome>) -> Vec<Receipt> {
    let places = places(outcome);
    let receipt = |place: &Result<Place, TopicsFull>| {
        let sums = place.as_ref().expect("it has a place").receipt.clone().expect("it was asked for");
        assert!(sums.has_changed().is_err(), "every shard has said its part");
        let receipt = *sums.borrow();
        let Receipt { matched, written, queued, dropped, conflated } = receipt;
        assert_eq!(matched, written + queued + dropped + conflated, "{receipt:?}");
        receipt
    };
    places.iter().map(receipt).collect()
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    /// Some of the topics, at least `least`, in any order.
    fn topics(&mut self, least: usize) -> Vec<&'static str> {
        let mut topics = TOPICS.to_vec();
        for place in 0..topics.len() {
            topics.swap(place, place + self.below(TOPICS.len() - place));
        }
        topics.truncate(least + self.below(TOPICS.len() + 1 - least));
        topics
    }
}

/// A subscriber of the run below, and what it must have.
struct Churner {
    shard: usize,
    key: Key,
    encoding: Encoding,
    /// A topic it has all the time.
    keeps: &'static str,
    /// The first message that was ordered after it had that.
    since: usize,
}

/// The number of a message, and the topic it came in where the encoding says so.
fn read(text: &str, encoding: Encoding) -> (usize, Option<String>) {
    match encoding {
        Encoding::Plain => (text.parse().expect("a number"), None),
        Encoding::V1 => {
            let json: serde_json::Value = serde_json::from_str(text).expect("an object");
            let message = json["message"].as_str().expect("a text").parse();
            (message.expect("a number"), json["topic"].as_str().map(str::to_owned))
        }
    }
}

fn churn(seed: u64) {
    let mut random = Random(seed);
    let mut node = Node::new(1 + random.below(4));
    let shards = node.shards.len();
    let mut orders: Vec<Vec<&'static str>> = Vec::new();
    let mut churners: Vec<Churner> = Vec::new();
    let mut gone: Vec<Churner> = Vec::new();
    for step in 0..600 {
        match random.below(12) {
            0 if churners.len() < 12 => {
                let (shard, keeps) = (random.below(shards), TOPICS[random.below(TOPICS.len())]);
                let encoding = Encoding::ALL[random.below(2)];
                let key = node.subscribe(shard, encoding, &[keeps]);
                node.settle();
                churners.push(Churner { shard, key, encoding, keeps, since: node.sent });
            }
            1 if churners.len() > 6 => {
                let one = churners.swap_remove(random.below(churners.len()));
                node.shards[one.shard].remove(one.key);
                gone.push(one);
            }
            2 | 3 if !churners.is_empty() => {
                let one = &churners[random.below(churners.len())];
                let mut topics = random.topics(0);
                topics.retain(|&topic| topic != one.keeps);
                topics.insert(random.below(topics.len() + 1), one.keeps);
                let change = node.shards[one.shard].set_topics(one.key, names(&topics));
                assert!(matches!(change, Change::Done | Change::Pending));
            }
            4..=6 => {
                let topics = random.topics(1);
                drop(node.order(&topics, random.below(3) == 0));
                orders.push(topics);
            }
            7 if step % 50 == 0 => node.settle(),
            _ => {
                let shard = random.below(shards);
                node.step(shard, 1 + random.below(3));
            }
        }
    }
    node.settle();
    for (one, is_here) in churners.iter().map(|one| (one, true)).chain(gone.iter().map(|one| (one, false))) {
        let mut came = BTreeMap::new();
        for text in node.wires[one.shard].texts(one.key) {
            let (number, topic) = read(&text, one.encoding);
            assert_eq!(came.insert(number, topic.clone()), None, "message {number} came twice");
            assert!(topic.is_none_or(|topic| orders[number].contains(&topic.as_str())));
        }
        for (number, topics) in orders.iter().enumerate().skip(one.since) {
            if is_here && topics.contains(&one.keeps) {
                assert!(came.contains_key(&number), "message {number} is missing");
            }
        }
    }
    for shard in &mut node.shards {
        assert_eq!(shard.served.len(), 0, "every set is freed");
        assert!(shard.log.watched.is_empty(), "every receipt is made out");
    }
    assert_eq!(node.admission.inflight(), 0);
}

#[test]
fn clients_that_change_their_topics_get_each_message_once() {
    for seed in 0..100 {
        let run = std::panic::catch_unwind(|| churn(seed));
        if let Err(panic) = run {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn copy_is_that_of_the_first_topic_that_a_client_has() {
    let mut node = Node::new(3);
    let one = node.subscribe(0, Encoding::V1, &["c", "b", "e"]);
    let two = node.subscribe(1, Encoding::V1, &["d", "a"]);
    node.settle();
    for topics in [["a", "b", "c"], ["c", "b", "a"], ["d", "e", "a"]] {
        drop(node.order(&topics, false));
        node.settle();
    }
    let topics = |shard: usize, key| -> Vec<String> {
        let texts = node.wires[shard].texts(key);
        texts.iter().filter_map(|text| read(text, Encoding::V1).1).collect()
    };
    assert_eq!(topics(0, one), ["b", "c", "e"]);
    assert_eq!(topics(1, two), ["a", "a", "d"]);
}

#[test]
fn user_and_exclude_hold_in_every_topic() {
    let mut node = Node::new(2);
    let client = ClientId::random();
    let mine = node.shards[0].add(Some(client), Some(User::number(1)), Encoding::Plain);
    let other = node.shards[0].add(None, Some(User::number(1)), Encoding::Plain);
    let stranger = node.shards[0].add(None, Some(User::number(2)), Encoding::Plain);
    for key in [mine, other, stranger] {
        node.shards[0].set_topics(key, names(&["a", "b"]));
        node.shards[0].attached(key);
    }
    node.settle();
    let audience = Audience { user: Some(User::number(1)), exclude: Some(client) };
    let content = Content { audience, ..Message::text("7").into() };
    let outcome = node.order_content(&["b", "a"], content, None, true);
    node.settle();
    let matched: Vec<_> = receipts(outcome).iter().map(|receipt| receipt.matched).collect();
    assert_eq!(matched, [1, 0]);
    assert_eq!(node.wires[0].texts(other), ["7"]);
    assert!(node.wires[0].texts(mine).is_empty() && node.wires[0].texts(stranger).is_empty());
}

#[test]
fn place_that_another_took_between_two_parts_is_not_taken_for_served() {
    let mut node = Node::new(2);
    let [a, b] = one_of_each_home();
    let [a, b] = [&*a, &*b];
    let first = node.subscribe(0, Encoding::Plain, &[a]);
    node.settle();
    drop(node.order(&[a, b], false));
    // The first part is on the first shard, the other on its way to the second.
    node.step(0, 64);
    assert_eq!(node.wires[0].texts(first), ["0"]);
    node.shards[0].remove(first);
    let second = node.shards[0].add(None, None, Encoding::Plain);
    assert!(second.index == first.index && second != first);
    // Its join is behind the order at the second shard, and another order behind that.
    node.shards[0].set_topics(second, names(&[b]));
    node.shards[0].attached(second);
    node.settle();
    assert!(node.wires[0].texts(second).is_empty());
    drop(node.order(&[a, b], false));
    node.settle();
    assert_eq!(node.wires[0].texts(second), ["1"]);

    let third = node.subscribe(0, Encoding::Plain, &[a]);
    let fourth = node.subscribe(0, Encoding::Plain, &[b]);
    node.settle();
    drop(node.order(&[a, b], false));
    assert_eq!(node.shards[0].sequence(64), 1);
    assert_eq!(node.shards[0].take(64), 1, "the first part marks the third");
    node.shards[0].remove(third);
    let fifth = node.subscribe(0, Encoding::Plain, &[]);
    assert_eq!(fifth.index, third.index);
    let shard = &mut node.shards[0];
    let number = shard.topics.number(&names(&[b])[0], Encoding::Plain).expect("it has subscribers");
    shard.topics.join(number, fifth.index, 0, &mut shard.subscribers);
    node.settle();
    assert_eq!(node.wires[0].texts(fifth), ["2"]);
    assert_eq!(node.wires[0].texts(fourth), ["2"]);
}

#[test]
fn repeat_is_answered_and_not_published() {
    for topics in [&["a"][..], &["a", "b", "c"]] {
        let mut node = Node::new(3);
        let one = node.subscribe(0, Encoding::Plain, &["c", "a"]);
        node.settle();
        let say = |text: &str| Content::from(Message::text(text));
        let first = node.order_content(topics, say("1"), Some("k"), true);
        let at_once = node.order_content(topics, say("1"), Some("k"), false);
        let mut other = node.order_content(topics, say("2"), Some("k"), false);
        node.settle();
        let later = node.order_content(topics, say("1"), Some("k"), false);
        drop(node.order_content(topics, say("3"), Some("other"), false));
        node.settle();
        let offsets = |outcome| -> Vec<u64> {
            places(outcome).iter().map(|place| place.as_ref().expect("a place").position.offset).collect()
        };
        let first = offsets(first);
        assert_eq!(first, vec![1; topics.len()]);
        assert_eq!(offsets(at_once), first);
        assert_eq!(offsets(later), first);
        assert!(matches!(other.try_recv(), Ok(Outcome::Conflict)));
        assert_eq!(node.wires[0].texts(one), ["1", "3"]);
        assert_eq!(node.admission.inflight(), 0);
    }
}

#[test]
fn digest_is_of_everything_that_makes_a_publication() {
    let topics = |names: &[&str]| -> Vec<Topic> {
        names.iter().map(|name| Topic::parse(name).expect("a topic")).collect()
    };
    let text = |text: &str| Content::from(Message::text(text));
    let base = digest(&topics(&["a", "b"]), &text("1"));
    assert_eq!(base, digest(&topics(&["a", "b"]), &text("1")));
    let user = Audience { user: Some(User::number(1)), exclude: None };
    let exclude = Audience { user: None, exclude: Some(ClientId::random()) };
    let key = MessageKey::parse("k").ok();
    for other in [
        digest(&topics(&["a"]), &text("1")),
        digest(&topics(&["b", "a"]), &text("1")),
        digest(&topics(&["ab"]), &text("1")),
        digest(&topics(&["a", "b"]), &text("n")),
        digest(&topics(&["a", "b"]), &Message::binary("1").into()),
        digest(&topics(&["a", "b"]), &Message::Data(Json::parse("1").unwrap()).into()),
        digest(&topics(&["a", "b"]), &Content { audience: user, ..text("1") }),
        digest(&topics(&["a", "b"]), &Content { audience: exclude, ..text("1") }),
        digest(&topics(&["a", "b"]), &Content { key, ..text("1") }),
    ] {
        assert_ne!(base, other);
    }
    assert_ne!(base >> 64, base & u128::from(u64::MAX), "the halves have seeds of their own");
}
