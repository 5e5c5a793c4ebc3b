//! What a client of `fanfare.v1` is told of its topics, and where in its stream.

use std::{collections::HashMap, io::IoSlice, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    admission::Admission,
    classes::{Class, Classes, History, Policy},
    engine::{
        Answer, Encoding, Event, Fabric, Goodbye, Ingress, Key, Manner, Offered, Order, Resume, Shard,
        TopicChange, Transport,
    },
    limits::{self, JOINS_INFLIGHT},
    protocol::v1::CommandId,
    publication::{Content, Message, MessageKey, Publication},
    settings::Settings,
    topic::{Topic, TopicMap},
    websocket::CloseCode,
};

mod held;
mod refused;

const BOUND: usize = 64 * 1024;
const LOG_BYTES: usize = 1024 * 1024;

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

/// A node of two shards; the clients are on the first.
struct Bench {
    shards: Vec<Shard>,
    fabric: Fabric,
    admission: Admission,
    wire: Wire,
}

impl Bench {
    fn new(policy: Policy, topics_max: usize) -> Self {
        Self::of(Class { policy, ..Class::default_with(BOUND, settings().outbox_age) }, topics_max)
    }

    /// One whose topics keep a history.
    fn keeping(topics_max: usize) -> Self {
        let history = History { messages: 100, bytes: BOUND / 2, ttl: Duration::from_secs(60) };
        let class = Class { history: Some(history), ..Class::default_with(BOUND, settings().outbox_age) };
        Self::of(class, topics_max)
    }

    fn of(class: Class, topics_max: usize) -> Self {
        let classes = Arc::new(Classes::only(class));
        let fabric = Fabric::new(&Settings { classes, topics_max, ..settings() }, 1);
        let shards = (0..2).map(|number| Shard::new(number, fabric.clone())).collect();
        Self { shards, fabric, admission: Admission::new(8_000, 64 << 20), wire: Wire::default() }
    }

    fn client(&mut self, encoding: Encoding) -> Key {
        let key = self.shards[0].add(None, None, encoding);
        self.shards[0].attached(key);
        key
    }

    fn subscribe(&mut self, key: Key, wanted: &[&Topic], named: &[&Topic]) {
        let list = |topics: &[&Topic]| topics.iter().map(|topic| (*topic).clone()).collect();
        let answer = Answer { id: CommandId::parse("7").ok(), topics: list(named) };
        self.shards[0].change_topics(
            key,
            TopicChange { wanted: list(wanted), resume: TopicMap::default(), answer: Some(answer) },
        );
    }

    /// Has a client ask for topics, and for the past of one of them.
    fn resume(&mut self, key: Key, wanted: &[&Topic], resumed: &Topic) {
        let wanted: Arc<[Topic]> = wanted.iter().map(|topic| (*topic).clone()).collect();
        let answer = Some(Answer { id: CommandId::parse("7").ok(), topics: wanted.clone() });
        let mut resume = TopicMap::default();
        resume.insert(resumed.clone(), Resume::Last(10));
        self.shards[0].change_topics(key, TopicChange { wanted, resume, answer });
    }

    /// Publishes to several topics, the first of which has its home here.
    fn order(&mut self, topics: &[&Topic], text: &'static str) {
        let topics: Arc<[Topic]> = topics.iter().map(|topic| (*topic).clone()).collect();
        let credits = self.admission.try_admit_all(topics.len() as u32, 10).expect("little is under way");
        let home = topics[0].home(2);
        let (order, _) = Order::new(topics, Message::text(text).into(), None, false, credits);
        self.fabric.mailboxes.to_home(home, Ingress::Order(Box::new(order)));
    }

    fn publish(&mut self, topic: &Topic, text: &str) {
        self.publish_content(topic, Message::text(text).into());
    }

    /// Publishes a message with the one key there is.
    fn publish_keyed(&mut self, topic: &Topic, text: &str) {
        let key = MessageKey::parse("key").ok();
        self.publish_content(topic, Content { key, ..Message::text(text).into() });
    }

    fn publish_content(&mut self, topic: &Topic, content: Content) {
        let credits = self.admission.try_admit(content.message.bytes().len()).expect("little is under way");
        let publication = Publication { topic: topic.clone(), content, credits };
        let (reply, _) = oneshot::channel();
        self.fabric.mailboxes.to_home(topic.home(2), Ingress::Publish(Box::new(publication), reply));
    }

    /// Gives each shard in `order` a turn.
    fn turns(&mut self, order: &[usize]) {
        for &shard in order {
            self.shards[shard].begin_turn(0);
            self.shards[shard].sockets_looked_at();
            self.shards[shard].sequence(64);
            while self.shards[shard].take(64) + self.shards[shard].flush(&mut self.wire, 64) > 0 {}
            while let Some(event) = self.shards[shard].next_event() {
                assert!(!matches!(event, Event::Closing { .. }), "nobody is closed here");
            }
        }
    }

    /// Has both homes say that they have room for what somebody asked for, and the joins sent.
    fn ask(&mut self) {
        self.turns(&[0, 1, 0]);
    }

    /// The payloads that came to a client since the last look.
    fn read(&mut self, key: Key) -> Vec<String> {
        let bytes = self.wire.taken.remove(&key).unwrap_or_default();
        let (mut bytes, mut texts) = (&bytes[..], Vec::new());
        while let [0x81, len, rest @ ..] = bytes {
            let (len, rest) = match len {
                126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
                len => (usize::from(*len), rest),
            };
            texts.push(String::from_utf8(rest[..len].to_vec()).expect("it is text"));
            bytes = &rest[len..];
        }
        texts
    }
}

fn settings() -> Settings {
    Settings { shards: 2, outbox_bytes: BOUND, log_bytes: LOG_BYTES, ..Settings::default() }
}

/// A topic whose home is this shard.
fn topic_of(home: usize, name: &str) -> Topic {
    let names = (0..).map(|n| Topic::parse(&format!("{name}{n}")).expect("a topic"));
    names.into_iter().find(|topic| topic.home(2) == home).expect("there are many")
}

fn is_message(text: &str, topic: &Topic) -> bool {
    text.starts_with(&format!("{{\"topic\":{:?}", topic.as_str()))
}

#[test]
fn answer_stands_ahead_of_everything_new_though_homes_answer_one_after_the_other() {
    let mut bench = Bench::new(Policy::Disconnect, 100);
    let key = bench.client(Encoding::V1);
    let (near, far) = (topic_of(0, "near"), topic_of(1, "far"));
    bench.publish(&near, "before");
    bench.turns(&[0]);
    bench.subscribe(key, &[&near, &far], &[&near, &far]);
    bench.ask();
    // The near home answers; what is published there meanwhile has to wait.
    bench.turns(&[0]);
    bench.publish(&near, "between");
    bench.turns(&[0]);
    assert_eq!(bench.read(key), Vec::<String>::new(), "where `far` stands is not known yet");
    bench.turns(&[1, 0]);
    bench.publish(&far, "after");
    bench.turns(&[1, 0]);
    let texts = bench.read(key);
    assert!(texts[0].starts_with(r#"{"ok":7"#), "{texts:?}");
    assert!(is_message(&texts[1], &near) && texts[1].contains(r#""offset":2"#), "{texts:?}");
    assert!(is_message(&texts[2], &far) && texts[2].contains(r#""offset":1"#), "{texts:?}");
    assert_eq!(texts.len(), 3);
}

#[test]
fn answer_to_what_is_had_already_comes_behind_what_was_published_before() {
    let mut bench = Bench::new(Policy::Disconnect, 100);
    let key = bench.client(Encoding::V1);
    let topic = topic_of(1, "far");
    bench.subscribe(key, &[&topic], &[&topic]);
    bench.turns(&[0, 1, 0]);
    bench.wire.shut = true;
    bench.publish(&topic, "one");
    bench.turns(&[1, 0]);
    bench.subscribe(key, &[&topic], &[&topic]);
    assert_eq!(bench.shards[0].positions(key)[0].1.offset, 1);
    bench.wire.shut = false;
    bench.shards[0].writable(key);
    bench.turns(&[0]);
    let texts = bench.read(key);
    assert!(texts[0].starts_with(r#"{"ok":7"#) && texts[2].starts_with(r#"{"ok":7"#), "{texts:?}");
    assert!(is_message(&texts[1], &topic));
}

#[test]
fn refused_change_is_told_and_nothing_of_it_follows() {
    let mut bench = Bench::new(Policy::Disconnect, 1);
    let key = bench.client(Encoding::V1);
    let (near, far) = (topic_of(0, "near"), topic_of(1, "far"));
    bench.subscribe(key, &[&near, &far], &[&near, &far]);
    bench.turns(&[0]);
    bench.publish(&near, "between");
    bench.turns(&[0, 1, 0]);
    let texts = bench.read(key);
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("error") && texts[0].contains('7'), "{texts:?}");
    assert_eq!(bench.fabric.metrics.total().matched, 0);
    assert!(bench.shards[0].positions(key).is_empty());
}

#[test]
fn each_encoding_is_made_only_where_somebody_wants_it() {
    let mut bench = Bench::new(Policy::Disconnect, 100);
    let topic = topic_of(1, "far");
    let (plain, told) = (bench.client(Encoding::Plain), bench.client(Encoding::V1));
    bench.shards[0].set_topics(plain, vec![topic.clone()]);
    bench.turns(&[0, 1, 0]);
    bench.publish(&topic, "one");
    bench.turns(&[1, 0]);
    assert_eq!((bench.read(plain), bench.read(told)), (vec!["one".to_owned()], vec![]));
    bench.shards[0].set_topics(told, vec![topic.clone()]);
    bench.turns(&[0, 1, 0]);
    for text in ["two", "three"] {
        bench.publish(&topic, text);
    }
    bench.turns(&[1, 0]);
    assert_eq!(bench.read(plain), ["two", "three"]);
    assert_eq!(bench.read(told).iter().filter(|text| is_message(text, &topic)).count(), 2);
    bench.shards[0].set_topics(plain, vec![]);
    bench.turns(&[0, 1, 0]);
    bench.publish(&topic, "four");
    bench.turns(&[1, 0]);
    assert_eq!((bench.read(plain).len(), bench.read(told).len()), (0, 1));
    assert_eq!(bench.fabric.metrics.total().matched, 1 + 4 + 1);
}

/// The gaps among what came: from, to, and how many are missing.
fn gaps(texts: &[String]) -> Vec<(u64, u64, u64)> {
    let number = |text: &str, name: &str| -> u64 {
        let name = format!("{name:?}:");
        let rest = &text[text.find(&name).expect("it is there") + name.len()..];
        rest[..rest.find(|c: char| !c.is_ascii_digit()).expect("it ends")].parse().expect("a number")
    };
    let gaps = texts.iter().filter(|text| text.starts_with(r#"{"gap""#));
    gaps.map(|text| {
        let missing = number(text, "conflated") + number(text, "dropped");
        (number(text, "from"), number(text, "to"), missing)
    })
    .collect()
}

#[test]
fn each_loss_is_told_where_it_would_have_been() {
    for policy in [Policy::DropOldest, Policy::DropNewest] {
        let mut bench = Bench::new(policy, 100);
        let (key, topic) = (bench.client(Encoding::V1), topic_of(0, "near"));
        bench.shards[0].set_topics(key, vec![topic.clone()]);
        bench.turns(&[0]);
        bench.wire.shut = true;
        let text = "x".repeat(1_000);
        for _ in 0..500 {
            bench.publish(&topic, &text);
            bench.turns(&[0]);
        }
        bench.wire.shut = false;
        bench.shards[0].writable(key);
        bench.publish(&topic, &text);
        bench.turns(&[0]);
        let texts = bench.read(key);
        let lost = bench.fabric.metrics.total().dropped_bound;
        let got = texts.iter().filter(|text| is_message(text, &topic)).count() as u64;
        assert_eq!(got + lost, 501);
        assert!(lost > 400 && got > 30, "{policy:?}: {lost} lost");
        let (told, place) = match policy {
            Policy::DropOldest => ((1, lost, lost), 0),
            _ => ((got, 500, lost), got as usize - 1),
        };
        assert_eq!(gaps(&texts), [told], "{policy:?}");
        assert!(texts[place].starts_with(r#"{"gap""#), "{policy:?}");
    }
}

#[test]
fn change_of_topics_under_way_when_its_client_is_closed_leaves_nothing_behind() {
    let mut bench = Bench::new(Policy::Disconnect, 100);
    let key = bench.client(Encoding::V1);
    let (near, far) = (topic_of(0, "near"), topic_of(1, "far"));
    bench.subscribe(key, &[&near, &far], &[&near, &far]);
    bench.ask();
    bench.turns(&[0]);
    bench.shards[0].close_replying(key, b"\x88\x00".to_vec());
    assert_eq!(bench.shards[0].next_event(), Some(Event::Closing { key, code: None }));
    bench.shards[0].begin_turn(0);
    while bench.shards[0].flush(&mut bench.wire, limits::WRITE_SLICES) > 0 {}
    assert_eq!(bench.wire.taken.remove(&key), Some(b"\x88\x00".to_vec()));
    bench.shards[0].remove(key);
    for shard in [1, 0, 1, 0] {
        bench.turns(&[shard]);
    }
    let total = bench.fabric.metrics.total();
    assert_eq!((total.topics, total.subscribers), (0, 0));
}
