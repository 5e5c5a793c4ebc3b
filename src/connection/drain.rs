//! The order and the pace in which a shard closes its clients while the node drains.
//!
//! One list, shuffled once, and each turn the share of it whose time has come: evenly over the duration, in random order, so
//! that neither those who came first nor those of one place go together. The driver asks each turn, with the time; who has
//! left by himself keeps his place, and nothing is done when it comes.

use crate::{engine::Key, limits::DRAIN_CLOSES_A_TURN};

/// Who is to be closed, and until when.
#[derive(Debug)]
pub(super) struct Drain {
    /// In the order in which they are closed.
    order: Vec<Key>,
    /// How many of those it was the turn of.
    done: usize,
    /// When it began, and how long it takes, milliseconds.
    began: u64,
    duration: u64,
    /// Whether the end was told.
    told: bool,
}

impl Drain {
    /// Begins `now` with everybody there is. Equal seeds give equal orders.
    pub(super) fn new(everybody: impl Iterator<Item = Key>, seed: u64, now: u64, duration: u64) -> Self {
        let mut order: Vec<_> = everybody.collect();
        shuffle(&mut order, seed);
        Self { order, done: 0, began: now, duration, told: false }
    }

    /// Those whose time has come by `now`, as many as one turn may close.
    pub(super) fn due(&mut self, now: u64) -> &[Key] {
        let from = self.done;
        self.done = self.due_by(now).min(from + DRAIN_CLOSES_A_TURN).max(from);
        &self.order[from..self.done]
    }

    /// Whether more are due than a turn could close.
    pub(super) fn is_behind(&self, now: u64) -> bool {
        self.done < self.due_by(now)
    }

    /// Whether it was everybody's turn, or nobody is there any more. Says so once.
    pub(super) fn ends(&mut self, left: usize) -> bool {
        let ends = !self.told && (left == 0 || self.done == self.order.len());
        self.told |= ends;
        ends
    }

    /// Each one goes in the middle of its part of the time: a lone one neither at once nor at the very end.
    fn due_by(&self, now: u64) -> usize {
        let all = self.order.len();
        let elapsed = now.saturating_sub(self.began);
        if elapsed >= self.duration {
            return all;
        }
        let halves = 2 * all as u128 * u128::from(elapsed) / u128::from(self.duration);
        // Below `all`, which is a usize.
        halves.div_ceil(2) as usize
    }
}

/// Fisher and Yates, with splitmix64.
fn shuffle(keys: &mut [Key], mut seed: u64) {
    for last in (1..keys.len()).rev() {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        // The part above the 64 bits of the product: below `last + 1`, and as even as is needed here.
        let place = (u128::from(mix(seed)) * (last as u128 + 1)) >> 64;
        keys.swap(last, place as usize);
    }
}

/// The mixing step of splitmix64: every bit of the result depends on every bit of `value`.
pub(super) fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: u32) -> impl Iterator<Item = Key> {
        (0..count).map(|index| Key { index, generation: 7 })
    }

    fn indexes(keys: &[Key]) -> Vec<u32> {
        keys.iter().map(|key| key.index).collect()
    }

    #[test]
    fn everybody_goes_once_in_an_order_that_is_not_that_of_their_coming() {
        let mut drain = Drain::new(keys(100), 1, 0, 1_000);
        let mut gone = Vec::new();
        for now in (0..=1_000).step_by(50) {
            gone.extend(indexes(drain.due(now)));
        }
        let mut sorted = gone.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_ne!(gone, sorted);
        let mut other = Drain::new(keys(100), 2, 0, 0);
        assert_ne!(gone, indexes(other.due(0)), "another shard has another order");
    }

    #[test]
    fn every_place_of_the_order_is_as_likely_for_everybody() {
        let mut sums = [0; 8];
        for seed in 0..4_000 {
            let mut drain = Drain::new(keys(8), mix(seed), 0, 0);
            for (place, key) in drain.due(0).iter().enumerate() {
                sums[key.index as usize] += place;
            }
        }
        for sum in sums {
            // The mean is 3.5; the bounds are six standard deviations of it.
            assert!((13_100..14_900).contains(&sum), "{sums:?}");
        }
    }

    #[test]
    fn so_many_have_gone_as_time_has_passed() {
        let mut drain = Drain::new(keys(50), 1, 10_000, 5_000);
        let mut gone = 0;
        for now in (10_000..15_000).step_by(100) {
            gone += drain.due(now).len();
            let expected = (now - 10_000) / 100;
            assert!(gone.abs_diff(expected as usize) <= 1, "{gone} at {now}");
        }
        gone += drain.due(15_000).len();
        assert_eq!(gone, 50);
    }

    #[test]
    fn a_lone_client_goes_in_the_middle() {
        let mut drain = Drain::new(keys(1), 1, 0, 1_000);
        assert!(drain.due(400).is_empty() && !drain.ends(1));
        assert_eq!(drain.due(600).len(), 1);
        assert!(drain.ends(1));
        assert!(!drain.ends(0), "it was said");
    }

    #[test]
    fn a_turn_closes_no_more_than_it_may_and_the_next_goes_on() {
        let many = DRAIN_CLOSES_A_TURN as u32 * 2 + 1;
        let mut drain = Drain::new(keys(many), 1, 0, 0);
        for left in [true, true, false] {
            assert!((1..=DRAIN_CLOSES_A_TURN).contains(&drain.due(0).len()));
            assert_eq!(drain.is_behind(0), left);
        }
        assert!(drain.due(0).is_empty() && drain.ends(5));
    }

    #[test]
    fn it_is_over_when_nobody_is_left() {
        let mut drain = Drain::new(keys(10), 1, 0, 1_000);
        assert!(!drain.ends(1));
        assert!(drain.ends(0));
    }

    #[test]
    fn time_that_overflows_a_product_of_64_bits_does_no_harm() {
        let mut drain = Drain::new(keys(3), 1, 0, u64::MAX);
        assert_eq!(drain.due(u64::MAX / 2 + 1).len(), 2);
    }
}
