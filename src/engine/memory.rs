//! The node's memory budget: one number for everything that is queued and kept, and what is done as it nears.
//!
//! Each shard tells what it and its connections hold once a turn, and reads the sum of all. The nearer the sum is to the
//! budget, the more is done, each step on top of those before: *conflate* what younger messages replace; *drop* what classes let go of the
//! queues of blocked subscribers, and the older half of histories; *close* those who hold the oldest; and last, when the budget is used up, *refuse* new
//! publications with 503. So an operator sees in advance what the node would do next, and clients that are slow pay
//! before publishers do.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crossbeam_utils::CachePadded;

use super::{log::Compacted, outbox::Flags, shard::Shard, subscribers::Key};
use crate::{
    classes::Policy,
    limits::{
        MEMORY_CLOSE_PERCENT, MEMORY_CONFLATE_PERCENT, MEMORY_DROP_PERCENT, MEMORY_LOOKED_THROUGH,
        MEMORY_REFUSE_PERCENT,
    },
    metrics::Loss,
};

/// Histories go when memory is short if they are at least this part of what queues hold.
const HISTORY_PARTS: usize = 4;

/// What connections hold goes when memory is short if it is at least this part of what the shard holds.
const UNFLUSHED_PARTS: usize = 4;

/// How near the node is to its budget, and so what is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rung {
    /// Nothing.
    #[default]
    Calm,
    /// Queues of blocked subscribers are conflated.
    Conflate,
    /// And the older half of what their classes let go is dropped, and of what is kept.
    Drop,
    /// And those who hold the oldest frames are closed.
    Close,
    /// And new publications are refused.
    Refuse,
}

impl Rung {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Conflate => "conflate",
            Self::Drop => "drop",
            Self::Close => "close",
            Self::Refuse => "refuse",
        }
    }

    fn of(used: usize, budget: usize) -> Self {
        // In parts of the budget, so that nothing overflows.
        let part = (budget / 100).max(1);
        match used / part {
            percent if percent >= MEMORY_REFUSE_PERCENT => Self::Refuse,
            percent if percent >= MEMORY_CLOSE_PERCENT => Self::Close,
            percent if percent >= MEMORY_DROP_PERCENT => Self::Drop,
            percent if percent >= MEMORY_CONFLATE_PERCENT => Self::Conflate,
            _ => Self::Calm,
        }
    }
}

/// What the shards of a node hold together, and how much that may be.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Bytes each shard holds; written by its thread.
    held: Arc<[CachePadded<AtomicUsize>]>,
    budget: usize,
}

impl Memory {
    pub(super) fn new(shards: usize, budget: usize) -> Self {
        Self { held: (0..shards).map(|_| CachePadded::default()).collect(), budget }
    }

    /// Bytes the shards hold, as they said last.
    pub fn used(&self) -> usize {
        self.held.iter().map(|held| held.load(Relaxed)).sum()
    }

    /// Bytes they may hold.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// What is done now.
    pub fn rung(&self) -> Rung {
        Rung::of(self.used(), self.budget)
    }
}

impl Shard {
    /// Notes how many bytes connections hold that the transport has taken and that have not left
    /// ([`Offered::Wrote`](super::Offered::Wrote)): they are queued, too.
    pub fn note_unflushed(&mut self, bytes: usize) {
        self.unflushed = bytes;
        self.metrics().unflushed_bytes.set(bytes as u64);
    }

    /// Whether so much of what is to go, for memory is short, is with connections that some of those have to go. It is the
    /// driver that knows which.
    pub fn wants_unflushed_back(&self) -> bool {
        let others = self.log.held() + self.home.history_bytes();
        self.rung >= Rung::Close && self.unflushed * UNFLUSHED_PARTS >= others
    }

    /// Ends a subscriber as slow because its connection holds what it does not read. It cannot be told: that would come
    /// behind what it holds.
    pub fn end_unflushed(&mut self, key: Key) {
        self.close_slow(key, Loss::Memory);
        if self.subscribers.lives(key) {
            self.lose(key.index, Loss::Memory);
        }
    }

    /// Tells what this shard holds, and does what the node's memory asks for.
    pub(super) fn keep_within_memory(&mut self) {
        let held = self.log.held();
        let kept = self.home.history_bytes();
        let all = held + kept + self.unflushed;
        self.common.memory.held[usize::from(self.number)].store(all, Relaxed);
        let rung = self.common.memory.rung();
        self.note_rung(rung);
        if rung >= Rung::Conflate {
            self.thin_out(rung);
        }
        // Where queues hold nearly all of it, histories are what their subscribers will need.
        if rung >= Rung::Drop && kept * HISTORY_PARTS >= held {
            self.home.thin_out(MEMORY_LOOKED_THROUGH, self.now);
        }
        if held > self.common.bounds.log_bytes || rung >= Rung::Close {
            self.relieve_memory();
        }
    }

    /// Counts the rungs that were climbed since the last turn.
    fn note_rung(&mut self, rung: Rung) {
        let before = std::mem::replace(&mut self.rung, rung);
        let metrics = self.metrics();
        metrics.memory_rung.set(rung as u64);
        for (of, counter) in [
            (Rung::Conflate, &metrics.memory_conflating),
            (Rung::Drop, &metrics.memory_dropping),
            (Rung::Close, &metrics.memory_closing),
            (Rung::Refuse, &metrics.memory_refusing),
        ] {
            counter.add(u64::from(before < of && rung >= of));
        }
    }

    /// Conflates and, from that rung on, drops in the queues of the next few blocked subscribers.
    fn thin_out(&mut self, rung: Rung) {
        let blocked: Vec<u32> = self.blocked.some_from(self.thinned_out_to, MEMORY_LOOKED_THROUGH).collect();
        self.thinned_out_to = match blocked.len() {
            MEMORY_LOOKED_THROUGH => self.thinned_out_to + MEMORY_LOOKED_THROUGH,
            _ => 0,
        };
        for index in blocked {
            let flags = self.subscribers.outboxes[index as usize].flags;
            // What arrives for one that waits for its socket or for an answer is not noted.
            let waits = flags.has(Flags::ATTACHING.and(Flags::HELD)) && self.common.conflates;
            if waits || flags.has(Flags::CONFLATES) {
                self.conflate(index);
            }
            if rung >= Rung::Drop {
                self.drop_older_half(index);
            }
        }
    }

    /// Drops the older half of those frames of a queue that their classes let go.
    fn drop_older_half(&mut self, index: u32) {
        let rules = self.common.rules.clone();
        self.look_through(index, |shard, frames, losses| {
            let may_go = |book| rules[shard.log.books.get(book).class.index()].policy != Policy::Disconnect;
            let count = frames.iter().filter(|frame| may_go(frame.note.book)).count();
            let oldest = frames.iter().zip(losses).filter(|(frame, _)| may_go(frame.note.book));
            for (_, loss) in oldest.take(count / 2) {
                *loss = Some(Loss::Memory);
            }
        });
    }

    /// Makes room in the logs: compacts the oldest segment, one walk over the blocked list; when no segment has anything
    /// to spare, those who hold the oldest lose it, or are disconnected, as the classes of the frames say.
    fn relieve_memory(&mut self) {
        // What nobody is waiting for is the first to go.
        self.replays.clear(&mut self.log);
        if let Some(victim) = self.log.oldest_fresh() {
            let ranges: Vec<_> = self.blocked_ranges(victim).map(|(_, range)| range).collect();
            if ranges.len() < self.log.pins(victim) as usize {
                // A subscriber that is not blocked holds it too; the flush will reach that one.
                return;
            }
            if let Compacted::Moved(moved) = self.log.compact(victim, &ranges) {
                for index in self.blocked.indexes() {
                    self.subscribers.outboxes[index as usize].remap(&moved);
                }
                self.metrics().compactions.add(1);
            }
            return;
        }
        if let Some(oldest) = self.log.oldest_dense() {
            let mut holders: Vec<u32> = self.blocked_ranges(oldest).map(|(index, _)| index).collect();
            holders.dedup();
            for index in holders {
                self.let_go(index, oldest);
            }
        }
    }

    /// Takes a segment from a subscriber: drops its frames there if their classes allow that, else ends the subscriber.
    fn let_go(&mut self, index: u32, segment: u32) {
        let key = self.subscribers.key(index);
        if !self.is_open(key) {
            self.give_up(index);
            return;
        }
        let rules = self.common.rules.clone();
        let mut may_stay = true;
        self.look_through(index, |shard, frames, losses| {
            for (frame, loss) in frames.iter().zip(losses.iter_mut()) {
                if frame.range.segment == segment {
                    let rule = rules[shard.log.books.get(frame.note.book).class.index()];
                    *loss = Some(Loss::Memory);
                    may_stay &= rule.policy != Policy::Disconnect;
                }
            }
            if !may_stay {
                losses.fill(None);
            }
        });
        let outbox = &mut self.subscribers.outboxes[index as usize];
        if may_stay {
            outbox.copy_rest_out(&mut self.log);
        }
        // What is left there is the rest of a frame that cannot go: then the subscriber has to.
        if !may_stay || outbox.ranges().any(|range| range.segment == segment) {
            self.close_slow(key, Loss::Memory);
        }
    }

    /// Takes the memory from a subscriber that is being closed and does not read what it was still to get: it cannot
    /// be disconnected a second time, and while it held on, the shard would take nothing.
    fn give_up(&mut self, index: u32) {
        let outbox = &mut self.subscribers.outboxes[index as usize];
        if outbox.flags.has(Flags::ATTACHING) {
            let lost = outbox.discard(&mut self.log, Loss::Memory);
            self.metrics().count_loss(Loss::Memory, lost);
        } else {
            self.lose(index, Loss::Memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_are_climbed_one_by_one() {
        let at = |percent: usize| Rung::of(percent * 1_000, 100_000);
        assert_eq!(at(0), Rung::Calm);
        assert_eq!(at(MEMORY_CONFLATE_PERCENT - 1), Rung::Calm);
        assert_eq!(at(MEMORY_CONFLATE_PERCENT), Rung::Conflate);
        assert_eq!(at(MEMORY_DROP_PERCENT), Rung::Drop);
        assert_eq!(at(MEMORY_CLOSE_PERCENT), Rung::Close);
        assert_eq!(at(MEMORY_REFUSE_PERCENT - 1), Rung::Close);
        assert_eq!(at(MEMORY_REFUSE_PERCENT), Rung::Refuse);
        assert_eq!(at(10 * MEMORY_REFUSE_PERCENT), Rung::Refuse);
        assert!(Rung::Conflate < Rung::Drop && Rung::Drop < Rung::Close);
    }
}
