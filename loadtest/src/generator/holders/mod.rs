//! Processes that hold clients. One process has one limit of open files, which its user may not be able to lift, and
//! one table of them; several hold more clients than one may. The process that was started by hand directs, publishes
//! and holds a share of the clients too; the others are children of it, started for one round.
//!
//! ```text
//! directing process                                    holder (loadtest hold)
//!   Generator ──────────── orders: phases ───────────►  main thread ─► Shared of its threads
//!   first thread (Inbox) ◄─ how far they have come ───  its threads (Upward)
//!     └─► Shared: frontiers, counters ─► publishers
//!   publishers ─► Board: numbers given out ─ looked up ─►  its threads
//!   Generator ◄──────────── what was found ───────────  main thread
//! ```
//!
//! So a publisher waits for the clients of all processes as it does for those of all threads, and every delivery is
//! accounted for where it arrives. Either side notices the end of the other by the end of their link: without a holder
//! the run fails, and without the directing process a holder ends.

mod link;
mod messages;
mod upward;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

pub(super) use link::{Incoming, Link, Received, Wait};
pub(super) use messages::{Found, Order, Report};
pub(super) use upward::Upward;

use super::Plan;
use super::board::Board;
use super::outcome::Outcome;
use super::shared::{Phase, Shared};
use crate::error::{Context, Error, Result};
use crate::machine;
use crate::place::Place;
use messages::Assignment;

/// Characters of a reason that are told: a server may have answered with a page.
const REASON_MAX: usize = 2_000;

/// Tells the process that directs why this one cannot go on.
pub(super) fn fail(link: &Link, error: &Error) -> io::Result<()> {
    let reason = error.to_string().chars().take(REASON_MAX).collect();
    link.send(&Report::Failed(reason))
}

/// A process that holds clients, as the one that directs sees it. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Holder {
    child: Child,
    link: Arc<Link>,
    name: String,
}

impl Holder {
    /// Starts process number `number` of the plan, which begins to connect at once. What comes from it is read from
    /// the inbox.
    pub(super) fn start(plan: &Plan, number: usize, board: &Board) -> Result<(Self, Inbox)> {
        let what = || format!("cannot start generator process {number}");
        let (link, end) = Link::pair().context(what)?;
        let child = Command::new(machine::own_program()?)
            .arg("hold")
            .stdin(Stdio::from(end))
            .stdout(Stdio::from(board.handle().context(what)?))
            // A group of its own, so that Ctrl-C reaches the directing process only.
            .process_group(0)
            .spawn()
            .context(what)?;
        let link = Arc::new(link);
        let name = format!("generator process {number} (pid {})", child.id());
        let inbox = Inbox {
            link: Arc::clone(&link),
            incoming: Incoming::default(),
            threads: plan.split.threads_of(number),
            name: name.clone(),
        };
        let holder = Self { child, link, name };
        match holder.link.send(&Order::Hold(Box::new(Assignment::new(plan, number)))) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(ended_early(&holder.name)),
            sent => sent.context(what).map(|()| (holder, inbox)),
        }
    }

    /// Goes on to `phase`. If it has ended, whoever reads its inbox learns of it.
    pub(super) fn enter(&self, phase: Phase) {
        let _ = self.link.send(&Order::Enter(phase));
    }

    /// Lets its share of the chosen clients stop reading.
    pub(super) fn stall(&self) {
        let _ = self.link.send(&Order::Stall);
    }

    /// Everything is published and nobody reads the inbox any more: asks for what was found.
    pub(super) fn ask(&self, refused: &BTreeSet<Place>) {
        let _ = self.link.send(&Order::Conclude { refused: refused.clone() });
    }

    /// What it found, once it was asked.
    pub(super) fn answer(self) -> Result<Outcome> {
        let mut incoming = Incoming::default();
        loop {
            let received = self.link.receive(&mut incoming, Wait::UntilItComes);
            match received.context(|| format!("no findings of {}", self.name))? {
                Received::Message(Report::Found(found)) => return found.into_outcome(),
                Received::Message(Report::Advance(_)) | Received::Nothing => {}
                Received::Message(Report::Failed(reason)) => return Err(failed(&self.name, &reason)),
                Received::End => {
                    return Err(Error::Broken(format!("{} ended without its findings", self.name)));
                }
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It has nothing but sockets, which go with it. A failure means that it has ended already, and the wait
        // collects it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one holder says, read by a generator thread of the directing process.
#[derive(Debug)]
pub(super) struct Inbox {
    link: Arc<Link>,
    incoming: Incoming,
    /// The threads it may speak for.
    threads: Range<usize>,
    name: String,
}

impl Inbox {
    /// Reports to `token` whenever there is something to read.
    pub(super) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.link.socket().as_raw_fd()), token, Interest::READABLE)
    }

    /// Takes all there is, and gives whether a frontier has moved. Fails if the holder cannot go on, or has ended.
    pub(super) fn take(&mut self, shared: &Shared) -> Result<bool> {
        let mut has_moved = false;
        loop {
            let received = self.link.receive(&mut self.incoming, Wait::NotAtAll);
            match received.context(|| format!("cannot hear {}", self.name))? {
                Received::Nothing => return Ok(has_moved),
                Received::Message(Report::Advance(advance)) => {
                    if !self.threads.contains(&advance.thread) {
                        return Err(Error::Broken(format!("{} spoke for others", self.name)));
                    }
                    // The frontiers first: whoever counts as connected is waited for.
                    for (stream, frontier) in advance.moved {
                        has_moved |= shared.set_frontier(advance.thread, stream, frontier);
                    }
                    shared.set_counters(advance.thread, advance.counters);
                }
                Received::Message(Report::Failed(reason)) => return Err(failed(&self.name, &reason)),
                Received::Message(Report::Found(_)) => {
                    return Err(Error::Broken(format!("{} concluded unasked", self.name)));
                }
                Received::End => return Err(ended_early(&self.name)),
            }
        }
    }
}

/// A holder could not go on: the server may have refused its clients, or the kernel.
fn failed(name: &str, reason: &str) -> Error {
    Error::Failed(format!("{name}: {reason}"))
}

/// A holder is gone, whatever became of it.
fn ended_early(name: &str) -> Error {
    Error::Broken(format!("{name} ended before it was told to"))
}
