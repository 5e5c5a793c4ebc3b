//! Counters and gauges, one set a shard, on cache lines of their own. No rendering here.
//!
//! Each value is written by its shard's thread only, so an update is a load and a store, not a locked add; any thread
//! may read. A snapshot is therefore consistent per value, not across values.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// A value one thread writes and every thread may read.
#[derive(Debug, Default)]
pub struct Value(AtomicU64);

impl Value {
    /// Adds `n`. For the owning thread only.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets the value. For the owning thread only.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! values {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The values of one shard.
        #[derive(Debug, Default)]
        pub struct ShardMetrics {
            $($(#[$doc])* pub $name: Value,)*
        }

        /// A copy of the values, of one shard or summed over the node.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl ShardMetrics {
            /// The values now.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.get(),)* }
            }
        }

        impl std::ops::AddAssign for Snapshot {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

values! {
    /// Publications sequenced by this shard as their home.
    sequenced,
    /// Frames matched: one for each subscriber a publication was meant for (I8).
    matched,
    /// Matched frames that were replayed: of publications before the subscriber joined.
    replayed,
    /// Matched frames the kernel accepted whole.
    written,
    /// Matched frames dropped because the subscriber's outbox was at its bound.
    dropped_bound,
    /// Matched frames dropped because the oldest in the outbox was too old.
    dropped_age,
    /// Matched frames dropped because the shard's logs were full.
    dropped_memory,
    /// Matched frames dropped because the connection ended with them queued.
    dropped_closed,
    /// Matched frames replaced by younger ones with their key, for subscribers that were behind.
    conflated,
    /// Bytes the kernel accepted.
    bytes_written,
    /// Calls of the transport that wrote something.
    writes,
    /// Calls of the transport that would have blocked.
    would_block,
    /// Bytes of log segments held (gauge).
    log_bytes,
    /// How near the node is to its memory budget, as this shard saw it last: 0 calm, 1 conflate, 2 drop, 3 close, 4 refuse
    /// (gauge).
    memory_rung,
    /// Times conflating began because memory was short.
    memory_conflating,
    /// Times dropping began because memory was short.
    memory_dropping,
    /// Times closing began because memory was short.
    memory_closing,
    /// Times publications began to be refused because memory was short.
    memory_refusing,
    /// Log segments compacted.
    compactions,
    /// Subscribers, attaching ones included (gauge).
    subscribers,
    /// Subscribers whose socket takes nothing, or that wait for their socket (gauge).
    blocked,
    /// Times the shard took nothing for a while for the sake of subscribers that were far behind.
    held_back,
    /// Topics with a subscriber or a join under way on this shard (gauge).
    topics,
    /// Topics with a record at this shard as their home (gauge).
    records,
    /// What the histories of those topics cost, bytes (gauge).
    history_bytes,
    /// Connections upgraded to WebSocket.
    upgrades,
    /// Connections closed by us as slow consumers (1013).
    closed_slow,
    /// Connections closed by us because they broke the protocol (1002, 1003, 1007, 1009).
    closed_protocol,
    /// Connections closed by us because of a limit (1008).
    closed_policy,
    /// Connections closed by us for want of a pong (4408).
    closed_no_pong,
    /// Connections closed by us because another one replaced them (4409).
    closed_replaced,
    /// Connections closed by us because they were unregistered (1000).
    closed_unregistered,
    /// Connections closed by us because the node stops (1012).
    closed_stopping,
    /// Connections closed by us because they were as old as they may become (1012).
    closed_aged,
    /// Connections that were reset because their end did not come in time.
    reset,
    /// Client messages and control frames taken.
    commands,
}

/// Why a matched frame was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Conflated,
    Bound,
    Age,
    Memory,
    Closed,
}

impl ShardMetrics {
    /// Counts matched frames that will not be written.
    pub(crate) fn count_loss(&self, loss: Loss, frames: u64) {
        let value = match loss {
            Loss::Conflated => &self.conflated,
            Loss::Bound => &self.dropped_bound,
            Loss::Age => &self.dropped_age,
            Loss::Memory => &self.dropped_memory,
            Loss::Closed => &self.dropped_closed,
        };
        value.add(frames);
    }
}

impl Snapshot {
    /// Matched frames dropped, for whatever reason.
    pub fn dropped(&self) -> u64 {
        self.dropped_bound + self.dropped_age + self.dropped_memory + self.dropped_closed
    }
}

/// The values of all shards of a node.
#[derive(Debug)]
pub struct Metrics(Box<[CachePadded<ShardMetrics>]>);

impl Metrics {
    /// Zeroes for `shards` shards.
    pub fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| CachePadded::default()).collect())
    }

    /// The values of every shard, in order.
    pub fn shards(&self) -> impl Iterator<Item = &ShardMetrics> {
        self.0.iter().map(|shard| &**shard)
    }

    /// The values of one shard.
    pub fn shard(&self, shard: usize) -> &ShardMetrics {
        &self.0[shard]
    }

    /// The sum over all shards.
    pub fn total(&self) -> Snapshot {
        let mut total = Snapshot::default();
        for shard in &self.0 {
            total += shard.snapshot();
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_sums_every_shard() {
        let metrics = Metrics::new(2);
        metrics.shard(0).matched.add(3);
        metrics.shard(1).matched.add(4);
        metrics.shard(1).dropped_age.set(2);
        let total = metrics.total();
        assert_eq!((total.matched, total.dropped()), (7, 2));
    }
}
