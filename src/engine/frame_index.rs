//! The side index of a log segment: where each frame ends, and what is known of it besides its bytes.
//!
//! Frames lie one behind the other from the segment's begin, so the end of one is the begin of the next. What is known of
//! a frame is needed only when it is not written: to decide whether it may go, and to say what was lost.

use std::{fmt, ops::Range};

/// What is known of a frame besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// The book of its topic.
    pub(crate) book: u32,
    /// When it was appended: milliseconds of the shard's clock, the low half.
    pub(crate) at: u32,
    /// Its offset in its topic, live or replayed.
    pub(crate) offset: FrameOffset,
    /// The hash of its conflation key; 0 is none.
    pub(crate) key: u64,
}

/// The offset of a frame's message in its topic, and whether it is a frame that was made to be replayed. Both in one word,
/// because there is one of these for each frame in the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FrameOffset(u64);

/// One frame of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Indexed {
    /// Its first byte.
    pub(crate) start: u32,
    /// The byte behind its last.
    pub(crate) end: u32,
    pub(crate) note: Note,
}

/// The frames of one segment, in the order in which they lie there.
#[derive(Debug, Default)]
pub(crate) struct FrameIndex {
    /// Ascending.
    ends: Vec<u32>,
    /// One for each end.
    notes: Vec<Note>,
}

/// What the index of one frame costs, bytes.
const ENTRY_BYTES: usize = size_of::<u32>() + size_of::<Note>();

impl FrameOffset {
    /// Offsets count from 1 in each epoch, so that the highest bit is free.
    const REPLAYED: u64 = 1 << 63;

    /// Of a frame that is appended for those who have the topic when the message is published.
    #[inline]
    pub(crate) fn live(offset: u64) -> Self {
        debug_assert!(offset < Self::REPLAYED);
        Self(offset)
    }

    /// Of a frame that is appended for those who ask for what was published before.
    pub(crate) fn replayed(offset: u64) -> Self {
        debug_assert!(offset < Self::REPLAYED);
        Self(offset | Self::REPLAYED)
    }

    /// The offset.
    #[inline]
    pub(crate) fn get(self) -> u64 {
        self.0 & !Self::REPLAYED
    }
}

impl fmt::Debug for FrameOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = if *self == Self::live(self.get()) { "live" } else { "replayed" };
        write!(f, "{which} {}", self.get())
    }
}

impl FrameIndex {
    /// Appends a frame that ends at `end`.
    #[inline]
    pub(crate) fn push(&mut self, end: u32, note: Note) {
        self.ends.push(end);
        self.notes.push(note);
    }

    /// Forgets all frames.
    pub(crate) fn clear(&mut self) {
        self.ends.clear();
        self.notes.clear();
    }

    /// Frames there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// What the index costs, bytes.
    pub(crate) fn held(&self) -> usize {
        self.ends.capacity() * ENTRY_BYTES
    }

    /// How many frames end behind `start` and not behind `end`.
    pub(crate) fn count(&self, start: u32, end: u32) -> u64 {
        (self.behind(end) - self.behind(start)) as u64
    }

    /// The numbers of the frames that end behind `start` and not behind `end`.
    pub(crate) fn numbers(&self, start: u32, end: u32) -> Range<usize> {
        self.behind(start)..self.behind(end)
    }

    /// One frame.
    pub(crate) fn get(&self, number: usize) -> Indexed {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        Indexed { start, end: self.ends[number], note: self.notes[number] }
    }

    /// The frames that end behind `start` and not behind `end`; the first may have begun before.
    pub(crate) fn within(&self, start: u32, end: u32) -> impl Iterator<Item = Indexed> + '_ {
        self.numbers(start, end).map(|number| self.get(number))
    }

    /// What is known of the frame that ends at `end`.
    pub(crate) fn ending_at(&self, end: u32) -> Option<&Note> {
        self.ends.binary_search(&end).ok().map(|number| &self.notes[number])
    }

    /// What is known of all frames.
    pub(crate) fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The end of the frame that the byte at `start` belongs to, if `start` is not that frame's begin.
    pub(crate) fn cut_frame_end(&self, start: u32) -> Option<u32> {
        let frame = self.get(self.behind(start));
        (frame.start != start).then_some(frame.end)
    }

    /// The number of the first frame that ends behind `place`.
    fn behind(&self, place: u32) -> usize {
        self.ends.partition_point(|&end| end <= place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_by_any_place_in_them() {
        let mut index = FrameIndex::default();
        let note = |offset| Note { book: 1, at: 2, offset: FrameOffset::live(offset), key: 0 };
        for (offset, end) in [(1, 5), (2, 7), (3, 20)] {
            index.push(end, note(offset));
        }
        assert_eq!(index.count(0, 20), 3);
        assert_eq!(index.count(3, 7), 2, "a cut frame still ends there");
        assert_eq!(index.get(1), Indexed { start: 5, end: 7, note: note(2) });
        let offsets: Vec<u64> = index.within(5, 20).map(|frame| frame.note.offset.get()).collect();
        assert_eq!(offsets, [2, 3]);
        assert_eq!((index.cut_frame_end(6), index.cut_frame_end(7)), (Some(7), None));
        index.clear();
        assert_eq!((index.len(), index.count(0, 99)), (0, 0));
        assert!(index.held() > 0, "its memory is kept");
    }

    #[test]
    fn offset_of_a_replayed_frame_is_the_same_and_another() {
        let (live, replayed) = (FrameOffset::live(7), FrameOffset::replayed(7));
        assert_eq!((live.get(), replayed.get()), (7, 7));
        assert_ne!(live, replayed);
        assert_eq!(format!("{live:?}, {replayed:?}"), "live 7, replayed 7");
    }
}
