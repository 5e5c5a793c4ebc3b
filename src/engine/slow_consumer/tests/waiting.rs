//! What comes of subscribers at whose queue nobody looked for a while.

use super::*;

#[test]
fn what_may_go_and_came_while_nobody_looked_goes_before_the_newest() {
    let mut bench = Bench::new(&["n", "o"]);
    bench.publish_many(100, "n", None, 1_000);
    let index = bench.key.index;
    bench.shard.hold(index);
    bench.publish_many(10, "o", None, 1_000);
    assert!(bench.queued() > BOUND);
    bench.shard.release(index);
    bench.publish("n", None, 1_000);
    assert_eq!(bench.shard.topic_ledger(&topic("o")).expect("it is known").dropped_bound, 10);
}
