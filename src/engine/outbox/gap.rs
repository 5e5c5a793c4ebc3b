//! A gap: what was lost of one topic in one queue, and the frame that tells it where the first of it would have been.
//!
//! Between two answers one queue holds at most one gap of a topic: what is lost later is added to it. So a client that
//! stalls for long is told in one frame a topic, and the gaps never cost more than what they stand for. It is not added across
//! an answer, which may say that the topic was left and joined again: it would be told of another subscription.

use super::ControlFrame;
use crate::{
    engine::{frame_index::Note, log::Log},
    metrics::Loss,
    protocol::v1::encode::{self, GapReason},
    websocket::frame,
};

/// What was lost of one topic. Of the offsets in it exactly `conflated` and `dropped` are missing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// The topic's book.
    pub(super) book: u32,
    from: u64,
    to: u64,
    conflated: u64,
    dropped: u64,
    pub(super) frame: ControlFrame,
}

impl Gap {
    /// One frame is lost. The frame that tells it is made by [`Self::tell`].
    pub(super) fn of(note: &Note, loss: Loss) -> Self {
        let mut gap = Self {
            book: note.book,
            from: note.offset.get(),
            to: note.offset.get(),
            conflated: 0,
            dropped: 0,
            frame: ControlFrame::new(),
        };
        gap.count(loss);
        gap
    }

    /// One more is lost.
    pub(super) fn add(&mut self, note: &Note, loss: Loss) {
        self.from = self.from.min(note.offset.get());
        self.to = self.to.max(note.offset.get());
        self.count(loss);
    }

    /// Takes in another gap of the same topic.
    pub(super) fn merge(&mut self, other: &Self) {
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
        self.conflated += other.conflated;
        self.dropped += other.dropped;
    }

    /// Makes the frame. While it stands in a queue it holds its topic's book.
    pub(super) fn tell(&mut self, log: &Log) {
        let mut payload = Vec::with_capacity(160);
        let Self { from, to, conflated, dropped, .. } = *self;
        let gap = encode::Gap { from, to, reason: GapReason::Slow, conflated, dropped };
        encode::gap(&mut payload, &log.books.get(self.book).topic, &gap);
        self.frame = frame::text(&payload);
    }

    fn count(&mut self, loss: Loss) {
        match loss {
            Loss::Conflated => self.conflated += 1,
            Loss::Bound | Loss::Age | Loss::Memory | Loss::Closed => self.dropped += 1,
        }
    }
}
