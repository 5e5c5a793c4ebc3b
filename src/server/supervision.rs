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
        if watchdog.is_some() {
            // Shards that have ended stand still. What hangs then meets the time the service manager allows for stopping.
            match turns.look(node.metrics()) {
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
struct Turns(Vec<u64>);

impl Turns {
    /// A shard that has not turned since the last look, if there is one. A shard turns each 100 ms at least.
    fn look(&mut self, metrics: &Metrics) -> Option<usize> {
        let before =
            std::mem::replace(&mut self.0, metrics.shards().map(|shard| shard.turns.get()).collect());
        before.iter().zip(&self.0).position(|(before, now)| before == now)
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
        assert_eq!(turns.look(&metrics), None, "there is nothing to compare it with");
        turn(&[0, 1, 2]);
        assert_eq!(turns.look(&metrics), None);
        turn(&[0, 2]);
        assert_eq!(turns.look(&metrics), Some(1));
        turn(&[0, 1, 2]);
        assert_eq!(turns.look(&metrics), None);
    }
}
