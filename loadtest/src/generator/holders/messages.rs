//! What the process that directs and one that holds clients say to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::dialect::v1::Gaps;
use crate::dialect::{Dialect, Framing, Joining};
use crate::error::Result;
use crate::generator::outcome::Outcome;
use crate::generator::shared::{Counters, Phase};
use crate::generator::streams::Streams;
use crate::generator::{Faults, Plan, reader};
use crate::message::Message;
use crate::place::Place;
use crate::split::Split;

/// To a process that holds clients.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Comes first: connect these, and hold them.
    Hold(Box<Assignment>),
    Enter(Phase),
    /// The chosen clients stop reading.
    Stall,
    /// Nothing is published any more, and these the server never took: say what was found.
    Conclude {
        refused: BTreeSet<Place>,
    },
}

/// From a process that holds clients.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Advance(Advance),
    /// It cannot go on.
    Failed(String),
    /// The last thing it says.
    Found(Found),
}

/// How far the clients of one thread have come.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Advance {
    /// Among all of the run.
    pub(crate) thread: usize,
    pub(crate) counters: Counters,
    /// Streams whose frontier is another than was told before.
    pub(crate) moved: Vec<(u32, u64)>,
}

/// Which clients a process is to hold: a [`Plan`] without what concerns the publishers only.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) process: usize,
    address: SocketAddr,
    /// What clients connect to, if they need not register.
    path: Option<String>,
    framing: Framing,
    secure: bool,
    streams: Streams,
    split: Split,
    busy_poll: bool,
    message_size: usize,
    /// When send times begin, by the clock of [`crate::clock`].
    epoch_ns: u64,
    stalled: f64,
}

/// What the clients of a process found: an [`Outcome`] as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    faults: Faults,
    /// Values and how often each was recorded.
    latency: Vec<(u64, u64)>,
    closed: Vec<(Option<u16>, u64)>,
    received: u64,
    gaps: Gaps,
}

impl Assignment {
    /// What process number `process` of the plan has to do.
    pub(crate) fn new(plan: &Plan, process: usize) -> Self {
        Self {
            process,
            address: plan.address,
            path: match plan.dialect.joining {
                Joining::Register => None,
                Joining::Path(path) => Some(path.to_owned()),
            },
            framing: plan.dialect.framing,
            secure: plan.dialect.secure,
            streams: Streams::clone(&plan.streams),
            split: plan.split,
            busy_poll: plan.busy_poll,
            message_size: plan.message.size(),
            epoch_ns: clock::to_ns(plan.message.epoch()),
            stalled: plan.stalled,
        }
    }

    /// The plan of a process that publishes nothing.
    pub(crate) fn into_plan(self) -> Plan {
        let joining = match self.path {
            None => Joining::Register,
            // A process has one assignment in its life: what is kept for ever is these few bytes.
            Some(path) => Joining::Path(path.leak()),
        };
        Plan {
            address: self.address,
            dialect: Dialect { joining, framing: self.framing, secure: self.secure, ..Dialect::CONTRACT },
            streams: Arc::new(self.streams),
            split: self.split,
            busy_poll: self.busy_poll,
            message: Message::new(self.message_size, clock::from_ns(self.epoch_ns)),
            supply: None,
            stalled: self.stalled,
            // Whoever publishes waits, and knows when to give up.
            patience: Duration::MAX,
        }
    }
}

impl Found {
    pub(crate) fn new(outcome: Outcome) -> Self {
        let recorded = outcome.latency.iter_recorded();
        Self {
            faults: outcome.faults,
            latency: recorded.map(|value| (value.value_iterated_to(), value.count_at_value())).collect(),
            closed: outcome.closed.into_iter().collect(),
            received: outcome.received,
            gaps: outcome.gaps,
        }
    }

    pub(crate) fn into_outcome(self) -> Result<Outcome> {
        let mut latency: Histogram<u64> = reader::latencies()?;
        for (value, count) in self.latency {
            latency.saturating_record_n(value, count);
        }
        let closed: BTreeMap<_, _> = self.closed.into_iter().collect();
        let Self { faults, received, gaps, .. } = self;
        Ok(Outcome { faults, latency, closed, received, gaps, ..Outcome::new()? })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn told<T: Serialize + serde::de::DeserializeOwned>(message: &T) -> T {
        serde_json::from_slice(&serde_json::to_vec(message).expect("plain data")).expect("as it was written")
    }

    #[test]
    fn an_outcome_survives_the_journey() {
        let mut outcome = Outcome::new().expect("bounds that are allowed");
        for value in [0, 999, 1_000, 1_234_567, 599_999_999_999, 600_000_000_000, u64::MAX] {
            outcome.latency.saturating_record_n(value, value % 7 + 1);
        }
        outcome.faults = Faults { lost: 3, misdelivered: 1, ..Faults::default() };
        outcome.closed = BTreeMap::from([(None, 2), (Some(1013), 1)]);
        outcome.received = 77;
        outcome.gaps = Gaps { gaps: 1, conflated: 2, dropped: 3 };
        let gaps = outcome.gaps;
        let (latency, faults, closed) = (outcome.latency.clone(), outcome.faults, outcome.closed.clone());
        let back = told(&Found::new(outcome)).into_outcome().expect("bounds that are allowed");
        assert_eq!((back.latency, back.faults, back.closed), (latency, faults, closed));
        assert_eq!((back.received, back.refused, back.gaps), (77, 0, gaps));
    }

    #[test]
    fn a_process_learns_all_that_concerns_its_clients() {
        let plan = Plan {
            address: SocketAddr::from(([127, 0, 0, 1], 80)),
            dialect: Dialect { framing: Framing::SocketIo, ..Dialect::by_path("/ws/{topic}") },
            streams: Arc::new(Streams::users("t".to_owned(), 9, 2, 1)),
            split: Split::new(9, 4, 2),
            busy_poll: true,
            message: Message::new(100, Instant::now()),
            supply: None,
            stalled: 0.1,
            patience: Duration::ZERO,
        };
        let assignment = told(&Assignment::new(&plan, 1));
        assert_eq!(assignment.process, 1);
        let there = assignment.into_plan();
        assert_eq!((there.address, there.dialect, there.split), (plan.address, plan.dialect, plan.split));
        assert_eq!((there.busy_poll, there.message.size()), (true, 100));
        assert_eq!(there.stalling(), plan.stalling());
        assert!((0..9).all(|client| there.streams.streams_of(client) == plan.streams.streams_of(client)));
        let Order::Conclude { refused } = told(&Order::Conclude { refused: [Place::new(3, 5)].into() })
        else {
            panic!("another order");
        };
        assert_eq!(refused, [Place::new(3, 5)].into());
    }
}
