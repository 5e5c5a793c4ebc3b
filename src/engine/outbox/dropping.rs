//! Throwing away what is queued: all of it, or chosen frames. Whole frames only, each counted in the book of its topic.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{Entry, Outbox, gap::Gap};
use crate::{
    engine::{
        frame_index::{Indexed, Note},
        log::{Log, Range},
    },
    metrics::Loss,
};

/// A rest is copied out of its segment if that has so many times its bytes.
const REST_PARTS: usize = 4;

/// A whole frame that is queued.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queued {
    pub(crate) range: Range,
    pub(crate) note: Note,
}

impl Outbox {
    /// Throws away everything but the rest of a frame that is partly written and the place that is kept for a greeting.
    /// Returns how many frames of the log that were; they are counted in their topics' books.
    pub(crate) fn discard(&mut self, log: &mut Log, loss: Loss) -> u64 {
        let mut lost = 0;
        if let Some(backlog) = &mut self.backlog {
            backlog.ahead.clear();
            backlog.entries.retain(|entry| {
                let stays = matches!(entry, Entry::Place);
                if !stays {
                    lost += entry.lose(log, loss);
                }
                stays
            });
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
            Entry::Own(..) | Entry::Gap(_) | Entry::Place => None,
        });
        for range in ranges.chain([self.tail]) {
            let queued = log.frames_in(range).map(|frame| Queued {
                range: Range { start: frame.start, end: frame.end, ..range },
                note: frame.note,
            });
            frames.extend(queued);
        }
    }

    /// The rest of a frame of the log that is partly written. It cannot be thrown away.
    pub(crate) fn rest(&self) -> Option<Range> {
        match self.backlog.as_ref()?.rest {
            Some(Entry::Range(range)) => Some(range),
            _ => None,
        }
    }

    /// Bytes queued, without that rest.
    pub(crate) fn bytes_behind_rest(&self) -> usize {
        self.bytes() - self.rest().map_or(0, Range::len)
    }

    /// Has the rest of a partly written frame copied out of its segment, if that is much larger. Whoever has the same
    /// rest shares the copy.
    pub(crate) fn copy_rest_out(&mut self, log: &mut Log) {
        let Some(backlog) = &mut self.backlog else { return };
        if let Some(Entry::Range(rest)) = &mut backlog.rest
            && rest.len() * REST_PARTS <= log.bytes_of(rest.segment)
        {
            let copy = log.copy_rest(*rest);
            log.unpin(rest.segment, 1);
            *rest = copy;
        }
    }

    /// Throws away some of the frames that [`Self::queued`] gave: those with a loss, for which `losses` has a place each.
    /// Everything else keeps its place; where the protocol `tells`, a gap stands where the first of a topic would have
    /// been. Returns how many went.
    pub(crate) fn drop_frames(
        &mut self,
        frames: &[Queued],
        losses: &[Option<Loss>],
        tells: bool,
        log: &mut Log,
    ) -> u64 {
        debug_assert_eq!(frames.len(), losses.len());
        self.move_tail_to_backlog();
        let Some(backlog) = &mut self.backlog else { return 0 };
        let mut left = frames.iter().zip(losses);
        let mut kept = Kept::default();
        let (mut lost, mut released) = (0, Vec::new());
        for entry in backlog.entries.drain(..) {
            let range = match entry {
                Entry::Range(range) => range,
                Entry::Gap(gap) => {
                    kept.keep_gap(gap, log);
                    continue;
                }
                entry => {
                    kept.keep_answer(entry);
                    continue;
                }
            };
            released.push(range.segment);
            let mut place = range.start;
            while place < range.end {
                let (frame, loss) = left.next().expect("every queued frame was given");
                place = frame.range.end;
                match loss {
                    None => kept.keep_frame(frame.range, log),
                    Some(loss) => {
                        lost += log.lose(frame.range, *loss);
                        if tells {
                            kept.add_to_gap(&frame.note, *loss, log);
                        }
                    }
                }
            }
        }
        released.into_iter().for_each(|segment| log.unpin(segment, 1));
        kept.tell_gaps(log);
        backlog.entries = kept.entries;
        if let Some(&Entry::Range(last)) = backlog.entries.back() {
            self.tail = last;
            backlog.entries.pop_back();
        }
        backlog.count_bytes();
        self.free_empty_backlog();
        lost
    }

    /// Throws away the newest of the frames just pushed, the last `pushed` bytes of the queue, until no more than `bound`
    /// bytes are queued or none of them is left. Returns how many went; where the protocol `tells`, a gap says so.
    pub(crate) fn cut_newest(
        &mut self,
        pushed: usize,
        bound: usize,
        (tells, loss): (bool, Loss),
        log: &mut Log,
    ) -> u64 {
        if pushed > self.tail.len() {
            // Ranges were copied together since, so that it is not apart any more: the next to arrive goes instead.
            return 0;
        }
        let over = self.bytes().saturating_sub(bound).min(pushed);
        let first = Range { start: self.tail.end - pushed as u32, ..self.tail };
        let mut cut = self.tail.end;
        let arrived: SmallVec<[Indexed; 64]> = log.frames_in(first).collect();
        let mut gone = 0;
        while gone < arrived.len() && ((self.tail.end - cut) as usize) < over {
            gone += 1;
            cut = arrived[arrived.len() - gone].start;
        }
        let lost = log.lose(Range { start: cut, ..self.tail }, loss);
        self.tail.end = cut;
        if self.tail.is_empty() {
            log.unpin(self.tail.segment, 1);
            self.tail = Range::EMPTY;
        }
        if tells && gone > 0 {
            self.tell_newest(&arrived[arrived.len() - gone..], loss, log);
        }
        lost
    }

    /// Tells the loss of frames of one topic at the end of the queue: in the gap of that topic that stands there, or in
    /// one of its own.
    fn tell_newest(&mut self, frames: &[Indexed], loss: Loss, log: &mut Log) {
        self.move_tail_to_backlog();
        let backlog = self.backlog.get_or_insert_default();
        let book = frames[0].note.book;
        let at_end = backlog.entries.iter().rev().take_while(|entry| matches!(entry, Entry::Gap(_)));
        let behind = at_end.take_while(|entry| !matches!(entry, Entry::Gap(gap) if gap.book == book)).count();
        let mut place = backlog.entries.len().checked_sub(behind + 1);
        if !place.is_some_and(|at| matches!(&backlog.entries[at], Entry::Gap(gap) if gap.book == book)) {
            log.books.hold(book);
            let mut gap = Gap::of(&frames[0].note, loss);
            frames[1..].iter().for_each(|frame| gap.add(&frame.note, loss));
            backlog.entries.push_back(Entry::Gap(Box::new(gap)));
            place = Some(backlog.entries.len() - 1);
        } else if let Some(Entry::Gap(gap)) = place.map(|at| &mut backlog.entries[at]) {
            frames.iter().for_each(|frame| gap.add(&frame.note, loss));
        }
        if let Some(Entry::Gap(gap)) = place.map(|at| &mut backlog.entries[at]) {
            let before = gap.frame.len();
            gap.tell(log);
            backlog.bytes = backlog.bytes - before + gap.frame.len();
        }
    }
}

/// What stays of a queue.
#[derive(Default)]
struct Kept {
    entries: VecDeque<Entry>,
    /// For each topic with a gap behind the last answer: its book, and the place of the gap among the entries.
    gaps: HashMap<u32, usize, RandomState>,
    /// Places of gaps that say something else now.
    changed: Vec<usize>,
}

impl Kept {
    fn keep_frame(&mut self, range: Range, log: &mut Log) {
        if let Some(Entry::Range(last)) = self.entries.back_mut()
            && (last.segment, last.end) == (range.segment, range.start)
        {
            last.end = range.end;
        } else {
            self.entries.push_back(Entry::Range(range));
            log.pin(range.segment, 1);
        }
    }

    /// Keeps an answer in its place. It may say that a topic is left or joined anew, so what is lost behind it is told
    /// behind it.
    fn keep_answer(&mut self, answer: Entry) {
        self.gaps.clear();
        self.entries.push_back(answer);
    }

    /// Keeps a gap in its place, or has an earlier one of the topic take it in.
    fn keep_gap(&mut self, gap: Box<Gap>, log: &mut Log) {
        match self.gaps.get(&gap.book) {
            None => {
                self.gaps.insert(gap.book, self.entries.len());
                self.entries.push_back(Entry::Gap(gap));
            }
            Some(&place) => {
                if let Entry::Gap(earlier) = &mut self.entries[place] {
                    earlier.merge(&gap);
                    log.books.let_go(gap.book);
                    self.changed.push(place);
                }
            }
        }
    }

    fn add_to_gap(&mut self, note: &Note, loss: Loss, log: &mut Log) {
        match self.gaps.get(&note.book) {
            None => {
                self.gaps.insert(note.book, self.entries.len());
                self.changed.push(self.entries.len());
                self.entries.push_back(Entry::Gap(Box::new(Gap::of(note, loss))));
                log.books.hold(note.book);
            }
            Some(&place) => {
                if let Entry::Gap(gap) = &mut self.entries[place] {
                    gap.add(note, loss);
                    self.changed.push(place);
                }
            }
        }
    }

    fn tell_gaps(&mut self, log: &Log) {
        self.changed.sort_unstable();
        self.changed.dedup();
        for &place in &self.changed {
            if let Entry::Gap(gap) = &mut self.entries[place] {
                gap.tell(log);
            }
        }
    }
}
