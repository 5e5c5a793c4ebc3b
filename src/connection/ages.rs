//! How old connections may become: one clock for all connections of a shard, and nothing at all where there is no limit.
//!
//! Each connection has a limit of its own, within a tenth of the configured one, made from its key; so those that came together
//! do not go together. Only when it came is kept, four bytes for each place, and that only where there is a limit. They are looked at
//! in slots, as for pings, often enough that none is late by more than a fiftieth of its age or a slot.

use std::time::Duration;

use super::{
    drain::mix,
    slots::{Group, Slots},
};
use crate::{engine::Key, limits::AGE_LOOK_MS_MAX, units::milliseconds};

/// The clock.
#[derive(Debug)]
pub(super) struct Ages {
    /// The limit, milliseconds; 0: there is none.
    most_ms: u64,
    /// Makes the limits of this shard's connections differ from those of another start.
    seed: u64,
    slots: Slots,
    /// When the connection at each index came: milliseconds since the shard began, the low half. An age is far below that.
    came: Vec<u32>,
}

impl Ages {
    pub(super) fn new(most: Duration, seed: u64) -> Self {
        let most_ms = milliseconds(most);
        let look_ms = if most_ms == 0 { 0 } else { (most_ms / 50).clamp(1, AGE_LOOK_MS_MAX) };
        Self { most_ms, seed, slots: Slots::new(look_ms), came: Vec::new() }
    }

    /// A connection has come.
    pub(super) fn note(&mut self, key: Key, now: u64) {
        if self.most_ms == 0 {
            return;
        }
        let index = key.index as usize;
        if self.came.len() <= index {
            self.came.resize(index + 1, 0);
        }
        self.came[index] = now as u32;
    }

    /// The next group to be looked at, if its slot has come by `now`.
    pub(super) fn next_to_look_at(&mut self, now: u64) -> Option<Group> {
        self.slots.next(now)
    }

    /// Whether a connection that was noted is older than it may be.
    pub(super) fn is_over(&self, key: Key, now: u64) -> bool {
        let came = self.came.get(key.index as usize);
        came.is_some_and(|&came| u64::from((now as u32).wrapping_sub(came)) >= self.limit_of(key))
    }

    /// Nine to eleven tenths of the limit.
    fn limit_of(&self, key: Key) -> u64 {
        let chance = mix(self.seed ^ u64::from(key.index) ^ (u64::from(key.generation) << 32));
        // A fraction of 2^32, of two tenths.
        self.most_ms / 10 * 9 + (((self.most_ms / 5) * (chance >> 32)) >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{AGE_MS_MAX, AGE_MS_MIN};

    const HOUR: u64 = 3_600_000;

    fn key(index: u32) -> Key {
        Key { index, generation: 3 }
    }

    fn ages(most_ms: u64) -> Ages {
        Ages::new(Duration::from_millis(most_ms), 42)
    }

    #[test]
    fn those_who_came_together_go_over_a_fifth_of_the_age() {
        let ages = ages(HOUR);
        let limits: Vec<_> = (0..1_000).map(|index| ages.limit_of(key(index))).collect();
        let (least, most) = (limits.iter().min().unwrap(), limits.iter().max().unwrap());
        assert!((HOUR / 10 * 9..HOUR / 100 * 91).contains(least), "{least}");
        assert!((HOUR / 100 * 109..HOUR / 10 * 11).contains(most), "{most}");
        let mean = limits.iter().sum::<u64>() / 1_000;
        assert!(mean.abs_diff(HOUR) < HOUR / 100, "{mean}");
    }

    #[test]
    fn everybody_is_found_soon_after_his_time() {
        for most_ms in [AGE_MS_MIN, 60_000, HOUR] {
            let mut ages = ages(most_ms);
            (0..100).for_each(|index| ages.note(key(index), 1_000));
            let mut found = vec![None; 100];
            for now in (1_000..1_000 + 2 * most_ms).step_by(100) {
                while let Some(group) = ages.next_to_look_at(now) {
                    for index in group.indexes(100) {
                        if ages.is_over(key(index), now) {
                            found[index as usize].get_or_insert(now - 1_000);
                        }
                    }
                }
            }
            for (index, at) in found.into_iter().enumerate() {
                let (at, limit) = (at.expect("all are found"), ages.limit_of(key(index as u32)));
                assert!(at >= limit && at <= limit + most_ms / 50 + 200, "{at} for {limit}");
            }
        }
    }

    #[test]
    fn who_comes_to_a_place_again_is_young_and_the_clock_may_wrap() {
        let mut ages = ages(HOUR);
        let now = u64::from(u32::MAX) - 1_000;
        ages.note(key(0), now);
        assert!(!ages.is_over(key(0), now + HOUR / 2) && ages.is_over(key(0), now + 2 * HOUR));
        ages.note(key(0), now + 2 * HOUR);
        assert!(!ages.is_over(key(0), now + 2 * HOUR));
        assert!(!ages.is_over(key(9), now), "nobody came there");
    }

    #[test]
    fn without_a_limit_nothing_is_kept_and_nobody_looked_at() {
        let mut ages = ages(0);
        ages.note(key(1_000), 5);
        assert!(ages.came.is_empty() && ages.next_to_look_at(u64::MAX).is_none());
    }

    #[test]
    fn longest_age_is_within_the_clock() {
        assert!(AGE_MS_MAX / 10 * 12 < u64::from(u32::MAX));
    }
}
