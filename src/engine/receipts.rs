//! Receipts: what became of a publication, for a publisher that asks.
//!
//! When the flush pass that was to write a frame is over, whoever was to have it has been offered it, has lost it, or is not
//! writable. What was lost was noted as it happened (`watched`); what is still queued is counted here, in one walk over
//! those who have something queued, for all frames whose pass is over; the rest was written. Each shard adds its part to
//! the tally that came with the publication.

use super::{
    log::Range,
    shard::Shard,
    watched::{Frame, FrameName, Place},
};
use crate::publication::Receipt;

impl Shard {
    /// Makes out the receipts of frames whose pass is over.
    pub(super) fn settle_receipts(&mut self) {
        if self.log.watched.is_empty() {
            return;
        }
        let over = self.log.watched.take_over(self.dirty.front().map(|dirty| dirty.mark));
        if over.is_empty() {
            return;
        }
        let queued = self.count_queued(&over);
        for ((name, frame), queued) in over.into_iter().zip(queued) {
            let mut receipt = Receipt { queued, ..frame.receipt };
            let gone = receipt.queued + receipt.dropped + receipt.conflated;
            debug_assert!(gone <= receipt.matched, "{receipt:?}: more than there were");
            receipt.written = receipt.matched.saturating_sub(gone);
            frame.tally.send_modify(|sum| *sum += receipt);
            self.log.books.let_go(name.0);
        }
    }

    /// For each of these frames how many subscribers have it queued.
    fn count_queued(&self, frames: &[(FrameName, Frame)]) -> Vec<u64> {
        let mut places: Vec<(Place, usize)> = Vec::with_capacity(frames.len());
        for (number, (name, frame)) in frames.iter().enumerate() {
            let lie = frame.places.iter().filter(|&&place| self.log.is_at(place, *name));
            places.extend(lie.map(|&place| (place, number)));
        }
        places.sort_unstable();
        // A copy that went, and another that came to its place, are one.
        places.dedup();
        let mut counts = vec![0; frames.len()];
        for index in self.holders(|range| !within(&places, range).is_empty()) {
            for range in self.subscribers.outboxes[index as usize].ranges() {
                for &(_, number) in within(&places, range) {
                    counts[number] += 1;
                }
            }
        }
        counts
    }

    /// Who has such a range queued that the pass did not write, each once: among those who are blocked, and those who are
    /// dirty again.
    fn holders(&self, is_wanted: impl Fn(Range) -> bool) -> Vec<u32> {
        let outboxes = &self.subscribers.outboxes;
        let dirty = self.dirty.iter().map(|dirty| dirty.index);
        // One that came to the place of another is perhaps listed as dirty twice.
        let mut holders: Vec<u32> = (self.blocked.indexes().chain(dirty))
            .filter(|&index| outboxes[index as usize].ranges().any(&is_wanted))
            .collect();
        holders.sort_unstable();
        holders.dedup();
        holders
    }
}

/// The places, which are sorted, of frames that end in `range`.
fn within(places: &[(Place, usize)], range: Range) -> &[(Place, usize)] {
    let from = places.partition_point(|&(place, _)| place <= (range.segment, range.start));
    let to = places.partition_point(|&(place, _)| place <= (range.segment, range.end));
    &places[from..to]
}
