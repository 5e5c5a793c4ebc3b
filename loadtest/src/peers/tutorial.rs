//! The tutorial server: the base contract in the shape in which it is usually first written.

use super::{Kit, Peer, Readiness, Worker, rust_program};
use crate::dialect::{Dialect, Publishing};

pub(super) const PEER: Peer = Peer {
    name: "tutorial",
    what: "warp 0.3.7, one global Mutex<HashMap>, an unbounded channel and two tasks per client",
    // Nothing is tuned: that is what it stands for.
    tuning: "as written in tutorials, release build with LTO",
    lacks: "no backpressure: what a client does not take grows without a bound; scans every client per publication",
    kit: Kit::Rust { program: "tutorial" },
    dialect: Dialect { publishing: Publishing::JsonPost, ..Dialect::CONTRACT },
    readiness: Readiness::Health,
    publishes_apart: false,
    worker: Worker::Itself,
    start: |site| Ok(rust_program(site, "tutorial")),
};
