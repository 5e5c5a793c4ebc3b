//! Where a shard keeps frame bytes: append-only segments of encoded frames, with a side index of frame ends.
//!
//! A frame is appended once, whoever is to receive it; outboxes hold [`Range`]s that point here. Two tails are
//! appended to, so that frames for everyone stay adjacent when frames for one user come between. A large frame is
//! a segment of its own, its body shared and not copied. A segment lives while ranges point into it: it counts
//! them (`pins`), the shard tells it when one comes or goes. The log never looks into an outbox; compaction is told
//! which frames are wanted and answers where they went.

use std::collections::VecDeque;

pub(crate) use compaction::{Compacted, Moved};
pub(crate) use lane::Lane;

use bytes::Bytes;
use slab::Slab;

use segment::{Body, Segment, Stage};

use super::{
    age_list::{AgeList, Neighbours},
    books::Books,
    frame_index::{FrameIndex, Indexed, Note},
    watched::{FrameName, Place, Watched},
};
use crate::{
    limits::{LARGE_FRAME_BYTES, SEGMENT_BYTES},
    metrics::Loss,
    websocket::Header,
};

mod compaction;
mod copying;
mod inspection;
mod lane;
mod segment;

/// Segments kept for reuse when nobody points into them any more.
const SPARE_SEGMENTS: usize = 4;

/// Bytes of one segment, from a place to a place. Starts at a frame's begin or, when that frame is partly written,
/// inside it; always ends at a frame's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) segment: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Range {
    /// No bytes of no segment.
    pub(crate) const EMPTY: Self = Self { segment: u32::MAX, start: 0, end: 0 };

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(crate) fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// All segments of one shard.
#[derive(Debug)]
pub(crate) struct Log {
    segments: Slab<Segment>,
    /// The open segment of each lane.
    tails: [u32; Lane::COUNT],
    /// The open segment that compaction copies into.
    compact_tail: Option<u32>,
    fresh: AgeList,
    dense: AgeList,
    rests: AgeList,
    spare: Vec<(Vec<u8>, FrameIndex)>,
    /// What was copied together lately, and into which segment, the oldest first. Clients that stall together are
    /// behind on the same frames; so their copy is one.
    copies: VecDeque<(Box<[Range]>, u32)>,
    pub(crate) books: Books,
    /// Frames of which somebody wants to know what becomes of them.
    pub(crate) watched: Watched,
    /// Bytes all segments cost.
    held: usize,
    /// Bytes ever appended.
    appended: u64,
}

impl Log {
    pub(crate) fn new() -> Self {
        let mut log = Self {
            segments: Slab::new(),
            tails: [0; Lane::COUNT],
            compact_tail: None,
            fresh: AgeList::new(),
            dense: AgeList::new(),
            rests: AgeList::new(),
            spare: Vec::new(),
            copies: VecDeque::new(),
            books: Books::default(),
            watched: Watched::default(),
            held: 0,
            appended: 0,
        };
        log.tails = std::array::from_fn(|_| log.open_segment(0));
        log
    }

    /// Begins a run of frames on `lane`, the first of `len` bytes: afterwards the tail has room for it. What was appended before must have been pinned by now.
    pub(crate) fn begin(&mut self, lane: Lane, len: usize) {
        let id = self.tails[lane as usize];
        let tail = &mut self.segments[id as usize];
        if tail.pins == 0 {
            // Nobody points here: begin again at its start, in memory that is still in the cache.
            self.books.leave(tail.frames.notes());
            tail.frames.clear();
            self.copies.retain(|(ranges, _)| ranges.iter().all(|range| range.segment != id));
            if let Body::Packed(bytes) = &mut tail.body {
                bytes.clear();
            }
            return;
        }
        if !self.fits(lane, len) {
            let opened = self.open_segment(SEGMENT_BYTES);
            let full = std::mem::replace(&mut self.tails[lane as usize], opened);
            self.segments[full as usize].stage = Stage::Fresh;
            self.fresh.push_youngest(&mut self.segments, full);
        }
    }

    /// Whether the tail of `lane` has room for a frame of `len` bytes. A large frame never fits.
    pub(crate) fn fits(&self, lane: Lane, len: usize) -> bool {
        len < LARGE_FRAME_BYTES
            && self.segments[self.tails[lane as usize] as usize].len() + len <= SEGMENT_BYTES
    }

    /// Appends a frame that fits.
    pub(crate) fn append(&mut self, lane: Lane, header: Header, body: &[u8], note: Note) -> Range {
        let id = self.tails[lane as usize];
        let segment = &mut self.segments[id as usize];
        let before = segment.frames.held();
        let Body::Packed(bytes) = &mut segment.body else {
            unreachable!("a tail is packed");
        };
        if bytes.capacity() == 0 {
            bytes.reserve_exact(SEGMENT_BYTES);
            self.held += SEGMENT_BYTES;
        }
        let start = bytes.len() as u32;
        bytes.extend_from_slice(header.as_slice());
        bytes.extend_from_slice(body);
        let end = bytes.len() as u32;
        segment.frames.push(end, note);
        self.books.enter(&note);
        self.held += segment.frames.held() - before;
        self.appended += u64::from(end - start);
        Range { segment: id, start, end }
    }

    /// Makes a frame a segment of its own, pinned once: the caller unpins it when it has marked its subscribers.
    pub(crate) fn append_shared(&mut self, header: Header, body: Bytes, note: Note) -> Range {
        let end = (header.as_slice().len() + body.len()) as u32;
        let mut frames = FrameIndex::default();
        frames.push(end, note);
        self.books.enter(&note);
        let segment = Segment {
            body: Body::Shared { header, body },
            frames,
            pins: 1,
            stage: Stage::Dense,
            neighbours: Neighbours::NONE,
        };
        self.held += segment.held();
        self.appended += u64::from(end);
        let id = self.segments.insert(segment) as u32;
        self.dense.push_youngest(&mut self.segments, id);
        Range { segment: id, start: 0, end }
    }

    /// Notes that `n` ranges more point into `segment`.
    pub(crate) fn pin(&mut self, segment: u32, n: u32) {
        self.segments[segment as usize].pins += n;
    }

    /// Notes that `n` ranges fewer point into `segment`, and frees it when that were the last.
    pub(crate) fn unpin(&mut self, segment: u32, n: u32) {
        self.segments[segment as usize].pins -= n;
        self.settle(segment);
    }

    /// Bytes of the frames of a segment.
    pub(crate) fn bytes_of(&self, segment: u32) -> usize {
        self.segments[segment as usize].len()
    }

    /// Frees `segment` if nobody points into it.
    fn settle(&mut self, id: u32) {
        let segment = &self.segments[id as usize];
        if segment.pins > 0 {
            return;
        }
        match segment.stage {
            Stage::Open => return,
            Stage::Fresh => self.fresh.remove(&mut self.segments, id),
            Stage::Dense => self.dense.remove(&mut self.segments, id),
            Stage::Rest => self.rests.remove(&mut self.segments, id),
        }
        let segment = self.segments.remove(id as usize);
        self.held -= segment.held();
        self.books.leave(segment.frames.notes());
        // Its number may be used again, and so may those of the segments that were copied from.
        self.copies.retain(|(ranges, copy)| *copy != id && ranges.iter().all(|range| range.segment != id));
        if let Body::Packed(mut bytes) = segment.body
            && self.spare.len() < SPARE_SEGMENTS
            && bytes.capacity() == SEGMENT_BYTES
        {
            let mut frames = segment.frames;
            bytes.clear();
            frames.clear();
            self.held += bytes.capacity() + frames.held();
            self.spare.push((bytes, frames));
        }
    }

    /// The one or two pieces of memory that `range` is.
    pub(crate) fn slices(&self, range: Range) -> impl Iterator<Item = &[u8]> {
        let (start, end) = (range.start as usize, range.end as usize);
        let (first, second): (&[u8], &[u8]) = match &self.segments[range.segment as usize].body {
            Body::Packed(bytes) => (&bytes[start..end], &[]),
            Body::Shared { header, body } => {
                let header = header.as_slice();
                let split = header.len();
                (
                    &header[start.min(split)..end.min(split)],
                    &body[start.saturating_sub(split)..end.saturating_sub(split)],
                )
            }
        };
        [first, second].into_iter().filter(|slice| !slice.is_empty())
    }

    /// How many frames end in `range`.
    pub(crate) fn frames(&self, range: Range) -> u64 {
        match range.is_empty() {
            true => 0,
            false => self.segments[range.segment as usize].frames.count(range.start, range.end),
        }
    }

    /// Counts the frames that end in `range` as lost, in the books of their topics. Returns how many they are.
    pub(crate) fn lose(&mut self, range: Range, loss: Loss) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let frames = &self.segments[range.segment as usize].frames;
        let numbers = frames.numbers(range.start, range.end);
        for note in &frames.notes()[numbers.clone()] {
            self.books.lost(note.book, loss);
            self.watched.lost(note, loss);
        }
        numbers.len() as u64
    }

    /// Whether the frame of this name ends at a place where it was put: meanwhile something else may.
    pub(crate) fn is_at(&self, (segment, end): Place, (book, offset): FrameName) -> bool {
        let note = self.segments.get(segment as usize).and_then(|segment| segment.frames.ending_at(end));
        note.is_some_and(|note| (note.book, note.offset) == (book, offset))
    }

    /// The frames that end in `range`; the first may have begun before it.
    pub(crate) fn frames_in(&self, range: Range) -> impl Iterator<Item = Indexed> + '_ {
        let segment = (!range.is_empty()).then(|| &self.segments[range.segment as usize]);
        segment.into_iter().flat_map(move |segment| segment.frames.within(range.start, range.end))
    }

    /// The end of the frame that the byte at `start` belongs to, if `start` is not that frame's begin.
    pub(crate) fn cut_frame_end(&self, segment: u32, start: u32) -> Option<u32> {
        self.segments[segment as usize].frames.cut_frame_end(start)
    }

    /// Ranges that point into `segment`.
    pub(crate) fn pins(&self, segment: u32) -> u32 {
        self.segments[segment as usize].pins
    }

    /// Bytes all segments cost, the spare ones included.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Bytes ever appended.
    pub(crate) fn appended(&self) -> u64 {
        self.appended
    }

    fn open_segment(&mut self, capacity: usize) -> u32 {
        let (bytes, frames) = match self.spare.pop() {
            Some((bytes, frames)) => {
                self.held -= bytes.capacity() + frames.held();
                (bytes, frames)
            }
            None => (Vec::with_capacity(capacity), FrameIndex::default()),
        };
        let segment = Segment {
            body: Body::Packed(bytes),
            frames,
            pins: 0,
            stage: Stage::Open,
            neighbours: Neighbours::NONE,
        };
        self.held += segment.held();
        self.segments.insert(segment) as u32
    }
}

#[cfg(test)]
mod tests;
