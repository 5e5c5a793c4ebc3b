//! Taking from the fanout queue: a publication into the log once, and its subscribers marked.
//!
//! A delivery is a range, not a message: marking stretches the last range of an outbox, copies no byte and touches no
//! reference count. Neighbours in the queue that are for one topic are appended together and marked in one pass.
//! A shard takes only while it keeps up: its lag is what it has appended since the head of the dirty list got there.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    encoding::{ENCODINGS, Encoding},
    frame_index::{FrameOffset, Note},
    log::{Lane, Range},
    outbox::{Flags, Pushed},
    served::ServedSet,
    shard::Shard,
    subscribers::Dirty,
    traffic::{Fanout, Kick, Sequenced},
};
use crate::{
    limits::LARGE_FRAME_BYTES,
    metrics::Loss,
    publication::{Audience, MessageKey},
};

/// Publications marked in one pass.
const RUN_MAX: u64 = 1_024;

impl Shard {
    /// Takes at most `entries` entries of the fanout queue, or runs of them, while the shard keeps up. Returns how
    /// many there were.
    pub fn take(&mut self, entries: usize) -> usize {
        let mailboxes = self.fabric.mailboxes.clone();
        self.look_for_congestion();
        for done in 0..entries {
            if !self.keeps_up() {
                return done;
            }
            let next = self.held.take().or_else(|| mailboxes.fanout(self.number.into()).pop());
            let Some(entry) = next else { return done };
            match entry {
                Fanout::Deliver(sequenced) => self.deliver(sequenced),
                Fanout::Joined(joined) => self.joined(*joined),
                Fanout::Unwanted { home } => self.unwanted(home),
                Fanout::Kick(Kick { key, goodbye, manner, credit }) => {
                    self.close(key, goodbye, manner);
                    drop(credit);
                }
                Fanout::Stop(goodbye) => self.close_all(goodbye),
            }
        }
        entries
    }

    /// Whether the shard may take more before it flushes, looks at the sockets or at the node's memory, or its audience has
    /// drained.
    pub fn keeps_up(&self) -> bool {
        !self.holds_back()
            && !self.awaits_look()
            && self.lag() <= self.fabric.bounds.shard_lag
            && self.log.held() <= self.may_hold
    }

    /// Log bytes appended since the head of the dirty list was put there.
    pub fn lag(&self) -> usize {
        let head = self.dirty.front();
        head.map_or(0, |head| (self.log.appended() as u32).wrapping_sub(head.mark) as usize)
    }

    fn deliver(&mut self, sequenced: Arc<Sequenced>) {
        let mut spots: Spots =
            Encoding::ALL.iter().filter_map(|&encoding| self.append_first(&sequenced, encoding)).collect();
        if spots.is_empty() {
            return;
        }
        self.passes.begin(sequenced.publication.credits.asked());
        let audience = sequenced.publication.content.audience.clone();
        let part = sequenced.part.clone();
        let mut served = part.as_ref().map(|part| self.served.take(part));
        let mut run = 1;
        if part.is_none() && audience.is_everyone() && spots.iter().all(|spot| !spot.is_large) {
            run = self.append_run(&sequenced, &mut spots);
        }
        // The credits of the whole run come back before the marking, which no longer needs them.
        drop(sequenced);
        let matched = self.metrics().matched.get();
        for spot in spots {
            served = self.mark(spot.number, spot.range, run, &audience, served);
            if spot.is_large {
                self.log.unpin(spot.range.segment, 1);
            }
        }
        self.passes.mark(self.log.appended() as u32, self.metrics().matched.get() != matched);
        if let Some((part, served)) = part.zip(served) {
            self.served.put_back(&part, served);
        }
    }

    /// Appends a frame for the members in one encoding, if there are any: the last may have left since, and the home has not
    /// heard of it yet.
    fn append_first(&mut self, sequenced: &Sequenced, encoding: Encoding) -> Option<Spot> {
        let publication = &sequenced.publication;
        let number = self.topics.number(&publication.topic, encoding)?;
        if self.topics.entry(number).members.is_empty() {
            return None;
        }
        let (header, body) = encoding.frame_of(sequenced)?;
        let note = self.note_of(number, sequenced);
        self.topics.entry_mut(number).position = Some(sequenced.position);
        // A later part passes over those that an earlier one was for.
        let is_first = sequenced.part.as_ref().is_none_or(|part| part.place == 0);
        let lane = Lane::of(encoding, is_first && publication.content.audience.is_everyone());
        let len = header.as_slice().len() + body.len();
        let is_large = len >= LARGE_FRAME_BYTES;
        let range = if is_large {
            // Its pin is our own, for the marking may close everyone who gets the frame, and with the last it would go.
            self.log.append_shared(header, body.clone(), note)
        } else {
            self.log.begin(lane, len);
            self.log.append(lane, header, body, note)
        };
        self.watch(&note, range, sequenced);
        Some(Spot { number, encoding, range, is_large })
    }

    /// Appends what follows in the queue and is for everyone in the same topic too, as long as it fits wherever the first
    /// was put. Returns the frames of the run.
    fn append_run(&mut self, first: &Sequenced, spots: &mut Spots) -> u64 {
        let mailboxes = self.fabric.mailboxes.clone();
        let most = self.fabric.bounds.step_bytes().min(self.fabric.bounds.shard_lag);
        let mut run = 1;
        while run < RUN_MAX && self.keeps_up() {
            let Some(next) = mailboxes.fanout(self.number.into()).pop() else { break };
            if let Fanout::Deliver(next) = &next
                && next.publication.topic == first.publication.topic
                && next.publication.content.audience.is_everyone()
                && next.part.is_none()
                && spots.iter().all(|spot| self.fits_behind(spot, next, most))
            {
                for spot in spots.iter_mut() {
                    self.append_behind(spot, next);
                }
                self.passes.begin(next.publication.credits.asked());
                run += 1;
                continue;
            }
            self.held = Some(next);
            break;
        }
        run
    }

    fn fits_behind(&self, spot: &Spot, sequenced: &Sequenced, most: usize) -> bool {
        spot.encoding.frame_of(sequenced).is_some_and(|(header, body)| {
            let len = header.as_slice().len() + body.len();
            spot.range.len() + len <= most && self.log.fits(Lane::of(spot.encoding, true), len)
        })
    }

    fn append_behind(&mut self, spot: &mut Spot, sequenced: &Sequenced) {
        let Some((header, body)) = spot.encoding.frame_of(sequenced) else { return };
        let note = self.note_of(spot.number, sequenced);
        let range = self.log.append(Lane::of(spot.encoding, true), header, body, note);
        spot.range.end = range.end;
        self.watch(&note, range, sequenced);
        self.topics.entry_mut(spot.number).position = Some(sequenced.position);
    }

    /// What the log is to know of a frame.
    fn note_of(&self, number: u32, sequenced: &Sequenced) -> Note {
        let key = sequenced.publication.content.key.as_ref();
        Note {
            book: self.topics.entry(number).book,
            at: self.now as u32,
            offset: FrameOffset::live(sequenced.position.offset),
            key: key.map_or(0, MessageKey::hash_of),
        }
    }

    /// Watches a frame that was just appended, if its publisher asked what becomes of it.
    fn watch(&mut self, note: &Note, range: Range, sequenced: &Sequenced) {
        if let Some(tally) = &sequenced.tally {
            self.log.books.hold(note.book);
            self.log.watched.watch((note.book, note.offset), (range.segment, range.end), tally.clone());
        }
    }

    /// Marks every subscriber of a topic that is in the audience and was not served with it in another topic.
    fn mark(
        &mut self,
        number: u32,
        range: Range,
        frames: u64,
        audience: &Audience,
        served: Option<ServedSet>,
    ) -> Option<ServedSet> {
        let class = self.log.books.get(self.topics.entry(number).book).class;
        let mut marked = Marked { watched: self.fabric.watched_bytes(class), served, ..Marked::default() };
        match &audience.user {
            None if audience.exclude.is_none() && marked.served.is_none() => {
                self.mark_everyone(number, range, &mut marked);
            }
            None => {
                for place in 0..self.topics.entry(number).members.len() {
                    let index = self.topics.entry(number).members[place].subscriber;
                    self.mark_one(index, range, audience, &mut marked);
                }
            }
            Some(user) => {
                if let Some(user) = self.users.number(user) {
                    self.mark_user(number, user, range, audience, &mut marked);
                }
            }
        }
        self.log.pin(range.segment, marked.ranges);
        self.metrics().matched.add(marked.subscribers * frames);
        let book = self.topics.entry(number).book;
        self.log.books.matched(book, marked.subscribers * frames);
        if !self.log.watched.is_empty() {
            self.log.watched.matched(book, marked.subscribers, self.log.appended() as u32);
        }
        if !marked.behind.is_empty() {
            // Before ranges are copied together: what was pushed is still the end of the tail.
            marked.behind.iter().for_each(|&index| self.note_arrival(index, class, range.len()));
        }
        for index in std::mem::take(&mut marked.crowded) {
            let outbox = &mut self.subscribers.outboxes[index as usize];
            outbox.consolidate(&mut self.log);
            if outbox.is_at_range_limit() {
                self.doomed.push((index, Loss::Bound));
            }
        }
        self.close_doomed();
        marked.served
    }

    /// The hot loop: one step for each subscriber of the topic.
    fn mark_everyone(&mut self, number: u32, range: Range, marked: &mut Marked) {
        let members = &self.topics.entry(number).members[..];
        let outboxes = &mut self.subscribers.outboxes[..];
        marked.subscribers = members.len() as u64;
        let mark = self.log.appended() as u32;
        let watched = marked.watched;
        // Collected here first: the dirty list would have to look at its capacity and its wrap for each one.
        let mut fresh = [Dirty { index: 0, mark }; 64];
        for members in members.chunks(fresh.len()) {
            let mut found = 0;
            for member in members {
                let index = member.subscriber;
                let outbox = &mut outboxes[index as usize];
                marked.note(index, outbox.push_range(range));
                if !outbox.flags.has(Flags::DIRTY.and(Flags::BLOCKED)) {
                    outbox.flags.set(Flags::DIRTY);
                    fresh[found].index = index;
                    found += 1;
                } else if outbox.is_over(watched) {
                    marked.behind.push(index);
                }
            }
            self.dirty.extend(&fresh[..found]);
        }
    }

    /// Marks the subscribers of a topic that belong to a user: walks the smaller of the two indexes.
    fn mark_user(&mut self, number: u32, user: u32, range: Range, audience: &Audience, marked: &mut Marked) {
        let of_user = self.users.members(user).len();
        let of_topic = self.topics.entry(number).members.len();
        if of_user <= of_topic {
            for place in 0..of_user {
                let index = self.users.members(user)[place];
                let memberships = &self.subscribers.profiles[index as usize].memberships;
                if memberships.iter().any(|membership| membership.topic == number) {
                    self.mark_one(index, range, audience, marked);
                }
            }
            return;
        }
        for place in 0..of_topic {
            let index = self.topics.entry(number).members[place].subscriber;
            if self.subscribers.profiles[index as usize].user == Some(user) {
                self.mark_one(index, range, audience, marked);
            }
        }
    }

    /// Marks a subscriber, unless it is excluded or was served.
    fn mark_one(&mut self, index: u32, range: Range, audience: &Audience, marked: &mut Marked) {
        let watched = marked.watched;
        let client = self.subscribers.profiles[index as usize].client;
        if client.is_some() && client == audience.exclude {
            return;
        }
        if let Some(served) = &mut marked.served {
            if served.has(index) {
                return;
            }
            served.insert(index);
        }
        marked.subscribers += 1;
        let outbox = &mut self.subscribers.outboxes[index as usize];
        marked.note(index, outbox.push_range(range));
        if outbox.is_over(watched) {
            marked.behind.push(index);
        }
        self.make_dirty(index);
    }
}

/// Where frames were put for the members in one encoding.
#[derive(Debug)]
struct Spot {
    number: u32,
    encoding: Encoding,
    range: Range,
    /// Whether it is a segment of its own, with a pin of ours.
    is_large: bool,
}

type Spots = SmallVec<[Spot; ENCODINGS]>;

/// What a marking pass did.
#[derive(Debug, Default)]
struct Marked {
    subscribers: u64,
    /// New ranges, each a pin.
    ranges: u32,
    /// Subscribers with as many ranges as they may have.
    crowded: Vec<u32>,
    /// Bytes queued from which on a blocked subscriber is to be looked at.
    watched: usize,
    /// Blocked subscribers with more queued than that.
    behind: Vec<u32>,
    /// Those who have it already, if it goes to several topics.
    served: Option<ServedSet>,
}

impl Marked {
    #[inline]
    fn note(&mut self, index: u32, pushed: Pushed) {
        self.ranges += u32::from(pushed != Pushed::Stretched);
        if pushed == Pushed::NewRangeAtLimit {
            self.crowded.push(index);
        }
    }
}
