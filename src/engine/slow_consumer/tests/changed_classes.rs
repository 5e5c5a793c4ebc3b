//! What becomes of a queue when the class of what is in it changes.

use super::*;

#[test]
fn what_waits_is_judged_by_the_class_that_its_topic_has_now() {
    let only = |policy| {
        let class = Class { policy, ..Class::default_with(BOUND, AGE) };
        let classes = Arc::new(Classes::only(class));
        Settings { shards: 1, outbox_bytes: BOUND, classes, ..Settings::default() }
    };
    let mut bench = Bench::new(&["n"]);
    bench.publish_many(20, "n", None, 4_096);
    assert!(!bench.closed && bench.total().dropped_bound > 0, "the newest are dropped");
    bench.shard.change_classes(&only(Policy::Disconnect));
    bench.publish("n", None, 4_096);
    assert!(bench.closed, "it is over the bound of a class that lets nothing go");

    let mut bench = Bench::new(&["d"]);
    bench.publish_many(15, "d", None, 4_096);
    bench.shard.change_classes(&only(Policy::DropOldest));
    bench.publish_many(5, "d", None, 4_096);
    assert!(!bench.closed && bench.total().dropped_bound > 0, "the oldest are dropped, queued before too");
}
