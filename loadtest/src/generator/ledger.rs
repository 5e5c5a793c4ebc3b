//! What went wrong with deliveries, by client and stream. A client that gets every number in its turn never comes
//! here.
//!
//! A number that is skipped is missing until it turns up: then it was reordered. One that turns up and is not
//! missing is a duplicate. What is still missing in the end was lost, unless its publication had been refused
//! by the server and so was never due.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::place::Place;

/// Gaps remembered per client and stream. Beyond it a gap counts as lost at once, and its numbers, should they turn up, as
/// duplicates: a server that broken has failed anyway, and the harness's memory stays bounded.
const GAPS_MAX: usize = 1_000;

/// Deliveries that were not as they should have been.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Faults {
    /// Published, and never seen by a client that was connected and reading.
    pub(crate) lost: u64,
    /// Seen more than once by one client.
    pub(crate) duplicated: u64,
    /// Seen later than a message published after it.
    pub(crate) reordered: u64,
    /// Not what was published: other bytes, another length, a number not yet given out, an unexpected frame.
    pub(crate) garbled: u64,
    /// Published to a topic or a user that is not the client's.
    pub(crate) misdelivered: u64,
}

impl Faults {
    pub(crate) fn is_clean(self) -> bool {
        self == Self::default()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.garbled += other.garbled;
        self.misdelivered += other.misdelivered;
    }
}

/// The troubled clients of one generator thread.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By client and stream.
    missing: HashMap<(usize, u32), Vec<Range<u64>>>,
    /// Lost at once, by client.
    forgotten: HashMap<usize, u64>,
    counted: Faults,
}

impl Ledger {
    /// `client` got number `until` of a stream while those from `due` on were due.
    pub(crate) fn skipped(&mut self, client: usize, due: Place, until: u64) {
        let numbers = due.number()..until;
        let gaps = self.missing.entry((client, due.stream())).or_default();
        if gaps.len() < GAPS_MAX {
            gaps.push(numbers);
        } else {
            self.counted.lost += numbers.end - numbers.start;
            *self.forgotten.entry(client).or_default() += numbers.end - numbers.start;
        }
    }

    /// `client` got the message at `place`, which is below what it expects of that stream.
    pub(crate) fn came_late(&mut self, client: usize, place: Place) {
        let number = place.number();
        let gaps = self.missing.entry((client, place.stream())).or_default();
        let Some(index) = gaps.iter().position(|gap| gap.contains(&number)) else {
            self.counted.duplicated += 1;
            return;
        };
        self.counted.reordered += 1;
        let gap = gaps.swap_remove(index);
        gaps.extend([gap.start..number, number + 1..gap.end].into_iter().filter(|part| !part.is_empty()));
    }

    /// Something came that was not published so.
    pub(crate) fn garbled(&mut self) {
        self.counted.garbled += 1;
    }

    /// Something came that was published to others.
    pub(crate) fn misdelivered(&mut self) {
        self.counted.misdelivered += 1;
    }

    /// The final count. `refused` is what the server never took.
    pub(crate) fn settle(&self, refused: &BTreeSet<Place>) -> Faults {
        let lost = self.missing.iter().map(|(&(_, stream), gaps)| lost(stream, gaps, refused)).sum::<u64>();
        Faults { lost: self.counted.lost + lost, ..self.counted }
    }

    /// What each client lost, if anything.
    pub(super) fn lost_by_client(&self, refused: &BTreeSet<Place>) -> HashMap<usize, u64> {
        let mut all = self.forgotten.clone();
        for (&(client, stream), gaps) in &self.missing {
            *all.entry(client).or_default() += lost(stream, gaps, refused);
        }
        all
    }
}

/// How many numbers of a stream lie in `gaps` and were not `refused`.
fn lost(stream: u32, gaps: &[Range<u64>], refused: &BTreeSet<Place>) -> u64 {
    let lost = |gap: &Range<u64>| {
        let places = Place::new(stream, gap.start)..Place::new(stream, gap.end);
        gap.end - gap.start - refused.range(places).count() as u64
    };
    gaps.iter().map(lost).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64) -> Place {
        Place::new(5, number)
    }

    #[test]
    fn what_never_turns_up_is_lost() {
        let mut ledger = Ledger::default();
        ledger.skipped(7, at(3), 5);
        let expected = Faults { lost: 2, ..Faults::default() };
        assert_eq!(ledger.settle(&BTreeSet::new()), expected);
    }

    #[test]
    fn what_turns_up_late_was_reordered_and_then_is_a_duplicate() {
        let mut ledger = Ledger::default();
        ledger.skipped(7, at(3), 6);
        ledger.came_late(7, at(4));
        ledger.came_late(7, at(4));
        ledger.came_late(8, at(4));
        ledger.came_late(7, Place::new(6, 3));
        let expected = Faults { lost: 2, duplicated: 3, reordered: 1, ..Faults::default() };
        assert_eq!(ledger.settle(&BTreeSet::new()), expected);
    }

    #[test]
    fn what_the_server_refused_is_not_lost() {
        let mut ledger = Ledger::default();
        ledger.skipped(1, at(10), 13);
        assert_eq!(ledger.settle(&BTreeSet::from([9, 11, 13].map(at))).lost, 2);
        assert_eq!(ledger.settle(&BTreeSet::from([Place::new(4, 11)])).lost, 3, "refused of another stream");
        assert!(Faults::default().is_clean());
    }

    #[test]
    fn memory_is_bounded_and_nothing_goes_uncounted() {
        let mut ledger = Ledger::default();
        let gaps = GAPS_MAX as u64 + 10;
        (0..gaps).for_each(|gap| ledger.skipped(1, at(gap * 2), gap * 2 + 1));
        assert_eq!(ledger.settle(&BTreeSet::new()).lost, gaps);
        ledger.skipped(2, at(0), 5);
        let refused = BTreeSet::from([at(3)]);
        assert_eq!(ledger.lost_by_client(&refused), HashMap::from([(1, gaps), (2, 4)]));
    }
}
