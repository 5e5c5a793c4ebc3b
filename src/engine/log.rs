//! Where a shard keeps frame bytes: append-only segments of encoded frames, with a side index of frame ends.
//!
//! A frame is appended once, whoever is to receive it; outboxes hold [`Range`]s that point here. Two tails are
//! appended to, so that frames for everyone stay adjacent when frames for one user come between. A large frame is
//! a segment of its own, its body shared and not copied. A segment lives while ranges point into it: it counts
//! them (`pins`), the shard tells it when one comes or goes. The log never looks into an outbox; compaction is told
//! which frames are wanted and answers where they went.

use std::collections::VecDeque;

pub(crate) use lane::Lane;

use bytes::Bytes;
use slab::Slab;

use super::{
    age_list::{AgeList, Aged, Neighbours},
    books::Books,
    frame_index::{FrameIndex, Indexed, Note},
    watched::{FrameName, Place, Watched},
};
use crate::{
    limits::{LARGE_FRAME_BYTES, SEGMENT_BYTES},
    metrics::Loss,
    websocket::Header,
};

mod copying;
mod inspection;
mod lane;

/// Segments kept for reuse when nobody points into them any more.
const SPARE_SEGMENTS: usize = 4;
/// A segment of which this share (in quarters) is wanted is not worth copying.
const DENSE_QUARTERS: usize = 3;

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

#[derive(Debug)]
enum Body {
    /// Frames one behind the other.
    Packed(Vec<u8>),
    /// One large frame.
    Shared { header: Header, body: Bytes },
}

/// Where a segment stands in its life; the last two are the lists it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A tail: frames are appended to it, and it lives without pins.
    Open,
    /// Full, as it was appended.
    Fresh,
    /// Holds nothing, or next to nothing, that nobody wants.
    Dense,
    /// Holds the rest of a partly written frame and nothing else.
    Rest,
}

#[derive(Debug)]
struct Segment {
    body: Body,
    frames: FrameIndex,
    /// Ranges of outboxes that point here.
    pins: u32,
    stage: Stage,
    neighbours: Neighbours,
}

impl Aged for Segment {
    fn neighbours(&mut self) -> &mut Neighbours {
        &mut self.neighbours
    }
}

impl Segment {
    fn len(&self) -> usize {
        match &self.body {
            Body::Packed(bytes) => bytes.len(),
            Body::Shared { header, body } => header.as_slice().len() + body.len(),
        }
    }

    /// What the segment costs, bytes.
    fn held(&self) -> usize {
        let body = match &self.body {
            Body::Packed(bytes) => bytes.capacity(),
            Body::Shared { body, .. } => body.len(),
        };
        body + self.frames.held() + size_of::<Self>()
    }
}

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

    /// The oldest segment that may hold frames nobody wants.
    pub(crate) fn oldest_fresh(&self) -> Option<u32> {
        self.fresh.oldest()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{classes::ClassId, engine::frame_index::FrameOffset, topic::Topic, websocket::Opcode};

    /// A note of a frame of the one topic there is.
    fn note(log: &mut Log) -> Note {
        let topic = Topic::parse("cats").expect("a topic");
        let book = log.books.open(topic, ClassId::DEFAULT);
        Note { book, at: 0, offset: FrameOffset::live(1), key: 0 }
    }

    fn append(log: &mut Log, lane: Lane, body: &[u8]) -> Range {
        let header = Header::new(Opcode::Text, body.len());
        log.begin(lane, header.as_slice().len() + body.len());
        let note = note(log);
        let range = log.append(lane, header, body, note);
        log.pin(range.segment, 1);
        range
    }

    fn bytes(log: &Log, range: Range) -> Vec<u8> {
        log.slices(range).flatten().copied().collect()
    }

    #[test]
    fn frames_of_one_lane_are_adjacent_and_counted() {
        let mut log = Log::new();
        let first = append(&mut log, Lane::Everyone, b"one");
        append(&mut log, Lane::Addressed, b"between");
        let second = append(&mut log, Lane::Everyone, b"two");
        assert_eq!((first.segment, first.end), (second.segment, second.start));
        let both = Range { end: second.end, ..first };
        assert_eq!(bytes(&log, both), b"\x81\x03one\x81\x03two");
        assert_eq!(log.frames(both), 2);
        assert_eq!(log.frames(Range { start: 2, ..both }), 2, "a cut frame still ends in the range");
        assert_eq!(log.cut_frame_end(both.segment, 2), Some(5));
        assert_eq!(log.cut_frame_end(both.segment, 5), None);
    }

    #[test]
    fn tail_nobody_points_into_is_used_again() {
        let mut log = Log::new();
        let first = append(&mut log, Lane::Everyone, b"one");
        log.unpin(first.segment, 1);
        assert_eq!(append(&mut log, Lane::Everyone, b"two"), first);
        assert_eq!(log.appended(), 10);
    }

    #[test]
    fn full_segment_lives_while_it_is_pinned_and_no_longer() {
        let mut log = Log::new();
        let body = vec![b'x'; 10_000];
        let ranges: Vec<Range> = (0..60).map(|_| append(&mut log, Lane::Everyone, &body)).collect();
        assert!(log.held() >= 60 * 10_000);
        for range in ranges {
            assert_eq!(log.frames(range), 1);
            log.unpin(range.segment, 1);
        }
        assert!(log.held() < (SPARE_SEGMENTS + 2) * (SEGMENT_BYTES + 1024), "{}", log.held());
        assert_eq!(log.oldest_fresh(), None);
    }

    #[test]
    fn large_frame_shares_its_body() {
        let mut log = Log::new();
        let body = Bytes::from(vec![b'y'; 20_000]);
        let header = Header::new(Opcode::Binary, body.len());
        assert!(!log.fits(Lane::Everyone, body.len()));
        let note = note(&mut log);
        let range = log.append_shared(header, body.clone(), note);
        let slices: Vec<&[u8]> = log.slices(range).collect();
        assert_eq!(slices, [header.as_slice(), &body[..]]);
        assert_eq!(slices[1].as_ptr(), body.as_ptr(), "no copy");
        let rest: Vec<&[u8]> = log.slices(Range { start: 10, ..range }).collect();
        assert_eq!(rest, [&body[6..]]);
        log.unpin(range.segment, 1);
        assert_eq!(log.oldest_dense(), None);
    }

    #[test]
    fn compaction_copies_wanted_frames_once_and_maps_ranges() {
        let mut log = Log::new();
        let ranges: Vec<Range> =
            (0..100).map(|n| append(&mut log, Lane::Everyone, format!("{n:01000}").as_bytes())).collect();
        let victim = log.oldest_fresh().expect("the first segment is full");
        let inside: Vec<Range> = ranges.iter().copied().filter(|range| range.segment == victim).collect();
        let (keep, gone): (Vec<Range>, Vec<Range>) = inside.iter().partition(|range| range.start % 16 == 0);
        assert!(keep.len() > 2 && keep.len() * 2 < inside.len());
        gone.iter().for_each(|range| log.unpin(range.segment, 1));
        let before: Vec<Vec<u8>> = keep.iter().map(|&range| bytes(&log, range)).collect();
        let cut = Range { start: keep[1].start + 10, ..keep[1] };
        let Compacted::Moved(moved) = log.compact(victim, &keep) else {
            panic!("less than half of it is wanted");
        };
        for (range, before) in keep.iter().zip(before) {
            let mapped = moved.map(*range).expect("it pointed into the victim");
            assert_eq!(bytes(&log, mapped), before);
            assert_eq!(log.frames(mapped), 1);
        }
        let mapped = moved.map(cut).expect("it pointed into the victim");
        assert_eq!(log.cut_frame_end(mapped.segment, mapped.start), Some(mapped.end));
        assert_eq!(moved.map(*ranges.last().expect("there are some")), None);
        assert_eq!(log.pins(mapped.segment) as usize, keep.len());
    }

    #[test]
    fn dense_segment_is_not_copied() {
        let mut log = Log::new();
        let ranges: Vec<Range> = (0..100).map(|_| append(&mut log, Lane::Everyone, &[b'z'; 1_000])).collect();
        let victim = log.oldest_fresh().expect("the first segment is full");
        let inside: Vec<Range> = ranges.into_iter().filter(|range| range.segment == victim).collect();
        assert!(matches!(log.compact(victim, &inside), Compacted::StaysDense));
        assert_eq!((log.oldest_fresh(), log.oldest_dense()), (None, Some(victim)));
    }

    #[test]
    fn rest_of_a_frame_goes_last_and_though_nobody_holds_the_compact_tail() {
        let mut log = Log::new();
        let ranges: Vec<Range> = (0..100).map(|_| append(&mut log, Lane::Everyone, &[b'z'; 1_000])).collect();
        let victim = log.oldest_fresh().expect("the first segment is full");
        let inside: Vec<Range> = ranges.iter().copied().filter(|range| range.segment == victim).collect();
        let kept = inside[3];
        log.unpin(victim, inside.len() as u32 - 1);
        let Compacted::Moved(moved) = log.compact(victim, &[kept]) else { panic!("little is wanted") };
        let moved = moved.map(kept).expect("it pointed into the victim");
        let begun = *ranges.last().expect("there are some");
        let rest = log.copy_rest(Range { start: begun.start + 10, ..begun });
        assert_eq!(log.oldest_dense(), Some(moved.segment));
        log.unpin(moved.segment, 1);
        assert_eq!(log.oldest_dense(), Some(rest.segment));
        log.unpin(rest.segment, 1);
        assert_eq!(log.oldest_dense(), None);
    }

    #[test]
    fn ranges_are_copied_together_frame_by_frame() {
        let mut log = Log::new();
        let one = append(&mut log, Lane::Everyone, b"one");
        let two = append(&mut log, Lane::Addressed, b"two");
        let cut = Range { start: one.start + 2, ..one };
        let together = log.copy_together(&[cut, two]);
        assert_eq!(bytes(&log, together), b"one\x81\x03two");
        assert_eq!(log.frames(together), 2);
        log.unpin(together.segment, 1);
        assert_eq!(log.oldest_dense(), None);
    }
}
