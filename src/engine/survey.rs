//! What operators see of a shard's topics and clients: figures of one, and walks over all that can be made in steps.
//!
//! A step looks at so many places of a table and no more, so that a large table stalls nobody; between two steps the shard
//! works, and what comes or goes meanwhile may be missed. Nothing here changes anything. Whoever asks makes the steps
//! (`connection/survey.rs`) and puts together what several shards say.

use super::{books::TopicLedger, encoding::Encoding, shard::Shard, subscribers::Key};
use crate::{
    identity::{ClientId, User},
    publication::Position,
    topic::Topic,
};

use super::outbox::Flags;

/// By what topics are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicRank {
    /// By the subscribers they have.
    Subscribers,
    /// By the publications they had since their record was made. Only their home knows.
    Publications,
    /// By the messages that were meant for somebody, counted for each.
    Deliveries,
}

/// By what clients are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientRank {
    /// By the bytes queued for them.
    Queued,
    /// By how long the oldest queued message has waited.
    Age,
}

/// What a shard knows of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicFigures {
    /// Subscribers here, in all encodings.
    pub subscribers: usize,
    /// What became of its messages here, as far back as the shard remembers it.
    pub ledger: TopicLedger,
    /// Where it stands, if this is its home.
    pub position: Option<Position>,
}

/// What a shard knows of a client that is connected to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFigures {
    /// Whose client it is, if that is known.
    pub user: Option<User>,
    /// The protocol it speaks.
    pub encoding: Encoding,
    /// Topics it has.
    pub topics: usize,
    /// Bytes queued for it.
    pub queued_bytes: usize,
    /// Messages queued for it.
    pub queued_messages: u64,
    /// How long the oldest of those has waited, milliseconds.
    pub oldest_ms: Option<u32>,
    /// Whether its socket takes nothing now.
    pub blocked: bool,
    /// Whether it is being closed.
    pub closing: bool,
}

impl Shard {
    /// Calls for topics that have subscribers here, at most `places` places of the table from `from` on, with what they are
    /// compared by. Returns where to go on, unless that was all.
    pub fn walk_topics(
        &self,
        rank: TopicRank,
        (from, places): (usize, usize),
        mut visit: impl FnMut(&Topic, u64),
    ) -> Option<usize> {
        if rank == TopicRank::Publications {
            return self.home.walk((from, places), visit);
        }
        let end = self.topics.places().min(from.saturating_add(places));
        for number in from..end {
            let Some(entry) = self.topics.at(number) else { continue };
            let in_encoding = |encoding| self.topics.number(&entry.topic, encoding);
            // A topic has an entry for each encoding, and is looked at where it stands first.
            let first = Encoding::ALL.iter().find_map(|&encoding| in_encoding(encoding));
            if first != Some(number as u32) {
                continue;
            }
            let figures = self.topic_figures(&entry.topic);
            let value = match rank {
                TopicRank::Deliveries => figures.ledger.matched,
                TopicRank::Subscribers | TopicRank::Publications => figures.subscribers as u64,
            };
            visit(&entry.topic, value);
        }
        (end < self.topics.places()).then_some(end)
    }

    /// What is known here of a topic.
    pub fn topic_figures(&self, topic: &Topic) -> TopicFigures {
        let numbers = Encoding::ALL.iter().filter_map(|&encoding| self.topics.number(topic, encoding));
        let subscribers = numbers.map(|number| self.topics.entry(number).members.len()).sum();
        let ledger = self.topic_ledger(topic).unwrap_or_default();
        TopicFigures { subscribers, ledger, position: self.home.position(topic) }
    }

    /// Calls for clients that have something queued, at most `places` places of the table from `from` on, with what they are
    /// compared by. Returns where to go on, unless that was all.
    pub fn walk_queues(
        &self,
        rank: ClientRank,
        (from, places): (usize, usize),
        mut visit: impl FnMut(Key, u64),
    ) -> Option<usize> {
        let all = self.subscribers.places() as usize;
        let end = all.min(from.saturating_add(places));
        for index in from..end {
            let outbox = &self.subscribers.outboxes[index];
            if outbox.is_empty() {
                continue;
            }
            let value = match rank {
                ClientRank::Queued => outbox.bytes() as u64,
                ClientRank::Age => self.oldest_ms(index as u32).unwrap_or(0).into(),
            };
            visit(self.subscribers.key(index as u32), value);
        }
        (end < all).then_some(end)
    }

    /// What is known of a client, if it is connected.
    pub fn client_figures(&self, key: Key) -> Option<ClientFigures> {
        if !self.subscribers.lives(key) {
            return None;
        }
        let outbox = &self.subscribers.outboxes[key.index as usize];
        let profile = &self.subscribers.profiles[key.index as usize];
        Some(ClientFigures {
            user: profile.user.map(|number| self.users.user(number).clone()),
            encoding: profile.encoding,
            topics: profile.memberships.len(),
            queued_bytes: outbox.bytes(),
            queued_messages: outbox.ranges().map(|range| self.log.frames(range)).sum(),
            oldest_ms: self.oldest_ms(key.index),
            blocked: outbox.flags.has(Flags::BLOCKED),
            closing: outbox.flags.has(Flags::CLOSING),
        })
    }

    /// The secret id of a client, if it is connected: `None` inside if it has none.
    pub(crate) fn client_id(&self, key: Key) -> Option<Option<ClientId>> {
        self.subscribers.lives(key).then(|| self.subscribers.profiles[key.index as usize].client)
    }

    /// How long the oldest message queued for a subscriber has waited, milliseconds.
    fn oldest_ms(&self, index: u32) -> Option<u32> {
        let range = self.subscribers.outboxes[index as usize].ranges().next()?;
        let oldest = self.log.frames_in(range).next()?;
        Some((self.now as u32).wrapping_sub(oldest.note.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{Event, Fabric},
        settings::Settings,
    };

    fn topic(n: usize) -> Topic {
        Topic::parse(&format!("t{n}")).expect("a topic")
    }

    /// Two subscribers of topic 0, one of them in the other encoding, and one of each other.
    fn shard_of(topics: usize) -> Shard {
        let mut shard = Shard::new(0, Fabric::new(&Settings { shards: 1, ..Settings::default() }, 1));
        shard.begin_turn(1);
        let mut join = |encoding, n| {
            let key = shard.add(None, Some(User::number(7)), encoding);
            shard.set_topics(key, [topic(n)]);
            shard.attached(key);
        };
        join(Encoding::V1, 0);
        (0..topics).for_each(|n| join(Encoding::Plain, n));
        shard.sequence(usize::MAX);
        shard.take(usize::MAX);
        while let Some(event) = shard.next_event() {
            assert!(matches!(event, Event::TopicsSet { outcome: Ok(()), .. }), "{event:?}");
        }
        shard
    }

    #[test]
    fn walk_in_steps_comes_to_each_topic_once_whatever_its_encodings() {
        let shard = shard_of(9);
        for places in [1, 4, 1_000] {
            let (mut seen, mut from, mut steps) = (Vec::new(), Some(0), 0);
            while let Some(next) = from {
                from = shard.walk_topics(TopicRank::Subscribers, (next, places), |topic, value| {
                    seen.push((topic.clone(), value));
                });
                steps += 1;
            }
            assert!(steps >= 10_usize.div_ceil(places), "{steps} steps of {places}");
            seen.sort_by_key(|(topic, _)| topic.as_str().to_owned());
            let expected: Vec<_> = (0..9).map(|n| (topic(n), if n == 0 { 2 } else { 1 })).collect();
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn clients_with_nothing_queued_are_passed_over_and_those_who_are_gone_are_unknown() {
        let mut shard = shard_of(2);
        let mut seen = Vec::new();
        assert_eq!(shard.walk_queues(ClientRank::Queued, (0, 99), |key, _| seen.push(key)), None);
        assert_eq!(seen, []);
        let key = Key { index: 1, generation: 0 };
        shard.answer(key, vec![0; 30]);
        shard.walk_queues(ClientRank::Queued, (0, 99), |key, bytes| {
            seen.push(key);
            assert_eq!(bytes, 30);
        });
        assert_eq!(seen, [key]);
        let figures = shard.client_figures(key).expect("it is there");
        assert_eq!((figures.queued_bytes, figures.queued_messages, figures.topics), (30, 0, 1));
        assert_eq!((figures.user, figures.oldest_ms), (Some(User::number(7)), None));
        shard.remove(key);
        assert_eq!(shard.client_figures(key), None);
        assert_eq!(shard.client_id(key), None);
    }
}
