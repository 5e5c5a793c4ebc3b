//! The log: where lines go, how they look, and the handle by which what is logged can be changed while the process runs.
//!
//! The binary starts it, once. A program that embeds Fanfare sets up a log of its own; the node only emits events. What
//! strangers can cause as often as they like is logged with `sampled!`.

use std::{
    fmt,
    io::IsTerminal,
    sync::{Arc, OnceLock},
};

use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

pub(crate) use self::sampler::{lines_left_out, sampled};

pub(crate) mod sampler;

pub use self::queue::{flush, lines_lost, say};

mod queue;

/// Changes what is logged. Cheap to clone.
#[derive(Clone)]
pub struct LogFilter(Arc<Inner>);

struct Inner {
    reload: Box<dyn Fn(EnvFilter) + Send + Sync>,
    /// What is logged now.
    directives: watch::Sender<String>,
}

/// Directives that say nothing of what is to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterError;

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("off, error, warn, info, debug, trace, or directives such as info,fanfare=debug")
    }
}

impl std::error::Error for FilterError {}

/// The filter of the process's log, if it was started here.
static IN_FORCE: OnceLock<LogFilter> = OnceLock::new();

impl LogFilter {
    /// That of the process's log; `None` where a program has set up its own.
    pub fn in_force() -> Option<&'static Self> {
        IN_FORCE.get()
    }

    /// Has what is logged be what these directives say, from now on.
    ///
    /// # Errors
    /// When they are not understood; then nothing has changed.
    pub fn set(&self, directives: &str) -> Result<(), FilterError> {
        (self.0.reload)(parse(directives)?);
        self.0.directives.send_replace(directives.to_owned());
        Ok(())
    }

    /// What is logged now, as it was said.
    pub fn directives(&self) -> String {
        self.0.directives.borrow().clone()
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogFilter")
    }
}

/// Checks directives. A word alone must be a level: as a target, a misspelt one would silence everything.
///
/// # Errors
/// When they are not understood.
pub fn parse(directives: &str) -> Result<EnvFilter, FilterError> {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_known =
        |part: &str| part.contains('=') || levels.iter().any(|level| part.trim().eq_ignore_ascii_case(level));
    match directives.split(',').all(is_known) {
        true => EnvFilter::try_new(directives).map_err(|_| FilterError),
        false => Err(FilterError),
    }
}

/// Starts the log: to standard error, so that what the process prints besides stays readable by programs. `json` gives one
/// object a line. From now on a panic of any thread is a line of it.
///
/// # Errors
/// When the directives are not understood.
///
/// # Panics
/// When the process has a log already.
pub fn start(json: bool, directives: &str) -> Result<LogFilter, FilterError> {
    let builder = tracing_subscriber::fmt()
        .with_writer(queue::open())
        // What cannot be said is counted; to complain about it on the same way would be to panic.
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(parse(directives)?);
    // A handle fails only when there is no log any more; then nothing is logged anyway.
    let reload: Box<dyn Fn(EnvFilter) + Send + Sync> = if json {
        let builder = builder.json().flatten_event(true).with_filter_reloading();
        let handle = builder.reload_handle();
        builder.init();
        Box::new(move |filter| drop(handle.reload(filter)))
    } else {
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        builder.init();
        Box::new(move |filter| drop(handle.reload(filter)))
    };
    // Said directly, a panic would wait for whoever does not read standard error, and its thread would neither go on nor end.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(thread = std::thread::current().name().unwrap_or("?"), "{panic}");
    }));
    let directives = watch::Sender::new(directives.to_owned());
    let filter = LogFilter(Arc::new(Inner { reload, directives }));
    Ok(IN_FORCE.get_or_init(|| filter).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_level_is_no_target() {
        for good in ["info", "OFF", "info,fanfare=debug", "fanfare::http=trace"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", "inof", "info,", "fanfare=loud", "info;debug"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
