//! A subscriber's topics: changes, joins under way, joins that come too late, topics nobody wants any more.
//!
//! A join goes to the topic's home and comes back through the joiner's fanout queue, behind everything sequenced
//! before it and ahead of everything after; the subscriber enters the topic index at that moment, so it has neither
//! gap nor duplicate. A join carries a ticket; what comes back with another ticket than the pending one is discarded.
//! A topic is un-wanted only when its members and its joins under way are both none; joins and un-wants of a shard
//! travel the same queue, in the order in which they are decided here.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    event::Event,
    history::Resume,
    home::{JoinPoint, TopicsFull},
    outbox::{ControlFrame, Flags},
    replay::Elsewhere,
    shard::Shard,
    subscribers::{Key, PendingAnswer, PendingTopics, Positions},
    traffic::{Ingress, Join, Joined, Wanted},
};
use crate::{
    limits::JOINS_INFLIGHT,
    metrics::Loss,
    protocol::{
        error::Code,
        v1::{CommandId, encode},
    },
    publication::Position,
    topic::{Topic, TopicMap},
    websocket::frame,
};

/// A change of a subscriber's topics.
#[derive(Clone, Debug)]
pub struct TopicChange {
    /// All topics it is to have.
    pub wanted: Arc<[Topic]>,
    /// What it wants of the past of these topics. It is replayed also of one that it has: what came live already comes again
    /// then, if it is behind what is named here.
    pub resume: TopicMap<Resume>,
    /// What it is told when the change is in force, where its protocol tells.
    pub answer: Option<Answer>,
}

/// What a subscriber is told of a change of its topics, ahead of everything that is published to new ones.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What the client calls its command.
    pub id: Option<CommandId>,
    /// The topics it named, whose positions it is told.
    pub topics: Arc<[Topic]>,
}

impl Answer {
    fn frame(&self, positions: Positions) -> ControlFrame {
        let joined: Vec<_> = positions
            .into_iter()
            .map(|(topic, position, recovered)| encode::Joined { topic, position, recovered })
            .collect();
        let mut payload = Vec::with_capacity(256);
        encode::ok_positions(&mut payload, self.id.as_ref(), &joined);
        frame::text(&payload)
    }

    fn refusal(&self) -> ControlFrame {
        let mut payload = Vec::with_capacity(128);
        encode::error(&mut payload, Code::Full, TOPICS_FULL, self.id.as_ref());
        frame::text(&payload)
    }
}

/// What a client is told whose change of topics is refused.
pub(crate) const TOPICS_FULL: &str = "the node keeps as many topics as it may; nothing was changed";

/// What a change of topics came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is in force.
    Done,
    /// It waits for its joins; [`Event::TopicsSet`] will tell.
    Pending,
}

impl Shard {
    /// Replaces the topics of a subscriber, as [`Self::change_topics`] does, and tells nobody but the driver.
    pub fn set_topics(&mut self, key: Key, wanted: impl Into<Arc<[Topic]>>) -> Change {
        let change = TopicChange { wanted: wanted.into(), resume: TopicMap::default(), answer: None };
        self.change_topics(key, change)
    }

    /// Replaces the topics of a subscriber. Topics kept are neither left nor joined again; new ones are joined first,
    /// and the others left when all joins have come back, so that a refused change changes nothing. A change that is
    /// still pending is given up: what it has joined so far is treated like any topic the subscriber has.
    pub fn change_topics(&mut self, key: Key, change: TopicChange) -> Change {
        let TopicChange { wanted, resume, answer } = change;
        if !self.is_open(key) {
            return Change::Done;
        }
        self.give_up_change(key.index);
        let encoding = self.subscribers.profiles[key.index as usize].encoding;
        let mut by_home: SmallVec<[(usize, Wanted); 2]> = SmallVec::new();
        let shards = self.common.mailboxes.shards();
        for topic in &*wanted {
            let resumed = resume.get(topic).copied();
            if resumed.is_none() && self.is_member(key.index, topic) {
                continue;
            }
            let (log, classes) = (&mut self.log, &self.common.classes);
            let open = || log.books.open(topic.clone(), classes.of(topic));
            let number = self.topics.number_or_insert(topic, encoding, open);
            self.topics.entry_mut(number).joins += 1;
            let home = topic.home(shards);
            let wanted = (topic.clone(), resumed);
            match by_home.iter_mut().find(|(other, _)| *other == home) {
                Some((_, topics)) => topics.push(wanted),
                None => by_home.push((home, [wanted].into_iter().collect())),
            }
        }
        let profile = &mut self.subscribers.profiles[key.index as usize];
        profile.ticket = profile.ticket.wrapping_add(1);
        if by_home.is_empty() {
            self.keep_only(key.index, &wanted);
            if let Some(answer) = answer {
                let positions = self.positions_of(key.index, &answer.topics);
                self.answer(key, answer.frame(positions));
            }
            return Change::Done;
        }
        let ticket = profile.ticket;
        let missing = by_home.len() as u32;
        let (joined, answer) = (Vec::new(), answer.map(PendingAnswer::new));
        let pending = PendingTopics { ticket, wanted, resume, missing, joined, refused: false, answer };
        profile.pending = Some(Box::new(pending));
        for (home, topics) in by_home {
            let join = Box::new(Join { shard: self.number, key, ticket, encoding, topics });
            self.joining.waiting.push_back((home, join));
        }
        self.send_joins();
        Change::Pending
    }

    /// Leaves one topic at once. Returns whether the subscriber had it.
    pub fn leave(&mut self, key: Key, topic: &Topic) -> bool {
        if !self.subscribers.lives(key) {
            return false;
        }
        let Some(number) = self.number_for(key.index, topic) else { return false };
        self.leave_number(key.index, number)
    }

    /// Whether a subscriber has a topic now.
    pub fn has_topic(&self, key: Key, topic: &Topic) -> bool {
        self.subscribers.lives(key) && self.is_member(key.index, topic)
    }

    /// Takes the answer to a join: this is the join point.
    pub(super) fn joined(&mut self, joined: Joined) {
        let Joined { key, ticket, encoding, topics } = joined;
        self.joining.inflight -= 1;
        // A key that is gone, or another change since: what comes back is late and has no effect.
        let mut change = match self.subscribers.lives(key) {
            true => self.subscribers.profiles[key.index as usize]
                .pending
                .take_if(|pending| pending.ticket == ticket),
            false => None,
        };
        if let Some(PendingTopics { answer: Some(answer), resume, wanted, .. }) = change.as_deref_mut()
            && answer.positions.is_none()
        {
            // Its place is ahead of everything that is published to what is joined now.
            self.subscribers.outboxes[key.index as usize].keep_place();
            // Those that are resumed come with their joins.
            let mut positions = self.positions_of(key.index, &answer.answer.topics);
            positions.retain(|(topic, ..)| !resume.contains_key(topic));
            answer.positions = Some(positions);
            let leaves = self.numbers_but(key.index, wanted).into_iter();
            answer.left = leaves.map(|number| (number, self.topics.entry(number).position)).collect();
        }
        for (topic, joined) in topics {
            let number =
                self.topics.number(&topic, encoding).expect("an entry lives while a join is under way");
            self.topics.entry_mut(number).joins -= 1;
            if let Some(change) = &mut change {
                match joined {
                    Err(TopicsFull) => change.refused = true,
                    Ok(point) => self.join(key.index, topic, number, point, change),
                }
            }
            self.list_if_unwanted(number);
        }
        if let Some(mut change) = change {
            change.missing -= 1;
            if change.missing == 0 {
                self.finish_change(key, *change);
            } else {
                if change.answer.is_some() {
                    self.hold(key.index);
                }
                self.subscribers.profiles[key.index as usize].pending = Some(change);
            }
        }
        self.send_joins();
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

    /// Gives up a change that is under way: what it has joined so far is treated like any topic the subscriber has.
    pub(super) fn give_up_change(&mut self, index: u32) {
        let pending = self.subscribers.profiles[index as usize].pending.take();
        if let Some(answer) = pending.and_then(|pending| pending.answer)
            && answer.positions.is_some()
        {
            self.fill_and_release(index, Some(answer.gaps).filter(|gaps| !gaps.is_empty()));
        }
    }

    /// Makes a subscriber a member of a topic, here and now. What it wanted of the past is queued ahead of what comes.
    fn join(&mut self, index: u32, topic: Topic, number: u32, point: JoinPoint, change: &mut PendingTopics) {
        let JoinPoint { position, past } = point;
        self.topics.entry_mut(number).position = Some(position);
        if !self.is_member(index, &topic) {
            self.topics.join(number, index, position.offset, &mut self.subscribers);
            change.joined.push(number);
        }
        let mut recovered = None;
        if let Some(past) = past {
            let left = change.answer.as_ref().map_or(&[][..], |answer| &answer.left);
            let elsewhere = Elsewhere { resume: &change.resume, left };
            let replayed = self.replay((index, number), *past, position, &elsewhere);
            self.has_from(index, number, replayed.from);
            recovered = replayed.recovered;
            match &mut change.answer {
                Some(answer) => answer.gaps.extend(replayed.gap.unwrap_or_default()),
                None => self.tell_gap(index, replayed.gap),
            }
            self.queue(index, number, &replayed.ranges);
        }
        if let Some(positions) = change.answer.as_mut().and_then(|answer| answer.positions.as_mut()) {
            positions.push((topic, position, recovered));
        }
    }

    fn finish_change(&mut self, key: Key, change: PendingTopics) {
        let PendingTopics { wanted, joined, refused, answer, .. } = change;
        let outcome = if refused {
            if answer.is_some() {
                self.drop_behind_place(key.index, &joined);
            }
            for number in joined {
                self.leave_number(key.index, number);
            }
            Err(TopicsFull)
        } else {
            if answer.is_some() {
                let leaves = self.numbers_but(key.index, &wanted);
                self.drop_behind_place(key.index, &leaves);
            }
            self.keep_only(key.index, &wanted);
            Ok(())
        };
        if let Some(PendingAnswer { answer, positions, gaps, .. }) = answer {
            let frame = match refused {
                // What was resumed of topics it has follows a refusal too.
                true => [answer.refusal(), gaps].concat(),
                false => [answer.frame(positions.unwrap_or_default()), gaps].concat(),
            };
            self.fill_and_release(key.index, Some(frame));
        }
        self.tell(Event::TopicsSet { key, outcome });
        if self.subscribers.outboxes[key.index as usize].is_over(self.common.bounds.outbox_bytes) {
            self.shorten(key.index);
        }
    }

    fn fill_and_release(&mut self, index: u32, frame: Option<ControlFrame>) {
        let outbox = &mut self.subscribers.outboxes[index as usize];
        outbox.fill_place(frame);
        self.release(index);
    }

    /// Throws away what is queued of topics behind the place that is kept for the answer (I10): of those that are left with
    /// the change, or were joined by one that is refused. So the subscriber leaves at that place, whenever the last home
    /// answers; to move the frames ahead of it would put them ahead of what was published before them.
    fn drop_behind_place(&mut self, index: u32, numbers: &[u32]) {
        let books: SmallVec<[u32; 8]> =
            numbers.iter().map(|&number| self.topics.entry(number).book).collect();
        let ahead = self.subscribers.outboxes[index as usize].frames_ahead_of_place(&self.log);
        self.drop_chosen(index, false, |_, frames, losses| {
            for (frame, loss) in frames.iter().zip(losses).skip(ahead) {
                if books.contains(&frame.note.book) {
                    *loss = Some(Loss::Left);
                }
            }
        });
        self.subscribers.outboxes[index as usize].forget_gaps_behind_place(&books, &mut self.log);
    }

    /// Whether a change that waits for its answer takes a topic from a subscriber, which has been told nothing of it yet.
    pub(super) fn is_leaving(&self, index: u32, number: u32) -> bool {
        self.subscribers.outboxes[index as usize].flags.has(Flags::HELD)
            && (self.subscribers.profiles[index as usize].pending.as_ref())
                .is_some_and(|pending| !pending.wanted.contains(&self.topics.entry(number).topic))
    }

    /// The topics a subscriber has besides `wanted`.
    fn numbers_but(&self, index: u32, wanted: &[Topic]) -> SmallVec<[u32; 8]> {
        let memberships = self.subscribers.profiles[index as usize].memberships.iter();
        let numbers = memberships.map(|membership| membership.topic);
        numbers.filter(|&number| !wanted.contains(&self.topics.entry(number).topic)).collect()
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

    fn positions_of(&self, index: u32, topics: &[Topic]) -> Positions {
        let memberships = self.subscribers.profiles[index as usize].memberships.iter();
        let entries = memberships.map(|membership| self.topics.entry(membership.topic));
        let asked = entries.filter(|entry| topics.contains(&entry.topic));
        asked.filter_map(|entry| Some((entry.topic.clone(), entry.position?, None))).collect()
    }

    /// The number of a topic in the encoding a subscriber gets.
    fn number_for(&self, index: u32, topic: &Topic) -> Option<u32> {
        self.topics.number(topic, self.subscribers.profiles[index as usize].encoding)
    }

    fn keep_only(&mut self, index: u32, wanted: &[Topic]) {
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

    fn leave_number(&mut self, index: u32, number: u32) -> bool {
        let memberships = &self.subscribers.profiles[index as usize].memberships;
        let Some(slot) = memberships.iter().position(|membership| membership.topic == number) else {
            return false;
        };
        self.topics.leave(index, slot, &mut self.subscribers);
        self.list_if_unwanted(number);
        true
    }

    fn is_member(&self, index: u32, topic: &Topic) -> bool {
        let Some(number) = self.number_for(index, topic) else { return false };
        let memberships = &self.subscribers.profiles[index as usize].memberships;
        memberships.iter().any(|membership| membership.topic == number)
    }

    /// Sends as many waiting joins as may be under way.
    fn send_joins(&mut self) {
        while self.joining.inflight < JOINS_INFLIGHT
            && let Some((home, join)) = self.joining.waiting.pop_front()
        {
            if !self.is_awaited(&join) {
                self.forget_join(&join);
                continue;
            }
            self.joining.inflight += 1;
            self.common.mailboxes.to_home(home, Ingress::Join(join));
        }
    }

    /// Whether a join that was not sent yet is still of use: its subscriber lives, and has not changed its topics again.
    fn is_awaited(&self, join: &Join) -> bool {
        let Join { key, ticket, .. } = *join;
        self.subscribers.lives(key)
            && (self.subscribers.profiles[key.index as usize].pending.as_ref())
                .is_some_and(|pending| pending.ticket == ticket)
    }

    /// Takes back a join that was not sent.
    fn forget_join(&mut self, join: &Join) {
        for (topic, _) in &join.topics {
            let number = self.topics.number(topic, join.encoding).expect("an entry lives while a join waits");
            self.topics.entry_mut(number).joins -= 1;
            self.list_if_unwanted(number);
        }
    }

    /// Lists a topic to be un-wanted if it has neither members nor joins under way.
    fn list_if_unwanted(&mut self, number: u32) {
        let entry = self.topics.entry_mut(number);
        if !entry.members.is_empty() || entry.joins > 0 || entry.unwant_listed {
            return;
        }
        entry.unwant_listed = true;
        let home = entry.topic.home(self.common.mailboxes.shards());
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
            self.common.mailboxes.to_home(home, Ingress::Unwant { shard: self.number, topics });
        }
    }
}

#[cfg(test)]
mod tests;
