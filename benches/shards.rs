//! Two shards on two threads against one on one, without sockets: `shards/<what>`.
//!
//! Every shard has the same number of subscribers of the same two topics. Publications go to them by turns and each
//! shard takes one a pass, so that nothing is coalesced. Beside `one` and `two` of one node stand `two_nodes` that share nothing: what the machine gives two
//! threads at best. On cores that are shared with others, or with each other, that is less than twice.
//!
//! Throughput is in deliveries, of all shards together; `two` over `one` is the figure, or `two` over `two_nodes`.

#[allow(dead_code, reason = "benches use different parts of it")]
mod memory_shard;

use std::{
    hint::{black_box, spin_loop},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput};
use fanfare::{publication::Message, topic::Topic};
use memory_shard::{MemoryNode, MemoryShard};

const SUBSCRIBERS: usize = 50_000;
/// Publications between two looks at the clock.
const PUBLICATIONS: u64 = 64;
/// Publications under way.
const AHEAD: u64 = 8;
const MESSAGE_BYTES: usize = 128;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .sample_size(20)
        .configure_from_args();
    bench(&mut criterion, "one", &[1]);
    bench(&mut criterion, "two", &[2]);
    bench(&mut criterion, "two_nodes", &[1, 1]);
    criterion.final_summary();
}

/// Two topics at home in the same of two shards: so they arrive by turns at the other too.
fn topics() -> [Topic; 2] {
    let mut all = (0..).map(|n| Topic::parse(&format!("cats/{n}")).expect("it is a topic"));
    let first = all.next().expect("there is no end");
    let second = all.find(|topic| topic.home(2) == first.home(2)).expect("half of all are");
    [first, second]
}

/// Nodes of so many shards each.
fn bench(criterion: &mut Criterion, name: &str, nodes: &[usize]) {
    let topics = topics();
    let shards: usize = nodes.iter().sum();
    let mut group = criterion.benchmark_group("shards");
    group.throughput(Throughput::Elements((SUBSCRIBERS * shards) as u64 * PUBLICATIONS));
    let mut made = None;
    group.bench_function(name, |bencher| {
        let made = made.get_or_insert_with(|| {
            let node = |&shards: &usize| MemoryNode::new(shards, SUBSCRIBERS, &topics);
            nodes.iter().map(node).collect::<Vec<_>>()
        });
        bencher.iter_custom(|rounds| run(made, &topics, rounds * PUBLICATIONS));
    });
    group.finish();
}

/// Has every shard of every node deliver as many publications, each on a thread of its own.
fn run(nodes: &mut [MemoryNode], topics: &[Topic; 2], publications: u64) -> Duration {
    let threads = nodes.iter().map(|node| node.shards.len()).sum::<usize>();
    let start = &Barrier::new(threads + 1);
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for node in nodes {
            for (number, shard) in node.shards.iter_mut().enumerate() {
                workers.push(scope.spawn(move || {
                    start.wait();
                    deliver(shard, (number == 0).then_some(topics), publications);
                    Instant::now()
                }));
            }
        }
        start.wait();
        let started = Instant::now();
        let ends = workers.into_iter().map(|worker| worker.join().expect("it does not panic"));
        ends.max().map_or(Duration::ZERO, |end| end.saturating_duration_since(started))
    })
}

/// Takes and flushes one publication after the other; the one that `publishes` also makes them, a little ahead of
/// itself, so that a shard does not wait for the other's pass.
fn deliver(shard: &mut MemoryShard, publishes: Option<&[Topic; 2]>, publications: u64) {
    let message = Message::text("x".repeat(MESSAGE_BYTES));
    let mut published = 0;
    let mut delivered = 0;
    while delivered < publications {
        if let Some(topics) = publishes
            && published < publications
            && published < delivered + AHEAD
        {
            shard.publish(&topics[published as usize % 2], &message);
            published += 1;
        }
        let taken = shard.run_one();
        if taken == 0 {
            spin_loop();
            continue;
        }
        shard.flush();
        delivered += taken;
    }
    black_box(shard.sink.bytes);
}
