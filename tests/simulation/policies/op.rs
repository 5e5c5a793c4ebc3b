//! What a run is made of: the shape of its world, and its operations. Any bytes are some shape, and some operations.

use std::{sync::Arc, time::Duration};

use fanfare::{
    classes::{Class, Classes, History, Policy, Which},
    engine::Manner,
    settings::Settings,
    topic::Topic,
};

use crate::stream::HASH_SEED;

/// Bytes of an operation.
pub(crate) const OP_BYTES: usize = 4;
/// Bytes of a shape.
pub(crate) const SHAPE_BYTES: usize = 16;

/// Names of the classes; a topic is of the one its name begins with.
pub(super) const CLASSES: [(&str, Policy); 5] = [
    ("closing", Policy::Disconnect),
    ("newest", Policy::DropNewest),
    ("oldest", Policy::DropOldest),
    ("more", Policy::DropOldest),
    ("latest", Policy::Conflate),
];

/// The shape of one world.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(super) settings: Settings,
    /// For each topic its class.
    pub(super) topics: Vec<usize>,
}

fn pick<T: Copy>(byte: u8, choices: &[T]) -> T {
    choices[usize::from(byte) % choices.len()]
}

impl Shape {
    /// The shape that some bytes stand for.
    pub(crate) fn of(bytes: [u8; SHAPE_BYTES]) -> Self {
        Topic::fix_hash_seed(HASH_SEED);
        let shards = pick(bytes[0], &[1, 2, 2, 3]);
        let topics = pick(bytes[1], &[2, 4, 6, 9]);
        let bound = pick(bytes[2], &[2, 4, 8, 16]) * 1024;
        let outbox_bytes = pick(bytes[3], &[16, 64, 64, 256]) * 1024;
        let age = pick(bytes[4], &[300, 2_000, 30_000]);
        let kept = bytes[5] & 3 == 0;
        let class = |at: usize| {
            let (name, policy) = CLASSES[at];
            let (outbox_bytes, age) = match name {
                "more" => (2 * bound, age),
                "closing" => (pick(bytes[6], &[4 * bound, outbox_bytes, bound]), 2 * age),
                _ => (bound, age),
            };
            let ttl = Duration::from_secs(20);
            let history = kept.then_some(History { messages: 100, bytes: outbox_bytes / 2, ttl });
            let class = Class::default_with(outbox_bytes, Duration::from_millis(age));
            Class { name: name.into(), policy, history, ..class }
        };
        let rules = CLASSES[1..].iter().map(|(name, _)| (Which::Prefix((*name).into()), (*name).to_owned()));
        let classes = Classes::new(class(0), (1..CLASSES.len()).map(class).collect(), rules.collect());
        let settings = Settings {
            shards,
            outbox_bytes,
            log_bytes: pick(bytes[7], &[128, 256, 1024, 65_536]) * 1024,
            memory_bytes: pick(bytes[8], &[256, 1024, 3_000, 1_000_000, 1_000_000]) * 1024,
            shard_lag: pick(bytes[9], &[1, 8, 64]) * 1024,
            topics_max: pick(bytes[10], &[topics - 1, topics.div_ceil(2), 1_000, 1_000, 1_000, 1_000]),
            outbox_age: Duration::from_secs(40),
            classes: Arc::new(classes.expect("they fit together")),
            ..Settings::default()
        };
        let topics = (0..topics).map(|n| usize::from(bytes[11 + n % 5] >> (n / 5)) % CLASSES.len()).collect();
        Self { settings, topics }
    }
}

/// How a connection takes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manners {
    /// Whatever is offered.
    Willing,
    /// So many bytes at once, then none until it takes bytes again.
    Choppy(usize),
    /// Nothing.
    Stuck,
    /// Whatever is offered, but it has not left yet.
    Unflushed,
    /// The next offer finds it gone.
    Vanishing,
}

impl Manners {
    fn of(byte: u8) -> Self {
        match byte % 16 {
            0..4 => Self::Willing,
            4 => Self::Choppy(3),
            5..8 => Self::Choppy(100 * usize::from(byte / 16 + 1)),
            8..14 => Self::Stuck,
            14 => Self::Unflushed,
            _ if byte < 64 => Self::Vanishing,
            _ => Self::Stuck,
        }
    }
}

/// One operation. Topics, shards and clients are numbers of which the remainder counts, so any of them may be left out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Publish { topic: usize, bytes: usize, key: u8, to: u8, count: usize },
    Order { first: usize, mask: u8, is_back: bool, bytes: usize, key: u8, to: u8, receipt: bool },
    Sequence { shard: usize, entries: usize },
    Take { shard: usize, entries: usize, together: usize },
    Flush { shard: usize, offers: usize },
    Turn { shard: usize, passed: u64 },
    DropOverdue { shard: usize },
    Come { shard: usize, is_v1: bool, topics: u8 },
    Attach { client: usize, manners: Manners },
    Change { client: usize, topics: u8 },
    Behave { client: usize, manners: Manners },
    Writable { client: usize },
    Ping { client: usize },
    Remove { client: usize },
    Kick { client: usize, manner: Manner },
    Close { client: usize, manner: Manner },
    Calm,
}

impl Op {
    pub(super) fn of([what, a, b, c]: [u8; OP_BYTES]) -> Self {
        let (one, other) = (usize::from(a), usize::from(b));
        let shard = one;
        let client = one;
        let manner = if b & 1 == 0 { Manner::Flush } else { Manner::Discard };
        match what {
            0..15 => Self::Order {
                first: one,
                mask: b | 1 << (a % 8),
                is_back: a & 1 == 1,
                bytes: pick(what, &[20, 60, 700]),
                key: c & 3,
                to: c >> 2,
                receipt: a & 2 == 0,
            },
            15..60 => {
                let bytes = pick(b, &[20, 20, 60, 200, 700, 700, 2_000, 7_000, 20_000]);
                let most = if bytes > 2_000 { 5 } else { 20 };
                let count = pick(b / 16, &[1, 1, 1, 2, 5, 20]).min(most);
                Self::Publish { topic: one, bytes, key: c & 3, to: c >> 2, count }
            }
            60..98 => Self::Take { shard, entries: pick(b, &[1, 2, 8, 40]), together: pick(c, &[1, 2, 10]) },
            98..125 => Self::Sequence { shard, entries: pick(b, &[1, 3, 10, 40]) },
            125..152 => Self::Flush { shard, offers: pick(b, &[1, 2, 4, 100]) },
            152..176 => Self::Turn { shard, passed: pick(b, &[0, 0, 1, 2, 5, 20, 300, 1_500]) },
            176..182 => Self::DropOverdue { shard },
            182..194 => Self::Come { shard, is_v1: c & 3 != 0, topics: b },
            194..206 => Self::Attach { client, manners: Manners::of(b) },
            206..226 => Self::Change { client, topics: b & (c | 1) },
            226..238 => Self::Behave { client, manners: Manners::of(b) },
            238..247 => Self::Writable { client },
            247..249 => Self::Ping { client },
            249 => Self::Remove { client },
            250 => Self::Kick { client, manner },
            251 => Self::Close { client, manner },
            252..254 if other < 40 => Self::Calm,
            _ => Self::Turn { shard, passed: 0 },
        }
    }
}
