//! One shard of the engine: its subscribers, topics, logs, and the topics it is home to.
//!
//! It has never met a socket or a clock. Whoever drives it calls, each turn: [`Shard::begin_turn`] with the time,
//! [`Shard::writable`] and [`Shard::sockets_looked_at`] when it has looked, [`Shard::sequence`] (work for the home),
//! [`Shard::take`] (publications into the log, subscribers marked), [`Shard::flush`] (dirty outboxes to the transport), and
//! reads what became of it from [`Shard::next_event`]. Its state is touched by its thread only (I1), and nothing here
//! waits (I2): it computes and pushes. This file holds the life of a subscriber; membership, fan-out, flush and memory are
//! the files beside it.

use std::{collections::VecDeque, sync::Arc};

use super::{
    blocked::BlockedList,
    books::TopicLedger,
    congestion::Congestion,
    encoding::Encoding,
    event::Event,
    fabric::Fabric,
    home::{Home, TopicsFull},
    joining::{Joining, Resuming},
    log::Log,
    memory::{Outside, Rung},
    outbox::{Flags, Queued},
    passes::Passes,
    repeats::Repeats,
    replay::Replays,
    served::Served,
    subscribers::{Dirty, Key, Subscribers},
    topics::TopicIndex,
    traffic::{Fanout, Ingress, Join, Joined, Mailboxes, Manner, Part, Sequenced},
    users::UserIndex,
    watched::Tally,
};
use crate::{
    identity::{ClientId, User},
    limits,
    metrics::{Loss, ShardMetrics},
    protocol::v1::encode,
    publication::{Position, Publication},
    topic::Topic,
    websocket::Opcode,
};

/// One shard. How it is driven stands at [`crate::engine`].
#[derive(Debug)]
pub struct Shard {
    pub(super) number: u16,
    pub(super) fabric: Fabric,
    pub(super) subscribers: Subscribers,
    pub(super) topics: TopicIndex,
    pub(super) users: UserIndex,
    pub(super) log: Log,
    pub(super) home: Home,
    /// Publications with a key whose first topic has its home here.
    pub(super) repeats: Repeats,
    pub(super) joining: Joining,
    /// Joins with a replay that wait at this home.
    resuming: Resuming,
    pub(super) replays: Replays,
    /// Who was served with publications to several topics that are under way.
    pub(super) served: Served,
    /// Publications whose way to the sockets is being measured.
    pub(super) passes: Passes,
    /// Subscribers with something to write whose connection is not known to be full, in the order of marking.
    pub(super) dirty: VecDeque<Dirty>,
    /// Subscribers whose connection takes nothing now, or is not there yet; each knows its place.
    pub(super) blocked: BlockedList,
    /// Whether nothing is taken for the sake of subscribers that are far behind.
    pub(super) congestion: Congestion,
    /// Bytes ever appended to the log when the sockets were looked at last.
    pub(super) appended_at_look: u64,
    /// Closes decided during a pass, to be carried out after it.
    pub(super) doomed: Vec<(u32, Loss)>,
    /// An entry taken from the fanout queue that comes next.
    pub(super) held: Option<Fanout>,
    /// The frames of one outbox that is looked through; empty between.
    pub(super) looked_at: Vec<Queued>,
    /// What the node's memory asked for in the last turn.
    pub(super) rung: Rung,
    /// Whether the last turn left room to be made that can be made.
    pub(super) relieving: bool,
    /// How long the logs may get before the next turn looks at the node's memory, bytes.
    pub(super) may_hold: usize,
    /// The place in the blocked list up to which queues were looked through for the sake of memory.
    pub(super) thinned_out_to: usize,
    /// Bytes that connections hold, as it was said last.
    pub(super) outside: Outside,
    events: VecDeque<Event>,
    /// The time of this turn, milliseconds.
    pub(super) now: u64,
}

impl Shard {
    /// Shard `number` of the node that `fabric` describes.
    pub fn new(number: usize, fabric: Fabric) -> Self {
        let shards = fabric.mailboxes.shards();
        debug_assert!(number < shards);
        let (number, shards) = (number as u16, shards as u16);
        let (budget, classes) = (fabric.records.clone(), fabric.classes.clone());
        let home = Home::new((number, shards), fabric.node, budget, classes, limits::TOPIC_IDLE_MS);
        let repeats = Repeats::new(fabric.repeats, fabric.repeats_ms);
        Self {
            number,
            subscribers: Subscribers::default(),
            topics: TopicIndex::default(),
            users: UserIndex::default(),
            log: Log::new(),
            home,
            repeats,
            joining: Joining::new(shards),
            resuming: Resuming::default(),
            replays: Replays::default(),
            served: Served::default(),
            passes: Passes::default(),
            dirty: VecDeque::new(),
            blocked: BlockedList::default(),
            congestion: Congestion::default(),
            appended_at_look: 0,
            doomed: Vec::new(),
            held: None,
            looked_at: Vec::new(),
            rung: Rung::default(),
            relieving: false,
            may_hold: fabric.bounds.log_bytes + limits::LOG_SLACK_BYTES,
            thinned_out_to: 0,
            outside: Outside::default(),
            events: VecDeque::new(),
            now: 0,
            fabric,
        }
    }

    /// Begins a turn at `now`, in milliseconds of a clock that never goes back: frees what is overdue and, when
    /// memory is short, some of what slow subscribers hold.
    pub fn begin_turn(&mut self, now: u64) {
        self.now = now;
        self.home.expire(now);
        self.replays.expire(now, &mut self.log);
        self.repeats.expire(now);
        self.served.sweep();
        self.keep_within_memory();
        let metrics = self.metrics();
        metrics.log_bytes.set(self.log.held() as u64);
        metrics.blocked.set(self.blocked.len() as u64);
        metrics.lag_bytes.set(self.lag() as u64);
        metrics.topics.set(self.topics.len() as u64);
        metrics.subscriptions.set(self.topics.members() as u64);
        metrics.records.set(self.home.len() as u64);
        metrics.history_bytes.set(self.home.history_bytes() as u64);
    }

    /// Does the work of a home: at most `entries` entries of the ingress queue. Returns how many there were.
    pub fn sequence(&mut self, entries: usize) -> usize {
        let mailboxes = self.fabric.mailboxes.clone();
        for done in 0..entries {
            let ingress = mailboxes.ingress(self.number.into());
            let Some(entry) = self.resuming.next(ingress) else { return done };
            match entry {
                Ingress::Publish(publication, reply) => {
                    // Whoever asked may be gone; the publication goes on all the same.
                    let _gone = reply.send(self.sequence_publication(*publication, None, None, &mailboxes));
                }
                Ingress::Order(order) => self.take_order(order, &mailboxes),
                Ingress::Join(join) => self.answer_join(*join, &mailboxes),
                Ingress::Unwant { shard, topics } => {
                    for (topic, encoding) in &topics {
                        self.home.unwant(topic, (shard, *encoding), self.now);
                    }
                    mailboxes.to_shard(shard.into(), Fanout::Unwanted { home: self.number });
                }
                Ingress::Query(query) => self.answer_query(*query),
            }
        }
        entries
    }

    /// Makes a subscriber that waits for its socket; it counts as blocked until [`Self::attached`].
    pub fn add(&mut self, client: Option<ClientId>, user: Option<User>, encoding: Encoding) -> Key {
        let key = self.subscribers.add(client, encoding);
        self.block(key.index);
        self.metrics().subscribers.set(self.subscribers.len() as u64);
        if let Some(user) = user {
            self.set_user(key, user);
        }
        key
    }

    /// Keeps a place behind everything that is queued, for a subscriber that waits for its socket: it is to be filled before
    /// [`Self::attached`].
    pub fn keep_place(&mut self, key: Key) {
        if self.subscribers.lives(key) {
            debug_assert!(self.subscribers.outboxes[key.index as usize].flags.has(Flags::ATTACHING));
            self.subscribers.outboxes[key.index as usize].keep_place();
        }
    }

    /// Puts encoded frames into the place that is kept.
    pub fn fill_place(&mut self, key: Key, frames: Vec<u8>) {
        if self.subscribers.lives(key) {
            self.subscribers.outboxes[key.index as usize].fill_place(Some(frames));
        }
    }

    /// Notes to which user a subscriber belongs.
    pub fn set_user(&mut self, key: Key, user: User) {
        if self.subscribers.lives(key) {
            self.users.remove(key.index, &mut self.subscribers);
            self.users.add(user, key.index, &mut self.subscribers);
        }
    }

    /// The user to whom a subscriber belongs.
    pub fn user(&self, key: Key) -> Option<&User> {
        let profile = self.subscribers.lives(key).then(|| &self.subscribers.profiles[key.index as usize])?;
        profile.user.map(|number| self.users.user(number))
    }

    /// Notes that a subscriber has its socket. What was queued is flushed, and a close that came meanwhile carried
    /// out.
    pub fn attached(&mut self, key: Key) {
        if !self.subscribers.lives(key) {
            return;
        }
        self.subscribers.outboxes[key.index as usize].flags.clear(Flags::ATTACHING);
        self.note_arrivals_meanwhile(key.index);
        if !self.subscribers.outboxes[key.index as usize].flags.has(Flags::HELD) {
            self.unblock(key.index);
        }
        self.metrics().upgrades.add(1);
        if let Some(goodbye) = self.subscribers.take_kept_close(key) {
            self.close(key, goodbye, Manner::Flush);
        }
    }

    /// Notes that a subscriber's socket takes bytes again.
    pub fn writable(&mut self, key: Key) {
        if !self.subscribers.lives(key) {
            return;
        }
        let flags = self.subscribers.outboxes[key.index as usize].flags;
        if flags.has(Flags::HELD) {
            self.subscribers.outboxes[key.index as usize].flags.clear(Flags::HELD_FULL);
        } else if flags.has(Flags::BLOCKED) && !flags.has(Flags::ATTACHING) {
            self.unblock(key.index);
        }
    }

    /// Queues an encoded frame behind everything that is queued.
    pub fn answer(&mut self, key: Key, frame: Vec<u8>) {
        self.push_control(key, |outbox| outbox.push_in_order(frame));
    }

    /// Queues an encoded frame for the next frame boundary. A pong takes the place of one that still waits (RFC 6455
    /// section 5.5.3 lets an endpoint answer only the most recent ping), and so does a ping: a client that is alive but
    /// reads nothing would have one more of them each interval.
    pub fn answer_ahead(&mut self, key: Key, frame: Vec<u8>) {
        self.push_control(key, |outbox| {
            let first = frame[0];
            if matches!(Opcode::of(first), Some(Opcode::Ping | Opcode::Pong)) {
                outbox.withdraw_ahead(first);
            }
            outbox.push_ahead(frame);
        });
    }

    /// Forgets a subscriber, whose connection is gone or never came. What it had queued is counted lost.
    pub fn remove(&mut self, key: Key) {
        if !self.subscribers.lives(key) {
            return;
        }
        self.abandon_topics(key.index);
        let lost = self.subscribers.outboxes[key.index as usize].clear(&mut self.log, Loss::Closed);
        self.metrics().count_loss(Loss::Closed, lost);
        self.take_off_blocked(key.index);
        self.congestion.forget(key.index);
        self.users.remove(key.index, &mut self.subscribers);
        self.served.forget(key.index);
        self.subscribers.vacate(key);
        self.metrics().subscribers.set(self.subscribers.len() as u64);
    }

    /// Forgets every subscriber there still is. Returns how many there were.
    pub fn remove_all(&mut self) -> usize {
        let left = self.subscribers.len();
        for index in 0..self.subscribers.places() {
            self.remove(self.subscribers.key(index));
        }
        left
    }

    /// The next thing the driver has to know.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether a turn would find something to do now.
    pub fn has_work(&self) -> bool {
        !self.dirty.is_empty()
            || !self.events.is_empty()
            || !self.fabric.mailboxes.ingress(self.number.into()).is_empty()
            || !self.resuming.is_empty()
            || self.relieving
            || !self.holds_back() && self.has_something_to_take()
    }

    fn has_something_to_take(&self) -> bool {
        self.held.is_some() || !self.fabric.mailboxes.fanout(self.number.into()).is_empty()
    }

    /// Counts bytes that were read from a client.
    pub fn count_read(&self, bytes: usize) {
        self.metrics().bytes_read.add(bytes as u64);
    }

    /// Counts a client message or control frame that was taken.
    pub fn count_command(&self) {
        self.metrics().commands.add(1);
    }

    /// Whether the subscriber is there and not being closed.
    pub fn is_open(&self, key: Key) -> bool {
        self.subscribers.lives(key)
            && !self.subscribers.outboxes[key.index as usize].flags.has(Flags::CLOSING)
            && !self.subscribers.has_kept_close(key)
    }

    /// Subscribers there are, attaching and closing ones included.
    pub fn subscribers(&self) -> usize {
        self.subscribers.len()
    }

    /// Bytes queued for one subscriber.
    pub fn queued_bytes(&self, key: Key) -> usize {
        match self.subscribers.lives(key) {
            true => self.subscribers.outboxes[key.index as usize].bytes(),
            false => 0,
        }
    }

    /// Matched frames queued for all subscribers: the last term of I8. Walks everything; for tests and simulations.
    pub fn queued_frames(&self) -> u64 {
        let ranges = self.subscribers.outboxes.iter().flat_map(|outbox| outbox.ranges());
        ranges.map(|range| self.log.frames(range)).sum()
    }

    /// What became of a topic's frames on this shard, as far back as it remembers the topic; `None` if it has neither
    /// subscribers of the topic nor joins under way.
    pub fn topic_ledger(&self, topic: &Topic) -> Option<TopicLedger> {
        let mut ledger = None;
        for of_encoding in Encoding::ALL.iter().filter_map(|&encoding| self.ledger(topic, encoding)) {
            *ledger.get_or_insert_with(TopicLedger::default) += of_encoding;
        }
        ledger
    }

    /// Bytes the logs hold.
    pub fn log_bytes(&self) -> usize {
        self.log.held()
    }

    pub(super) fn metrics(&self) -> &ShardMetrics {
        self.fabric.metrics.shard(self.number.into())
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Notes that the connection of a subscriber takes nothing now.
    pub(super) fn block(&mut self, index: u32) {
        let outbox = &mut self.subscribers.outboxes[index as usize];
        debug_assert!(!outbox.flags.has(Flags::BLOCKED));
        outbox.flags.set(Flags::BLOCKED);
        outbox.blocked_at = self.blocked.push(index, self.congestion.clock());
    }

    /// Writes nothing to a subscriber until [`Self::release`]: it stands in the blocked list, so that its queue is found when
    /// memory is short, as any other that is not written.
    pub(super) fn hold(&mut self, index: u32) {
        let outbox = &mut self.subscribers.outboxes[index as usize];
        let flags = outbox.flags;
        if flags.has(Flags::HELD) {
            return;
        }
        outbox.flags.set(Flags::HELD);
        if !flags.has(Flags::BLOCKED) {
            self.block(index);
        } else if !flags.has(Flags::ATTACHING) {
            outbox.flags.set(Flags::HELD_FULL);
        }
    }

    /// Ends [`Self::hold`].
    pub(super) fn release(&mut self, index: u32) {
        let outbox = &mut self.subscribers.outboxes[index as usize];
        if !outbox.flags.has(Flags::HELD) {
            self.make_dirty(index);
            return;
        }
        let is_full = outbox.flags.has(Flags::HELD_FULL.and(Flags::ATTACHING));
        outbox.flags.clear(Flags::HELD.and(Flags::HELD_FULL));
        self.note_arrivals_meanwhile(index);
        if !is_full {
            self.unblock(index);
        }
    }

    /// Puts a subscriber that has something to write into the dirty list, unless it is there or blocked.
    pub(super) fn make_dirty(&mut self, index: u32) {
        let outbox = &mut self.subscribers.outboxes[index as usize];
        if outbox.flags.has(Flags::DIRTY.and(Flags::BLOCKED)) || outbox.is_empty() {
            return;
        }
        outbox.flags.set(Flags::DIRTY);
        self.dirty.push_back(Dirty { index, mark: self.log.appended() as u32 });
    }

    fn unblock(&mut self, index: u32) {
        self.take_off_blocked(index);
        if self.subscribers.outboxes[index as usize].flags.has(Flags::CONFLATES) {
            self.conflate(index);
        }
        self.make_dirty(index);
        let outbox = &self.subscribers.outboxes[index as usize];
        if outbox.is_empty() && outbox.flags.has(Flags::CLOSING) {
            let key = self.subscribers.key(index);
            self.events.push_back(Event::Ended { key });
        }
    }

    pub(super) fn take_off_blocked(&mut self, index: u32) {
        let outbox = &mut self.subscribers.outboxes[index as usize];
        if !outbox.flags.has(Flags::BLOCKED) {
            return;
        }
        outbox.flags.clear(Flags::BLOCKED);
        let place = outbox.blocked_at;
        if let Some(moved) = self.blocked.remove(place) {
            self.subscribers.outboxes[moved as usize].blocked_at = place;
        }
    }

    fn push_control(&mut self, key: Key, push: impl FnOnce(&mut super::outbox::Outbox)) {
        if !self.is_open(key) {
            return;
        }
        let outbox = &mut self.subscribers.outboxes[key.index as usize];
        push(outbox);
        if outbox.is_at_range_limit() {
            outbox.consolidate(&mut self.log);
        }
        let outbox = &self.subscribers.outboxes[key.index as usize];
        // The bytes of one that the flush has not reached are not its own fault.
        if outbox.is_at_range_limit() {
            self.close_slow(key, Loss::Bound);
        } else if outbox.is_over(self.fabric.bounds.outbox_bytes) {
            // Messages that may go make way for an answer.
            self.shorten(key.index);
        } else {
            self.make_dirty(key.index);
        }
    }

    /// Gives a publication, or one part of it, its place, and hands it to the shards that want it.
    pub(super) fn sequence_publication(
        &mut self,
        publication: Publication,
        part: Option<Part>,
        tally: Option<Tally>,
        mailboxes: &Mailboxes,
    ) -> Result<Position, TopicsFull> {
        let sequenced = self.home.sequence(&publication.topic, &publication.content, part.as_ref(), self.now);
        let (position, interested) = sequenced.inspect_err(|_| self.metrics().refused_full.add(1))?;
        self.metrics().sequenced.add(1);
        if !interested.shards().is_empty() {
            // I3: it has its offset before any shard can see it.
            let wants_v1 = !interested.in_encoding(Encoding::V1).is_empty();
            let v1 = wants_v1.then(|| {
                let also = part.as_ref().map(Part::also).unwrap_or_default();
                encode::message(&publication.topic, position.offset, &publication.content, &also)
            });
            let sequenced = Arc::new(Sequenced { publication, position, v1, part, tally });
            for shard in interested.shards().iter() {
                mailboxes.to_shard(shard, Fanout::Deliver(sequenced.clone()));
            }
        }
        Ok(position)
    }

    fn answer_join(&mut self, join: Join, mailboxes: &Mailboxes) {
        let Join { shard, key, ticket, encoding, topics } = join;
        let answer = |(topic, resume)| {
            let joined = self.home.join(&topic, (shard, encoding), resume, self.now);
            (topic, joined)
        };
        let topics = topics.into_iter().map(answer).collect();
        mailboxes.to_shard(shard.into(), Fanout::Joined(Box::new(Joined { key, ticket, encoding, topics })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{settings::Settings, websocket::frame};

    #[test]
    fn pings_and_pongs_that_still_wait_are_replaced() {
        let mut shard = Shard::new(0, Fabric::new(&Settings { shards: 1, ..Settings::default() }, 1));
        let key = shard.add(None, None, Encoding::Plain);
        for n in 0..100 {
            shard.answer_ahead(key, frame::ping().to_vec());
            shard.answer_ahead(key, frame::pong(&[n]).to_vec());
        }
        assert_eq!(shard.queued_bytes(key), frame::ping().len() + frame::pong(&[0]).len());
    }
}
