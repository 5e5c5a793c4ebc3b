//! Node's `ws`.

use super::{Kit, Peer, Readiness, Start, Worker};
use crate::dialect::Dialect;

pub(super) const PEER: Peer = Peer {
    name: "ws",
    what: "ws 8.23.0 on Node, a Set per topic and a loop of send",
    // ws, README, "Server broadcast": a loop over the clients that sends to those in the state OPEN. doc/ws.md:
    // `perMessageDeflate` is off by default on the server, and is advised against for its memory and speed.
    // `bufferutil` only speeds up masking, which a server does not do.
    tuning: "a Buffer sent as text (README, \"Server broadcast\"), perMessageDeflate off, clientTracking off",
    lacks: "no backpressure: what a client does not take grows without a bound; no registration, no users",
    kit: Kit::Npm {
        files: &[
            ("package.json", include_str!("../../peers/ws/package.json")),
            ("package-lock.json", include_str!("../../peers/ws/package-lock.json")),
            ("server.mjs", include_str!("../../peers/ws/server.mjs")),
        ],
    },
    dialect: Dialect::by_path("/ws/{topic}"),
    readiness: Readiness::Health,
    publishes_apart: false,
    worker: Worker::Itself,
    start: |site| {
        let server = site.folder.join("server.mjs");
        Ok(Start::new("node", &[&server.to_string_lossy(), &site.listen.to_string()]))
    },
};
