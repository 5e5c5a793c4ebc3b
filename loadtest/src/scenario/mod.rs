//! What can be measured: one file per scenario. A scenario turns its arguments into rounds, and rounds into a
//! report; how clients, servers and figures work is none of its business.

mod alternation;
pub(crate) mod churn;
pub(crate) mod compare;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod ingest;
pub(crate) mod overload;
pub(crate) mod rate;
pub(crate) mod resume;
mod returning;
mod scaling;
pub(crate) mod slow;
pub(crate) mod soak;
pub(crate) mod storm;
pub(crate) mod topics;
pub(crate) mod users;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::args::{CrowdArgs, TargetArgs};
use crate::error::{Error, Result};
use crate::machine::{self, Cores};
use crate::round::Interrupt;
use crate::server::Side;
use crate::split::Split;
use crate::verdict::Verdict;

/// What all scenarios prepare alike.
struct Stage {
    interrupt: Interrupt,
    split: Split,
    busy_poll: bool,
    /// The core of servers started here.
    server_core: Option<usize>,
}

impl Stage {
    /// Reserves descriptors, takes over signals and pins the generator if asked to. For one number of clients.
    fn set(crowd: &CrowdArgs) -> Result<Self> {
        if crowd.counts.len() > 1 {
            return Err(Error::Usage("--clients takes a list with `fanout` only".to_owned()));
        }
        Self::set_for_list(crowd)
    }

    /// The same for a scenario that measures with each of several numbers of clients.
    fn set_for_list(crowd: &CrowdArgs) -> Result<Self> {
        let cores = Cores::available()?;
        let threads = crowd.threads.map_or(cores.threads(), usize::from);
        let split = Split::new(crowd.clients(), threads, crowd.processes.into());
        machine::reserve_descriptors(&split)?;
        if crowd.pin {
            cores.pin_generator()?;
        }
        Ok(Self {
            interrupt: Interrupt::watch()?,
            split,
            busy_poll: crowd.busy_poll,
            server_core: crowd.pin.then_some(cores.server),
        })
    }

    fn target(&self, args: &TargetArgs) -> Side {
        match &args.server {
            None => Side::Running { address: args.target, pid: args.pid, secure: false },
            Some(program) => Side::Started {
                program: program.clone(),
                arguments: args.server_args.split_whitespace().map(str::to_owned).collect(),
                classes: false,
                secure: false,
                core: self.server_core,
            },
        }
    }
}

/// A topic nobody else uses: a leftover of another run would look like a fault of this one.
fn fresh_topic() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("load-{}-{}", std::process::id(), since.as_nanos())
}
