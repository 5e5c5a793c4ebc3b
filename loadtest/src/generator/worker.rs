//! One generator thread: an epoll loop over its share of the clients, and in the first thread the publisher too.
//! Each turn takes the events there are, then connects, stalls, reports and publishes as the phase has it. Where other
//! processes hold clients too, the first thread also hears what they report; in such a process each thread tells its own.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::{Events, Poll, Token};

use super::client::{Client, State};
use super::connector::Connector;
use super::holders::{Inbox, Upward};
use super::outcome::Findings;
use super::publisher::{self, Publisher};
use super::reader::{self, Reader, Turn};
use super::shared::{Counters, Phase, Shared};
use super::timer::Timer;
use super::{Pace, Plan};
use crate::dialect::Interpreter;
use crate::error::{Context, Error, Result};
use crate::split::PROCESSES_MAX;

pub(super) const WAKE: Token = Token(usize::MAX);
const REGISTRAR: Token = Token(usize::MAX - 1);
const TIMER: Token = Token(usize::MAX - 2);
/// The first of the inboxes; the others' tokens lie below.
const INBOX: Token = Token(usize::MAX - 3);
/// The thread's first publisher; the others' tokens lie below, far from those of clients.
const PUBLISHER: Token = Token(INBOX.0 - PROCESSES_MAX as usize);

const EVENTS_MAX: usize = 1024;
/// The longest sleep: pauses after a refusal and the watch on progress are looked at this often.
const TURN_MAX: Duration = Duration::from_millis(50);
/// About this many clients of a run have each of their messages timed.
const SAMPLED: usize = 128;

/// A thread's state; [`Worker::run`] is the thread.
pub(super) struct Worker {
    index: usize,
    shared: Arc<Shared>,
    poll: Poll,
    clients: Vec<Client>,
    reader: Reader,
    /// Kept open after everybody is connected: a server may tie registrations to it, and RSS should not move.
    connector: Connector,
    publishers: Vec<Publisher>,
    /// For publishers with a timetable.
    timer: Option<Timer>,
    lag: Histogram<u64>,
    closed: BTreeMap<Option<u16>, u64>,
    open: u64,
    has_stalled: bool,
    expects_clients: bool,
    busy_poll: bool,
    watch: Watch,
    /// What processes say that hold clients for this one.
    inboxes: Vec<Inbox>,
    /// A process may have moved a frontier since the last report.
    has_heard: bool,
    /// The way to the process that directs, if that is not this one.
    upward: Option<Upward>,
}

/// Notices when nothing more reaches everybody.
struct Watch {
    patience: Duration,
    /// Publications that have reached everybody.
    delivered: u64,
    moved: Instant,
}

impl Worker {
    /// Thread number `index` of the plan's process number `process`.
    pub(super) fn new(
        index: usize,
        poll: Poll,
        shared: Arc<Shared>,
        plan: &Plan,
        process: usize,
    ) -> Result<Self> {
        let threads = plan.split.threads_of(process);
        let clients = plan.split.clients_of_thread(threads.start + index);
        let registry = poll.registry();
        let connector = Connector::new(plan, process, clients.clone(), registry, REGISTRAR)
            .context(|| format!("cannot connect to {}", plan.address))?;
        let topics = plan.streams.topics_of(0);
        let framing = plan.dialect.framing;
        let interpreter = topics.first().and_then(|topic| Interpreter::new(framing, topic));
        let publishers = (index..plan.publishers()).step_by(threads.len()).enumerate();
        let publishers = publishers.map(|(at, number)| {
            let publisher = Publisher::connect(plan, number, registry, Token(PUBLISHER.0 - at));
            publisher.context(|| "cannot connect a publisher".to_owned())
        });
        Ok(Self {
            index,
            shared,
            clients: clients.map(|number| simulate(number, plan)).collect(),
            reader: Reader::new(plan.message.clone(), plan.streams.len(), framing, interpreter)?,
            connector,
            timer: match plan.supply.map(|supply| supply.pace) {
                Some(Pace::Rate(_) | Pace::Open(Some(_))) if publishers.len() > 0 => {
                    Some(Timer::new(registry, TIMER).context(|| "no timer".to_owned())?)
                }
                _ => None,
            },
            publishers: publishers.collect::<Result<_>>()?,
            lag: reader::latencies()?,
            closed: BTreeMap::new(),
            open: 0,
            has_stalled: false,
            expects_clients: plan.split.clients > 0,
            busy_poll: plan.busy_poll,
            watch: Watch { patience: plan.patience, delivered: 0, moved: Instant::now() },
            inboxes: Vec::new(),
            has_heard: false,
            upward: None,
            poll,
        })
    }

    /// Hears what comes into these from now on.
    pub(super) fn listen(&mut self, inboxes: Vec<Inbox>) -> Result<()> {
        for (at, inbox) in inboxes.iter().enumerate() {
            let registered = inbox.register(self.poll.registry(), Token(INBOX.0 - at));
            registered.context(|| "cannot listen to another process".to_owned())?;
        }
        self.inboxes = inboxes;
        Ok(())
    }

    /// Tells there from now on how far its clients have come.
    pub(super) fn tell_upward(&mut self, upward: Upward) {
        self.upward = Some(upward);
    }

    pub(super) fn run(mut self) -> Result<Findings> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let phase = self.shared.phase();
            if phase == Phase::Stop {
                break;
            }
            let busy = self.busy_poll && matches!(phase, Phase::WarmUp | Phase::Measure);
            let rest = self.upward.as_ref().and_then(Upward::rest).unwrap_or(TURN_MAX);
            let sleep = if busy { Duration::ZERO } else { rest };
            match self.poll.poll(&mut events, Some(sleep)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.context(|| "cannot poll".to_owned())?,
            }
            for event in &events {
                self.take(event)?;
            }
            self.connect()?;
            self.stall();
            self.report()?;
            self.publish()?;
        }
        Ok(self.conclude())
    }

    fn take(&mut self, event: &Event) -> Result<()> {
        match event.token() {
            WAKE | TIMER => Ok(()),
            REGISTRAR if self.connector.is_done() => Ok(()),
            REGISTRAR => self.connector.attend().context(|| "cannot register".to_owned()),
            Token(place) if place > PUBLISHER.0 => match self.inboxes.get_mut(INBOX.0 - place) {
                Some(inbox) => {
                    self.has_heard |= inbox.take(&self.shared)?;
                    Ok(())
                }
                None => Ok(()),
            },
            Token(place) => match self.publishers.get_mut(PUBLISHER.0 - place) {
                Some(publisher) => publisher.attend(Instant::now()).context(|| "cannot publish".to_owned()),
                None => self.take_client(place, event.is_read_closed()),
            },
        }
    }

    fn take_client(&mut self, place: usize, to_end: bool) -> Result<()> {
        let client = &mut self.clients[place];
        if client.state == State::Connecting {
            client.send_request().context(|| format!("client {place} cannot connect"))?;
        }
        if !matches!(client.state, State::Upgrading | State::Joining | State::Open) {
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
                client.places().for_each(|place| self.reader.census.leave(place));
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
            client.places().for_each(|place| self.reader.census.leave(place));
        }
    }

    /// Publishes this thread's counters and frontiers.
    fn report(&mut self) -> Result<()> {
        let mut has_moved = std::mem::take(&mut self.has_heard);
        self.reader.census.tell(|stream, frontier| {
            if self.shared.set_frontier(self.index, stream, frontier) {
                has_moved = true;
                if let Some(upward) = &mut self.upward {
                    upward.moved(stream, frontier);
                }
            }
        });
        let counters = Counters {
            open: self.open,
            closed: self.closed.values().sum(),
            deliveries: self.reader.deliveries,
            reads: self.reader.reads,
            pongs: self.reader.pongs,
        };
        self.shared.set_counters(self.index, counters);
        if let Some(upward) = &mut self.upward {
            upward.tell(counters).context(|| "cannot tell the process that directs".to_owned())?;
        }
        if has_moved {
            self.shared.wake_publishers(self.index);
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<()> {
        let phase = self.shared.phase();
        if self.publishers.is_empty() || phase == Phase::Connect {
            return Ok(());
        }
        let now = Instant::now();
        let mut progress = publisher::Progress::default();
        self.publishers.iter_mut().for_each(|publisher| progress.add(publisher.look(&self.shared)));
        // Without anybody left there is nothing to measure, and nothing to hold a publisher back.
        let deserted = self.expects_clients && self.shared.totals().open == 0;
        if self.watch.is_stuck(&progress, now) || deserted {
            self.shared.set_stuck(self.index);
        } else if matches!(phase, Phase::WarmUp | Phase::Measure) {
            let mut due = None;
            for publisher in &mut self.publishers {
                publisher
                    .publish(now, &self.shared, &mut self.lag)
                    .context(|| "cannot publish".to_owned())?;
                due = due.into_iter().chain(publisher.due(now)).min();
            }
            if let (Some(timer), Some(due)) = (&mut self.timer, due) {
                timer.set(due).context(|| "cannot set a timer".to_owned())?;
            }
        } else {
            self.publishers.iter_mut().for_each(Publisher::give_up);
        }
        let mut progress = publisher::Progress::default();
        self.publishers.iter().for_each(|publisher| progress.add(publisher.progress()));
        let counters = &self.shared.threads[self.index];
        counters.published.store(progress.published, Relaxed);
        counters.offered.store(progress.offered, Relaxed);
        counters.accepted.store(progress.accepted, Relaxed);
        counters.refused.store(progress.refused, Relaxed);
        counters.held.store(progress.held, Relaxed);
        // Only while draining: before, the next turn publishes again.
        let is_settled = phase == Phase::Drain && progress.undelivered == 0 && progress.unanswered == 0;
        self.shared.set_settled(self.index, is_settled);
        Ok(())
    }

    /// What was published and has not come to a client that reads is missing.
    fn conclude(mut self) -> Findings {
        for (place, client) in self.clients.iter().enumerate() {
            if client.state != State::Open {
                continue;
            }
            for due in client.places() {
                let published = self.shared.published(due.stream());
                if due.number() < published {
                    self.reader.ledger.skipped(place, due, published);
                }
            }
        }
        Findings {
            ledger: self.reader.ledger,
            latency: self.reader.latency,
            lag: self.lag,
            received: self.reader.deliveries + self.reader.out_of_turn,
            gaps: self.reader.gaps,
            closed: self.closed,
            refused: self.publishers.into_iter().flat_map(Publisher::into_refused).collect(),
        }
    }
}

impl Watch {
    fn is_stuck(&mut self, progress: &publisher::Progress, now: Instant) -> bool {
        if progress.delivered != self.delivered || progress.undelivered == 0 {
            self.delivered = progress.delivered;
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
    let sampled = !will_stall && number.is_multiple_of((plan.split.clients / SAMPLED).max(1));
    Client::new(&plan.streams.streams_of(number), sampled, will_stall)
}

/// How many of `plan`'s clients will stop reading.
pub(super) fn stalling(plan: &Plan) -> usize {
    (plan.split.clients as f64 * plan.stalled) as usize
}
