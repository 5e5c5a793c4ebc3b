//! Thousands of simulated clients on a few threads. Directed by a round: [`Generator::start`], then one phase
//! after the other, then [`Generator::finish`], which gives what was found. Dropping it ends its threads.

mod census;
mod client;
mod connector;
mod frame;
mod lane;
mod ledger;
pub(crate) mod lives;
mod pace;
mod pipeline;
mod publisher;
mod reader;
mod rotation;
mod shared;
mod streams;
mod timer;
mod worker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::{Poll, Waker};

pub(crate) use ledger::Faults;
pub(crate) use pace::{Pace, Supply};
pub(crate) use rotation::Order;
pub(crate) use shared::{Phase, Totals};
pub(crate) use streams::{Spread, Streams};

use crate::dialect::Dialect;
use crate::error::{Context, Error, Result};
use crate::message::Message;
use shared::Shared;
use worker::{Findings, Worker};

/// What a generator is to do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) dialect: Dialect,
    /// What is published, and who is to get it.
    pub(crate) streams: Arc<Streams>,
    pub(crate) clients: usize,
    pub(crate) threads: usize,
    /// Whether threads look for work all the time while something is published, instead of sleeping.
    pub(crate) busy_poll: bool,
    pub(crate) message: Message,
    /// How it is published; `None` publishes nothing.
    pub(crate) supply: Option<Supply>,
    /// The share of clients that stop reading when [`Generator::stall`] is called.
    pub(crate) stalled: f64,
    /// How long nothing may reach everybody before the run is given up.
    pub(crate) patience: Duration,
}

impl Plan {
    /// Threads that publish: the first so many.
    fn publishing_threads(&self) -> usize {
        self.supply.map_or(0, |supply| supply.publishers.min(self.threads))
    }

    /// How many clients will stop reading.
    pub(crate) fn stalling(&self) -> usize {
        worker::stalling(self)
    }
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
}

/// The running threads.
#[derive(Debug)]
pub(crate) struct Generator {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<Findings>>>,
}

impl Generator {
    /// Starts the threads, which begin to connect at once.
    pub(crate) fn start(plan: &Plan) -> Result<Self> {
        plan.streams.check()?;
        let polls: Vec<Poll> = (0..plan.threads)
            .map(|_| Poll::new())
            .collect::<std::io::Result<_>>()
            .context(|| "no poller".to_owned())?;
        let wakers = polls
            .iter()
            .map(|poll| Waker::new(poll.registry(), worker::WAKE))
            .collect::<std::io::Result<_>>()
            .context(|| "no waker".to_owned())?;
        let shared = Arc::new(Shared::new(wakers, plan.streams.len(), plan.publishing_threads()));
        let workers: Vec<Worker> = polls
            .into_iter()
            .enumerate()
            .map(|(index, poll)| Worker::new(index, poll, Arc::clone(&shared), plan))
            .collect::<Result<_>>()?;
        let mut generator = Self { shared, threads: Vec::with_capacity(plan.threads) };
        for (index, worker) in workers.into_iter().enumerate() {
            let thread = thread::Builder::new().name(format!("generator-{index}")).spawn(|| worker.run());
            generator.threads.push(thread.context(|| "cannot start a thread".to_owned())?);
        }
        Ok(generator)
    }

    /// Goes on to `phase`.
    pub(crate) fn enter(&self, phase: Phase) {
        self.shared.enter(phase);
    }

    /// Lets the chosen share of the clients stop reading.
    pub(crate) fn stall(&self) {
        self.shared.stall();
    }

    /// Ends the threads and adds up what they found; an error of any of them comes first.
    pub(crate) fn finish(mut self) -> Result<Outcome> {
        self.shared.enter(Phase::Stop);
        let mut outcome = None;
        let mut ledgers = Vec::new();
        let mut refused = std::collections::BTreeSet::new();
        for thread in self.threads.drain(..) {
            let findings = thread
                .join()
                .map_err(|_| Error::Failed("a generator thread panicked".to_owned()))
                .and_then(|findings| findings)?;
            refused.extend(findings.refused);
            ledgers.push(findings.ledger);
            let outcome = outcome.get_or_insert_with(|| Outcome {
                faults: Faults::default(),
                latency: Histogram::new_from(&findings.latency),
                closed: BTreeMap::new(),
                refused: 0,
                lag: Histogram::new_from(&findings.lag),
                received: 0,
            });
            // Both have the same bounds, so that adding cannot fail.
            let _ = outcome.latency.add(&findings.latency);
            let _ = outcome.lag.add(&findings.lag);
            outcome.received += findings.received;
            for (code, count) in findings.closed {
                *outcome.closed.entry(code).or_default() += count;
            }
        }
        let mut outcome = outcome.ok_or_else(|| Error::Failed("no generator thread".to_owned()))?;
        for ledger in ledgers {
            outcome.faults.add(ledger.settle(&refused));
        }
        outcome.refused = refused.len() as u64;
        Ok(outcome)
    }

    /// Counters so far.
    pub(crate) fn totals(&self) -> Totals {
        self.shared.totals()
    }

    /// Nothing has reached everybody for longer than the plan's patience, or nobody is left.
    pub(crate) fn is_stuck(&self) -> bool {
        self.shared.is_stuck()
    }

    /// Everything published has reached everybody and has been answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.shared.is_settled()
    }

    /// A thread has ended before it was told to: [`Self::finish`] says why.
    pub(crate) fn has_failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.shared.enter(Phase::Stop);
        for thread in self.threads.drain(..) {
            // Its findings are of no interest to whoever dropped the generator.
            let _ = thread.join();
        }
    }
}
