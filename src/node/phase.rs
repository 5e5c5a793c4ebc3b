//! What a node is doing, from its start to its end. It only ever goes forward.
//!
//! Whoever starts the node moves it on: the server, a signal, a call of the admin listener. Readiness, the acceptor, the
//! shards and every handler that takes something new read it; they never keep a copy.

use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
};

use tokio::sync::watch;

/// What a node is doing. A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// Not every shard is at work yet; nobody is accepted.
    Starting,
    /// It does everything. The only phase in which it is ready.
    Serving,
    /// It is to end and says so to whoever asks for its readiness; it does everything else as before.
    Draining,
    /// Nobody new is accepted, registered or upgraded, and connected clients are closed one after another. What is published
    /// reaches those who are left.
    Closing,
    /// Nothing is taken any more: what was taken is delivered, then everybody is closed.
    Stopping,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Starting, Self::Serving, Self::Draining, Self::Closing, Self::Stopping];

    /// Whether traffic is to be sent here.
    pub fn is_ready(self) -> bool {
        self == Self::Serving
    }

    /// Whether clients that are not connected yet are taken.
    pub fn takes_clients(self) -> bool {
        self < Self::Closing
    }

    /// The next one, if it is not the last.
    pub(crate) fn next(self) -> Option<Self> {
        Self::ALL.get(self as usize + 1).copied()
    }

    /// Its name, as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Closing => "closing",
            Self::Stopping => "stopping",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The phase of one node, for all its threads.
#[derive(Debug)]
pub(super) struct Phases {
    /// For those who wait.
    told: watch::Sender<Phase>,
    /// The same for those who only look, each turn and with each publication: `told` would have them write to a line that all
    /// of them share. Written in the lock of `told` only.
    now: AtomicU8,
}

impl Phases {
    /// A node that starts.
    pub(super) fn new() -> Self {
        Self { told: watch::Sender::new(Phase::Starting), now: AtomicU8::new(Phase::Starting as u8) }
    }

    /// Moves on to a later phase. Returns whether it was one.
    pub(super) fn advance(&self, to: Phase) -> bool {
        self.told.send_if_modified(|now| {
            let is_later = *now < to;
            if is_later {
                *now = to;
                // Pairs with the look: whoever sees the phase sees what was done before it began.
                self.now.store(to as u8, Ordering::Release);
            }
            is_later
        })
    }

    /// The phase now.
    pub(super) fn now(&self) -> Phase {
        Phase::ALL[usize::from(self.now.load(Ordering::Acquire))]
    }

    /// Waits until a phase, or a later one, has begun; returns at once if it has.
    pub(super) async fn reached(&self, phase: Phase) {
        if self.now() >= phase {
            return;
        }
        // An error would mean that the sender is gone, but it is in `self`.
        let _ = self.told.subscribe().wait_for(|now| *now >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_goes_forward_only_and_wakes_those_who_wait() {
        let phases = Phases::new();
        assert_eq!(phases.now(), Phase::Starting);
        let waiting = phases.reached(Phase::Draining);
        let advance = async {
            assert!(phases.advance(Phase::Serving));
            assert!(phases.advance(Phase::Stopping));
        };
        tokio::join!(waiting, advance);
        assert!(!phases.advance(Phase::Draining), "it has stopped");
        assert_eq!(phases.now(), Phase::Stopping);
    }

    #[test]
    fn every_phase_is_read_as_it_was_written() {
        for phase in Phase::ALL {
            let phases = Phases::new();
            assert_eq!(phases.advance(phase), phase != Phase::Starting);
            assert_eq!(phases.now(), phase);
        }
    }

    #[test]
    fn traffic_is_sent_only_while_it_serves_and_clients_are_taken_until_they_are_closed() {
        let ready: Vec<_> = Phase::ALL.into_iter().filter(|phase| phase.is_ready()).collect();
        assert_eq!(ready, [Phase::Serving]);
        assert!(Phase::Draining.takes_clients() && !Phase::Closing.takes_clients());
    }
}
