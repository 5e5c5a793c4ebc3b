//! What a simulation sees of a shard: every frame of every queue, and what is still held when nobody is left.
//!
//! All of it walks everything, and none of it is for a node at work: what operators see are metrics and
//! [`Shard::topic_ledger`].

use super::{books::TopicLedger, encoding::Encoding, shard::Shard, subscribers::Key};
use crate::topic::Topic;

/// What a shard holds besides its subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Ranges that point into the logs.
    pub pins: u64,
    /// Segments of the logs that live only as long as somebody points into them.
    pub segments: usize,
    /// Books of topics that somebody has or refers to, besides frames that are in a segment which is appended to.
    pub books: usize,
    /// Joins that wait to be sent to their homes.
    pub joins: usize,
}

impl Shard {
    /// The frames that are queued for a subscriber, in the order in which they will be written, one that is partly written
    /// first: topic and offset of each.
    pub fn queue_of(&self, key: Key) -> Vec<(Topic, u64)> {
        if !self.subscribers.lives(key) {
            return Vec::new();
        }
        let ranges = self.subscribers.outboxes[key.index as usize].ranges();
        let notes = ranges.flat_map(|range| self.log.frames_in(range)).map(|frame| frame.note);
        notes.map(|note| (self.log.books.get(note.book).topic.clone(), note.offset.get())).collect()
    }

    /// What became of a topic's frames in one encoding, as long as this shard has an entry for it.
    pub fn ledger(&self, topic: &Topic, encoding: Encoding) -> Option<TopicLedger> {
        let number = self.topics.number(topic, encoding)?;
        Some(self.log.books.get(self.topics.entry(number).book).ledger)
    }

    /// What is held. When there are no subscribers, no topics and no replays, that is nothing.
    pub fn holdings(&self) -> Holdings {
        Holdings {
            pins: self.log.all_pins(),
            segments: self.log.pinned_segments(),
            books: self.log.books_besides_frames(),
            joins: self.joining.waiting.len(),
        }
    }
}
