//! Frames of which a publisher wants to know what becomes of them: the log tells what is lost of them and where copies went.
//!
//! Only publications that ask are here, from the moment their frame is in the log until the flush pass that was to write it
//! is over (`receipts`). So there are no more of them than frames fit in the lag of a shard.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use tokio::sync::watch;

use super::frame_index::{FrameOffset, Note};
use crate::{metrics::Loss, publication::Receipt};

/// Where a publication's receipts are summed. When the last of its clones is dropped, the receipt is complete.
pub(crate) type Tally = watch::Sender<Receipt>;

/// Names a frame: the book of its topic, and its offset. What of the same message is replayed meanwhile has another name:
/// whoever gets that was not matched when the frame was marked.
pub(crate) type FrameName = (u32, FrameOffset);

/// Where a frame lies: its segment, and the byte there behind its last.
pub(crate) type Place = (u32, u32);

/// The watched frames of one shard.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    frames: HashMap<FrameName, Frame, RandomState>,
    /// Frames that are in the log and not marked yet.
    fresh: Vec<FrameName>,
    /// Frames that are marked, with the bytes ever appended then, cut to 32 bits; in that order.
    marked: VecDeque<(u32, FrameName)>,
}

/// One watched frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) tally: Tally,
    pub(crate) receipt: Receipt,
    /// Where it and its copies were put. Some of those segments may be gone, or hold something else now.
    pub(crate) places: SmallVec<[Place; 2]>,
}

impl Watched {
    /// Watches a frame that was just appended.
    pub(crate) fn watch(&mut self, name: FrameName, place: Place, tally: Tally) {
        let places = [place].into_iter().collect();
        self.frames.insert(name, Frame { tally, receipt: Receipt::default(), places });
        self.fresh.push(name);
    }

    /// Notes that the fresh frames of a book are marked for so many subscribers.
    pub(crate) fn matched(&mut self, book: u32, subscribers: u64, appended: u32) {
        self.fresh.retain(|name| {
            if name.0 != book {
                return true;
            }
            if let Some(frame) = self.frames.get_mut(name) {
                frame.receipt.matched += subscribers;
            }
            self.marked.push_back((appended, *name));
            false
        });
    }

    /// Notes that a frame will not be written to one of those it was meant for.
    pub(crate) fn lost(&mut self, note: &Note, loss: Loss) {
        if let Some(frame) = self.frame(note) {
            match loss {
                Loss::Conflated => frame.receipt.conflated += 1,
                Loss::Bound | Loss::Age | Loss::Memory | Loss::Closed => frame.receipt.dropped += 1,
            }
        }
    }

    /// Notes that a frame lies at another place too.
    pub(crate) fn copied(&mut self, note: &Note, place: Place) {
        if let Some(frame) = self.frame(note) {
            frame.places.push(place);
        }
    }

    /// Takes out the frames whose pass is over: everyone that was listed as dirty when they were marked has been reached,
    /// for the first of the list was listed later, or nobody is in it.
    pub(crate) fn take_over(&mut self, head: Option<u32>) -> Vec<(FrameName, Frame)> {
        let mut over = Vec::new();
        while let Some(&(mark, name)) = self.marked.front()
            && head.is_none_or(|head| head.wrapping_sub(mark) as i32 > 0)
        {
            self.marked.pop_front();
            over.extend(self.frames.remove(&name).map(|frame| (name, frame)));
        }
        if self.frames.is_empty() && self.frames.capacity() > 1_024 {
            *self = Self::default();
        }
        over
    }

    /// Whether nobody asks.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    #[inline]
    fn frame(&mut self, note: &Note) -> Option<&mut Frame> {
        if self.frames.is_empty() {
            return None;
        }
        self.frames.get_mut(&(note.book, note.offset))
    }
}
