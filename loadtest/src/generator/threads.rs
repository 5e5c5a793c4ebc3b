//! The generator threads of one process, whichever it is of those that hold the clients of a run.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use mio::{Poll, Waker};

use super::Plan;
use super::board::Board;
use super::holders::{self, Inbox, Link, Upward};
use super::outcome::Findings;
use super::shared::{Phase, Published, Shared};
use super::worker::{self, Worker};
use crate::error::{Context, Error, Result};

/// What a process has to do with the others.
pub(super) enum Ties {
    /// It publishes and directs, and hears from these, if there are any.
    Directs { board: Option<Board>, inboxes: Vec<Inbox> },
    /// It holds clients for the process at the other end of the link.
    Holds { link: Arc<Link>, board: Board },
}

/// Running threads. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Threads {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<Result<Findings>>>,
}

impl Threads {
    /// Starts those of process number `process` of the plan, which begin to connect at once.
    pub(super) fn start(plan: &Plan, process: usize, ties: Ties) -> Result<Self> {
        let own = plan.split.threads_of(process);
        let polls: Vec<Poll> = own
            .clone()
            .map(|_| Poll::new())
            .collect::<std::io::Result<_>>()
            .context(|| "no poller".to_owned())?;
        let wakers = polls
            .iter()
            .map(|poll| Waker::new(poll.registry(), worker::WAKE))
            .collect::<std::io::Result<_>>()
            .context(|| "no waker".to_owned())?;
        let (published, link, mut inboxes) = match ties {
            Ties::Directs { board, inboxes } => (Published::here(plan.streams.len(), board), None, inboxes),
            Ties::Holds { link, board } => (Published::Elsewhere(board), Some(link), Vec::new()),
        };
        // A process that directs knows of all threads, and is the first: its own come first.
        let known = if link.is_some() { own.len() } else { plan.split.threads };
        let publishing = plan.publishers().min(own.len());
        let shared = Arc::new(Shared::new(known, wakers, publishing, published));
        let mut workers = Vec::with_capacity(own.len());
        for (index, poll) in polls.into_iter().enumerate() {
            let mut worker = Worker::new(index, poll, Arc::clone(&shared), plan, process)?;
            worker.listen(std::mem::take(&mut inboxes))?;
            if let Some(link) = &link {
                worker.tell_upward(Upward::new(Arc::clone(link), own.start + index));
            }
            workers.push(worker);
        }
        let mut threads = Self { shared, handles: Vec::with_capacity(workers.len()) };
        for (index, worker) in workers.into_iter().enumerate() {
            let name = format!("generator-{}", own.start + index);
            let link = link.clone();
            let run = move || {
                let found = worker.run();
                if let (Some(link), Err(error)) = (&link, &found) {
                    // If that fails, nobody is left to be told.
                    let _ = holders::fail(link, error);
                }
                found
            };
            let handle = thread::Builder::new().name(name).spawn(run);
            threads.handles.push(handle.context(|| "cannot start a thread".to_owned())?);
        }
        Ok(threads)
    }

    /// Ends them and gives what each found; an error of any of them comes first.
    pub(super) fn finish(mut self) -> Result<Vec<Findings>> {
        self.shared.enter(Phase::Stop);
        let joined = |handle: JoinHandle<Result<Findings>>| {
            let found = handle.join().map_err(|_| Error::Broken("a generator thread panicked".to_owned()));
            found.and_then(|found| found)
        };
        // All of them are joined before one may fail.
        let found: Vec<Result<Findings>> = self.handles.drain(..).map(joined).collect();
        found.into_iter().collect()
    }

    /// What they and the thread that directs them know of each other.
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// One has ended before it was told to: [`Self::finish`] says why.
    pub(super) fn has_failed(&self) -> bool {
        self.handles.iter().any(JoinHandle::is_finished)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.enter(Phase::Stop);
        for handle in self.handles.drain(..) {
            // What it found is of no interest to whoever dropped the threads.
            let _ = handle.join();
        }
    }
}
