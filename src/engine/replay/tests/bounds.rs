//! What replays cost, and the bounds of that.

use std::sync::Arc;

use super::{BOUND, Bench, offsets, since, topic};
use crate::{
    engine::{Answer, Encoding, Key, Resume, Rung, TopicChange},
    limits::{REPLAY_SHARED_MS, REPLAYS_BETWEEN_PUBLICATIONS, REPLAYS_SHARED},
    publication::{Epoch, Message},
    settings::Settings,
    topic::{Topic, TopicMap},
};

#[test]
fn a_thousand_who_resume_from_anywhere_cost_one_history() {
    let mut bench = Bench::new(1_000);
    let cats = topic("cats");
    bench.publish_all(&cats, 1..=1_000, 200);
    let epoch = bench.epoch();
    let before = bench.shard.log_bytes();
    bench.wire.shut = true;
    let keys: Vec<Key> = (0..1_000).map(|_| bench.client(Encoding::V1)).collect();
    for (n, &key) in keys.iter().enumerate() {
        bench.ask(key, &[(&cats, Some(since(epoch, n as u64)))]);
        bench.run();
    }
    let history = 1_000 * 300;
    let cost = bench.shard.log_bytes() - before;
    assert!(cost < 2 * history, "{cost} bytes of log for {} bytes queued", 1_000 * history / 2);
    assert_eq!(bench.shard.queued_frames(), 1_000 * 1_001 / 2);
    bench.wire.shut = false;
    for (n, &key) in keys.iter().enumerate() {
        bench.shard.writable(key);
        bench.run();
        assert_eq!(offsets(&bench.read(key)[1..]), (n as u64 + 1..=1_000).collect::<Vec<_>>());
    }
    bench.check_books();
}

#[test]
fn those_who_resume_while_much_is_published_share_what_is_appended() {
    let mut bench = Bench::new(1_000);
    let cats = topic("cats");
    bench.publish_all(&cats, 1..=500, 200);
    let epoch = bench.epoch();
    let mut most = 0;
    let stays = bench.client(Encoding::V1);
    bench.ask(stays, &[(&cats, None)]);
    for n in 501..=700 {
        let key = bench.client(Encoding::V1);
        let told = bench.resume(key, &cats, since(epoch, 0));
        assert_eq!(told.len() as u64, n);
        bench.shard.remove(key);
        most = most.max(bench.shard.log_bytes());
        bench.publish_all(&cats, n..=n, 200);
    }
    assert!(most < 1_000_000, "{most} bytes of log");
    bench.now += REPLAY_SHARED_MS;
    bench.run();
    assert!(bench.shard.replays.0.is_empty());
    assert!(bench.shard.log_bytes() < 600_000, "{} bytes of log", bench.shard.log_bytes());
}

#[test]
fn shared_replays_are_bounded_and_let_go_of() {
    let mut bench = Bench::new(10);
    let topics: Vec<Topic> = (0..2 * REPLAYS_SHARED).map(|n| topic(&format!("t{n}"))).collect();
    topics.iter().for_each(|topic| bench.publish_all(topic, 1..=2, 4));
    for topic in &topics {
        let key = bench.client(Encoding::V1);
        let told = bench.resume(key, topic, Resume::Last(5));
        assert_eq!(offsets(&told[1..]), [1, 2]);
    }
    assert_eq!(bench.shard.replays.0.len(), REPLAYS_SHARED);
    bench.now += REPLAY_SHARED_MS - 1;
    bench.run();
    assert_eq!(bench.shard.replays.0.len(), REPLAYS_SHARED);
    bench.now += 1;
    bench.run();
    assert_eq!(bench.shard.replays.0.len(), 0);
}

#[test]
fn shared_replays_are_the_first_to_go_when_memory_is_needed() {
    let mut bench = Bench::with(1_000, Settings { log_bytes: 600_000, ..Settings::default() });
    let cats = topic("cats");
    bench.publish_all(&cats, 1..=500, 1_000);
    let key = bench.client(Encoding::V1);
    let told = bench.resume(key, &cats, Resume::Last(1_000));
    assert!(told.len() > 350, "{}", told.len());
    let other = bench.client(Encoding::Plain);
    let resume = [(cats.clone(), Resume::Last(1_000))].into_iter().collect();
    bench.shard.change_topics(other, TopicChange { wanted: [cats].into(), resume, answer: None });
    bench.run();
    assert!(bench.shard.log_bytes() > 600_000);
    bench.run();
    assert!(bench.shard.replays.0.is_empty() && bench.shard.log_bytes() < 600_000);
    bench.check_books();
}

#[test]
fn replay_leaves_room_for_what_comes_and_tells_what_did_not_fit() {
    let mut bench = Bench::new(10_000);
    let cats = topic("cats");
    // What must be escaped needs more room than its history allowed for.
    let text = "\"".repeat(2_000);
    for _ in 0..200 {
        bench.publish(&cats, Message::text(text.clone()));
        bench.run();
    }
    let epoch = bench.epoch();
    bench.wire.shut = true;
    let key = bench.client(Encoding::V1);
    bench.ask(key, &[(&cats, Some(since(epoch, 0)))]);
    bench.run();
    let queued = bench.shard.queued_bytes(key);
    assert!((BOUND / 2 - 5_000..BOUND / 2 + 1_000).contains(&queued), "{queued} bytes are queued");
    bench.publish(&cats, Message::text("live"));
    bench.run();
    assert!(bench.closed.is_empty(), "a replay makes no slow consumer");
    bench.wire.shut = false;
    bench.shard.writable(key);
    bench.run();
    let told = bench.read(key);
    assert_eq!(told[0]["positions"]["cats"]["recovered"], false);
    let gap = &told[1]["gap"];
    let replayed = offsets(&told[2..]);
    assert_eq!((&gap["reason"], &gap["from"]), (&"history".into(), &1.into()));
    assert_eq!((gap["to"].as_u64(), gap["dropped"].as_u64()), (Some(replayed[0] - 1), Some(replayed[0] - 1)));
    assert_eq!(replayed, (replayed[0]..=201).collect::<Vec<_>>());
}

#[test]
fn many_topics_at_once_make_no_slow_consumer_either() {
    let mut bench = Bench::new(10_000);
    let topics: Vec<Topic> = (0..4).map(|n| topic(&format!("t{n}"))).collect();
    topics.iter().for_each(|topic| bench.publish_all(topic, 1..=200, 2_000));
    let epochs: Vec<Epoch> = bench
        .answers
        .iter_mut()
        .step_by(200)
        .map(|answer| answer.try_recv().expect("it is sequenced").expect("there is room").epoch)
        .collect();
    bench.wire.shut = true;
    let key = bench.client(Encoding::V1);
    let wanted: Vec<_> =
        topics.iter().zip(&epochs).map(|(topic, &epoch)| (topic, Some(since(epoch, 0)))).collect();
    bench.ask(key, &wanted);
    bench.run();
    let queued = bench.shard.queued_bytes(key);
    assert!((BOUND / 4 * 3 - 5_000..BOUND / 4 * 3 + 2_000).contains(&queued), "{queued} bytes are queued");
    bench.wire.shut = false;
    bench.shard.writable(key);
    bench.run();
    let told = bench.read(key);
    for topic in &topics {
        let name = topic.as_str();
        let came = told.iter().filter(|told| told["topic"] == name).count() as u64;
        let gap = told.iter().find(|told| told["gap"]["topic"] == name);
        let dropped = gap.map_or(0, |gap| gap["gap"]["dropped"].as_u64().expect("a number"));
        assert_eq!(came + dropped, 200, "{name}");
        assert_eq!(told[0]["positions"][name]["recovered"], dropped == 0);
    }
}

#[test]
fn large_messages_are_replayed_without_a_copy_for_each() {
    let mut bench = Bench::new(10);
    let cats = topic("cats");
    bench.publish_all(&cats, 1..=10, 40_000);
    bench.wire.shut = true;
    let before = bench.shard.log_bytes();
    let keys: Vec<Key> = (0..50).map(|_| bench.client(Encoding::V1)).collect();
    keys.iter().for_each(|&key| bench.ask(key, &[(&cats, Some(Resume::Last(10)))]));
    bench.run();
    assert!(bench.shard.log_bytes() - before < 600_000, "{} bytes", bench.shard.log_bytes() - before);
    bench.wire.shut = false;
    for key in keys {
        bench.shard.writable(key);
        bench.run();
        assert_eq!(offsets(&bench.read(key)[1..]), (1..=10).collect::<Vec<_>>());
    }
    bench.check_books();
}

#[test]
fn storm_of_resumes_lets_live_traffic_through() {
    let mut bench = Bench::new(10);
    let cats = topic("cats");
    bench.publish_all(&cats, 1..=3, 4);
    for _ in 0..2 * REPLAYS_BETWEEN_PUBLICATIONS + 10 {
        let key = bench.client(Encoding::V1);
        bench.ask(key, &[(&cats, Some(Resume::Last(3)))]);
    }
    bench.publish(&cats, Message::text("one"));
    bench.publish(&cats, Message::text("two"));
    for n in 3..5 {
        bench.shard.sequence(REPLAYS_BETWEEN_PUBLICATIONS);
        assert!(bench.answers[n].try_recv().is_err(), "so many may come before it");
        bench.shard.sequence(1);
        assert!(bench.answers[n].try_recv().is_ok(), "then it is its turn");
    }
    assert!(bench.shard.has_work(), "some still wait, and nothing else");
    bench.run();
    assert_eq!(bench.wire.taken.len(), 2 * REPLAYS_BETWEEN_PUBLICATIONS + 10);
}

#[test]
fn whoever_reads_nothing_and_goes_on_asking_is_closed_at_its_bound() {
    let mut bench = Bench::new(100);
    let topics: Arc<[Topic]> = (0..100).map(|n| topic(&format!("t{n}-{}", "x".repeat(150)))).collect();
    bench.wire.shut = true;
    let key = bench.client(Encoding::V1);
    let mut most = 0;
    for n in 0..200 {
        let (wanted, answer) = match n % 2 {
            0 => (topics.clone(), Answer { id: None, topics: topics.clone() }),
            _ => (Arc::from([]), Answer { id: None, topics: Arc::from([]) }),
        };
        let change = TopicChange { wanted, resume: TopicMap::default(), answer: Some(answer) };
        bench.shard.change_topics(key, change);
        bench.run();
        most = most.max(bench.shard.queued_bytes(key));
    }
    assert!(bench.closed.contains(&key) && most <= BOUND, "{most} bytes were queued");
}

#[test]
fn when_memory_is_short_histories_let_go_of_what_is_old_before_anybody_is_closed() {
    let mut bench = Bench::with(10_000, Settings { memory_bytes: 4 << 20, ..Settings::default() });
    let topics: Vec<Topic> = (0..40).map(|n| topic(&format!("t{n}"))).collect();
    bench.wire.shut = true;
    let key = bench.client(Encoding::V1);
    bench.ask(key, &[(&topics[0], None)]);
    bench.run();
    let mut most = Rung::Calm;
    for n in 1..=200 {
        for topic in &topics {
            bench.publish_all(topic, n..=n, 2_000);
            bench.now += 1;
            most = most.max(bench.fabric.memory.rung());
        }
    }
    assert_eq!(most, Rung::Drop);
    assert!(bench.closed.is_empty() && bench.shard.home.history_bytes() > 1 << 20);
    let other = bench.client(Encoding::V1);
    bench.wire.shut = false;
    let told = bench.resume(other, &topics[7], Resume::Last(1));
    assert_eq!(offsets(&told[1..]), [200], "what is youngest stays");
}
