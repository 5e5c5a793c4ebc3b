//! The signals by which whoever runs a server says what it is to do. `run` waits for them on a thread of its own.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals a server hears.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGTERM, from whoever runs the service: to end politely.
    Drain,
    /// SIGINT, from whoever sits in front of it: to end.
    Stop,
    /// SIGHUP: to read the configuration again.
    Reload,
}

impl Signals {
    /// Catches them from now on. Needs a runtime.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next one; of several the most urgent.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Asked::Drain,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }
}
