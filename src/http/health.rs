//! `GET /ready`: whether traffic is to be sent here. `GET /health`: 200 as long as this shard answers at all, while the node is
//! draining or stopping too; with the node's ledger, so that whoever watches, or loads, a server can hold what clients saw against what it says it did.

use hyper::StatusCode;
use serde::Serialize;

use super::answer::{Answer, json, with_json};
use crate::{
    metrics::Snapshot,
    node::{Node, Phase},
};

/// What is answered.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    ledger: Ledger,
    memory: Held,
}

/// What is queued and kept, of how much; what is done because of that now, and how often each of it began.
#[derive(Serialize)]
struct Held {
    used: usize,
    budget: usize,
    rung: &'static str,
    conflating: u64,
    dropping: u64,
    closing: u64,
    refusing: u64,
}

/// What became of the frames that were matched with a subscriber, since the start: `matched = written + queued +
/// dropped + conflated` once nothing is under way. Connections closed by the server, by reason, beside it.
#[derive(Serialize)]
struct Ledger {
    matched: u64,
    written: u64,
    queued: u64,
    dropped: Dropped,
    conflated: u64,
    closed: Closed,
}

#[derive(Serialize)]
struct Dropped {
    bound: u64,
    age: u64,
    memory: u64,
    closed: u64,
}

#[derive(Serialize)]
struct Closed {
    slow: u64,
    no_pong: u64,
    protocol: u64,
    policy: u64,
    replaced: u64,
    unregistered: u64,
    stopping: u64,
    aged: u64,
}

/// Answers it.
pub(super) fn health(node: &Node) -> Answer {
    json(health_json(node))
}

/// What is answered, here and by the admin listener.
pub(crate) fn health_json(node: &Node) -> String {
    let (total, memory) = (node.metrics().total(), node.memory());
    let held = Held {
        used: memory.used(),
        budget: memory.budget(),
        rung: memory.rung().as_str(),
        conflating: total.memory_conflating,
        dropping: total.memory_dropping,
        closing: total.memory_closing,
        refusing: total.memory_refusing,
    };
    let phase = node.phase();
    let status = if phase <= Phase::Serving { "ok" } else { phase.as_str() };
    let health = Health { status, ledger: ledger(&total), memory: held };
    serde_json::to_string(&health).unwrap_or_default()
}

/// Answers it; for balancers, which look at the port that they send traffic to.
pub(super) fn ready(phase: Phase) -> Answer {
    let (status, body) = readiness(phase);
    with_json(status, body.into())
}

/// What is answered, here and by the admin listener: 200 only while the node serves.
pub(crate) fn readiness(phase: Phase) -> (StatusCode, String) {
    let status = if phase.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!(r#"{{"status":"{phase}"}}"#))
}

fn ledger(total: &Snapshot) -> Ledger {
    Ledger {
        matched: total.matched,
        written: total.written,
        queued: total.queued(),
        dropped: Dropped {
            bound: total.dropped_bound,
            age: total.dropped_age,
            memory: total.dropped_memory,
            closed: total.dropped_closed,
        },
        conflated: total.conflated,
        closed: Closed {
            slow: total.closed_slow,
            no_pong: total.closed_no_pong,
            protocol: total.closed_protocol,
            policy: total.closed_policy,
            replaced: total.closed_replaced,
            unregistered: total.closed_unregistered,
            stopping: total.closed_stopping,
            aged: total.closed_aged,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_written_nor_dropped_is_queued() {
        let total =
            Snapshot { matched: 10, written: 5, dropped_age: 2, dropped_closed: 1, ..Snapshot::default() };
        let ledger = ledger(&total);
        assert_eq!((ledger.queued, ledger.dropped.age, ledger.dropped.closed), (2, 2, 1));
    }
}
