//! Who stands where in a stream: how many clients expect which number next. The lowest number at which anybody
//! stands is the frontier; everything below it has been delivered to every client counted here.
//!
//! A client of one stream that took 50 messages in one read is one step from its old place to its new one, so the
//! cost is per read and not per delivery.

use crate::place::Place;

/// Numbers between the slowest client and the newest publication of a stream that can be told apart.
/// A publisher never goes further ahead than this.
pub(crate) const SPAN: u64 = 1 << 16;
/// Numbers a new stream has room for; it grows with what is under way.
const ROOM_MIN: usize = 16;

/// The streams of one generator thread.
#[derive(Debug)]
pub(crate) struct Census {
    streams: Box<[Stream]>,
    /// Streams whose frontier has to be looked at again.
    moved: Vec<u32>,
}

/// Head counts of one stream by next expected number, and its frontier.
#[derive(Debug)]
struct Stream {
    /// Clients that expect number n, at n modulo the length, which is a power of two. Only places from the
    /// frontier up to the newest publication are ever occupied, fewer than there are, so that no two share one.
    heads: Vec<u32>,
    frontier: u64,
    counted: u32,
}

impl Census {
    /// Nobody yet; every frontier at the beginning of its stream.
    pub(crate) fn new(streams: usize) -> Self {
        let stream = || Stream { heads: Vec::new(), frontier: 0, counted: 0 };
        Self { streams: (0..streams).map(|_| stream()).collect(), moved: Vec::new() }
    }

    /// A client that expects `place` enters.
    pub(crate) fn enter(&mut self, place: Place) {
        let stream = &mut self.streams[place.stream() as usize];
        if stream.counted == 0 {
            stream.frontier = place.number();
        } else if place.number() < stream.frontier {
            stream.make_room(place.number(), stream.frontier);
        }
        stream.counted += 1;
        *stream.head(place.number()) += 1;
        self.moved.push(place.stream());
    }

    /// A client that expected `place` is no longer waited for.
    pub(crate) fn leave(&mut self, place: Place) {
        let stream = &mut self.streams[place.stream() as usize];
        *stream.head(place.number()) -= 1;
        stream.counted -= 1;
        self.moved.push(place.stream());
    }

    /// A client moved on, from expecting `from` to expecting number `to` of the same stream.
    #[inline]
    pub(crate) fn step(&mut self, from: Place, to: u64) {
        let (number, name) = (from.number(), from.stream());
        let stream = &mut self.streams[name as usize];
        *stream.head(to) += 1;
        let head = stream.head(number);
        *head -= 1;
        if *head == 0 && number == stream.frontier {
            self.moved.push(name);
        }
    }

    /// Gives every frontier that has moved since the last call to `tell`: the number of a stream below which
    /// everything has reached everybody counted, `u64::MAX` if nobody is: then nobody is waited for.
    pub(crate) fn tell(&mut self, mut tell: impl FnMut(u32, u64)) {
        for name in self.moved.drain(..) {
            tell(name, self.streams[name as usize].frontier());
        }
    }
}

impl Stream {
    #[inline]
    fn head(&mut self, number: u64) -> &mut u32 {
        if number - self.frontier >= self.heads.len() as u64 {
            self.make_room(self.frontier, number);
        }
        let mask = self.heads.len() - 1;
        &mut self.heads[number as usize & mask]
    }

    /// Moves everybody to a longer list that begins at `frontier`, which is not above the present one, and in
    /// which `number` has a place of its own.
    #[cold]
    fn make_room(&mut self, frontier: u64, number: u64) {
        let occupied = self.frontier..self.frontier + self.heads.len() as u64;
        let end = occupied.end.max(number + 1);
        let length = ((end - frontier) as usize).next_power_of_two().max(ROOM_MIN);
        let old = std::mem::replace(&mut self.heads, vec![0; length]);
        for number in occupied {
            self.heads[number as usize & (length - 1)] = old[number as usize & (old.len() - 1)];
        }
        self.frontier = frontier;
    }

    fn frontier(&mut self) -> u64 {
        if self.counted == 0 {
            return u64::MAX;
        }
        let mask = self.heads.len() - 1;
        while self.heads[self.frontier as usize & mask] == 0 {
            self.frontier += 1;
        }
        self.frontier
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frontier of stream 1, which is told as often as it moves.
    fn frontier(census: &mut Census, known: &mut u64) -> u64 {
        census.tell(|stream, frontier| {
            assert_eq!(stream, 1);
            *known = frontier;
        });
        *known
    }

    #[test]
    fn the_frontier_is_the_slowest_clients_place() {
        let (mut census, mut known) = (Census::new(2), u64::MAX);
        let place = |number| Place::new(1, number);
        assert_eq!(frontier(&mut census, &mut known), u64::MAX);
        (0..3).for_each(|_| census.enter(place(0)));
        census.step(place(0), 5);
        census.step(place(0), 2);
        assert_eq!(frontier(&mut census, &mut known), 0);
        census.step(place(0), 7);
        assert_eq!(frontier(&mut census, &mut known), 2);
        census.leave(place(2));
        assert_eq!(frontier(&mut census, &mut known), 5);
        census.leave(place(5));
        census.leave(place(7));
        assert_eq!(frontier(&mut census, &mut known), u64::MAX);
        census.enter(place(30));
        census.enter(place(3));
        assert_eq!(frontier(&mut census, &mut known), 3, "whoever comes back begins where it stands");
        census.step(place(3), 31);
        assert_eq!(frontier(&mut census, &mut known), 30);
    }

    #[test]
    fn places_wrap_round_without_meeting() {
        let (mut census, mut known) = (Census::new(2), 0);
        census.enter(Place::new(1, 0));
        census.enter(Place::new(1, 0));
        let mut at = 0;
        for ahead in [3, 40, 1, SPAN - 1, 17, SPAN - 1, 2] {
            census.step(Place::new(1, at), at + ahead);
            assert_eq!(frontier(&mut census, &mut known), at);
            census.step(Place::new(1, at), at + ahead);
            at += ahead;
            assert_eq!(frontier(&mut census, &mut known), at);
        }
    }
}
