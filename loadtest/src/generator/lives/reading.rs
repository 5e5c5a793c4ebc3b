//! Reads a client's socket and holds what came against where the client stands.

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use hdrhistogram::Histogram;

use super::life::{Life, Pace, State};
use super::shared::{Phase, SEGMENTS, Shared};
use super::standing::Taken;
use super::track::Joined;
use super::{Plan, Role, Speech};
use crate::dialect::v1::{self, Told};
use crate::error::{Error, Result};
use crate::generator::frame::{self, Front, Kind};
use crate::generator::ledger::Ledger;
use crate::handshake::{self, Answer};
use crate::message::{self, Message};
use crate::place::Place;

/// The least size of the read buffer.
const SCRATCH_MIN: usize = 256 * 1024;
/// Latencies are kept from 1 us to 1 h, to three significant digits.
const LATENCY_MIN_NS: u64 = 1_000;
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;
/// One client in so many has the padding of its messages compared.
const COMPARED: usize = 64;

/// How a turn at a client's socket ended.
#[derive(Debug, PartialEq)]
pub(super) enum Turn {
    Drained,
    /// The upgrade was completed in this turn.
    Upgraded,
    /// The server answered with something else.
    Refused(String),
    /// The server closed the connection: its close code, or `None` without a close frame.
    Closed(Option<u16>),
}

/// The reading side of one worker.
pub(super) struct Reading {
    scratch: Vec<u8>,
    message: Message,
    speech: Speech,
    /// The only one, if clients speak `fanfare.v1`.
    topic: String,
    pub(super) ledger: Ledger,
    /// From the intended send time to reading, by segment, of the steady clients.
    pub(super) latencies: [Histogram<u64>; SEGMENTS],
    /// The same of the clients that read slowly, while they do.
    pub(super) ages: Histogram<u64>,
    /// From a command to its pong.
    pub(super) commands: Histogram<u64>,
    /// Messages that came in their turn.
    pub(super) deliveries: u64,
    /// Those among them that came to clients which read slowly, while they do.
    pub(super) slow_deliveries: u64,
    /// How often a client that had vanished got its first message again; or everything it had missed, if it resumed.
    pub(super) served_again: u64,
    pub(super) last_served: Option<Instant>,
    /// How often a client that had come back was told that everything it missed follows, and that it does not.
    pub(super) recovered: u64,
    pub(super) not_recovered: u64,
    /// How often one came back that had vanished before it was ever told where its topic stands: it can ask for nothing.
    pub(super) without_position: u64,
}

pub(super) fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(LATENCY_MIN_NS, LATENCY_MAX_NS, 3)
        .map_err(|error| Error::Failed(format!("no histogram: {error}")))
}

impl Reading {
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let message = plan.message.clone();
        Ok(Self {
            scratch: vec![0; SCRATCH_MIN.max(4 * message.size())],
            message,
            speech: plan.speech,
            topic: plan.topics.first().cloned().unwrap_or_default(),
            ledger: Ledger::default(),
            latencies: [histogram()?, histogram()?, histogram()?, histogram()?],
            ages: histogram()?,
            commands: histogram()?,
            deliveries: 0,
            slow_deliveries: 0,
            served_again: 0,
            last_served: None,
            recovered: 0,
            not_recovered: 0,
            without_position: 0,
        })
    }

    /// Reads what there is, as far as the client's pace allows; with `to_end`, to the end of the stream whatever its
    /// pace.
    pub(super) fn read(&mut self, life: &mut Life, shared: &Shared, to_end: bool) -> Turn {
        let mut upgraded = false;
        loop {
            let kept = life.kept.len();
            let mut limit = self.scratch.len() - kept;
            if let Pace::Slow { credit } = life.pace
                && !to_end
            {
                limit = limit.min(credit as usize);
                if limit == 0 {
                    break;
                }
            }
            let Some(stream) = &mut life.stream else { return Turn::Drained };
            self.scratch[..kept].copy_from_slice(&life.kept);
            let read = match stream.read(&mut self.scratch[kept..kept + limit]) {
                Ok(0) => return Turn::Closed(None),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Turn::Closed(None),
            };
            if let Pace::Slow { credit } = &mut life.pace {
                *credit = (*credit - read as f64).max(0.0);
            }
            let filled = kept + read;
            let mut from = 0;
            if life.state == State::Upgrading {
                match handshake::answer(&self.scratch[..filled], self.speech.framing().subprotocol()) {
                    Answer::Incomplete => {}
                    Answer::Refused(reason) => return Turn::Refused(reason),
                    Answer::Accepted(end) => {
                        from = end;
                        life.state = State::Open;
                        upgraded = true;
                        if self.speech == Speech::Resuming {
                            if self.subscribe(life).is_err() {
                                return Turn::Closed(None);
                            }
                        } else {
                            connected(life, shared);
                        }
                    }
                }
            }
            if life.state == State::Open {
                match self.take_frames(life, from..filled, shared) {
                    Ok(end) => from = end,
                    Err(Ended(code)) => return Turn::Closed(code),
                }
            }
            life.kept.clear();
            life.kept.extend_from_slice(&self.scratch[from..filled]);
            if read < limit && !to_end {
                break;
            }
        }
        if upgraded { Turn::Upgraded } else { Turn::Drained }
    }

    /// Takes every whole frame of that part of the buffer and gives the place where a cut one begins.
    fn take_frames(
        &mut self,
        life: &mut Life,
        filled: std::ops::Range<usize>,
        shared: &Shared,
    ) -> std::result::Result<usize, Ended> {
        let now = Instant::now();
        let scratch = std::mem::take(&mut self.scratch);
        let mut at = filled.start;
        let ended = loop {
            let frame = match frame::front(&scratch[at..filled.end]) {
                Front::Whole(frame) => frame,
                // One that will never fit in the buffer is not one of ours, and cannot be skipped.
                Front::Cut(Some(size)) if size > scratch.len() as u64 / 2 => {
                    self.ledger.garbled();
                    break Some(Ended(None));
                }
                Front::Cut(_) => break None,
            };
            let body = &scratch[at + frame.body..at + frame.end];
            at += frame.end;
            match frame.kind {
                Kind::Message if self.speech == Speech::Plain => self.take_message(life, body, now, shared),
                Kind::Message => self.take_frame(life, body, now, shared),
                Kind::Close => break Some(Ended(Some(frame::close_code(body)))),
                Kind::Ping => {
                    // A pong that does not fit now is left out: the server is not reading, and will see no other.
                    if let Some(stream) = &mut life.stream {
                        let _ = stream.write(&frame::pong(body));
                    }
                }
                Kind::Unexpected => self.ledger.garbled(),
                Kind::Pong => {}
            }
        };
        self.scratch = scratch;
        ended.map_or(Ok(at), Err)
    }

    /// Takes what a server says that speaks `fanfare.v1`.
    fn take_frame(&mut self, life: &mut Life, body: &[u8], now: Instant, shared: &Shared) {
        match v1::delivery(body, self.message.size()) {
            Some(delivery) if life.track.is_greeted() => {
                let before = self.deliveries;
                self.take_message(life, &body[delivery.message], now, shared);
                // What is not in its turn is counted for that.
                if !life.track.take(delivery.offset) && self.deliveries > before {
                    self.ledger.garbled();
                }
            }
            Some(_) => self.ledger.garbled(),
            None => self.take_told(life, body, now, shared),
        }
        if life.unserved && life.track.has_recovered() {
            self.served(life, now);
        }
    }

    /// The same of what is no delivery. The greeting comes first, and each client learns where its topic stands.
    fn take_told(&mut self, life: &mut Life, body: &[u8], now: Instant, shared: &Shared) {
        match v1::told(body) {
            Some(Told::Hello) if life.track.greet() => {}
            Some(Told::Bye) if life.track.is_greeted() => {}
            Some(Told::Gap(gap)) if life.track.is_greeted() => life.track.told.add(gap),
            Some(Told::Joined(positions)) if life.track.is_greeted() => {
                let joined = positions.get(&self.topic).map(|position| life.track.join(position));
                match joined {
                    Some(Joined::First) if self.speech == Speech::Resuming => {
                        connected(life, shared);
                        if life.unserved {
                            self.without_position += 1;
                            self.served(life, now);
                        }
                    }
                    Some(Joined::First) => {}
                    Some(Joined::Recovered) => self.recovered += 1,
                    Some(Joined::NotRecovered) => self.not_recovered += 1,
                    Some(Joined::Nonsense) | None => self.ledger.garbled(),
                }
            }
            _ => self.ledger.garbled(),
        }
    }

    /// Asks for the topic, and for everything it missed if the client was there before.
    fn subscribe(&self, life: &mut Life) -> std::io::Result<()> {
        let command = v1::subscribe(&self.topic, life.track.ask());
        let mut frame = Vec::new();
        frame::push_text(&command, &mut frame);
        match &mut life.stream {
            // The buffer of a new socket holds it.
            Some(stream) => stream.write_all(&frame),
            None => Ok(()),
        }
    }

    /// A client that had vanished is served again.
    fn served(&mut self, life: &mut Life, now: Instant) {
        life.unserved = false;
        self.served_again += 1;
        self.last_served = Some(now);
    }

    fn take_message(&mut self, life: &mut Life, body: &[u8], now: Instant, shared: &Shared) {
        if body == b"pong"
            && let Some(asked_at) = life.asked_at.take()
        {
            for (topic, standing) in life.standings.iter_mut().enumerate() {
                standing.in_force(shared.sent(topic));
            }
            self.commands.saturating_record((now - asked_at).as_nanos() as u64);
            return;
        }
        let place = if body.len() == self.message.size() { message::place(body) } else { None };
        let Some(place) = place.filter(|place| is_sent(*place, life, shared)) else {
            return self.ledger.garbled();
        };
        if life.number.is_multiple_of(COMPARED) && !self.message.padding_is_intact(body) {
            self.ledger.garbled();
        }
        match life.standings[place.stream() as usize].take(place.number()) {
            Taken::Late => return self.ledger.came_late(life.number, place),
            Taken::Stray => return self.ledger.misdelivered(),
            Taken::Skipped(due) => {
                life.track.missed += due.end - due.start;
                self.ledger.skipped(life.number, place.at(due.start), due.end);
            }
            Taken::InTurn => {}
        }
        self.deliveries += 1;
        if life.unserved && self.speech != Speech::Resuming {
            self.served(life, now);
        }
        let Some(sent_ns) = message::sent_ns(body) else { return };
        let age = self.message.clock(now).saturating_sub(sent_ns);
        if life.role == Role::Steady {
            self.latencies[shared.segment()].saturating_record(age);
        } else if life.pace != Pace::Free && shared.phase() == Phase::Run {
            self.slow_deliveries += 1;
            self.ages.saturating_record(age);
        }
    }
}

/// A client is in its topics from now on, and knows it.
fn connected(life: &mut Life, shared: &Shared) {
    for (topic, standing) in life.standings.iter_mut().enumerate() {
        standing.connected(shared.sent(topic));
    }
}

/// The server ended the connection, with this code.
struct Ended(Option<u16>);

/// Whether the number was given out: any other is not one of ours.
fn is_sent(place: Place, life: &Life, shared: &Shared) -> bool {
    let topic = place.stream() as usize;
    topic < life.standings.len() && place.number() < shared.sent(topic)
}
