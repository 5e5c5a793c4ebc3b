//! The engine: shards that turn publications into bytes for subscribers. No sockets, no clock, no async.
//!
//! ```text
//!  Ingress::Publish ─► Shard::sequence ─► Fanout::Deliver ─► Shard::take ─► Shard::flush ─► Transport::offer
//!  Shard::set_topics ─► Ingress::Join ─► Shard::sequence ─► Fanout::Joined ─► Shard::take ─► Event::TopicsSet
//! ```
//!
//! Time and transport are arguments, so that benches run a million subscribers in memory and a simulation drives
//! shards through any order of events.

mod age_list;
mod blocked;
mod books;
mod change;
mod classifying;
mod closing;
mod common;
mod congestion;
mod encoding;
mod event;
mod fanout;
mod flush;
mod frame_index;
mod history;
mod home;
mod inspection;
mod interest;
mod joining;
mod log;
mod membership;
mod memory;
mod order;
mod outbox;
mod query;
mod receipts;
mod repeats;
mod replay;
mod retry;
mod served;
mod shard;
mod slow_consumer;
mod subscribers;
mod topics;
mod traffic;
mod transport;
mod users;
mod watched;

pub use books::TopicLedger;
pub(crate) use change::TOPICS_FULL;
pub use change::{Answer, Change, TopicChange};
pub use common::Common;
pub use encoding::Encoding;
pub use event::Event;
pub use history::{Kept, Missed, Past, Resume, Run, Stretch};
pub use home::{JoinPoint, TopicsFull};
pub use inspection::Holdings;
pub use memory::{Memory, Rung};
pub use order::{Order, Outcome, Place, Places};
pub use query::{AtShard, Query};
pub use shard::Shard;
pub use subscribers::{Goodbye, Key};
pub use traffic::{Fanout, Ingress, Join, Joined, Kick, Mailboxes, Manner, Part, Reply, Sequenced, Wanted};
pub use transport::{Offered, Transport};
