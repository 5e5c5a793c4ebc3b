//! Holding back for subscribers that are far behind and drain: what is published is more than their sockets take in
//! the meantime, and closing them as slow would close an audience that reads.
//!
//! A subscriber is *behind* once its queue is near its bound, until it is down to a part of it. While the shard waits
//! for somebody who is, it takes nothing, so that credits run out and publishers wait or get 503; the queues go on
//! being written. What it does not wait for is judged by the bounds:
//! - Whoever *stalls*: its socket took no byte for a while, though the sockets were looked at.
//! - Whoever has used up the shard's patience with it. That is spent by being waited for and comes back in proportion
//!   to a subscriber's part of the audience, so that reading just in time, again and again, holds up the others little.
//! - Anybody, when waiting was for nothing for too long. The shard's patience with all together is spent by waiting, and
//!   earned by those who catch up meanwhile.
//!
//! And nobody who moves is given more between two looks at the sockets, once it is behind. Time is that in which the
//! sockets were looked at: a thread that did not run for a second has not waited for anybody.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{outbox::Flags, shard::Shard, subscribers::Key};
use crate::{
    limits::{
        self, LOOK_MS_MAX, PATIENCE_EARNED_MS, PATIENCE_EARNED_TIMES, PATIENCE_FORGOTTEN_MS,
        PATIENCE_LEAST_MS, PATIENCE_MS, PATIENCE_PARTS, PATIENCE_RETURNS, PATIENCE_WITH_ONE_MS,
    },
    metrics::Loss,
};

const US: i64 = 1_000;

/// Whether a shard holds back, and for whom.
#[derive(Debug)]
pub(super) struct Congestion {
    /// Time in which the sockets were looked at, milliseconds: that of the shard, without what was between two looks
    /// that were long apart.
    clock: u64,
    /// When the sockets were looked at last, by the shard's time.
    looked_at: u64,
    /// Subscribers that are far behind, and perhaps some that were.
    behind: Vec<Behind>,
    /// What is left of the patience with those who were waited for before, by their places.
    before: HashMap<u32, Patience, RandomState>,
    /// Patience with all together.
    patience: Patience,
    /// Whether somebody who is behind and moves was given something since the sockets were looked at.
    awaits_look: bool,
    /// Whether something changed since it was decided whether to hold back.
    changed: bool,
    holds: bool,
    /// When that was decided, by `clock`.
    decided_at: u64,
}

/// Somebody who is behind.
#[derive(Debug)]
struct Behind {
    key: Key,
    patience: Patience,
    /// How long the shard has held back since it is behind, milliseconds.
    waited: u64,
}

/// How somebody who is behind does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is down to a part of its bound.
    CaughtUp,
    /// Its socket took bytes not long ago.
    Moves,
    Stalls,
    /// It is being closed, or is gone.
    Gone,
}

impl Default for Congestion {
    fn default() -> Self {
        Self {
            clock: 0,
            looked_at: 0,
            behind: Vec::new(),
            before: HashMap::default(),
            patience: Patience::new(PATIENCE_MS, 0),
            awaits_look: false,
            changed: false,
            holds: false,
            decided_at: 0,
        }
    }
}

impl Congestion {
    /// Notes that the sockets were looked at, at `now`, in milliseconds of the shard.
    pub(super) fn looked(&mut self, now: u64) {
        let passed = (now - self.looked_at).min(LOOK_MS_MAX);
        self.looked_at = now;
        self.clock += passed;
        self.changed |= passed > 0;
        self.awaits_look = false;
    }

    /// Adds somebody who is behind now, one of an audience of so many.
    pub(super) fn add(&mut self, key: Key, audience: usize) {
        let mut patience = match self.before.remove(&key.index) {
            Some(left) => left,
            None => Patience::new(PATIENCE_WITH_ONE_MS, self.clock),
        };
        let parts = (audience / PATIENCE_RETURNS).max(1) as u64;
        patience.return_some(self.clock, parts, PATIENCE_WITH_ONE_MS);
        if self.behind.is_empty() && self.clock - self.decided_at > PATIENCE_FORGOTTEN_MS {
            self.patience.forget_earned();
        }
        self.behind.push(Behind { key, patience, waited: 0 });
        self.changed = true;
    }

    /// Notes that somebody who is behind and moves was given something.
    pub(super) fn await_look(&mut self) {
        self.awaits_look = true;
    }

    /// Notes that something was written.
    pub(super) fn wrote(&mut self) {
        self.changed |= self.holds;
    }

    /// Forgets the subscriber at a place: the next one there is another.
    pub(super) fn forget(&mut self, index: u32) {
        self.before.remove(&index);
    }

    /// Whether there is something to decide: anything has changed, and the sockets were looked at.
    pub(super) fn is_due(&self) -> bool {
        self.changed && !self.awaits_look && (self.holds || !self.behind.is_empty())
    }

    /// Decides whether to hold back. It is told whether a crowd waits for its sockets.
    pub(super) fn decide(&mut self, crowd: bool, mut standing: impl FnMut(Key) -> Standing) {
        self.changed = false;
        let waited = if self.holds { self.clock - self.decided_at } else { 0 };
        self.decided_at = self.clock;
        self.patience.return_some(self.clock, PATIENCE_PARTS, PATIENCE_MS);
        self.patience.spend(if crowd { 0 } else { waited });
        let (mut wait, mut earned) = (false, 0);
        self.behind.retain_mut(|one| {
            one.waited += waited;
            one.patience.spend(waited);
            match standing(one.key) {
                Standing::Moves => wait |= one.patience.lasts(one.waited > 0),
                Standing::Stalls => {}
                Standing::Gone => return false,
                Standing::CaughtUp => {
                    earned = earned.max(one.waited);
                    if !one.patience.is_at(PATIENCE_WITH_ONE_MS) {
                        self.before.insert(one.key.index, one.patience);
                    }
                    return false;
                }
            }
            true
        });
        self.patience.earn(earned * PATIENCE_EARNED_TIMES, PATIENCE_EARNED_MS);
        self.holds = wait && (crowd || self.patience.lasts(self.holds));
    }

    /// Whether it was decided to hold back.
    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// Whether nothing may be taken before the sockets are looked at.
    pub(super) fn awaits_look(&self) -> bool {
        self.awaits_look
    }

    /// The time by which it is known how long somebody is blocked, milliseconds.
    pub(super) fn clock(&self) -> u64 {
        self.clock
    }
}

/// How long is still waited. It comes back with time.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// Microseconds; below zero where the last wait was longer than it lasted.
    left: i64,
    /// When it was brought up to date, milliseconds.
    at: u64,
}

impl Patience {
    fn new(ms: i64, at: u64) -> Self {
        Self { left: ms * US, at }
    }

    /// Gives back one in so many `parts` of the time that has passed by `now`, up to `most` milliseconds.
    fn return_some(&mut self, now: u64, parts: u64, most: i64) {
        let back = (now - self.at) * US as u64 / parts;
        self.at = now;
        self.left = self.left.max((self.left + back as i64).min(most * US));
    }

    fn spend(&mut self, ms: u64) {
        self.left -= ms as i64 * US;
    }

    fn earn(&mut self, ms: u64, most: i64) {
        self.left = self.left.max((self.left + ms as i64 * US).min(most * US));
    }

    fn forget_earned(&mut self) {
        self.left = self.left.min(PATIENCE_MS * US);
    }

    fn is_at(&self, ms: i64) -> bool {
        self.left == ms * US
    }

    /// Whether there is enough to go on waiting, or to begin.
    fn lasts(&self, begun: bool) -> bool {
        self.left > if begun { 0 } else { PATIENCE_LEAST_MS * US }
    }
}

impl Shard {
    /// Notes that [`Self::writable`] was called for every socket that takes bytes again. Nobody is judged between two
    /// of these, and while somebody is far behind little is taken: so call it each turn, before [`Self::take`].
    pub fn sockets_looked_at(&mut self) {
        self.congestion.looked(self.now);
        self.appended_at_look = self.log.appended();
    }

    /// Whether nothing is taken for the sake of subscribers that are far behind. It is decided again with each
    /// [`Self::take`], so call that when subscribers became writable, and from time to time.
    pub fn holds_back(&self) -> bool {
        self.congestion.holds()
    }

    /// Whether nothing is taken before [`Self::sockets_looked_at`].
    pub fn awaits_look(&self) -> bool {
        self.congestion.awaits_look()
    }

    /// Decides whether to take anything.
    pub(super) fn look_for_congestion(&mut self) {
        if !self.congestion.is_due() {
            return;
        }
        let held = self.congestion.holds();
        let (low, clock) = (self.common.bounds.outbox_bytes / 2, self.congestion.clock());
        let (subscribers, blocked) = (&mut self.subscribers, &self.blocked);
        let crowd = blocked.moving(clock) * limits::CROWD_PARTS >= subscribers.len();
        self.congestion.decide(crowd, |key| {
            if !subscribers.lives(key) {
                return Standing::Gone;
            }
            let outbox = &mut subscribers.outboxes[key.index as usize];
            if outbox.flags.has(Flags::CLOSING) {
                Standing::Gone
            } else if outbox.bytes() <= low {
                outbox.flags.clear(Flags::BEHIND);
                Standing::CaughtUp
            } else if outbox.flags.has(Flags::BLOCKED) && blocked.is_stalled(outbox.blocked_at, clock) {
                Standing::Stalls
            } else {
                Standing::Moves
            }
        });
        let holds = self.congestion.holds();
        self.metrics().held_back.add(u64::from(holds && !held));
    }

    /// Looks at a blocked subscriber that has more queued than what makes it one that is behind.
    #[cold]
    pub(super) fn note_behind(&mut self, index: u32) {
        let key = self.subscribers.key(index);
        let audience = self.subscribers.len();
        let outbox = &mut self.subscribers.outboxes[index as usize];
        if outbox.bytes() > self.common.bounds.outbox_bytes {
            self.doomed.push((index, Loss::Bound));
            return;
        }
        if !outbox.flags.has(Flags::BEHIND) {
            outbox.flags.set(Flags::BEHIND);
            self.congestion.add(key, audience);
        }
        let since_look = self.log.appended() - self.appended_at_look;
        let step = self.common.bounds.step_bytes() as u64;
        if since_look >= step && !self.blocked.is_stalled(outbox.blocked_at, self.congestion.clock()) {
            self.congestion.await_look();
        }
    }
}
