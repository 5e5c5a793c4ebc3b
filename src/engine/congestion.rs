//! Holding back for subscribers that are far behind and drain: what is published is more than their sockets take in
//! the meantime, and closing them as slow would close an audience that reads.
//!
//! A subscriber is *behind* once its queue is near its bound, until it is down to a part of it. While the shard waits
//! for somebody who is, it takes nothing, so that credits run out and publishers wait or get 503; the queues go on
//! being written. What it does not wait for is judged by the bounds:
//! - Whoever *stalls*: its socket took no byte for a while, though the sockets were looked at.
//! - Whoever has used up the shard's patience with it. That is spent by being waited for, shared with the others that
//!   are, and comes back in proportion to a subscriber's part of the audience: so an audience that is slow as a whole is
//!   waited for, and one that reads just in time, again and again, holds up the others little.
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
        CROWD_PARTS, LOOK_MS_MAX, PATIENCE_EARNED_MS, PATIENCE_EARNED_TIMES, PATIENCE_FORGOTTEN_MS,
        PATIENCE_LEAST_MS, PATIENCE_MS, PATIENCE_PARTS, PATIENCE_RETURNS, PATIENCE_WITH_ONE_MS,
    },
    metrics::Loss,
};

/// Microseconds of a millisecond.
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
    /// For how many it was decided to; for none, not to.
    waits_for: usize,
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

/// The audience of a shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audience {
    pub(super) size: usize,
    /// How many of them have something queued and drain, whether behind or not.
    pub(super) draining: usize,
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
            waits_for: 0,
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
        self.changed |= self.holds();
    }

    /// Forgets the subscriber at a place: the next one there is another.
    pub(super) fn forget(&mut self, index: u32) {
        self.before.remove(&index);
    }

    /// Whether there is something to decide: anything has changed, and the sockets were looked at.
    pub(super) fn is_due(&self) -> bool {
        self.changed && !self.awaits_look && !self.behind.is_empty()
    }

    /// Decides whether to hold back.
    pub(super) fn decide(&mut self, audience: Audience, mut standing: impl FnMut(Key) -> Standing) {
        self.changed = false;
        let held = self.holds();
        let waited = if held { self.clock - self.decided_at } else { 0 };
        let each = audience.cost(waited) / self.waits_for.max(1) as i64;
        let crowd = audience.is_a_crowd();
        self.decided_at = self.clock;
        self.patience.return_some(self.clock, PATIENCE_PARTS, PATIENCE_MS);
        if !crowd {
            self.patience.spend(waited as i64 * US);
        }
        let (mut waits_for, mut earned) = (0, 0);
        self.behind.retain_mut(|one| {
            one.waited += waited;
            one.patience.spend(each);
            match standing(one.key) {
                Standing::Moves => waits_for += usize::from(one.patience.lasts(one.waited > 0)),
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
        self.waits_for = if crowd || self.patience.lasts(held) { waits_for } else { 0 };
    }

    /// Whether it was decided to hold back.
    pub(super) fn holds(&self) -> bool {
        self.waits_for > 0
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

impl Audience {
    /// Whether so many drain that it is the audience that is waited for, not a few.
    fn is_a_crowd(self) -> bool {
        self.draining * CROWD_PARTS >= self.size
    }

    /// What so many milliseconds of waiting cost, microseconds: the part of the audience that has something to drain
    /// loses nothing by it.
    fn cost(self, ms: u64) -> i64 {
        let others = self.size.saturating_sub(self.draining);
        ms as i64 * US * others as i64 / self.size.max(1) as i64
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

    fn spend(&mut self, us: i64) {
        self.left -= us;
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
        let (low, clock) = (self.fabric.bounds.outbox_bytes / 2, self.congestion.clock());
        let bound = self.fabric.bounds.outbox_bytes;
        let audience = self.audience();
        let (subscribers, blocked) = (&mut self.subscribers, &self.blocked);
        let mut over = Vec::new();
        self.congestion.decide(audience, |key| {
            if !subscribers.lives(key) {
                return Standing::Gone;
            }
            let outbox = &mut subscribers.outboxes[key.index as usize];
            if outbox.flags.has(Flags::CLOSING) {
                return Standing::Gone;
            }
            if outbox.bytes() <= low {
                outbox.flags.clear(Flags::BEHIND);
                return Standing::CaughtUp;
            }
            // The rest of a frame that is partly written is finished, whatever its class.
            if outbox.is_over(bound) && outbox.bytes_behind_rest() > bound {
                over.push((key.index, Loss::Bound));
            }
            // Who waits for an answer of ours gets it by the queue of which nothing would be taken.
            let is_held = outbox.flags.has(Flags::HELD);
            if is_held || outbox.flags.has(Flags::BLOCKED) && blocked.is_stalled(outbox.blocked_at, clock) {
                Standing::Stalls
            } else {
                Standing::Moves
            }
        });
        let holds = self.congestion.holds();
        self.metrics().held_back.add(u64::from(holds && !held));
        if !holds && !over.is_empty() {
            self.doomed.append(&mut over);
            self.close_doomed();
        }
    }

    /// The audience of the shard now. Who waits for its socket, or for an answer of ours, drains nothing.
    pub(super) fn audience(&self) -> Audience {
        let is_offered = |&index: &u32| {
            let flags = self.subscribers.outboxes[index as usize].flags;
            !flags.has(Flags::ATTACHING.and(Flags::HELD))
        };
        let moving = self.blocked.moving(self.congestion.clock());
        Audience { size: self.subscribers.len(), draining: moving.filter(is_offered).count() }
    }

    /// Looks at a blocked subscriber that has more queued than what makes it one that is behind, and gets frames whose class
    /// disconnects.
    pub(super) fn note_behind(&mut self, index: u32) {
        let key = self.subscribers.key(index);
        let audience = self.subscribers.len();
        let outbox = &mut self.subscribers.outboxes[index as usize];
        let over = outbox.bytes() > self.fabric.bounds.outbox_bytes;
        let stalled = self.blocked.is_stalled(outbox.blocked_at, self.congestion.clock());
        let known = outbox.flags.has(Flags::BEHIND);
        if over && (known || stalled) {
            self.doomed.push((index, Loss::Bound));
            return;
        }
        if !known {
            outbox.flags.set(Flags::BEHIND);
            self.congestion.add(key, audience);
        }
        // One that moves and is over its bound already is judged after the next look, when it may be writable.
        let since_look = self.log.appended() - self.appended_at_look;
        if !stalled && (over || since_look >= self.fabric.bounds.step_bytes() as u64) {
            self.congestion.await_look();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUDIENCE: usize = 200;

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    /// Lets a millisecond pass, and decides. Returns whether it holds back now.
    fn pass(congestion: &mut Congestion, standing: impl FnMut(Key) -> Standing) -> bool {
        congestion.looked(congestion.looked_at + 1);
        if congestion.is_due() {
            congestion.decide(Audience { size: AUDIENCE, draining: 0 }, standing);
        }
        congestion.holds()
    }

    #[test]
    fn readers_that_are_behind_in_turn_are_always_waited_for() {
        let mut congestion = Congestion::default();
        // Each needs 20 ms to catch up, and then the next is behind: half of the time nothing is taken.
        for turn in 0..2_000_u32 {
            congestion.add(key(turn % AUDIENCE as u32), AUDIENCE);
            for at in 0..20 {
                assert!(pass(&mut congestion, |_| Standing::Moves), "turn {turn}, {at} ms");
            }
            for _ in 0..20 {
                assert!(!pass(&mut congestion, |_| Standing::CaughtUp), "turn {turn}");
            }
        }
    }

    #[test]
    fn audience_that_is_slow_as_a_whole_is_waited_for() {
        let mut congestion = Congestion::default();
        for turn in 0..100 {
            for index in 0..AUDIENCE as u32 {
                congestion.add(key(index), AUDIENCE);
            }
            for at in 0..200 {
                congestion.looked(congestion.looked_at + 1);
                let audience = Audience { size: AUDIENCE, draining: AUDIENCE / 4 };
                congestion.decide(audience, |_| Standing::Moves);
                assert!(congestion.holds(), "turn {turn}, {at} ms");
            }
            assert!(!pass(&mut congestion, |_| Standing::CaughtUp), "turn {turn}");
        }
    }

    #[test]
    fn stalled_ones_are_not_waited_for_and_cost_the_moving_ones_nothing() {
        let mut congestion = Congestion::default();
        for index in 0..100 {
            congestion.add(key(index), AUDIENCE);
        }
        assert!((0..10_000).all(|_| !pass(&mut congestion, |_| Standing::Stalls)));
        congestion.add(key(100), AUDIENCE);
        let standing = |one: Key| if one.index == 100 { Standing::Moves } else { Standing::Stalls };
        assert!((0..PATIENCE_MS - 1).all(|_| pass(&mut congestion, standing)));
    }

    #[test]
    fn ones_that_dribble_hold_up_little() {
        const LONG: u64 = 100_000;
        let mut congestion = Congestion::default();
        let mut held = 0;
        for now in 0..LONG {
            // Every second the last one is closed at its bound, and the next is behind.
            let current = now as u32 / 1_000;
            if now % 1_000 == 0 {
                congestion.add(key(current), AUDIENCE);
            }
            let standing = |one: Key| if one.index == current { Standing::Moves } else { Standing::Gone };
            held += u64::from(pass(&mut congestion, standing));
        }
        assert!(held >= PATIENCE_MS as u64, "it is tried");
        assert!(held <= LONG / 400, "held for {held} of {LONG} ms");
    }

    #[test]
    fn one_that_catches_up_just_in_time_holds_up_no_more_than_its_share() {
        const LONG: u64 = 100_000;
        let mut congestion = Congestion::default();
        let mut held = 0;
        for now in 0..LONG {
            let at = now % 200;
            if at == 0 {
                congestion.add(key(7), AUDIENCE);
            }
            let standing = if at < PATIENCE_MS as u64 - 5 { Standing::Moves } else { Standing::CaughtUp };
            held += u64::from(pass(&mut congestion, |_| standing));
        }
        let most = PATIENCE_WITH_ONE_MS as u64 + (PATIENCE_RETURNS as u64 + 1) * LONG / AUDIENCE as u64;
        assert!(held <= most, "held for {held} ms, its share is {most}");
    }

    #[test]
    fn time_in_which_nobody_looked_at_the_sockets_is_no_wait() {
        let mut congestion = Congestion::default();
        congestion.add(key(0), AUDIENCE);
        assert!(pass(&mut congestion, |_| Standing::Moves));
        let before = congestion.clock();
        congestion.looked(60_000);
        assert_eq!(congestion.clock(), before + LOOK_MS_MAX);
    }
}
