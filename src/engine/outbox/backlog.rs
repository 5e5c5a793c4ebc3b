//! What an outbox holds besides its tail: two lanes of entries, and the rest of a frame that is partly written. It
//! exists only while there is something in it.

use std::collections::VecDeque;

use super::{ControlFrame, gap::Gap};
use crate::{
    engine::log::{Log, Range},
    metrics::Loss,
};

#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// What is left of a frame that is partly written.
    pub(super) rest: Option<Entry>,
    pub(super) ahead: VecDeque<ControlFrame>,
    pub(super) entries: VecDeque<Entry>,
    /// Bytes of all of these.
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) enum Entry {
    Range(Range),
    /// A control frame, from a byte on.
    Own(ControlFrame, u32),
    /// What was lost of a topic here, told.
    Gap(Box<Gap>),
    /// Kept for a frame that is not known yet. Nothing is written while it is there.
    Place,
}

impl Entry {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::Own(frame, from) => frame.len() - *from as usize,
            Self::Gap(gap) => gap.frame.len(),
            Self::Place => 0,
        }
    }

    /// The pieces of memory it is.
    pub(super) fn slices<'a>(&'a self, log: &'a Log, add: &mut impl FnMut(&'a [u8])) {
        match self {
            Self::Range(range) => log.slices(*range).for_each(add),
            Self::Own(frame, from) => add(&frame[*from as usize..]),
            Self::Gap(gap) => add(&gap.frame),
            Self::Place => {}
        }
    }

    /// Lets go of an entry that is written, or counted already. Returns the frames of the log that ended in it.
    pub(super) fn release(&self, log: &mut Log) -> u64 {
        match self {
            Self::Own(..) | Self::Place => 0,
            Self::Gap(gap) => {
                log.books.let_go(gap.book);
                0
            }
            Self::Range(range) => {
                let frames = log.frames(*range);
                log.unpin(range.segment, 1);
                frames
            }
        }
    }

    /// Lets go of an entry that will not be written. Returns the frames of the log that ended in it.
    pub(super) fn lose(&self, log: &mut Log, loss: Loss) -> u64 {
        if let Self::Range(range) = self {
            log.lose(*range, loss);
        }
        self.release(log)
    }
}

impl Backlog {
    /// Counts all bytes anew.
    pub(super) fn count_bytes(&mut self) {
        let ahead = self.ahead.iter().map(Vec::len).sum::<usize>();
        self.bytes = ahead + self.rest.iter().chain(&self.entries).map(Entry::len).sum::<usize>();
    }

    /// The entry that is written first, and whether a frame of it was begun before.
    pub(super) fn take_first(&mut self) -> Option<(Entry, From)> {
        let (entry, from) = if let Some(rest) = self.rest.take() {
            (rest, From::Rest)
        } else if let Some(frame) = self.ahead.pop_front() {
            (Entry::Own(frame, 0), From::Ahead)
        } else {
            (self.entries.pop_front()?, From::Entries)
        };
        self.bytes -= entry.len();
        Some((entry, from))
    }

    /// Puts back an entry of which only `bytes` were written. Returns the frames of the log that ended in them.
    pub(super) fn put_back(&mut self, entry: Entry, bytes: usize, from: From, log: &mut Log) -> u64 {
        self.bytes += entry.len() - bytes;
        match entry {
            Entry::Own(frame, start) => {
                self.rest = Some(Entry::Own(frame, start + bytes as u32));
                0
            }
            Entry::Gap(gap) => {
                log.books.let_go(gap.book);
                self.rest = Some(Entry::Own(gap.frame, bytes as u32));
                0
            }
            Entry::Place => 0,
            Entry::Range(range) => {
                let middle = range.start + bytes as u32;
                let frames = log.frames(Range { end: middle, ..range });
                let left = Range { start: middle, ..range };
                match log.cut_frame_end(range.segment, middle) {
                    Some(end) => {
                        self.rest = Some(Entry::Range(Range { end, ..left }));
                        if end < range.end {
                            self.entries.push_front(Entry::Range(Range { start: end, ..range }));
                            log.pin(range.segment, 1);
                        }
                    }
                    None => {
                        debug_assert!(from == From::Entries, "a rest ends where its frame does");
                        self.entries.push_front(Entry::Range(left));
                    }
                }
                frames
            }
        }
    }
}

/// Where an entry was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Rest,
    Ahead,
    Entries,
}
