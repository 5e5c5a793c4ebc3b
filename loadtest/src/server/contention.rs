//! Others that want the server's core: processes that only compute, so that the server has a share of it. On a machine
//! of few cores a server is as fast as the harness that reads from it; with these it is the server that is the limit,
//! as overload means it. Each ends when this is dropped, or with the harness.

use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use super::process::launcher;
use crate::error::{Context, Result};

/// What each of them does until it is ended.
const COMPUTE: [&str; 3] = ["sh", "-c", "while :; do :; done"];

/// Running processes.
#[derive(Debug, Default)]
pub(crate) struct Contention {
    processes: Vec<Child>,
}

impl Contention {
    /// Starts `count` of them on `core`.
    pub(crate) fn start(core: usize, count: u16) -> Result<Self> {
        let mut contention = Self::default();
        for _ in 0..count {
            let mut command = launcher(Some(core))?;
            command.args(COMPUTE).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
            contention.processes.push(command.spawn().context(|| "cannot keep a core busy".to_owned())?);
        }
        Ok(contention)
    }
}

impl Drop for Contention {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // A failure means that it has ended already, and the wait collects it.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
