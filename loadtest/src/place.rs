//! A place in a stream: which stream, and which number in it. Both travel in a message's first 16 digits, as one
//! number, so that a client that is in one stream checks a message with one comparison.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Streams of a run: six digits.
pub(crate) const STREAMS_MAX: usize = 1_000_000;
/// Numbers of one stream: ten digits, which no run exhausts.
const NUMBERS: u64 = 10_000_000_000;

/// Number `number` of stream `stream`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Place(u64);

impl Place {
    /// No message has it.
    pub(crate) const NOWHERE: Self = Self(u64::MAX);

    pub(crate) fn new(stream: u32, number: u64) -> Self {
        Self(u64::from(stream) * NUMBERS + number)
    }

    /// From the digits of a message.
    #[inline]
    pub(crate) fn from_digits(digits: u64) -> Self {
        Self(digits)
    }

    /// As it stands in a message.
    pub(crate) fn digits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn stream(self) -> u32 {
        (self.0 / NUMBERS) as u32
    }

    #[inline]
    pub(crate) fn number(self) -> u64 {
        self.0 % NUMBERS
    }

    /// Goes on to the next number of the same stream.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.0 += 1;
    }

    /// The same stream, at `number`.
    pub(crate) fn at(self, number: u64) -> Self {
        Self::new(self.stream(), number)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "number {} of stream {}", self.number(), self.stream())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_survive_the_digits() {
        for (stream, number) in [(0, 0), (0, 9_999_999_999), (999_999, 0), (999_999, 9_999_999_999), (7, 41)]
        {
            let place = Place::from_digits(Place::new(stream, number).digits());
            assert_eq!((place.stream(), place.number()), (stream, number));
            assert!(place.digits() < 10_000_000_000_000_000, "sixteen digits hold it");
        }
        let mut place = Place::new(3, 8);
        place.advance();
        assert_eq!(place, Place::new(3, 9));
        assert_eq!(place.at(0), Place::new(3, 0));
        assert!(Place::NOWHERE > Place::new(999_999, 9_999_999_999));
    }
}
