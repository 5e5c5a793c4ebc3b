//! Which topics a subscriber has, the joins of a shard that are on their way to homes, and topics nobody wants any more.
//!
//! A topic is un-wanted only when its members and its joins under way are both none; joins and un-wants of a shard
//! travel the same queue, in the order in which they are decided here. `change` decides who joins and leaves what; the driver
//! leaves topics directly.

use smallvec::SmallVec;

use super::{
    encoding::Encoding,
    shard::Shard,
    subscribers::Key,
    traffic::{Ingress, Join},
};
use crate::{limits::JOINS_INFLIGHT, publication::Position, topic::Topic};

impl Shard {
    /// Leaves one topic at once. Returns whether the subscriber had it.
    pub fn leave(&mut self, key: Key, topic: &Topic) -> bool {
        if !self.subscribers.lives(key) {
            return false;
        }
        let Some(number) = self.number_for(key.index, topic) else { return false };
        let memberships = &self.subscribers.profiles[key.index as usize].memberships;
        let Some(slot) = memberships.iter().position(|membership| membership.topic == number) else {
            return false;
        };
        self.topics.leave(key.index, slot, &mut self.subscribers);
        self.list_if_unwanted(number);
        true
    }

    /// Whether a subscriber has a topic now.
    pub fn has_topic(&self, key: Key, topic: &Topic) -> bool {
        self.subscribers.lives(key) && self.is_member(key.index, topic)
    }

    /// Notes that a batch of un-wants has arrived at its home, and sends the next.
    pub(super) fn unwanted(&mut self, home: u16) {
        self.joining.unwants[usize::from(home)].inflight = false;
        self.send_unwants(home.into());
    }

    /// Leaves every topic.
    pub(super) fn leave_all(&mut self, index: u32) {
        while !self.subscribers.profiles[index as usize].memberships.is_empty() {
            let number = self.topics.leave(index, 0, &mut self.subscribers);
            self.list_if_unwanted(number);
        }
    }

    /// The topics a subscriber has now.
    pub fn topics_of(&self, key: Key) -> Vec<Topic> {
        if !self.subscribers.lives(key) {
            return Vec::new();
        }
        let memberships = self.subscribers.profiles[key.index as usize].memberships.iter();
        memberships.map(|membership| self.topics.entry(membership.topic).topic.clone()).collect()
    }

    /// Where each of these topics stands that a subscriber has: the last publication before what it gets next.
    pub fn positions(&self, key: Key) -> Vec<(Topic, Position)> {
        if !self.subscribers.lives(key) {
            return Vec::new();
        }
        let memberships = self.subscribers.profiles[key.index as usize].memberships.iter();
        let entries = memberships.map(|membership| self.topics.entry(membership.topic));
        entries.filter_map(|entry| Some((entry.topic.clone(), entry.position?))).collect()
    }

    /// The number of a topic in the encoding a subscriber gets.
    fn number_for(&self, index: u32, topic: &Topic) -> Option<u32> {
        self.topics.number(topic, self.subscribers.profiles[index as usize].encoding)
    }

    pub(super) fn keep_only(&mut self, index: u32, wanted: &[Topic]) {
        let mut keep: SmallVec<[u32; 8]> =
            wanted.iter().filter_map(|topic| self.number_for(index, topic)).collect();
        keep.sort_unstable();
        let mut slot = 0;
        while let Some(membership) = self.subscribers.profiles[index as usize].memberships.get(slot) {
            if keep.binary_search(&membership.topic).is_ok() {
                slot += 1;
                continue;
            }
            let number = self.topics.leave(index, slot, &mut self.subscribers);
            self.list_if_unwanted(number);
        }
        let memberships = &mut self.subscribers.profiles[index as usize].memberships;
        if memberships.spilled() {
            memberships.shrink_to_fit();
        }
    }

    pub(super) fn is_member(&self, index: u32, topic: &Topic) -> bool {
        let Some(number) = self.number_for(index, topic) else { return false };
        let memberships = &self.subscribers.profiles[index as usize].memberships;
        memberships.iter().any(|membership| membership.topic == number)
    }

    /// Sends as many waiting joins as may be under way.
    pub(super) fn send_joins(&mut self) {
        while self.joining.inflight < JOINS_INFLIGHT
            && let Some((home, join)) = self.joining.waiting.pop_front()
        {
            if !self.is_awaited(&join) {
                join.topics.iter().for_each(|(topic, _)| self.forget_join(topic, join.encoding));
                continue;
            }
            self.joining.inflight += 1;
            self.fabric.mailboxes.to_home(home, Ingress::Join(join));
        }
    }

    /// Whether a join that was not sent yet is still of use: its subscriber lives, and has not changed its topics again.
    fn is_awaited(&self, join: &Join) -> bool {
        let Join { key, ticket, .. } = *join;
        self.subscribers.lives(key)
            && (self.subscribers.profiles[key.index as usize].pending.as_ref())
                .is_some_and(|pending| pending.ticket == ticket)
    }

    /// Takes back joins that were not sent.
    pub(super) fn forget_joins(&mut self, joins: &[(usize, Box<Join>)]) {
        for (_, join) in joins {
            join.topics.iter().for_each(|(topic, _)| self.forget_join(topic, join.encoding));
        }
    }

    /// A join of a topic is under way no longer, and comes to nothing.
    pub(super) fn forget_join(&mut self, topic: &Topic, encoding: Encoding) {
        let number = self.take_join(topic, encoding);
        self.list_if_unwanted(number);
    }

    /// A join of a topic is under way no longer. Returns the topic's number.
    pub(super) fn take_join(&mut self, topic: &Topic, encoding: Encoding) -> u32 {
        let number = self.topics.number(topic, encoding).expect("an entry lives while a join is under way");
        self.topics.entry_mut(number).joins -= 1;
        number
    }

    /// Lists a topic to be un-wanted if it has neither members nor joins under way.
    fn list_if_unwanted(&mut self, number: u32) {
        let entry = self.topics.entry_mut(number);
        if !entry.members.is_empty() || entry.joins > 0 || entry.unwant_listed {
            return;
        }
        entry.unwant_listed = true;
        let home = entry.topic.home(self.fabric.mailboxes.shards());
        self.joining.unwants[home].listed.push(number);
        self.send_unwants(home);
    }

    /// Sends the listed topics that are still unwanted, unless a batch is under way.
    fn send_unwants(&mut self, home: usize) {
        let unwants = &mut self.joining.unwants[home];
        if unwants.inflight || unwants.listed.is_empty() {
            return;
        }
        let mut topics = Vec::with_capacity(unwants.listed.len());
        for number in std::mem::take(&mut unwants.listed) {
            let entry = self.topics.entry_mut(number);
            entry.unwant_listed = false;
            if entry.members.is_empty() && entry.joins == 0 {
                let entry = self.topics.remove(number);
                self.replays.forget(entry.book, &mut self.log);
                self.log.books.close(entry.book);
                topics.push((entry.topic, entry.encoding));
            }
        }
        if !topics.is_empty() {
            unwants.inflight = true;
            self.fabric.mailboxes.to_home(home, Ingress::Unwant { shard: self.number, topics });
        }
    }
}
