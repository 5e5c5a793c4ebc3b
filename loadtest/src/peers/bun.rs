//! Bun's server with its native publish and subscribe.

use super::{Kit, Peer, Readiness, Start, Worker};
use crate::dialect::Dialect;

pub(super) const PEER: Peer = Peer {
    name: "bun",
    what: "Bun 1.4.5, server.publish (uWebSockets inside)",
    // bun.sh/docs, "WebSockets": "Bun's ServerWebSocket implementation implements a native publish-subscribe API for
    // topic-based broadcasting"; `perMessageDeflate` is off by default.
    tuning: "native pub/sub (its docs on WebSockets), perMessageDeflate off, no idle timeout",
    lacks: "beyond 16 MiB of backpressure messages to a client are dropped without a word; no registration, no users",
    kit: Kit::Npm {
        files: &[
            ("package.json", include_str!("../../peers/bun/package.json")),
            ("package-lock.json", include_str!("../../peers/bun/package-lock.json")),
            ("server.mjs", include_str!("../../peers/bun/server.mjs")),
        ],
    },
    dialect: Dialect::by_path("/ws/{topic}"),
    readiness: Readiness::Health,
    publishes_apart: false,
    worker: Worker::Itself,
    start: |site| {
        // The package `bun` would link this program in a script that runs when it is installed; scripts are not run.
        let architecture = if cfg!(target_arch = "aarch64") { "aarch64" } else { "x64" };
        let program = site.folder.join(format!("node_modules/@oven/bun-linux-{architecture}/bin/bun"));
        let server = site.folder.join("server.mjs");
        Ok(Start::new(program, &[&server.to_string_lossy(), &site.listen.to_string()]))
    },
};
