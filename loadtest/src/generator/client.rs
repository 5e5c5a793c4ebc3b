//! One simulated client: its socket, where it stands in its streams, and the bytes of a frame that was cut.
//! Kept small: a run has tens of thousands, and they should stay in the cache.

use std::io;

use crate::handshake::{self, Sending};
use crate::place::Place;
use crate::stream::Stream;

/// Where a client is in its life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum State {
    /// No socket yet.
    Absent,
    /// The socket is being connected; `kept` holds the request to be sent then.
    Connecting,
    /// The request has been sent; `kept` holds what has come of the answer.
    Upgrading,
    /// The upgrade is done, and the server has yet to greet the client, or to confirm that it is on its topic.
    Joining,
    /// Frames come; `kept` holds the beginning of a cut one.
    Open,
    /// Open, but it will never read again.
    Stalled,
    /// The server closed it.
    Gone,
}

/// One client. Its place in the thread's list is its token.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: Option<Stream>,
    /// What it expects next if it is in one stream: everything below it has had, or the ledger knows of it.
    /// [`Place::NOWHERE`] if it is in several.
    pub(crate) next: Place,
    /// The same for each of several streams, in ascending order; empty if it is in one.
    pub(crate) seats: Box<[Place]>,
    /// The seat behind the one that last got a message: often the next to get one.
    pub(crate) cursor: u32,
    pub(crate) kept: Vec<u8>,
    /// The highest offset it has had, where the server says offsets and its clients have one topic.
    pub(crate) offset: u64,
    pub(crate) state: State,
    /// Whether the latency of every message is recorded and its padding compared.
    pub(crate) sampled: bool,
    /// Whether it belongs to those that stop reading when told.
    pub(crate) will_stall: bool,
}

impl Client {
    /// A client of these streams, which are in ascending order, at their beginning.
    pub(crate) fn new(streams: &[u32], sampled: bool, will_stall: bool) -> Self {
        let (next, seats) = match streams {
            &[stream] => (Place::new(stream, 0), Box::default()),
            several => (Place::NOWHERE, several.iter().map(|&stream| Place::new(stream, 0)).collect()),
        };
        Self {
            stream: None,
            next,
            seats,
            cursor: 0,
            kept: Vec::new(),
            offset: 0,
            state: State::Absent,
            sampled,
            will_stall,
        }
    }

    /// What it expects next, in each of its streams.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let one = (self.next != Place::NOWHERE).then_some(self.next);
        one.into_iter().chain(self.seats.iter().copied())
    }

    /// The seat of the stream of `place`, if it is in it.
    pub(crate) fn seat(&mut self, place: Place) -> Option<&mut Place> {
        if self.next.stream() == place.stream() && self.next != Place::NOWHERE {
            return Some(&mut self.next);
        }
        let count = self.seats.len();
        let stream = place.stream();
        let (guess, own) = (self.cursor as usize, stream as usize);
        let at = match (self.seats.get(guess), self.seats.get(own)) {
            (Some(&seat), _) if seat == place => guess,
            // Whoever is in every stream has each at its own number: no search, which is a wait for memory a step.
            (_, Some(seat)) if seat.stream() == stream => own,
            _ => self.seats.binary_search_by_key(&stream, |seat| seat.stream()).ok()?,
        };
        self.cursor = if at + 1 == count { 0 } else { at as u32 + 1 };
        Some(&mut self.seats[at])
    }

    /// A socket on its way; `request` is sent when it is connected.
    pub(crate) fn connect(&mut self, stream: Stream, request: String) {
        self.stream = Some(stream);
        self.kept = request.into_bytes();
        self.state = State::Connecting;
    }

    /// Sends the upgrade request if the socket is connected by now.
    pub(crate) fn send_request(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if handshake::send(&self.kept, stream)? == Sending::Sent {
            self.kept = Vec::new();
            self.state = State::Upgrading;
        }
        Ok(())
    }

    /// Lets go of the socket: the server closed it.
    pub(crate) fn depart(&mut self) {
        self.stream = None;
        self.kept = Vec::new();
        self.state = State::Gone;
    }
}
