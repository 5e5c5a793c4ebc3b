//! The home side of topics: who gives a publication its offset, and which shards are to have it.
//!
//! Each topic has one home shard, the only writer of its record. A record lives while a shard is interested, and
//! `topic_idle` longer; each incarnation has a fresh epoch, so that an offset never repeats within one. When the
//! node's budget of records is used up, the longest idle record goes first; when none is idle, a new topic is
//! refused.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hashbrown::HashTable;
use slab::Slab;

use super::{
    age_list::{AgeList, Aged, Neighbours},
    encoding::{ENCODINGS, Encoding},
};
use crate::{
    limits::SHARDS_MAX,
    publication::{Epoch, Position},
    topic::Topic,
};

/// A set of shards: bit n is shard n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardSet(u64);

const _: () = assert!(SHARDS_MAX <= u64::BITS as usize);

impl ShardSet {
    pub(crate) fn insert(&mut self, shard: u16) {
        self.0 |= 1 << shard;
    }

    pub(crate) fn remove(&mut self, shard: u16) {
        self.0 &= !(1 << shard);
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let shard = left.trailing_zeros() as usize;
            left &= left.checked_sub(1)?;
            Some(shard)
        })
    }
}

/// Which shards want a topic, for each encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest([ShardSet; ENCODINGS]);

impl Interest {
    /// The shards that want it in `encoding`.
    pub(crate) fn in_encoding(self, encoding: Encoding) -> ShardSet {
        self.0[encoding as usize]
    }

    /// The shards that want it at all.
    pub(crate) fn shards(self) -> ShardSet {
        ShardSet(self.0.iter().fold(0, |all, set| all | set.0))
    }

    fn insert(&mut self, shard: u16, encoding: Encoding) {
        self.0[encoding as usize].insert(shard);
    }

    fn remove(&mut self, shard: u16, encoding: Encoding) {
        self.0[encoding as usize].remove(shard);
    }

    fn is_empty(self) -> bool {
        self.shards().is_empty()
    }
}

/// The node can keep no further topic: its budget of records is used up and none is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicsFull;

/// The node's budget of topic records, shared by its homes; touched when a record is made or freed.
#[derive(Clone, Debug)]
pub(crate) struct RecordBudget {
    used: Arc<AtomicUsize>,
    max: usize,
}

impl RecordBudget {
    pub(crate) fn new(max: usize) -> Self {
        Self { used: Arc::new(AtomicUsize::new(0)), max }
    }

    fn take(&self) -> bool {
        // Relaxed: a count and nothing else.
        let take = |used| (used < self.max).then_some(used + 1);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Record {
    topic: Topic,
    incarnation: u64,
    /// The offset of the next publication.
    next: u64,
    /// Shards with a subscriber or a join under way.
    interested: Interest,
    /// When it was last published to, joined or left, while nobody was interested. Milliseconds.
    touched: u64,
    neighbours: Neighbours,
}

impl Aged for Record {
    fn neighbours(&mut self) -> &mut Neighbours {
        &mut self.neighbours
    }
}

/// The topics whose home is one shard.
#[derive(Debug)]
pub(crate) struct Home {
    numbers: HashTable<u32>,
    records: Slab<Record>,
    /// Records no shard is interested in, by when they were last used.
    idle: AgeList,
    budget: RecordBudget,
    /// Random, of this start of the node.
    node: u64,
    /// The incarnation of the next record. Homes count in steps, so that no two give the same.
    incarnation: u64,
    step: u64,
    idle_ms: u64,
}

impl Home {
    pub(crate) fn new(shard: u16, shards: u16, node: u64, budget: RecordBudget, idle_ms: u64) -> Self {
        Self {
            numbers: HashTable::new(),
            records: Slab::new(),
            idle: AgeList::new(),
            budget,
            node,
            incarnation: u64::from(shard),
            step: u64::from(shards),
            idle_ms,
        }
    }

    /// Gives the next offset of `topic`, and says which shards are to have the publication.
    ///
    /// # Errors
    /// When the topic is new and cannot be kept.
    pub(crate) fn sequence(&mut self, topic: &Topic, now: u64) -> Result<(Position, Interest), TopicsFull> {
        let number = self.number_or_insert(topic, now)?;
        self.touch(number, now);
        let record = &mut self.records[number as usize];
        let offset = record.next;
        record.next += 1;
        let position = Position { epoch: self.epoch(number), offset };
        Ok((position, self.records[number as usize].interested))
    }

    /// Notes that `shard` is interested in `topic` in an encoding. Returns the position of the last publication before (offset 0:
    /// none yet in this epoch).
    ///
    /// # Errors
    /// When the topic is new and cannot be kept.
    pub(crate) fn join(
        &mut self,
        topic: &Topic,
        (shard, encoding): (u16, Encoding),
        now: u64,
    ) -> Result<Position, TopicsFull> {
        let number = self.number_or_insert(topic, now)?;
        let record = &mut self.records[number as usize];
        let was_idle = record.interested.is_empty();
        record.interested.insert(shard, encoding);
        let offset = record.next - 1;
        if was_idle {
            self.idle.remove(&mut self.records, number);
        }
        Ok(Position { epoch: self.epoch(number), offset })
    }

    /// Notes that `shard` is not interested in `topic` in an encoding any more.
    pub(crate) fn unwant(&mut self, topic: &Topic, (shard, encoding): (u16, Encoding), now: u64) {
        let Some(number) = self.number(topic) else { return };
        let record = &mut self.records[number as usize];
        if record.interested.is_empty() {
            return;
        }
        record.interested.remove(shard, encoding);
        if record.interested.is_empty() {
            record.touched = now;
            self.idle.push_youngest(&mut self.records, number);
        }
    }

    /// Frees records that were idle for long enough, a bounded number of them.
    pub(crate) fn expire(&mut self, now: u64) {
        const AT_ONCE: usize = 1_024;
        for _ in 0..AT_ONCE {
            let Some(oldest) = self.idle.oldest() else { return };
            if now < self.records[oldest as usize].touched + self.idle_ms {
                return;
            }
            self.free(oldest);
        }
    }

    /// Records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    fn number(&self, topic: &Topic) -> Option<u32> {
        self.numbers.find(topic.kept_hash(), |&number| self.records[number as usize].topic == *topic).copied()
    }

    fn number_or_insert(&mut self, topic: &Topic, now: u64) -> Result<u32, TopicsFull> {
        if let Some(number) = self.number(topic) {
            return Ok(number);
        }
        if !self.budget.take() {
            let oldest = self.idle.oldest().ok_or(TopicsFull)?;
            self.free(oldest);
            if !self.budget.take() {
                return Err(TopicsFull);
            }
        }
        let record = Record {
            topic: topic.clone(),
            incarnation: self.incarnation,
            next: 1,
            interested: Interest::default(),
            touched: now,
            neighbours: Neighbours::NONE,
        };
        self.incarnation += self.step;
        let number = self.records.insert(record) as u32;
        self.idle.push_youngest(&mut self.records, number);
        let records = &self.records;
        self.numbers
            .insert_unique(topic.kept_hash(), number, |&other| records[other as usize].topic.kept_hash());
        Ok(number)
    }

    /// Makes an idle record the youngest.
    fn touch(&mut self, number: u32, now: u64) {
        let record = &mut self.records[number as usize];
        if record.interested.is_empty() {
            record.touched = now;
            self.idle.remove(&mut self.records, number);
            self.idle.push_youngest(&mut self.records, number);
        }
    }

    fn free(&mut self, number: u32) {
        self.idle.remove(&mut self.records, number);
        let record = self.records.remove(number as usize);
        if let Ok(found) = self.numbers.find_entry(record.topic.kept_hash(), |&other| other == number) {
            found.remove();
        }
        self.budget.give_back();
    }

    fn epoch(&self, number: u32) -> Epoch {
        Epoch { node: self.node, incarnation: self.records[number as usize].incarnation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(n: usize) -> Topic {
        Topic::parse(&format!("t{n}")).expect("it is a topic")
    }

    fn home(max: usize) -> Home {
        Home::new(0, 1, 9, RecordBudget::new(max), 100)
    }

    #[test]
    fn offsets_count_up_from_one_and_joins_see_the_last() {
        let mut home = home(10);
        assert_eq!(home.join(&topic(1), (3, Encoding::Plain), 0).expect("there is room").offset, 0);
        for offset in 1..=3 {
            let (position, shards) = home.sequence(&topic(1), 0).expect("it is there");
            assert_eq!(position.offset, offset);
            assert_eq!(shards.shards().iter().collect::<Vec<_>>(), [3]);
        }
        assert_eq!(home.join(&topic(1), (0, Encoding::Plain), 0).expect("it is there").offset, 3);
        let (_, shards) = home.sequence(&topic(1), 0).expect("it is there");
        assert_eq!(shards.shards().iter().collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn idle_record_is_freed_and_comes_back_in_another_epoch() {
        let mut home = home(10);
        let (first, _) = home.sequence(&topic(1), 0).expect("there is room");
        home.expire(99);
        let (second, _) = home.sequence(&topic(1), 50).expect("it is there");
        assert_eq!((second.epoch, second.offset), (first.epoch, 2));
        home.expire(149);
        assert_eq!(home.len(), 1);
        home.expire(150);
        assert_eq!(home.len(), 0);
        let (third, _) = home.sequence(&topic(1), 160).expect("there is room");
        assert_ne!(third.epoch, first.epoch);
        assert_eq!(third.offset, 1);
    }

    #[test]
    fn wanted_record_is_never_freed() {
        let mut home = home(10);
        home.join(&topic(1), (0, Encoding::Plain), 0).expect("there is room");
        home.join(&topic(1), (1, Encoding::Plain), 0).expect("there is room");
        home.unwant(&topic(1), (0, Encoding::Plain), 10);
        home.expire(1_000_000);
        assert_eq!(home.len(), 1);
        home.unwant(&topic(1), (1, Encoding::Plain), 1_000_000);
        home.unwant(&topic(1), (1, Encoding::Plain), 1_000_000);
        home.expire(1_000_100);
        assert_eq!(home.len(), 0);
    }

    #[test]
    fn at_the_limit_the_longest_idle_topic_goes_and_then_new_ones_are_refused() {
        let mut home = home(2);
        home.sequence(&topic(1), 0).expect("there is room");
        home.sequence(&topic(2), 1).expect("there is room");
        home.sequence(&topic(1), 2).expect("it is there");
        home.join(&topic(3), (0, Encoding::Plain), 3).expect("topic 2 is the longest idle");
        assert!(home.number(&topic(1)).is_some() && home.number(&topic(2)).is_none());
        home.join(&topic(1), (0, Encoding::Plain), 4).expect("it is there");
        assert_eq!(home.sequence(&topic(4), 5), Err(TopicsFull));
        assert_eq!(home.join(&topic(4), (0, Encoding::Plain), 5), Err(TopicsFull));
        home.sequence(&topic(3), 6).expect("it is there");
    }
}
