//! Publications that were given an idempotency key: a publisher that does not know whether one was taken sends it again,
//! and it is not published twice.
//!
//! They are remembered by the home of the first topic they name, under that topic, their publisher and its key, from the step
//! that sequences them on; so of two repeats that race, one is first. Publishers who choose the same key have nothing to do
//! with each other. The memory is bounded in time, and in number for each
//! home: at the bound the oldest is forgotten, even if it is not over yet.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use slab::Slab;
use tokio::sync::watch;

use super::{
    age_list::{AgeList, Aged, Neighbours},
    order::{Digest, Outcome, Places},
};
use crate::{publication::ScopedKey, topic::Topic};

/// How far a remembered publication is.
#[derive(Debug)]
enum Stage {
    /// It is in all its topics.
    Over(Places),
    /// It was going from topic to topic when this was looked at last; here it says what it came to.
    Underway(watch::Receiver<Option<Places>>),
}

#[derive(Debug)]
struct Entry {
    topic: Topic,
    key: ScopedKey,
    digest: Digest,
    stage: Stage,
    /// When it was sequenced, milliseconds.
    at: u64,
    neighbours: Neighbours,
}

impl Aged for Entry {
    fn neighbours(&mut self) -> &mut Neighbours {
        &mut self.neighbours
    }
}

/// What one home remembers.
#[derive(Debug)]
pub(super) struct Repeats {
    numbers: HashTable<u32>,
    entries: Slab<Entry>,
    ages: AgeList,
    /// Strangers choose keys.
    hasher: foldhash::quality::RandomState,
    max: usize,
    ttl_ms: u64,
}

impl Repeats {
    pub(super) fn new(max: usize, ttl_ms: u64) -> Self {
        Self {
            numbers: HashTable::new(),
            entries: Slab::new(),
            ages: AgeList::new(),
            hasher: foldhash::quality::RandomState::default(),
            max: max.max(1),
            ttl_ms,
        }
    }

    /// What a publication that was sent before is answered with; `None` if it is the first of its key, or the first came to
    /// nothing.
    pub(super) fn find(
        &mut self,
        topic: &Topic,
        key: &ScopedKey,
        digest: Digest,
        now: u64,
    ) -> Option<Outcome> {
        let number = self.number(topic, key)?;
        let entry = &mut self.entries[number as usize];
        if let Stage::Underway(underway) = &entry.stage {
            let is_gone = underway.has_changed().is_err();
            let places = underway.borrow().clone();
            match places {
                Some(places) => entry.stage = Stage::Over(places),
                None if is_gone => {
                    self.remove(number);
                    return None;
                }
                None => {}
            }
        }
        let is_void = matches!(&entry.stage, Stage::Over(places) if places.iter().all(Result::is_err));
        if is_void || now >= entry.at.saturating_add(self.ttl_ms) {
            self.remove(number);
            return None;
        }
        if entry.digest != digest {
            return Some(Outcome::Conflict);
        }
        Some(match &entry.stage {
            Stage::Over(places) => Outcome::Placed(places.clone()),
            Stage::Underway(underway) => Outcome::Underway(underway.clone()),
        })
    }

    /// Remembers a publication that begins to go from topic to topic.
    pub(super) fn begin(
        &mut self,
        scope: (Topic, ScopedKey),
        digest: Digest,
        underway: watch::Receiver<Option<Places>>,
        now: u64,
    ) {
        self.insert(scope, digest, Stage::Underway(underway), now);
    }

    /// Remembers a publication that is over already.
    pub(super) fn keep(&mut self, scope: (Topic, ScopedKey), digest: Digest, places: Places, now: u64) {
        self.insert(scope, digest, Stage::Over(places), now);
    }

    /// Forgets what is too old, a bounded number of them.
    pub(super) fn expire(&mut self, now: u64) {
        const AT_ONCE: usize = 1_024;
        for _ in 0..AT_ONCE {
            match self.ages.oldest() {
                Some(oldest) if now >= self.entries[oldest as usize].at.saturating_add(self.ttl_ms) => {
                    self.remove(oldest);
                }
                _ => return,
            }
        }
    }

    fn insert(&mut self, (topic, key): (Topic, ScopedKey), digest: Digest, stage: Stage, now: u64) {
        debug_assert!(self.number(&topic, &key).is_none(), "it was looked for");
        if self.entries.len() >= self.max
            && let Some(oldest) = self.ages.oldest()
        {
            self.remove(oldest);
        }
        let hash = self.hash(&topic, &key);
        let entry = Entry { topic, key, digest, stage, at: now, neighbours: Neighbours::NONE };
        let number = self.entries.insert(entry) as u32;
        self.ages.push_youngest(&mut self.entries, number);
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.numbers.insert_unique(hash, number, |&other| {
            let other = &entries[other as usize];
            hasher.hash_one((&other.topic, &other.key))
        });
    }

    fn remove(&mut self, number: u32) {
        self.ages.remove(&mut self.entries, number);
        let entry = self.entries.remove(number as usize);
        let hash = self.hash(&entry.topic, &entry.key);
        if let Ok(found) = self.numbers.find_entry(hash, |&other| other == number) {
            found.remove();
        }
    }

    fn number(&self, topic: &Topic, key: &ScopedKey) -> Option<u32> {
        let is_it = |&number: &u32| {
            let entry = &self.entries[number as usize];
            entry.key == *key && entry.topic == *topic
        };
        self.numbers.find(self.hash(topic, key), is_it).copied()
    }

    fn hash(&self, topic: &Topic, key: &ScopedKey) -> u64 {
        self.hasher.hash_one((topic, key))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        engine::{TopicsFull, order::Place},
        identity::User,
        publication::{Epoch, IdempotencyKey, Position, Publisher},
    };

    fn scope(n: usize) -> (Topic, ScopedKey) {
        scope_of(Publisher::Anonymous, n)
    }

    fn scope_of(publisher: Publisher, n: usize) -> (Topic, ScopedKey) {
        let key = IdempotencyKey::parse(&format!("k{n}")).expect("a key");
        (Topic::parse("cats").expect("a topic"), ScopedKey { publisher, key })
    }

    fn places(offset: u64) -> Places {
        let position = Position { epoch: Epoch { node: 1, incarnation: 2 }, offset };
        Arc::new([Ok(Place { position, receipt: None })])
    }

    fn offset(outcome: Option<Outcome>) -> Option<u64> {
        match outcome? {
            Outcome::Placed(places) => places[0].as_ref().ok().map(|place| place.position.offset),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn repeat_has_the_first_result_until_it_is_too_old() {
        let mut repeats = Repeats::new(10, 100);
        let (topic, key) = scope(1);
        let other = Topic::parse("dogs").expect("a topic");
        assert!(repeats.find(&topic, &key, 7, 0).is_none());
        repeats.keep(scope(1), 7, places(3), 5);
        assert_eq!(offset(repeats.find(&topic, &key, 7, 104)), Some(3));
        assert!(matches!(repeats.find(&topic, &key, 8, 104), Some(Outcome::Conflict)));
        assert!(repeats.find(&other, &key, 7, 104).is_none(), "a key is its topic's");
        assert!(repeats.find(&topic, &key, 7, 105).is_none());
        repeats.keep(scope(1), 8, places(4), 105);
        repeats.expire(204);
        assert_eq!(repeats.entries.len(), 1);
        repeats.expire(205);
        assert!(repeats.entries.is_empty() && repeats.numbers.is_empty());
    }

    #[test]
    fn a_key_is_its_publishers() {
        let mut repeats = Repeats::new(10, 1_000);
        // A name is no more than a name: of a key, of a user, and of nobody.
        let publishers = [
            Publisher::Program,
            Publisher::Anonymous,
            Publisher::ApiKey("a".into()),
            Publisher::ApiKey("b".into()),
            Publisher::User(User::parse("a").unwrap()),
            Publisher::User(User::number(7)),
            Publisher::User(User::number(8)),
        ];
        for (publisher, at) in publishers.iter().zip(1..) {
            let (topic, key) = scope_of(publisher.clone(), 1);
            assert!(repeats.find(&topic, &key, at.into(), 0).is_none(), "{publisher:?} has not used it");
            repeats.keep((topic, key), at.into(), places(at), 0);
        }
        for (publisher, at) in publishers.iter().zip(1_u64..) {
            let (topic, key) = scope_of(publisher.clone(), 1);
            assert_eq!(offset(repeats.find(&topic, &key, at.into(), 1)), Some(at), "{publisher:?}");
            let other = repeats.find(&topic, &key, 0, 1);
            assert!(matches!(other, Some(Outcome::Conflict)), "{publisher:?}");
        }
        repeats.expire(1_000);
        assert!(repeats.entries.is_empty() && repeats.numbers.is_empty());
    }

    #[test]
    fn at_the_bound_the_oldest_is_forgotten() {
        let mut repeats = Repeats::new(3, 1_000);
        for n in 0..5 {
            repeats.keep(scope(n), 7, places(n as u64), n as u64);
        }
        for n in 0..5 {
            let (topic, key) = scope(n);
            assert_eq!(offset(repeats.find(&topic, &key, 7, 10)), (n >= 2).then_some(n as u64));
        }
    }

    #[test]
    fn repeat_waits_for_one_that_is_under_way_and_nothing_taken_is_nothing_remembered() {
        let mut repeats = Repeats::new(10, 1_000);
        let (sender, underway) = watch::channel(None);
        repeats.begin(scope(1), 7, underway, 0);
        let (topic, key) = scope(1);
        assert!(matches!(repeats.find(&topic, &key, 7, 1), Some(Outcome::Underway(_))));
        assert!(matches!(repeats.find(&topic, &key, 8, 1), Some(Outcome::Conflict)));
        sender.send_replace(Some(places(5)));
        drop(sender);
        assert_eq!(offset(repeats.find(&topic, &key, 7, 2)), Some(5));

        for failed in [None, Some(Arc::new([Err(TopicsFull)]) as Places)] {
            let (sender, underway) = watch::channel(None);
            repeats.begin(scope(2), 7, underway, 0);
            sender.send_replace(failed);
            drop(sender);
            let (topic, key) = scope(2);
            assert!(repeats.find(&topic, &key, 7, 3).is_none(), "it may be tried again");
        }
    }
}
