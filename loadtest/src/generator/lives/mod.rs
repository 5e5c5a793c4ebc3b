//! A crowd: clients that do not just listen. They vanish all at once or one by one and come back, change their topics,
//! stall, or read slowly, while a publisher goes on at a fixed rate. Its account is exact for each client and topic,
//! whatever the client does meanwhile (see `standing`).
//!
//! It stands beside the generator of the parent module, whose clients only listen, and which is made to take ten
//! million deliveries a second; this one is made to know what is due to whom.
//!
//! ```text
//! publisher (a thread, fixed rate) ─► server ─► workers (threads: arrivals, life, reading, standing)
//!        └─ shared: numbers given out ─────────────┘
//! ```

mod arrivals;
mod life;
mod outcome;
mod publisher;
mod random;
mod reading;
mod rhythm;
mod shared;
mod standing;
mod track;
mod worker;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::dialect::Framing;
use crate::error::{Context, Error, Result};
use crate::message::Message;
use crate::round::Interrupt;
use crate::timeline::Recorder;
use life::Life;
pub(crate) use outcome::{Closing, Outcome};
use publisher::{Published, Publisher};
use shared::{Phase, Shared};
use standing::Standing;
use worker::{Findings, Worker};

/// How often the directing thread looks at things while it waits.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Where clients connect that did not register.
const UNREGISTERED: &str = "/ws";
/// How long no further client may get connected before the run is given up.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);

/// What a client does besides listening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It stays and reads.
    Steady,
    /// It vanishes when told, and comes back.
    Vanishing,
    /// It reads slowly or not at all when told.
    Slow,
}

/// What clients speak, and how they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    /// They register and speak the plain protocol.
    Plain,
    /// They register and speak `fanfare.v1`. There is one topic.
    V1,
    /// They speak `fanfare.v1` without registering, and subscribe by themselves to the one topic there is. Who comes back
    /// says what it had, and everything since is due to it.
    Resuming,
}

impl Speech {
    fn framing(self) -> Framing {
        match self {
            Self::Plain => Framing::Plain,
            Self::V1 | Self::Resuming => Framing::V1,
        }
    }
}

/// What a crowd is and does.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) topics: Vec<String>,
    /// Topics each client is on, at most as many as there are.
    pub(crate) topics_each: usize,
    pub(crate) clients: usize,
    pub(crate) threads: usize,
    pub(crate) message: Message,
    /// Publications a second, over all topics.
    pub(crate) rate: f64,
    /// Each publication has a key.
    pub(crate) keyed: bool,
    pub(crate) speech: Speech,
    /// Shares of the clients with each role; spread evenly.
    pub(crate) vanishing: f64,
    pub(crate) slow: f64,
    /// Bytes a second that a slow client reads; 0: none.
    pub(crate) read_rate: f64,
    /// What the kernel holds for a slow client, before its own bookkeeping.
    pub(crate) receive_buffer: Option<usize>,
    /// How long after it was closed a slow client comes back, and is slow again; `None`: never.
    pub(crate) slow_back_after: Option<Duration>,
    /// How long a vanished client stays away.
    pub(crate) away: Duration,
    /// Whether it registers anew, instead of coming back on its URL.
    pub(crate) anew: bool,
    /// Sockets of one thread between `connect` and the server's answer, after the first connecting.
    pub(crate) under_way_max: usize,
    /// How often any client changes its topics, and any of the vanishing ones vanishes by itself.
    pub(crate) changes_per_second: f64,
    pub(crate) cycles_per_second: f64,
    pub(crate) seed: u64,
}

impl Plan {
    /// Clients that only listen, all on one topic.
    pub(crate) fn listening(
        address: SocketAddr,
        topic: String,
        clients: usize,
        threads: usize,
        message: Message,
        rate: f64,
    ) -> Self {
        Self {
            address,
            topics: vec![topic],
            topics_each: 1,
            clients,
            threads,
            message,
            rate,
            keyed: false,
            speech: Speech::Plain,
            vanishing: 0.0,
            slow: 0.0,
            read_rate: 0.0,
            receive_buffer: None,
            slow_back_after: None,
            away: Duration::ZERO,
            anew: false,
            under_way_max: 64,
            changes_per_second: 0.0,
            cycles_per_second: 0.0,
            seed: 0,
        }
    }

    pub(crate) fn slow_clients(&self) -> usize {
        (0..self.clients).filter(|&number| self.role(number) == Role::Slow).count()
    }

    pub(crate) fn vanishing_clients(&self) -> usize {
        (0..self.clients).filter(|&number| self.role(number) == Role::Vanishing).count()
    }

    fn role(&self, number: usize) -> Role {
        let begins = |share: f64| {
            let upto = |number: usize| (number as f64 * share) as usize;
            upto(number + 1) > upto(number)
        };
        // The union of two shares is spread evenly, and within it the slow ones are.
        if begins(self.slow) {
            Role::Slow
        } else if begins((self.slow + self.vanishing).min(1.0)) {
            Role::Vanishing
        } else {
            Role::Steady
        }
    }

    /// Client `number`, with neighbouring topics.
    fn life(&self, number: usize) -> Life {
        let count = self.topics.len();
        let is_in = |topic: usize| (topic + count - number % count) % count < self.topics_each;
        let standings = (0..count).map(|topic| Standing::new(is_in(topic))).collect();
        let mut life = Life::new(number, self.role(number), standings);
        if self.speech == Speech::Resuming {
            UNREGISTERED.clone_into(&mut life.path);
        }
        life
    }
}

/// The running threads. Dropping it ends them.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    clients: u64,
    /// Slow clients come back, so that their ends are too many to be marked one by one.
    ends_are_common: bool,
    interrupt: Interrupt,
    recorder: RefCell<Recorder>,
    workers: Vec<JoinHandle<Result<Findings>>>,
    publisher: Option<JoinHandle<Result<Published>>>,
}

impl Crowd {
    /// Starts the threads, and waits until everybody is connected. `server` is the process to be watched.
    pub(crate) fn gather(plan: &Plan, server: Option<u32>, interrupt: &Interrupt) -> Result<Self> {
        let shared = Arc::new(Shared::new(plan.topics.len(), plan.threads));
        let mut crowd = Self {
            shared: Arc::clone(&shared),
            clients: plan.clients as u64,
            ends_are_common: plan.slow_back_after.is_some(),
            interrupt: interrupt.clone(),
            recorder: RefCell::new(Recorder::new(server, vec![std::process::id()])),
            workers: Vec::with_capacity(plan.threads),
            publisher: None,
        };
        for index in 0..plan.threads {
            let worker = Worker::new(index, Arc::clone(&shared), plan)?;
            let thread = thread::Builder::new().name(format!("crowd-{index}")).spawn(|| worker.run());
            crowd.workers.push(thread.context(|| "cannot start a thread".to_owned())?);
        }
        let publisher = Publisher::new(plan, Arc::clone(&shared));
        let thread = thread::Builder::new().name("publisher".to_owned()).spawn(|| publisher.run());
        crowd.publisher = Some(thread.context(|| "cannot start a thread".to_owned())?);
        if crowd.connect()? { Ok(crowd) } else { Err(crowd.why_it_failed()) }
    }

    /// `false` if a thread ended by itself.
    fn connect(&self) -> Result<bool> {
        let started = Instant::now();
        let (mut seen, mut moved) = (0, started);
        loop {
            let open = self.open();
            if open == self.clients {
                return Ok(true);
            }
            if self.has_failed() {
                return Ok(false);
            }
            if open != seen {
                (seen, moved) = (open, Instant::now());
            }
            if moved.elapsed() > CONNECT_PATIENCE {
                let clients = self.clients;
                return Err(Error::Failed(format!(
                    "only {open} of {clients} clients are connected, and none was added for {CONNECT_PATIENCE:?}"
                )));
            }
            self.interrupt.check()?;
            self.record("connecting");
            let per_second = open as f64 / started.elapsed().as_secs_f64();
            self.interrupt.progress.clients("connecting", open, self.clients, per_second);
            sleep(LOOK_EVERY);
        }
    }

    /// Begins to publish.
    pub(crate) fn run(&self) {
        self.shared.enter(Phase::Run);
    }

    /// Keeps the latencies from now on under `segment`, 0 to 3.
    pub(crate) fn begin_segment(&self, segment: usize) {
        self.shared.set_segment(segment);
    }

    /// Lets the vanishing clients vanish, all at once.
    pub(crate) fn vanish(&self) {
        self.shared.order_vanish();
    }

    /// Lets the slow clients be slow.
    pub(crate) fn slow_down(&self) {
        self.shared.order_slow();
    }

    pub(crate) fn open(&self) -> u64 {
        self.shared.sum(|worker| &worker.open)
    }

    /// How many clients have vanished, come back and got a message since; each time counts.
    pub(crate) fn served_again(&self) -> u64 {
        self.shared.sum(|worker| &worker.served_again)
    }

    /// Something happens now that a reader of the plots should see.
    pub(crate) fn event(&self, name: impl Into<String>) {
        self.recorder.borrow_mut().event(name);
    }

    /// Waits so long, or until a thread has ended by itself. `doing` names the phase on the plots.
    pub(crate) fn wait(&self, doing: &'static str, time: Duration) -> Result<()> {
        self.wait_until(doing, time, |_| false).map(drop)
    }

    /// Waits for `done`, which is asked often, at most so long; `false` if it did not come or a thread has ended by
    /// itself.
    pub(crate) fn wait_until(
        &self,
        doing: &'static str,
        at_most: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool> {
        let begun = Instant::now();
        loop {
            if done(self) {
                return Ok(true);
            }
            let passed = begun.elapsed();
            let left = at_most.saturating_sub(passed);
            if left.is_zero() || self.has_failed() {
                return Ok(false);
            }
            self.interrupt.check()?;
            let rate = self.record(doing);
            self.interrupt.progress.time(doing, passed, at_most, rate);
            sleep(LOOK_EVERY.min(left));
        }
    }

    /// Takes a sample if it is time, and gives the deliveries per second of late.
    fn record(&self, phase: &'static str) -> f64 {
        let mut recorder = self.recorder.borrow_mut();
        recorder.phase(phase);
        recorder.look(|| self.shared.totals());
        recorder.deliveries_per_second()
    }

    /// Stops publishing and waits, at most so long, until nothing is due to anybody; then ends the threads and adds
    /// up what they found. An error of any of them comes first.
    pub(crate) fn finish(mut self, patience: Duration) -> Result<Outcome> {
        self.shared.enter(Phase::Drain);
        let settled = |crowd: &Self| crowd.shared.workers.iter().all(|worker| worker.settled.load(Relaxed));
        self.wait_until("draining", patience, settled)?;
        let totals = self.shared.totals();
        self.interrupt.progress.clear();
        self.shared.enter(Phase::Stop);
        let mut found = Vec::new();
        for worker in self.workers.drain(..) {
            found.push(joined(worker)?);
        }
        let Some(publisher) = self.publisher.take() else {
            return Err(Error::Failed("no publisher".to_owned()));
        };
        let published = joined(publisher)?;
        let mut outcome = Outcome::of(found, &published, self.shared.published.load(Relaxed))?;
        let mut recorder = self.recorder.borrow_mut();
        if !self.ends_are_common {
            outcome.mark_ends(&mut recorder);
        }
        outcome.timeline = recorder.timeline(totals);
        drop(recorder);
        Ok(outcome)
    }

    /// A worker never ends by itself, and the publisher only when it has nothing more to do.
    fn has_failed(&self) -> bool {
        let publisher_is_done = self.shared.published_all.load(Relaxed);
        self.workers.iter().any(JoinHandle::is_finished)
            || (!publisher_is_done && self.publisher.as_ref().is_some_and(JoinHandle::is_finished))
    }

    fn why_it_failed(mut self) -> Error {
        self.shared.enter(Phase::Stop);
        let workers = self.workers.drain(..).filter_map(|worker| joined(worker).err()).collect::<Vec<_>>();
        let publisher = self.publisher.take().and_then(|publisher| joined(publisher).err());
        let first = workers.into_iter().chain(publisher).next();
        first.unwrap_or_else(|| Error::Failed("the generator ended early".to_owned()))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.enter(Phase::Stop);
        for worker in self.workers.drain(..) {
            // Its findings are of no interest to whoever dropped the crowd.
            let _ = worker.join();
        }
        if let Some(publisher) = self.publisher.take() {
            let _ = publisher.join();
        }
    }
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| Error::Failed("a generator thread panicked".to_owned())).and_then(|found| found)
}
