//! When clients that are closed for a restart are asked to come back: each at a time of its own choice in a range.
//!
//! The range is as long as it takes them to come back at a rate that whoever takes them can stand, so few come back soon and
//! many are spread. The node sets it once, before it closes everybody; the shards put it into each `bye`.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    limits::{RETRY_AFTER_MS, RETRY_PER_SECOND, RETRY_SPREAD_MS, RETRY_SPREAD_MS_MAX},
    units::milliseconds,
};

/// The range, shared by the shards of a node.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    /// How long it is, milliseconds.
    spread: Arc<AtomicU64>,
}

impl Retry {
    /// Makes it long enough for so many clients, whose closes are spread over `duration` already.
    pub(crate) fn spread(&self, clients: u64, duration: Duration) {
        let needed = Duration::from_secs(clients) / RETRY_PER_SECOND;
        let more = milliseconds(needed.saturating_sub(duration));
        // Relaxed: the closes that are to say it are told to the shards through queues.
        self.spread.store(more.clamp(RETRY_SPREAD_MS, RETRY_SPREAD_MS_MAX), Ordering::Relaxed);
    }

    /// From when to when, milliseconds.
    pub(super) fn range(&self) -> RangeInclusive<u64> {
        RETRY_AFTER_MS..=RETRY_AFTER_MS + self.spread.load(Ordering::Relaxed)
    }
}

impl Default for Retry {
    /// For one that is closed alone.
    fn default() -> Self {
        Self { spread: Arc::new(AtomicU64::new(RETRY_SPREAD_MS)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(clients: u64, duration: u64) -> RangeInclusive<u64> {
        let retry = Retry::default();
        retry.spread(clients, Duration::from_secs(duration));
        retry.range()
    }

    #[test]
    fn few_come_back_soon_and_many_are_spread() {
        assert_eq!(Retry::default().range(), 500..=5_500);
        assert_eq!(range(3, 0), 500..=5_500);
        assert_eq!(range(20_000, 0), 500..=20_500);
        assert_eq!(range(1_000_000, 0), 500..=60_500, "nobody is asked to wait for longer");
    }

    #[test]
    fn what_the_closing_spreads_already_is_not_spread_again() {
        assert_eq!(range(20_000, 8), 500..=12_500);
        assert_eq!(range(20_000, 60), 500..=5_500);
    }
}
