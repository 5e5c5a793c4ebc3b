//! Registered clients: who may connect under which id, with which topics, and until when.
//!
//! One map is shared by all shards; it is touched by register, unregister, upgrade, topic replacement, disconnect
//! and expiry, and never while a shard marks or flushes. Every call takes what it needs out of the map and drops the
//! guard before it returns, so no caller can hold one over another call or an `.await`. Whoever acts for a connection
//! names its [`Claim`] and has an effect only while the registration is still claimed by it.
//!
//! Deadlines lie in one heap per shard ([`Deadlines`]), without sweeps; those of registrations that no shard made wait in a
//! queue until one takes them. A registration remembers at most one of its
//! heap entries, the one that counts; entries it does not remember are thrown away when they come up. It has at most
//! two at once: the one of its registration (now + ttl) and an earlier one of a disconnect (now + grace), because
//! the deadlines of later disconnects only move back, and the remembered entry follows them when it comes up.
//! A removed registration leaves its entries behind; therefore they are counted, and at
//! [`limits::DEADLINES_PER_REGISTRATION`] times the allowed registrations nobody registers until some came up.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crossbeam_queue::SegQueue;
use dashmap::{DashMap, Entry};

use crate::{
    engine::Key,
    identity::{ClientId, User},
    limits,
    topic::Topic,
};

pub(crate) use deadlines::Deadlines;

mod deadlines;

/// The registered clients of a node.
pub(crate) struct Clients {
    map: DashMap<ClientId, Registration, foldhash::fast::RandomState>,
    /// Registrations in the map, or about to be; counts only, nobody meets here. Written by all shards.
    live: AtomicUsize,
    /// Heap entries in all [`Deadlines`], or on their way there. Written by all shards.
    deadlines: AtomicUsize,
    /// Those of registrations that no shard made, until one looks after them. They are counted like all others, which
    /// bounds them.
    unassigned: SegQueue<Due>,
    max: usize,
    ttl: Duration,
    grace: Duration,
    /// Times are kept as milliseconds since then.
    began: Instant,
}

/// What is kept of one registered client. The map has room for up to twice as many as there are, so each byte here
/// may count twice.
struct Registration {
    user: User,
    /// Shared with the settings while they are the default topics, and often with others.
    topics: Arc<[Topic]>,
    held: Held,
    /// When the heap entry that counts comes up, milliseconds; [`NOT_QUEUED`] if it has none. While unclaimed there is
    /// one, and it is not later than the deadline.
    queued: u64,
}

/// Whom a registration belongs to.
#[derive(Clone, Copy)]
enum Held {
    /// The connection it belongs to now.
    By(Claim),
    /// Nobody's; when it ends, milliseconds.
    Until(u64),
}

const NOT_QUEUED: u64 = u64::MAX;

const _: () = assert!(size_of::<Registration>() <= 56);

impl Held {
    fn claim(self) -> Option<Claim> {
        match self {
            Self::By(claim) => Some(claim),
            Self::Until(_) => None,
        }
    }

    fn is_by(self, claim: &Claim) -> bool {
        self.claim().as_ref() == Some(claim)
    }
}

/// Which subscriber of which shard a registration belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    /// The shard.
    pub(crate) shard: u16,
    /// The subscriber in that shard.
    pub(crate) key: Key,
}

/// When a registration is to be looked at again. Whoever gets one pushes it into its shard's [`Deadlines`].
#[must_use = "it belongs into the shard's deadlines, or the registration never expires"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    /// Not before this, milliseconds since the registry began.
    at: u64,
    id: ClientId,
}

/// What a connection takes over with a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    /// Whose client it is.
    pub(crate) user: User,
    /// The topics it is to be subscribed to.
    pub(crate) topics: Arc<[Topic]>,
    /// The connection that held the registration until now; it is to be closed.
    pub(crate) replaced: Option<Claim>,
}

/// What became of a registration when its connection ended.
#[must_use = "a deadline in it belongs into the shard's deadlines"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// It is kept for the grace period; push the deadline, if one is given.
    Kept(Option<Due>),
    /// It is gone, because there is no grace period.
    Removed,
    /// It was claimed by another connection since, or is gone: nothing was done.
    NotOurs,
}

/// There are as many registrations, or deadlines of past ones, as the node may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// There is no such registration (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unknown;

impl Clients {
    /// A registry of at most `max` registrations, kept for `ttl` when never connected and for `grace` after each
    /// disconnect.
    pub(crate) fn new(max: usize, ttl: Duration, grace: Duration) -> Self {
        Self {
            map: DashMap::with_hasher(foldhash::fast::RandomState::default()),
            live: AtomicUsize::new(0),
            deadlines: AtomicUsize::new(0),
            unassigned: SegQueue::new(),
            max,
            ttl,
            grace,
            began: Instant::now(),
        }
    }

    /// What is kept of a deadline, so that it is never met early.
    fn deadline(&self, at: Instant) -> u64 {
        let nanoseconds = at.saturating_duration_since(self.began).as_nanos();
        u64::try_from(nanoseconds.div_ceil(1_000_000)).unwrap_or(NOT_QUEUED - 1)
    }

    /// The time now as deadlines are kept.
    fn time(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(NOT_QUEUED - 1)
    }

    /// Registers a client under a fresh id.
    ///
    /// # Errors
    /// When the registry is full.
    pub(crate) fn register(
        &self,
        user: User,
        topics: Arc<[Topic]>,
        now: Instant,
    ) -> Result<(ClientId, Due), Full> {
        let most = self.max.saturating_mul(limits::DEADLINES_PER_REGISTRATION);
        if !take(&self.live, self.max) {
            return Err(Full);
        }
        if !take(&self.deadlines, most) {
            self.live.fetch_sub(1, Relaxed);
            return Err(Full);
        }
        let id = ClientId::random();
        let deadline = self.deadline(now + self.ttl);
        let registration = Registration { user, topics, held: Held::Until(deadline), queued: deadline };
        self.map.insert(id, registration);
        Ok((id, Due { at: deadline, id }))
    }

    /// The same for somebody who is no shard: whichever looks first looks after it.
    ///
    /// # Errors
    /// When the registry is full.
    pub(crate) fn register_for_any_shard(
        &self,
        user: User,
        topics: Arc<[Topic]>,
        now: Instant,
    ) -> Result<ClientId, Full> {
        let (id, due) = self.register(user, topics, now)?;
        self.unassigned.push(due);
        Ok(id)
    }

    /// Gives the registration to the connection `claim`, whoever held it before. One that is overdue can still be
    /// claimed until its deadline has been looked at.
    ///
    /// # Errors
    /// When it is not registered.
    pub(crate) fn claim(&self, id: ClientId, claim: Claim) -> Result<Claimed, Unknown> {
        let mut registration = self.map.get_mut(&id).ok_or(Unknown)?;
        let replaced = std::mem::replace(&mut registration.held, Held::By(claim)).claim();
        Ok(Claimed { user: registration.user.clone(), topics: registration.topics.clone(), replaced })
    }

    /// Whether a client is registered under this id.
    pub(crate) fn contains(&self, id: ClientId) -> bool {
        self.map.contains_key(&id)
    }

    /// Removes the registration: `None` if there was none, else the claim of its connection, if it had one; that
    /// connection is to be closed.
    pub(crate) fn unregister(&self, id: ClientId) -> Option<Option<Claim>> {
        let (_, registration) = self.map.remove(&id)?;
        self.live.fetch_sub(1, Relaxed);
        Some(registration.held.claim())
    }

    /// Keeps `topics` for the next connection, if `claim` still holds the registration; says whether it did.
    pub(crate) fn replace_topics(&self, id: ClientId, claim: &Claim, topics: Arc<[Topic]>) -> bool {
        match self.map.get_mut(&id) {
            Some(mut registration) if registration.held.is_by(claim) => {
                // The old list is freed behind the guard.
                let old = std::mem::replace(&mut registration.topics, topics);
                drop(registration);
                drop(old);
                true
            }
            _ => false,
        }
    }

    /// The connection `claim` has ended at `now`: the registration is kept for the grace period.
    pub(crate) fn release(&self, id: ClientId, claim: &Claim, now: Instant) -> Release {
        self.release_for(self.grace, id, claim, now)
    }

    /// The handshake of `claim` came to nothing at `now`: the registration is kept as one that was never connected.
    pub(crate) fn give_back(&self, id: ClientId, claim: &Claim, now: Instant) -> Release {
        self.release_for(self.grace.max(self.ttl), id, claim, now)
    }

    fn release_for(&self, kept: Duration, id: ClientId, claim: &Claim, now: Instant) -> Release {
        let Entry::Occupied(mut entry) = self.map.entry(id) else { return Release::NotOurs };
        if !entry.get().held.is_by(claim) {
            return Release::NotOurs;
        }
        if kept.is_zero() {
            let removed = entry.remove();
            self.live.fetch_sub(1, Relaxed);
            drop(removed);
            return Release::Removed;
        }
        let registration = entry.get_mut();
        let deadline = self.deadline(now + kept);
        registration.held = Held::Until(deadline);
        if registration.queued <= deadline {
            return Release::Kept(None);
        }
        registration.queued = deadline;
        self.deadlines.fetch_add(1, Relaxed);
        Release::Kept(Some(Due { at: deadline, id }))
    }

    /// How many clients are registered, about.
    pub(crate) fn len(&self) -> usize {
        self.live.load(Relaxed)
    }

    /// Whether nobody is registered, about.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What to do about a heap entry that came up.
    fn come_up(&self, due: Due, now: u64) -> ComeUp {
        let Entry::Occupied(mut entry) = self.map.entry(due.id) else { return ComeUp::Forget };
        let registration = entry.get_mut();
        if registration.queued != due.at {
            return ComeUp::Forget;
        }
        match registration.held {
            Held::By(_) => {
                registration.queued = NOT_QUEUED;
                return ComeUp::Forget;
            }
            Held::Until(deadline) if deadline > now => {
                registration.queued = deadline;
                return ComeUp::Again(Due { at: deadline, id: due.id });
            }
            Held::Until(_) => {}
        }
        let removed = entry.remove();
        self.live.fetch_sub(1, Relaxed);
        drop(removed);
        ComeUp::Expired
    }
}

/// Takes one of `max`, if there is one.
fn take(count: &AtomicUsize, max: usize) -> bool {
    let taken = count.fetch_add(1, Relaxed) < max;
    if !taken {
        count.fetch_sub(1, Relaxed);
    }
    taken
}

/// What came of looking at a registration whose deadline came up.
enum ComeUp {
    /// The entry counts no more.
    Forget,
    /// The deadline has moved.
    Again(Due),
    /// The registration was overdue and is gone.
    Expired,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The ids are secrets.
        f.debug_struct("Clients").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node keeps as many registrations as it may")
    }
}

impl std::error::Error for Full {}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no client is registered under this id")
    }
}

impl std::error::Error for Unknown {}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);
    const GRACE: Duration = Duration::from_secs(30);

    fn claim(n: u32) -> Claim {
        Claim { shard: 0, key: Key { index: n, generation: n } }
    }

    fn topics(names: &[&str]) -> Arc<[Topic]> {
        names.iter().map(|name| Topic::parse(name).unwrap()).collect()
    }

    /// One registry, one shard's deadlines, and a clock that starts at zero.
    struct Desk {
        clients: Clients,
        deadlines: Deadlines,
        start: Instant,
    }

    impl Desk {
        fn new(max: usize, grace: Duration) -> Self {
            let clients = Clients::new(max, TTL, grace);
            Self { deadlines: Deadlines::default(), start: clients.began, clients }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn register(&mut self, seconds: u64) -> ClientId {
            let now = self.at(seconds);
            let (id, due) = self.clients.register(User::number(1), topics(&["cats"]), now).expect("room");
            self.deadlines.push(due);
            id
        }

        fn release(&mut self, id: ClientId, n: u32, seconds: u64) -> Release {
            let release = self.clients.release(id, &claim(n), self.at(seconds));
            if let Release::Kept(Some(due)) = release {
                self.deadlines.push(due);
            }
            release
        }

        fn expire(&mut self, seconds: u64) -> usize {
            let now = self.at(seconds);
            self.deadlines.expire(now, &self.clients)
        }

        /// When there is something to do next, seconds.
        fn next(&self) -> Option<u64> {
            let at = |seconds: &u64| self.deadlines.is_due(self.at(*seconds), &self.clients);
            (0..1_000).find(at)
        }

        fn queued(&self) -> usize {
            assert_eq!(self.deadlines.len(), self.clients.deadlines.load(Relaxed), "the count is right");
            self.deadlines.len()
        }
    }

    #[test]
    fn registration_never_claimed_expires_after_its_ttl() {
        let mut desk = Desk::new(10, GRACE);
        let id = desk.register(0);
        assert_eq!(desk.next(), Some(60));
        assert_eq!(desk.expire(59), 0);
        assert_eq!(desk.clients.len(), 1);
        assert_eq!(desk.expire(60), 1);
        assert!(desk.clients.is_empty());
        assert_eq!(desk.clients.claim(id, claim(1)), Err(Unknown));
        assert_eq!(desk.queued(), 0);
    }

    #[test]
    fn registration_that_no_shard_made_expires_on_whichever_looks_first() {
        let mut desk = Desk::new(2, GRACE);
        let register =
            |desk: &Desk| desk.clients.register_for_any_shard(User::number(1), topics(&["cats"]), desk.at(0));
        let id = register(&desk).expect("room");
        let kept = register(&desk).expect("room");
        assert_eq!(register(&desk), Err(Full));
        desk.clients.claim(kept, claim(1)).expect("it is registered");
        desk.deadlines.take_unassigned(&desk.clients);
        assert_eq!((desk.queued(), desk.next()), (2, Some(60)));
        let mut other = Deadlines::default();
        other.take_unassigned(&desk.clients);
        assert!(other.is_empty(), "they are taken once");
        assert_eq!(desk.expire(60), 1);
        assert!(!desk.clients.contains(id) && desk.clients.contains(kept));
        assert_eq!(desk.queued(), 0);
    }

    #[test]
    fn claimed_registration_does_not_expire_and_costs_no_deadline() {
        let mut desk = Desk::new(10, GRACE);
        let id = desk.register(0);
        let claimed = desk.clients.claim(id, claim(1)).expect("it is registered");
        assert_eq!((claimed.user, claimed.replaced), (User::number(1), None));
        assert_eq!(desk.expire(1_000), 0);
        assert_eq!(desk.queued(), 0);
        assert_eq!(desk.clients.len(), 1);
    }

    #[test]
    fn grace_ends_a_registration_even_if_its_ttl_lies_later() {
        let mut desk = Desk::new(10, GRACE);
        let id = desk.register(0);
        desk.clients.claim(id, claim(1)).expect("it is registered");
        assert!(matches!(desk.release(id, 1, 10), Release::Kept(Some(_))));
        assert_eq!(desk.queued(), 2);
        assert_eq!(desk.expire(39), 0);
        assert_eq!(desk.expire(40), 1);
        assert_eq!(desk.expire(60), 0);
        assert_eq!(desk.queued(), 0);
    }

    #[test]
    fn reconnecting_many_times_keeps_at_most_two_deadlines() {
        let mut desk = Desk::new(10, GRACE);
        let id = desk.register(0);
        for n in 0..200 {
            desk.clients.claim(id, claim(n)).expect("grace has not ended");
            assert!(matches!(desk.release(id, n, u64::from(n)), Release::Kept(_)));
            assert!(desk.queued() <= 2, "at {n} s there are {}", desk.queued());
            assert_eq!(desk.expire(u64::from(n)), 0);
        }
        assert_eq!(desk.expire(228), 0);
        assert_eq!(desk.expire(229), 1);
        assert_eq!(desk.queued(), 0);
    }

    #[test]
    fn zero_grace_removes_at_disconnect() {
        let mut desk = Desk::new(10, Duration::ZERO);
        let id = desk.register(0);
        desk.clients.claim(id, claim(1)).expect("it is registered");
        assert_eq!(desk.release(id, 1, 1), Release::Removed);
        assert!(desk.clients.is_empty());
        assert_eq!(desk.expire(60), 0);
        assert_eq!(desk.queued(), 0);
    }

    #[test]
    fn only_the_present_claim_can_act() {
        let mut desk = Desk::new(10, GRACE);
        let id = desk.register(0);
        desk.clients.claim(id, claim(1)).expect("it is registered");
        let second = desk.clients.claim(id, claim(2)).expect("it is registered");
        assert_eq!(second.replaced, Some(claim(1)));
        assert!(!desk.clients.replace_topics(id, &claim(1), topics(&[])));
        assert_eq!(desk.release(id, 1, 1), Release::NotOurs);
        assert!(desk.clients.replace_topics(id, &claim(2), topics(&["dogs"])));
        assert!(matches!(desk.release(id, 2, 1), Release::Kept(_)));
        let third = desk.clients.claim(id, claim(3)).expect("grace has not ended");
        assert_eq!((third.topics, third.replaced), (topics(&["dogs"]), None));
    }

    #[test]
    fn unregister_tells_the_claim_and_then_nothing() {
        let mut desk = Desk::new(10, GRACE);
        let (idle, connected) = (desk.register(0), desk.register(0));
        desk.clients.claim(connected, claim(1)).expect("it is registered");
        assert_eq!(desk.clients.unregister(idle), Some(None));
        assert_eq!(desk.clients.unregister(connected), Some(Some(claim(1))));
        assert_eq!(desk.clients.unregister(connected), None);
        assert_eq!(desk.release(connected, 1, 1), Release::NotOurs);
        assert!(desk.clients.is_empty());
    }

    #[test]
    fn registrations_are_bounded_and_come_back() {
        let mut desk = Desk::new(2, GRACE);
        let first = desk.register(0);
        desk.register(0);
        assert_eq!(desk.clients.register(User::number(1), topics(&[]), desk.at(0)), Err(Full));
        assert_eq!(desk.clients.unregister(first), Some(None));
        desk.register(1);
    }

    #[test]
    fn register_and_unregister_in_a_loop_does_not_grow_the_heap_without_bound() {
        let mut desk = Desk::new(5, GRACE);
        let bound = 5 * limits::DEADLINES_PER_REGISTRATION;
        for _ in 0..bound {
            let id = desk.register(0);
            desk.clients.unregister(id);
        }
        assert_eq!(desk.clients.register(User::number(1), topics(&[]), desk.at(0)), Err(Full));
        assert_eq!(desk.queued(), bound);
        desk.expire(60);
        assert_eq!(desk.queued(), 0);
        desk.register(60);
    }

    #[test]
    fn one_call_looks_at_a_bounded_number_of_deadlines() {
        let count = limits::DEADLINES_PER_TURN + 1;
        let mut desk = Desk::new(count, GRACE);
        for _ in 0..count {
            desk.register(0);
        }
        assert_eq!(desk.expire(60), limits::DEADLINES_PER_TURN);
        assert_eq!(desk.next(), Some(60));
        assert_eq!(desk.expire(60), 1);
        assert_eq!(desk.next(), None);
    }

    #[test]
    fn registering_from_many_threads_never_exceeds_the_limit() {
        let clients = Clients::new(100, TTL, GRACE);
        let registered: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let one = || clients.register(User::number(1), topics(&[]), Instant::now()).is_ok();
                        (0..100).filter(|_| one()).count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum()
        });
        // Two that meet at the last place may both be sent away, so it can be a few less.
        assert!((97..=100).contains(&registered), "{registered}");
        assert_eq!(clients.len(), registered);
        assert_eq!(clients.map.len(), registered);
    }
}
