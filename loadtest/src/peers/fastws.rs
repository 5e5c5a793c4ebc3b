//! fastwebsockets behind hyper.

use super::{Kit, Peer, Readiness, Worker, rust_program};
use crate::dialect::Dialect;

pub(super) const PEER: Peer = Peer {
    name: "fastws",
    what: "fastwebsockets 0.10.0 on hyper, a bounded channel and a task per client",
    // Its README has no advice but its defaults: vectored writes for frames above 64 bytes, SIMD unmasking.
    tuning: "defaults (vectored writes), TCP_NODELAY, LTO",
    lacks: "a client that is 1,024 messages behind is dropped; one write per message; no registration, no users",
    kit: Kit::Rust { program: "fastws" },
    dialect: Dialect::by_path("/ws/{topic}"),
    readiness: Readiness::Health,
    publishes_apart: false,
    worker: Worker::Itself,
    start: |site| Ok(rust_program(site, "fastws")),
};
