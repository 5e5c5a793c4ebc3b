//! What a process that holds clients does: `loadtest hold`, started by another process of this program with a link as
//! its standard input and the board as its standard output. It obeys orders, and its threads are those of any
//! generator. It ends when it has said what it found, when the link ends, and when one of its threads panics.

use std::io;
use std::os::fd::AsFd;
use std::process;
use std::sync::Arc;

use super::board::Board;
use super::holders::{self, Found, Incoming, Link, Order, Received, Report, Wait};
use super::outcome::Outcome;
use super::threads::{Threads, Ties};
use crate::error::{Context, Error, Result};
use crate::verdict::Verdict;

/// `loadtest hold`.
pub(crate) fn hold() -> Result<Verdict> {
    let link = io::stdin().as_fd().try_clone_to_owned().context(|| "no standard input".to_owned())?;
    let link = Arc::new(Link::from_end(link));
    // Nobody would notice the end of a single thread: the main one waits for orders.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        process::exit(2);
    }));
    match obey(&link) {
        Ok(()) => Ok(Verdict::Faultless),
        // Whoever directs says it, and the exit code is not looked at.
        Err(error) if holders::fail(&link, &error).is_ok() => Ok(Verdict::Undecided),
        Err(error) => Err(error),
    }
}

fn obey(link: &Arc<Link>) -> Result<()> {
    let mut incoming = Incoming::default();
    let mut next = || {
        let received = link.receive(&mut incoming, Wait::UntilItComes);
        received.context(|| "`loadtest hold` obeys another process of loadtest, and nobody else".to_owned())
    };
    let Received::Message(Order::Hold(assignment)) = next()? else {
        return Err(Error::Broken("the first order is not to hold clients".to_owned()));
    };
    let process = assignment.process;
    let plan = assignment.into_plan();
    let board = io::stdout().as_fd().try_clone_to_owned();
    let board = board.and_then(|file| Board::open(file, plan.streams.len()));
    let board = board.context(|| "cannot read the board".to_owned())?;
    let threads = Threads::start(&plan, process, Ties::Holds { link: Arc::clone(link), board })?;
    loop {
        match next()? {
            Received::Message(Order::Enter(phase)) => threads.shared().enter(phase),
            Received::Message(Order::Stall) => threads.shared().stall(),
            Received::Message(Order::Conclude { refused }) => {
                let outcome = Outcome::of(threads.finish()?, &refused)?;
                let told = link.send(&Report::Found(Found::new(outcome)));
                return told.context(|| "nobody asks for what was found".to_owned());
            }
            Received::Message(Order::Hold(_)) => {
                return Err(Error::Broken("told to hold clients twice".to_owned()));
            }
            Received::Nothing => {}
            Received::End => return Ok(()),
        }
    }
}
