//! A shard's books: for each topic its class, and what became of its frames here (I8).
//!
//! A book is opened with the topic's entry in the index, and lives as long as that entry or a frame of the topic is in the
//! log, so that what is lost can always be counted and told by topic. A topic that comes back gets a new one.

use slab::Slab;

use super::frame_index::Note;
use crate::{
    classes::{ClassId, Classes},
    metrics::Loss,
    topic::Topic,
};

/// What became of one topic's frames on one shard, since its book was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicLedger {
    /// Frames matched: one for each subscriber that a publication was meant for.
    pub matched: u64,
    /// Frames replaced by younger ones with their key.
    pub conflated: u64,
    /// Frames dropped because an outbox was at its bound.
    pub dropped_bound: u64,
    /// Frames dropped because they were too old.
    pub dropped_age: u64,
    /// Frames dropped because memory was needed.
    pub dropped_memory: u64,
    /// Frames dropped because the connection ended with them queued.
    pub dropped_closed: u64,
}

impl TopicLedger {
    /// Frames dropped, for whatever reason.
    pub fn dropped(&self) -> u64 {
        self.dropped_bound + self.dropped_age + self.dropped_memory + self.dropped_closed
    }

    fn count(&mut self, loss: Loss) {
        *match loss {
            Loss::Conflated => &mut self.conflated,
            Loss::Bound => &mut self.dropped_bound,
            Loss::Age => &mut self.dropped_age,
            Loss::Memory => &mut self.dropped_memory,
            Loss::Closed => &mut self.dropped_closed,
        } += 1;
    }
}

impl std::ops::AddAssign for TopicLedger {
    fn add_assign(&mut self, other: Self) {
        self.matched += other.matched;
        self.conflated += other.conflated;
        self.dropped_bound += other.dropped_bound;
        self.dropped_age += other.dropped_age;
        self.dropped_memory += other.dropped_memory;
        self.dropped_closed += other.dropped_closed;
    }
}

/// The book of one topic.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) topic: Topic,
    pub(crate) class: ClassId,
    pub(crate) ledger: TopicLedger,
    /// Frames of the topic in the log, copies counted, and gaps that wait to be told.
    held: u64,
    /// Whether the topic's entry still has it.
    open: bool,
}

/// All books of a shard.
#[derive(Debug, Default)]
pub(crate) struct Books(Slab<Book>);

impl Books {
    /// Opens a book.
    pub(crate) fn open(&mut self, topic: Topic, class: ClassId) -> u32 {
        let ledger = TopicLedger::default();
        self.0.insert(Book { topic, class, ledger, held: 0, open: true }) as u32
    }

    /// Asks again of which class each topic is.
    pub(crate) fn classify(&mut self, classes: &Classes) {
        self.0.iter_mut().for_each(|(_, book)| book.class = classes.of(&book.topic));
    }

    /// The topic's entry is gone: the book goes with the last frame.
    pub(crate) fn close(&mut self, number: u32) {
        let book = &mut self.0[number as usize];
        book.open = false;
        if book.held == 0 {
            self.0.remove(number as usize);
        }
    }

    /// A frame came into the log.
    #[inline]
    pub(crate) fn enter(&mut self, note: &Note) {
        self.hold(note.book);
    }

    /// These frames left the log.
    pub(crate) fn leave(&mut self, notes: &[Note]) {
        notes.iter().for_each(|note| self.let_go(note.book));
    }

    /// Something refers to a book.
    #[inline]
    pub(crate) fn hold(&mut self, number: u32) {
        self.0[number as usize].held += 1;
    }

    /// It does no longer.
    pub(crate) fn let_go(&mut self, number: u32) {
        let book = &mut self.0[number as usize];
        book.held -= 1;
        if book.held == 0 && !book.open {
            self.0.remove(number as usize);
        }
    }

    /// A frame will not be written to one of those it was meant for.
    pub(crate) fn lost(&mut self, number: u32, loss: Loss) {
        self.0[number as usize].ledger.count(loss);
    }

    /// Frames were matched.
    #[inline]
    pub(crate) fn matched(&mut self, number: u32, frames: u64) {
        self.0[number as usize].ledger.matched += frames;
    }

    pub(crate) fn get(&self, number: u32) -> &Book {
        &self.0[number as usize]
    }

    /// Books that an entry has, or something else than the frames in the log, of which there are so many for each book.
    pub(crate) fn held_besides(&self, frames: impl Fn(u32) -> u64) -> usize {
        self.0.iter().filter(|(number, book)| book.open || book.held != frames(*number as u32)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::frame_index::FrameOffset;

    #[test]
    fn book_lives_as_long_as_its_entry_or_a_frame() {
        let mut books = Books::default();
        let topic = Topic::parse("cats").expect("a topic");
        let number = books.open(topic.clone(), ClassId::DEFAULT);
        let note = Note { book: number, at: 0, offset: FrameOffset::live(1), key: 0 };
        books.enter(&note);
        books.matched(number, 2);
        books.close(number);
        books.lost(number, Loss::Conflated);
        books.lost(number, Loss::Age);
        let ledger = books.get(number).ledger;
        assert_eq!((ledger.matched, ledger.conflated, ledger.dropped()), (2, 1, 1));
        books.leave(&[note]);
        assert!(books.0.is_empty());
        assert_eq!(books.open(topic, ClassId::DEFAULT), number, "its place is free");
        books.close(number);
        assert!(books.0.is_empty());
    }
}
