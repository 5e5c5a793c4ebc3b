//! Giving memory back to the system after a wave of connections.
//!
//! Each handshake needs tens of kilobytes for a moment (hyper's buffers, its task), many are under way at once, and
//! the system's allocator keeps what was freed between things that stay. At 15,000 connections at rest that was a
//! tenth of the resident memory. So when a wave is over the allocator is asked once to give back whole free pages;
//! it walks its free lists for that, which took 140 us after such a wave.

use crate::limits::{TRIM_AFTER_CONNECTIONS, TRIM_AFTER_MS};

/// Counts connections that came or went since memory was last given back.
#[derive(Debug, Default)]
pub(super) struct Trim {
    connections: usize,
    /// When the last of them did, milliseconds.
    last: u64,
}

impl Trim {
    /// A connection was upgraded or has ended at `now`.
    pub(super) fn note(&mut self, now: u64) {
        self.connections += 1;
        self.last = now;
    }

    /// Gives memory back if a wave of connections is over. Returns whether it was.
    pub(super) fn trim_if_due(&mut self, now: u64) -> bool {
        let due = self.connections >= TRIM_AFTER_CONNECTIONS && now >= self.last + TRIM_AFTER_MS;
        if due {
            self.connections = 0;
            give_back();
        }
        due
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a call of the C library")]
fn give_back() {
    // SAFETY: it takes no pointer and may be called by any thread at any time.
    let _any = unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_a_wave_is_over() {
        let mut trim = Trim::default();
        for _ in 1..TRIM_AFTER_CONNECTIONS {
            trim.note(5);
        }
        assert!(!trim.trim_if_due(5 + TRIM_AFTER_MS), "a few are no wave");
        trim.note(10);
        assert!(!trim.trim_if_due(9 + TRIM_AFTER_MS), "it is not over");
        assert!(trim.trim_if_due(10 + TRIM_AFTER_MS));
        assert!(!trim.trim_if_due(20 + TRIM_AFTER_MS), "once is enough");
    }
}
