//! One client that may vanish, come back, change its topics, or read slowly: its socket, its registration and where
//! it stands in every topic.

use std::io;
use std::time::Instant;

use super::Role;
use super::standing::Standing;
use super::track::Track;
use crate::handshake::{self, Sending};
use crate::stream::Stream;

/// Where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No socket: it waits to register, to connect, or to try again.
    Away,
    /// The socket is being connected; `kept` holds the request to be sent then.
    Connecting,
    /// The request has been sent; `kept` holds what has come of the answer.
    Upgrading,
    /// Frames come; `kept` holds the beginning of a cut one.
    Open,
    /// The server ended it, and it does not come back.
    Gone,
}

/// How fast a client reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// Whatever comes, at once.
    Free,
    /// At most `credit` bytes now; the clock adds to it.
    Slow { credit: f64 },
}

/// One client. Its place in its worker's list is its token.
#[derive(Debug)]
pub(super) struct Life {
    /// Its number among the clients of all workers.
    pub(super) number: usize,
    pub(super) role: Role,
    pub(super) state: State,
    pub(super) stream: Option<Stream>,
    pub(super) kept: Vec<u8>,
    /// Path of the URL it was given; empty before it is registered.
    pub(super) path: String,
    /// One for each topic of the run.
    pub(super) standings: Vec<Standing>,
    /// Where it stands in its only topic, if it speaks `fanfare.v1`.
    pub(super) track: Track,
    pub(super) pace: Pace,
    /// It was connected before, vanished, and has got no message since; or not yet everything it asked for, if it resumes.
    pub(super) unserved: bool,
    /// It has been connected before.
    pub(super) was_here: bool,
    /// When it sent a command whose pong has not come.
    pub(super) asked_at: Option<Instant>,
}

impl Life {
    pub(super) fn new(number: usize, role: Role, standings: Vec<Standing>) -> Self {
        Self {
            number,
            role,
            state: State::Away,
            stream: None,
            kept: Vec::new(),
            path: String::new(),
            standings,
            track: Track::default(),
            pace: Pace::Free,
            unserved: false,
            was_here: false,
            asked_at: None,
        }
    }

    /// A socket on its way; `request` is sent when it is connected.
    pub(super) fn connect(&mut self, stream: Stream, request: String) {
        self.stream = Some(stream);
        self.kept = request.into_bytes();
        self.state = State::Connecting;
    }

    /// Sends the upgrade request if the socket is connected by now.
    pub(super) fn send_request(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if handshake::send(&self.kept, stream)? == Sending::Sent {
            self.kept = Vec::new();
            self.state = State::Upgrading;
        }
        Ok(())
    }

    /// Ends the connection without a word: the server gets a reset, as from a client that crashed. Unless it `resumes`
    /// when it comes back, what is published until then is not due to it.
    pub(super) fn vanish(&mut self, resumes: bool) {
        if let Some(stream) = &self.stream {
            stream.reset_on_drop();
        }
        self.depart(State::Away);
        if !resumes {
            self.standings.iter_mut().for_each(Standing::vanished);
        }
        self.unserved = true;
    }

    /// Lets go of the socket.
    pub(super) fn depart(&mut self, state: State) {
        self.stream = None;
        self.kept = Vec::new();
        self.state = state;
        self.asked_at = None;
        self.track.vanished();
    }
}
