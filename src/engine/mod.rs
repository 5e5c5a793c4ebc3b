//! The engine: shards that turn publications into bytes for subscribers. No sockets, no clock, no async.
//!
//! ```text
//!  Ingress::Publish ─► Shard::sequence ─► Fanout::Deliver ─► Shard::take ─► Shard::flush ─► Transport::offer
//!  Shard::set_topics ─► Ingress::Join ─► Shard::sequence ─► Fanout::Joined ─► Shard::take ─► Event::TopicsSet
//! ```
//!
//! Time and transport are arguments, so that benches run a million subscribers in memory and a simulation drives
//! shards through any order of events.
//!
//! Whoever drives shards makes a [`Fabric`], a [`Shard`] for each number, and an
//! [`Admission`](crate::admission::Admission), whose credits go with each publication. Subscribers come with
//! [`Shard::add`], [`Shard::set_topics`] and [`Shard::attached`]; publications with [`Mailboxes::publish`]. Each turn of a shard is:
//!
//! ```
//! # use fanfare::engine::{Event, Key, Shard, Transport};
//! /// `now` in milliseconds; `writable` are connections that take bytes again.
//! fn turn(shard: &mut Shard, now: u64, writable: &[Key], transport: &mut impl Transport) {
//!     shard.begin_turn(now);
//!     writable.iter().for_each(|&key| shard.writable(key));
//!     shard.sockets_looked_at();
//!     shard.sequence(256);
//!     shard.take(64);
//!     shard.flush(transport, 64);
//!     while let Some(event) = shard.next_event() {
//!         if let Event::Ended { key } | Event::Lost { key } = event {
//!             shard.remove(key); // and whatever carried it
//!         }
//!     }
//! }
//! ```
//!
//! While [`Shard::has_work`] there is another turn to be done at once; else the driver sleeps, until the
//! [`Wakeup`](crate::mailbox::Wakeup) of its mailboxes, until something is writable, and where a shard
//! [holds back](Shard::holds_back) or has what time brings to do, not for longer than some milliseconds. A whole
//! program is `examples/shards.rs`.

mod age_list;
mod blocked;
mod books;
mod change;
mod classifying;
mod closing;
mod congestion;
mod encoding;
mod event;
mod fabric;
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
mod passes;
mod query;
mod receipts;
mod relief;
mod repeats;
mod replay;
mod retry;
mod served;
mod shard;
mod slow_consumer;
mod subscribers;
mod survey;
mod topics;
mod traffic;
mod transport;
mod users;
mod watched;

pub use books::TopicLedger;
pub(crate) use change::TOPICS_FULL;
pub use change::{Answer, Change, TopicChange};
pub use encoding::Encoding;
pub use event::Event;
pub use fabric::Fabric;
pub use history::{Kept, Missed, Past, Resume, Run, Stretch};
pub use home::{JoinPoint, TopicsFull};
pub use inspection::Holdings;
pub use memory::{Memory, Rung};
pub use order::{Order, Outcome, Place, Places};
pub use query::{AtShard, Query};
pub use shard::Shard;
pub use subscribers::{Goodbye, Key};
pub use survey::{ClientFigures, ClientRank, TopicFigures, TopicRank};
pub use traffic::{Fanout, Ingress, Join, Joined, Kick, Mailboxes, Manner, Part, Reply, Sequenced, Wanted};
pub use transport::{Offered, Transport};
