//! What receipts say: where clients are stalled, frames are copied, and classes drop or conflate them.

use super::*;
use crate::{
    engine::{Answer, Resume, TopicChange},
    limits::OUTBOX_RANGES,
};

#[test]
fn receipt_tells_written_from_queued() {
    let mut node = Node::new(3);
    for shard in 0..3 {
        for _ in 0..4 {
            node.subscribe(shard, Encoding::ALL[shard % 2], &["a", "b"]);
        }
        let stuck = node.subscribe(shard, Encoding::Plain, &["b"]);
        node.wires[shard].stuck.push(stuck);
    }
    node.settle();
    let outcome = node.order(&["a", "b", "nobody"], true);
    node.settle();
    let receipt = |matched, written, queued| Receipt { matched, written, queued, ..Receipt::default() };
    assert_eq!(receipts(outcome), [receipt(12, 12, 0), receipt(3, 0, 3), Receipt::default()]);
    let outcome = node.order(&["b"], true);
    node.settle();
    assert_eq!(receipts(outcome), [receipt(15, 12, 3)]);
}

#[test]
fn receipts_follow_frames_that_are_copied_together() {
    let mut node = Node::new(1);
    let stuck = node.subscribe(0, Encoding::Plain, &["a"]);
    node.wires[0].stuck.push(stuck);
    node.subscribe(0, Encoding::Plain, &["a", "b"]);
    node.settle();
    drop(node.order(&["a"], false));
    node.settle();
    let mut outcomes = Vec::new();
    for _ in 0..2 * OUTBOX_RANGES {
        outcomes.push(node.order(&["a"], true));
        drop(node.order(&["b"], false));
    }
    while node.shards[0].sequence(64) + node.shards[0].take(64) > 0 {}
    node.settle();
    for outcome in outcomes {
        let receipt = Receipt { matched: 2, written: 1, queued: 1, ..Receipt::default() };
        assert_eq!(receipts(outcome), [receipt]);
    }
}

#[test]
fn receipt_tells_what_was_dropped_and_conflated() {
    let mut node = Node::new(1);
    let stuck = node.subscribe(0, Encoding::Plain, &["newest", "conflate", "a"]);
    node.wires[0].stuck.push(stuck);
    node.subscribe(0, Encoding::Plain, &["newest", "a"]);
    node.settle();
    let long = "x".repeat(20_000);
    let content = |key: Option<&str>| Content {
        key: key.map(|key| MessageKey::parse(key).expect("a key")),
        ..Message::text(long.clone()).into()
    };
    let counts = |node: &mut Node, topic: &str, key| {
        let outcome = node.order_content(&[topic], content(key), None, true);
        node.settle();
        let receipt = receipts(outcome)[0];
        (receipt.written, receipt.queued, receipt.dropped, receipt.conflated)
    };
    for _ in 0..3 {
        assert_eq!(counts(&mut node, "newest", None), (1, 1, 0, 0));
    }
    assert_eq!(counts(&mut node, "newest", None), (1, 0, 1, 0), "the queue is at its bound");
    node.shards[0].remove(stuck);

    let stuck = node.subscribe(0, Encoding::Plain, &["conflate"]);
    node.wires[0].stuck.push(stuck);
    node.settle();
    drop(node.order(&["conflate"], false));
    node.settle();
    let outcomes: Vec<_> =
        (0..6).map(|_| node.order_content(&["conflate"], content(Some("k")), None, true)).collect();
    while node.shards[0].sequence(64) + node.shards[0].take(64) > 0 {}
    node.settle();
    let all: Vec<_> = outcomes.into_iter().map(|outcome| receipts(outcome)[0]).collect();
    let told: Vec<_> = all.iter().map(|receipt| (receipt.queued, receipt.conflated)).collect();
    assert_eq!(told[..3], [(0, 1); 3], "{all:?}");
    assert_eq!(told[5], (1, 0), "{all:?}");

    let stuck = node.subscribe(0, Encoding::Plain, &["a"]);
    node.wires[0].stuck.push(stuck);
    node.settle();
    for _ in 0..3 {
        assert_eq!(counts(&mut node, "a", None), (1, 1, 0, 0));
    }
    assert_eq!(counts(&mut node, "a", None), (1, 0, 1, 0), "it is closed, and loses this one too");
}

#[test]
fn what_waits_behind_an_answer_that_is_not_known_yet_is_queued() {
    let mut node = Node::new(2);
    let [a, b] = one_of_each_home();
    let key = node.shards[0].add(None, None, Encoding::V1);
    node.shards[0].attached(key);
    let wanted = names(&[&a, &b]);
    let answer = Some(Answer { id: None, topics: wanted.clone() });
    assert_eq!(
        node.shards[0]
            .change_topics(key, TopicChange { wanted, resume: crate::topic::TopicMap::default(), answer }),
        Change::Pending
    );
    // Both homes have room.
    for shard in [0, 1, 0] {
        node.step(shard, 64);
    }
    node.step(0, 64);
    // One home has answered, the other has not.
    let outcome = node.order(&[&a], true);
    node.step(0, 64);
    let receipt = Receipt { matched: 1, queued: 1, ..Receipt::default() };
    assert_eq!(receipts(outcome), [receipt]);
    assert!(node.wires[0].texts(key).is_empty());
    node.settle();
    assert_eq!(node.wires[0].texts(key).len(), 2, "the answer, and the message behind it");
}

/// Asks for everything that was kept of a topic.
fn resume(shard: &mut Shard, topic: &str) -> Key {
    let key = shard.add(None, None, Encoding::Plain);
    let wanted = names(&[topic]);
    let resume = [(wanted[0].clone(), Resume::Last(1_000))].into_iter().collect();
    shard.change_topics(key, TopicChange { wanted, resume, answer: None });
    shard.attached(key);
    key
}

#[test]
fn copies_that_are_replayed_meanwhile_are_not_in_the_receipt() {
    let mut node = Node::new(1);
    let reader = node.subscribe(0, Encoding::Plain, &["kept"]);
    let stuck = node.subscribe(0, Encoding::Plain, &["kept"]);
    node.wires[0].stuck.push(stuck);
    node.settle();
    let outcome = node.order(&["kept"], true);
    // They come while the pass that writes the frame to the others is not over, and get it from the history.
    for _ in 0..4 {
        let gone = resume(&mut node.shards[0], "kept");
        node.wires[0].gone.push(gone);
        let slow = resume(&mut node.shards[0], "kept");
        node.wires[0].stuck.push(slow);
    }
    let late = resume(&mut node.shards[0], "kept");
    assert_eq!(node.shards[0].sequence(64), 10);
    assert_eq!(node.shards[0].take(64), 10);
    node.settle();
    let receipt = Receipt { matched: 2, written: 1, queued: 1, ..Receipt::default() };
    assert_eq!(receipts(outcome), [receipt]);
    assert_eq!(node.wires[0].texts(reader), ["0"]);
    assert_eq!(node.wires[0].texts(late), ["0"], "the replay");
}

/// Subscribers that come, ask for the past, stall, go on, vanish and leave, under publications that all ask for a receipt.
fn receive(seed: u64) {
    const TOPICS: [&str; 4] = ["kept", "conflate", "newest", "a"];
    let mut random = Random(seed);
    let mut node = Node::new(1 + random.below(3));
    let shards = node.shards.len();
    let mut here: Vec<(usize, Key)> = Vec::new();
    let mut outcomes = Vec::new();
    for _ in 0..400 {
        let shard = random.below(shards);
        let one = (!here.is_empty()).then(|| random.below(here.len()));
        match (random.below(16), one) {
            (0, _) => {
                let first = random.below(TOPICS.len());
                let encoding = Encoding::ALL[random.below(2)];
                here.push((shard, node.subscribe(shard, encoding, &TOPICS[first..])));
            }
            (1 | 2, _) => here.push((shard, resume(&mut node.shards[shard], "kept"))),
            (3, Some(one)) => {
                let (shard, key) = here[one];
                node.wires[shard].stuck.push(key);
            }
            (4, Some(one)) => {
                let (shard, key) = here[one];
                node.wires[shard].stuck.retain(|stuck| *stuck != key);
                node.shards[shard].writable(key);
            }
            (5, Some(one)) => {
                let (shard, key) = here.swap_remove(one);
                node.wires[shard].gone.push(key);
                node.shards[shard].writable(key);
            }
            (6, Some(one)) => {
                let (shard, key) = here.swap_remove(one);
                node.shards[shard].remove(key);
            }
            (7..=11, _) => {
                let first = random.below(TOPICS.len());
                let content = Content {
                    key: MessageKey::parse(["k", "l"][random.below(2)]).ok(),
                    ..Message::text("x".repeat(random.below(8_000))).into()
                };
                outcomes.push(node.order_content(&TOPICS[..=first], content, None, true));
            }
            _ => drop(node.step(shard, 1 + random.below(4))),
        }
    }
    node.settle();
    let matched: u64 = outcomes.into_iter().flat_map(receipts).map(|receipt| receipt.matched).sum();
    let total = node.fabric.metrics.total();
    assert_eq!(
        matched,
        total.matched - total.replayed,
        "each is in one receipt, and what is replayed in none"
    );
    let queued: u64 = node.shards.iter().map(Shard::queued_frames).sum();
    assert_eq!(total.matched, total.written + total.dropped() + total.conflated + queued, "{total:?}");
}

#[test]
fn receipts_add_up_whatever_becomes_of_the_frames() {
    for seed in 0..150 {
        if let Err(panic) = std::panic::catch_unwind(|| receive(seed)) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
