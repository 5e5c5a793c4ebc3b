//! One shard with subscribers and a transport in memory: what the engine costs without sockets.
//!
//! Work goes in and comes out as a driver's would, through the mailboxes and the turn of a shard; nothing here reaches
//! into the engine. The transport takes everything and counts it.

use std::io::IoSlice;

use crossbeam_utils::CachePadded;
use fanfare::{
    admission::Admission,
    engine::{Change, Encoding, Event, Fabric, Ingress, Key, Offered, Shard, Transport},
    limits::{INFLIGHT_BYTES, INFLIGHT_PUBLICATIONS, JOINS_INFLIGHT},
    publication::{Message, Publication},
    settings::Settings,
    topic::Topic,
};
use tokio::sync::oneshot;

/// Takes every byte at once.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) bytes: u64,
}

impl Transport for Sink {
    fn offer(&mut self, _key: Key, slices: &[IoSlice<'_>]) -> Offered {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        self.bytes += bytes as u64;
        Offered::Wrote { bytes, unflushed: false }
    }
}

/// A shard that is the whole node, and its subscribers.
#[derive(Debug)]
pub(crate) struct MemoryShard {
    pub(crate) shard: Shard,
    pub(crate) sink: Sink,
    /// All subscribers, in the order in which they came.
    pub(crate) keys: Vec<Key>,
    number: usize,
    fabric: Fabric,
    admission: Admission,
}

/// The shards of one node, each with as many subscribers.
#[derive(Debug)]
pub(crate) struct MemoryNode {
    /// On cache lines of their own, as they are when each thread makes its own.
    pub(crate) shards: Vec<CachePadded<MemoryShard>>,
}

impl MemoryNode {
    /// A node each of whose `shards` has `subscribers` of all of `topics`.
    pub(crate) fn new(shards: usize, subscribers: usize, topics: &[Topic]) -> Self {
        let fabric = Fabric::new(&Settings { shards, ..Settings::default() }, 1);
        let shard = |number| MemoryShard::of(&fabric, number, subscribers);
        let mut shards: Vec<_> = (0..shards).map(shard).map(CachePadded::new).collect();
        for at in 0..subscribers.div_ceil(JOINS_INFLIGHT) {
            for shard in &mut shards {
                let from = at * JOINS_INFLIGHT;
                for n in from..subscribers.min(from + JOINS_INFLIGHT) {
                    let key = shard.keys[n];
                    let _later = shard.shard.set_topics(key, topics.to_vec());
                }
            }
            // Joins go to the home and come back.
            for _ in 0..2 {
                shards.iter_mut().for_each(|shard| shard.run());
            }
        }
        for shard in &mut shards {
            let mut joined = 0;
            while shard.shard.next_event().is_some() {
                joined += 1;
            }
            // In the home's own shard a join may be in force at once, and is not told.
            assert!(joined == 0 || joined == subscribers, "{joined} of {subscribers} joined");
        }
        Self { shards }
    }
}

impl MemoryShard {
    /// A shard whose `subscribers` have all of `topics`, joined in the order in which they came.
    pub(crate) fn new(subscribers: usize, topics: &[Topic]) -> Self {
        let fabric = Fabric::new(&Settings { shards: 1, ..Settings::default() }, 1);
        let mut all = Self::of(&fabric, 0, subscribers);
        let keys = all.keys.clone();
        all.set_topics(&keys, topics);
        all
    }

    /// One shard of a node, whose subscribers have no topics yet.
    fn of(fabric: &Fabric, number: usize, subscribers: usize) -> Self {
        let mut shard = Shard::new(number, fabric.clone());
        let keys = (0..subscribers).map(|_| shard.add(None, None, Encoding::Plain)).collect::<Vec<_>>();
        keys.iter().for_each(|&key| shard.attached(key));
        let admission = Admission::new(INFLIGHT_PUBLICATIONS, INFLIGHT_BYTES);
        Self { shard, sink: Sink::default(), keys, number, fabric: fabric.clone(), admission }
    }

    /// The same after everyone has left and joined again, in random order.
    pub(crate) fn churned(subscribers: usize, topics: &[Topic]) -> Self {
        let mut all = Self::new(subscribers, topics);
        let mut keys = all.keys.clone();
        shuffle(&mut keys);
        all.set_topics(&keys, &[]);
        all.set_topics(&keys, topics);
        all
    }

    /// Has each subscriber change its topics, and waits until all of it is in force.
    pub(crate) fn set_topics(&mut self, keys: &[Key], topics: &[Topic]) {
        for keys in keys.chunks(JOINS_INFLIGHT) {
            let mut pending = 0;
            for &key in keys {
                pending += usize::from(self.shard.set_topics(key, topics.to_vec()) == Change::Pending);
            }
            self.run();
            while let Some(event) = self.shard.next_event() {
                assert!(matches!(event, Event::TopicsSet { outcome: Ok(()), .. }), "{event:?}");
                pending -= 1;
            }
            assert_eq!(pending, 0);
        }
    }

    /// Hands a publication to the home.
    pub(crate) fn publish(&self, topic: &Topic, message: &Message) {
        let credits = self.admission.try_admit(message.bytes().len()).expect("little is under way");
        let publication = Publication { topic: topic.clone(), content: message.clone().into(), credits };
        let (reply, _) = oneshot::channel();
        let home = topic.home(self.fabric.mailboxes.shards());
        self.fabric.mailboxes.to_home(home, Ingress::Publish(Box::new(publication), reply));
    }

    /// Does what waits in the mailboxes: gives offsets, appends, marks.
    pub(crate) fn run(&mut self) {
        self.shard.begin_turn(0);
        while self.shard.sequence(JOINS_INFLIGHT) + self.shard.take(JOINS_INFLIGHT) > 0 {}
    }

    /// Does what waits until one publication is taken, with those of the same topic right behind it. Returns how many
    /// were.
    pub(crate) fn run_one(&mut self) -> u64 {
        let metrics = self.fabric.metrics.clone();
        let metrics = metrics.shard(self.number);
        let before = metrics.matched.get();
        self.shard.begin_turn(0);
        self.shard.sequence(1);
        self.shard.take(1);
        (metrics.matched.get() - before) / self.keys.len() as u64
    }

    /// Writes to everyone who is marked.
    pub(crate) fn flush(&mut self) -> usize {
        self.shard.flush(&mut self.sink, usize::MAX)
    }
}

/// A random order that is the same in every run.
pub(crate) fn shuffle<T>(items: &mut [T]) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..items.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        items.swap(last, (random % (last as u64 + 1)) as usize);
    }
}
