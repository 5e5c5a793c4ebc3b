//! Holding back for subscribers that are far behind and drain: what is published is more than their sockets take in
//! the meantime, and closing them as slow would close an audience that reads.
//!
//! A subscriber is *behind* once its queue is near its bound, until it is down to a part of it. While somebody is behind,
//! the shard takes nothing, so that credits run out and publishers wait or get 503; the queues go on being written. If
//! within a moment no part of those behind has caught up, they are stalled, or slower than the others can be made to
//! wait for: then the shard takes on for a while, and the bounds judge them one by one. So whoever stalls on purpose
//! slows the others by a twentieth at most.

use crate::limits::{CONGESTION_LENIENT_MS, CONGESTION_PROGRESS_PART, CONGESTION_WATCH_MS};

/// Whether a shard holds back.
#[derive(Debug, Default)]
pub(super) struct Congestion {
    watch: Option<Watch>,
    /// Until then, milliseconds, nothing is held back: those who are behind do not catch up.
    lenient_until: u64,
    holds: bool,
}

/// A look at whether those who are behind catch up.
#[derive(Debug)]
struct Watch {
    /// When it began, milliseconds.
    since: u64,
    /// How many were behind then.
    behind: usize,
}

impl Congestion {
    /// Whether the last look came to holding back.
    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// Looks whether to hold back at `now`, in milliseconds, when so many are behind.
    pub(super) fn look(&mut self, behind: usize, now: u64) -> bool {
        self.holds = self.is_congested(behind, now);
        self.holds
    }

    fn is_congested(&mut self, behind: usize, now: u64) -> bool {
        if behind == 0 || now < self.lenient_until {
            self.watch = None;
            return false;
        }
        let watch = self.watch.get_or_insert(Watch { since: now, behind });
        if now < watch.since + CONGESTION_WATCH_MS {
            return true;
        }
        if watch.behind.saturating_sub(behind) > watch.behind / CONGESTION_PROGRESS_PART {
            *watch = Watch { since: now, behind };
            return true;
        }
        self.lenient_until = now + CONGESTION_LENIENT_MS;
        self.watch = None;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_while_they_catch_up_and_no_longer() {
        let mut congestion = Congestion::default();
        assert!(!congestion.look(0, 0));
        for (at, behind) in (0..100).rev().enumerate() {
            let now = at as u64 * CONGESTION_WATCH_MS / 8;
            assert_eq!(congestion.look(behind, now), behind > 0, "{behind} behind at {now} ms");
        }
        assert!(!congestion.holds());
        assert!(congestion.look(1, 10_000), "it is another time");
    }

    #[test]
    fn those_who_stall_are_let_be_for_most_of_the_time() {
        let mut congestion = Congestion::default();
        const LONG: u64 = 10 * CONGESTION_LENIENT_MS;
        let held = (0..LONG).filter(|&now| congestion.look(60, now)).count() as u64;
        assert!(held >= CONGESTION_WATCH_MS, "it is tried");
        assert!(held <= LONG / 20, "held for {held} of {LONG} ms");
    }
}
