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
    history::{History, Past, Resume, Run, past_of_none},
    interest::Interest,
    traffic::Part,
};
use crate::{
    classes::{ClassId, Classes},
    limits::MEMORY_HISTORIES_MS,
    publication::{Content, Epoch, Position},
    topic::Topic,
};

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

    /// Where `topic` stands, and what is kept of it if anything is; `None` if it has no record.
    pub(crate) fn history(&mut self, topic: &Topic, now: u64) -> Option<(Position, Option<Run>)> {
        let number = self.number(topic)?;
        self.expire_history(number, now);
        let run = self.records[number as usize].history.as_mut().map(|history| history.run());
        Some((self.head(number), run))
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

    /// Lets go of the older half of so many histories at most, those first whose oldest message is due first; not again
    /// before [`MEMORY_HISTORIES_MS`] have passed, for it takes a while until what queues hold of them is gone too.
    pub(crate) fn thin_out(&mut self, histories: usize, now: u64) {
        if self.thinned_out_at.is_some_and(|at| now < at + MEMORY_HISTORIES_MS) {
            return;
        }
        self.thinned_out_at = Some(now);
        let chosen: Vec<u32> = std::iter::from_fn(|| self.due.pop().map(|Reverse((_, number))| number))
            .take(histories)
            .collect();
        for number in chosen {
            self.change_history(number, History::drop_older_half);
            self.list_due_again(number, now);
        }
    }

    /// Records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// What all histories cost, bytes.
    pub(crate) fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    /// Has topics be of these classes from now on: what is kept of each is what its class says now.
    pub(crate) fn change_classes(&mut self, classes: Arc<Classes>, now: u64) {
        let is_to_ask = !classes.has_rules_of(&self.classes);
        self.classes = classes;
        let numbers: Vec<u32> = self.records.iter().map(|(number, _)| number as u32).collect();
        for number in numbers {
            let record = &mut self.records[number as usize];
            if is_to_ask {
                record.class = self.classes.of(&record.topic);
            }
            let bounds = self.classes.get(record.class).history;
            self.change_history(number, |history| match bounds {
                Some(bounds) => history.change_bounds(bounds, now),
                None => history.clear(),
            });
        }
        // What is kept for a shorter time than before is due earlier.
        let records = &self.records;
        let due = |Reverse((_, number)): &Reverse<(u64, u32)>| {
            let history = records[*number as usize].history.as_ref();
            Reverse((history.and_then(|history| history.due()).unwrap_or(now), *number))
        };
        self.due = self.due.iter().map(due).collect();
    }

    /// Keeps what was published last.
    fn keep(&mut self, number: u32, content: &Content, part: Option<&Part>, now: u64) {
        let record = &mut self.records[number as usize];
        let Some(bounds) = self.classes.get(record.class).history else { return };
        let history = record.history.get_or_insert_with(|| Box::new(History::new(bounds)));
        let before = history.bytes();
        history.push(record.next - 1, content, part, now);
        self.history_bytes = self.history_bytes - before + history.bytes();
        let was_idle = record.is_idle();
        self.list_due(number);
        if was_idle && !self.records[number as usize].is_idle() {
            self.idle.remove(&mut self.records, number);
        }
    }

    fn expire_history(&mut self, number: u32, now: u64) {
        self.change_history(number, |history| history.expire(now));
    }

    /// Lets go of some of a record's history, if it has one.
    fn change_history(&mut self, number: u32, change: impl FnOnce(&mut History)) {
        let record = &mut self.records[number as usize];
        let Some(history) = &mut record.history else { return };
        let before = history.bytes();
        change(history);
        self.history_bytes = self.history_bytes - before + history.bytes();
        if history.due().is_none() {
            record.history = None;
        }
    }

    /// As [`Self::list_due`], for a record that has just been taken from among those.
    fn list_due_again(&mut self, number: u32, now: u64) {
        self.records[number as usize].is_due_listed = false;
        self.list_due(number);
        let record = &mut self.records[number as usize];
        if record.is_idle() {
            record.touched = now;
            self.idle.push_youngest(&mut self.records, number);
        }
    }

    /// Has the history of a record looked at when its oldest message is due, unless that is going to happen.
    fn list_due(&mut self, number: u32) {
        let record = &mut self.records[number as usize];
        let Some(due) = record.history.as_ref().and_then(|history| history.due()) else { return };
        if !record.is_due_listed {
            record.is_due_listed = true;
            self.due.push(Reverse((due, number)));
        }
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
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        classes::{self, Class},
        publication::Message,
    };

    fn topic(n: usize) -> Topic {
        Topic::parse(&format!("t{n}")).expect("it is a topic")
    }

    fn home(max: usize) -> Home {
        home_keeping(None, max)
    }

    fn home_keeping(history: Option<classes::History>, max: usize) -> Home {
        let class = Class { history, ..Class::default_with(1 << 20, Duration::from_secs(60)) };
        Home::new((0, 1), 9, RecordBudget::new(max), Arc::new(Classes::only(class)), 100)
    }

    fn sequence(home: &mut Home, topic: &Topic, now: u64) -> Result<(Position, Interest), TopicsFull> {
        home.sequence(topic, &Message::text("purr").into(), None, now)
    }

    fn join(home: &mut Home, topic: &Topic, shard: u16, now: u64) -> Result<Position, TopicsFull> {
        home.join(topic, (shard, Encoding::Plain), None, now).map(|joined| joined.position)
    }

    #[test]
    fn offsets_count_up_from_one_and_joins_see_the_last() {
        let mut home = home(10);
        assert_eq!(join(&mut home, &topic(1), 3, 0).expect("there is room").offset, 0);
        for offset in 1..=3 {
            let (position, shards) = sequence(&mut home, &topic(1), 0).expect("it is there");
            assert_eq!(position.offset, offset);
            assert_eq!(shards.shards().iter().collect::<Vec<_>>(), [3]);
        }
        assert_eq!(join(&mut home, &topic(1), 0, 0).expect("it is there").offset, 3);
        let (_, shards) = sequence(&mut home, &topic(1), 0).expect("it is there");
        assert_eq!(shards.shards().iter().collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn histories_go_by_halves_and_not_several_times_at_once() {
        let history = classes::History { messages: 1_000, bytes: 1 << 19, ttl: Duration::from_secs(60) };
        let mut home = home_keeping(Some(history), 10);
        for _ in 0..100 {
            sequence(&mut home, &topic(1), 0).expect("there is room");
        }
        let all = home.history_bytes();
        home.thin_out(16, 10);
        let half = home.history_bytes();
        assert!(half < all * 6 / 10 && half > all * 4 / 10, "{half} of {all}");
        home.thin_out(16, 10 + MEMORY_HISTORIES_MS - 1);
        assert_eq!(home.history_bytes(), half, "it has not been long");
        home.thin_out(16, 10 + MEMORY_HISTORIES_MS);
        assert!(home.history_bytes() < half);
    }

    #[test]
    fn idle_record_is_freed_and_comes_back_in_another_epoch() {
        let mut home = home(10);
        let (first, _) = sequence(&mut home, &topic(1), 0).expect("there is room");
        home.expire(99);
        let (second, _) = sequence(&mut home, &topic(1), 50).expect("it is there");
        assert_eq!((second.epoch, second.offset), (first.epoch, 2));
        home.expire(149);
        assert_eq!(home.len(), 1);
        home.expire(150);
        assert_eq!(home.len(), 0);
        let (third, _) = sequence(&mut home, &topic(1), 160).expect("there is room");
        assert_ne!(third.epoch, first.epoch);
        assert_eq!(third.offset, 1);
    }

    #[test]
    fn wanted_record_is_never_freed() {
        let mut home = home(10);
        join(&mut home, &topic(1), 0, 0).expect("there is room");
        join(&mut home, &topic(1), 1, 0).expect("there is room");
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
        sequence(&mut home, &topic(1), 0).expect("there is room");
        sequence(&mut home, &topic(2), 1).expect("there is room");
        sequence(&mut home, &topic(1), 2).expect("it is there");
        join(&mut home, &topic(3), 0, 3).expect("topic 2 is the longest idle");
        assert!(home.number(&topic(1)).is_some() && home.number(&topic(2)).is_none());
        join(&mut home, &topic(1), 0, 4).expect("it is there");
        assert_eq!(sequence(&mut home, &topic(4), 5), Err(TopicsFull));
        assert_eq!(join(&mut home, &topic(4), 0, 5), Err(TopicsFull));
        sequence(&mut home, &topic(3), 6).expect("it is there");
    }

    #[test]
    fn record_with_a_history_lives_until_time_has_emptied_it_and_as_long_as_others_then() {
        let history = classes::History { messages: 10, bytes: 10_000, ttl: Duration::from_millis(1_000) };
        let mut home = home_keeping(Some(history), 10);
        let (first, _) = sequence(&mut home, &topic(1), 0).expect("there is room");
        let (second, _) = sequence(&mut home, &topic(1), 900).expect("it is there");
        home.expire(1_899);
        let (head, run) = home.history(&topic(1), 1_899).expect("it is there");
        assert_eq!((head, run.map(|run| run.len())), (second, Some(1)));
        assert!(home.history_bytes() > 0);
        home.expire(1_900);
        assert_eq!(home.history_bytes(), 0);
        home.expire(1_999);
        let (head, run) = home.history(&topic(1), 1_999).expect("it is there");
        assert_eq!((head.epoch, head.offset, run.is_none()), (first.epoch, 2, true));
        home.expire(2_000);
        assert_eq!((home.len(), home.history(&topic(1), 2_000).is_none()), (0, true));
    }

    #[test]
    fn other_classes_bound_what_is_kept_at_once_and_by_their_own_time() {
        let history = classes::History { messages: 10, bytes: 10_000, ttl: Duration::from_secs(60) };
        let mut home = home_keeping(Some(history), 10);
        for _ in 0..5 {
            sequence(&mut home, &topic(1), 0).expect("there is room");
        }
        let classes = |history: Option<classes::History>| {
            let class = Class { history, ..Class::default_with(1 << 20, Duration::from_secs(60)) };
            Arc::new(Classes::only(class))
        };
        let kept = |home: &mut Home, now| {
            let (_, run) = home.history(&topic(1), now).expect("it is there");
            run.map_or(0, |run| run.len())
        };
        let shorter = classes::History { messages: 3, ttl: Duration::from_secs(1), ..history };
        home.change_classes(classes(Some(shorter)), 500);
        assert_eq!(kept(&mut home, 500), 3);
        home.expire(1_000);
        assert_eq!(home.history_bytes(), 0, "it was not to be looked at for a minute");
        sequence(&mut home, &topic(1), 1_000).expect("it is there");
        home.change_classes(classes(None), 1_000);
        assert_eq!((home.history_bytes(), kept(&mut home, 1_000)), (0, 0));
        home.expire(1_000);
        home.expire(1_200);
        assert_eq!(home.len(), 0, "nothing keeps it");
    }

    #[test]
    fn history_is_not_served_for_longer_than_it_may_be_though_nobody_has_looked() {
        let history = classes::History { messages: 10, bytes: 10_000, ttl: Duration::from_millis(1_000) };
        let mut home = home_keeping(Some(history), 10);
        sequence(&mut home, &topic(1), 0).expect("there is room");
        let since = Resume::Since { epoch: Some(home.epoch(0)), offset: 0 };
        let past = |home: &mut Home, now| {
            let joined = home.join(&topic(1), (0, Encoding::V1), Some(since), now).expect("it is there");
            joined.past.expect("it asked for it")
        };
        assert_eq!(past(&mut home, 999).run.len(), 1);
        let late = past(&mut home, 1_000);
        assert_eq!((late.run.len(), late.missed.map(|missed| missed.count())), (0, Some(1)));
        assert_eq!(home.history_bytes(), 0);
    }

    #[test]
    fn record_with_a_history_makes_no_room_for_others_and_wanted_ones_outlive_their_history() {
        let history = classes::History { messages: 10, bytes: 10_000, ttl: Duration::from_millis(1_000) };
        let mut home = home_keeping(Some(history), 2);
        sequence(&mut home, &topic(1), 0).expect("there is room");
        sequence(&mut home, &topic(2), 0).expect("there is room");
        join(&mut home, &topic(2), 0, 0).expect("it is there");
        assert_eq!(sequence(&mut home, &topic(3), 500), Err(TopicsFull));
        home.expire(1_000);
        sequence(&mut home, &topic(3), 1_000).expect("topic 1 is idle now");
        assert!(home.number(&topic(1)).is_none() && home.number(&topic(2)).is_some());
        home.unwant(&topic(2), (0, Encoding::Plain), 1_500);
        home.expire(2_000);
        home.expire(2_100);
        assert_eq!(home.len(), 0);
    }

    #[test]
    fn message_too_large_for_its_history_leaves_a_record_that_is_freed_like_any() {
        let history = classes::History { messages: 10, bytes: 300, ttl: Duration::from_millis(50) };
        let mut home = home_keeping(Some(history), 10);
        home.sequence(&topic(1), &Message::text("x".repeat(400)).into(), None, 0).expect("there is room");
        sequence(&mut home, &topic(2), 0).expect("there is room");
        home.sequence(&topic(2), &Message::text("x".repeat(400)).into(), None, 10).expect("it is there");
        assert_eq!(home.history_bytes(), 0);
        home.expire(50);
        home.expire(100);
        assert_eq!(home.len(), 1, "topic 2 was looked at for its history");
        home.expire(150);
        assert_eq!(home.len(), 0);
    }
}
