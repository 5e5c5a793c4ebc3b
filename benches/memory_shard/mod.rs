//! One shard with subscribers and a transport in memory: what the engine costs without sockets.
//!
//! Work goes in and comes out as a driver's would, through the mailboxes and the turn of a shard; nothing here reaches
//! into the engine. The transport takes everything and counts it.

use std::io::IoSlice;

use fanfare::{
    admission::Admission,
    engine::{Change, Common, Event, Ingress, Key, Offered, Shard, Transport},
    limits::{INFLIGHT_BYTES, INFLIGHT_PUBLICATIONS, JOINS_INFLIGHT},
    publication::{Audience, Message, Publication},
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
    common: Common,
    admission: Admission,
}

impl MemoryShard {
    /// A shard whose `subscribers` have all of `topics`, joined in the order in which they came.
    pub(crate) fn new(subscribers: usize, topics: &[Topic]) -> Self {
        let common = Common::new(&Settings { shards: 1, ..Settings::default() }, 1);
        let mut shard = Shard::new(0, common.clone());
        let keys = (0..subscribers).map(|_| shard.add(None, None)).collect::<Vec<_>>();
        keys.iter().for_each(|&key| shard.attached(key));
        let admission = Admission::new(INFLIGHT_PUBLICATIONS, INFLIGHT_BYTES);
        let mut all = Self { shard, sink: Sink::default(), keys: Vec::new(), common, admission };
        all.set_topics(&keys, topics);
        all.keys = keys;
        all
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
        let publication = Publication {
            topic: topic.clone(),
            message: message.clone(),
            audience: Audience::default(),
            credits,
        };
        let (reply, _) = oneshot::channel();
        self.common.mailboxes.to_home(0, Ingress::Publish(Box::new(publication), reply));
    }

    /// Does what waits in the mailboxes: gives offsets, appends, marks.
    pub(crate) fn run(&mut self) {
        self.shard.begin_turn(0);
        while self.shard.sequence(JOINS_INFLIGHT) + self.shard.take(JOINS_INFLIGHT) > 0 {}
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
