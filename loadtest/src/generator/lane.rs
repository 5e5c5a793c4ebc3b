//! One stream as its publisher sees it: the numbers given out, refused, and delivered to everybody.

use std::collections::VecDeque;

use crate::dialect::Envelope;
use crate::place::Place;

/// A stream, and how it is published.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) stream: u32,
    /// What each message is put in.
    pub(crate) envelope: Envelope,
    /// The number to be given out next.
    next: u64,
    /// A number that was given out, refused, and is to be offered again.
    again: Option<u64>,
    /// Every number below it has reached everybody, or was refused.
    frontier: u64,
    /// Refused numbers that the frontier has not passed, in ascending order.
    refused: VecDeque<u64>,
}

impl Lane {
    pub(crate) fn new(stream: u32, envelope: Envelope) -> Self {
        Self { stream, envelope, next: 0, again: None, frontier: 0, refused: VecDeque::new() }
    }

    /// Gives out a number: the one to be offered again, or a new one.
    pub(crate) fn next(&mut self) -> Place {
        let number = self.again.take().unwrap_or(self.next);
        self.next = self.next.max(number + 1);
        Place::new(self.stream, number)
    }

    /// The server did not take `place`: it is not due.
    pub(crate) fn refused(&mut self, place: Place) {
        self.refused.push_back(place.number());
    }

    /// The server did not take `place`, the only one under way: it is the next to be offered.
    pub(crate) fn offer_again(&mut self, place: Place) {
        self.again = Some(place.number());
    }

    /// No more is offered; gives the number that was to be offered again.
    pub(crate) fn give_up(&mut self) -> Option<Place> {
        let place = Place::new(self.stream, self.again.take()?);
        self.refused(place);
        Some(place)
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
    fn what_is_offered_again_leaves_no_gap() {
        let mut lane = Lane::new(3, Envelope::default());
        let first = lane.next();
        lane.offer_again(first);
        assert_eq!((lane.next(), lane.next()), (first, Place::new(3, 1)));
        assert_eq!(lane.give_up(), None);
        lane.offer_again(Place::new(3, 1));
        assert_eq!(lane.give_up(), Some(Place::new(3, 1)));
        assert_eq!((lane.look(1), lane.undelivered()), (1, 0));
    }

    #[test]
    fn what_was_refused_is_not_waited_for() {
        let mut lane = Lane::new(3, Envelope::default());
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
