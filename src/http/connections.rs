//! The connections of one shard that speak HTTP: how many there may be, and what they may use together.
//!
//! One `Connections` per shard, shared by `Rc` among the tasks of its connections. It owns the bounds: connections
//! ([`limits::HTTP_CONNECTIONS`]), requests in work ([`limits::HTTP_OPEN`]), batches ([`limits::BATCHES_OPEN`]) and bytes of bodies being collected
//! ([`limits::HTTP_BODIES_BYTES`]). At the first, the connection that has been idle for longest makes room; one with
//! a request in work is never closed for another. A WebSocket leaves this table with its handshake.

use std::{
    cell::{Cell, RefCell},
    future::pending,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use slab::Slab;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::{Instant, sleep_until},
};

use crate::{limits, settings::Settings};

/// One of a shard's [`limits::HANDSHAKES_OPEN`] places between accept and first response. It is given back with the
/// first response, or after [`limits::HANDSHAKE_MS`] if there is none, so that silent clients do not hold the places.
#[derive(Debug)]
pub(crate) struct HandshakeSlot {
    _permit: OwnedSemaphorePermit,
    accepted: Instant,
}

impl HandshakeSlot {
    /// The place of a connection that is accepted now, held by a permit of the semaphore the accept loop waits on.
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: permit, accepted: Instant::now() }
    }
}

/// The HTTP connections of one shard.
#[derive(Debug)]
pub(crate) struct Connections {
    /// How hyper is to speak with all of them.
    pub(super) protocol: http1::Builder,
    table: RefCell<Table>,
    /// The most entries in the table.
    max: usize,
    /// One permit a request in work.
    work: Semaphore,
    /// One permit an upgrade in work.
    upgrades: Semaphore,
    /// One permit a batch in work.
    batches: Arc<Semaphore>,
    /// Bytes of bodies held now.
    collected: Cell<usize>,
    evicted: Cell<u64>,
    refused: Cell<u64>,
}

#[derive(Debug, Default)]
struct Table {
    peers: Slab<Rc<Peer>>,
    /// By the same index: when it became idle, in turns of `clock`, or [`BUSY`]. Apart, so that the search for the
    /// longest idle is a walk over one small slice.
    idle_since: Vec<u64>,
    clock: u64,
}

/// Not idle, or not there: the end of every comparison.
const BUSY: u64 = u64::MAX;

/// What the table shares with the task of one connection.
#[derive(Debug)]
struct Peer {
    slot: RefCell<Option<HandshakeSlot>>,
    /// Told when the connection has to make room.
    evict: Notify,
    /// It has made room: its index may be another's by now.
    gone: Cell<bool>,
}

impl Connections {
    /// An empty table for a shard of a node with these settings.
    pub(crate) fn new(settings: &Settings) -> Rc<Self> {
        let mut protocol = http1::Builder::new();
        // Half closed is not gone: a client may send its request, shut its side down and wait for the answer.
        protocol
            .timer(TokioTimer::new())
            .header_read_timeout(settings.http_head_timeout)
            .max_buf_size(limits::HTTP_HEAD_BYTES)
            .max_headers(limits::HTTP_HEADERS_MAX)
            .half_close(true);
        Self::with(protocol, limits::HTTP_CONNECTIONS, limits::HTTP_OPEN)
    }

    pub(super) fn with(protocol: http1::Builder, max: usize, open: usize) -> Rc<Self> {
        Rc::new(Self {
            protocol,
            table: RefCell::default(),
            max,
            work: Semaphore::new(open),
            upgrades: Semaphore::new(limits::UPGRADES_OPEN),
            batches: Arc::new(Semaphore::new(limits::BATCHES_OPEN)),
            collected: Cell::new(0),
            evicted: Cell::new(0),
            refused: Cell::new(0),
        })
    }

    /// Takes a connection in, for one answer only if it is to be `short`. At the bound the longest idle one is closed for it;
    /// `None` if none is idle.
    pub(super) fn enter(self: &Rc<Self>, slot: HandshakeSlot, short: bool) -> Option<Entry> {
        let mut table = self.table.borrow_mut();
        if table.peers.len() >= self.max {
            let Some(index) = table.longest_idle() else {
                self.refused.set(self.refused.get() + 1);
                return None;
            };
            let peer = table.remove(index);
            peer.gone.set(true);
            peer.evict.notify_one();
            self.evicted.set(self.evicted.get() + 1);
        }
        let accepted = slot.accepted;
        let slot = RefCell::new(Some(slot));
        let peer = Rc::new(Peer { slot, evict: Notify::new(), gone: Cell::new(false) });
        let index = table.insert(peer.clone());
        let speaks_tls = Cell::new(false);
        Some(Entry { connections: self.clone(), index, peer, accepted, short, speaks_tls })
    }

    /// Waits at most `wait` for one of the places for requests in work; `None` if none came free.
    pub(super) async fn work(&self, wait: Duration) -> Option<SemaphorePermit<'_>> {
        one_of(&self.work, wait).await
    }

    /// Waits at most `wait` for one of the places for upgrades in work; `None` if none came free.
    pub(super) async fn upgrade(&self, wait: Duration) -> Option<SemaphorePermit<'_>> {
        one_of(&self.upgrades, wait).await
    }

    /// One of the places for batches in work, if one is free. A batch may take as long as its client likes, so nobody waits
    /// for another's.
    pub(super) fn batch(&self) -> Option<OwnedSemaphorePermit> {
        self.batches.clone().try_acquire_owned().ok()
    }

    /// An account for the bytes of one body.
    pub(super) fn account(self: &Rc<Self>) -> Account {
        Account { connections: self.clone(), bytes: 0 }
    }

    /// How many connections there are now.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.borrow().peers.len()
    }

    /// How many were closed to make room, since the start.
    #[cfg(test)]
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.get()
    }

    /// How many were dropped unheard because all others had a request in work, since the start.
    #[cfg(test)]
    pub(crate) fn refused(&self) -> u64 {
        self.refused.get()
    }
}

impl Table {
    fn insert(&mut self, peer: Rc<Peer>) -> usize {
        let index = self.peers.insert(peer);
        if self.idle_since.len() <= index {
            self.idle_since.resize(index + 1, BUSY);
        }
        self.set_idle(index);
        index
    }

    fn remove(&mut self, index: usize) -> Rc<Peer> {
        self.idle_since[index] = BUSY;
        self.peers.remove(index)
    }

    fn set_idle(&mut self, index: usize) {
        self.clock += 1;
        self.idle_since[index] = self.clock;
    }

    fn longest_idle(&self) -> Option<usize> {
        let (index, &since) = self.idle_since.iter().enumerate().min_by_key(|&(_, &since)| since)?;
        (since != BUSY).then_some(index)
    }
}

/// One connection's place in the table; it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    connections: Rc<Connections>,
    index: usize,
    peer: Rc<Peer>,
    /// From when on all counts that it has time for before its first request: a PROXY header, TLS, and that request.
    accepted: Instant,
    short: bool,
    speaks_tls: Cell<bool>,
}

impl Entry {
    /// A request of it is in work; it will not be closed for another.
    pub(super) fn begin(&self) {
        if !self.peer.gone.get() {
            self.connections.table.borrow_mut().idle_since[self.index] = BUSY;
        }
    }

    /// Its request is answered.
    pub(super) fn end(&self) {
        self.free_slot();
        if !self.peer.gone.get() {
            self.connections.table.borrow_mut().set_idle(self.index);
        }
    }

    /// Whether it ends with its first answer, or when it has overstayed without a request.
    pub(super) fn is_short(&self) -> bool {
        self.short
    }

    /// When it was accepted.
    pub(super) fn accepted(&self) -> Instant {
        self.accepted
    }

    /// It has begun a TLS handshake. Until its first request it needs a few round trips.
    pub(super) fn begin_tls(&self) {
        self.speaks_tls.set(true);
    }

    /// Gives its place between accept and first response back when it has had that for as long as it may. Resolves when it has
    /// to go: if it is short and has no request in work by then. Whatever stage it is at, the time since its accept counts.
    pub(super) async fn overstays(&self) {
        sleep_until(self.accepted + Duration::from_millis(limits::HANDSHAKE_MS)).await;
        self.free_slot();
        if self.short {
            if self.speaks_tls.get() {
                sleep_until(self.accepted + Duration::from_millis(limits::TLS_SHORT_MS)).await;
            }
            if self.is_idle() {
                return;
            }
        }
        pending::<()>().await;
    }

    /// Whether no request of it is in work.
    fn is_idle(&self) -> bool {
        self.peer.gone.get() || self.connections.table.borrow().idle_since[self.index] != BUSY
    }

    /// Gives its place between accept and first response back.
    pub(super) fn free_slot(&self) {
        self.peer.slot.take();
    }

    /// Resolves when it has to make room.
    pub(super) async fn evicted(&self) {
        self.peer.evict.notified().await;
    }

    /// The table it stands in.
    pub(super) fn connections(&self) -> &Rc<Connections> {
        &self.connections
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.peer.gone.get() {
            self.connections.table.borrow_mut().remove(self.index);
        }
    }
}

/// What one body takes of the bytes a shard may collect; dropping it gives them back.
#[derive(Debug)]
pub(super) struct Account {
    connections: Rc<Connections>,
    bytes: usize,
}

impl Account {
    /// Charges it for `bytes` more; says whether they were to be had. It never waits: bodies half collected that wait
    /// for one another would all wait in vain.
    #[must_use]
    pub(super) fn charge(&mut self, bytes: usize) -> bool {
        let collected = self.connections.collected.get() + bytes;
        if collected > limits::HTTP_BODIES_BYTES {
            return false;
        }
        self.connections.collected.set(collected);
        self.bytes += bytes;
        true
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.connections.collected.set(self.connections.collected.get() - self.bytes);
    }
}

async fn one_of(places: &Semaphore, wait: Duration) -> Option<SemaphorePermit<'_>> {
    if let Ok(permit) = places.try_acquire() {
        return Some(permit);
    }
    tokio::time::timeout(wait, places.acquire()).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(max: usize) -> Rc<Connections> {
        Connections::with(http1::Builder::new(), max, 1)
    }

    fn slot() -> HandshakeSlot {
        HandshakeSlot::new(Arc::new(Semaphore::new(1)).try_acquire_owned().expect("it is free"))
    }

    fn gone(entry: &Entry) -> bool {
        entry.peer.gone.get()
    }

    #[test]
    fn longest_idle_makes_room_and_busy_ones_do_not() {
        let connections = connections(3);
        let entries: Vec<_> =
            (0..3).map(|_| connections.enter(slot(), false).expect("there is room")).collect();
        entries[0].begin();
        entries[1].begin();
        entries[1].end();
        let newest = connections.enter(slot(), false).expect("the third has been idle for longest");
        assert_eq!(entries.iter().map(gone).collect::<Vec<_>>(), [false, false, true]);
        newest.begin();
        let _another = connections.enter(slot(), false).expect("the second is idle");
        assert!(gone(&entries[1]) && !gone(&entries[0]));
        assert_eq!((connections.len(), connections.evicted(), connections.refused()), (3, 2, 0));
    }

    #[test]
    fn newcomer_is_refused_when_all_are_busy() {
        let connections = connections(2);
        let entries: Vec<_> =
            (0..2).map(|_| connections.enter(slot(), false).expect("there is room")).collect();
        entries.iter().for_each(Entry::begin);
        assert!(connections.enter(slot(), false).is_none());
        assert_eq!((connections.len(), connections.refused()), (2, 1));
    }

    #[test]
    fn evicted_entry_does_not_touch_its_successor() {
        let connections = connections(1);
        let old = connections.enter(slot(), false).expect("there is room");
        let new = connections.enter(slot(), false).expect("the old one is idle");
        assert_eq!(old.index, new.index);
        old.begin();
        let newest = connections.enter(slot(), false).expect("the new one is still idle");
        newest.begin();
        old.end();
        drop(old);
        drop(new);
        assert_eq!(connections.len(), 1);
        assert!(connections.enter(slot(), false).is_none(), "the newest is still busy");
        drop(newest);
        assert_eq!(connections.len(), 0);
    }

    #[test]
    fn slot_is_free_after_the_first_answer() {
        let slots = Arc::new(Semaphore::new(1));
        let permit = slots.clone().try_acquire_owned().expect("it is free");
        let entry = connections(1).enter(HandshakeSlot::new(permit), false).expect("there is room");
        entry.begin();
        assert_eq!(slots.available_permits(), 0);
        entry.end();
        assert_eq!(slots.available_permits(), 1);
    }

    #[test]
    fn collected_bytes_are_bounded_and_come_back() {
        let connections = connections(1);
        let (mut one, mut two) = (connections.account(), connections.account());
        assert!(one.charge(limits::HTTP_BODIES_BYTES - 10));
        assert!(!two.charge(11));
        assert!(two.charge(10));
        drop(one);
        assert!(two.charge(11));
        drop(two);
        assert_eq!(connections.collected.get(), 0);
    }

    #[tokio::test]
    async fn work_is_waited_for_and_not_for_ever() {
        let connections = connections(1);
        let held = connections.work(Duration::ZERO).await.expect("one is free");
        assert!(connections.work(Duration::from_millis(1)).await.is_none());
        let (next, ()) = tokio::join!(connections.work(Duration::from_secs(5)), async { drop(held) });
        assert!(next.is_some());
    }
}
