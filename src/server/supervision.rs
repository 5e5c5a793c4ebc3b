//! The service manager's view of a running server: told of every phase, and by its watchdog only while every shard goes on.
//!
//! A thread of its own, only where a service manager listens, so that nothing else of the server can hold it up, and it
//! nothing else. What it says is in `systemd.rs`; here is when.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Builder,
    time::{sleep, timeout},
};

use crate::{
    limits::{CLOSE_MS, SUPERVISOR_STATUS_MS, WATCHDOG_LOOK_MS_MIN, WATCHDOG_LOOKS},
    metrics::Metrics,
    node::{Node, Phase},
    systemd::{Environment, Notifier},
};

/// The notifier of this process, if a service manager listens.
pub(super) fn notifier(environment: &Environment) -> Option<Arc<Notifier>> {
    let address = environment.socket.as_ref()?;
    match Notifier::to(address) {
        Ok(notifier) => Some(Arc::new(notifier)),
        Err(error) => {
            tracing::warn!(?address, %error, "NOTIFY_SOCKET is not understood; the service manager is told nothing");
            None
        }
    }
}

/// Starts to tell the service manager of `node`, which serves; it does so until the process ends.
///
/// # Errors
/// When a thread cannot be had.
pub(super) fn begin(notifier: Arc<Notifier>, watchdog: Option<Duration>, node: Arc<Node>) -> io::Result<()> {
    notifier.ready();
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let supervise = move || runtime.block_on(supervise(&notifier, watchdog, &node));
    thread::Builder::new().name("supervision".into()).spawn(supervise)?;
    Ok(())
}

/// Tells until the node stops and nobody waits any more; the process ends meanwhile.
async fn supervise(notifier: &Notifier, watchdog: Option<Duration>, node: &Node) {
    let status = Duration::from_millis(SUPERVISOR_STATUS_MS);
    // A shard turns each 100 ms; looked at more often than that it would seem to stand still.
    let least = Duration::from_millis(WATCHDOG_LOOK_MS_MIN);
    let every = watchdog.map_or(status, |watchdog| status.min(watchdog / WATCHDOG_LOOKS).max(least));
    let mut turns = Turns::default();
    let mut status_at = Instant::now();
    let mut told = Phase::Serving;
    loop {
        let phase = node.phase();
        if phase != told {
            if told < Phase::Draining {
                notifier.stopping(time_to_end(node));
            }
            told = phase;
            status_at = Instant::now();
        }
        if Instant::now() >= status_at {
            status_at += status;
            notifier.status(&format!("{phase}, {} connections", node.client_count()));
        }
        if watchdog.is_some() && turns.may_look(Instant::now()) {
            // Shards that have ended stand still. What hangs then meets the time the service manager allows for stopping.
            match turns.look(node.metrics(), Instant::now()) {
                Some(shard) if phase < Phase::Stopping => {
                    tracing::error!(shard, "a shard stands still; the watchdog is not told that all is well");
                }
                _ => notifier.watchdog(),
            }
        }
        match phase.next() {
            // Whichever comes first: the phase is looked at again.
            Some(next) => drop(timeout(every, node.reached(next)).await),
            None => sleep(every).await,
        }
    }
}

/// How long the node may take from now on, if it was just told to end.
fn time_to_end(node: &Node) -> Duration {
    let settings = node.settings();
    let grace = Duration::from_millis(2 * CLOSE_MS);
    settings.drain_delay + settings.drain_duration + settings.stop_deadline + grace
}

/// The turns of every shard, as they were looked at last.
#[derive(Debug, Default)]
struct Turns {
    counts: Vec<u64>,
    looked_at: Option<Instant>,
}

impl Turns {
    /// Whether a shard that goes on has turned since the last look, however little it has to do. When the phase changes that
    /// may have been a moment ago.
    fn may_look(&self, now: Instant) -> bool {
        let least = Duration::from_millis(WATCHDOG_LOOK_MS_MIN);
        self.looked_at.is_none_or(|last| now.saturating_duration_since(last) >= least)
    }

    /// A shard that has not turned since the last look, if there is one. A shard turns each 100 ms at least.
    fn look(&mut self, metrics: &Metrics, now: Instant) -> Option<usize> {
        self.looked_at = Some(now);
        let counts = metrics.shards().map(|shard| shard.turns.get()).collect();
        let before = std::mem::replace(&mut self.counts, counts);
        before.iter().zip(&self.counts).position(|(before, now)| before == now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_that_stands_still_is_found_and_forgiven_when_it_goes_on() {
        let metrics = Metrics::new(3);
        let turn = |shards: &[usize]| shards.iter().for_each(|&shard| metrics.shard(shard).turns.add(1));
        let mut turns = Turns::default();
        let mut look = || turns.look(&metrics, Instant::now());
        assert_eq!(look(), None, "there is nothing to compare it with");
        turn(&[0, 1, 2]);
        assert_eq!(look(), None);
        turn(&[0, 2]);
        assert_eq!(look(), Some(1));
        turn(&[0, 1, 2]);
        assert_eq!(look(), None);
    }

    #[test]
    fn shard_at_rest_does_not_seem_to_stand_still_when_the_phase_changes_right_after_a_look() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        assert!(turns.may_look(now));
        turns.look(&Metrics::new(1), now);
        let least = Duration::from_millis(WATCHDOG_LOOK_MS_MIN);
        assert!(!turns.may_look(now) && !turns.may_look(now + least / 2));
        assert!(turns.may_look(now + least));
    }
}
