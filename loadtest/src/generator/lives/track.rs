//! What one client of `fanfare.v1` knows of its topic: where it stands in the topic's own count, how far it has to get
//! until it has recovered what it missed, and what it was told that it misses. Pure bookkeeping beside the numbers of
//! [`super::standing`]: offsets are the server's, numbers are ours, and each has to be right by itself.

use crate::dialect::v1::{Gaps, Position};

/// One client in its topic.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// Empty before it was told where the topic stands.
    epoch: String,
    /// The highest offset it has had, or that of when it joined first.
    offset: u64,
    /// It is greeted on this connection.
    greeted: bool,
    /// It has said since when it wants to have everything, and was not answered yet.
    asks: bool,
    /// It was told where its topic stands on this connection.
    joined: bool,
    /// Where the topic stood when it came back: what lies between is replayed to it.
    goal: Option<u64>,
    /// Numbers that were skipped.
    pub(super) missed: u64,
    pub(super) told: Gaps,
}

/// What a client learnt when it was told where its topic stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It is there for the first time, or did not say since when.
    First,
    /// It gets everything it missed.
    Recovered,
    /// It does not.
    NotRecovered,
    /// That was no answer to what it asked.
    Nonsense,
}

impl Track {
    /// Its connection is gone; what it had stays.
    pub(super) fn vanished(&mut self) {
        self.greeted = false;
        self.asks = false;
        self.joined = false;
        self.goal = None;
    }

    /// `false` if it was greeted before.
    pub(super) fn greet(&mut self) -> bool {
        !std::mem::replace(&mut self.greeted, true)
    }

    pub(super) fn is_greeted(&self) -> bool {
        self.greeted
    }

    pub(super) fn is_joined(&self) -> bool {
        self.joined
    }

    /// It asks for what it missed, from behind this epoch and offset; `None` if it was never told where it was.
    pub(super) fn ask(&mut self) -> Option<(&str, u64)> {
        self.asks = !self.epoch.is_empty();
        self.asks.then_some((self.epoch.as_str(), self.offset))
    }

    /// The topic stands at `position`.
    pub(super) fn join(&mut self, position: &Position) -> Joined {
        let is_same = self.epoch == position.epoch;
        let joined = match (std::mem::take(&mut self.asks), position.recovered) {
            (false, None) => Joined::First,
            (true, Some(true)) if is_same && position.offset >= self.offset => Joined::Recovered,
            (true, Some(false)) => Joined::NotRecovered,
            _ => return Joined::Nonsense,
        };
        match joined {
            Joined::First => self.offset = position.offset,
            // Its offsets begin anew.
            Joined::NotRecovered if !is_same => self.offset = 0,
            _ => {}
        }
        self.goal = (joined != Joined::First).then_some(position.offset);
        self.epoch.clone_from(&position.epoch);
        self.joined = true;
        joined
    }

    /// A message has come; `false` if its offset does not lie beyond those before it.
    pub(super) fn take(&mut self, offset: u64) -> bool {
        let ascends = offset > self.offset;
        self.offset = self.offset.max(offset);
        ascends
    }

    /// It came back and has everything up to when it did, or was told what it misses of that.
    pub(super) fn has_recovered(&self) -> bool {
        self.goal.is_some_and(|goal| self.offset >= goal)
    }

    /// Whether `pending` numbers that have not come need not: it was told of as many losses.
    pub(super) fn excuses(&self, pending: u64) -> bool {
        self.missed + pending <= self.told.missing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: &str, offset: u64, recovered: Option<bool>) -> Position {
        Position { epoch: epoch.to_owned(), offset, recovered }
    }

    #[test]
    fn who_comes_back_goes_on_where_it_was() {
        let mut track = Track::default();
        assert!(track.greet() && !track.greet() && track.is_greeted());
        assert_eq!(track.ask(), None);
        assert_eq!(track.join(&at("e", 4, None)), Joined::First);
        assert!(!track.take(4) && track.take(5) && !track.has_recovered());
        assert!(track.is_joined());
        track.vanished();
        assert!(!track.is_joined() && track.greet());
        assert_eq!(track.ask(), Some(("e", 5)));
        assert_eq!(track.join(&at("e", 7, Some(true))), Joined::Recovered);
        assert!(track.take(6) && !track.has_recovered() && track.take(7) && track.has_recovered());
        track.vanished();
        track.ask();
        assert_eq!(track.join(&at("e", 7, Some(true))), Joined::Recovered);
        assert!(track.has_recovered(), "there was nothing to recover");
    }

    #[test]
    fn an_answer_has_to_fit_the_question() {
        let mut track = Track::default();
        assert_eq!(track.join(&at("e", 4, Some(true))), Joined::Nonsense);
        assert_eq!(track.join(&at("e", 4, None)), Joined::First);
        for wrong in [at("e", 9, None), at("f", 9, Some(true)), at("e", 3, Some(true))] {
            track.ask();
            assert_eq!(track.join(&wrong), Joined::Nonsense, "{wrong:?}");
        }
        track.ask();
        assert_eq!(track.join(&at("f", 1, Some(false))), Joined::NotRecovered);
        assert!(track.take(1), "another epoch begins anew");
    }

    #[test]
    fn what_it_was_told_of_is_excused() {
        let mut track = Track { missed: 3, ..Track::default() };
        assert!(!track.excuses(0));
        track.told = Gaps { gaps: 1, conflated: 4, dropped: 1 };
        assert!(track.excuses(2) && !track.excuses(3));
    }
}
