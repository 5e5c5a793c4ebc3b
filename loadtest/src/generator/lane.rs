//! One stream as its publisher sees it: the numbers given out, refused, and delivered to everybody.

use std::collections::VecDeque;

use super::place::Place;
use crate::dialect::Envelope;

/// A stream, and how it is published.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) stream: u32,
    /// What each message is put in.
    pub(crate) envelope: Envelope,
    /// The number to be given out next.
    next: u64,
    /// Every number below it has reached everybody, or was refused.
    frontier: u64,
    /// Refused numbers that the frontier has not passed, in ascending order.
    refused: VecDeque<u64>,
}

impl Lane {
    pub(crate) fn new(stream: u32, envelope: Envelope) -> Self {
        Self { stream, envelope, next: 0, frontier: 0, refused: VecDeque::new() }
    }

    /// Gives out a number.
    pub(crate) fn next(&mut self) -> Place {
        self.next += 1;
        Place::new(self.stream, self.next - 1)
    }

    /// The server did not take `place`: it is not due.
    pub(crate) fn refused(&mut self, place: Place) {
        self.refused.push_back(place.number());
    }

    /// Everything below `frontier` has reached everybody; gives how many more publications that is.
    pub(crate) fn look(&mut self, frontier: u64) -> u64 {
        let frontier = frontier.min(self.next);
        let moved = frontier.saturating_sub(self.frontier);
        self.frontier += moved;
        while self.refused.front().is_some_and(|&number| number < self.frontier) {
            self.refused.pop_front();
        }
        moved
    }

    /// Whether a number given out lies beyond the frontier, refused ones included.
    pub(crate) fn is_outstanding(&self) -> bool {
        self.next > self.frontier
    }

    /// Numbers given out beyond the frontier.
    pub(crate) fn ahead(&self) -> u64 {
        self.next - self.frontier
    }

    /// Publications that are due and have not reached everybody.
    pub(crate) fn undelivered(&self) -> u64 {
        self.ahead().saturating_sub(self.refused.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_not_waited_for() {
        let mut lane = Lane::new(3, Envelope { head: Vec::new(), tail: b"" });
        let places: Vec<Place> = (0..4).map(|_| lane.next()).collect();
        assert_eq!(places[3], Place::new(3, 3));
        assert_eq!((lane.look(1), lane.undelivered()), (1, 3));
        lane.refused(places[2]);
        lane.refused(places[3]);
        assert_eq!((lane.look(2), lane.undelivered(), lane.is_outstanding()), (1, 0, true));
        lane.next();
        assert_eq!((lane.look(u64::MAX), lane.undelivered(), lane.is_outstanding()), (3, 0, false));
    }
}
