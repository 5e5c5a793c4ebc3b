//! One shard's connections: from the handshake to the close code.
//!
//! ```text
//!  http ─► Local::attach ─► 101 ─► Attaching::adopt ─► Sockets (one poller for all) ─► Socket::read ─► Session
//!                                                          ▲                                            │ Effect
//!  drive ─► Local::turn: sequence, take, flush ─► offer ───┘◄──────────── Event ◄── engine::Shard ◄─────┘
//! ```
//!
//! Everything here runs on the shard's thread. A connection at rest has no task, no buffer and no registration with
//! the runtime of its own.

mod admitted;
mod ages;
mod commands;
mod drain;
mod drive;
mod halves;
mod liveness;
mod local;
mod poller;
mod reading;
mod slots;
mod socket;
mod survey;
mod trim;
mod unflushed;
mod upgrade;

pub(crate) use admitted::{Proof, unix_time};
pub(crate) use drive::drive;
pub(crate) use local::Local;
pub(crate) use upgrade::{AttachError, Attaching};
