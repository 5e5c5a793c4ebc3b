//! What one thread of a process that holds clients tells the process that directs. A frontier that has moved is told
//! at once, since a publication may wait for it; what is merely counted goes along, or follows soon.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::link::{Link, PACKET_MAX};
use super::messages::{Advance, Report};
use crate::generator::shared::Counters;

/// How long a counter may be ahead of what was told of it. A window is measured in seconds, so that its figures are
/// some thousandths off at most; and nobody is woken for single deliveries.
pub(super) const TELL_EVERY: Duration = Duration::from_millis(5);
/// Frontiers in one message, which has to fit in a packet, for threads send at the same time. Written down, each has 30
/// bytes at most, and all the rest of a message not 500.
const MOVED_MAX: usize = 512;
const _: () = assert!(MOVED_MAX * 30 + 500 < PACKET_MAX);

/// A thread's way to the process that directs.
#[derive(Debug)]
pub(crate) struct Upward {
    link: Arc<Link>,
    /// The thread, among all of the run.
    thread: usize,
    /// Frontiers that have moved since the last message.
    moved: Vec<(u32, u64)>,
    told: Counters,
    told_at: Instant,
    /// Some counter is ahead of what was told.
    is_behind: bool,
}

impl Upward {
    pub(crate) fn new(link: Arc<Link>, thread: usize) -> Self {
        Self {
            link,
            thread,
            moved: Vec::new(),
            told: Counters::default(),
            told_at: Instant::now(),
            is_behind: false,
        }
    }

    /// The frontier of `stream` has moved.
    pub(crate) fn moved(&mut self, stream: u32, frontier: u64) {
        self.moved.push((stream, frontier));
    }

    /// Tells what has to be told now.
    pub(crate) fn tell(&mut self, counters: Counters) -> io::Result<()> {
        self.is_behind = counters != self.told;
        if self.moved.is_empty() && !(self.is_behind && self.told_at.elapsed() >= TELL_EVERY) {
            return Ok(());
        }
        let mut moved = self.moved.as_slice();
        while moved.len() > MOVED_MAX {
            let (now, later) = moved.split_at(MOVED_MAX);
            self.send(now, self.told)?;
            moved = later;
        }
        // The counters go last: who counts as connected is waited for in all streams.
        self.send(moved, counters)?;
        self.moved.clear();
        (self.told, self.told_at, self.is_behind) = (counters, Instant::now(), false);
        Ok(())
    }

    /// How long its thread may sleep, if there is something to be told soon.
    pub(crate) fn rest(&self) -> Option<Duration> {
        self.is_behind.then_some(TELL_EVERY)
    }

    fn send(&self, moved: &[(u32, u64)], counters: Counters) -> io::Result<()> {
        let moved = moved.to_vec();
        self.link.send(&Report::Advance(Advance { thread: self.thread, counters, moved }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::link::{Incoming, Received, Wait};
    use super::*;

    #[test]
    fn every_frontier_is_told_however_many_have_moved() {
        let (ours, theirs) = Link::pair().expect("a pair of sockets");
        let mut upward = Upward::new(Arc::new(Link::from_end(theirs)), 3);
        let counters = Counters { deliveries: 9, ..Counters::default() };
        let streams = 2 * MOVED_MAX as u32 + 1;
        // The longest numbers there are.
        (0..streams).for_each(|stream| upward.moved(999_999 - stream, u64::MAX - u64::from(stream)));
        upward.tell(counters).expect("there is room");
        assert_eq!(upward.rest(), None);
        let mut incoming = Incoming::default();
        let mut all = Vec::new();
        while all.len() < streams as usize {
            let received = ours.receive(&mut incoming, Wait::UntilItComes).expect("it was sent");
            let Received::Message(Report::Advance(Advance { thread, counters, moved })) = received else {
                panic!("{received:?}");
            };
            assert_eq!(thread, 3);
            assert!(moved.len() <= MOVED_MAX);
            all.extend(moved);
            assert_eq!(counters.deliveries == 9, all.len() == streams as usize, "the counters go last");
        }
        let expected: Vec<_> =
            (0..streams).map(|stream| (999_999 - stream, u64::MAX - u64::from(stream))).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn a_counter_alone_can_wait() {
        let (_ours, theirs) = Link::pair().expect("a pair of sockets");
        let mut upward = Upward::new(Arc::new(Link::from_end(theirs)), 0);
        upward.told_at = Instant::now() + Duration::from_secs(3_600);
        upward.tell(Counters { pongs: 1, ..Counters::default() }).expect("nothing is sent");
        assert_eq!(upward.rest(), Some(TELL_EVERY));
        upward.tell(Counters::default()).expect("nothing is sent");
        assert_eq!(upward.rest(), None);
    }
}
