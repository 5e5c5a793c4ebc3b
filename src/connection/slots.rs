//! Slots of 100 ms: how something is done for every connection of a shard once an interval, without a timer each.
//!
//! The interval is cut in slots, and each connection belongs to the one that its index gives it; so the work of an
//! interval is spread evenly over it. The driver asks each turn, with the time.

/// Length of a slot, milliseconds.
pub(super) const SLOT_MS: u64 = 100;

/// An interval, and how far it is done.
#[derive(Debug)]
pub(super) struct Slots {
    /// Slots in an interval; 0: there is none, nothing is ever due.
    count: u64,
    /// The next slot, counted from the beginning.
    next: u64,
}

/// The connections of one slot: those at the indexes `first`, `first + step`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) first: u32,
    step: u32,
}

impl Group {
    /// Its indexes below `places`.
    pub(super) fn indexes(self, places: u32) -> impl Iterator<Item = u32> {
        (self.first..places).step_by(self.step as usize)
    }
}

impl Slots {
    /// An interval of so many milliseconds, up to whole slots; 0 is none.
    pub(super) fn new(interval_ms: u64) -> Self {
        Self { count: interval_ms.div_ceil(SLOT_MS).min(u32::MAX.into()), next: 0 }
    }

    /// The next group, if its slot has come by `now`, in milliseconds since the shard began.
    pub(super) fn next(&mut self, now: u64) -> Option<Group> {
        if self.count == 0 {
            return None;
        }
        let current = now / SLOT_MS;
        if self.next > current {
            return None;
        }
        // After a long pause each slot comes once, not as often as it was missed.
        self.next = self.next.max((current + 1).saturating_sub(self.count));
        let group = Group { first: (self.next % self.count) as u32, step: self.count as u32 };
        self.next += 1;
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_comes_once_an_interval() {
        let mut slots = Slots::new(950);
        let mut seen = vec![0; 25];
        for now in (0..2_000).step_by(10) {
            while let Some(group) = slots.next(now) {
                group.indexes(25).for_each(|index| seen[index as usize] += 1);
            }
        }
        assert_eq!(seen, [2; 25]);
    }

    #[test]
    fn no_interval_is_never_due() {
        assert_eq!(Slots::new(0).next(u64::MAX), None);
    }
}
