//! What becomes of subscribers whose queue is at its bound, or holds frames that are too old.
//!
//! Only *blocked* subscribers are judged here, never one that the flush has not reached. The class of each frame decides:
//! frames of some classes make way for others, whole, and are counted in the books of their topics (I8); where no
//! frame may go, the slow consumer is disconnected (1013). Whoever looks through a queue frees more than it must where it
//! may, so that the next look is some frames away: a stalled subscriber costs the others a few steps a frame.

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use super::{
    frame_index::Note,
    outbox::{Flags, Queued},
    shard::Shard,
};
use crate::{
    classes::{Class, ClassId, Policy},
    metrics::Loss,
    settings::Settings,
};

/// What is freed more than needed when the oldest frames are dropped: this part of the bound.
const SPARE_PART: usize = 8;

/// What a class says of slow consumers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) policy: Policy,
    /// Bytes that may be queued for a blocked subscriber when a frame of the class arrives.
    pub(super) outbox_bytes: usize,
    /// Milliseconds that a frame may be queued for one.
    pub(super) age_ms: u32,
}

impl Rule {
    pub(super) fn new(class: &Class, settings: &Settings) -> Self {
        let age = class.outbox_age.min(settings.outbox_age).as_millis();
        Self {
            policy: class.policy,
            outbox_bytes: class.outbox_bytes.min(settings.outbox_bytes),
            age_ms: u32::try_from(age).unwrap_or(u32::MAX),
        }
    }
}

impl Shard {
    /// Looks at a blocked subscriber that has so much queued that frames of `class`, the last `pushed` bytes, may be too much.
    #[cold]
    pub(super) fn note_arrival(&mut self, index: u32, class: ClassId, pushed: usize) {
        let rule = self.fabric.rules[class.index()];
        let flags = &mut self.subscribers.outboxes[index as usize].flags;
        if rule.policy == Policy::Conflate {
            flags.set(Flags::CONFLATES);
        }
        if rule.policy != Policy::DropNewest {
            flags.clear(Flags::ONLY_NEWEST);
        }
        let bytes = |shard: &Self| shard.subscribers.outboxes[index as usize].bytes();
        let has_room = bytes(self) <= rule.outbox_bytes || self.make_room(index, rule, pushed);
        if rule.policy != Policy::Disconnect {
            // Nobody is waited for where messages may go.
            if !has_room {
                self.doomed.push((index, Loss::Bound));
            }
        } else if !has_room && rule.outbox_bytes < self.fabric.bounds.outbox_bytes {
            self.doomed.push((index, Loss::Bound));
        } else if bytes(self) > self.fabric.bounds.behind_bytes() {
            self.note_behind(index);
        }
    }

    /// Notes what a subscriber may have got while nobody looked, because it waited for its socket or for an answer.
    pub(super) fn note_arrivals_meanwhile(&mut self, index: u32) {
        let flags = &mut self.subscribers.outboxes[index as usize].flags;
        flags.clear(Flags::ONLY_NEWEST);
        if self.fabric.conflates {
            flags.set(Flags::CONFLATES);
        }
    }

    /// Makes room in a blocked subscriber's queue, which is over the bound of the class of the frames that have just
    /// arrived, the last `pushed` bytes: conflates, drops the oldest, drops what arrived, as classes say. Returns whether
    /// the subscriber may stay.
    ///
    /// Only frames whose class has no larger bound make way, so that a class that may have little queued does not
    /// empty the queue of one that may have more.
    fn make_room(&mut self, index: u32, rule: Rule, pushed: usize) -> bool {
        let outbox = &mut self.subscribers.outboxes[index as usize];
        let bound = rule.outbox_bytes;
        if outbox.flags.has(Flags::ONLY_NEWEST) {
            debug_assert_eq!(rule.policy, Policy::DropNewest);
            let tells = self.subscribers.profiles[index as usize].encoding.tells();
            let lost = outbox.cut_newest(pushed, bound, (tells, Loss::Bound), &mut self.log);
            self.metrics().count_loss(Loss::Bound, lost);
            return true;
        }
        let over = outbox.bytes() - bound;
        if self.free(index, over, bound, &[Policy::DropOldest]) >= over {
            return true;
        }
        match rule.policy {
            Policy::DropNewest => {
                let outbox = &mut self.subscribers.outboxes[index as usize];
                let tells = self.subscribers.profiles[index as usize].encoding.tells();
                let lost = outbox.cut_newest(pushed, bound, (tells, Loss::Bound), &mut self.log);
                outbox.flags.set(Flags::ONLY_NEWEST);
                self.metrics().count_loss(Loss::Bound, lost);
                true
            }
            // What arrived has gone with the others: there is more of classes that may have more.
            Policy::DropOldest => true,
            Policy::Disconnect | Policy::Conflate => false,
        }
    }

    /// Makes room in the queue of a blocked subscriber that is over the largest bound, whatever arrived last, and disconnects
    /// it if that is not enough.
    pub(super) fn shorten(&mut self, index: u32) {
        if !self.drop_what_may_go(index) {
            self.close_slow(self.subscribers.key(index), Loss::Bound);
        }
    }

    /// Makes room in a queue that is over the largest bound: what may be conflated is, then the oldest and last the newest
    /// frames of classes that let them go are dropped. Says whether it is within its bound now.
    pub(super) fn drop_what_may_go(&mut self, index: u32) -> bool {
        let bound = self.fabric.bounds.outbox_bytes;
        let bytes = |shard: &Self| shard.subscribers.outboxes[index as usize].bytes();
        // A gap that tells of it takes room too, so that one look may not be enough.
        loop {
            let before = bytes(self);
            if before <= bound {
                return true;
            }
            self.free(index, before - bound, bound, &[Policy::DropOldest, Policy::DropNewest]);
            if bytes(self) >= before {
                // The rest of a frame that is partly written is finished, whatever its class.
                return self.subscribers.outboxes[index as usize].bytes_behind_rest() <= bound;
            }
        }
    }

    /// Frees at least `over` bytes of a queue, if so much may go: what younger messages replace, and if that is not enough
    /// frames of the classes with these policies, one after the other, and some to spare. Nothing goes of a class with a
    /// larger bound than `bound`. Returns the bytes of what went.
    fn free(&mut self, index: u32, over: usize, bound: usize, policies: &[Policy]) -> usize {
        let rules = self.fabric.rules.clone();
        let mut freed = 0;
        self.look_through(index, |shard, frames, losses| {
            let may_go = |frame: &Queued, policy| {
                let of = rules[shard.log.books.get(frame.note.book).class.index()];
                of.policy == policy && of.outbox_bytes <= bound
            };
            freed = mark_replaced(frames, losses, |frame| may_go(frame, Policy::Conflate));
            if freed >= over {
                return;
            }
            let wanted = over + bound / SPARE_PART;
            let mut drop = |(frame, loss): (&Queued, &mut Option<Loss>), policy| {
                if freed < wanted && may_go(frame, policy) {
                    *loss = Some(Loss::Bound);
                    freed += frame.range.len();
                }
            };
            for &policy in policies {
                let oldest_first = frames.iter().zip(losses.iter_mut());
                match policy {
                    Policy::DropNewest => oldest_first.rev().for_each(|one| drop(one, policy)),
                    _ => oldest_first.for_each(|one| drop(one, policy)),
                }
            }
        });
        freed
    }

    /// Throws away the queued frames of a subscriber that younger ones with their topic and key replace. A survivor keeps
    /// its own place, so that offsets stay ascending.
    pub(super) fn conflate(&mut self, index: u32) {
        self.subscribers.outboxes[index as usize].flags.clear(Flags::CONFLATES);
        let rules = self.fabric.rules.clone();
        self.look_through(index, |shard, frames, losses| {
            mark_replaced(frames, losses, |frame| {
                rules[shard.log.books.get(frame.note.book).class.index()].policy == Policy::Conflate
            });
        });
    }

    /// Drops what is too old of blocked subscribers' queues, and disconnects them where their oldest frame's class says so.
    /// Walks the blocked list; called about once a second.
    pub fn drop_overdue(&mut self) {
        let rules = self.fabric.rules.clone();
        let shortest = rules.iter().map(|rule| rule.age_ms).min().unwrap_or(u32::MAX);
        let now = self.now as u32;
        let blocked: Vec<u32> = self.blocked.indexes().collect();
        for index in blocked {
            let outbox = &self.subscribers.outboxes[index as usize];
            // Who is held only waits for an answer of ours.
            let waits = outbox.flags.has(Flags::HELD) && !outbox.flags.has(Flags::HELD_FULL);
            if outbox.flags.has(Flags::CLOSING) || waits {
                continue;
            }
            let oldest = outbox.ranges().next().and_then(|range| self.log.frames_in(range).next());
            if oldest.is_none_or(|frame| now.wrapping_sub(frame.note.at) <= shortest) {
                continue;
            }
            let is_overdue = |shard: &Self, note: &Note| {
                let rule = rules[shard.log.books.get(note.book).class.index()];
                now.wrapping_sub(note.at) > rule.age_ms
            };
            let ends_by = |shard: &Self, note: &Note| {
                rules[shard.log.books.get(note.book).class.index()].policy == Policy::Disconnect
            };
            // A frame that is partly written cannot go alone.
            let rest = outbox.rest().and_then(|rest| self.log.frames_in(rest).next());
            let mut doomed =
                rest.is_some_and(|frame| is_overdue(self, &frame.note) && ends_by(self, &frame.note));
            self.look_through(index, |shard, frames, losses| {
                for (frame, loss) in frames.iter().zip(losses.iter_mut()) {
                    if now.wrapping_sub(frame.note.at) <= shortest {
                        break;
                    }
                    if is_overdue(shard, &frame.note) {
                        *loss = Some(Loss::Age);
                        doomed |= ends_by(shard, &frame.note);
                    }
                }
                if doomed {
                    losses.fill(None);
                }
            });
            if doomed {
                self.doomed.push((index, Loss::Age));
            }
        }
        self.close_doomed();
    }

    /// Looks through the queue of a subscriber: `decide` gives a loss to each frame that is to go. It is told where its
    /// protocol tells.
    pub(super) fn look_through(
        &mut self,
        index: u32,
        decide: impl FnOnce(&Self, &[Queued], &mut [Option<Loss>]),
    ) {
        let tells = self.subscribers.profiles[index as usize].encoding.tells();
        let mut frames = std::mem::take(&mut self.looked_at);
        self.subscribers.outboxes[index as usize].queued(&self.log, &mut frames);
        let mut losses = vec![None; frames.len()];
        decide(self, &frames, &mut losses);
        if losses.iter().any(Option::is_some) {
            let outbox = &mut self.subscribers.outboxes[index as usize];
            outbox.drop_frames(&frames, &losses, tells, &mut self.log);
            let metrics = self.metrics();
            losses.into_iter().flatten().for_each(|loss| metrics.count_loss(loss, 1));
            let outbox = &mut self.subscribers.outboxes[index as usize];
            if outbox.is_at_range_limit() {
                outbox.consolidate(&mut self.log);
            }
        }
        frames.clear();
        frames.shrink_to(KEPT_FRAMES);
        self.looked_at = frames;
    }
}

/// Frames for which room is kept between two looks.
const KEPT_FRAMES: usize = 16 * 1024;

/// From the newest to the oldest: gives a loss to each frame that has a key, may go, and is replaced by a younger one with
/// its topic and key. Returns the bytes of those.
fn mark_replaced(frames: &[Queued], losses: &mut [Option<Loss>], may_go: impl Fn(&Queued) -> bool) -> usize {
    let mut seen: HashSet<(u32, u64), RandomState> = HashSet::default();
    let mut bytes = 0;
    for (frame, loss) in frames.iter().zip(losses).rev() {
        let note = &frame.note;
        if note.key != 0 && may_go(frame) && !seen.insert((note.book, note.key)) {
            *loss = Some(Loss::Conflated);
            bytes += frame.range.len();
        }
    }
    bytes
}

#[cfg(test)]
mod tests;
