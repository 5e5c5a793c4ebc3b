//! Throwing away what is queued: all of it, or chosen frames. Whole frames only, each counted in the book of its topic.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::{Entry, Outbox};
use crate::{
    engine::{
        frame_index::Note,
        log::{Log, Range},
    },
    metrics::Loss,
};

/// A whole frame that is queued.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queued {
    pub(crate) range: Range,
    pub(crate) note: Note,
}

impl Outbox {
    /// Throws away everything but the rest of a frame that is partly written. Returns how many frames of the log that
    /// were; they are counted in their topics' books.
    pub(crate) fn discard(&mut self, log: &mut Log, loss: Loss) -> u64 {
        let mut lost = 0;
        if let Some(backlog) = &mut self.backlog {
            backlog.ahead.clear();
            for entry in backlog.entries.drain(..) {
                lost += entry.lose(log, loss);
            }
            backlog.bytes = backlog.rest.as_ref().map_or(0, Entry::len);
        }
        if !self.tail.is_empty() {
            lost += Entry::Range(self.tail).lose(log, loss);
            self.tail = Range::EMPTY;
        }
        self.free_empty_backlog();
        lost
    }

    /// Throws away everything: nothing will be written any more. Returns as [`Self::discard`].
    pub(crate) fn clear(&mut self, log: &mut Log, loss: Loss) -> u64 {
        let mut lost = self.discard(log, loss);
        if let Some(rest) = self.backlog.take().and_then(|backlog| backlog.rest) {
            lost += rest.lose(log, loss);
        }
        lost
    }

    /// Appends to `frames` all whole frames of the log that are queued, in order: what may still be thrown away.
    pub(crate) fn queued(&self, log: &Log, frames: &mut Vec<Queued>) {
        let entries = self.backlog.iter().flat_map(|backlog| &backlog.entries);
        let ranges = entries.filter_map(|entry| match entry {
            Entry::Range(range) => Some(*range),
            Entry::Own(..) => None,
        });
        for range in ranges.chain([self.tail]) {
            let queued = log.frames_in(range).map(|frame| Queued {
                range: Range { start: frame.start, end: frame.end, ..range },
                note: frame.note,
            });
            frames.extend(queued);
        }
    }

    /// Throws away some of the frames that [`Self::queued`] gave: those with a loss, for which `losses` has a place each.
    /// Answers keep their places between the others. Returns how many went.
    pub(crate) fn drop_frames(&mut self, frames: &[Queued], losses: &[Option<Loss>], log: &mut Log) -> u64 {
        debug_assert_eq!(frames.len(), losses.len());
        self.move_tail_to_backlog();
        let Some(backlog) = &mut self.backlog else { return 0 };
        let mut left = frames.iter().zip(losses);
        let mut kept: VecDeque<Entry> = VecDeque::new();
        let (mut lost, mut released) = (0, Vec::new());
        for entry in backlog.entries.drain(..) {
            let Entry::Range(range) = entry else {
                kept.push_back(entry);
                continue;
            };
            released.push(range.segment);
            let mut place = range.start;
            while place < range.end {
                let (frame, loss) = left.next().expect("every queued frame was given");
                place = frame.range.end;
                if let Some(loss) = loss {
                    lost += log.lose(frame.range, *loss);
                } else if let Some(Entry::Range(last)) = kept.back_mut()
                    && (last.segment, last.end) == (frame.range.segment, frame.range.start)
                {
                    last.end = frame.range.end;
                } else {
                    kept.push_back(Entry::Range(frame.range));
                    log.pin(frame.range.segment, 1);
                }
            }
        }
        released.into_iter().for_each(|segment| log.unpin(segment, 1));
        if let Some(&Entry::Range(last)) = kept.back() {
            self.tail = last;
            kept.pop_back();
        }
        backlog.entries = kept;
        let ahead = backlog.ahead.iter().map(Vec::len).sum::<usize>();
        let entries = backlog.rest.iter().chain(&backlog.entries).map(Entry::len).sum::<usize>();
        backlog.bytes = ahead + entries;
        self.free_empty_backlog();
        lost
    }

    /// Throws away the newest of the frames just pushed, the last `pushed` bytes of the queue, until no more than `bound`
    /// bytes are queued or none of them is left. Returns how many went.
    pub(crate) fn cut_newest(&mut self, pushed: usize, bound: usize, log: &mut Log, loss: Loss) -> u64 {
        debug_assert!(pushed <= self.tail.len(), "what was pushed is in the tail");
        let over = self.bytes().saturating_sub(bound).min(pushed);
        let first = self.tail.end - pushed as u32;
        let mut cut = self.tail.end;
        let pushed = Range { start: first, ..self.tail };
        let frames: SmallVec<[u32; 64]> = log.frames_in(pushed).map(|frame| frame.start).collect();
        for start in frames.into_iter().rev() {
            if (self.tail.end - cut) as usize >= over {
                break;
            }
            cut = start;
        }
        let lost = log.lose(Range { start: cut, ..self.tail }, loss);
        self.tail.end = cut;
        if self.tail.is_empty() {
            log.unpin(self.tail.segment, 1);
            self.tail = Range::EMPTY;
        }
        lost
    }
}
