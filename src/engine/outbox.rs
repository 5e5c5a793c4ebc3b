//! The bounded queue to one connection: ranges of the log and control entries, in two lanes.
//!
//! What it holds is written in this order: the rest of a frame that is partly written; the *ahead* lane (ping, pong,
//! error, close); the *in order* lane, whose last entry, a range, stands in the outbox itself so that marking a
//! subscriber touches 32 bytes. Everything else is in a backlog that exists only while there is something in it.
//! Frames are never cut: whatever is discarded, a frame begun is finished. Policy (what to do at the bound) is not
//! decided here. Each range that is held here is one pin in the log.

use std::{collections::VecDeque, io::IoSlice};

use smallvec::SmallVec;

use self::backlog::{Backlog, Entry};
pub(crate) use self::dropping::Queued;
use super::log::{Log, Moved, Range};
use crate::limits::{OUTBOX_RANGES, WRITE_SLICES};

mod backlog;
mod dropping;
mod gap;

/// A small encoded frame of one connection: an answer, a ping, a close.
pub(crate) type ControlFrame = Vec<u8>;

/// Answers that follow one another share an entry up to this size, bytes.
const SHARED_ENTRY_BYTES: usize = 1024;

/// A range with at least this part of a queue's bytes is not copied when ranges are copied together.
const LARGE_RANGE_PART: usize = 128;
const _: () =
    assert!(2 * LARGE_RANGE_PART < OUTBOX_RANGES / 4 * 3, "copying together makes room for many more");

/// The slices of one write.
pub(crate) type Slices<'a> = SmallVec<[IoSlice<'a>; WRITE_SLICES]>;

/// What an outbox knows of its subscriber's connection, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    #[cfg(test)]
    pub(crate) const NONE: Self = Self(0);
    /// It stands in the dirty list.
    pub(crate) const DIRTY: Self = Self(1);
    /// Its socket takes nothing now, or it has none yet; it stands in the blocked list.
    pub(crate) const BLOCKED: Self = Self(2);
    /// It waits for its socket.
    pub(crate) const ATTACHING: Self = Self(4);
    /// It gets its close frame and nothing after.
    pub(crate) const CLOSING: Self = Self(8);
    /// Nobody has this place.
    pub(crate) const VACANT: Self = Self(16);
    /// It stands in the list of those that are far behind.
    pub(crate) const BEHIND: Self = Self(32);
    /// When it was last at its bound nothing could go but the newest, and it has not got shorter since.
    pub(crate) const ONLY_NEWEST: Self = Self(64);
    /// It has frames that younger ones may have replaced.
    pub(crate) const CONFLATES: Self = Self(128);
    /// A place is kept in it for an answer: nothing is written until that is filled. It stands in the
    /// blocked list meanwhile, and is not judged.
    pub(crate) const HELD: Self = Self(256);
    /// Its socket takes nothing now, while it is held.
    pub(crate) const HELD_FULL: Self = Self(512);

    pub(crate) fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    pub(crate) fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) fn clear(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The queue to one connection. Aligned so that none lies across two cache lines: subscribers that came and went are
/// walked in random order, and each line is then a wait for memory.
#[derive(Debug)]
#[repr(align(32))]
pub(crate) struct Outbox {
    /// The last entry of the in-order lane, if that is a range; behind everything in `backlog`.
    pub(crate) tail: Range,
    /// Which occupant of its place this is.
    pub(crate) generation: u32,
    /// Everything that is written before `tail`.
    backlog: Option<Box<Backlog>>,
    /// Its place in the shard's blocked list, while it is blocked.
    pub(crate) blocked_at: u32,
    pub(crate) flags: Flags,
}

const _: () = assert!(size_of::<Outbox>() == 32, "two outboxes share a cache line");

/// What was taken out of an outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Frames of publications whose end was in it.
    pub(crate) frames: u64,
}

impl Outbox {
    pub(crate) fn new(generation: u32, flags: Flags) -> Self {
        Self { tail: Range::EMPTY, generation, backlog: None, blocked_at: 0, flags }
    }

    /// Appends frames of the log. Says whether that made a new range, which the caller pins.
    #[inline]
    pub(crate) fn push_range(&mut self, range: Range) -> Pushed {
        debug_assert!(!range.is_empty(), "a frame has a header");
        // An empty tail is in no segment, so it is never stretched.
        if self.tail.end == range.start && self.tail.segment == range.segment {
            self.tail.end = range.end;
            return Pushed::Stretched;
        }
        if self.tail.is_empty() {
            self.tail = range;
            return Pushed::NewRange;
        }
        self.push_behind_tail(range)
    }

    #[cold]
    fn push_behind_tail(&mut self, range: Range) -> Pushed {
        self.move_tail_to_backlog();
        self.tail = range;
        if self.is_at_range_limit() { Pushed::NewRangeAtLimit } else { Pushed::NewRange }
    }

    /// Whether it holds as many entries as it may; [`Self::consolidate`] may help.
    pub(crate) fn is_at_range_limit(&self) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| backlog.entries.len() >= OUTBOX_RANGES)
    }

    /// Appends a control frame to the in-order lane: it is written behind everything that is queued now.
    pub(crate) fn push_in_order(&mut self, frame: ControlFrame) {
        self.move_tail_to_backlog();
        let backlog = self.backlog.get_or_insert_default();
        backlog.bytes += frame.len();
        match backlog.entries.back_mut() {
            Some(Entry::Own(last, _)) if last.len() + frame.len() <= SHARED_ENTRY_BYTES => last.extend(frame),
            _ => backlog.entries.push_back(Entry::Own(frame, 0)),
        }
    }

    /// Keeps a place behind everything that is queued for a frame that is not known yet. Until [`Self::fill_place`] nothing
    /// may be written.
    pub(crate) fn keep_place(&mut self) {
        self.move_tail_to_backlog();
        self.backlog.get_or_insert_default().entries.push_back(Entry::Place);
    }

    /// Puts a frame into the place that is kept, or gives the place up. Without a place it does nothing.
    pub(crate) fn fill_place(&mut self, frame: Option<ControlFrame>) {
        let Some(backlog) = &mut self.backlog else { return };
        let Some(at) = backlog.entries.iter().position(|entry| matches!(entry, Entry::Place)) else { return };
        match frame {
            Some(frame) => {
                backlog.bytes += frame.len();
                backlog.entries[at] = Entry::Own(frame, 0);
            }
            None => drop(backlog.entries.remove(at)),
        }
        self.free_empty_backlog();
    }

    /// Appends a control frame to the ahead lane: it is written at the next frame boundary.
    pub(crate) fn push_ahead(&mut self, frame: ControlFrame) {
        let backlog = self.backlog.get_or_insert_default();
        backlog.bytes += frame.len();
        backlog.ahead.push_back(frame);
    }

    /// Takes back a frame of the ahead lane that has the same first byte and was not begun, if there is one.
    pub(crate) fn withdraw_ahead(&mut self, first_byte: u8) {
        let Some(backlog) = &mut self.backlog else { return };
        if let Some(at) = backlog.ahead.iter().position(|frame| frame.first() == Some(&first_byte)) {
            let frame = backlog.ahead.remove(at).expect("it was found there");
            backlog.bytes -= frame.len();
        }
        self.free_empty_backlog();
    }

    /// Copies small ranges that follow one another together; control entries keep their places. A range that is a
    /// large part of the queue stays, and with it what is shared or was copied before: so a byte is copied a few times
    /// at most, however long the queue gets.
    pub(crate) fn consolidate(&mut self, log: &mut Log) {
        self.move_tail_to_backlog();
        let large = self.bytes() / LARGE_RANGE_PART;
        let Some(backlog) = &mut self.backlog else { return };
        let mut entries = VecDeque::new();
        let mut run: Vec<Range> = Vec::new();
        let mut end_run = |run: &mut Vec<Range>, entries: &mut VecDeque<Entry>| {
            match run[..] {
                [] => {}
                [single] => entries.push_back(Entry::Range(single)),
                _ => {
                    entries.push_back(Entry::Range(log.copy_together(run)));
                    run.iter().for_each(|range| log.unpin(range.segment, 1));
                }
            }
            run.clear();
        };
        for entry in backlog.entries.drain(..) {
            match entry {
                Entry::Range(range) if range.len() < large => run.push(range),
                stays => {
                    end_run(&mut run, &mut entries);
                    entries.push_back(stays);
                }
            }
        }
        end_run(&mut run, &mut entries);
        backlog.entries = entries;
    }

    /// The first slices of what is queued, in the order in which it is written, and whether that is all.
    pub(crate) fn gather<'a>(&'a self, log: &'a Log, slices: &mut Slices<'a>) -> Gathered {
        let mut gathered = Gathered { bytes: 0, all: true };
        let mut add = |slice: &'a [u8]| {
            if slices.len() == WRITE_SLICES {
                gathered.all = false;
                return;
            }
            gathered.bytes += slice.len();
            slices.push(IoSlice::new(slice));
        };
        if let Some(backlog) = &self.backlog {
            let rest = backlog.rest.iter();
            rest.for_each(|entry| entry.slices(log, &mut add));
            backlog.ahead.iter().for_each(|frame| add(frame));
            for entry in backlog.entries.iter().take(WRITE_SLICES + 1) {
                entry.slices(log, &mut add);
            }
        }
        if !self.tail.is_empty() {
            log.slices(self.tail).for_each(add);
        }
        gathered
    }

    /// Takes out the first `bytes` bytes: they are written.
    pub(crate) fn advance(&mut self, mut bytes: usize, log: &mut Log) -> Taken {
        let mut taken = Taken::default();
        if let Some(backlog) = &mut self.backlog {
            while bytes > 0 {
                let Some((entry, resumed)) = backlog.take_first() else { break };
                let len = entry.len();
                if len <= bytes {
                    bytes -= len;
                    taken.frames += entry.release(log);
                } else {
                    taken.frames += backlog.put_back(entry, bytes, resumed, log);
                    bytes = 0;
                }
            }
        }
        if bytes > 0 {
            let written = Range { end: self.tail.start + bytes as u32, ..self.tail };
            taken.frames += log.frames(written);
            self.tail.start = written.end;
            if self.tail.is_empty() {
                log.unpin(self.tail.segment, 1);
                self.tail = Range::EMPTY;
            } else if let Some(end) = log.cut_frame_end(self.tail.segment, self.tail.start) {
                let rest = Range { end, ..self.tail };
                let backlog = self.backlog.get_or_insert_default();
                backlog.bytes += rest.len();
                backlog.rest = Some(Entry::Range(rest));
                self.tail.start = end;
                if self.tail.is_empty() {
                    self.tail = Range::EMPTY;
                } else {
                    log.pin(rest.segment, 1);
                }
            }
        }
        self.free_empty_backlog();
        taken
    }

    /// Follows frames that compactions moved. Each range is mapped once: where the frames of one segment went may have the
    /// number of another that was freed.
    pub(crate) fn remap(&mut self, moved: &[Moved]) {
        let map = |range| moved.iter().find_map(|moved| moved.map(range));
        if let Some(mapped) = map(self.tail) {
            self.tail = mapped;
        }
        let Some(backlog) = &mut self.backlog else { return };
        for entry in backlog.rest.iter_mut().chain(&mut backlog.entries) {
            if let Entry::Range(range) = entry
                && let Some(mapped) = map(*range)
            {
                *range = mapped;
            }
        }
    }

    /// All ranges it holds; each is one pin.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range> {
        let entries = self.backlog.iter().flat_map(|backlog| backlog.rest.iter().chain(&backlog.entries));
        let ranges = entries.filter_map(|entry| match entry {
            Entry::Range(range) => Some(*range),
            Entry::Own(..) | Entry::Gap(_) | Entry::Place => None,
        });
        ranges.chain((!self.tail.is_empty()).then_some(self.tail))
    }

    /// The one range that is all it holds and all that may be said of it: it is not being closed.
    #[inline]
    pub(crate) fn only_range(&self) -> Option<Range> {
        let only = self.backlog.is_none() && !self.tail.is_empty() && !self.flags.has(Flags::CLOSING);
        only.then_some(self.tail)
    }

    /// Whether it holds nothing but, at most, the tail.
    #[cfg(test)]
    pub(crate) fn is_plain(&self) -> bool {
        self.backlog.is_none()
    }

    /// Whether nothing is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.tail.is_empty() && self.backlog.is_none()
    }

    /// Whether it is a slow consumer's: its connection takes nothing, and more than `bound` bytes wait for it. One that
    /// waits for its socket or for an answer is not slow; how long that takes is up to the upgrade and to homes, and what it
    /// costs meanwhile is bounded by the log's own bound.
    #[inline]
    pub(crate) fn is_over(&self, bound: usize) -> bool {
        self.flags.has(Flags::BLOCKED)
            && !self.flags.has(Flags::ATTACHING.and(Flags::HELD))
            && self.bytes() > bound
    }

    /// Bytes queued.
    pub(crate) fn bytes(&self) -> usize {
        self.tail.len() + self.backlog.as_ref().map_or(0, |backlog| backlog.bytes)
    }

    fn move_tail_to_backlog(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let backlog = self.backlog.get_or_insert_default();
        backlog.bytes += self.tail.len();
        backlog.entries.push_back(Entry::Range(std::mem::replace(&mut self.tail, Range::EMPTY)));
    }

    fn free_empty_backlog(&mut self) {
        let empty = |backlog: &Backlog| {
            backlog.rest.is_none() && backlog.ahead.is_empty() && backlog.entries.is_empty()
        };
        if self.backlog.as_deref().is_some_and(empty) {
            self.backlog = None;
        }
    }
}

/// What [`Outbox::push_range`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The last range was made longer.
    Stretched,
    /// A range was added: one pin more.
    NewRange,
    /// A range was added, and the limit of ranges is reached: consolidate.
    NewRangeAtLimit,
}

/// What [`Outbox::gather`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gathered {
    /// Bytes of the slices.
    pub(crate) bytes: usize,
    /// Whether nothing else is queued.
    pub(crate) all: bool,
}

#[cfg(test)]
mod tests;
