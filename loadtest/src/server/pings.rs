//! When a bare loop pings whom: the same spread as a careful server's, one group of peers in each slot of 100 ms, so
//! that everybody is pinged once an interval and never all at once. Used by the floor server; time is an argument.

use std::time::{Duration, Instant};

/// A ping without a payload (RFC 6455 section 5.5.2).
pub(super) const PING: [u8; 2] = [0x89, 0];
/// Length of a slot.
const SLOT: Duration = Duration::from_millis(100);

/// The clock of one server.
#[derive(Debug)]
pub(super) struct Pings {
    begun: Instant,
    /// Slots in an interval, at least one.
    slots: u64,
    /// The next slot, counted from `begun`.
    next: u64,
}

impl Pings {
    /// Pings everybody once in `every`, rounded up to whole slots.
    pub(super) fn new(every: Duration, now: Instant) -> Self {
        let slots = (every.as_millis() as u64).div_ceil(SLOT.as_millis() as u64).max(1);
        Self { begun: now, slots, next: 0 }
    }

    /// How long nothing is due.
    pub(super) fn rest(&self, now: Instant) -> Duration {
        let due = self.next.saturating_mul(SLOT.as_millis() as u64);
        Duration::from_millis(due).saturating_sub(now.duration_since(self.begun))
    }

    /// The places among `peers` that are due; to be asked until it gives `None`.
    pub(super) fn due(
        &mut self,
        peers: usize,
        now: Instant,
    ) -> Option<std::iter::StepBy<std::ops::Range<usize>>> {
        if !self.rest(now).is_zero() {
            return None;
        }
        let first = (self.next % self.slots) as usize;
        self.next += 1;
        Some((first.min(peers)..peers).step_by(self.slots as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_is_pinged_once_an_interval_and_a_few_at_a_time() {
        let begun = Instant::now();
        let mut pings = Pings::new(Duration::from_secs(1), begun);
        let mut pinged = vec![0; 25];
        for slot in 0..30 {
            let now = begun + SLOT * slot;
            let mut together = 0;
            while let Some(due) = pings.due(pinged.len(), now) {
                for place in due {
                    pinged[place] += 1;
                    together += 1;
                }
            }
            assert!(together <= 3, "{together} at once");
            assert!(pings.rest(now) <= SLOT && !pings.rest(now).is_zero());
        }
        assert_eq!(pinged, [3; 25]);
    }

    #[test]
    fn an_interval_shorter_than_a_slot_is_one_slot() {
        let begun = Instant::now();
        let mut pings = Pings::new(Duration::from_millis(1), begun);
        assert_eq!(pings.due(3, begun).map(Iterator::count), Some(3));
        assert!(pings.due(3, begun).is_none());
        assert_eq!(pings.due(0, begun + SLOT).map(Iterator::count), Some(0));
    }
}
