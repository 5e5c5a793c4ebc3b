//! Where one client stands in one topic: what it may get, what it has to get, and what it must not get. Pure
//! bookkeeping; the worker that owns the client tells it what was sent and what came.
//!
//! A number is *due* if its publication was sent after the client knew that it was in the topic (it had its 101, or
//! the pong behind its command), until it leaves the topic or vanishes. Others may come, while the server was still
//! about to let the client in or out; but whatever comes has to come in order and once, and nothing comes to a client
//! that is out.

use std::ops::Range;

/// Nothing is due.
const NEVER: u64 = u64::MAX;

/// Whether a client is in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Out,
    /// It has asked to be in, and does not know yet whether it is.
    Joining,
    In,
    /// It has asked to be out, and does not know yet whether it is.
    Leaving,
}

/// What a number that came turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    InTurn,
    /// These were due before it and have not come.
    Skipped(Range<u64>),
    /// A later one, or the same, has come before.
    Late,
    /// The client is not in the topic.
    Stray,
}

/// One client in one topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    hold: Hold,
    /// The lowest number that may still come. Kept when the client leaves: it never gets a number twice.
    next: u64,
    /// From here on everything is due.
    due: u64,
}

impl Standing {
    pub(super) fn new(is_in: bool) -> Self {
        Self { hold: if is_in { Hold::In } else { Hold::Out }, next: 0, due: NEVER }
    }

    pub(super) fn hold(&self) -> Hold {
        self.hold
    }

    /// Number `number` has come.
    #[inline]
    pub(super) fn take(&mut self, number: u64) -> Taken {
        if self.hold == Hold::Out {
            return Taken::Stray;
        }
        if number < self.next {
            return Taken::Late;
        }
        let skipped = self.next.max(self.due)..number;
        self.next = number + 1;
        if skipped.is_empty() { Taken::InTurn } else { Taken::Skipped(skipped) }
    }

    /// The client has just got its 101; `sent` numbers had been given out then.
    pub(super) fn connected(&mut self, sent: u64) {
        if self.hold == Hold::In {
            self.due = sent;
        }
    }

    /// The client is gone: what was on its way is lost with the connection, and nothing is due until it is back.
    pub(super) fn vanished(&mut self) {
        self.due = NEVER;
    }

    /// A command asks for the client to be in the topic, or out.
    pub(super) fn asked(&mut self, wanted: bool) {
        match (self.hold, wanted) {
            (Hold::In, false) => {
                self.hold = Hold::Leaving;
                self.due = NEVER;
            }
            (Hold::Out, true) => self.hold = Hold::Joining,
            _ => {}
        }
    }

    /// The command is in force; `sent` numbers had been given out when the client learnt it.
    pub(super) fn in_force(&mut self, sent: u64) {
        match self.hold {
            Hold::Leaving => self.hold = Hold::Out,
            Hold::Joining => {
                self.hold = Hold::In;
                self.due = sent;
            }
            Hold::In | Hold::Out => {}
        }
    }

    /// What is still due when `sent` numbers have been given out.
    pub(super) fn missing(&self, sent: u64) -> Range<u64> {
        let from = self.next.max(self.due);
        from..sent.max(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_after_the_101_is_due_and_nothing_else() {
        let mut standing = Standing::new(true);
        assert_eq!(standing.missing(5), NEVER..NEVER);
        standing.connected(5);
        assert_eq!(standing.take(3), Taken::InTurn);
        assert_eq!(standing.take(6), Taken::Skipped(5..6));
        assert_eq!(standing.take(6), Taken::Late);
        assert_eq!(standing.missing(9), 7..9);
        assert_eq!(standing.missing(7), 7..7);
    }

    #[test]
    fn who_vanishes_is_owed_nothing_until_it_is_back() {
        let mut standing = Standing::new(true);
        standing.connected(0);
        assert_eq!(standing.take(0), Taken::InTurn);
        standing.vanished();
        assert!(standing.missing(10).is_empty());
        standing.connected(10);
        assert_eq!(standing.take(8), Taken::InTurn);
        assert_eq!(standing.take(0), Taken::Late);
        assert_eq!(standing.missing(12), 10..12);
    }

    #[test]
    fn a_left_topic_may_speak_until_the_pong_and_not_after() {
        let mut standing = Standing::new(true);
        standing.connected(0);
        standing.asked(false);
        assert_eq!(standing.take(4), Taken::InTurn);
        assert_eq!(standing.take(3), Taken::Late);
        standing.in_force(6);
        assert_eq!(standing.hold(), Hold::Out);
        assert_eq!(standing.take(7), Taken::Stray);
        assert!(standing.missing(100).is_empty());
    }

    #[test]
    fn a_joined_topic_is_due_from_the_pong_on_and_never_repeats() {
        let mut standing = Standing::new(false);
        assert_eq!(standing.take(0), Taken::Stray);
        standing.asked(true);
        assert_eq!(standing.take(2), Taken::InTurn);
        standing.in_force(5);
        assert_eq!(standing.take(4), Taken::InTurn);
        assert_eq!(standing.missing(7), 5..7);
        assert_eq!(standing.take(2), Taken::Late);
    }

    #[test]
    fn a_kept_topic_is_due_throughout() {
        let mut standing = Standing::new(true);
        standing.connected(0);
        standing.asked(true);
        standing.in_force(5);
        assert_eq!(standing.take(2), Taken::Skipped(0..2));
    }
}
