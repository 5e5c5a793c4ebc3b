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

use mio::{Registry, Token};

use super::census::SPAN;
use super::lane::Lane;
use super::pipeline::Pipeline;
use super::place::Place;
use super::rotation::Rotation;
use super::shared::Shared;
use super::{Pace, Plan};
use crate::message::Message;

/// Publications sent and not yet answered, beyond the window: a server may answer after it delivers.
const UNANSWERED_SPARE: u64 = 1_024;
/// The longest pause after a refusal, whatever the server asks for: the window is what holds us back.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// One publisher of a run.
#[derive(Debug)]
pub(crate) struct Publisher {
    pipeline: Pipeline,
    message: Message,
    pace: Pace,
    lanes: Vec<Lane>,
    rotation: Rotation,
    /// Lanes with publications that have not reached everybody.
    outstanding: Vec<usize>,
    /// Publications under way, by lane and place; answers come in the order of requests.
    unanswered: VecDeque<(usize, Place)>,
    /// What the server refused. Nothing was taken, so no client waits for it; what is published instead has a
    /// number of its own, and so the order of numbers stays the order of acceptance.
    refused: BTreeSet<Place>,
    paused_until: Option<Instant>,
    progress: Progress,
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
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
}

impl Progress {
    pub(crate) fn add(&mut self, other: Self) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.undelivered += other.undelivered;
        self.unanswered += other.unanswered;
        self.accepted += other.accepted;
        self.refused += other.refused;
    }
}

impl Publisher {
    /// Publisher `number` of the plan.
    pub(crate) fn connect(plan: &Plan, number: usize, registry: &Registry, token: Token) -> io::Result<Self> {
        let pace = match plan.supply.map(|supply| (supply.pace, supply.publishers as u64)) {
            // Shared out so that all together have the whole window, and each at least one.
            Some((Pace::Window(window), publishers)) => {
                let share = window / publishers + u64::from((number as u64) < window % publishers);
                Pace::Window(share.max(1))
            }
            None => Pace::Window(0),
        };
        let streams = plan.streams.published_by(number);
        let lanes: Vec<Lane> = streams
            .map(|(name, stream)| {
                let (topic, user) = plan.streams.addressee(stream);
                let publishing = plan.dialect.publishing;
                Lane::new(name, publishing.envelope(plan.address, topic, user, plan.message.size()))
            })
            .collect();
        let weights = plan.streams.published_by(number).map(|(_, stream)| plan.streams.weight(stream));
        let rotation = Rotation::new(plan.streams.order(), weights, number as u64);
        Ok(Self {
            pipeline: Pipeline::connect(plan.address, registry, token)?,
            message: plan.message.clone(),
            pace,
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

    /// Publishes as much as its pace allows. [`Self::look`] comes before it.
    pub(crate) fn publish(&mut self, now: Instant, shared: &Shared) -> io::Result<()> {
        if self.paused_until.is_some_and(|until| now < until) || self.lanes.is_empty() {
            return Ok(());
        }
        self.paused_until = None;
        let Pace::Window(window) = self.pace;
        let sent_ns = self.message.clock(now);
        for _ in 0..self.room(window) {
            let at = self.rotation.next();
            if !self.send(at, sent_ns, shared) {
                break;
            }
        }
        self.pipeline.flush()
    }

    /// Writes on what the socket did not take, and reads the answers that have come.
    pub(crate) fn attend(&mut self, now: Instant) -> io::Result<()> {
        self.pipeline.flush()?;
        self.pipeline.fill()?;
        while let Some(answer) = self.pipeline.answer()? {
            let Some((at, place)) = self.unanswered.pop_front() else {
                return Err(io::Error::new(ErrorKind::InvalidData, "an answer to no publication"));
            };
            self.progress.unanswered -= 1;
            match answer.status {
                200..=299 => self.progress.accepted += 1,
                503 => {
                    let pause = answer.retry_after.unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
                    self.paused_until = Some(now + pause);
                    self.progress.refused += 1;
                    self.refused.insert(place);
                    self.lanes[at].refused(place);
                }
                status => {
                    let body = String::from_utf8_lossy(answer.body);
                    let text = format!("a publication was answered with {status} {}", body.trim());
                    return Err(io::Error::new(ErrorKind::InvalidData, text));
                }
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

    /// Queues the next message of a lane; `false` if the slowest client is too far behind for another.
    fn send(&mut self, at: usize, sent_ns: u64, shared: &Shared) -> bool {
        let lane = &mut self.lanes[at];
        if lane.ahead() >= SPAN - 1 {
            return false;
        }
        if !lane.is_outstanding() {
            self.outstanding.push(at);
        }
        let place = lane.next();
        let requests = self.pipeline.requests();
        requests.extend_from_slice(&lane.envelope.head);
        self.message.write(place, sent_ns, requests);
        requests.extend_from_slice(lane.envelope.tail);
        self.unanswered.push_back((at, place));
        self.progress.published += 1;
        self.progress.unanswered += 1;
        self.progress.undelivered += 1;
        // Told before it is sent: another thread may see it arrive at once.
        shared.set_published(place.stream(), place.number() + 1);
        true
    }

    fn room(&self, window: u64) -> u64 {
        let in_window = match self.progress.undelivered {
            0 => window.div_ceil(2),
            undelivered => window.saturating_sub(undelivered),
        };
        let unanswered = (window + UNANSWERED_SPARE).saturating_sub(self.progress.unanswered);
        in_window.min(unanswered)
    }
}
