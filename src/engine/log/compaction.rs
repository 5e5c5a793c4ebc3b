//! Compaction of a log: the frames of an old segment that somebody still wants are moved, once, and the segment is freed.

use super::{AgeList, Body, Indexed, Log, Range, SEGMENT_BYTES, Stage};

/// A segment of which this share (in quarters) is wanted is not worth copying.
const DENSE_QUARTERS: usize = 3;

/// What compacting a segment came to.
pub(crate) enum Compacted {
    /// The wanted frames stand elsewhere now; ranges must be mapped.
    Moved(Moved),
    /// Nearly all of it is wanted: it stays, and is not tried again.
    StaysDense,
}

/// Where the wanted frames of a compacted segment went.
pub(crate) struct Moved {
    from: u32,
    to: u32,
    /// For each old frame: its begin, its end, and its new begin.
    frames: Vec<(u32, u32, u32)>,
}

impl Moved {
    /// The new place of `range`, if it pointed into the compacted segment.
    pub(crate) fn map(&self, range: Range) -> Option<Range> {
        if range.is_empty() || range.segment != self.from {
            return None;
        }
        // The frame that `start` is in: the first whose end lies behind it.
        let first = self.frames.partition_point(|&(_, end, _)| end <= range.start);
        let (begin, _, moved) = self.frames[first];
        let start = moved + (range.start - begin);
        Some(Range { segment: self.to, start, end: start + (range.end - range.start) })
    }
}

impl Log {
    /// The oldest segments that may hold frames nobody wants, with so many pins together at most, or the oldest alone.
    pub(crate) fn oldest_fresh(&mut self, most: usize, pins_most: usize) -> Vec<u32> {
        let (mut ids, mut pins) = (Vec::new(), 0);
        let mut next = self.fresh.oldest();
        while let Some(id) = next.filter(|_| ids.len() < most) {
            pins += self.segments[id as usize].pins as usize;
            if pins > pins_most && !ids.is_empty() {
                break;
            }
            ids.push(id);
            next = AgeList::next_younger(&mut self.segments, id);
        }
        ids
    }

    /// The oldest segment of which nothing can be saved. What holds no more than the rest of a frame comes last.
    pub(crate) fn oldest_dense(&self) -> Option<u32> {
        let compact = self.compact_tail.filter(|&id| self.segments[id as usize].pins > 0);
        self.dense.oldest().or(compact).or(self.rests.oldest())
    }

    /// Moves the wanted frames of a fresh segment into a compact one and frees it. `ranges` are all ranges that point
    /// into it, as many as it counts.
    pub(crate) fn compact(&mut self, id: u32, ranges: &[Range]) -> Compacted {
        let segment = &self.segments[id as usize];
        debug_assert_eq!(segment.pins as usize, ranges.len());
        let mut wanted = vec![false; segment.frames.len()];
        for range in ranges {
            wanted[segment.frames.numbers(range.start, range.end)].fill(true);
        }
        let wanted: Vec<Indexed> =
            (0..wanted.len()).filter(|&frame| wanted[frame]).map(|frame| segment.frames.get(frame)).collect();
        let len: usize = wanted.iter().map(|frame| (frame.end - frame.start) as usize).sum();
        if len * 4 >= segment.len() * DENSE_QUARTERS {
            self.fresh.remove(&mut self.segments, id);
            self.segments[id as usize].stage = Stage::Dense;
            self.dense.push_youngest(&mut self.segments, id);
            return Compacted::StaysDense;
        }
        let to = self.compact_target(len);
        let (from, target) = self.segments.get2_mut(id as usize, to as usize).expect("they are two segments");
        let (Body::Packed(source), Body::Packed(copy)) = (&from.body, &mut target.body) else {
            unreachable!("fresh segments and the compact tail are packed");
        };
        let before = target.frames.held();
        let mut frames = Vec::with_capacity(wanted.len());
        for Indexed { start, end, note } in wanted {
            frames.push((start, end, copy.len() as u32));
            copy.extend_from_slice(&source[start as usize..end as usize]);
            target.frames.push(copy.len() as u32, note);
            self.books.enter(&note);
            self.watched.copied(&note, (to, copy.len() as u32));
        }
        target.pins += from.pins;
        self.held += target.frames.held() - before;
        from.pins = 0;
        self.settle(id);
        Compacted::Moved(Moved { from: id, to, frames })
    }

    /// An open compact segment with room for `len` bytes.
    fn compact_target(&mut self, len: usize) -> u32 {
        if let Some(id) = self.compact_tail {
            let target = &self.segments[id as usize];
            if target.pins > 0 && target.len() + len <= SEGMENT_BYTES {
                return id;
            }
            self.compact_tail = None;
            self.segments[id as usize].stage = Stage::Dense;
            self.dense.push_youngest(&mut self.segments, id);
            self.settle(id);
        }
        let id = self.open_segment(SEGMENT_BYTES);
        self.compact_tail = Some(id);
        id
    }
}
