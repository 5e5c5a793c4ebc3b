//! What a topic's home keeps of what was published, for those who come later: a ring of messages, bounded in count,
//! bytes and time by the topic's class.
//!
//! Every publication of the topic is kept while it is in the ring, also what is meant for few, so offsets in it have no
//! holes; who may see a message is decided where it is replayed. What is kept has its own copy of the message: the
//! publication's credits come back when it is in the logs, and a request's buffer is not held for as long as history.
//! The home calls it with the time; nothing here knows shards or subscribers.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use super::traffic::Part;
use crate::{
    classes,
    limits::{HISTORY_MESSAGE_OVERHEAD, HISTORY_TOPIC_OVERHEAD},
    protocol::v1::encode::GapReason,
    publication::{Content, Epoch, Message, Position},
    units::milliseconds,
};

/// A message in a history.
#[derive(Debug)]
pub struct Kept {
    /// Its offset in its topic.
    pub offset: u64,
    /// What it says, and whom it is meant for.
    pub content: Content,
    /// Which part of a publication to several topics it is.
    pub part: Option<Part>,
    /// When it was published, milliseconds.
    at: u64,
}

/// All that a history held at one moment, in order and without holes. Everyone who asks before the history changes gets
/// the same.
pub type Run = Arc<[Arc<Kept>]>;

/// What a subscriber wants of what was published to a topic before it joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Everything behind the last message it has.
    Since {
        /// The topic's epoch then; `None` if what the client named is no epoch of any topic.
        epoch: Option<Epoch>,
        /// That message's offset; 0 if it has none of this epoch.
        offset: u64,
    },
    /// So many of the last messages that are meant for it.
    Last(u32),
}

/// What a history has for a subscriber that joins.
#[derive(Clone, Debug)]
pub struct Past {
    /// Which part of the run it wants.
    pub part: Stretch,
    /// What it wanted and is not to be had.
    pub missed: Option<Missed>,
    /// The history.
    pub run: Run,
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// What is behind an offset.
    Behind(u64),
    /// So many of the last messages that are meant for whoever asks.
    Last(u32),
}

/// What a subscriber wanted and is not to be had: all of these offsets, if any (`from` is behind `to` otherwise).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
    /// Why.
    pub reason: GapReason,
}

impl Missed {
    /// How many publications it is. Those that were not meant for the subscriber are among them: once they are gone from
    /// the history, nobody can tell them apart.
    pub(crate) fn count(&self) -> u64 {
        (self.to + 1).saturating_sub(self.from)
    }
}

/// The history of one topic.
#[derive(Debug)]
pub(crate) struct History {
    bounds: classes::History,
    /// Ascending by one.
    kept: VecDeque<Arc<Kept>>,
    /// What all of it costs, bytes.
    bytes: usize,
    /// All of it, once somebody asked and until it changes.
    run: Option<Run>,
}

impl History {
    pub(crate) fn new(bounds: classes::History) -> Self {
        Self { bounds, kept: VecDeque::new(), bytes: 0, run: None }
    }

    /// Has other bounds from now on, and lets go of what is beyond them.
    pub(crate) fn change_bounds(&mut self, bounds: classes::History, now: u64) {
        self.bounds = bounds;
        self.expire(now);
        while self.kept.len() > self.bounds.messages || self.bytes > self.bounds.bytes {
            self.drop_oldest();
        }
    }

    /// Lets go of everything.
    pub(crate) fn clear(&mut self) {
        for _ in 0..self.kept.len() {
            self.drop_oldest();
        }
    }

    /// Keeps the next publication, and lets go of what is beyond a bound for it: that may be the publication itself.
    pub(crate) fn push(&mut self, offset: u64, content: &Content, part: Option<&Part>, now: u64) {
        debug_assert!(self.kept.back().is_none_or(|last| last.offset + 1 == offset));
        self.expire(now);
        let kept = Kept { offset, content: copy(content), part: part.map(Part::apart), at: now };
        self.bytes += kept.cost();
        self.kept.push_back(Arc::new(kept));
        self.run = None;
        while self.kept.len() > self.bounds.messages || self.bytes > self.bounds.bytes {
            self.drop_oldest();
        }
    }

    /// Lets go of what has been kept for long enough.
    pub(crate) fn expire(&mut self, now: u64) {
        while self.due().is_some_and(|due| due <= now) {
            self.drop_oldest();
        }
    }

    /// Lets go of the older half.
    pub(crate) fn drop_older_half(&mut self) {
        for _ in 0..self.kept.len().div_ceil(2) {
            self.drop_oldest();
        }
    }

    /// What there is for a subscriber that joins when `head` is the topic's last position.
    pub(crate) fn past(&mut self, resume: Resume, head: Position) -> Past {
        let oldest = self.oldest().unwrap_or(head.offset + 1);
        let run = self.run();
        past(resume, head, oldest, run)
    }

    /// All of it.
    pub(crate) fn run(&mut self) -> Run {
        self.run.get_or_insert_with(|| self.kept.iter().cloned().collect()).clone()
    }

    /// When the oldest message has been kept for long enough, milliseconds; `None` if there is none.
    pub(crate) fn due(&self) -> Option<u64> {
        let ttl = milliseconds(self.bounds.ttl);
        self.kept.front().map(|oldest| oldest.at.saturating_add(ttl))
    }

    /// What it costs, bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The offset of the oldest message.
    fn oldest(&self) -> Option<u64> {
        self.kept.front().map(|oldest| oldest.offset)
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.kept.pop_front() else { return };
        self.bytes -= oldest.cost();
        self.run = None;
        if self.kept.len() * 4 < self.kept.capacity() && self.kept.capacity() > 64 {
            self.kept.shrink_to(self.kept.len() * 2);
        }
    }
}

impl Kept {
    /// What it counts for, bytes: about what it takes in memory, and no less than its frame in any encoding, as long as
    /// next to nothing in it must be escaped.
    fn cost(&self) -> usize {
        let message = match &self.content.message {
            Message::Text(_) | Message::Data(_) => self.content.message.bytes().len(),
            // As base64.
            Message::Binary(bytes) => bytes.len().div_ceil(3) * 4,
        };
        let topics = self.part.iter().flat_map(|part| &*part.topics);
        let others: usize = topics.map(|topic| topic.as_str().len() + HISTORY_TOPIC_OVERHEAD).sum();
        message + others + HISTORY_MESSAGE_OVERHEAD
    }
}

/// What there is of a topic without a history for a subscriber that joins.
pub(crate) fn past_of_none(resume: Resume, head: Position) -> Past {
    static NOTHING: OnceLock<Run> = OnceLock::new();
    past(resume, head, head.offset + 1, NOTHING.get_or_init(|| Arc::from([])).clone())
}

/// `oldest` is the offset of the first message of `run`, or the one behind the head if there is none.
fn past(resume: Resume, head: Position, oldest: u64, run: Run) -> Past {
    let missed = |from, reason| Some(Missed { from, to: oldest - 1, reason });
    let (part, missed) = match resume {
        Resume::Last(n) => (Stretch::Last(n), None),
        // The subscriber has none of the messages of this epoch, and nobody knows what it missed of the other.
        Resume::Since { epoch, offset } if epoch != Some(head.epoch) || offset > head.offset => {
            (Stretch::Behind(0), missed(1, GapReason::Reset))
        }
        Resume::Since { offset, .. } if offset + 1 < oldest => {
            (Stretch::Behind(offset), missed(offset + 1, GapReason::History))
        }
        Resume::Since { offset, .. } => (Stretch::Behind(offset), None),
    };
    Past { part, missed, run }
}

/// The same content with a message of its own.
fn copy(content: &Content) -> Content {
    let Content { message, audience, key } = content;
    Content { message: message.unshared(), audience: audience.clone(), key: key.clone() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    const EPOCH: Epoch = Epoch { node: 7, incarnation: 1 };

    fn history(messages: usize, bytes: usize, ttl_ms: u64) -> History {
        History::new(classes::History { messages, bytes, ttl: Duration::from_millis(ttl_ms) })
    }

    fn push(history: &mut History, offsets: std::ops::RangeInclusive<u64>, now: u64) {
        for offset in offsets {
            history.push(offset, &Message::text("x".repeat(100)).into(), None, now);
        }
    }

    fn offsets(history: &mut History) -> Vec<u64> {
        history.run().iter().map(|kept| kept.offset).collect()
    }

    fn since(offset: u64) -> Resume {
        Resume::Since { epoch: Some(EPOCH), offset }
    }

    fn head(offset: u64) -> Position {
        Position { epoch: EPOCH, offset }
    }

    #[test]
    fn no_more_messages_are_kept_than_may_be() {
        let mut history = history(3, 1 << 20, 1_000);
        push(&mut history, 1..=5, 0);
        assert_eq!(offsets(&mut history), [3, 4, 5]);
        assert_eq!(history.bytes(), 3 * (100 + HISTORY_MESSAGE_OVERHEAD));
    }

    #[test]
    fn no_more_bytes_are_kept_than_may_be() {
        let one = 100 + HISTORY_MESSAGE_OVERHEAD;
        let mut history = history(100, 2 * one, 1_000);
        push(&mut history, 1..=5, 0);
        assert_eq!(offsets(&mut history), [4, 5]);
        history.push(6, &Message::text("x".repeat(2 * one)).into(), None, 0);
        assert!(offsets(&mut history).is_empty(), "one that is too large for it is not kept either");
        assert_eq!((history.bytes(), history.due()), (0, None));
        push(&mut history, 7..=7, 0);
        assert_eq!(offsets(&mut history), [7]);
    }

    #[test]
    fn binary_messages_count_as_the_text_that_is_sent_of_them() {
        let mut history = history(100, 1 << 20, 1_000);
        history.push(1, &Message::Binary(Bytes::from_static(&[0; 100])).into(), None, 0);
        assert_eq!(history.bytes(), 136 + HISTORY_MESSAGE_OVERHEAD);
    }

    #[test]
    fn nothing_is_kept_for_longer_than_it_may_be() {
        let mut history = history(100, 1 << 20, 1_000);
        push(&mut history, 1..=1, 0);
        push(&mut history, 2..=2, 600);
        history.expire(999);
        assert_eq!(offsets(&mut history), [1, 2]);
        history.expire(1_000);
        assert_eq!((offsets(&mut history), history.due()), (vec![2], Some(1_600)));
        push(&mut history, 3..=3, 1_600);
        assert_eq!(offsets(&mut history), [3]);
    }

    #[test]
    fn older_half_goes_until_nothing_is_left() {
        let mut history = history(10, 1 << 20, 1_000);
        push(&mut history, 1..=5, 0);
        for left in [vec![4, 5], vec![5], vec![], vec![]] {
            history.drop_older_half();
            assert_eq!(offsets(&mut history), left);
        }
        assert_eq!((history.bytes(), history.due()), (0, None));
    }

    #[test]
    fn everyone_who_asks_before_it_changes_gets_the_same_run() {
        let mut history = history(3, 1 << 20, 1_000);
        push(&mut history, 1..=3, 0);
        let one = history.past(since(1), head(3));
        let other = history.past(Resume::Last(1), head(3));
        assert!(Arc::ptr_eq(&one.run, &other.run));
        push(&mut history, 4..=4, 0);
        assert!(!Arc::ptr_eq(&one.run, &history.run()));
        assert_eq!(one.run.len(), 3, "what was given stays as it was");
    }

    #[test]
    fn what_is_kept_does_not_hold_the_buffer_of_its_request() {
        let body = Bytes::from(vec![b'x'; 10_000]);
        let mut history = history(3, 1 << 20, 1_000);
        history.push(1, &Message::binary(body.slice(100..200)).into(), None, 0);
        assert!(body.is_unique(), "nobody else holds it");
        assert_eq!(history.run()[0].content, Message::binary(body.slice(100..200)).into());
    }

    #[test]
    fn resume_that_the_history_reaches_misses_nothing() {
        let mut history = history(3, 1 << 20, 1_000);
        push(&mut history, 1..=5, 0);
        for offset in 2..=5 {
            let past = history.past(since(offset), head(5));
            assert_eq!((past.part, past.missed), (Stretch::Behind(offset), None));
        }
        assert_eq!(past_of_none(since(5), head(5)).missed, None, "nothing was published since");
    }

    #[test]
    fn resume_from_before_the_history_says_how_much_is_gone() {
        let mut history = history(3, 1 << 20, 1_000);
        push(&mut history, 1..=5, 0);
        let past = history.past(since(0), head(5));
        let missed = Missed { from: 1, to: 2, reason: GapReason::History };
        assert_eq!((past.part, past.missed, missed.count()), (Stretch::Behind(0), Some(missed), 2));
        let past = past_of_none(since(3), head(5));
        let missed = Missed { from: 4, to: 5, reason: GapReason::History };
        assert_eq!((past.missed, missed.count(), past.run.len()), (Some(missed), 2, 0));
    }

    #[test]
    fn resume_from_nowhere_is_a_reset_and_gets_what_there_is() {
        let mut history = history(3, 1 << 20, 1_000);
        push(&mut history, 1..=5, 0);
        let other = Epoch { incarnation: 2, ..EPOCH };
        let nowhere = [
            since(6),
            since(u64::MAX),
            Resume::Since { epoch: Some(other), offset: 5 },
            Resume::Since { epoch: None, offset: 0 },
        ];
        for resume in nowhere {
            let past = history.past(resume, head(5));
            let missed = Missed { from: 1, to: 2, reason: GapReason::Reset };
            assert_eq!((past.part, past.missed), (Stretch::Behind(0), Some(missed)), "{resume:?}");
        }
        let mut whole = self::history(10, 1 << 20, 1_000);
        push(&mut whole, 1..=5, 0);
        let missed = whole.past(since(6), head(5)).missed.expect("it is a reset");
        assert_eq!((missed.from, missed.to, missed.count()), (1, 0, 0), "all of this epoch is replayed");
    }
}
