//! Flushing: each dirty subscriber's queue to the transport, one offer a pass.
//!
//! What arrives while a pass is under way stretches the ranges of subscribers the pass has not reached: batching
//! grows with load and is nil without. A connection that takes no more leaves the dirty list and comes back when it
//! is writable.

use std::io::IoSlice;

use smallvec::SmallVec;

use super::{
    event::Event,
    log::Range,
    outbox::{Flags, Gathered, Slices},
    shard::Shard,
    subscribers::Key,
    transport::{Offered, Transport},
};
use crate::metrics::{Loss, messages_per_write_bucket};

/// Dirty subscribers taken off the list at once. Looking at all of them first has the waits for their outboxes, which
/// may lie anywhere in memory, pass together.
const BATCH: usize = 64;

/// Dirty subscribers that have something to write.
type Batch = [u32; BATCH];

impl Shard {
    /// Offers the queues of at most `offers` dirty subscribers to the transport, in the order of marking. Returns how
    /// many were offered; fewer than asked for means that nothing is dirty any more.
    pub fn flush(&mut self, transport: &mut impl Transport, offers: usize) -> usize {
        let mut batch = [0; BATCH];
        let mut done = 0;
        while done < offers && !self.dirty.is_empty() {
            let found = self.next_batch(offers - done, &mut batch);
            done += found;
            let mut left = &batch[..found];
            while !left.is_empty() {
                let offered = self.flush_alike(left, transport);
                left = &left[offered..];
            }
        }
        if done > 0 {
            self.congestion.wrote();
        }
        self.close_doomed();
        self.settle_receipts();
        if self.dirty.is_empty() && self.dirty.capacity() > 4_096 && self.dirty.capacity() > 4 * done {
            self.dirty.shrink_to(self.subscribers.len());
        }
        done
    }

    /// Takes dirty subscribers off the list, `most` at most, and puts those that have something to write into `batch`.
    /// Returns how many those are.
    fn next_batch(&mut self, most: usize, batch: &mut Batch) -> usize {
        let outboxes = &mut self.subscribers.outboxes[..];
        let (front, _) = self.dirty.as_slices();
        let front = &front[..most.min(BATCH).min(front.len())];
        let mut found = 0;
        for dirty in front {
            let outbox = &mut outboxes[dirty.index as usize];
            // Not dirty: its place was given up, and perhaps taken again, while it stood in the list.
            let due =
                outbox.flags.has(Flags::DIRTY) && !outbox.flags.has(Flags::BLOCKED) && !outbox.is_empty();
            outbox.flags.clear(Flags::DIRTY);
            batch[found] = dirty.index;
            found += usize::from(due);
        }
        let taken = front.len();
        self.dirty.drain(..taken);
        found
    }

    /// Offers the queue of the first of `batch`, and the same slices to those behind it whose queue is the same range.
    /// Returns how many were offered, at least one.
    fn flush_alike(&mut self, batch: &[u32], transport: &mut impl Transport) -> usize {
        let outboxes = &mut self.subscribers.outboxes;
        let Some(range) = outboxes[batch[0] as usize].only_range() else {
            self.flush_mixed(batch[0], transport);
            return 1;
        };
        let slices: SmallVec<[IoSlice<'_>; 2]> = self.log.slices(range).map(IoSlice::new).collect();
        let whole = Offered::Wrote { bytes: range.len(), unflushed: false };
        let mut taken = 0;
        let mut not_whole = None;
        for &index in batch {
            let outbox = &mut outboxes[index as usize];
            if outbox.only_range() != Some(range) {
                break;
            }
            let offered = transport.offer(Key { index, generation: outbox.generation }, &slices);
            if offered != whole {
                not_whole = Some((index, offered));
                break;
            }
            outbox.tail = Range::EMPTY;
            taken += 1;
        }
        drop(slices);
        if taken > 0 {
            let frames = self.log.frames(range);
            self.log.unpin(range.segment, taken);
            let (metrics, taken) = (self.metrics(), u64::from(taken));
            metrics.written.add(frames * taken);
            metrics.bytes_written.add(range.len() as u64 * taken);
            metrics.writes.add(taken);
            metrics.messages_per_write.count(messages_per_write_bucket(frames), taken);
        }
        if let Some((index, offered)) = not_whole {
            self.offered(index, Gathered { bytes: range.len(), all: true }, offered);
        }
        taken as usize + usize::from(not_whole.is_some())
    }

    /// Offers one subscriber's queue, whatever it is.
    #[cold]
    fn flush_mixed(&mut self, index: u32, transport: &mut impl Transport) {
        let outbox = &self.subscribers.outboxes[index as usize];
        let mut slices = Slices::new();
        let gathered = outbox.gather(&self.log, &mut slices);
        let offered = transport.offer(Key { index, generation: outbox.generation }, &slices);
        drop(slices);
        self.offered(index, gathered, offered);
    }

    /// Takes the result of an offer.
    fn offered(&mut self, index: u32, gathered: Gathered, offered: Offered) {
        let outbox = &mut self.subscribers.outboxes[index as usize];
        match offered {
            Offered::Wrote { bytes, unflushed } => {
                let taken = outbox.advance(bytes, &mut self.log);
                outbox.flags.clear(Flags::ONLY_NEWEST);
                let full = bytes < gathered.bytes || unflushed;
                let (empty, closing) = (outbox.is_empty(), outbox.flags.has(Flags::CLOSING));
                let metrics = self.metrics();
                metrics.written.add(taken.frames);
                metrics.bytes_written.add(bytes as u64);
                metrics.writes.add(1);
                metrics.messages_per_write.count(messages_per_write_bucket(taken.frames), 1);
                if full {
                    self.metrics().would_block.add(1);
                    self.block_with_queue(index);
                } else if !empty {
                    self.make_dirty(index);
                } else if closing {
                    let key = self.subscribers.key(index);
                    self.tell(Event::Ended { key });
                }
            }
            Offered::WouldBlock => {
                self.metrics().would_block.add(1);
                self.block_with_queue(index);
            }
            Offered::Closed => self.lose(index, Loss::Closed),
        }
    }

    /// Notes that the connection of a subscriber takes no more of its queue now. It may have more queued than it may, if
    /// it was not written to for a while, because it waited for its socket or for an answer: what may go goes, and if that
    /// is not enough it is behind like one that reads, and judged when the sockets were looked at.
    fn block_with_queue(&mut self, index: u32) {
        self.block(index);
        if self.subscribers.outboxes[index as usize].is_over(self.fabric.bounds.outbox_bytes)
            && !self.drop_what_may_go(index)
        {
            self.note_behind(index);
        }
    }

    /// The connection is gone, or given up: nothing will be written to it any more.
    pub(super) fn lose(&mut self, index: u32, loss: Loss) {
        let key = self.subscribers.key(index);
        self.abandon_topics(index);
        let outbox = &mut self.subscribers.outboxes[index as usize];
        let lost = outbox.clear(&mut self.log, loss);
        outbox.flags.set(Flags::CLOSING);
        self.take_off_blocked(index);
        self.metrics().count_loss(loss, lost);
        self.tell(Event::Lost { key });
    }
}
