//! Holding back when much of an audience takes nothing: then it is what all of them share that is slow (the network,
//! the machine, the publishers' appetite), not this or that consumer.
//!
//! While more than a part of a shard's subscribers is blocked, the shard takes a little more and then nothing, so that
//! credits run out and publishers wait or get 503. Their sockets go on draining meanwhile, which shows as subscribers
//! that are unblocked. Where that does not show, they are not congested but stalled, by chance or on purpose: then the
//! shard takes on for a while, and the bounds of the outboxes judge them one by one. So whoever stalls a part of the
//! audience on purpose slows the rest by a twentieth at most, and only until the bounds are met.

use crate::limits::{
    CONGESTED_PART, CONGESTION_LENIENT_MS, CONGESTION_PROGRESS_PART, CONGESTION_WATCH_MS,
};

/// How a shard's subscribers stand with their sockets, in numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Those that have a socket.
    pub(super) attached: usize,
    /// Those of them whose socket takes nothing now.
    pub(super) blocked: usize,
    /// Bytes ever appended to the log.
    pub(super) appended: u64,
}

/// Whether a shard holds back.
#[derive(Debug, Default)]
pub(super) struct Congestion {
    /// While many are blocked.
    spell: Option<Spell>,
    /// Until then, milliseconds, nothing is held back, because those who are blocked are stalled.
    lenient_until: u64,
    /// How often a subscriber was unblocked.
    unblocked: u64,
    holds: bool,
}

/// A time in which many are blocked.
#[derive(Debug)]
struct Spell {
    /// Bytes ever appended to the log when it began.
    mark: u64,
    watch: Option<Watch>,
}

/// A look at whether sockets drain.
#[derive(Debug)]
struct Watch {
    since: u64,
    unblocked: u64,
    blocked: usize,
}

impl Congestion {
    /// Notes that a socket takes bytes again.
    pub(super) fn note_unblocked(&mut self) {
        self.unblocked += 1;
    }

    /// Whether the last look came to holding back.
    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// Looks whether to hold back at `now`, in milliseconds, when so many bytes may be taken with many blocked.
    pub(super) fn look(&mut self, standing: Standing, room: usize, now: u64) -> bool {
        self.holds = self.is_congested(standing, room, now);
        self.holds
    }

    fn is_congested(&mut self, standing: Standing, room: usize, now: u64) -> bool {
        if standing.blocked * CONGESTED_PART <= standing.attached {
            self.spell = None;
            return false;
        }
        let spell = self.spell.get_or_insert(Spell { mark: standing.appended, watch: None });
        if standing.appended - spell.mark <= room as u64 || now < self.lenient_until {
            return false;
        }
        let begin = Watch { since: now, unblocked: self.unblocked, blocked: standing.blocked };
        let watch = spell.watch.get_or_insert(begin);
        if now < watch.since + CONGESTION_WATCH_MS {
            return true;
        }
        if (self.unblocked - watch.unblocked) as usize > watch.blocked / CONGESTION_PROGRESS_PART {
            spell.watch = None;
            return true;
        }
        self.lenient_until = now + CONGESTION_LENIENT_MS;
        self.spell = None;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 1_000;

    fn standing(blocked: usize, appended: u64) -> Standing {
        Standing { attached: 100, blocked, appended }
    }

    #[test]
    fn few_that_are_blocked_hold_nothing_back() {
        let mut congestion = Congestion::default();
        for appended in [0, 10_000, 1_000_000] {
            assert!(!congestion.look(standing(100 / CONGESTED_PART, appended), ROOM, 0));
        }
    }

    #[test]
    fn many_hold_back_once_the_room_is_used_and_while_they_drain() {
        let mut congestion = Congestion::default();
        assert!(!congestion.look(standing(60, 500), ROOM, 0));
        assert!(!congestion.look(standing(60, 500 + ROOM as u64), ROOM, 0), "there is room");
        for now in 0..20 * CONGESTION_WATCH_MS {
            assert!(congestion.look(standing(60, 501 + ROOM as u64), ROOM, now), "at {now} ms");
            congestion.note_unblocked();
        }
        assert!(congestion.holds());
        assert!(!congestion.look(standing(20, 502 + ROOM as u64), ROOM, 2_000), "they have drained");
        assert!(!congestion.look(standing(60, 503 + ROOM as u64), ROOM, 2_000), "there is room again");
    }

    #[test]
    fn those_who_stall_are_let_be_for_most_of_the_time() {
        let mut congestion = Congestion::default();
        let (mut held, mut appended) = (0, 0);
        const LONG: u64 = 10 * CONGESTION_LENIENT_MS;
        for now in 0..LONG {
            if congestion.look(standing(60, appended), ROOM, now) {
                held += 1;
            } else {
                appended += 2 * ROOM as u64;
            }
        }
        assert!(held >= CONGESTION_WATCH_MS, "it is tried");
        assert!(held <= LONG / 18, "held for {held} of {LONG} ms");
    }
}
