//! How memory is relieved by a shard that turns only when it has work: nobody else wakes it.

use super::*;
use crate::limits::{LOG_BYTES, MEMORY_TURN_BYTES, SEGMENT_BYTES};

const BUDGET: usize = 4 * 1024 * 1024;

/// What was seen while a shard went on by itself.
#[derive(Debug, Default)]
struct Seen {
    turns: usize,
    most: usize,
    /// Turns until publishers would have been refused, and until somebody was closed.
    refused: Option<usize>,
    closed: Option<usize>,
}

impl Bench {
    /// Queues a publication that the shard comes to by itself.
    fn hand_in(&mut self, name: &str, len: usize) {
        let content =
            Content { message: Message::text("x".repeat(len)), audience: Audience::default(), key: None };
        let credits = self.admission.try_admit(len).expect("little is under way");
        let publication = Publication { topic: topic(name), content, credits };
        let (reply, _) = oneshot::channel();
        self.fabric.mailboxes.to_home(0, Ingress::Publish(Box::new(publication), reply));
        self.sent += 1;
    }

    /// Turns as the driver does: only while there is work. The clock stands still.
    fn go_on(&mut self) -> Seen {
        let mut seen = Seen::default();
        while self.shard.has_work() {
            seen.turns += 1;
            assert!(seen.turns < 10_000, "it comes to rest: {seen:?}");
            self.shard.begin_turn(self.now);
            self.shard.sockets_looked_at();
            while self.shard.sequence(256) + self.shard.take(64) + self.shard.flush(&mut self.wire, 32) > 0 {}
            while self.shard.next_event().is_some() {}
            self.shard.tell_held();
            seen.most = seen.most.max(self.fabric.memory.used());
            if self.fabric.memory.rung() == Rung::Refuse {
                seen.refused.get_or_insert(seen.turns);
            }
            if self.total().closed_slow > 0 {
                seen.closed.get_or_insert(seen.turns);
            }
        }
        let total = self.total();
        let accounted = total.written + total.dropped() + total.conflated + self.shard.queued_frames();
        assert_eq!(total.matched, accounted, "I8: {total:?}");
        seen
    }
}

/// Clients that stall, each with a topic of its own, on a shard whose logs have no bound but the budget.
fn stalled(names: &[String]) -> Bench {
    let mut bench = many_stalled(BUDGET, names);
    bench.shard.fabric.bounds.log_bytes = LOG_BYTES;
    bench
}

#[test]
fn shard_that_nobody_wakes_closes_the_slow_until_publishers_are_served_again() {
    for len in [1_000, 4_000, 15_000] {
        // Each queue stays below its own bound.
        let names: Vec<String> = (0..400).map(|n| format!("d{n}")).collect();
        let mut bench = stalled(&names);
        let publications = BUDGET * 3 / 2 / len;
        (0..publications).for_each(|n| bench.hand_in(&names[n % names.len()], len));
        let seen = bench.go_on();
        assert!(bench.fabric.memory.rung() < Rung::Close, "{len}: {seen:?}");
        assert!(
            bench.total().closed_slow > 0 && bench.total().dropped_bound == 0,
            "{len}: {:?}",
            bench.total()
        );
        let at_most = BUDGET + MEMORY_TURN_BYTES + SEGMENT_BYTES;
        assert!(seen.most <= at_most, "{len}: {seen:?}");
        let refused = seen.refused.unwrap_or(usize::MAX);
        assert!(seen.closed.is_some_and(|closed| closed <= refused + 1), "{len}: {seen:?}");
    }
}

#[test]
fn shard_that_nobody_wakes_drops_where_classes_let_go_and_closes_nobody() {
    let names: Vec<String> = (0..400).map(|n| format!("o{n}")).collect();
    let mut bench = stalled(&names);
    (0..6_000).for_each(|n| bench.hand_in(&names[n % names.len()], 1_000));
    let seen = bench.go_on();
    assert!(bench.fabric.memory.rung() < Rung::Close, "{seen:?}");
    let total = bench.total();
    assert!(total.dropped_memory > 0 && total.closed_slow == 0, "{total:?}");
}
