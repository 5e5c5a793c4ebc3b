//! The step between the harness and a server it starts: a short-lived process of this same binary that pins
//! itself, asks to be ended with its parent, and then becomes the server. So the server runs pinned from its
//! first instruction, and a harness that is killed leaves nothing behind.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::error::{Context, Error, Result};
use crate::machine;

/// What `loadtest launch` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct LaunchArgs {
    /// The core to pin the server to
    #[arg(long)]
    core: Option<usize>,
    /// The server and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the server; returns only if that fails.
pub(crate) fn run(args: LaunchArgs) -> Result<()> {
    end_with_parent()?;
    if let Some(core) = args.core {
        machine::pin_to(&[core])?;
    }
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Error::Usage("no server to launch".to_owned()));
    };
    let refusal = Command::new(program).args(rest).exec();
    Err(refusal).context(|| format!("cannot start {}", program.to_string_lossy()))
}

/// Asks the kernel to end this process when the harness ends, however that happens.
pub(crate) fn end_with_parent() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .context(|| "cannot follow the parent process".to_owned())
}
