//! What becomes of subscribers that hold memory for too long: the shard's logs over their bound, frames too old.
//!
//! Only *blocked* subscribers are judged here, never one that the flush has not reached. There is one policy so far:
//! a slow consumer is disconnected (1013), and what it had queued is counted.

use super::{
    log::{Compacted, Range},
    outbox::Flags,
    shard::Shard,
};
use crate::metrics::Loss;

impl Shard {
    /// Disconnects blocked subscribers whose oldest queued frame is too old. Walks the blocked list; called about once
    /// a second.
    pub fn drop_overdue(&mut self) {
        let age = self.common.bounds.outbox_age_ms;
        for index in self.blocked.indexes() {
            let outbox = &self.subscribers.outboxes[index as usize];
            if outbox.flags.has(Flags::CLOSING) {
                continue;
            }
            let oldest = outbox.ranges().next();
            if oldest.is_some_and(|range| self.log.touched(range.segment) + age < self.now) {
                self.doomed.push((index, Loss::Age));
            }
        }
        self.close_doomed();
    }

    /// When the logs are over their bound, makes room: compacts the oldest segment, one walk over the blocked list;
    /// when no segment has anything to spare, disconnects those who hold the oldest.
    pub(super) fn relieve_memory(&mut self) {
        if self.log.held() <= self.common.bounds.log_bytes {
            return;
        }
        if let Some(victim) = self.log.oldest_fresh() {
            let ranges: Vec<Range> = self.blocked_ranges(victim).map(|(_, range)| range).collect();
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
                let key = self.subscribers.key(index);
                match self.is_open(key) {
                    true => self.close_slow(key, Loss::Memory),
                    false => self.give_up(index),
                }
            }
        }
    }

    /// Takes the memory from a subscriber that is being closed and does not read what it was still to get: it cannot
    /// be disconnected a second time, and while it held on, the shard would take nothing.
    fn give_up(&mut self, index: u32) {
        let outbox = &mut self.subscribers.outboxes[index as usize];
        if outbox.flags.has(Flags::ATTACHING) {
            let taken = outbox.discard(&mut self.log);
            self.metrics().count_loss(Loss::Memory, taken.frames);
        } else {
            self.lose(index, Loss::Memory);
        }
    }

    /// The ranges of blocked subscribers that point into a segment.
    fn blocked_ranges(&self, segment: u32) -> impl Iterator<Item = (u32, Range)> {
        self.blocked.indexes().flat_map(move |index| {
            let ranges = self.subscribers.outboxes[index as usize].ranges();
            ranges.filter(move |range| range.segment == segment).map(move |range| (index, range))
        })
    }
}
