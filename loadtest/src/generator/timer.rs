//! Wakes a generator thread at a moment. The poller's own timeout counts in milliseconds, which at a thousand
//! messages a second is the whole distance between two of them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A timer in a poller.
#[derive(Debug)]
pub(super) struct Timer {
    timer: OwnedFd,
    set_to: Option<Instant>,
}

impl Timer {
    /// Reports to `token` whenever its time has come.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { timer, set_to: None })
    }

    /// Fires once, at `at`, or at once if that has passed. A time it was set to before counts no longer.
    pub(super) fn set(&mut self, at: Instant) -> io::Result<()> {
        if self.set_to == Some(at) {
            return Ok(());
        }
        self.set_to = Some(at);
        // Zero would switch it off.
        let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let setting = Itimerspec { it_interval: zero, it_value: left };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)?;
        Ok(())
    }
}
