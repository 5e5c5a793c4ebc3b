//! What a thread of a generator found, and what all of a run found together, in one process or in several.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;

use super::ledger::{Faults, Ledger};
use super::reader;
use crate::dialect::v1::Gaps;
use crate::error::Result;
use crate::place::Place;

/// What one thread found.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) ledger: Ledger,
    pub(super) latency: Histogram<u64>,
    /// Connections the server ended, by close code; `None` is without a close frame.
    pub(super) closed: BTreeMap<Option<u16>, u64>,
    /// What the server refused of what this thread published.
    pub(super) refused: BTreeSet<Place>,
    /// Messages of any kind that came.
    pub(super) received: u64,
    /// What clients were told they miss.
    pub(super) gaps: Gaps,
    /// Nanoseconds from when publications were to leave to when they did.
    pub(super) lag: Histogram<u64>,
}

/// What all threads found together.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) faults: Faults,
    /// Nanoseconds from publishing to reading.
    pub(crate) latency: Histogram<u64>,
    /// Connections the server ended, by close code; `None` is without a close frame.
    pub(crate) closed: BTreeMap<Option<u16>, u64>,
    /// Publications the server refused for good, and so nobody waits for.
    pub(crate) refused: u64,
    /// Nanoseconds from when publications of the measured window were to leave to when they did.
    pub(crate) lag: Histogram<u64>,
    /// Messages of any kind that came to clients.
    pub(crate) received: u64,
    /// What clients were told they miss, where the protocol says so.
    pub(crate) gaps: Gaps,
}

impl Outcome {
    /// Nothing yet.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            faults: Faults::default(),
            latency: reader::latencies()?,
            closed: BTreeMap::new(),
            refused: 0,
            lag: reader::latencies()?,
            received: 0,
            gaps: Gaps::default(),
        })
    }

    /// Of the threads of one process. `refused` is what the server never took, of all that was published in the run.
    pub(super) fn of(threads: Vec<Findings>, refused: &BTreeSet<Place>) -> Result<Self> {
        let mut outcome = Self::new()?;
        for Findings { ledger, latency, closed, refused: own, received, gaps, lag } in threads {
            let faults = ledger.settle(refused);
            outcome.add(Self { faults, latency, closed, refused: own.len() as u64, lag, received, gaps });
        }
        Ok(outcome)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.faults.add(other.faults);
        // All have the same bounds, so that adding cannot fail.
        let _ = self.latency.add(&other.latency);
        let _ = self.lag.add(&other.lag);
        for (code, count) in other.closed {
            *self.closed.entry(code).or_default() += count;
        }
        self.refused += other.refused;
        self.received += other.received;
        self.gaps.add(other.gaps);
    }
}
