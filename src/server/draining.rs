//! The clock of a drain: from the moment the node is told to end until it stops.
//!
//! For `drain_delay` everything goes on, so that whoever sends traffic here sees that it is not ready and sends it elsewhere.
//! Then nobody new is taken, and the shards close their clients evenly over `drain_duration` (`connection/drain.rs`).
//! When the last has been told to go the node stops as it always does. The acceptor's thread keeps the time; nothing else
//! here waits for it.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::{
    limits::{CLOSE_MS, DRAIN_PROGRESS_MS},
    node::{Node, Phase},
    units::Span,
};

/// Waits until the node is to drain, and has it do so. Ends when the node stops, for whatever reason.
pub(super) async fn keep_time(node: &Node) {
    node.reached(Phase::Draining).await;
    tokio::select! {
        biased;
        () = node.stopping() => {}
        () = drain(node) => node.begin_stopping(),
    }
}

async fn drain(node: &Node) {
    let (delay, duration) = {
        let settings = node.settings();
        (settings.drain_delay, settings.drain_duration)
    };
    if !delay.is_zero() {
        tracing::info!(
            clients = node.client_count(),
            delay = %Span(delay),
            "draining: not ready any more, and serving as before"
        );
        sleep(delay).await;
    }
    if duration.is_zero() {
        return;
    }
    let audience = node.begin_closing();
    tracing::info!(clients = audience, duration = %Span(duration), "draining: closing clients, one after another");
    let began = Instant::now();
    // A shard that holds back for slow clients closes nobody meanwhile; what is left then stopping closes.
    let late = sleep_until(began + duration + Duration::from_millis(CLOSE_MS));
    tokio::select! {
        () = late => tracing::warn!(clients = node.client_count(), "draining: some have not been closed in time"),
        () = say_progress(node, audience, began) => {}
    }
}

/// Says every few seconds how many are left.
async fn say_progress(node: &Node, audience: u64, began: Instant) {
    let every = Duration::from_millis(DRAIN_PROGRESS_MS);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first comes at once.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let elapsed = Span(Duration::from_secs(began.elapsed().as_secs()));
        tracing::info!(left = node.client_count(), of = audience, after = %elapsed, "draining");
    }
}
