//! Pings and the judgement of silence: one clock for all connections of a shard.
//!
//! A connection is pinged in the slot its index gives it, once an interval (`slots.rs`). `pong_timeout` after a group was pinged it is judged: whoever gave no
//! sign of life since (no byte read, none taken by the kernel after a would-block) is closed. The time counts from when
//! the ping really left, so that a pause of the whole process is not taken for the silence of its clients.

use std::{collections::VecDeque, time::Duration};

use super::slots::{Group, Slots};
use crate::units::milliseconds;

/// The clock.
#[derive(Debug)]
pub(super) struct Liveness {
    /// The interval; none: no pings.
    slots: Slots,
    /// Time from a ping to its judgement, milliseconds.
    timeout_ms: u64,
    /// Groups that were pinged and not judged, with the time of the ping. The timeout is shorter than the interval, so
    /// there is at most about one for each slot of an interval.
    pinged: VecDeque<(u64, Group)>,
}

impl Liveness {
    pub(super) fn new(interval: Duration, timeout: Duration) -> Self {
        Self {
            slots: Slots::new(milliseconds(interval)),
            timeout_ms: milliseconds(timeout),
            pinged: VecDeque::new(),
        }
    }

    /// The next group to be judged, if there is one by `now`, in milliseconds since the shard began. To be asked
    /// before [`Self::next_to_ping`]: a group may be due for both.
    pub(super) fn next_to_judge(&mut self, now: u64) -> Option<Group> {
        let &(at, group) = self.pinged.front()?;
        if now.saturating_sub(at) < self.timeout_ms {
            return None;
        }
        self.pinged.pop_front();
        Some(group)
    }

    /// The next group to be pinged, if its slot has come by `now`.
    pub(super) fn next_to_ping(&mut self, now: u64) -> Option<Group> {
        let group = self.slots.next(now)?;
        self.pinged.push_back((now, group));
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a clock has done by `now`: the first indexes of the groups judged, and of those pinged.
    fn advance(clock: &mut Liveness, now: u64) -> (Vec<u32>, Vec<u32>) {
        let judged = std::iter::from_fn(|| clock.next_to_judge(now)).map(|group| group.first).collect();
        let pinged = std::iter::from_fn(|| clock.next_to_ping(now)).map(|group| group.first).collect();
        (judged, pinged)
    }

    #[test]
    fn every_index_is_pinged_once_an_interval_and_judged_after_the_timeout() {
        let mut clock = Liveness::new(Duration::from_secs(1), Duration::from_millis(300));
        let (mut pinged, mut judged) = (Vec::new(), Vec::new());
        for now in (0..3_000).step_by(10) {
            let (to_judge, to_ping) = advance(&mut clock, now);
            judged.extend(to_judge.into_iter().map(|first| (first, now)));
            pinged.extend(to_ping.into_iter().map(|first| (first, now)));
        }
        assert_eq!((pinged.len(), judged.len()), (30, 27));
        for (first, at) in judged {
            assert!(pinged.contains(&(first, at - 300)), "{first} judged at {at}");
        }
    }

    #[test]
    fn pause_is_caught_up_once() {
        let mut clock = Liveness::new(Duration::from_secs(1), Duration::from_millis(300));
        assert_eq!(advance(&mut clock, 1_000_000).1.len(), 10);
        assert_eq!(clock.next_to_ping(1_000_099), None);
        assert!(clock.next_to_ping(1_000_100).is_some());
    }

    #[test]
    fn who_is_pinged_late_has_the_whole_timeout_all_the_same() {
        let mut clock = Liveness::new(Duration::from_secs(2), Duration::from_secs(1));
        for now in (0..5_000).step_by(100) {
            advance(&mut clock, now);
        }
        let (_, late) = advance(&mut clock, 60_000);
        assert_eq!(late.len(), 20);
        for now in (60_000..61_000).step_by(100) {
            assert!(advance(&mut clock, now).0.is_empty(), "judged for the pause at {now}");
        }
        assert_eq!(advance(&mut clock, 61_000).0[..20], late);
    }

    #[test]
    fn nobody_is_judged_right_after_the_ping_however_long_the_timeout() {
        for (interval, timeout) in [(1_000, 999), (1_000, 901), (150, 149), (100, 10)] {
            let mut clock = Liveness::new(Duration::from_millis(interval), Duration::from_millis(timeout));
            let mut pinged_at = std::collections::HashMap::new();
            for now in (0..5_000).step_by(10) {
                let (judged, pinged) = advance(&mut clock, now);
                for first in judged {
                    let waited = now - pinged_at[&first];
                    assert!(waited >= timeout, "{interval}/{timeout}: judged after {waited} ms");
                }
                pinged_at.extend(pinged.into_iter().map(|first| (first, now)));
            }
        }
    }

    #[test]
    fn no_interval_means_no_pings() {
        let mut clock = Liveness::new(Duration::ZERO, Duration::from_secs(1));
        assert_eq!(advance(&mut clock, 1_000_000), (vec![], vec![]));
    }
}
