//! Making room in a shard's logs: when they are over their bound, or the node's memory is short enough to close clients.
//!
//! First what nobody wants goes: fresh segments are compacted, the oldest first, several with one walk over the blocked
//! list. When no segment has anything to spare, those who hold the oldest lose it, or are disconnected, as the
//! classes of the frames say. With the budget used up publishers are refused; then nobody's end waits until all segments
//! were looked through. How much is done in one turn is bounded, and while there is more the shard has work: whoever is
//! refused publishes nothing that would wake it.

use super::{
    log::{Compacted, Range},
    memory::Rung,
    outbox::Flags,
    shard::Shard,
};
use crate::{
    classes::Policy,
    limits::{MEMORY_LET_GO, MEMORY_SEGMENTS, MEMORY_WALKED},
    metrics::Loss,
};

/// What compacting the oldest fresh segments came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compaction {
    /// Some of them were freed.
    Freed,
    /// None had anything to spare; there may be others.
    NoneSpare,
    /// There are none, or those there are wait for the flush.
    NoneThere,
}

impl Shard {
    /// Whether room is to be made in the logs.
    pub(super) fn needs_relief(&self) -> bool {
        self.log.held() > self.fabric.bounds.log_bytes || self.fabric.memory.rung() >= Rung::Close
    }

    /// Makes room, as much as one turn may. Returns whether there is more to do at once.
    pub(super) fn relieve(&mut self) -> bool {
        // What nobody is waiting for is the first to go.
        self.replays.clear(&mut self.log);
        self.tell_held();
        let mut walked = 0;
        while self.needs_relief() {
            if walked >= MEMORY_WALKED {
                return true;
            }
            if !self.relieve_some(&mut walked) {
                return false;
            }
            self.tell_held();
        }
        false
    }

    /// One step; counts in `walked` what it looked at. Returns whether there was anything to do.
    fn relieve_some(&mut self, walked: &mut usize) -> bool {
        let compaction = self.compact_oldest(walked);
        let refuses = self.fabric.memory.rung() == Rung::Refuse;
        match compaction {
            Compaction::Freed => true,
            Compaction::NoneSpare if !refuses => true,
            Compaction::NoneSpare => {
                self.let_oldest_go(walked);
                true
            }
            Compaction::NoneThere => self.let_oldest_go(walked),
        }
    }

    /// Compacts the oldest fresh segments: one walk over the blocked list finds who holds them, another tells where the
    /// frames went.
    fn compact_oldest(&mut self, walked: &mut usize) -> Compaction {
        let victims = self.log.oldest_fresh(MEMORY_SEGMENTS, MEMORY_WALKED);
        if victims.is_empty() {
            return Compaction::NoneThere;
        }
        let mut found: Vec<Vec<Range>> = vec![Vec::new(); victims.len()];
        for index in self.blocked.indexes() {
            *walked += 1;
            for range in self.subscribers.outboxes[index as usize].ranges() {
                *walked += 1;
                if let Some(place) = victims.iter().position(|&victim| victim == range.segment) {
                    found[place].push(range);
                }
            }
        }
        let (mut moved, mut came_to) = (Vec::new(), Compaction::NoneThere);
        for (&victim, ranges) in victims.iter().zip(&found) {
            if ranges.len() < self.log.pins(victim) as usize {
                // A subscriber that is not blocked holds it too; the flush will reach that one.
                continue;
            }
            match self.log.compact(victim, ranges) {
                Compacted::Moved(from) => moved.push(from),
                Compacted::StaysDense => came_to = Compaction::NoneSpare,
            }
        }
        if moved.is_empty() {
            return came_to;
        }
        for index in self.blocked.indexes() {
            self.subscribers.outboxes[index as usize].remap(&moved);
        }
        self.metrics().compactions.add(moved.len() as u64);
        Compaction::Freed
    }

    /// Takes the oldest segment that cannot be compacted from those who hold it, or from as many as one step may.
    /// Returns whether there were any.
    fn let_oldest_go(&mut self, walked: &mut usize) -> bool {
        let Some(oldest) = self.log.oldest_dense() else { return false };
        let mut holders = Vec::new();
        for index in self.blocked.indexes() {
            let (mut ranges, mut looked_at) = (self.subscribers.outboxes[index as usize].ranges(), 0);
            let holds = ranges.any(|range| {
                looked_at += 1;
                range.segment == oldest
            });
            *walked += 1 + looked_at;
            if holds {
                holders.push(index);
            }
            if holders.len() == MEMORY_LET_GO {
                break;
            }
        }
        for &index in &holders {
            *walked += self.subscribers.outboxes[index as usize].ranges().count();
            self.let_go(index, oldest);
        }
        *walked += holders.len() * (MEMORY_WALKED / MEMORY_LET_GO);
        !holders.is_empty()
    }

    /// Takes a segment from a subscriber: drops its frames there if their classes allow that, else ends the subscriber.
    fn let_go(&mut self, index: u32, segment: u32) {
        let key = self.subscribers.key(index);
        if !self.is_open(key) {
            self.give_up(index);
            return;
        }
        let rules = self.fabric.rules.clone();
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
