//! The node's memory budget: one number for everything that is queued and kept, and what is done as it nears.
//!
//! Each shard tells what it and its connections hold once a turn, and reads the sum of all. The nearer the sum is to the
//! budget, the more is done, each step on top of those before: *conflate* what younger messages replace; *drop* what classes let go of the
//! queues of blocked subscribers, and the older half of histories; *close* those who hold the oldest; and last, when the budget is used up, *refuse* new
//! publications with 503. So an operator sees in advance what the node would do next, and clients that are slow pay
//! before publishers do. How those are closed is the file `relief.rs`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crossbeam_utils::CachePadded;

use super::{outbox::Flags, shard::Shard, subscribers::Key};
use crate::{
    classes::Policy,
    limits::{
        LOG_SLACK_BYTES, MEMORY_CLOSE_PERCENT, MEMORY_CONFLATE_PERCENT, MEMORY_DROP_PERCENT,
        MEMORY_LOOKED_THROUGH, MEMORY_REFUSE_PERCENT, MEMORY_TURN_BYTES,
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

/// Bytes that connections hold, as was said last.
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// Of what the transport took, and what has not left.
    unflushed: usize,
    /// Of messages that have not ended.
    half_messages: usize,
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
        self.outside.unflushed = bytes;
        self.metrics().unflushed_bytes.set(bytes as u64);
    }

    /// Notes how many bytes messages of clients take that have not ended. They have a bound of their own, so nothing is done
    /// about them here.
    pub fn note_half_messages(&mut self, bytes: usize) {
        self.outside.half_messages = bytes;
        self.metrics().half_message_bytes.set(bytes as u64);
    }

    /// Whether so much of what is to go, for memory is short, is with connections that some of those have to go. It is the
    /// driver that knows which.
    pub fn wants_unflushed_back(&self) -> bool {
        let others = self.log.held() + self.home.history_bytes();
        self.rung >= Rung::Close && self.outside.unflushed * UNFLUSHED_PARTS >= others
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
        let (held, kept) = (self.log.held(), self.home.history_bytes());
        self.tell_held();
        let rung = self.fabric.memory.rung();
        self.note_rung(rung);
        if rung >= Rung::Conflate {
            self.thin_out(rung);
        }
        // Where queues hold nearly all of it, histories are what their subscribers will need.
        if rung >= Rung::Drop && kept * HISTORY_PARTS >= held {
            self.home.thin_out(MEMORY_LOOKED_THROUGH, self.now);
        }
        self.relieving = self.needs_relief() && self.relieve();
        self.may_hold = self.log_limit();
    }

    /// Tells the other shards what this one holds.
    pub(super) fn tell_held(&self) {
        let Outside { unflushed, half_messages } = self.outside;
        let all = self.log.held() + self.home.history_bytes() + unflushed + half_messages;
        self.fabric.memory.held[usize::from(self.number)].store(all, Relaxed);
    }

    /// How long the logs may get in this turn, bytes: by what is left of the budget, of which each shard takes its part,
    /// or a little where nothing is left, for what was admitted is delivered all the same.
    fn log_limit(&self) -> usize {
        let Memory { held, budget } = &self.fabric.memory;
        let left = budget.saturating_sub(self.fabric.memory.used()) / held.len();
        let by_budget = self.log.held() + left.max(MEMORY_TURN_BYTES);
        by_budget.min(self.fabric.bounds.log_bytes + LOG_SLACK_BYTES)
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
            let waits = flags.has(Flags::ATTACHING.and(Flags::HELD)) && self.fabric.conflates;
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
        let rules = self.fabric.rules.clone();
        self.look_through(index, |shard, frames, losses| {
            let may_go = |book| rules[shard.log.books.get(book).class.index()].policy != Policy::Disconnect;
            let count = frames.iter().filter(|frame| may_go(frame.note.book)).count();
            let oldest = frames.iter().zip(losses).filter(|(frame, _)| may_go(frame.note.book));
            for (_, loss) in oldest.take(count / 2) {
                *loss = Some(Loss::Memory);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::Fabric, settings::Settings};

    #[test]
    fn shard_with_nothing_to_let_go_rests_although_memory_is_used_up() {
        let fabric = Fabric::new(&Settings { shards: 2, ..Settings::default() }, 1);
        let mut shard = Shard::new(0, fabric.clone());
        fabric.memory.held[1].store(fabric.memory.budget, Relaxed);
        shard.begin_turn(0);
        assert_eq!((shard.rung, shard.has_work()), (Rung::Refuse, false));
        assert!(shard.keeps_up(), "what was admitted is delivered");
    }

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
