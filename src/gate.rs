//! The gate: who may come in, by how many there are and how fast they come.
//!
//! One for the node. The acceptor asks it for each connection, the upgrade for each client; the answer is a `Pass`, or the
//! reason why not. What it keeps of an address goes with the last connection, or is as good as gone when its debt is
//! paid: there is nothing to sweep. It never waits, and it reads no header: by which address somebody is counted is
//! decided before.
//!
//! Rates are counted as the generic cell rate algorithm does (ITU-T I.371): for each address one time, until which it has
//! used up what it may. A time that has passed is the same as none.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use dashmap::{DashMap, Entry};

use crate::{limits, metrics::Refused, peer::AddressKey, settings::GateSettings};

/// Addresses of one set of the table of rates. Which set an address belongs to is its hash's business.
const WAYS: usize = 8;
/// Sets of that table.
const SETS: u64 = (limits::ADDRESSES_RATED / WAYS) as u64;

/// Who may come in.
#[derive(Debug)]
pub struct Gate {
    settings: ArcSwap<GateSettings>,
    began: Instant,
    /// Connections that there is room for, whatever they speak; the acceptor finds it out.
    room: AtomicUsize,
    /// Nearly all of that is taken; written by the acceptor.
    crowded: AtomicBool,
    /// Connections of each address that has any. As many entries at most as there are connections.
    connections: DashMap<AddressKey, usize>,
    /// Until when what may come over all addresses is used up, nanoseconds.
    used_until: AtomicU64,
    rates: Rates,
    /// When the next refusal of each reason is logged, milliseconds.
    next_log: [AtomicU64; Refused::ALL.len()],
}

/// How many connections there are, of those that there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowd {
    /// So few that none has to go.
    None,
    /// So many that half of what clients leave to HTTP is taken too.
    Near,
    /// All.
    Full,
}

/// The right of one connection to be there; it counts for its address as long as this lives.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    key: AddressKey,
}

/// As what somebody comes in.
#[derive(Debug)]
pub(crate) enum Entrance {
    /// As a client, with its pass where there is one.
    Client(Option<Pass>),
    /// As a proxy, which says with each request whom that is from.
    Proxy,
    /// As a proxy, which first says whom it comes for.
    ProxyHeader,
}

impl Gate {
    /// A gate through which nobody has come.
    pub(crate) fn new(settings: GateSettings) -> Arc<Self> {
        Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            began: Instant::now(),
            room: AtomicUsize::new(usize::MAX),
            crowded: AtomicBool::new(false),
            connections: DashMap::new(),
            used_until: AtomicU64::new(0),
            rates: Rates::default(),
            next_log: Default::default(),
        })
    }

    /// Has other limits hold from now on. Those who are in stay, and who came while connections were not counted by
    /// address is not counted later.
    pub fn replace(&self, settings: GateSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// The limits in force.
    pub fn settings(&self) -> Guard<Arc<GateSettings>> {
        self.settings.load()
    }

    /// Says how many connections there is room for.
    pub(crate) fn set_room(&self, connections: usize) {
        self.room.store(connections, Ordering::Relaxed);
    }

    /// Connections that there is room for, whatever they speak.
    pub(crate) fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }

    /// Takes note of how many connections there are, and says what that is of what there is room for.
    pub(crate) fn note_connections(&self, connections: usize) -> Crowd {
        let room = self.room();
        let crowd = match connections {
            _ if connections >= room => Crowd::Full,
            _ if connections >= room - kept_for_http(room) / 2 => Crowd::Near,
            _ => Crowd::None,
        };
        self.crowded.store(crowd != Crowd::None, Ordering::Relaxed);
        crowd
    }

    /// Whether there are so many connections that further ones which speak HTTP are to be short.
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    /// Clients that may be connected: as many as are allowed, and no more than leave room for HTTP.
    pub fn clients_max(&self) -> usize {
        let room = self.room();
        let most = match self.settings.load().max_connections {
            0 => usize::MAX,
            most => most,
        };
        most.min(room - kept_for_http(room))
    }

    /// Lets in whoever sends from `address`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn open(self: &Arc<Self>, address: IpAddr) -> Result<Entrance, Refused> {
        let is_proxy_protocol = self.settings.load().proxy_protocol;
        match (self.trusts(address), is_proxy_protocol) {
            (true, true) => Ok(Entrance::ProxyHeader),
            (true, false) => Ok(Entrance::Proxy),
            (false, true) => Err(Refused::NoProxy),
            (false, false) => self.admit(address).map(Entrance::Client),
        }
    }

    /// Whether `address` is that of a proxy whose word is taken.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.settings.load().trusted_proxies.contain(address)
    }

    /// Lets a connection of `client` in, unless there are too many or they come too fast.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Option<Pass>, Refused> {
        self.admit_at(client, self.now())
    }

    /// A further handshake on a connection that is in.
    ///
    /// # Errors
    /// When handshakes come too fast.
    pub(crate) fn charge(&self, client: IpAddr) -> Result<(), Refused> {
        self.charge_at(&self.settings(), AddressKey::of(client), self.now())
    }

    /// Whether another refusal for this reason is to be logged: the first, and then one in
    /// [`limits::REFUSALS_LOGGED_MS`].
    pub(crate) fn may_log(&self, reason: Refused) -> bool {
        let now = self.now() / 1_000_000;
        let next = &self.next_log[reason as usize];
        let due = next.load(Ordering::Relaxed);
        let then = now + limits::REFUSALS_LOGGED_MS;
        due <= now && next.compare_exchange(due, then, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn admit_at(self: &Arc<Self>, client: IpAddr, now: u64) -> Result<Option<Pass>, Refused> {
        let settings = self.settings();
        let key = AddressKey::of(client);
        let pass = match settings.max_connections_per_ip {
            0 => None,
            most => Some(self.count(key, most)?),
        };
        self.charge_at(&settings, key, now)?;
        Ok(pass)
    }

    fn count(self: &Arc<Self>, key: AddressKey, most: usize) -> Result<Pass, Refused> {
        let mut count = self.connections.entry(key).or_insert(0);
        if *count >= most {
            return Err(Refused::ConnectionsOfAddress);
        }
        *count += 1;
        Ok(Pass { gate: self.clone(), key })
    }

    /// The address first, so that one that is refused takes nothing from the others.
    fn charge_at(&self, settings: &GateSettings, key: AddressKey, now: u64) -> Result<(), Refused> {
        let rate = settings.handshakes_per_second_per_ip;
        if rate > 0 && !self.rates.charge(key, now, rate) {
            return Err(Refused::RateOfAddress);
        }
        let rate = settings.handshakes_per_second;
        let charged = |until| used_until(until, now, rate);
        if rate > 0 && self.used_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged).is_err() {
            return Err(Refused::Rate);
        }
        Ok(())
    }

    /// Nanoseconds since it was made; from 1 on, so that 0 has always passed.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.gate.connections.entry(self.key) {
            match *count.get() {
                0 | 1 => drop(count.remove()),
                more => *count.get_mut() = more - 1,
            }
        }
    }
}

/// Of so many connections those that clients leave to HTTP: so publishing, registering and health are served
/// while no further client is.
fn kept_for_http(room: usize) -> usize {
    let part = room / limits::HTTP_SHARE;
    part.clamp(limits::HTTP_SHARE_LEAST.min(room / 2), limits::HTTP_SHARE_MOST)
}

/// How fast each address comes.
///
/// A fixed number of sets of a few places each. Where a set is full of addresses that all have a debt, the one with the
/// least is forgotten: a flood from very many addresses is for the rate of all together to stop.
#[derive(Debug, Default)]
struct Rates {
    hasher: RandomState,
    sets: DashMap<u64, [Rated; WAYS]>,
}

/// A place in the table: until when an address has used up what it may, nanoseconds. Once that has passed it is free.
#[derive(Clone, Copy, Debug, Default)]
struct Rated {
    key: Option<AddressKey>,
    until: u64,
}

impl Rates {
    /// Charges an address for one handshake; says whether it may have it. One that may not is charged for nothing.
    fn charge(&self, key: AddressKey, now: u64, rate: u32) -> bool {
        let mut set = self.sets.entry(self.hasher.hash_one(key) % SETS).or_default();
        let place = match set.iter().position(|place| place.key == Some(key)) {
            Some(own) => &mut set[own],
            None => {
                let least = set.iter_mut().min_by_key(|place| place.until).expect("there are places");
                *least = Rated { key: Some(key), until: 0 };
                least
            }
        };
        match used_until(place.until, now, rate) {
            Some(until) => place.until = until,
            None => return false,
        }
        true
    }
}

/// Until when a rate is used up with one more handshake at `now`; `None` if it is too much.
fn used_until(until: u64, now: u64, rate: u32) -> Option<u64> {
    let each = Duration::from_secs(1).as_nanos() as u64 / u64::from(rate);
    let burst = Duration::from_secs(limits::HANDSHAKES_BURST_SECONDS).as_nanos() as u64;
    let until = until.max(now).saturating_add(each);
    (until - now <= burst).then_some(until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Networks;

    const SECOND: u64 = 1_000_000_000;

    fn gate(settings: GateSettings) -> Arc<Gate> {
        Gate::new(settings)
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn connections_of_an_address_are_counted_as_long_as_they_are_there() {
        let gate = gate(GateSettings { max_connections_per_ip: 2, ..GateSettings::default() });
        let one = gate.admit(address(1)).expect("there is room");
        let _two = gate.admit(address(1)).expect("there is room");
        assert_eq!(gate.admit(address(1)).unwrap_err(), Refused::ConnectionsOfAddress);
        drop(gate.admit(address(2)).expect("it is another address"));
        assert_eq!(gate.connections.len(), 1, "nothing is kept of who is gone");
        drop(one);
        assert!(gate.admit(address(1)).is_ok());
    }

    #[test]
    fn without_a_limit_nothing_is_kept_of_anybody() {
        let gate = gate(GateSettings::default());
        for number in 0..100 {
            assert!(gate.admit(address(number)).expect("it is not limited").is_none());
        }
        assert!(gate.connections.is_empty() && gate.rates.sets.is_empty());
    }

    #[test]
    fn rate_of_an_address_has_a_burst_and_comes_back_with_time() {
        let gate = gate(GateSettings { handshakes_per_second_per_ip: 4, ..GateSettings::default() });
        let burst = 4 * limits::HANDSHAKES_BURST_SECONDS;
        let admitted = |now| (0..1_000).take_while(|_| gate.admit_at(address(1), now).is_ok()).count() as u64;
        assert_eq!(admitted(1), burst);
        assert_eq!(gate.admit_at(address(1), 1).unwrap_err(), Refused::RateOfAddress);
        assert!(gate.admit_at(address(2), 1).is_ok(), "another address has its own");
        assert_eq!(admitted(1 + SECOND / 2), 2);
        assert_eq!(admitted(1 + 1_000 * SECOND), burst, "no more is saved up than that");
    }

    #[test]
    fn rate_of_all_is_not_used_up_by_an_address_that_is_refused() {
        let settings = GateSettings {
            handshakes_per_second: 10,
            handshakes_per_second_per_ip: 1,
            ..GateSettings::default()
        };
        let gate = gate(settings);
        let burst = limits::HANDSHAKES_BURST_SECONDS;
        let refused = (0..1_000).filter(|_| gate.admit_at(address(0), 1).is_err()).count() as u64;
        assert_eq!(refused, 1_000 - burst);
        let others = (1..1_000).take_while(|number| gate.admit_at(address(*number), 1).is_ok()).count();
        assert_eq!(others as u64, 9 * burst);
        assert_eq!(gate.admit_at(address(2_000), 1).unwrap_err(), Refused::Rate);
        assert!(gate.admit_at(address(2_000), 1 + SECOND).is_ok());
    }

    #[test]
    fn who_is_refused_for_the_rate_is_not_counted_as_connected() {
        let settings = GateSettings {
            max_connections_per_ip: 1_000,
            handshakes_per_second_per_ip: 1,
            ..GateSettings::default()
        };
        let gate = gate(settings);
        let passes: Vec<_> = (0..100).filter_map(|_| gate.admit_at(address(1), 1).ok()).collect();
        assert_eq!(*gate.connections.get(&AddressKey::of(address(1))).expect("it is there"), passes.len());
    }

    #[test]
    fn table_of_rates_stays_bounded_and_forgets_the_least_debt() {
        let rates = Rates::default();
        // One that has used up what it may for five seconds, among very many that came once.
        while rates.charge(AddressKey::of(address(0)), 1, 10) {}
        for number in 1..4 * limits::ADDRESSES_RATED as u32 {
            rates.charge(AddressKey::of(address(number)), 1, 10);
        }
        let held: usize =
            rates.sets.iter().map(|set| set.iter().filter(|place| place.until > 0).count()).sum();
        assert_eq!(held, limits::ADDRESSES_RATED);
        assert!(!rates.charge(AddressKey::of(address(0)), 1, 10), "the greatest debt is remembered");
    }

    #[test]
    fn limits_that_are_replaced_hold_from_then_on() {
        let gate = gate(GateSettings::default());
        let _before = gate.admit(address(1)).expect("there is no limit");
        gate.replace(GateSettings { max_connections_per_ip: 1, ..GateSettings::default() });
        let _counted = gate.admit(address(1)).expect("it is the first that is counted");
        assert!(gate.admit(address(1)).is_err());
        gate.replace(GateSettings::default());
        assert!(gate.admit(address(1)).is_ok());
    }

    #[test]
    fn clients_leave_room_for_http() {
        let gate = gate(GateSettings { max_connections: 1_000, ..GateSettings::default() });
        assert_eq!(gate.clients_max(), 1_000);
        for (room, kept) in
            [(0, 0), (1, 0), (10, 5), (100, 8), (1_000, 62), (1 << 20, limits::HTTP_SHARE_MOST)]
        {
            assert_eq!(kept_for_http(room), kept, "of {room}");
            gate.set_room(room);
            assert_eq!(gate.clients_max(), (room - kept).min(1_000));
        }
    }

    #[test]
    fn crowd_begins_before_the_room_ends() {
        let gate = gate(GateSettings::default());
        assert_eq!(gate.note_connections(1 << 40), Crowd::None, "without a limit");
        gate.set_room(100);
        for (connections, crowd) in
            [(95, Crowd::None), (96, Crowd::Near), (99, Crowd::Near), (100, Crowd::Full)]
        {
            assert_eq!(gate.note_connections(connections), crowd, "{connections}");
            assert_eq!(gate.is_crowded(), crowd != Crowd::None);
        }
    }

    #[test]
    fn trusted_proxies_are_asked_for_whom_they_come_and_are_not_counted() {
        let trusted_proxies = Networks::new(vec!["10.0.0.0/8".parse().expect("a network")]);
        let settings = GateSettings { trusted_proxies, max_connections_per_ip: 1, ..GateSettings::default() };
        let gate = gate(settings.clone());
        let proxy = IpAddr::from([10, 1, 2, 3]);
        for _ in 0..3 {
            assert!(matches!(gate.open(proxy), Ok(Entrance::Proxy)));
        }
        let client = gate.open(address(1));
        assert!(matches!(client, Ok(Entrance::Client(Some(_)))));
        assert_eq!(gate.open(address(1)).unwrap_err(), Refused::ConnectionsOfAddress);
        gate.replace(GateSettings { proxy_protocol: true, ..settings });
        assert!(matches!(gate.open(proxy), Ok(Entrance::ProxyHeader)));
        assert_eq!(gate.open(address(2)).unwrap_err(), Refused::NoProxy);
    }

    #[test]
    fn refusals_are_logged_now_and_then() {
        let gate = gate(GateSettings::default());
        let logged = |reason| (0..1_000).filter(|_| gate.may_log(reason)).count();
        assert_eq!((logged(Refused::Rate), logged(Refused::Clients)), (1, 1));
    }
}
