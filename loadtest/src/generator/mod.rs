//! Thousands of simulated clients on a few threads, in one process or several. Directed by a round:
//! [`Generator::start`], then one phase after the other, then [`Generator::finish`], which gives what was found.
//! Dropping it ends its threads and the other processes.

mod board;
mod census;
mod client;
mod connector;
mod frame;
mod hold;
mod holders;
mod lane;
mod ledger;
pub(crate) mod lives;
mod outcome;
mod pace;
mod pipeline;
mod publisher;
mod reader;
mod rotation;
mod shared;
mod streams;
mod threads;
mod timer;
mod worker;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use hold::hold;
pub(crate) use ledger::Faults;
pub(crate) use outcome::Outcome;
pub(crate) use pace::{Pace, Supply};
pub(crate) use rotation::Order;
pub(crate) use shared::{Phase, Totals};
pub(crate) use streams::{Spread, Streams};

use crate::dialect::Dialect;
use crate::error::{Context, Result};
use crate::message::Message;
use crate::split::Split;
use board::Board;
use holders::Holder;
use threads::{Threads, Ties};

/// What a generator is to do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) dialect: Dialect,
    /// What is published, and who is to get it.
    pub(crate) streams: Arc<Streams>,
    /// How many clients there are, and which thread of which process has them.
    pub(crate) split: Split,
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
    /// Connections to publish over, spread over the threads of the first process.
    fn publishers(&self) -> usize {
        self.supply.map_or(0, |supply| supply.publishers)
    }

    /// How many clients will stop reading.
    pub(crate) fn stalling(&self) -> usize {
        worker::stalling(self)
    }
}

/// The running threads, and the processes that hold the other clients.
#[derive(Debug)]
pub(crate) struct Generator {
    threads: Threads,
    holders: Vec<Holder>,
}

impl Generator {
    /// Starts the processes and threads, which begin to connect at once.
    pub(crate) fn start(plan: &Plan) -> Result<Self> {
        plan.streams.check()?;
        let (mut holders, mut inboxes) = (Vec::new(), Vec::new());
        let board = match plan.split.processes {
            1 => None,
            processes => {
                let board = Board::new(plan.streams.len()).context(|| "no board".to_owned())?;
                for number in 1..processes {
                    let (holder, inbox) = Holder::start(plan, number, &board)?;
                    holders.push(holder);
                    inboxes.push(inbox);
                }
                Some(board)
            }
        };
        let threads = Threads::start(plan, 0, Ties::Directs { board, inboxes })?;
        Ok(Self { threads, holders })
    }

    /// Goes on to `phase`.
    pub(crate) fn enter(&self, phase: Phase) {
        self.threads.shared().enter(phase);
        self.holders.iter().for_each(|holder| holder.enter(phase));
    }

    /// Lets the chosen share of the clients stop reading.
    pub(crate) fn stall(&self) {
        self.threads.shared().stall();
        self.holders.iter().for_each(Holder::stall);
    }

    /// Ends all threads and processes and adds up what they found; an error of any of them comes first.
    pub(crate) fn finish(self) -> Result<Outcome> {
        let found = self.threads.finish()?;
        // Whatever will have been refused has been: nobody publishes any more.
        let refused: BTreeSet<_> = found.iter().flat_map(|thread| thread.refused.iter().copied()).collect();
        let mut outcome = Outcome::of(found, &refused)?;
        // All are asked before one is waited for.
        self.holders.iter().for_each(|holder| holder.ask(&refused));
        for holder in self.holders {
            outcome.add(holder.answer()?);
        }
        Ok(outcome)
    }

    /// The processes that simulate clients, this one first.
    pub(crate) fn pids(&self) -> Vec<u32> {
        std::iter::once(std::process::id()).chain(self.holders.iter().map(Holder::pid)).collect()
    }

    /// Counters so far.
    pub(crate) fn totals(&self) -> Totals {
        self.threads.shared().totals()
    }

    /// Nothing has reached everybody for longer than the plan's patience, or nobody is left.
    pub(crate) fn is_stuck(&self) -> bool {
        self.threads.shared().is_stuck()
    }

    /// Everything published has reached everybody and has been answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.threads.shared().is_settled()
    }

    /// A thread or a process has ended before it was told to: [`Self::finish`] says why.
    pub(crate) fn has_failed(&self) -> bool {
        self.threads.has_failed()
    }
}
