//! A change of a subscriber's topics: what it asks of homes, when it is in force, and what the subscriber is told.
//!
//! A join goes to the topic's home and comes back through the joiner's fanout queue, behind everything sequenced
//! before it and ahead of everything after; the subscriber enters the topic index at that moment, so it has neither
//! gap nor duplicate. A join carries a ticket; what comes back with another ticket than the pending one is discarded.
//!
//! A change is refused before anything of it is in force. Homes refuse topics that they have no record of, so where several
//! homes are to be joined, those are asked first; once all have room, nothing can be refused any more. The driver asks
//! for changes; who is a member of what, and which topics nobody wants any more, is `membership`.

use std::sync::Arc;

use super::{
    event::Event,
    history::Resume,
    home::{JoinPoint, TopicsFull},
    outbox::ControlFrame,
    replay::Elsewhere,
    shard::Shard,
    subscribers::{Key, Left, PendingAnswer, PendingTopics, Positions},
    traffic::{Join, Joined, Wanted},
};
use crate::{
    protocol::{
        error::Code,
        v1::{CommandId, encode},
    },
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

/// Joins, each with its home.
type Joins = Vec<(usize, Box<Join>)>;

impl Shard {
    /// Replaces the topics of a subscriber, as [`Self::change_topics`] does, and tells nobody but the driver.
    pub fn set_topics(&mut self, key: Key, wanted: impl Into<Arc<[Topic]>>) -> Change {
        let change = TopicChange { wanted: wanted.into(), resume: TopicMap::default(), answer: None };
        self.change_topics(key, change)
    }

    /// Replaces the topics of a subscriber. Topics kept are neither left nor joined again. The others are left when new ones
    /// are joined and not before, so that a refused change changes nothing: at the place of the answer if there is one,
    /// else when all joins have come back. A change that is still pending is given up: what it has joined and left so far
    /// stays so.
    pub fn change_topics(&mut self, key: Key, change: TopicChange) -> Change {
        let TopicChange { wanted, resume, answer } = change;
        if !self.is_open(key) {
            return Change::Done;
        }
        self.give_up_change(key.index);
        let ticket = &mut self.subscribers.profiles[key.index as usize].ticket;
        *ticket = ticket.wrapping_add(1);
        let ticket = *ticket;
        let mut joins = self.joins_of(key, &wanted, &resume);
        if joins.is_empty() {
            self.keep_only(key.index, &wanted);
            if let Some(answer) = answer {
                let positions = self.positions_of(key.index, &answer.topics);
                self.answer(key, answer.frame(positions));
            }
            return Change::Done;
        }
        let asks = self.asks_of(&joins);
        let sent = if asks.is_empty() { std::mem::take(&mut joins) } else { asks };
        let (missing, answer) = (sent.len() as u32, answer.map(PendingAnswer::new));
        let pending = PendingTopics { ticket, wanted, resume, missing, joins, left: Vec::new(), answer };
        self.subscribers.profiles[key.index as usize].pending = Some(Box::new(pending));
        self.joining.waiting.extend(sent);
        self.send_joins();
        Change::Pending
    }

    /// Takes the answer to a join: this is the join point, unless the home was only asked whether it has room.
    pub(super) fn joined(&mut self, joined: Joined) {
        let Joined { key, ticket, encoding, topics } = joined;
        self.joining.inflight -= 1;
        // A key that is gone, or another change since: what comes back is late and has no effect.
        let change = match self.subscribers.lives(key) {
            true => self.subscribers.profiles[key.index as usize]
                .pending
                .take_if(|pending| pending.ticket == ticket),
            false => None,
        };
        let is_refused = topics.iter().any(|(_, joined)| joined.is_err());
        match change {
            Some(change) if !is_refused && change.joins.is_empty() => {
                let points = topics.into_iter().filter_map(|(topic, joined)| Some((topic, joined.ok()?)));
                self.join_all(key, change, points);
            }
            change => {
                topics.iter().for_each(|(topic, _)| self.forget_join(topic, encoding));
                match change {
                    Some(change) if is_refused => self.refuse(key, *change),
                    Some(change) => self.has_room(key, change),
                    None => {}
                }
            }
        }
        self.send_joins();
    }

    /// Gives up a change that is under way: what it has joined and left so far stays so.
    pub(super) fn give_up_change(&mut self, index: u32) {
        let Some(change) = self.subscribers.profiles[index as usize].pending.take() else { return };
        self.forget_joins(&change.joins);
        if let Some(answer) = change.answer
            && answer.positions.is_some()
        {
            self.fill_and_release(index, Some(answer.gaps).filter(|gaps| !gaps.is_empty()));
        }
    }

    /// The joins of what a change wants and the subscriber does not have, and of what it has and wants the past of; with their
    /// homes. Each topic has one of its joins under way from now on.
    fn joins_of(&mut self, key: Key, wanted: &[Topic], resume: &TopicMap<Resume>) -> Joins {
        let (encoding, ticket) = {
            let profile = &self.subscribers.profiles[key.index as usize];
            (profile.encoding, profile.ticket)
        };
        let shards = self.fabric.mailboxes.shards();
        let mut joins = Joins::new();
        for topic in wanted {
            let resumed = resume.get(topic).copied();
            if resumed.is_none() && self.is_member(key.index, topic) {
                continue;
            }
            let (log, classes) = (&mut self.log, &self.fabric.classes);
            let open = || log.books.open(topic.clone(), classes.of(topic));
            let number = self.topics.number_or_insert(topic, encoding, open);
            self.topics.entry_mut(number).joins += 1;
            let home = topic.home(shards);
            let wanted = (topic.clone(), resumed);
            match joins.iter_mut().find(|(other, _)| *other == home) {
                Some((_, join)) => join.topics.push(wanted),
                None => {
                    let topics = [wanted].into_iter().collect();
                    joins.push((home, Box::new(Join { shard: self.number, key, ticket, encoding, topics })));
                }
            }
        }
        joins
    }

    /// What homes are asked before any of `joins` is sent: the same of those topics that they may have no record of, and no room
    /// for one. What somebody here has cannot be refused, for its home has a record as long as this shard wants it;
    /// nor can what a home has said that it has room for. A single home refuses all or nothing by itself.
    fn asks_of(&mut self, joins: &Joins) -> Joins {
        let mut asks = Joins::new();
        if joins.len() == 1 {
            return asks;
        }
        for (home, join) in joins {
            let Join { shard, key, ticket, encoding, .. } = **join;
            let mut topics = Wanted::new();
            for (topic, _) in &join.topics {
                let number = self.topics.number(topic, encoding).expect("it has a join under way");
                let entry = self.topics.entry_mut(number);
                if entry.members.is_empty() {
                    entry.joins += 1;
                    topics.push((topic.clone(), None));
                }
            }
            if !topics.is_empty() {
                asks.push((*home, Box::new(Join { shard, key, ticket, encoding, topics })));
            }
        }
        asks
    }

    /// A home has room for what is new to it. When all have, nothing can be refused, and the joins are sent.
    fn has_room(&mut self, key: Key, mut change: Box<PendingTopics>) {
        change.missing -= 1;
        if change.missing == 0 {
            change.missing = change.joins.len() as u32;
            // It has waited once: it goes ahead of those who have only begun.
            change.joins.drain(..).for_each(|join| self.joining.waiting.push_front(join));
        }
        self.subscribers.profiles[key.index as usize].pending = Some(change);
    }

    /// A home has no room: nothing of the change was in force.
    fn refuse(&mut self, key: Key, change: PendingTopics) {
        self.forget_joins(&change.joins);
        self.tell(Event::TopicsSet { key, outcome: Err(TopicsFull) });
        if let Some(PendingAnswer { answer, positions, gaps }) = change.answer {
            // A place is kept with the first join that comes back, and joins are sent when every home has room. Were one
            // kept all the same, nothing would be written to the subscriber until it is filled: so it is.
            debug_assert!(positions.is_none(), "what is joined in part is not refused");
            match positions {
                None => self.answer(key, answer.refusal()),
                Some(_) => self.fill_and_release(key.index, Some([answer.refusal(), gaps].concat())),
            }
        }
    }

    /// Makes a subscriber a member of topics, here and now. With the first of them it leaves what the change leaves, if it is
    /// answered.
    fn join_all(
        &mut self,
        key: Key,
        mut change: Box<PendingTopics>,
        points: impl Iterator<Item = (Topic, JoinPoint)>,
    ) {
        self.keep_place_of_answer(key.index, &mut change);
        let encoding = self.subscribers.profiles[key.index as usize].encoding;
        for (topic, point) in points {
            let number = self.take_join(&topic, encoding);
            self.join(key.index, topic, number, point, &mut change);
        }
        change.missing -= 1;
        if change.missing == 0 {
            return self.finish_change(key, *change);
        }
        if change.answer.is_some() {
            self.hold(key.index);
        }
        self.subscribers.profiles[key.index as usize].pending = Some(change);
    }

    /// Keeps a place for the answer, ahead of everything that is published to what is joined now, if that is the first. There
    /// the subscriber leaves what the change leaves.
    fn keep_place_of_answer(&mut self, index: u32, change: &mut PendingTopics) {
        let PendingTopics { answer: Some(answer), resume, wanted, left, .. } = change else { return };
        if answer.positions.is_some() {
            return;
        }
        self.subscribers.outboxes[index as usize].keep_place();
        if !resume.is_empty() {
            *left = self.leaves(index, wanted);
        }
        self.keep_only(index, wanted);
        // Those that are resumed come with their joins.
        let mut positions = self.positions_of(index, &answer.answer.topics);
        positions.retain(|(topic, ..)| !resume.contains_key(topic));
        answer.positions = Some(positions);
    }

    /// Makes a subscriber a member of a topic, here and now. What it wanted of the past is queued ahead of what comes.
    fn join(&mut self, index: u32, topic: Topic, number: u32, point: JoinPoint, change: &mut PendingTopics) {
        let JoinPoint { position, past } = point;
        self.topics.entry_mut(number).position = Some(position);
        if !self.is_member(index, &topic) {
            self.topics.join(number, index, position.offset, &mut self.subscribers);
        }
        let mut recovered = None;
        if let Some(past) = past {
            let elsewhere = Elsewhere { resume: &change.resume, left: &change.left };
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
        let PendingTopics { wanted, answer, .. } = change;
        match answer {
            None => self.keep_only(key.index, &wanted),
            Some(PendingAnswer { answer, positions, gaps }) => {
                let frame = [answer.frame(positions.unwrap_or_default()), gaps].concat();
                self.fill_and_release(key.index, Some(frame));
            }
        }
        self.tell(Event::TopicsSet { key, outcome: Ok(()) });
        if self.subscribers.outboxes[key.index as usize].is_over(self.fabric.bounds.outbox_bytes) {
            self.shorten(key.index);
        }
    }

    fn fill_and_release(&mut self, index: u32, frame: Option<ControlFrame>) {
        let outbox = &mut self.subscribers.outboxes[index as usize];
        outbox.fill_place(frame);
        self.release(index);
    }

    /// What a subscriber has besides `wanted`.
    fn leaves(&self, index: u32, wanted: &[Topic]) -> Vec<Left> {
        let memberships = self.subscribers.profiles[index as usize].memberships.iter();
        let entries = memberships.map(|membership| (membership, self.topics.entry(membership.topic)));
        let left = entries.filter(|(_, entry)| !wanted.contains(&entry.topic));
        left.filter_map(|(membership, entry)| {
            Some(Left {
                topic: entry.topic.clone(),
                has_from: membership.has_from,
                position: entry.position?,
            })
        })
        .collect()
    }

    fn positions_of(&self, index: u32, topics: &[Topic]) -> Positions {
        let memberships = self.subscribers.profiles[index as usize].memberships.iter();
        let entries = memberships.map(|membership| self.topics.entry(membership.topic));
        let asked = entries.filter(|entry| topics.contains(&entry.topic));
        asked.filter_map(|entry| Some((entry.topic.clone(), entry.position?, None))).collect()
    }
}

#[cfg(test)]
mod tests;
