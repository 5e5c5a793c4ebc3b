//! The topic index of one shard: topic → dense list of subscribers.
//!
//! Each member knows its subscriber and the place of this topic among that subscriber's memberships, and each
//! membership knows its place here, so that joining and leaving cost the same however large the topic is. An entry
//! lives while it has members or joins under way; the shard then un-wants the topic at its home and removes it.

use hashbrown::HashTable;
use slab::Slab;

use super::{
    encoding::Encoding,
    subscribers::{Membership, Subscribers},
};
use crate::{publication::Position, topic::Topic};

/// A subscriber of a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) subscriber: u32,
    /// Place of the membership in the subscriber's list.
    slot: u32,
}

/// What a shard knows of a topic in one encoding: to the index these are two different things.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) topic: Topic,
    /// The encoding in which its members get it.
    pub(crate) encoding: Encoding,
    /// The number of its book.
    pub(crate) book: u32,
    /// Where the last publication stands that its members got, or that stood before the first of them joined.
    pub(crate) position: Option<Position>,
    pub(crate) members: Vec<Member>,
    /// Joins of this shard under way at the topic's home.
    pub(crate) joins: u32,
    /// Whether it stands in the list of topics to be un-wanted.
    pub(crate) unwant_listed: bool,
}

/// The index.
#[derive(Debug, Default)]
pub(crate) struct TopicIndex {
    numbers: HashTable<u32>,
    entries: Slab<Entry>,
    /// Members of all entries.
    members: usize,
}

impl TopicIndex {
    /// The number of `topic`; it gets an entry, and the book that is opened for it, if it has none.
    pub(crate) fn number_or_insert(
        &mut self,
        topic: &Topic,
        encoding: Encoding,
        open: impl FnOnce() -> u32,
    ) -> u32 {
        if let Some(number) = self.number(topic, encoding) {
            return number;
        }
        let book = open();
        let entry = Entry {
            topic: topic.clone(),
            encoding,
            book,
            position: None,
            members: Vec::new(),
            joins: 0,
            unwant_listed: false,
        };
        let number = self.entries.insert(entry) as u32;
        let entries = &self.entries;
        self.numbers
            .insert_unique(topic.kept_hash(), number, |&other| entries[other as usize].topic.kept_hash());
        number
    }

    /// Removes an entry that nothing needs any more. Its book is to be closed.
    pub(crate) fn remove(&mut self, number: u32) -> Entry {
        let entry = self.entries.remove(number as usize);
        debug_assert!(entry.members.is_empty() && entry.joins == 0);
        if let Ok(found) = self.numbers.find_entry(entry.topic.kept_hash(), |&other| other == number) {
            found.remove();
        }
        entry
    }

    /// Makes `subscriber` a member, who has or gets everything behind the offset `has_from`; it is not one yet.
    pub(crate) fn join(
        &mut self,
        number: u32,
        subscriber: u32,
        has_from: u64,
        subscribers: &mut Subscribers,
    ) {
        let memberships = &mut subscribers.profiles[subscriber as usize].memberships;
        let members = &mut self.entries[number as usize].members;
        let slot = memberships.len() as u32;
        memberships.push(Membership { topic: number, place: members.len() as u32, has_from });
        members.push(Member { subscriber, slot });
        self.members += 1;
    }

    /// Ends the membership at `slot` of `subscriber`'s list. Returns the topic's number.
    pub(crate) fn leave(&mut self, subscriber: u32, slot: usize, subscribers: &mut Subscribers) -> u32 {
        let memberships = &mut subscribers.profiles[subscriber as usize].memberships;
        let left = memberships.swap_remove(slot);
        if let Some(moved) = memberships.get(slot) {
            self.entries[moved.topic as usize].members[moved.place as usize].slot = slot as u32;
        }
        let members = &mut self.entries[left.topic as usize].members;
        members.swap_remove(left.place as usize);
        if let Some(moved) = members.get(left.place as usize) {
            let memberships = &mut subscribers.profiles[moved.subscriber as usize].memberships;
            memberships[moved.slot as usize].place = left.place;
        }
        if members.len() * 4 < members.capacity() && members.capacity() > 64 {
            members.shrink_to(members.len() * 2);
        }
        self.members -= 1;
        left.topic
    }

    /// The number of `topic`, if it has an entry.
    pub(crate) fn number(&self, topic: &Topic, encoding: Encoding) -> Option<u32> {
        let is_it = |&number: &u32| {
            let entry = &self.entries[number as usize];
            entry.encoding == encoding && entry.topic == *topic
        };
        self.numbers.find(topic.kept_hash(), is_it).copied()
    }

    pub(crate) fn entry(&self, number: u32) -> &Entry {
        &self.entries[number as usize]
    }

    /// The entry at a place, if there is one.
    pub(crate) fn at(&self, place: usize) -> Option<&Entry> {
        self.entries.get(place)
    }

    /// Places there are, vacant ones included.
    pub(crate) fn places(&self) -> usize {
        self.entries.capacity()
    }

    pub(crate) fn entry_mut(&mut self, number: u32) -> &mut Entry {
        &mut self.entries[number as usize]
    }

    /// Members of all topics.
    pub(crate) fn members(&self) -> usize {
        self.members
    }

    /// Topics that have an entry.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(n: usize) -> Topic {
        Topic::parse(&format!("t{n}")).expect("it is a topic")
    }

    fn check(index: &TopicIndex, subscribers: &Subscribers) {
        for (subscriber, profile) in subscribers.profiles.iter().enumerate() {
            for (slot, membership) in profile.memberships.iter().enumerate() {
                let member = index.entry(membership.topic).members[membership.place as usize];
                assert_eq!((member.subscriber as usize, member.slot as usize), (subscriber, slot));
            }
        }
        let members: usize = index.entries.iter().map(|(_, entry)| entry.members.len()).sum();
        let memberships: usize = subscribers.profiles.iter().map(|profile| profile.memberships.len()).sum();
        assert_eq!((members, index.members()), (memberships, memberships));
    }

    #[test]
    fn members_and_memberships_point_at_each_other_through_any_churn() {
        let (mut index, mut subscribers) = (TopicIndex::default(), Subscribers::default());
        let keys: Vec<u32> = (0..40).map(|_| subscribers.add(None, Encoding::Plain).index).collect();
        let mut random = 1_u64;
        for _ in 0..5_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let subscriber = keys[(random >> 33) as usize % keys.len()];
            let number = index.number_or_insert(&topic((random >> 40) as usize % 9), Encoding::Plain, || 0);
            let memberships = &subscribers.profiles[subscriber as usize].memberships;
            match memberships.iter().position(|membership| membership.topic == number) {
                Some(slot) => {
                    index.leave(subscriber, slot, &mut subscribers);
                }
                None => index.join(number, subscriber, 0, &mut subscribers),
            }
            check(&index, &subscribers);
        }
    }

    #[test]
    fn removed_topic_is_gone_and_its_number_is_used_again() {
        let mut index = TopicIndex::default();
        let (a, b) = (
            index.number_or_insert(&topic(1), Encoding::Plain, || 0),
            index.number_or_insert(&topic(2), Encoding::Plain, || 0),
        );
        assert_eq!(index.remove(a).topic, topic(1));
        assert_eq!(
            (index.number(&topic(1), Encoding::Plain), index.number(&topic(2), Encoding::Plain)),
            (None, Some(b))
        );
        assert_eq!(index.number_or_insert(&topic(3), Encoding::Plain, || 0), a);
        assert_eq!(index.len(), 2);
    }
}
