//! Why a run could not be carried out. It is about the harness and its surroundings only: what a server
//! does wrong with messages is a finding, counted in the figures and never an error.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// The reason a run ended without figures.
#[derive(Debug)]
pub(crate) enum Error {
    /// The caller asked for something this harness refuses or cannot do here.
    Usage(String),
    /// The machine or the server did not do its part: `what` was tried and failed.
    Failed(String),
    /// A part of the harness itself broke, whatever the server did.
    Broken(String),
    /// The operating system refused a call.
    Io { what: String, source: io::Error },
    /// Ctrl-C, or a termination signal.
    Interrupted,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// 2 for what could not be measured, 130 (the shell's custom) for an interruption. 1 is kept for a
    /// server that was measured and found faulty.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Interrupted => ExitCode::from(130),
            Self::Usage(_) | Self::Failed(_) | Self::Broken(_) | Self::Io { .. } => ExitCode::from(2),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Failed(text) | Self::Broken(text) => out.write_str(text),
            Self::Io { what, source } => write!(out, "{what}: {source}"),
            Self::Interrupted => out.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {}

/// Says what was being done when the operating system refused.
pub(crate) trait Context<T> {
    /// Turns an I/O error into [`Error::Io`] with `what` was tried.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source: source.into() })
    }
}
