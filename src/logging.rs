//! The log: where lines go, how they look, and the handle by which what is logged can be changed while the process runs.
//!
//! The binary starts it, once. A program that embeds Fanfare sets up a log of its own; the node only emits events.

use std::{fmt, io::IsTerminal, sync::Arc};

use tracing_subscriber::{EnvFilter, filter::ParseError};

pub use self::queue::{flush, lines_lost};

mod queue;

/// Changes what is logged. Cheap to clone.
#[derive(Clone)]
pub struct LogFilter(Arc<dyn Fn(EnvFilter) + Send + Sync>);

impl LogFilter {
    /// Has what is logged be what these directives say, from now on.
    ///
    /// # Errors
    /// When they are not understood; then nothing has changed.
    pub fn set(&self, directives: &str) -> Result<(), ParseError> {
        (self.0)(EnvFilter::try_new(directives)?);
        Ok(())
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogFilter")
    }
}

/// Starts the log: to standard error, so that what the process prints besides stays readable by programs. `json` gives one
/// object a line.
///
/// # Errors
/// When the directives are not understood.
///
/// # Panics
/// When the process has a log already.
pub fn start(json: bool, directives: &str) -> Result<LogFilter, ParseError> {
    let builder = tracing_subscriber::fmt()
        .with_writer(queue::open())
        // What cannot be said is counted; to complain about it on the same way would be to panic.
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(EnvFilter::try_new(directives)?);
    // A handle fails only when there is no log any more; then nothing is logged anyway.
    Ok(if json {
        let builder = builder.json().flatten_event(true).with_filter_reloading();
        let handle = builder.reload_handle();
        builder.init();
        LogFilter(Arc::new(move |filter| drop(handle.reload(filter))))
    } else {
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        builder.init();
        LogFilter(Arc::new(move |filter| drop(handle.reload(filter))))
    })
}
