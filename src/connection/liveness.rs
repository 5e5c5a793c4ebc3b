//! Pings and the judgement of silence: one clock for all connections of a shard.
//!
//! Time is cut in slots of 100 ms; a connection is pinged in the slot its index gives it, once an interval, so pings
//! spread over the interval without a timer each. `pong_timeout` later the slot is judged: whoever gave no sign of
//! life since its ping (no byte read, none taken by the kernel after a would-block) is closed.

use std::time::Duration;

/// Length of a slot, milliseconds.
pub(super) const SLOT_MS: u64 = 100;

/// The clock.
#[derive(Debug)]
pub(super) struct Liveness {
    /// Slots in an interval; 0: no pings.
    slots: u64,
    /// Slots from a ping to its judgement.
    patience: u64,
    /// The next slot, counted from the beginning.
    next: u64,
}

/// A slot that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Connections of these indexes are to be pinged: `first`, `first + step`, …
    pub(super) ping: u32,
    /// Connections of these indexes are to be judged, likewise, if the clock has run for long enough.
    pub(super) judge: Option<u32>,
    pub(super) step: u32,
}

impl Liveness {
    pub(super) fn new(interval: Duration, timeout: Duration) -> Self {
        let slots = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).div_ceil(SLOT_MS);
        let slots_of_interval = slots(interval).min(u32::MAX.into());
        Self { slots: slots_of_interval, patience: slots(timeout), next: 0 }
    }

    /// The next slot, if it has come by `now`, in milliseconds since the shard began.
    pub(super) fn next_slot(&mut self, now: u64) -> Option<Slot> {
        if self.slots == 0 {
            return None;
        }
        let current = now / SLOT_MS;
        if self.next > current {
            return None;
        }
        // After a long pause each slot comes once, not as often as it was missed.
        self.next = self.next.max((current + 1).saturating_sub(self.slots));
        let slot = self.next;
        self.next += 1;
        let judge = slot.checked_sub(self.patience).map(|judged| (judged % self.slots) as u32);
        Some(Slot { ping: (slot % self.slots) as u32, judge, step: self.slots as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_is_pinged_once_an_interval_and_judged_after_the_timeout() {
        let mut clock = Liveness::new(Duration::from_secs(1), Duration::from_millis(300));
        let (mut pinged, mut judged) = (Vec::new(), Vec::new());
        for now in (0..3_000).step_by(10) {
            while let Some(slot) = clock.next_slot(now) {
                assert_eq!(slot.step, 10);
                pinged.push((slot.ping, now));
                judged.extend(slot.judge.map(|judge| (judge, now)));
            }
        }
        assert_eq!(pinged.len(), 30);
        for (index, at) in judged {
            assert!(pinged.contains(&(index, at - 300)), "{index} judged at {at}");
        }
    }

    #[test]
    fn pause_is_caught_up_once() {
        let mut clock = Liveness::new(Duration::from_secs(1), Duration::from_millis(300));
        let slots = std::iter::from_fn(|| clock.next_slot(1_000_000)).count();
        assert_eq!(slots, 10);
        assert_eq!(clock.next_slot(1_000_099), None);
        assert!(clock.next_slot(1_000_100).is_some());
    }

    #[test]
    fn no_interval_means_no_pings() {
        let mut clock = Liveness::new(Duration::ZERO, Duration::from_secs(1));
        assert_eq!(clock.next_slot(1_000_000), None);
    }
}
