//! tokio-tungstenite behind hyper.

use super::{Kit, Peer, Readiness, Worker, rust_program};
use crate::dialect::Dialect;

pub(super) const PEER: Peer = Peer {
    name: "tungstenite",
    what: "tokio-tungstenite 0.30.0 on hyper, a bounded channel and a task per client",
    // docs.rs, tungstenite, `WebSocketConfig::read_buffer_size`, as for axum.
    tuning: "read_buffer_size 4 KiB (its docs), feed and one flush for what waits, TCP_NODELAY, LTO",
    lacks: "a client that is 1,024 messages behind is dropped; no registration, no users",
    kit: Kit::Rust { program: "tungstenite" },
    dialect: Dialect::by_path("/ws/{topic}"),
    readiness: Readiness::Health,
    publishes_apart: false,
    worker: Worker::Itself,
    start: |site| Ok(rust_program(site, "tungstenite")),
};
