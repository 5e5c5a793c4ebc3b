//! The model's books: for each topic of a shard and each encoding what was matched and what was lost, as often as the shard
//! begins to count anew.

use fanfare::engine::{Encoding, TopicLedger};

/// Why a frame is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loss {
    Conflated,
    Bound,
    Age,
    Memory,
    Closed,
}

impl Loss {
    pub(super) const ALL: [Self; 5] = [Self::Conflated, Self::Bound, Self::Age, Self::Memory, Self::Closed];

    fn of(self, ledger: &TopicLedger) -> u64 {
        match self {
            Self::Conflated => ledger.conflated,
            Self::Bound => ledger.dropped_bound,
            Self::Age => ledger.dropped_age,
            Self::Memory => ledger.dropped_memory,
            Self::Closed => ledger.dropped_closed,
        }
    }
}

/// One book.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) shard: usize,
    pub(super) topic: usize,
    pub(super) encoding: Encoding,
    matched: u64,
    /// What the shard's book said when it was last compared.
    last: TopicLedger,
    /// What was lost since: for each reason how many frames must have gone for it, and how many may.
    lost: Vec<Vec<Loss>>,
    /// Whether the shard has it still.
    open: bool,
}

/// All books there ever were.
#[derive(Debug, Default)]
pub(super) struct Books(Vec<Book>);

impl Books {
    /// The number of the open book of a topic, which there must be.
    pub(super) fn number(&self, shard: usize, topic: usize, encoding: Encoding) -> Option<usize> {
        self.0.iter().rposition(|book| {
            book.open && (book.shard, book.topic, book.encoding) == (shard, topic, encoding)
        })
    }

    pub(super) fn matched(&mut self, number: usize) {
        self.0[number].matched += 1;
    }

    /// A frame was lost, for one of these reasons.
    pub(super) fn lost(&mut self, number: usize, reasons: Vec<Loss>) {
        self.0[number].lost.push(reasons);
    }

    /// Compares the book of a topic with what the shard says: I8, for each topic and reason.
    pub(super) fn compare(
        &mut self,
        (shard, topic, encoding): (usize, usize, Encoding),
        ledger: Option<TopicLedger>,
    ) {
        let number = self.number(shard, topic, encoding);
        let (number, ledger) = match (number, ledger) {
            (None, None) => return,
            (Some(number), None) => {
                self.0[number].open = false;
                self.0[number].lost.clear();
                return;
            }
            (None, Some(ledger)) => {
                let (last, lost) = (TopicLedger::default(), Vec::new());
                self.0.push(Book { shard, topic, encoding, matched: 0, last, lost, open: true });
                (self.0.len() - 1, ledger)
            }
            (Some(number), Some(ledger)) => (number, ledger),
        };
        let book = &mut self.0[number];
        assert_eq!(ledger.matched, book.matched, "I8: frames matched in topic {topic}");
        let lost = std::mem::take(&mut book.lost);
        let mut total = 0;
        for loss in Loss::ALL {
            let counted = loss.of(&ledger) - loss.of(&book.last);
            total += counted;
            let must = lost.iter().filter(|reasons| **reasons == [loss]).count() as u64;
            let may = lost.iter().filter(|reasons| reasons.contains(&loss)).count() as u64;
            assert!(
                (must..=may).contains(&counted),
                "I8: {counted} frames of topic {topic} are counted {loss:?}, of {must} to {may}: {lost:?}"
            );
        }
        assert_eq!(total, lost.len() as u64, "I8: frames lost in topic {topic}");
        book.last = ledger;
    }

    /// Forgets what was lost of books that the shard has no longer.
    pub(super) fn end_step(&mut self) {
        self.0.iter_mut().filter(|book| !book.open).for_each(|book| book.lost.clear());
    }
}
