//! What each class does to the queue of a subscriber whose connection takes nothing.

use std::{io::IoSlice, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    admission::Admission,
    classes::{Class, Classes, Policy, Which},
    engine::{Encoding, Event, Fabric, Ingress, Key, Offered, Rung, Shard, Transport},
    limits::{self, HELD_BACK_LOOK_MS},
    metrics::Snapshot,
    publication::{Audience, Content, Message, MessageKey, Publication},
    settings::Settings,
    topic::Topic,
};

mod changed_classes;
mod relief;
mod waiting;

const BOUND: usize = 64 * 1024;
const AGE: Duration = Duration::from_secs(5);

/// Connections that take nothing, or everything, or a few bytes.
#[derive(Default)]
struct Wire {
    opens: bool,
    /// Offers of which the first bytes are taken though the connections are not open.
    begins: usize,
    taken: Vec<u8>,
}

impl Transport for Wire {
    fn offer(&mut self, _: Key, slices: &[IoSlice<'_>]) -> Offered {
        if !self.opens && self.begins > 0 {
            self.begins -= 1;
            self.taken.extend_from_slice(&slices[0][..10]);
            return Offered::Wrote { bytes: 10, unflushed: false };
        }
        if !self.opens {
            return Offered::WouldBlock;
        }
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        slices.iter().for_each(|slice| self.taken.extend_from_slice(slice));
        Offered::Wrote { bytes, unflushed: false }
    }
}

/// One shard with one subscriber.
struct Bench {
    shard: Shard,
    fabric: Fabric,
    admission: Admission,
    wire: Wire,
    key: Key,
    sent: usize,
    closed: bool,
    now: u64,
}

impl Bench {
    /// A subscriber of these topics; the first letter of a topic names its class.
    fn new(topics: &[&str]) -> Self {
        Self::with_memory(topics, limits::MEMORY_BYTES)
    }

    /// The same of a node with so much memory.
    fn with_memory(topics: &[&str], memory_bytes: usize) -> Self {
        let class = |name: &str, policy, outbox_bytes| Class {
            name: name.into(),
            policy,
            ..Class::default_with(outbox_bytes, AGE)
        };
        let further = vec![
            class("n", Policy::DropNewest, BOUND),
            class("o", Policy::DropOldest, BOUND),
            class("c", Policy::Conflate, BOUND),
            class("little", Policy::DropOldest, BOUND / 4),
            class("keyed", Policy::Conflate, BOUND / 4),
            class("fresh", Policy::DropNewest, BOUND / 4),
        ];
        let rules = ["n", "o", "c", "little", "keyed", "fresh"]
            .map(|name| (Which::Prefix(name.into()), name.to_owned()));
        let classes = Classes::new(class("default", Policy::Disconnect, BOUND), further, rules.into());
        let settings = Settings {
            shards: 1,
            outbox_bytes: BOUND,
            log_bytes: 1024 * 1024,
            memory_bytes,
            classes: Arc::new(classes.expect("they fit together")),
            ..Settings::default()
        };
        let fabric = Fabric::new(&settings, 1);
        let mut shard = Shard::new(0, fabric.clone());
        let key = shard.add(None, None, Encoding::Plain);
        let topics: Vec<Topic> = topics.iter().map(|name| topic(name)).collect();
        shard.set_topics(key, topics);
        shard.attached(key);
        let admission = Admission::new(10_000, 64 << 20);
        let wire = Wire::default();
        let mut bench = Self { shard, fabric, admission, wire, key, sent: 0, closed: false, now: 0 };
        bench.turn();
        bench
    }

    /// Publishes a message of `len` bytes that begins with its number. Gives the number.
    fn publish(&mut self, name: &str, key: Option<&str>, len: usize) -> usize {
        let text = format!("{:0len$}", self.sent);
        let content = Content {
            message: Message::text(text),
            audience: Audience::default(),
            key: key.map(|key| MessageKey::parse(key).expect("a key")),
        };
        let credits = self.admission.try_admit(len).expect("little is under way");
        let publication = Publication { topic: topic(name), content, credits };
        let (reply, _) = oneshot::channel();
        self.fabric.mailboxes.to_home(0, Ingress::Publish(Box::new(publication), reply));
        self.turn();
        self.sent += 1;
        self.sent - 1
    }

    fn publish_many(&mut self, count: usize, name: &str, key: Option<&str>, len: usize) {
        for _ in 0..count {
            self.publish(name, key, len);
        }
    }

    fn turn(&mut self) {
        self.shard.begin_turn(self.now);
        self.shard.sockets_looked_at();
        while self.shard.sequence(64) + self.shard.take(64) + self.shard.flush(&mut self.wire, 64) > 0
            || self.shard.holds_back()
            || self.shard.awaits_look()
        {
            if self.shard.holds_back() || self.shard.awaits_look() {
                self.now += HELD_BACK_LOOK_MS;
                self.shard.begin_turn(self.now);
                self.shard.sockets_looked_at();
            }
        }
        while let Some(event) = self.shard.next_event() {
            self.closed |= matches!(event, Event::Closing { .. });
        }
        let total = self.total();
        let queued = self.shard.queued_frames();
        let accounted = total.written + total.dropped() + total.conflated + queued;
        assert_eq!(total.matched, accounted, "I8: {total:?}, {queued} queued");
    }

    fn total(&self) -> Snapshot {
        self.fabric.metrics.total()
    }

    fn queued(&self) -> usize {
        self.shard.queued_bytes(self.key)
    }

    /// Lets the connection take everything, and gives the numbers of the messages that came.
    fn read(&mut self) -> Vec<usize> {
        self.wire.opens = true;
        self.shard.writable(self.key);
        self.turn();
        let mut bytes = &self.wire.taken[..];
        let mut numbers = Vec::new();
        while let [0x81, len, rest @ ..] = bytes {
            let (len, rest) = match len {
                126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
                len => (usize::from(*len), rest),
            };
            let text = std::str::from_utf8(&rest[..len]).expect("digits");
            numbers.push(text.parse().expect("a number"));
            bytes = &rest[len..];
        }
        numbers
    }
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("a topic")
}

#[test]
fn disconnect_closes_at_the_bound_and_counts_everything() {
    let mut bench = Bench::new(&["d"]);
    while !bench.closed {
        assert!(bench.queued() <= BOUND);
        bench.publish("d", None, 1_000);
    }
    let total = bench.total();
    assert_eq!((total.dropped_bound, total.closed_slow), (bench.sent as u64, 1));
}

#[test]
fn drop_newest_keeps_what_was_queued_first() {
    let mut bench = Bench::new(&["n"]);
    for _ in 0..500 {
        bench.publish("n", None, 1_000);
        assert!(bench.queued() <= BOUND);
    }
    let fit = BOUND / 1_004;
    assert_eq!(bench.total().dropped_bound as usize, 500 - fit);
    assert_eq!(bench.shard.topic_ledger(&topic("n")).expect("it is known").dropped_bound as usize, 500 - fit);
    assert_eq!(bench.read(), (0..fit).collect::<Vec<_>>());
    let next = bench.publish("n", None, 1_000);
    assert_eq!(bench.read().last(), Some(&next), "it goes on");
    assert!(!bench.closed);
}

#[test]
fn drop_oldest_keeps_what_came_last() {
    let mut bench = Bench::new(&["o"]);
    for _ in 0..500 {
        bench.publish("o", None, 1_000);
        assert!(bench.queued() <= BOUND);
    }
    let got = bench.read();
    let first = got[0];
    assert_eq!(got, (first..500).collect::<Vec<_>>());
    assert_eq!(bench.total().dropped_bound as usize, first);
    assert!(got.len() > BOUND / 1_004 * 3 / 4, "not more went than need be: {} left", got.len());
    assert!(!bench.closed);
}

#[test]
fn conflation_keeps_the_last_of_each_key_in_its_own_place() {
    let mut bench = Bench::new(&["c"]);
    let mut last = [0; 5];
    for n in 0..1_000 {
        let key = n * n % 5;
        last[key] = bench.publish("c", Some(&key.to_string()), 500);
        assert!(bench.queued() <= BOUND);
    }
    let mut last: Vec<usize> = [0, 1, 4].map(|key| last[key]).into();
    last.sort_unstable();
    assert_eq!(bench.read(), last, "it was compacted when the connection took bytes again");
    assert_eq!(bench.total().conflated as usize, 1_000 - 3);
    assert_eq!(bench.total().dropped(), 0);
}

#[test]
fn message_without_a_key_is_never_replaced() {
    let mut bench = Bench::new(&["c"]);
    let kept = bench.publish("c", None, 100);
    bench.publish_many(10, "c", Some("a"), 100);
    assert_eq!(bench.read(), [kept, 10]);
}

#[test]
fn key_means_nothing_where_the_class_does_not_conflate() {
    let mut bench = Bench::new(&["d"]);
    bench.publish_many(10, "d", Some("a"), 100);
    assert_eq!(bench.read(), (0..10).collect::<Vec<_>>());
}

#[test]
fn nothing_is_conflated_for_those_who_keep_up() {
    let mut bench = Bench::new(&["c"]);
    bench.wire.opens = true;
    bench.publish_many(10, "c", Some("a"), 100);
    assert_eq!(bench.read(), (0..10).collect::<Vec<_>>());
}

#[test]
fn more_keys_than_fit_disconnect() {
    let mut bench = Bench::new(&["c"]);
    for n in 0..70 {
        bench.publish("c", Some(&n.to_string()), 1_000);
    }
    assert!(bench.closed);
    assert_eq!(bench.total().closed_slow, 1);
}

#[test]
fn frames_that_may_go_make_way_for_those_that_may_not() {
    let mut bench = Bench::new(&["d", "o", "c"]);
    for n in 0..20 {
        bench.publish("c", Some("a"), 1_000);
        bench.publish("o", None, 1_000);
        bench.publish("d", None, 1_000);
        assert!(!bench.closed, "after {n}");
    }
    for _ in 20..60 {
        bench.publish("d", None, 1_000);
    }
    assert!(!bench.closed);
    let total = bench.total();
    assert_eq!((total.conflated, total.dropped_bound > 0), (19, true));
    assert_eq!(bench.shard.topic_ledger(&topic("d")).expect("it is known").dropped(), 0);
    for _ in 0..60 {
        bench.publish("d", None, 1_000);
    }
    assert!(bench.closed, "they alone are too much");
}

#[test]
fn drop_newest_lets_others_go_first() {
    let mut bench = Bench::new(&["n", "o"]);
    bench.publish_many(30, "o", None, 1_000);
    bench.publish_many(60, "n", None, 1_000);
    let o = bench.shard.topic_ledger(&topic("o")).expect("it is known");
    let n = bench.shard.topic_ledger(&topic("n")).expect("it is known");
    assert!(o.dropped_bound > 20 && n.dropped_bound == 0, "{o:?} {n:?}");
    bench.publish_many(30, "n", None, 1_000);
    assert!(bench.shard.topic_ledger(&topic("n")).expect("it is known").dropped_bound > 20);
    // What may go is there again: it goes, and not the newest.
    let before = bench.shard.topic_ledger(&topic("o")).expect("it is known").dropped_bound;
    bench.publish("o", None, 1_000);
    assert_eq!(bench.shard.topic_ledger(&topic("o")).expect("it is known").dropped_bound, before + 1);
}

#[test]
fn class_that_may_have_little_does_not_empty_the_queue_of_one_that_may_have_more() {
    let mut bench = Bench::new(&["o", "little"]);
    bench.publish_many(40, "o", None, 1_000);
    bench.publish_many(40, "little", None, 1_000);
    assert_eq!(bench.shard.topic_ledger(&topic("o")).expect("it is known").dropped(), 0);
    assert_eq!(bench.shard.topic_ledger(&topic("little")).expect("it is known").dropped_bound, 40);
    let mut alone = Bench::new(&["little"]);
    alone.publish_many(40, "little", None, 1_000);
    assert!(alone.queued() <= BOUND / 4 && alone.queued() > BOUND / 8);
}

#[test]
fn frames_too_old_go_where_their_class_lets_them() {
    let mut bench = Bench::new(&["o", "d"]);
    bench.publish_many(10, "o", None, 100);
    bench.now = AGE.as_millis() as u64 / 2;
    bench.publish("o", None, 100);
    bench.now = AGE.as_millis() as u64 + 1;
    bench.turn();
    bench.shard.drop_overdue();
    assert_eq!(bench.total().dropped_age, 10);
    assert!(!bench.closed);
    assert_eq!(bench.read(), [10]);
    bench.wire.opens = false;
    bench.publish("d", None, 100);
    bench.now *= 3;
    bench.turn();
    bench.shard.drop_overdue();
    bench.turn();
    assert!(bench.closed, "a class that disconnects");
}

#[test]
fn answers_keep_their_places_between_frames_that_stay() {
    let mut bench = Bench::new(&["c"]);
    bench.publish("c", Some("a"), 100);
    bench.publish("c", Some("b"), 100);
    bench.shard.answer(bench.key, b"\x81\x0299".to_vec());
    bench.publish("c", Some("a"), 100);
    assert_eq!(bench.read(), [1, 99, 2]);
}

#[test]
fn clients_that_stall_together_cost_one_backlog() {
    let mut bench = Bench::new(&["c"]);
    let more: Vec<Key> = (0..100).map(|_| bench.shard.add(None, None, Encoding::Plain)).collect();
    for &key in &more {
        bench.shard.set_topics(key, vec![topic("c")]);
        bench.shard.attached(key);
    }
    bench.turn();
    // Every second message is of a key of its own, so that what stays lies in pieces.
    for n in 0..2_000 {
        let key = if n % 2 == 0 { "often".to_owned() } else { (n % 1_200).to_string() };
        bench.publish("c", Some(&key), 40);
    }
    assert!(bench.total().conflated > 100 * 900, "{:?}", bench.total());
    assert_eq!(bench.total().closed_slow, 0);
    let one = 4 * BOUND + 8 * 64 * 1024;
    assert!(bench.shard.log_bytes() < one, "{} bytes for 101 of {BOUND}", bench.shard.log_bytes());
}

/// A node whose subscribers are stalled, each with a topic of its own, and so much memory.
fn many_stalled(memory_bytes: usize, names: &[String]) -> Bench {
    let mut bench = Bench::with_memory(&[&names[0]], memory_bytes);
    for name in &names[1..] {
        let key = bench.shard.add(None, None, Encoding::Plain);
        bench.shard.set_topics(key, vec![topic(name)]);
        bench.shard.attached(key);
    }
    bench.turn();
    bench
}

/// Publishes in turns to each topic. Gives the rungs in the order in which they were reached first.
fn fill(bench: &mut Bench, names: &[String], key: Option<&str>, rounds: usize) -> Vec<Rung> {
    let mut rungs = Vec::new();
    for _ in 0..rounds {
        for name in names {
            bench.publish(name, key, 1_000);
            bench.turn();
            let rung = bench.fabric.memory.rung();
            if !rungs.contains(&rung) {
                rungs.push(rung);
            }
        }
    }
    rungs
}

#[test]
fn when_memory_is_short_what_younger_ones_replace_goes_first() {
    let names: Vec<String> = (0..40).map(|n| format!("c{n}")).collect();
    let mut bench = many_stalled(1024 * 1024, &names);
    // Each queue stays below its own bound.
    let rungs = fill(&mut bench, &names, Some("a"), 50);
    assert_eq!(rungs, [Rung::Calm, Rung::Conflate]);
    let total = bench.total();
    assert!(total.conflated > 0 && total.dropped() == 0 && total.memory_conflating > 0, "{total:?}");
}

#[test]
fn when_memory_is_short_what_classes_let_go_is_dropped_and_nobody_closed() {
    let names: Vec<String> = (0..40).map(|n| format!("o{n}")).collect();
    let mut bench = many_stalled(1024 * 1024, &names);
    let rungs = fill(&mut bench, &names, None, 50);
    assert_eq!(rungs, [Rung::Calm, Rung::Conflate, Rung::Drop]);
    let total = bench.total();
    assert!(total.dropped_memory > 0 && total.dropped() == total.dropped_memory, "{total:?}");
    assert_eq!((total.closed_slow, total.memory_dropping > 0), (0, true));
}

#[test]
fn when_memory_is_short_and_nothing_may_go_those_who_hold_the_oldest_are_closed() {
    let names: Vec<String> = (0..40).map(|n| format!("d{n}")).collect();
    let mut bench = many_stalled(1024 * 1024, &names);
    let rungs = fill(&mut bench, &names, None, 40);
    assert!(!rungs.contains(&Rung::Refuse), "{rungs:?}");
    let total = bench.total();
    assert!(total.memory_closing > 0 && total.memory_refusing == 0, "{total:?}");
    assert!(total.closed_slow > 0 && total.dropped() == total.dropped_memory, "{total:?}");
    assert!(bench.fabric.memory.used() < 1024 * 1024, "{}", bench.fabric.memory.used());
}

#[test]
fn frames_begun_do_not_keep_the_memory_that_was_taken() {
    let names: Vec<String> = (0..60).map(|n| format!("o{n}")).collect();
    let mut bench = many_stalled(limits::MEMORY_BYTES, &names);
    bench.wire.begins = names.len();
    // More is queued than the logs may hold, though less than each queue may.
    fill(&mut bench, &names, None, 50);
    let total = bench.total();
    assert_eq!((total.sequenced, total.closed_slow), (50 * 60, 0), "{total:?}");
    assert_eq!(total.matched, 50 * 60, "everything was taken");
    assert!(total.dropped_memory > 0);
    assert!(bench.shard.log_bytes() < 2 * 1024 * 1024, "{}", bench.shard.log_bytes());
}

#[test]
fn frame_begun_that_is_too_old_disconnects_where_its_class_does() {
    for (name, closes) in [("d", true), ("o", false)] {
        let mut bench = Bench::new(&[name]);
        bench.wire.begins = 1;
        bench.publish(name, None, 100);
        bench.now = AGE.as_millis() as u64 + 1;
        bench.turn();
        bench.shard.drop_overdue();
        bench.turn();
        assert_eq!(bench.closed, closes, "{name}");
    }
}

#[test]
fn newest_that_cannot_be_told_apart_any_more_stays() {
    let mut bench = Bench::new(&["d", "keyed", "fresh"]);
    // What is left when the keyed ones go lies in more pieces than a queue may have.
    for _ in 0..600 {
        bench.publish("keyed", Some("a"), 3);
        bench.publish("d", None, 3);
    }
    bench.publish("fresh", None, 15_000);
    assert!(!bench.closed);
    let total = bench.total();
    assert_eq!((total.conflated, total.dropped()), (599, 0), "{total:?}");
    bench.publish("fresh", None, 1_000);
    assert_eq!(bench.total().dropped_bound, 1, "the next goes");
    assert_eq!(bench.read().len(), 602);
}

#[test]
fn messages_that_may_go_make_way_for_an_answer() {
    for (name, stays) in [("n", true), ("o", true), ("c", false), ("d", false)] {
        let mut bench = Bench::new(&[name]);
        while bench.queued() + 1_004 <= BOUND {
            bench.publish(name, None, 1_000);
        }
        bench.shard.answer(bench.key, b"\x81\x7e\x04\x00".iter().copied().chain([b'0'; 1_024]).collect());
        bench.turn();
        assert_eq!(bench.closed, !stays, "{name}");
        assert!(bench.queued() <= BOUND);
        assert!(!stays || bench.total().dropped_bound > 0);
    }
}
