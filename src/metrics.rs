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

/// How many values fell into each of `N` ranges: the upper ends of all but the last stand in a constant beside its use.
#[derive(Debug)]
pub struct Buckets<const N: usize>([Value; N]);

impl<const N: usize> Default for Buckets<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Value::default()))
    }
}

impl<const N: usize> Buckets<N> {
    /// Counts `times` values that fall into range `at`, or into the last. For the owning thread only.
    pub fn count(&self, at: usize, times: u64) {
        self.0[at.min(N - 1)].add(times);
    }

    /// The counts now.
    pub fn get(&self) -> BucketCounts<N> {
        BucketCounts(std::array::from_fn(|at| self.0[at].get()))
    }
}

/// A copy of [`Buckets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketCounts<const N: usize>(pub [u64; N]);

impl<const N: usize> Default for BucketCounts<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> std::ops::AddAssign for BucketCounts<N> {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, other)| *count += other);
    }
}

/// Upper ends of [`ShardMetrics::messages_per_write`]: none, and powers of two.
pub const MESSAGES_PER_WRITE: [u64; 12] = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// The range of that into which so many messages fall.
pub(crate) fn messages_per_write_bucket(messages: u64) -> usize {
    match messages.checked_sub(1) {
        None => 0,
        Some(less) => 1 + (u64::BITS - less.leading_zeros()) as usize,
    }
}

/// Upper ends of [`ShardMetrics::publish_latency`], microseconds.
pub const PUBLISH_LATENCY_US: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000,
];

/// The range of that into which a time falls.
pub(crate) fn publish_latency_bucket(micros: u64) -> usize {
    PUBLISH_LATENCY_US.partition_point(|&end| end < micros)
}

macro_rules! values {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The values of one shard.
        #[derive(Debug, Default)]
        pub struct ShardMetrics {
            $($(#[$doc])* pub $name: Value,)*
            /// Writes that the kernel accepted something of, by how many messages ended in them.
            pub messages_per_write: Buckets<{ MESSAGES_PER_WRITE.len() + 1 }>,
            /// Publications, by how long they took from their publisher to the end of the flush pass that carried them.
            pub publish_latency: Buckets<{ PUBLISH_LATENCY_US.len() + 1 }>,
        }

        /// A copy of the values, of one shard or summed over the node.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
            /// Writes that the kernel accepted something of, by how many messages ended in them.
            pub messages_per_write: BucketCounts<{ MESSAGES_PER_WRITE.len() + 1 }>,
            /// Publications, by how long they took from their publisher to the end of the flush pass that carried them.
            pub publish_latency: BucketCounts<{ PUBLISH_LATENCY_US.len() + 1 }>,
        }

        impl ShardMetrics {
            /// The values now.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot {
                    $($name: self.$name.get(),)*
                    messages_per_write: self.messages_per_write.get(),
                    publish_latency: self.publish_latency.get(),
                }
            }
        }

        impl Snapshot {
            /// The values a function gives for their names.
            #[cfg(test)]
            pub(crate) fn of(mut value: impl FnMut(&'static str) -> u64) -> Self {
                Self { $($name: value(stringify!($name)),)* ..Self::default() }
            }
        }

        impl std::ops::AddAssign for Snapshot {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
                self.messages_per_write += other.messages_per_write;
                self.publish_latency += other.publish_latency;
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
    /// How long all measured publications took together, microseconds.
    publish_latency_us,
    /// Publications refused because the node had too much under way, or its memory was used up.
    refused_overloaded,
    /// Publications refused because their topic was new and could not be kept.
    refused_full,
    /// Publications refused because the node was stopping.
    refused_stopping,
    /// Bytes the kernel accepted.
    bytes_written,
    /// Calls of the transport that wrote something.
    writes,
    /// Calls of the transport that would have blocked.
    would_block,
    /// Log bytes appended since the subscriber that waits longest for the flush was marked (gauge).
    lag_bytes,
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
    /// Topics of all subscribers, one for each of each (gauge).
    subscriptions,
    /// Topics with a subscriber or a join under way on this shard (gauge).
    topics,
    /// Topics with a record at this shard as their home (gauge).
    records,
    /// What the histories of those topics cost, bytes (gauge).
    history_bytes,
    /// What connections hold of what was written to them and their kernels have not taken: records of TLS, bytes (gauge).
    unflushed_bytes,
    /// What messages of clients take that have begun and not ended, bytes (gauge).
    half_message_bytes,
    /// Clients closed by us because a message of theirs took too long (1008).
    half_messages_overdue,
    /// Clients closed by us because half messages took too much together, and theirs had taken longest (1013).
    half_messages_squeezed,
    /// Topics that were resumed, and nothing was missing.
    resumes_whole,
    /// Topics that were resumed, and something was missing: a gap was told.
    resumes_short,
    /// TLS handshakes done.
    tls_handshakes,
    /// Those of them that went on from an earlier one, by a ticket.
    tls_resumed,
    /// TLS handshakes that failed: what came was HTTP.
    tls_failed_plain,
    /// TLS handshakes that failed: they took too long.
    tls_failed_timeout,
    /// TLS handshakes that failed: the client broke the protocol, or did not agree to anything that the server does.
    tls_failed_protocol,
    /// TLS handshakes that failed: the client went away, or had to make room.
    tls_failed_gone,
    /// TLS connections that a client broke the protocol on, or ended without saying so.
    tls_broken,
    /// Connections upgraded to WebSocket.
    upgrades,
    /// Handshakes refused because they were none: no upgrade, another version, malformed (400, 426).
    handshakes_malformed,
    /// Handshakes refused because nobody is registered under the id (404).
    handshakes_unknown,
    /// Handshakes refused because whoever asked may not (401, 403).
    handshakes_forbidden,
    /// Handshakes refused because there were too many (429).
    handshakes_limited,
    /// Handshakes refused because the node had too much in work, was full or was stopping (503).
    handshakes_unavailable,
    /// HTTP requests taken.
    http_requests,
    /// HTTP requests answered with success, or with something else that is no error.
    http_answered,
    /// HTTP requests refused for what they were (4xx).
    http_refused,
    /// HTTP requests that the node could not serve (5xx).
    http_failed,
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
    /// Bytes read from WebSocket clients.
    bytes_read,
    /// Turns of the driver, one each 100 ms at least: a shard whose turns stand still hangs.
    turns,
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

    /// Matched frames that are queued still. The values of a shard that is at work are not of one moment.
    pub fn queued(&self) -> u64 {
        self.matched.saturating_sub(self.written + self.dropped() + self.conflated)
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $name:literal,)*) => {
        /// Why a connection, or a handshake on it, was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Refused {
            $($(#[$doc])* $reason,)*
        }

        impl Refused {
            /// All reasons there are.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$reason),*];

            /// What it is called in metrics and logs.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// There are as many connections as may be, and none of those that speak HTTP is idle.
    Connections = "connections",
    /// There are as many connections of its address as may be.
    ConnectionsOfAddress = "connections_of_address",
    /// Connections begin faster than they may, over all addresses.
    Rate = "rate",
    /// Connections of its address begin faster than they may.
    RateOfAddress = "rate_of_address",
    /// As many clients are connected as may be.
    Clients = "clients",
    /// It is no trusted proxy, where only those are let in.
    NoProxy = "no_proxy",
    /// A proxy said first what is no PROXY header.
    ProxyHeader = "proxy_header",
}

/// The values of all shards of a node, and what no shard counts alone.
#[derive(Debug)]
pub struct Metrics {
    shards: Box<[CachePadded<ShardMetrics>]>,
    /// By [`Refused`]; written by every thread, and seldom.
    refused: [AtomicU64; Refused::ALL.len()],
}

impl Metrics {
    /// Zeroes for `shards` shards.
    pub fn new(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| CachePadded::default()).collect(), refused: Default::default() }
    }

    /// The values of every shard, in order.
    pub fn shards(&self) -> impl Iterator<Item = &ShardMetrics> {
        self.shards.iter().map(|shard| &**shard)
    }

    /// The values of one shard.
    pub fn shard(&self, shard: usize) -> &ShardMetrics {
        &self.shards[shard]
    }

    /// The values of each shard.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.shards.iter().map(|shard| shard.snapshot()).collect()
    }

    /// The sum over all shards.
    pub fn total(&self) -> Snapshot {
        let mut total = Snapshot::default();
        for shard in &self.shards {
            total += shard.snapshot();
        }
        total
    }

    /// Connections and handshakes refused for this reason.
    pub fn refused(&self, reason: Refused) -> u64 {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }

    /// Counts one more, and says how many there are with it. For any thread.
    pub(crate) fn count_refused(&self, reason: Refused) -> u64 {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_fall_into_the_range_whose_upper_end_they_do_not_pass() {
        for messages in 0..2_000 {
            let expected = MESSAGES_PER_WRITE.iter().position(|&end| messages <= end);
            let bucket = messages_per_write_bucket(messages).min(MESSAGES_PER_WRITE.len());
            assert_eq!(bucket, expected.unwrap_or(MESSAGES_PER_WRITE.len()), "{messages}");
        }
        assert_eq!([0, 100, 101, 5_000_000, 5_000_001].map(publish_latency_bucket), [0, 0, 1, 14, 15]);
        let buckets: Buckets<3> = Buckets::default();
        buckets.count(1, 2);
        buckets.count(7, 1);
        assert_eq!(buckets.get().0, [0, 2, 1]);
    }

    #[test]
    fn every_refusal_is_counted_under_its_own_name() {
        let metrics = Metrics::new(1);
        for (times, reason) in Refused::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| assert!(metrics.count_refused(reason) > 0));
        }
        for (times, reason) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(metrics.refused(reason), times as u64 + 1, "{reason:?}");
            let same_name = Refused::ALL.into_iter().filter(|other| other.name() == reason.name());
            assert_eq!(same_name.count(), 1, "{}", reason.name());
        }
    }

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
