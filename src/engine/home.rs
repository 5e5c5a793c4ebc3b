//! The home side of topics: who gives a publication its offset, and which shards are to have it.
//!
//! Each topic has one home shard, the only writer of its record. A record lives while a shard is interested or it has a
//! history, and `topic_idle` longer; each incarnation has a fresh epoch, so that an offset never repeats within one. When
//! the node's budget of records is used up, the longest idle record goes first; when none is idle, a new topic is
//! refused.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hashbrown::HashTable;
use slab::Slab;

use super::{
    age_list::{AgeList, Aged, Neighbours},
    encoding::Encoding,
    history::{History, Past, Resume, past_of_none},
    interest::Interest,
    traffic::Part,
};
use crate::{
    classes::{ClassId, Classes},
    publication::{Content, Epoch, Position},
    topic::Topic,
};

mod histories;

/// The node can keep no further topic: its budget of records is used up and none is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicsFull;

impl fmt::Display for TopicsFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node keeps as many topics as it may")
    }
}

impl std::error::Error for TopicsFull {}

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

/// Where a subscriber joined a topic.
#[derive(Clone, Debug)]
pub struct JoinPoint {
    /// The position of the last publication before it (offset 0: none yet in this epoch).
    pub position: Position,
    /// What it asked for of what was published before.
    pub past: Option<Box<Past>>,
}

#[derive(Debug)]
struct Record {
    topic: Topic,
    class: ClassId,
    incarnation: u64,
    /// The offset of the next publication.
    next: u64,
    /// Shards with a subscriber or a join under way.
    interested: Interest,
    /// What is kept of it, if its class keeps something and there is something.
    history: Option<Box<History>>,
    /// Whether it stands among those whose history is to be looked at; then it is not idle.
    is_due_listed: bool,
    /// When it was last published to, joined or left, while nobody was interested. Milliseconds.
    touched: u64,
    neighbours: Neighbours,
}

impl Record {
    /// Whether nothing but its age keeps it; exactly then it stands in the list of the idle.
    fn is_idle(&self) -> bool {
        self.interested.is_empty() && !self.is_due_listed
    }
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
    /// Records without history no shard is interested in, by when they were last used.
    idle: AgeList,
    /// When the history of a record is to be looked at, milliseconds; each record stands here once at most, and not
    /// later than when its oldest message has been kept for long enough.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    /// When some of the histories were let go for the sake of memory, milliseconds.
    thinned_out_at: Option<u64>,
    /// What all histories cost, bytes.
    history_bytes: usize,
    budget: RecordBudget,
    classes: Arc<Classes>,
    /// Random, of this start of the node.
    node: u64,
    /// The incarnation of the next record. Homes count in steps, so that no two give the same.
    incarnation: u64,
    step: u64,
    idle_ms: u64,
}

impl Home {
    /// The home `shard` of so many `shards`. `node` makes its epochs different from those of any other start.
    pub(crate) fn new(
        (shard, shards): (u16, u16),
        node: u64,
        budget: RecordBudget,
        classes: Arc<Classes>,
        idle_ms: u64,
    ) -> Self {
        Self {
            numbers: HashTable::new(),
            records: Slab::new(),
            idle: AgeList::new(),
            due: BinaryHeap::new(),
            thinned_out_at: None,
            history_bytes: 0,
            budget,
            classes,
            node,
            incarnation: u64::from(shard),
            step: u64::from(shards),
            idle_ms,
        }
    }

    /// Gives the next offset of `topic`, keeps what is published if the topic's class says so, and says which shards are
    /// to have the publication. If it is a `part`, its place is noted there.
    ///
    /// # Errors
    /// When the topic is new and cannot be kept.
    pub(crate) fn sequence(
        &mut self,
        topic: &Topic,
        content: &Content,
        part: Option<&Part>,
        now: u64,
    ) -> Result<(Position, Interest), TopicsFull> {
        let number = self.number_or_insert(topic, now)?;
        self.touch(number, now);
        let record = &mut self.records[number as usize];
        let offset = record.next;
        record.next += 1;
        if self.classes.get(record.class).history.is_some() {
            self.keep(number, content, part, now);
        }
        let position = Position { epoch: self.epoch(number), offset };
        if let Some(part) = part {
            let noted = part.stands[part.place].set(position);
            debug_assert!(noted.is_ok(), "it has one place");
        }
        Ok((position, self.records[number as usize].interested))
    }

    /// Notes that `shard` is interested in `topic` in an encoding. Returns where that begins, and what there is of the past
    /// if it wants to `resume`.
    ///
    /// # Errors
    /// When the topic is new and cannot be kept.
    pub(crate) fn join(
        &mut self,
        topic: &Topic,
        (shard, encoding): (u16, Encoding),
        resume: Option<Resume>,
        now: u64,
    ) -> Result<JoinPoint, TopicsFull> {
        let number = self.number_or_insert(topic, now)?;
        let record = &mut self.records[number as usize];
        let was_idle = record.is_idle();
        record.interested.insert(shard, encoding);
        if was_idle {
            self.idle.remove(&mut self.records, number);
        }
        let position = self.head(number);
        let past = resume.map(|resume| {
            self.expire_history(number, now);
            let past = match &mut self.records[number as usize].history {
                Some(history) => history.past(resume, position),
                None => past_of_none(resume, position),
            };
            Box::new(past)
        });
        Ok(JoinPoint { position, past })
    }

    /// Where `topic` stands, if it has a record.
    pub(crate) fn position(&self, topic: &Topic) -> Option<Position> {
        self.number(topic).map(|number| self.head(number))
    }

    /// Calls for records, at most `places` places from `from` on, with how many publications each has had. Returns where to
    /// go on, unless that was all.
    pub(crate) fn walk(
        &self,
        (from, places): (usize, usize),
        mut visit: impl FnMut(&Topic, u64),
    ) -> Option<usize> {
        let end = self.records.capacity().min(from.saturating_add(places));
        let records = (from..end).filter_map(|place| self.records.get(place));
        records.for_each(|record| visit(&record.topic, record.next - 1));
        (end < self.records.capacity()).then_some(end)
    }

    /// Notes that `shard` is not interested in `topic` in an encoding any more.
    pub(crate) fn unwant(&mut self, topic: &Topic, (shard, encoding): (u16, Encoding), now: u64) {
        let Some(number) = self.number(topic) else { return };
        let record = &mut self.records[number as usize];
        if record.interested.is_empty() {
            return;
        }
        record.interested.remove(shard, encoding);
        if record.is_idle() {
            record.touched = now;
            self.idle.push_youngest(&mut self.records, number);
        }
    }

    /// Lets go of messages that were kept for long enough, and frees records that were idle for long enough; of a bounded
    /// number of topics.
    pub(crate) fn expire(&mut self, now: u64) {
        const AT_ONCE: usize = 1_024;
        for _ in 0..AT_ONCE {
            let Some(&Reverse((due, number))) = self.due.peek() else { break };
            if now < due {
                break;
            }
            self.due.pop();
            self.expire_history(number, now);
            self.list_due_again(number, now);
        }
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

    /// The position of the last publication.
    fn head(&self, number: u32) -> Position {
        Position { epoch: self.epoch(number), offset: self.records[number as usize].next - 1 }
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
            class: self.classes.of(topic),
            incarnation: self.incarnation,
            next: 1,
            interested: Interest::default(),
            history: None,
            is_due_listed: false,
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
        if record.is_idle() {
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
mod tests;
