//! Replay: what a subscriber that joins gets of a topic's history, queued as ranges of the log like what is live.
//!
//! A shard encodes a history once for everyone who comes within a moment, whatever offsets they come with: the frames
//! stand in the log one behind the other, those for everyone apart from those that are not, and each subscriber gets the
//! ranges behind its offset. What is published meanwhile is appended to them when the next one comes. Whoever shares a
//! replay pins the same segments, so ten thousand who resume together cost one history. A change of topics calls it at the join
//! point; it never shows anybody what was not meant for it, nor what it has by another topic of
//! the same publication.

use std::{collections::VecDeque, sync::Arc};

use smallvec::SmallVec;

use super::{
    encoding::Encoding,
    frame_index::{FrameOffset, Note},
    history::{Kept, Missed, Past, Resume, Run, Stretch},
    log::{Lane, Log, Range},
    outbox::{ControlFrame, Flags, Pushed},
    shard::Shard,
    subscribers::Left,
};
use crate::{
    classes::Policy,
    limits::{BEHIND_QUARTERS, LARGE_FRAME_BYTES, REPLAY_SHARED_MS, REPLAYS_SHARED},
    protocol::v1::encode::{self, GapReason},
    publication::{Audience, Epoch, MessageKey, Position},
    topic::{Topic, TopicMap},
    websocket::frame,
};

const _: () = assert!(BEHIND_QUARTERS > 2, "one replay, half a bound, makes nobody fall behind");

/// What a subscriber gets of the past.
#[derive(Debug)]
pub(super) struct Replayed {
    /// Whether it is all that it asked for; `None` if it could not ask for too much.
    pub(super) recovered: Option<bool>,
    /// The frame that says what is missing, where its protocol tells.
    pub(super) gap: Option<ControlFrame>,
    /// The frames.
    pub(super) ranges: Ranges,
    /// The offset behind which it gets everything.
    pub(super) from: u64,
}

pub(super) type Ranges = SmallVec<[Range; 8]>;

/// The replays of one shard that were asked for a moment ago, the oldest first; at most [`REPLAYS_SHARED`].
#[derive(Debug, Default)]
pub(super) struct Replays(VecDeque<Chain>);

/// The history of one topic in one encoding, in the log. It holds a pin for each of its frames.
#[derive(Debug)]
struct Chain {
    /// The topic's book; it stays the topic's as long as its frames are in the log.
    book: u32,
    epoch: Epoch,
    /// When it was begun, milliseconds.
    begun: u64,
    /// In the order of their offsets.
    frames: Vec<Frame>,
}

#[derive(Debug)]
struct Frame {
    offset: u64,
    range: Range,
    /// The message, if not everyone gets it: it is meant for some, or some have it by another of its topics.
    particular: Option<Arc<Kept>>,
}

/// What a change of topics says of topics besides the one that is replayed.
pub(super) struct Elsewhere<'a> {
    /// Topics it resumes, which are not all joined yet.
    pub(super) resume: &'a TopicMap<Resume>,
    /// Topics it has left.
    pub(super) left: &'a [Left],
}

/// A topic as its subscribers in one encoding get it.
struct Source<'a> {
    topic: &'a Topic,
    encoding: Encoding,
    book: u32,
    now: u64,
}

impl Shard {
    /// What a subscriber that has just become a member of a topic, whose last position is `head`, gets of its past. What it
    /// may have by other topics depends on the `change`.
    pub(super) fn replay(
        &mut self,
        (index, number): (u32, u32),
        past: Past,
        head: Position,
        change: &Elsewhere<'_>,
    ) -> Replayed {
        let Past { part, missed, run } = past;
        let entry = self.topics.entry(number);
        let (book, encoding) = (entry.book, entry.encoding);
        let source = Source { topic: &entry.topic, encoding, book, now: self.now };
        let at = self.replays.share(&source, head.epoch, &run, &mut self.log);
        let chain = &self.replays.0[at];
        // What the shared replay has besides is gone from the history, and was counted as missed.
        let oldest = run.first().map_or(head.offset + 1, |kept| kept.offset);
        let (behind, most) = match part {
            Stretch::Behind(offset) => (offset, usize::MAX),
            Stretch::Last(most) => (0, most as usize),
        };
        let first = chain.frames.partition_point(|frame| frame.offset <= behind || frame.offset < oldest);
        let frames = &chain.frames[first..];
        // After a reset nothing counts that it says it has.
        let is_reset = missed.is_some_and(|missed| missed.reason == GapReason::Reset);
        let is_meant = |frame: &Frame| {
            frame.particular.as_ref().is_none_or(|kept| {
                self.is_meant(index, &kept.content.audience)
                    && (is_reset || !self.has_elsewhere(index, kept, change))
            })
        };
        let fitting = fitting(frames, most, self.replay_bytes(index, book), is_meant);
        let mut ranges = Ranges::new();
        for frame in frames[fitting..].iter().filter(|frame| is_meant(frame)) {
            match ranges.last_mut() {
                Some(last) if (last.segment, last.end) == (frame.range.segment, frame.range.start) => {
                    last.end = frame.range.end;
                }
                _ => ranges.push(frame.range),
            }
        }
        let from = frames.get(fitting).map_or(head.offset, |frame| frame.offset - 1);
        if matches!(part, Stretch::Last(_)) {
            return Replayed { recovered: None, gap: None, ranges, from };
        }
        let without_room = frames[..fitting].iter().filter(|frame| is_meant(frame)).count() as u64;
        let metrics = self.metrics();
        let outcome = if missed.is_none() && without_room == 0 {
            &metrics.resumes_whole
        } else {
            &metrics.resumes_short
        };
        outcome.add(1);
        let dropped = missed.map_or(0, |missed| missed.count()) + without_room;
        let missed = match without_room {
            0 => missed,
            _ => Some(Missed {
                from: missed.map_or(behind + 1, |missed| missed.from),
                to: frames.get(fitting).map_or(head.offset, |frame| frame.offset - 1),
                reason: missed.map_or(GapReason::History, |missed| missed.reason),
            }),
        };
        let gap = missed.filter(|_| encoding.tells()).map(|missed| {
            let Missed { from, to, reason } = missed;
            let mut payload = Vec::with_capacity(160);
            let gap = encode::Gap { from, to, reason, conflated: 0, dropped };
            encode::gap(&mut payload, source.topic, &gap);
            frame::text(&payload)
        });
        Replayed { recovered: Some(missed.is_none()), gap, ranges, from }
    }

    /// Notes that a member of a topic has everything behind an offset.
    pub(super) fn has_from(&mut self, index: u32, number: u32, offset: u64) {
        let memberships = self.subscribers.profiles[index as usize].memberships.iter_mut();
        for membership in memberships.filter(|membership| membership.topic == number) {
            membership.has_from = membership.has_from.min(offset);
        }
    }

    /// Queues frames of a topic for one subscriber, which are matched by that.
    pub(super) fn queue(&mut self, index: u32, number: u32, ranges: &[Range]) {
        let mut frames = 0;
        for &range in ranges {
            frames += self.log.frames(range);
            let outbox = &mut self.subscribers.outboxes[index as usize];
            let pushed = outbox.push_range(range);
            if pushed != Pushed::Stretched {
                self.log.pin(range.segment, 1);
            }
            if pushed == Pushed::NewRangeAtLimit {
                outbox.consolidate(&mut self.log);
            }
        }
        let metrics = self.metrics();
        metrics.matched.add(frames);
        metrics.replayed.add(frames);
        let book = self.topics.entry(number).book;
        self.log.books.matched(book, frames);
        let policy = self.fabric.rules[self.log.books.get(book).class.index()].policy;
        let flags = &mut self.subscribers.outboxes[index as usize].flags;
        if policy == Policy::Conflate {
            flags.set(Flags::CONFLATES);
        }
        if policy != Policy::DropNewest {
            flags.clear(Flags::ONLY_NEWEST);
        }
        self.make_dirty(index);
    }

    /// Queues a gap for a subscriber that gets no answer.
    pub(super) fn tell_gap(&mut self, index: u32, gap: Option<ControlFrame>) {
        if let Some(gap) = gap {
            self.subscribers.outboxes[index as usize].push_in_order(gap);
            self.make_dirty(index);
        }
    }

    /// Bytes that may be replayed to a subscriber: half of the bound of the topic's class, and no more than leaves it a
    /// quarter of that bound for what comes then, also when it resumes many topics at once. So a replay alone never
    /// makes a slow consumer.
    fn replay_bytes(&self, index: u32, book: u32) -> usize {
        let class = self.log.books.get(book).class;
        let bound = self.fabric.rules[class.index()].outbox_bytes;
        let queued = self.subscribers.outboxes[index as usize].bytes();
        (bound / 2).min((bound / 4 * BEHIND_QUARTERS).saturating_sub(queued))
    }

    /// Whether a subscriber has a message that went to several topics by another of them: it is a member there and got it; or
    /// it resumes that one too, from behind it, and so says that it has it.
    fn has_elsewhere(&self, index: u32, kept: &Kept, change: &Elsewhere<'_>) -> bool {
        let Some(part) = &kept.part else { return false };
        part.elsewhere().any(|(topic, position)| {
            let says_so = match change.resume.get(topic) {
                Some(Resume::Since { epoch, offset }) => {
                    *epoch == Some(position.epoch) && position.offset <= *offset
                }
                Some(Resume::Last(_)) | None => false,
            };
            says_so || self.got(index, topic, position, change)
        })
    }

    /// Whether a subscriber, as a member of a topic, got what stands at a position, live or replayed.
    fn got(&self, index: u32, topic: &Topic, position: Position, change: &Elsewhere<'_>) -> bool {
        let is_within = |from: u64, to: Position| {
            from < position.offset && to.epoch == position.epoch && position.offset <= to.offset
        };
        if let Some(left) = change.left.iter().find(|left| left.topic == *topic) {
            return is_within(left.has_from, left.position);
        }
        let profile = &self.subscribers.profiles[index as usize];
        let Some(number) = self.topics.number(topic, profile.encoding) else { return false };
        let mut memberships = profile.memberships.iter();
        let membership = memberships.find(|membership| membership.topic == number);
        membership
            .zip(self.topics.entry(number).position)
            .is_some_and(|(membership, position)| is_within(membership.has_from, position))
    }

    fn is_meant(&self, index: u32, audience: &Audience) -> bool {
        let profile = &self.subscribers.profiles[index as usize];
        let is_users = |user| profile.user.is_some() && self.users.number(user) == profile.user;
        let is_excluded = profile.client.is_some() && profile.client == audience.exclude;
        audience.user.as_ref().is_none_or(is_users) && !is_excluded
    }
}

/// The place of the first of `frames` from which on no more than `most` are meant for somebody, and no more than `bytes`
/// bytes of them.
fn fitting(frames: &[Frame], most: usize, bytes: usize, is_meant: impl Fn(&Frame) -> bool) -> usize {
    let (mut count, mut len) = (0, 0);
    for (at, frame) in frames.iter().enumerate().rev() {
        if is_meant(frame) {
            count += 1;
            len += frame.range.len();
            if count > most || len > bytes {
                return at + 1;
            }
        }
    }
    0
}

impl Replays {
    /// Lets go of what was begun too long ago to be shared.
    pub(super) fn expire(&mut self, now: u64, log: &mut Log) {
        while self.0.front().is_some_and(|oldest| oldest.begun + REPLAY_SHARED_MS <= now) {
            self.drop_oldest(log);
        }
    }

    /// Lets go of what nobody can share any more: the topic has no subscriber left, and those who come get another book.
    pub(super) fn forget(&mut self, book: u32, log: &mut Log) {
        if let Some(at) = self.0.iter().position(|chain| chain.book == book) {
            self.0.remove(at).expect("it was found there").unpin(log);
        }
    }

    /// Lets go of everything.
    pub(super) fn clear(&mut self, log: &mut Log) {
        while !self.0.is_empty() {
            self.drop_oldest(log);
        }
    }

    /// Has a topic's history in the log, up to the end of `run`. Returns the place of the chain.
    fn share(&mut self, source: &Source<'_>, epoch: Epoch, run: &Run, log: &mut Log) -> usize {
        let found = self.0.iter().position(|chain| chain.book == source.book && chain.epoch == epoch);
        let at = found.unwrap_or_else(|| {
            if self.0.len() == REPLAYS_SHARED {
                self.drop_oldest(log);
            }
            self.0.push_back(Chain { book: source.book, epoch, begun: source.now, frames: Vec::new() });
            self.0.len() - 1
        });
        self.0[at].extend(source, run, log);
        at
    }

    fn drop_oldest(&mut self, log: &mut Log) {
        if let Some(oldest) = self.0.pop_front() {
            oldest.unpin(log);
        }
    }
}

impl Chain {
    /// Appends what of `run` it does not have yet.
    fn extend(&mut self, source: &Source<'_>, run: &Run, log: &mut Log) {
        let last = self.frames.last().map_or(0, |frame| frame.offset);
        let first = run.partition_point(|kept| kept.offset <= last);
        self.frames.reserve(run.len() - first);
        for kept in &run[first..] {
            let range = source.append(kept, log);
            let is_for_everyone = kept.content.audience.is_everyone() && kept.part.is_none();
            let particular = (!is_for_everyone).then(|| kept.clone());
            self.frames.push(Frame { offset: kept.offset, range, particular });
        }
    }

    fn unpin(self, log: &mut Log) {
        self.frames.iter().for_each(|frame| log.unpin(frame.range.segment, 1));
    }
}

impl Source<'_> {
    /// Appends the frame of one message to the log, pinned once.
    fn append(&self, kept: &Kept, log: &mut Log) -> Range {
        let key = kept.content.key.as_ref();
        let note = Note {
            book: self.book,
            at: self.now as u32,
            offset: FrameOffset::replayed(kept.offset),
            key: key.map_or(0, MessageKey::hash_of),
        };
        let (header, body) = self.encoding.frame_of_kept(self.topic, kept);
        let len = header.as_slice().len() + body.len();
        if len >= LARGE_FRAME_BYTES {
            return log.append_shared(header, body, note);
        }
        let lane = match kept.content.audience.is_everyone() {
            true => Lane::Replayed,
            false => Lane::ReplayedAddressed,
        };
        log.begin(lane, len);
        let range = log.append(lane, header, &body, note);
        log.pin(range.segment, 1);
        range
    }
}

#[cfg(test)]
mod tests;
