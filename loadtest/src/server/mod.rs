//! The servers that are measured: one that already runs, one started for a round, or the floor.
//! Only processes started here are ever ended, by their id.

mod classes;
pub(crate) mod contention;
pub(crate) mod floor;
pub(crate) mod hyper;
pub(crate) mod launch;
pub(crate) mod ledger;
mod pings;
mod process;

pub(crate) use classes::TopicClass;
pub(crate) use process::{Server, Side, loopback};
