//! Socket.IO.

use super::{Kit, Peer, Readiness, Start, Worker};
use crate::dialect::{Dialect, Framing, Joining};

pub(super) const PEER: Peer = Peer {
    name: "socketio",
    what: "socket.io 4.8.4 on Node, a room per topic, WebSocket only",
    // socket.io/docs, "Performance tuning" and "Memory usage": `perMessageDeflate` off (the default), WebSocket as the
    // only transport, and letting go of the first HTTP request. A native engine, which they mention too, is not on the
    // registry (uWebSockets.js) or no longer kept up (eiows).
    tuning: "transports: [websocket], request let go of (its pages on performance and memory), no compression",
    lacks: "no backpressure: what a client does not take grows without a bound; messages have 11 bytes of packet around",
    kit: Kit::Npm {
        files: &[
            ("package.json", include_str!("../../peers/socketio/package.json")),
            ("package-lock.json", include_str!("../../peers/socketio/package-lock.json")),
            ("server.mjs", include_str!("../../peers/socketio/server.mjs")),
        ],
    },
    dialect: Dialect {
        joining: Joining::Path("/socket.io/?EIO=4&transport=websocket&topic={topic}"),
        framing: Framing::SocketIo,
        ..Dialect::CONTRACT
    },
    readiness: Readiness::Health,
    publishes_apart: false,
    worker: Worker::Itself,
    start: |site| {
        let server = site.folder.join("server.mjs");
        Ok(Start::new("node", &[&server.to_string_lossy(), &site.listen.to_string()]))
    },
};
