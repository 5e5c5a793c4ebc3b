//! Flushing: each dirty subscriber's queue to the transport, one offer a pass.
//!
//! What arrives while a pass is under way stretches the ranges of subscribers the pass has not reached: batching
//! grows with load and is nil without. A connection that takes no more leaves the dirty list and comes back when it
//! is writable.

use smallvec::SmallVec;

use super::{
    log::Range,
    outbox::{Flags, Gathered, Slices},
    shard::{Event, Loss, Shard},
    subscribers::Key,
    transport::{Offered, Transport},
};

/// Offers whose result comes with `finish`, and what was offered.
type Later = SmallVec<[(u32, Gathered); 8]>;

impl Shard {
    /// Offers the queues of at most `offers` dirty subscribers to the transport, in the order of marking. Returns how
    /// many were offered; fewer than asked for means that nothing is dirty any more.
    pub fn flush(&mut self, transport: &mut impl Transport, offers: usize) -> usize {
        let mut later = Later::new();
        let mut counted = (Range::EMPTY, 0);
        let mut done = 0;
        while done < offers {
            let Some(dirty) = self.dirty.pop_front() else { break };
            done += usize::from(self.flush_one(dirty.index, transport, &mut later, &mut counted));
        }
        if self.dirty.is_empty() && self.dirty.capacity() > 4_096 && self.dirty.capacity() > 4 * done {
            self.dirty.shrink_to(self.subscribers.len());
        }
        if !later.is_empty() {
            self.finish_later(transport, later);
        }
        done
    }

    /// Offers one subscriber's queue. Returns whether there was something to offer.
    fn flush_one(
        &mut self,
        index: u32,
        transport: &mut impl Transport,
        later: &mut Later,
        counted: &mut (Range, u64),
    ) -> bool {
        let outbox = &mut self.subscribers.outboxes[index as usize];
        if !outbox.flags.has(Flags::DIRTY) {
            // Its place was given up, and perhaps taken again, while it stood here.
            return false;
        }
        outbox.flags.clear(Flags::DIRTY);
        if outbox.is_empty() || outbox.flags.has(Flags::BLOCKED) {
            return false;
        }
        let key = Key { index, generation: outbox.generation };
        let outbox = &self.subscribers.outboxes[index as usize];
        let mut slices = Slices::new();
        let gathered = outbox.gather(&self.log, &mut slices);
        let offered = transport.offer(key, &slices);
        drop(slices);
        let whole = Offered::Wrote { bytes: gathered.bytes, unflushed: false };
        if offered == whole && outbox.is_plain() && !outbox.flags.has(Flags::CLOSING) {
            // Nearly every offer ends here: one range, taken whole.
            let outbox = &mut self.subscribers.outboxes[index as usize];
            let range = std::mem::replace(&mut outbox.tail, Range::EMPTY);
            if counted.0 != range {
                *counted = (range, self.log.frames(range));
            }
            self.log.unpin(range.segment, 1);
            let metrics = self.metrics();
            metrics.written.add(counted.1);
            metrics.bytes_written.add(gathered.bytes as u64);
            metrics.writes.add(1);
            return true;
        }
        if offered == Offered::Later {
            later.push((index, gathered));
        } else {
            self.offered(index, gathered, offered);
        }
        true
    }

    #[cold]
    fn finish_later(&mut self, transport: &mut impl Transport, later: Later) {
        let mut results = Vec::with_capacity(later.len());
        transport.finish(&mut results);
        debug_assert_eq!(results.len(), later.len(), "one result for each offer that was to come later");
        for ((index, gathered), (key, offered)) in later.into_iter().zip(results) {
            debug_assert_eq!(self.subscribers.key(index), key, "results come in the order of the offers");
            debug_assert_ne!(offered, Offered::Later);
            self.offered(index, gathered, offered);
        }
    }

    /// Takes the result of an offer.
    fn offered(&mut self, index: u32, gathered: Gathered, offered: Offered) {
        let outbox = &mut self.subscribers.outboxes[index as usize];
        match offered {
            Offered::Wrote { bytes, unflushed } => {
                let taken = outbox.advance(bytes, &mut self.log);
                let full = bytes < gathered.bytes || unflushed;
                let (empty, closing) = (outbox.is_empty(), outbox.flags.has(Flags::CLOSING));
                let metrics = self.metrics();
                metrics.written.add(taken.frames);
                metrics.bytes_written.add(bytes as u64);
                metrics.writes.add(1);
                if full {
                    self.metrics().would_block.add(1);
                    self.block(index);
                } else if !empty {
                    self.make_dirty(index);
                } else if closing {
                    let key = self.subscribers.key(index);
                    self.tell(Event::Ended { key });
                }
            }
            Offered::WouldBlock => {
                self.metrics().would_block.add(1);
                self.block(index);
            }
            Offered::Later | Offered::Closed => self.lose(index, Loss::Closed),
        }
    }

    /// The connection is gone, or given up: nothing will be written to it any more.
    pub(super) fn lose(&mut self, index: u32, loss: Loss) {
        let key = self.subscribers.key(index);
        self.abandon_topics(index);
        let outbox = &mut self.subscribers.outboxes[index as usize];
        let taken = outbox.clear(&mut self.log);
        outbox.flags.set(Flags::CLOSING);
        self.take_off_blocked(index);
        self.count_loss(loss, taken.frames);
        self.tell(Event::Lost { key });
    }
}
