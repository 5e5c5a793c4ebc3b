//! From a publication at its home to bytes at every subscriber: `fanout/<topics>[/after churn, burst]/<subscribers>`.
//!
//! Throughput is in subscribers × publications. Beside the engine, in the same run: the `Mutex<HashMap>` of clients that
//! tutorials teach, and `tokio::sync::broadcast`. Both are spared what they would pay to wake a task a receiver; here
//! one loop drains all receivers.

#[allow(dead_code, reason = "benches use different parts of it")]
mod memory_shard;

use std::{collections::HashMap, hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use fanfare::{identity::ClientId, publication::Message, topic::Topic};
use memory_shard::MemoryShard;
use tokio::sync::{broadcast, mpsc};

const SIZES: [(usize, &str); 3] =
    [(1_000, "1k_subscribers"), (100_000, "100k_subscribers"), (1_000_000, "1M_subscribers")];
const BURST: usize = 32;
const MESSAGE_BYTES: usize = 128;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(20)
        .configure_from_args();
    engine(&mut criterion, "fanout/1_topic", 1, MemoryShard::new);
    engine(&mut criterion, "fanout/1_topic_after_churn", 1, MemoryShard::churned);
    engine(&mut criterion, "fanout/1_topic_burst_of_32", BURST, MemoryShard::new);
    engine(&mut criterion, "fanout/1_topic_after_churn_burst_of_32", BURST, MemoryShard::churned);
    engine_interleaved(&mut criterion);
    mutex_hashmap(&mut criterion, "fanout/mutex_hashmap", 1);
    mutex_hashmap(&mut criterion, "fanout/mutex_hashmap_burst_of_32", BURST);
    tokio_broadcast(&mut criterion, "fanout/tokio_broadcast", 1);
    tokio_broadcast(&mut criterion, "fanout/tokio_broadcast_burst_of_32", BURST);
    criterion.final_summary();
}

/// Runs `pass` for each number of subscribers up to `most`, on what `make` makes of it.
fn by_size<T>(
    criterion: &mut Criterion,
    name: &str,
    most: usize,
    publications: usize,
    make: impl Fn(usize) -> T,
    pass: impl Fn(&mut T),
) {
    let mut group: BenchmarkGroup<'_, WallTime> = criterion.benchmark_group(name);
    for (subscribers, label) in SIZES.into_iter().filter(|&(subscribers, _)| subscribers <= most) {
        group.throughput(Throughput::Elements((subscribers * publications) as u64));
        // Made when it is first needed, so that a filtered run builds nothing in vain.
        let mut made = None;
        group.bench_function(BenchmarkId::from_parameter(label), |bencher| {
            let made = made.get_or_insert_with(|| make(subscribers));
            bencher.iter(|| pass(made));
        });
    }
    group.finish();
}

fn engine(
    criterion: &mut Criterion,
    name: &str,
    publications: usize,
    make: impl Fn(usize, &[Topic]) -> MemoryShard,
) {
    let topics = topics(1);
    let message = message();
    let pass = |all: &mut MemoryShard| {
        for _ in 0..publications {
            all.publish(&topics[0], &message);
        }
        all.run();
        let flushed = all.flush();
        debug_assert_eq!(flushed, all.keys.len());
    };
    by_size(criterion, name, usize::MAX, publications, |subscribers| make(subscribers, &topics), pass);
}

/// Publications to eight topics by turns, which everyone has: ranges are stretched, not made.
fn engine_interleaved(criterion: &mut Criterion) {
    let topics = topics(8);
    let message = message();
    let pass = |all: &mut MemoryShard| {
        for n in 0..BURST {
            all.publish(&topics[n % topics.len()], &message);
        }
        all.run();
        all.flush();
    };
    let make = |subscribers| MemoryShard::new(subscribers, &topics);
    by_size(criterion, "fanout/8_topics_interleaved_burst_of_32", 100_000, BURST, make, pass);
}

/// A client as tutorials have it.
struct Client {
    topics: Vec<String>,
    sender: mpsc::UnboundedSender<Result<String, ()>>,
}

#[expect(clippy::disallowed_types, reason = "it is what is compared with")]
struct Tutorial {
    clients: std::sync::Mutex<HashMap<ClientId, Client>>,
    receivers: Vec<mpsc::UnboundedReceiver<Result<String, ()>>>,
}

impl Tutorial {
    #[expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "it is what is compared with")]
    fn new(subscribers: usize) -> Self {
        let mut clients = HashMap::new();
        let mut receivers = Vec::new();
        for _ in 0..subscribers {
            let (sender, receiver) = mpsc::unbounded_channel();
            clients.insert(ClientId::random(), Client { topics: vec!["cats".into()], sender });
            receivers.push(receiver);
        }
        Self { clients: std::sync::Mutex::new(clients), receivers }
    }

    fn publish(&self, topic: &str, message: &str) {
        let clients = self.clients.lock().expect("nobody panics with it");
        for client in clients.values().filter(|client| client.topics.iter().any(|has| has == topic)) {
            let _gone = client.sender.send(Ok(message.to_owned()));
        }
    }

    fn drain(&mut self) {
        for receiver in &mut self.receivers {
            while let Ok(message) = receiver.try_recv() {
                black_box(message.expect("none was sent as an error").len());
            }
        }
    }
}

fn mutex_hashmap(criterion: &mut Criterion, name: &str, publications: usize) {
    let message = "x".repeat(MESSAGE_BYTES);
    let pass = |tutorial: &mut Tutorial| {
        for _ in 0..publications {
            tutorial.publish(black_box("cats"), black_box(&message));
        }
        tutorial.drain();
    };
    by_size(criterion, name, 100_000, publications, Tutorial::new, pass);
}

fn tokio_broadcast(criterion: &mut Criterion, name: &str, publications: usize) {
    let message = Bytes::from("x".repeat(MESSAGE_BYTES));
    let make = |subscribers| {
        let (sender, _) = broadcast::channel::<Bytes>(BURST);
        let receivers: Vec<_> = (0..subscribers).map(|_| sender.subscribe()).collect();
        (sender, receivers)
    };
    let pass = |(sender, receivers): &mut (broadcast::Sender<Bytes>, Vec<broadcast::Receiver<Bytes>>)| {
        for _ in 0..publications {
            sender.send(message.clone()).expect("there are receivers");
        }
        for receiver in receivers {
            while let Ok(message) = receiver.try_recv() {
                black_box(message.len());
            }
        }
    };
    by_size(criterion, name, usize::MAX, publications, make, pass);
}

fn topics(n: usize) -> Vec<Topic> {
    (0..n).map(|n| Topic::parse(&format!("cats/{n}")).expect("it is a topic")).collect()
}

fn message() -> Message {
    Message::text("x".repeat(MESSAGE_BYTES))
}
