//! The machine the harness runs on: which cores there are and who is pinned to which, how many descriptors may
//! be open, where this program is, and what a report has to say about hardware and kernel.

use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::error::{Context, Error, Result};
use crate::split::{PROCESSES_MAX, Split};

/// Descriptors kept for what a process has once: publishers, /proc files, standard streams.
const DESCRIPTORS_SPARE: usize = 64;
/// Those of a thread: poller, waker, timer, and the connection over which its clients register.
const DESCRIPTORS_A_THREAD: usize = 4;

/// Cores, split so that server and generator do not share any.
#[derive(Debug, Clone)]
pub(crate) struct Cores {
    /// The first core this process may use: the server's when pinned.
    pub(crate) server: usize,
    /// All the others: the generator's when pinned.
    pub(crate) generator: Vec<usize>,
}

impl Cores {
    /// The cores this process may use now.
    pub(crate) fn available() -> Result<Self> {
        let allowed = sched_getaffinity(None).context(|| "cannot read the allowed cores".to_owned())?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let server = cores.next().ok_or_else(|| Error::Failed("no core may be used".to_owned()))?;
        Ok(Self { server, generator: cores.collect() })
    }

    /// How many cores the calling thread may run on now.
    pub(crate) fn count() -> Result<usize> {
        Ok(Self::available()?.generator.len() + 1)
    }

    /// One generator thread for each core that the server leaves.
    pub(crate) fn threads(&self) -> usize {
        self.generator.len().max(1)
    }

    /// Moves the calling thread, and every thread it starts from now on, to the generator's cores.
    pub(crate) fn pin_generator(&self) -> Result<()> {
        if self.generator.is_empty() {
            return Err(Error::Usage("--pin needs two cores, and this process may use only one".to_owned()));
        }
        pin_to(&self.generator)
    }
}

/// Moves the calling thread, and every thread and process it starts from now on, to `cores`.
pub(crate) fn pin_to(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        if core >= CpuSet::MAX_CPU {
            return Err(Error::Usage(format!("there is no core {core}")));
        }
        set.set(core);
    }
    sched_setaffinity(None, &set).context(|| format!("cannot pin to cores {cores:?}"))
}

/// Raises the limit of open files to the hard limit and checks that the clients of each process fit.
/// Servers and processes started later inherit the raised limit.
pub(crate) fn reserve_descriptors(split: &Split) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context(|| "cannot raise the limit of open files".to_owned())?;
    let Some(maximum) = limit.maximum else { return Ok(()) };
    let Split { clients, processes, .. } = *split;
    // The process that directs has a link to each of the others.
    let own = DESCRIPTORS_SPARE + DESCRIPTORS_A_THREAD * split.threads_of(0).len() + processes;
    let fits = usize::try_from(maximum).unwrap_or(usize::MAX).saturating_sub(own);
    if split.clients_of_one_process() <= fits {
        return Ok(());
    }
    let enough = match clients.checked_div(fits) {
        Some(full) if full < usize::from(PROCESSES_MAX) => {
            format!("; scenarios whose clients only listen can have --processes {}", full + 1)
        }
        _ => String::new(),
    };
    let where_they_are = if processes == 1 { "one process" } else { "each process" };
    Err(Error::Usage(format!(
        "--clients {clients} does not fit: the hard limit of open files is {maximum} (ulimit -Hn), which is enough for \
         {fits} clients in {where_they_are}{enough}"
    )))
}

/// This program, to be started as another process.
pub(crate) fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context(|| "cannot find the harness's own program".to_owned())
}

/// What a published figure has to say about where it was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
}

impl Machine {
    pub(crate) fn describe() -> Self {
        let uname = rustix::system::uname();
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.split(':').next().map(str::trim) == Some(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        Self {
            kernel: format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy()),
            processor: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            // Not what this process may use: it may have pinned itself.
            cores: info.lines().filter(|line| line.starts_with("processor")).count(),
        }
    }

    /// One line for the head of a table.
    pub(crate) fn line(&self) -> String {
        format!("{}, {} cores, {}", self.processor, self.cores, self.kernel)
    }
}
