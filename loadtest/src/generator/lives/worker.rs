//! One thread of a crowd: an epoll loop over its share of the clients. Each turn takes the events there are, brings
//! clients to the server, and lets those that are to vanish, read slowly or change their topics do so.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};

use super::arrivals::Arrivals;
use super::life::{Life, Pace, State};
use super::random::Random;
use super::reading::{Reading, Turn};
use super::rhythm::Rhythm;
use super::shared::{Phase, Shared};
use super::standing::{Hold, Standing};
use super::{Closing, Plan, Role, Speech};
use crate::dialect::v1::Gaps;
use crate::error::{Context, Error, Result};
use crate::generator::frame;
use crate::place::Place;

const REGISTRAR: Token = Token(usize::MAX);
const EVENTS_MAX: usize = 1024;
/// The longest sleep: how often clocks and orders are looked at.
const TURN_MAX: Duration = Duration::from_millis(5);
/// How long a client waits after it was refused.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Sockets between `connect` and the answer while everybody comes for the first time.
const FIRST_UNDER_WAY_MAX: usize = 64;
/// Clients that vanish in one turn: what the others get is read between.
const VANISH_PER_TURN: usize = 64;
/// How often a client is looked for that may do something, among all that may not.
const SEARCH_MAX: usize = 16;

/// What one worker found.
pub(super) struct Findings {
    pub(super) reading: Reading,
    pub(super) closings: Vec<Closing>,
    /// Upgrades that failed and were tried again, by reason.
    pub(super) retries: BTreeMap<String, u64>,
    pub(super) vanished_at: Option<Instant>,
    /// The longest time between two looks at the sockets while publishing: latencies are uncertain by as much.
    pub(super) turn_max: Duration,
    pub(super) first_back: Option<Instant>,
    pub(super) last_back: Option<Instant>,
    pub(super) vanished: u64,
    pub(super) back: u64,
    pub(super) commands_sent: u64,
    /// Commands whose answer never came, of clients that stayed.
    pub(super) unanswered: u64,
    /// Clients that vanished and were not connected again in the end.
    pub(super) never_back: u64,
    pub(super) fates: Vec<Fate>,
}

/// What became of one client.
pub(super) struct Fate {
    pub(super) number: usize,
    pub(super) is_slow: bool,
    /// It was connected in the end.
    pub(super) is_open: bool,
    /// What it was told it misses, if its protocol says so.
    pub(super) told: Option<Gaps>,
}

/// A thread's state; [`Worker::run`] is the thread.
pub(super) struct Worker {
    index: usize,
    shared: Arc<Shared>,
    poll: Poll,
    lives: Vec<Life>,
    arrivals: Arrivals,
    plan: Plan,
    open: u64,
    /// Clients below this place have vanished, if it was ordered.
    vanished_to: usize,
    found: Findings,
    slow_clock: Rhythm,
    changes: Rhythm,
    cycles: Rhythm,
    random: Random,
}

impl Worker {
    pub(super) fn new(index: usize, shared: Arc<Shared>, plan: &Plan) -> Result<Self> {
        let threads = plan.threads;
        let (first, end) = (plan.clients * index / threads, plan.clients * (index + 1) / threads);
        let lives: Vec<Life> = (first..end).map(|number| plan.life(number)).collect();
        let mut arrivals = Arrivals::new(
            plan.address,
            plan.topics.clone(),
            plan.speech.framing().subprotocol(),
            REGISTRAR,
            FIRST_UNDER_WAY_MAX,
            plan.receive_buffer,
        );
        let now = Instant::now();
        (0..lives.len()).for_each(|place| arrivals.expect(place, now));
        let share = lives.len() as f64 / plan.clients as f64;
        Ok(Self {
            index,
            shared,
            poll: Poll::new().context(|| "no poller".to_owned())?,
            lives,
            arrivals,
            plan: plan.clone(),
            open: 0,
            vanished_to: 0,
            found: Findings {
                reading: Reading::new(plan)?,
                closings: Vec::new(),
                retries: BTreeMap::new(),
                vanished_at: None,
                turn_max: Duration::ZERO,
                first_back: None,
                last_back: None,
                vanished: 0,
                back: 0,
                commands_sent: 0,
                unanswered: 0,
                never_back: 0,
                fates: Vec::new(),
            },
            slow_clock: Rhythm::new(plan.read_rate),
            changes: Rhythm::new(plan.changes_per_second * share),
            cycles: Rhythm::new(plan.cycles_per_second * share),
            random: Random::new(plan.seed.wrapping_add(index as u64)),
        })
    }

    pub(super) fn run(mut self) -> Result<Findings> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut phase = self.shared.phase();
        while phase != Phase::Stop {
            let rest = if self.is_busy() { Duration::ZERO } else { TURN_MAX };
            match self.poll.poll(&mut events, Some(rest)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.context(|| "cannot poll".to_owned())?,
            }
            let now = Instant::now();
            for event in &events {
                self.take(event, now)?;
            }
            self.obey(phase, now)?;
            self.arrivals
                .turn(&mut self.lives, self.poll.registry(), now)
                .context(|| "cannot connect a client".to_owned())?;
            self.report(phase);
            if phase == Phase::Run {
                self.found.turn_max = self.found.turn_max.max(now.elapsed());
            }
            phase = self.shared.phase();
        }
        Ok(self.conclude())
    }

    fn take(&mut self, event: &Event, now: Instant) -> Result<()> {
        let Token(place) = event.token();
        if event.token() == REGISTRAR {
            return self.arrivals.attend(&mut self.lives).context(|| "cannot register".to_owned());
        }
        let life = &mut self.lives[place];
        if life.state == State::Connecting
            && let Err(error) = life.send_request()
        {
            return self.refuse(place, error.to_string(), now);
        }
        let ended = event.is_read_closed() || event.is_error();
        match self.lives[place].state {
            State::Upgrading | State::Open => self.read(place, ended, now),
            State::Away | State::Connecting | State::Gone => Ok(()),
        }
    }

    fn read(&mut self, place: usize, to_end: bool, now: Instant) -> Result<()> {
        let life = &mut self.lives[place];
        let was_open = life.state == State::Open;
        match self.found.reading.read(life, &self.shared, to_end) {
            Turn::Drained => Ok(()),
            Turn::Upgraded => {
                self.arrive(place, now);
                Ok(())
            }
            Turn::Refused(reason) => self.refuse(place, reason, now),
            Turn::Closed(code) if was_open || life.state == State::Open => {
                if !was_open {
                    self.arrive(place, now);
                }
                self.lose(place, code, now);
                Ok(())
            }
            Turn::Closed(_) => self.refuse(place, "closed instead of upgraded".to_owned(), now),
        }
    }

    /// A client has its 101.
    fn arrive(&mut self, place: usize, now: Instant) {
        self.arrivals.answered();
        self.open += 1;
        let life = &mut self.lives[place];
        if life.was_here {
            self.found.back += 1;
            self.found.first_back.get_or_insert(now);
            self.found.last_back = Some(now);
        }
        life.was_here = true;
        if life.role == Role::Slow && self.shared.is_slow() && self.shared.phase() == Phase::Run {
            life.pace = Pace::Slow { credit: 0.0 };
        }
    }

    /// An upgrade failed. For the first time that is an error of the run; later it is counted and tried again.
    fn refuse(&mut self, place: usize, reason: String, now: Instant) -> Result<()> {
        let life = &mut self.lives[place];
        if !life.was_here {
            return Err(Error::Failed(format!("an upgrade was refused: {reason}")));
        }
        *self.found.retries.entry(reason).or_default() += 1;
        life.depart(State::Away);
        self.arrivals.answered();
        self.arrivals.expect(place, now + RETRY_AFTER);
        Ok(())
    }

    /// The server ended the connection of a client.
    fn lose(&mut self, place: usize, code: Option<u16>, now: Instant) {
        let life = &mut self.lives[place];
        let was_slow = life.role == Role::Slow && self.shared.is_slow();
        self.found.closings.push(Closing { was_slow, code, at: now });
        self.open -= 1;
        life.standings.iter_mut().for_each(Standing::vanished);
        life.pace = Pace::Free;
        match self.plan.slow_back_after {
            Some(after) if was_slow => {
                life.depart(State::Away);
                self.arrivals.expect(place, now + after);
            }
            _ => life.depart(State::Gone),
        }
    }

    /// Carries out what is ordered, and what is due by the clock.
    fn obey(&mut self, phase: Phase, now: Instant) -> Result<()> {
        if phase == Phase::Connect {
            return Ok(());
        }
        self.arrivals.under_way_max = self.plan.under_way_max;
        if phase == Phase::Drain {
            return self.free_slow(now);
        }
        self.vanish_as_ordered(now);
        self.read_slowly(now)?;
        for _ in 0..self.cycles.due(now) {
            let fits = |life: &Life| life.role == Role::Vanishing && life.asked_at.is_none();
            if let Some(place) = self.pick(fits) {
                self.vanish(place, now);
            }
        }
        for _ in 0..self.changes.due(now) {
            let fits = |life: &Life| life.role != Role::Slow && life.asked_at.is_none();
            if let Some(place) = self.pick(fits) {
                self.change_topics(place, now)?;
            }
        }
        Ok(())
    }

    /// Lets the next of those vanish that are to vanish all at once.
    fn vanish_as_ordered(&mut self, now: Instant) {
        if !self.is_vanishing() {
            return;
        }
        self.found.vanished_at.get_or_insert(now);
        let mut left = VANISH_PER_TURN;
        while left > 0 && self.vanished_to < self.lives.len() {
            let life = &self.lives[self.vanished_to];
            if life.role == Role::Vanishing && life.state == State::Open {
                self.vanish(self.vanished_to, now);
                left -= 1;
            }
            self.vanished_to += 1;
        }
    }

    fn is_vanishing(&self) -> bool {
        self.shared.is_vanishing() && self.vanished_to < self.lives.len()
    }

    /// There is work that does not wait for the sockets.
    fn is_busy(&self) -> bool {
        self.is_vanishing() || self.arrivals.is_busy()
    }

    fn vanish(&mut self, place: usize, now: Instant) {
        let life = &mut self.lives[place];
        life.vanish(self.plan.speech == Speech::Resuming);
        if self.plan.anew {
            life.path.clear();
        }
        self.open -= 1;
        self.found.vanished += 1;
        self.arrivals.expect(place, now + self.plan.away);
    }

    /// An open client that `fits`, if one is found soon.
    fn pick(&mut self, fits: impl Fn(&Life) -> bool) -> Option<usize> {
        (0..SEARCH_MAX)
            .map(|_| self.random.below(self.lives.len()))
            .find(|&place| self.lives[place].state == State::Open && fits(&self.lives[place]))
    }

    /// Gives every slow client what it may read by now, and lets it read that.
    fn read_slowly(&mut self, now: Instant) -> Result<()> {
        if !self.shared.is_slow() {
            return Ok(());
        }
        let more = self.slow_clock.due(now) as f64;
        for place in 0..self.lives.len() {
            let life = &mut self.lives[place];
            if life.role != Role::Slow || life.state != State::Open {
                continue;
            }
            match &mut life.pace {
                Pace::Free => life.pace = Pace::Slow { credit: 0.0 },
                // What it did not use for a second is gone: a slow line does not save up.
                Pace::Slow { credit } => *credit = (*credit + more).min(self.plan.read_rate.max(more)),
            }
            if more > 0.0 {
                self.read(place, false, now)?;
            }
        }
        Ok(())
    }

    /// Publishing is over: whoever read slowly catches up, so that it is seen what it was kept.
    fn free_slow(&mut self, now: Instant) -> Result<()> {
        for place in 0..self.lives.len() {
            if self.lives[place].pace != Pace::Free && self.lives[place].state == State::Open {
                self.read(place, true, now)?;
                self.lives[place].pace = Pace::Free;
            }
        }
        Ok(())
    }

    /// Sends a new list of topics and a `ping` behind it. About half of the topics held are kept.
    fn change_topics(&mut self, place: usize, now: Instant) -> Result<()> {
        let life = &mut self.lives[place];
        let mut wanted: Vec<usize> = Vec::with_capacity(self.plan.topics_each);
        for (topic, standing) in life.standings.iter().enumerate() {
            if standing.hold() == Hold::In && self.random.below(2) == 0 {
                wanted.push(topic);
            }
        }
        while wanted.len() < self.plan.topics_each {
            let topic = self.random.below(life.standings.len());
            if !wanted.contains(&topic) {
                wanted.push(topic);
            }
        }
        for (topic, standing) in life.standings.iter_mut().enumerate() {
            standing.asked(wanted.contains(&topic));
        }
        let names: Vec<&str> = wanted.iter().map(|&topic| self.plan.topics[topic].as_str()).collect();
        let mut frames = Vec::new();
        frame::push_text(&serde_json::json!({ "topics": names }).to_string(), &mut frames);
        frame::push_text("ping", &mut frames);
        life.asked_at = Some(now);
        let sent = life.stream.as_mut().map_or(Ok(frames.len()), |stream| stream.write(&frames));
        match sent {
            Ok(sent) if sent == frames.len() => {
                self.found.commands_sent += 1;
                Ok(())
            }
            // Its end is read in its turn.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Ok(())
            }
            Ok(_) => Err(Error::Failed("a server does not read the commands of its clients".to_owned())),
            Err(error) => Err(error).context(|| "cannot send a command".to_owned()),
        }
    }

    /// Publishes this worker's counters.
    fn report(&self, phase: Phase) {
        let progress = &self.shared.workers[self.index];
        progress.open.store(self.open, Relaxed);
        progress.deliveries.store(self.found.reading.deliveries, Relaxed);
        progress.served_again.store(self.found.reading.served_again, Relaxed);
        // Only once the last number is known.
        let is_settled = phase == Phase::Drain
            && self.shared.published_all.load(Relaxed)
            && self.lives.iter().all(|life| self.is_settled(life));
        progress.settled.store(is_settled, Relaxed);
    }

    fn is_settled(&self, life: &Life) -> bool {
        match life.state {
            State::Gone => true,
            State::Open => {
                let missing = |(topic, standing): (usize, &Standing)| {
                    let missing = standing.missing(self.shared.sent(topic));
                    missing.end - missing.start
                };
                let pending: u64 = life.standings.iter().enumerate().map(missing).sum();
                !self.is_unanswered(life) && (pending == 0 || life.track.excuses(pending))
            }
            State::Away | State::Connecting | State::Upgrading => false,
        }
    }

    /// Whether it sent a command that was not answered. Who resumes asked for its topic as soon as it had its 101.
    fn is_unanswered(&self, life: &Life) -> bool {
        life.asked_at.is_some() || self.plan.speech == Speech::Resuming && !life.track.is_joined()
    }

    /// What is due to a client that is connected and has not come is missing.
    fn conclude(mut self) -> Findings {
        for life in &self.lives {
            match life.state {
                State::Open => {
                    self.found.unanswered += u64::from(self.is_unanswered(life));
                    for (topic, standing) in life.standings.iter().enumerate() {
                        let missing = standing.missing(self.shared.sent(topic));
                        if !missing.is_empty() {
                            let due = Place::new(topic as u32, missing.start);
                            self.found.reading.ledger.skipped(life.number, due, missing.end);
                        }
                    }
                }
                State::Gone => {}
                State::Away | State::Connecting | State::Upgrading => self.found.never_back += 1,
            }
            self.found.fates.push(Fate {
                number: life.number,
                is_slow: life.role == Role::Slow,
                is_open: life.state == State::Open,
                told: (self.plan.speech != Speech::Plain).then_some(life.track.told),
            });
        }
        self.found
    }
}
