//! The subscribers of a shard whose connection takes nothing now, or is not there yet, and since when.
//!
//! Each knows its place in the list: its outbox says it, so that any of them leaves without a search.

use crate::limits::STALLED_MS;

/// The list.
#[derive(Debug, Default)]
pub(super) struct BlockedList(Vec<Blocked>);

#[derive(Clone, Copy, Debug)]
struct Blocked {
    index: u32,
    /// When its connection took bytes last, by the clock of [`super::congestion::Congestion`], cut to 32 bits.
    since: u32,
}

impl BlockedList {
    /// Adds a subscriber whose connection took bytes until `clock`. Returns its place.
    pub(super) fn push(&mut self, index: u32, clock: u64) -> u32 {
        let place = self.0.len() as u32;
        self.0.push(Blocked { index, since: clock as u32 });
        place
    }

    /// Takes out who has a place. Returns who has that place now, if anybody has.
    pub(super) fn remove(&mut self, place: u32) -> Option<u32> {
        self.0.swap_remove(place as usize);
        if self.0.len() * 4 < self.0.capacity() && self.0.capacity() > 1_024 {
            self.0.shrink_to(self.0.len() * 2);
        }
        self.0.get(place as usize).map(|moved| moved.index)
    }

    /// Everybody in it.
    pub(super) fn indexes(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|blocked| blocked.index)
    }

    /// So many of them at most, from a place on.
    pub(super) fn some_from(&self, place: usize, most: usize) -> impl Iterator<Item = u32> {
        self.0.iter().skip(place).take(most).map(|blocked| blocked.index)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those whose connection has taken something not long ago.
    pub(super) fn moving(&self, clock: u64) -> impl Iterator<Item = u32> {
        let moving = self.0.iter().filter(move |blocked| !blocked.is_stalled(clock));
        moving.map(|blocked| blocked.index)
    }

    /// Whether the connection of who has this place has taken nothing for so long that it is not waited for.
    pub(super) fn is_stalled(&self, place: u32, clock: u64) -> bool {
        self.0[place as usize].is_stalled(clock)
    }
}

impl Blocked {
    fn is_stalled(self, clock: u64) -> bool {
        (clock as u32).wrapping_sub(self.since) >= STALLED_MS
    }
}
