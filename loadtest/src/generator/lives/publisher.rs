//! Publishes at a fixed rate, topic after topic, whatever the server does: each message carries the time at which it
//! was meant to be sent, so that a server (or this thread) that falls behind shows in the latencies. One thread, one
//! connection: what one connection sends is accepted in its order, so that the numbers of a topic are too.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mio::{Poll, Token};

use super::Plan;
use super::shared::{Phase, Shared};
use crate::dialect::{Dialect, Envelope};
use crate::error::{Context, Result};
use crate::generator::pipeline::Pipeline;
use crate::message::Message;
use crate::place::Place;

/// Publications under way before the publisher waits for answers, late or not.
const UNANSWERED_MAX: usize = 4_096;
/// Bytes it keeps for a server that does not read.
const QUEUED_MAX: usize = 16 << 20;
/// The longest sleep: how often answers are read and the phase is looked at.
const TURN_MAX: Duration = Duration::from_millis(5);

/// What a publisher has to say in the end.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// What the server answered with 503: nothing was taken, so nobody waits for it.
    pub(super) refused: BTreeSet<Place>,
    /// How late the latest publication left.
    pub(super) late_max: Duration,
}

/// The publishing thread's state.
pub(super) struct Publisher {
    shared: Arc<Shared>,
    address: SocketAddr,
    envelopes: Vec<Envelope>,
    message: Message,
    every: Duration,
    /// Sent and not answered, in order.
    unanswered: VecDeque<Place>,
    published: Published,
}

impl Publisher {
    pub(super) fn new(plan: &Plan, shared: Arc<Shared>) -> Self {
        let way = Dialect::CONTRACT.publishing;
        let envelope =
            |topic: &String| way.envelope(plan.address, topic, None, plan.keyed, plan.message.size());
        Self {
            shared,
            address: plan.address,
            envelopes: plan.topics.iter().map(envelope).collect(),
            message: plan.message.clone(),
            every: Duration::from_secs_f64(1.0 / plan.rate),
            unanswered: VecDeque::new(),
            published: Published::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<Published> {
        while self.shared.phase() == Phase::Connect {
            sleep(TURN_MAX);
        }
        // Only now: a server may close a connection that asks nothing for long.
        let poll = Poll::new().context(|| "no poller".to_owned())?;
        let mut pipeline = Pipeline::connect(self.address, false, poll.registry(), Token(0))
            .context(|| format!("cannot connect to {}", self.address))?;
        let begun = Instant::now();
        let mut count: u32 = 0;
        loop {
            let now = Instant::now();
            let mut rest = TURN_MAX;
            match self.shared.phase() {
                Phase::Connect => {}
                Phase::Run => {
                    while begun + self.every * count <= now && self.has_room(&pipeline) {
                        self.prepare(&mut pipeline, count as usize, begun + self.every * count, now);
                        count += 1;
                    }
                    rest = (begun + self.every * count).saturating_duration_since(now).min(TURN_MAX);
                }
                Phase::Drain if self.unanswered.is_empty() => {
                    self.shared.published_all.store(true, Relaxed);
                    return Ok(self.published);
                }
                Phase::Drain => {}
                Phase::Stop => return Ok(self.published),
            }
            pipeline.flush().context(|| "cannot publish".to_owned())?;
            // A sleep is exact to a few microseconds where waiting for events is not, and answers can wait for it.
            sleep(rest);
            self.attend(&mut pipeline).context(|| "cannot publish".to_owned())?;
        }
    }

    /// Whoever falls behind here is late, and its latencies say so.
    fn has_room(&self, pipeline: &Pipeline) -> bool {
        self.unanswered.len() < UNANSWERED_MAX && pipeline.queued() < QUEUED_MAX
    }

    fn prepare(&mut self, pipeline: &mut Pipeline, count: usize, intended: Instant, now: Instant) {
        let topic = count % self.envelopes.len();
        let place = Place::new(topic as u32, self.shared.give_out(topic));
        let envelope = &self.envelopes[topic];
        envelope.open(place.number(), pipeline.requests());
        self.message.write(place, self.message.clock(intended), pipeline.requests());
        pipeline.requests().extend_from_slice(envelope.tail);
        self.unanswered.push_back(place);
        self.shared.published.fetch_add(1, Relaxed);
        self.published.late_max = self.published.late_max.max(now - intended);
    }

    fn attend(&mut self, pipeline: &mut Pipeline) -> io::Result<()> {
        pipeline.fill()?;
        while let Some(answer) = pipeline.answer()? {
            let Some(place) = self.unanswered.pop_front() else {
                return Err(io::Error::new(ErrorKind::InvalidData, "an answer to no publication"));
            };
            match answer.status {
                200..=299 => {}
                503 => {
                    self.published.refused.insert(place);
                    self.shared.refused.fetch_add(1, Relaxed);
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
}
