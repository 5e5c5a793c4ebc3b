//! One generator thread: an epoll loop over its share of the clients, and in the first thread the publisher too.
//! Each turn takes the events there are, then connects, stalls, reports and publishes as the phase has it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::{Events, Poll, Token};

use super::Plan;
use super::client::{Client, State};
use super::connector::Connector;
use super::ledger::Ledger;
use super::publisher::Publisher;
use super::reader::{Reader, Turn};
use super::shared::{Phase, Shared};
use crate::error::{Context, Error, Result};

pub(super) const WAKE: Token = Token(usize::MAX);
const REGISTRAR: Token = Token(usize::MAX - 1);
const PUBLISHER: Token = Token(usize::MAX - 2);

const EVENTS_MAX: usize = 1024;
/// The longest sleep: pauses after a refusal and the watch on progress are looked at this often.
const TURN_MAX: Duration = Duration::from_millis(50);
/// About this many clients of a run have each of their messages timed.
const SAMPLED: usize = 128;

/// What one thread found.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) ledger: Ledger,
    pub(super) latency: Histogram<u64>,
    /// Connections the server ended, by close code; `None` is without a close frame.
    pub(super) closed: BTreeMap<Option<u16>, u64>,
    /// Numbers the server refused; only the publishing thread knows any.
    pub(super) refused: BTreeSet<u64>,
}

/// A thread's state; [`Worker::run`] is the thread.
pub(super) struct Worker {
    index: usize,
    shared: Arc<Shared>,
    poll: Poll,
    clients: Vec<Client>,
    reader: Reader,
    /// Kept open after everybody is connected: a server may tie registrations to it, and RSS should not move.
    connector: Connector,
    publisher: Option<Publisher>,
    closed: BTreeMap<Option<u16>, u64>,
    open: u64,
    has_stalled: bool,
    watch: Watch,
}

/// Notices when nothing more reaches everybody.
struct Watch {
    patience: Duration,
    frontier: u64,
    moved: Instant,
}

impl Worker {
    pub(super) fn new(index: usize, poll: Poll, shared: Arc<Shared>, plan: &Plan) -> Result<Self> {
        let threads = plan.threads;
        let first = plan.clients * index / threads;
        let count = plan.clients * (index + 1) / threads - first;
        let registry = poll.registry();
        let connector = Connector::new(
            plan.address,
            plan.dialect,
            &plan.topic,
            first..first + count,
            registry,
            REGISTRAR,
        )
        .context(|| format!("cannot connect to {}", plan.address))?;
        let publisher = match plan.window {
            Some(window) if index == 0 => {
                let (topic, message) = (&plan.topic, plan.message.clone());
                let (address, publishing) = (plan.address, plan.dialect.publishing);
                let publisher =
                    Publisher::connect(address, publishing, topic, message, window, registry, PUBLISHER);
                Some(publisher.context(|| format!("cannot connect to {}", plan.address))?)
            }
            _ => None,
        };
        Ok(Self {
            index,
            shared,
            clients: (first..first + count).map(|number| simulate(number, plan)).collect(),
            reader: Reader::new(plan.message.clone())?,
            connector,
            publisher,
            closed: BTreeMap::new(),
            open: 0,
            has_stalled: false,
            watch: Watch { patience: plan.patience, frontier: 0, moved: Instant::now() },
            poll,
        })
    }

    pub(super) fn run(mut self) -> Result<Findings> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while self.shared.phase() != Phase::Stop {
            match self.poll.poll(&mut events, Some(TURN_MAX)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.context(|| "cannot poll".to_owned())?,
            }
            for event in &events {
                self.take(event)?;
            }
            self.connect()?;
            self.stall();
            let frontier = self.report();
            self.publish(frontier)?;
        }
        Ok(self.conclude())
    }

    fn take(&mut self, event: &Event) -> Result<()> {
        match event.token() {
            WAKE => Ok(()),
            REGISTRAR if self.connector.is_done() => Ok(()),
            REGISTRAR => self.connector.attend().context(|| "cannot register".to_owned()),
            PUBLISHER => match &mut self.publisher {
                Some(publisher) => publisher.attend(Instant::now()).context(|| "cannot publish".to_owned()),
                None => Ok(()),
            },
            Token(place) => self.take_client(place, event.is_read_closed()),
        }
    }

    fn take_client(&mut self, place: usize, to_end: bool) -> Result<()> {
        let client = &mut self.clients[place];
        if client.state == State::Connecting {
            client.send_request().context(|| format!("client {place} cannot connect"))?;
        }
        if !matches!(client.state, State::Upgrading | State::Open) {
            return Ok(());
        }
        let was_open = client.state == State::Open;
        match self.reader.read(place, client, &self.shared, to_end) {
            Turn::Drained => Ok(()),
            Turn::Upgraded => {
                self.open += 1;
                self.connector.opened_one();
                Ok(())
            }
            Turn::Refused(reason) => Err(Error::Failed(format!("an upgrade was refused: {reason}"))),
            Turn::Closed(_) if !was_open => {
                Err(Error::Failed("the server closed a connection instead of upgrading it".to_owned()))
            }
            Turn::Closed(code) => {
                self.reader.census.leave(client.next);
                client.depart();
                *self.closed.entry(code).or_default() += 1;
                self.open -= 1;
                Ok(())
            }
        }
    }

    fn connect(&mut self) -> Result<()> {
        if self.connector.is_done() {
            return Ok(());
        }
        self.connector.register().context(|| "cannot register".to_owned())?;
        while let Some((place, stream, request)) =
            self.connector.open(self.poll.registry()).context(|| "cannot connect a client".to_owned())?
        {
            self.clients[place].connect(stream, request);
        }
        Ok(())
    }

    /// Once told, the chosen clients are taken out of the poller: they never read again, and nobody waits for
    /// them. Their sockets stay open.
    fn stall(&mut self) {
        if self.has_stalled || !self.shared.is_stalling() {
            return;
        }
        self.has_stalled = true;
        for client in
            self.clients.iter_mut().filter(|client| client.will_stall && client.state == State::Open)
        {
            if let Some(stream) = &mut client.stream {
                // It cannot fail for a registered socket; were it to, its events are ignored all the same.
                let _ = self.poll.registry().deregister(stream);
            }
            client.state = State::Stalled;
            self.reader.census.leave(client.next);
        }
    }

    /// Publishes this thread's counters, and gives its frontier.
    fn report(&mut self) -> u64 {
        let frontier = self.reader.census.frontier();
        let progress = &self.shared.threads[self.index];
        progress.open.store(self.open, Relaxed);
        progress.closed.store(self.closed.values().sum(), Relaxed);
        progress.deliveries.store(self.reader.deliveries, Relaxed);
        progress.reads.store(self.reader.reads, Relaxed);
        progress.pongs.store(self.reader.pongs, Relaxed);
        if progress.frontier.swap(frontier, Relaxed) != frontier && self.index != 0 {
            self.shared.wake_publisher();
        }
        frontier
    }

    fn publish(&mut self, own_frontier: u64) -> Result<()> {
        let Some(publisher) = &mut self.publisher else { return Ok(()) };
        let phase = self.shared.phase();
        if phase == Phase::Connect {
            return Ok(());
        }
        let now = Instant::now();
        let frontier = own_frontier.min(self.shared.frontier_of_others(self.index));
        let undelivered = publisher.undelivered(frontier);
        // Without anybody left there is nothing to measure, and nothing to hold the publisher back.
        let deserted = frontier == u64::MAX;
        if self.watch.is_stuck(frontier, undelivered, now) || deserted {
            self.shared.set_stuck();
        } else if matches!(phase, Phase::WarmUp | Phase::Measure) {
            publisher.prepare(frontier, now);
            // Told before they are sent: another thread may see them arrive at once.
            self.shared.set_published(publisher.published());
            publisher.flush().context(|| "cannot publish".to_owned())?;
        }
        // Only while draining: before, the next turn publishes again.
        self.shared.set_settled(phase == Phase::Drain && undelivered == 0 && publisher.is_answered());
        Ok(())
    }

    /// What was published and has not come to a client that reads is missing.
    fn conclude(mut self) -> Findings {
        let published = self.shared.published();
        for (place, client) in self.clients.iter().enumerate() {
            if client.state == State::Open && client.next < published {
                self.reader.ledger.skipped(place, client.next..published);
            }
        }
        Findings {
            ledger: self.reader.ledger,
            latency: self.reader.latency,
            closed: self.closed,
            refused: self.publisher.map(Publisher::into_refused).unwrap_or_default(),
        }
    }
}

impl Watch {
    fn is_stuck(&mut self, frontier: u64, undelivered: u64, now: Instant) -> bool {
        if frontier != self.frontier || undelivered == 0 {
            self.frontier = frontier;
            self.moved = now;
        }
        now.duration_since(self.moved) > self.patience
    }
}

/// Client `number` of the run. Those that stall and those that are timed are spread evenly, and are never the
/// same.
fn simulate(number: usize, plan: &Plan) -> Client {
    let share = |number: usize| (number as f64 * plan.stalled) as usize;
    let will_stall = share(number + 1) > share(number);
    let sampled = !will_stall && number.is_multiple_of((plan.clients / SAMPLED).max(1));
    Client::new(sampled, will_stall)
}

/// How many of `plan`'s clients will stop reading.
pub(super) fn stalling(plan: &Plan) -> usize {
    (plan.clients as f64 * plan.stalled) as usize
}
