//! Copying frames that one or a few outboxes hold into segments of their own.

use super::{Body, FrameIndex, Log, Neighbours, Range, Segment, Stage};

/// Copies of several ranges that are remembered, for others who have the same.
const COPIES: usize = 16;

impl Log {
    /// Copies whole or partly written frames into a segment of their own, pinned once for the outbox that asks. Whoever
    /// has the same ranges while that segment lives gets the same one.
    pub(crate) fn copy_together(&mut self, ranges: &[Range]) -> Range {
        if let Some((_, id)) = self.copies.iter().find(|(copied, _)| **copied == *ranges) {
            let segment = &mut self.segments[*id as usize];
            segment.pins += 1;
            return Range { segment: *id, start: 0, end: segment.len() as u32 };
        }
        let copy = self.segments.vacant_key() as u32;
        let len = ranges.iter().map(|range| range.len()).sum();
        let (mut bytes, mut frames) = (Vec::with_capacity(len), FrameIndex::default());
        for &range in ranges {
            let segment = &self.segments[range.segment as usize];
            let base = bytes.len() as u32;
            for slice in self.slices(range) {
                bytes.extend_from_slice(slice);
            }
            for frame in segment.frames.within(range.start, range.end) {
                let end = base + (frame.end - range.start);
                frames.push(end, frame.note);
                self.books.enter(&frame.note);
                self.watched.copied(&frame.note, (copy, end));
            }
        }
        let end = bytes.len() as u32;
        let body = Body::Packed(bytes);
        let neighbours = Neighbours::NONE;
        let segment = Segment { body, frames, pins: 1, stage: Stage::Dense, neighbours };
        self.held += segment.held();
        let id = self.segments.insert(segment) as u32;
        self.dense.push_youngest(&mut self.segments, id);
        if self.copies.len() == COPIES {
            self.copies.pop_front();
        }
        self.copies.push_back((ranges.into(), id));
        Range { segment: id, start: 0, end }
    }

    /// Copies the rest of a partly written frame into a segment of its own, pinned once. Whoever has the same rest gets
    /// the same segment.
    pub(crate) fn copy_rest(&mut self, rest: Range) -> Range {
        let copy = self.copy_together(&[rest]);
        let segment = &mut self.segments[copy.segment as usize];
        if segment.stage == Stage::Dense {
            segment.stage = Stage::Rest;
            self.dense.remove(&mut self.segments, copy.segment);
            self.rests.push_youngest(&mut self.segments, copy.segment);
        }
        copy
    }
}
