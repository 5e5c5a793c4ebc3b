//! Who stands where in the stream: how many clients expect which sequence number next. The lowest number at
//! which anybody stands is the frontier; everything below it has been delivered to every client counted here.
//!
//! A client that took 50 messages in one read is one step from its old place to its new one, so the cost is per
//! read and not per delivery.

/// Numbers between the slowest client and the newest publication that can be told apart.
/// The publisher never goes further ahead than this.
pub(crate) const SPAN: u64 = 1 << 16;

/// Head counts by next expected sequence number, and the frontier.
#[derive(Debug)]
pub(crate) struct Census {
    /// Clients that expect number n, at n modulo [`SPAN`]. Only places from the frontier up to the newest
    /// publication are ever occupied, fewer than [`SPAN`], so that no two of them share a slot.
    places: Box<[u32]>,
    frontier: u64,
    counted: u32,
}

impl Census {
    /// Nobody yet; the frontier at the beginning of the stream.
    pub(crate) fn new() -> Self {
        Self { places: vec![0; SPAN as usize].into_boxed_slice(), frontier: 0, counted: 0 }
    }

    /// A client that expects `next` enters.
    pub(crate) fn enter(&mut self, next: u64) {
        self.places[slot(next)] += 1;
        self.counted += 1;
    }

    /// A client that expected `next` is no longer waited for.
    pub(crate) fn leave(&mut self, next: u64) {
        self.places[slot(next)] -= 1;
        self.counted -= 1;
    }

    /// A client moved on, from expecting `from` to expecting `to`.
    #[inline]
    pub(crate) fn step(&mut self, from: u64, to: u64) {
        self.places[slot(from)] -= 1;
        self.places[slot(to)] += 1;
    }

    /// Every number below this has reached everybody counted. `u64::MAX` if nobody is: then nobody is waited for.
    pub(crate) fn frontier(&mut self) -> u64 {
        if self.counted == 0 {
            return u64::MAX;
        }
        while self.places[slot(self.frontier)] == 0 {
            self.frontier += 1;
        }
        self.frontier
    }
}

#[inline]
fn slot(number: u64) -> usize {
    (number % SPAN) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frontier_is_the_slowest_clients_place() {
        let mut census = Census::new();
        assert_eq!(census.frontier(), u64::MAX);
        (0..3).for_each(|_| census.enter(0));
        census.step(0, 5);
        census.step(0, 2);
        assert_eq!(census.frontier(), 0);
        census.step(0, 7);
        assert_eq!(census.frontier(), 2);
        census.leave(2);
        assert_eq!(census.frontier(), 5);
        census.leave(5);
        census.leave(7);
        assert_eq!(census.frontier(), u64::MAX);
    }

    #[test]
    fn places_wrap_round_without_meeting() {
        let mut census = Census::new();
        census.enter(0);
        let mut at = 0;
        while at < 3 * SPAN {
            census.step(at, at + SPAN - 1);
            at += SPAN - 1;
            assert_eq!(census.frontier(), at);
        }
    }
}
