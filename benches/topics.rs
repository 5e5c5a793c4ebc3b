//! A subscriber's change of topics, from `set_topics` through the home and back to the join point, by how many members
//! the topics have.
//!
//! `join_and_leave`: one subscriber takes one topic more and gives it up again. `replace`: it changes one topic for
//! another, keeping a third. `storm`: a thousand subscribers come into the topic and leave it again.

#[expect(dead_code, reason = "nothing is published here")]
mod memory_shard;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use fanfare::topic::Topic;
use memory_shard::MemoryShard;

const SIZES: [(usize, &str); 3] = [(1, "1_member"), (1_000, "1k_members"), (100_000, "100k_members")];
const STORM: usize = 1_000;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .configure_from_args();
    one_subscriber(&mut criterion, "topics/join_and_leave", &[&[0, 1], &[0]]);
    one_subscriber(&mut criterion, "topics/replace", &[&[0, 1], &[0, 2]]);
    storm(&mut criterion);
    criterion.final_summary();
}

/// One subscriber, in the middle of those who have the topics already, goes through `changes` by turns.
fn one_subscriber(criterion: &mut Criterion, name: &str, changes: &[&[usize]]) {
    let mut group = criterion.benchmark_group(name);
    let all = topics(3);
    let changes: Vec<Vec<Topic>> =
        changes.iter().map(|change| change.iter().map(|&n| all[n].clone()).collect()).collect();
    for (members, label) in SIZES {
        let mut made = None;
        group.throughput(Throughput::Elements(changes.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(label), |bencher| {
            let (shard, key) = made.get_or_insert_with(|| {
                let shard = MemoryShard::new(members + 1, &all);
                let key = shard.keys[members / 2];
                (shard, key)
            });
            bencher.iter(|| {
                for change in &changes {
                    shard.set_topics(&[*key], change);
                }
            });
        });
    }
    group.finish();
}

fn storm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("topics/storm_of_1k");
    let topics = topics(1);
    for (members, label) in SIZES {
        let mut made = None;
        group.throughput(Throughput::Elements(STORM as u64));
        group.bench_function(BenchmarkId::from_parameter(label), |bencher| {
            let (shard, keys) = made.get_or_insert_with(|| {
                let mut shard = MemoryShard::new(members + STORM, &topics);
                memory_shard::shuffle(&mut shard.keys);
                let keys = shard.keys[..STORM].to_vec();
                shard.set_topics(&keys, &[]);
                (shard, keys)
            });
            bencher.iter(|| {
                shard.set_topics(keys, &topics);
                shard.set_topics(keys, &[]);
            });
        });
    }
    group.finish();
}

fn topics(n: usize) -> Vec<Topic> {
    (0..n).map(|n| Topic::parse(&format!("cats/{n}")).expect("it is a topic")).collect()
}
