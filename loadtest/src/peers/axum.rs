//! axum with a broadcast channel per topic.

use super::{Kit, Peer, Readiness, Worker, rust_program};
use crate::dialect::Dialect;

pub(super) const PEER: Peer = Peer {
    name: "axum",
    what: "axum 0.8.9, tokio::sync::broadcast per topic, a task per client",
    // docs.rs, tungstenite, `WebSocketConfig::read_buffer_size`: "For scenarios where you expect a lot of connections
    // and don't need high read load performance a smaller buffer, e.g. 4 KiB, would be appropriate to lower total
    // memory usage." docs.rs, futures, `SinkExt::feed`: flushing is left to the caller, so that many items may go out
    // at once.
    tuning: "read_buffer_size 4 KiB (tungstenite's docs), feed and one flush for what waits, TCP_NODELAY, LTO",
    lacks: "a client that is 16,384 messages behind loses messages; no registration, no users",
    kit: Kit::Rust { program: "axum" },
    dialect: Dialect::by_path("/ws/{topic}"),
    readiness: Readiness::Health,
    publishes_apart: false,
    worker: Worker::Itself,
    start: |site| Ok(rust_program(site, "axum")),
};
