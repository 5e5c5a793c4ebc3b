//! Reads a client's socket and checks what came: the hot path of the harness. One buffer for all clients of a
//! thread; a client keeps bytes of its own only while a frame is cut.
//!
//! A message that is the expected one costs a look at its head and 16 digits; for a client in several streams also
//! the search for its seat; in `fanfare.v1` also a look at what stands round the message. Everything else is the exception and goes to the [`Ledger`].

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use hdrhistogram::Histogram;

use super::census::{Census, SPAN};
use super::client::{Client, State};
use super::frame::{self, Frame, Front, Kind};
use super::ledger::Ledger;
use super::shared::Shared;
use crate::dialect::v1::{self, Gaps, Told};
use crate::dialect::{Framing, Interpreter};
use crate::error::{Error, Result};
use crate::handshake::{self, Answer};
use crate::message::{self, Message};
use crate::place::Place;

/// The least size of the read buffer. Loopback delivers what a socket buffer holds, which is this order.
const SCRATCH_MIN: usize = 256 * 1024;
/// The same for servers that put whatever waits for a client into one frame.
const SCRATCH_MIN_INTERPRETED: usize = 4 * 1024 * 1024;
/// Latencies are kept from 1 us to 10 min, to three significant digits.
const LATENCY_MIN_NS: u64 = 1_000;
const LATENCY_MAX_NS: u64 = 600_000_000_000;

/// How a turn at a client's socket ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Turn {
    /// Everything there was has been read.
    Drained,
    /// The same, and the upgrade was completed in this turn.
    Upgraded,
    /// The server refused the upgrade.
    Refused(String),
    /// The server closed the connection: its close code, or `None` without a close frame.
    Closed(Option<u16>),
}

/// The reading side of one generator thread.
pub(crate) struct Reader {
    scratch: Vec<u8>,
    /// What clients offer, and the server has to select.
    subprotocol: Option<&'static str>,
    /// Messages come in the frames of `fanfare.v1`.
    speaks_v1: bool,
    /// For other servers that do not send plain messages.
    interpreter: Option<Interpreter>,
    message: Message,
    pub(crate) census: Census,
    pub(crate) ledger: Ledger,
    /// Nanoseconds from publishing to reading, for sampled clients within the measured window.
    pub(crate) latency: Histogram<u64>,
    /// Messages that came in their turn.
    pub(crate) deliveries: u64,
    /// Messages that came otherwise.
    pub(crate) out_of_turn: u64,
    /// Calls of `read` that returned bytes of an open client.
    pub(crate) reads: u64,
    /// Pings that were answered.
    pub(crate) pongs: u64,
    /// What clients were told they miss.
    pub(crate) gaps: Gaps,
}

impl Reader {
    /// For clients in any of `streams` streams.
    pub(crate) fn new(
        message: Message,
        streams: usize,
        framing: Framing,
        interpreter: Option<Interpreter>,
    ) -> Result<Self> {
        let least = if interpreter.is_some() { SCRATCH_MIN_INTERPRETED } else { SCRATCH_MIN };
        Ok(Self {
            scratch: vec![0; least.max(4 * message.size())],
            subprotocol: framing.subprotocol(),
            speaks_v1: framing == Framing::V1,
            interpreter,
            message,
            census: Census::new(streams),
            ledger: Ledger::default(),
            latency: latencies()?,
            deliveries: 0,
            out_of_turn: 0,
            reads: 0,
            pongs: 0,
            gaps: Gaps::default(),
        })
    }

    /// Reads until the socket is empty; with `to_end`, until its end. A read that does not fill the buffer has
    /// emptied the socket, and saves the call that would only say so.
    pub(crate) fn read(&mut self, place: usize, client: &mut Client, shared: &Shared, to_end: bool) -> Turn {
        let mut upgraded = false;
        loop {
            let Some(stream) = &mut client.stream else { return Turn::Drained };
            let kept = client.kept.len();
            self.scratch[..kept].copy_from_slice(&client.kept);
            let read = match stream.read(&mut self.scratch[kept..]) {
                Ok(0) => return Turn::Closed(None),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Turn::Closed(None),
            };
            let filled = kept + read;
            let mut from = 0;
            if client.state == State::Upgrading {
                match handshake::answer(&self.scratch[..filled], self.subprotocol) {
                    Answer::Incomplete => {}
                    Answer::Refused(reason) => return Turn::Refused(reason),
                    Answer::Accepted(end) => {
                        from = end;
                        match &self.interpreter {
                            // The greeting opens it.
                            None if self.speaks_v1 => client.state = State::Joining,
                            None => {
                                self.open(client);
                                upgraded = true;
                            }
                            Some(interpreter) => {
                                client.state = State::Joining;
                                // The buffer of a new socket holds it.
                                if stream.write_all(&interpreter.opening).is_err() {
                                    return Turn::Closed(None);
                                }
                            }
                        }
                    }
                }
            }
            if matches!(client.state, State::Open | State::Joining) {
                self.reads += 1;
                let was_open = client.state == State::Open;
                let taken = match self.interpreter.is_some() {
                    false => self.take_frames(place, client, from..filled, shared),
                    true => self.interpret(place, client, from..filled, shared),
                };
                upgraded |= !was_open && client.state == State::Open;
                match taken {
                    Ok(end) => from = end,
                    Err(Ended(code)) => return Turn::Closed(code),
                }
            }
            client.kept.clear();
            client.kept.extend_from_slice(&self.scratch[from..filled]);
            if filled < self.scratch.len() && !to_end {
                break;
            }
        }
        if upgraded { Turn::Upgraded } else { Turn::Drained }
    }

    /// A client is on its topic.
    fn open(&mut self, client: &mut Client) {
        client.state = State::Open;
        client.places().for_each(|place| self.census.enter(place));
    }

    /// The same as [`Self::take_frames`], of a server whose frames have to be interpreted first.
    fn interpret(
        &mut self,
        place: usize,
        client: &mut Client,
        filled: std::ops::Range<usize>,
        shared: &Shared,
    ) -> std::result::Result<usize, Ended> {
        let Some(mut interpreter) = self.interpreter.take() else { return Ok(filled.start) };
        let mut at = filled.start;
        let mut ended = loop {
            let frame = match frame::front(&self.scratch[at..filled.end]) {
                Front::Whole(frame) => frame,
                Front::Cut(Some(size)) if size > self.scratch.len() as u64 / 2 => {
                    self.ledger.garbled();
                    break Some(Ended(None));
                }
                Front::Cut(_) => break None,
            };
            let body = at + frame.body..at + frame.end;
            at += frame.end;
            if frame.kind == Kind::Message {
                if interpreter.hear(place, &self.scratch[body]).is_err() {
                    self.ledger.garbled();
                    break Some(Ended(None));
                }
            } else if let Some(ended) = self.take_other(client, frame, body) {
                break Some(ended);
            }
        };
        if let Some(stream) = &mut client.stream {
            // As with pongs: what does not fit now would not be read.
            let _ = stream.write(&interpreter.take_replies());
        }
        if interpreter.take_joined() && client.state == State::Joining {
            self.open(client);
        }
        // What was heard is read as if the server had sent it so.
        std::mem::swap(&mut self.scratch, interpreter.frames());
        let heard = 0..self.scratch.len();
        ended = self.take_frames(place, client, heard, shared).err().or(ended);
        std::mem::swap(&mut self.scratch, interpreter.frames());
        interpreter.frames().clear();
        self.interpreter = Some(interpreter);
        ended.map_or(Ok(at), Err)
    }

    /// Takes every whole frame of that part of the buffer and gives the place where a cut one begins.
    fn take_frames(
        &mut self,
        place: usize,
        client: &mut Client,
        filled: std::ops::Range<usize>,
        shared: &Shared,
    ) -> std::result::Result<usize, Ended> {
        let stood = client.next;
        let now = if client.sampled && shared.is_measuring() { Some(Instant::now()) } else { None };
        let mut at = filled.start;
        let ended = loop {
            let frame = match frame::front(&self.scratch[at..filled.end]) {
                Front::Whole(frame) => frame,
                // One that will never fit in the buffer is not one of ours, and cannot be skipped.
                Front::Cut(Some(size)) if size > self.scratch.len() as u64 / 2 => {
                    self.ledger.garbled();
                    break Some(Ended(None));
                }
                Front::Cut(_) => break None,
            };
            let body = at + frame.body..at + frame.end;
            at += frame.end;
            if frame.kind != Kind::Message {
                match self.take_other(client, frame, body) {
                    Some(ended) => break Some(ended),
                    None => continue,
                }
            }
            let mut body = body;
            let mut offset = 0;
            if self.speaks_v1 {
                match v1::delivery(&self.scratch[body.clone()], self.message.size()) {
                    Some(delivery) if client.state == State::Open => {
                        offset = delivery.offset;
                        body = body.start + delivery.message.start..body.start + delivery.message.end;
                    }
                    _ => {
                        self.take_told(client, body);
                        continue;
                    }
                }
            }
            let bytes = &self.scratch[body.clone()];
            let found = if bytes.len() == self.message.size() { message::place(bytes) } else { None };
            if found == Some(client.next) {
                client.next.advance();
                self.deliveries += 1;
                // What is not in its turn is counted for that.
                if self.speaks_v1 && offset <= client.offset {
                    self.ledger.garbled();
                }
            } else {
                self.take_otherwise(place, client, found, shared);
            }
            client.offset = client.offset.max(offset);
            if client.sampled {
                let bytes = &self.scratch[body];
                if !self.message.padding_is_intact(bytes) {
                    self.ledger.garbled();
                }
                if let (Some(now), Some(sent_ns)) = (now, message::sent_ns(bytes)) {
                    self.latency.saturating_record(self.message.clock(now).saturating_sub(sent_ns));
                }
            }
        };
        if client.next != stood {
            self.census.step(stood, client.next.number());
        }
        ended.map_or(Ok(at), Err)
    }

    /// A message to a client in several streams, or one that is not in its turn. Kept out of the loop that takes
    /// those of one stream.
    #[inline(never)]
    fn take_otherwise(&mut self, place: usize, client: &mut Client, found: Option<Place>, shared: &Shared) {
        if take_seated(client, found, &mut self.census) {
            self.deliveries += 1;
        } else {
            self.out_of_turn += 1;
            exception(place, client, found, &mut self.census, &mut self.ledger, shared);
        }
    }

    /// What a server that speaks `fanfare.v1` says besides deliveries. The greeting comes first, and behind it where the
    /// client's topics stand; as these clients ask for nothing, they are refused nothing.
    #[cold]
    fn take_told(&mut self, client: &mut Client, body: std::ops::Range<usize>) {
        match (v1::told(&self.scratch[body]), client.state) {
            (Some(Told::Hello), State::Joining) => self.open(client),
            (Some(Told::Gap(gap)), State::Open) => self.gaps.add(gap),
            (Some(Told::Joined(_) | Told::Bye), State::Open) => {}
            _ => self.ledger.garbled(),
        }
    }

    #[cold]
    fn take_other(
        &mut self,
        client: &mut Client,
        frame: Frame,
        body: std::ops::Range<usize>,
    ) -> Option<Ended> {
        let body = &self.scratch[body];
        match frame.kind {
            Kind::Close => return Some(Ended(Some(frame::close_code(body)))),
            Kind::Ping => {
                // A pong that does not fit now is left out: the server is not reading, and will see no other.
                if let Some(stream) = &mut client.stream
                    && stream.write(&frame::pong(body)).is_ok()
                {
                    self.pongs += 1;
                }
            }
            Kind::Unexpected => self.ledger.garbled(),
            Kind::Pong | Kind::Message => {}
        }
        None
    }
}

/// The server ended the connection, with this code.
struct Ended(Option<u16>);

/// An empty histogram of nanoseconds.
pub(crate) fn latencies() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(LATENCY_MIN_NS, LATENCY_MAX_NS, 3)
        .map_err(|error| Error::Failed(format!("no histogram: {error}")))
}

/// A client in several streams got what it expects of one of them.
#[inline]
fn take_seated(client: &mut Client, found: Option<Place>, census: &mut Census) -> bool {
    let Some(found) = found else { return false };
    if client.seats.is_empty() {
        return false;
    }
    let Some(seat) = client.seat(found) else { return false };
    if *seat != found {
        return false;
    }
    seat.advance();
    census.step(found, found.number() + 1);
    true
}

/// A message that is not the one expected.
#[cold]
fn exception(
    place: usize,
    client: &mut Client,
    found: Option<Place>,
    census: &mut Census,
    ledger: &mut Ledger,
    shared: &Shared,
) {
    // Only numbers given out may move the client: the census has no place for others.
    let Some(found) = found.filter(|&found| shared.is_published(found)) else { return ledger.garbled() };
    let is_seated = !client.seats.is_empty();
    let Some(seat) = client.seat(found) else { return ledger.misdelivered() };
    let due = *seat;
    if found < due {
        ledger.came_late(place, found);
    } else if found.number() - due.number() < SPAN {
        ledger.skipped(place, due, found.number());
        *seat = found.at(found.number() + 1);
        if is_seated {
            // A client of one stream makes its step when all of the read is taken.
            census.step(due, found.number() + 1);
        }
    } else {
        ledger.garbled();
    }
}
