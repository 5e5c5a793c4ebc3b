//! Lines that strangers can cause: of each kind so many a second, with a count of those that were left out.
//!
//! A kind is a place in the code. Whoever logs there asks its [`Sampler`] first; that is a few atomic steps and no lock, and
//! any thread may ask.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use crate::limits::LOG_LINES_PER_SECOND;

/// When the process began to sample.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Lines of all kinds that were left out.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Lines that were left out since the process began.
pub(crate) fn lines_left_out() -> u64 {
    LEFT_OUT.load(Relaxed)
}

/// Counts the lines of one kind.
#[derive(Debug)]
pub(crate) struct Sampler {
    /// The second, and in the low half how many lines there were in it.
    second: AtomicU64,
    /// Lines left out since the last that was not.
    left_out: AtomicU64,
}

impl Sampler {
    pub(crate) const fn new() -> Self {
        Self { second: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether a line may be logged now; if so, how many were left out before it.
    pub(crate) fn admit(&self) -> Option<u64> {
        self.admit_in(BEGAN.elapsed().as_secs())
    }

    fn admit_in(&self, second: u64) -> Option<u64> {
        let begins = second << 32;
        let counted =
            |before: u64| if before >> 32 == second & 0xffff_ffff { before + 1 } else { begins + 1 };
        // Relaxed: counts and nothing else. It never gives up, so there is always a value before.
        let before = self.second.fetch_update(Relaxed, Relaxed, |before| Some(counted(before))).unwrap_or(0);
        if counted(before) & 0xffff_ffff <= LOG_LINES_PER_SECOND {
            return Some(self.left_out.swap(0, Relaxed));
        }
        self.left_out.fetch_add(1, Relaxed);
        LEFT_OUT.fetch_add(1, Relaxed);
        None
    }
}

/// Logs an event at a level, unless there were as many of this place in this second as there may be. The next that is
/// logged says how many were left out.
macro_rules! sampled {
    ($level:ident, $($event:tt)+) => {{
        static SAMPLER: $crate::logging::sampler::Sampler = $crate::logging::sampler::Sampler::new();
        if tracing::enabled!(tracing::Level::$level) {
            match SAMPLER.admit() {
                None => {}
                Some(0) => tracing::event!(tracing::Level::$level, $($event)+),
                Some(left_out) => tracing::event!(tracing::Level::$level, left_out, $($event)+),
            }
        }
    }};
}
pub(crate) use sampled;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_a_second_pass_and_the_next_says_how_many_did_not() {
        let sampler = Sampler::new();
        for second in [0, 1, 7] {
            let passed: Vec<_> = (0..LOG_LINES_PER_SECOND + 3).map(|_| sampler.admit_in(second)).collect();
            let before = if second == 0 { 0 } else { 3 };
            assert_eq!(passed[0], Some(before), "{second}");
            assert!(passed[1..LOG_LINES_PER_SECOND as usize].iter().all(|left_out| *left_out == Some(0)));
            assert_eq!(passed[LOG_LINES_PER_SECOND as usize..], [None; 3]);
        }
        assert!(lines_left_out() >= 9);
    }
}
