//! One publishing connection and the streams that are its own. It lives in a generator thread's own loop, so that
//! no hand-over between threads lies between a delivery and the publication it makes room for; whatever became
//! free since the last turn leaves in one write.
//!
//! A window that has run empty is filled in two halves, the second one turn later. Filled at once it would reach
//! the server in one read, be delivered in one pass, run empty again, and so stay in step for ever: a server
//! would always have exactly W publications to coalesce, and none while it works. Publishers in the world are
//! not in step with a server's passes; in halves something always arrives while a pass is running, which also
//! keeps the server busy.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Registry, Token};

use super::census::SPAN;
use super::lane::Lane;
use super::pace::Timetable;
use super::pipeline::Pipeline;
use super::rotation::Rotation;
use super::shared::Shared;
use super::{Pace, Plan};
use crate::dialect::Publishing;
use crate::message::Message;
use crate::place::Place;

/// Publications sent and not yet answered, beyond the window: a server may answer after it delivers.
const UNANSWERED_SPARE: u64 = 1_024;
/// Bytes a publisher with a timetable queues for its socket before it falls behind.
const QUEUED_MAX: usize = 4 << 20;
/// The longest pause after a refusal, whatever the server asks for: the window is what holds us back.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// One publisher of a run.
#[derive(Debug)]
pub(crate) struct Publisher {
    pipeline: Pipeline,
    publishing: Publishing,
    message: Message,
    schedule: Schedule,
    obeys_retry_after: bool,
    lanes: Vec<Lane>,
    rotation: Rotation,
    /// Lanes with publications that have not reached everybody.
    outstanding: Vec<usize>,
    /// Publications under way, by lane and place; answers come in the order of requests.
    unanswered: VecDeque<(usize, Place)>,
    /// What the server refused for good. Nothing was taken, so no client waits for it; what is published instead has
    /// a number of its own, and so the order of numbers stays the order of acceptance.
    refused: BTreeSet<Place>,
    paused_until: Option<Instant>,
    progress: Progress,
}

/// What decides when this publisher sends.
#[derive(Debug)]
enum Schedule {
    /// At most so many publications are undelivered.
    Window(u64),
    /// At the times of a timetable.
    Timetable(Timetable),
    /// Whenever one of these lanes is free and, if there is a timetable, a publication is due.
    Open { free: Vec<usize>, timetable: Option<Timetable> },
}

/// How far one or several publishers have come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Numbers given out.
    pub(crate) published: u64,
    /// Publications that have reached everybody.
    pub(crate) delivered: u64,
    /// Publications that are due and have not.
    pub(crate) undelivered: u64,
    pub(crate) unanswered: u64,
    /// Requests sent, those for a publication offered again included.
    pub(crate) offered: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    /// Publications that were due and found no lane free.
    pub(crate) held: u64,
}

impl Progress {
    pub(crate) fn add(&mut self, other: Self) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.undelivered += other.undelivered;
        self.unanswered += other.unanswered;
        self.offered += other.offered;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.held += other.held;
    }
}

impl Publisher {
    /// Publisher `number` of the plan.
    pub(crate) fn connect(plan: &Plan, number: usize, registry: &Registry, token: Token) -> io::Result<Self> {
        let address = plan.dialect.publish_at.unwrap_or(plan.address);
        let Some(supply) = plan.supply else { return Err(ErrorKind::InvalidInput.into()) };
        let streams = plan.streams.published_by(number);
        let lanes: Vec<Lane> = streams
            .map(|(name, stream)| {
                let (topic, user) = plan.streams.addressee(stream);
                let publishing = plan.dialect.publishing;
                Lane::new(
                    name,
                    publishing.envelope(address, topic, user, plan.dialect.keyed, plan.message.size()),
                )
            })
            .collect();
        let weights = plan.streams.published_by(number).map(|(_, stream)| plan.streams.weight(stream));
        let timetable = |per_second: f64| Timetable::new(per_second, number, supply.publishers);
        let schedule = match supply.pace {
            Pace::Window(window) => Schedule::Window(supply.share_of_window(window, number)),
            Pace::Rate(per_second) => Schedule::Timetable(timetable(per_second)),
            Pace::Open(per_second) => {
                Schedule::Open { free: (0..lanes.len()).collect(), timetable: per_second.map(timetable) }
            }
        };
        let rotation = Rotation::new(plan.streams.order(), weights, number as u64);
        let publishing = plan.dialect.publishing;
        let mut pipeline = Pipeline::connect(address, plan.dialect.secure, registry, token)?;
        pipeline.requests().extend_from_slice(publishing.hello());
        Ok(Self {
            pipeline,
            publishing,
            message: plan.message.clone(),
            schedule,
            obeys_retry_after: supply.obeys_retry_after,
            lanes,
            rotation,
            outstanding: Vec::new(),
            unanswered: VecDeque::new(),
            refused: BTreeSet::new(),
            paused_until: None,
            progress: Progress::default(),
        })
    }

    /// Looks how far its publications have got.
    pub(crate) fn look(&mut self, shared: &Shared) -> Progress {
        self.progress.undelivered = 0;
        self.outstanding.retain(|&at| {
            let lane = &mut self.lanes[at];
            self.progress.delivered += lane.look(shared.frontier(lane.stream));
            self.progress.undelivered += lane.undelivered();
            lane.is_outstanding()
        });
        self.progress
    }

    /// Publishes as much as its pace allows, and records in `lag` how late. [`Self::look`] comes before it.
    pub(crate) fn publish(
        &mut self,
        now: Instant,
        shared: &Shared,
        lag: &mut Histogram<u64>,
    ) -> io::Result<()> {
        if self.paused_until.is_some_and(|until| now < until) || self.lanes.is_empty() {
            return Ok(());
        }
        self.paused_until = None;
        match self.schedule {
            Schedule::Window(window) => self.fill(window, now, shared),
            Schedule::Timetable(_) => self.catch_up(now, shared, lag),
            Schedule::Open { .. } => self.pour(now, shared, lag),
        }
        self.pipeline.flush()
    }

    /// When it wants to publish next; `None` if something else has to happen first.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Instant> {
        match &mut self.schedule {
            Schedule::Timetable(timetable) | Schedule::Open { timetable: Some(timetable), .. } => {
                Some(timetable.next(now)).filter(|&due| due > now)
            }
            _ => None,
        }
    }

    /// Nothing more is published: what was to be offered again is refused for good.
    pub(crate) fn give_up(&mut self) {
        self.refused.extend(self.lanes.iter_mut().filter_map(Lane::give_up));
    }

    /// Writes on what the socket did not take, and reads the answers that have come.
    pub(crate) fn attend(&mut self, now: Instant) -> io::Result<()> {
        self.pipeline.flush()?;
        self.pipeline.fill()?;
        while let Some(answer) = self.pipeline.answer_to(self.publishing)? {
            let Some((at, place)) = self.unanswered.pop_front() else {
                return Err(io::Error::new(ErrorKind::InvalidData, "an answer to no publication"));
            };
            self.progress.unanswered -= 1;
            match answer.status {
                200..=299 => self.progress.accepted += 1,
                503 => {
                    if self.obeys_retry_after {
                        let pause = answer.retry_after.unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
                        self.paused_until = Some(now + pause);
                    }
                    self.progress.refused += 1;
                    match self.schedule {
                        Schedule::Open { .. } => self.lanes[at].offer_again(place),
                        _ => {
                            self.refused.insert(place);
                            self.lanes[at].refused(place);
                        }
                    }
                }
                status => {
                    let body = String::from_utf8_lossy(answer.body);
                    let text = format!("a publication was answered with {status} {}", body.trim());
                    return Err(io::Error::new(ErrorKind::InvalidData, text));
                }
            }
            if let Schedule::Open { free, .. } = &mut self.schedule {
                free.push(at);
            }
        }
        Ok(())
    }

    /// How far it has come, the publications since the last look included.
    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    /// What the server did not take.
    pub(crate) fn into_refused(self) -> BTreeSet<Place> {
        self.refused
    }

    /// Keeps the window full.
    fn fill(&mut self, window: u64, now: Instant, shared: &Shared) {
        let in_window = match self.progress.undelivered {
            0 => window.div_ceil(2),
            undelivered => window.saturating_sub(undelivered),
        };
        let unanswered = (window + UNANSWERED_SPARE).saturating_sub(self.progress.unanswered);
        let sent_ns = self.message.clock(now);
        for _ in 0..in_window.min(unanswered) {
            let at = self.rotation.next();
            if self.is_full(at) {
                break;
            }
            self.send(at, sent_ns, shared);
        }
    }

    /// Sends whatever is due, under the time at which it was.
    fn catch_up(&mut self, now: Instant, shared: &Shared, lag: &mut Histogram<u64>) {
        while self.progress.unanswered < UNANSWERED_SPARE && self.pipeline.queued() < QUEUED_MAX {
            // A stream that cannot go on holds up the others of this publisher: they would all be late.
            let at = self.rotation.peek();
            let Schedule::Timetable(timetable) = &mut self.schedule else { return };
            if self.lanes[at].ahead() >= SPAN - 1 {
                return;
            }
            let Some(due) = timetable.take_due(now) else { return };
            record_lag(due, now, shared, lag);
            self.rotation.next();
            self.send(at, self.message.clock(due), shared);
        }
    }

    /// Sends on every lane that is free.
    fn pour(&mut self, now: Instant, shared: &Shared, lag: &mut Histogram<u64>) {
        loop {
            let Schedule::Open { free, timetable } = &mut self.schedule else { return };
            let due = match timetable {
                Some(timetable) => match timetable.take_due(now) {
                    Some(due) => due,
                    None => return,
                },
                None => now,
            };
            let Some(at) = free.pop() else {
                // Without a timetable nothing is due before a lane is free.
                if timetable.is_none() {
                    return;
                }
                self.progress.held += 1;
                continue;
            };
            if self.lanes[at].ahead() >= SPAN - 1 {
                free.push(at);
                return;
            }
            record_lag(due, now, shared, lag);
            self.send(at, self.message.clock(due), shared);
        }
    }

    /// Whether the slowest client is too far behind for another message of a lane.
    fn is_full(&self, at: usize) -> bool {
        self.lanes[at].ahead() >= SPAN - 1
    }

    /// Queues the next message of a lane.
    fn send(&mut self, at: usize, sent_ns: u64, shared: &Shared) {
        let lane = &mut self.lanes[at];
        let (was_outstanding, ahead) = (lane.is_outstanding(), lane.ahead());
        let place = lane.next();
        let is_new = lane.ahead() > ahead;
        let requests = self.pipeline.requests();
        lane.envelope.open(place.number(), requests);
        self.message.write(place, sent_ns, requests);
        requests.extend_from_slice(lane.envelope.tail);
        self.unanswered.push_back((at, place));
        self.progress.unanswered += 1;
        self.progress.offered += 1;
        if is_new {
            self.progress.published += 1;
            self.progress.undelivered += 1;
            if !was_outstanding {
                self.outstanding.push(at);
            }
            // Told before it is sent: another thread may see it arrive at once.
            shared.set_published(place.stream(), place.number() + 1);
        }
    }
}

fn record_lag(due: Instant, now: Instant, shared: &Shared, lag: &mut Histogram<u64>) {
    if shared.is_measuring() {
        lag.saturating_record(now.saturating_duration_since(due).as_nanos() as u64);
    }
}
