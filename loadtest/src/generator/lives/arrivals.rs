//! Brings clients to the server, for the first time or again: registers those that have no URL (or are to have a new
//! one), opens their sockets and asks for the upgrade, with a bounded number under way.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use mio::{Interest, Registry, Token};

use super::Role;
use super::life::Life;
use super::standing::{Hold, Standing};
use crate::generator::connector::{ask, dial, granted, source};
use crate::generator::pipeline::Pipeline;
use crate::handshake;
use crate::stream::Stream;

/// Registrations asked for and not answered.
const REGISTERING_MAX: usize = 128;

/// Sockets opened in one turn: what the others get is read between.
const DIALS_PER_TURN: usize = 32;

/// Clients on their way, by place in their worker's list.
#[derive(Debug)]
pub(super) struct Arrivals {
    address: SocketAddr,
    topics: Vec<String>,
    /// What clients offer.
    subprotocol: Option<&'static str>,
    token: Token,
    /// Open while there are registrations to make: a server may close it when it is idle.
    pipeline: Option<Pipeline>,
    /// To register.
    nameless: VecDeque<usize>,
    /// Asked for, in order.
    asked: VecDeque<usize>,
    /// To connect.
    ready: VecDeque<usize>,
    /// To come when it is time.
    later: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Sockets between `connect` and the server's answer.
    under_way: usize,
    pub(super) under_way_max: usize,
    /// For clients that will read slowly.
    receive_buffer: Option<usize>,
}

impl Arrivals {
    pub(super) fn new(
        address: SocketAddr,
        topics: Vec<String>,
        subprotocol: Option<&'static str>,
        token: Token,
        under_way_max: usize,
        receive_buffer: Option<usize>,
    ) -> Self {
        Self {
            address,
            topics,
            subprotocol,
            token,
            pipeline: None,
            nameless: VecDeque::new(),
            asked: VecDeque::new(),
            ready: VecDeque::new(),
            later: BinaryHeap::new(),
            under_way: 0,
            under_way_max,
            receive_buffer,
        }
    }

    /// The client at `place` is to come at `at`; it registers first if it has no path.
    pub(super) fn expect(&mut self, place: usize, at: Instant) {
        self.later.push(Reverse((at, place)));
    }

    /// Its upgrade was answered, or its socket failed.
    pub(super) fn answered(&mut self) {
        self.under_way -= 1;
    }

    /// There is something left to do for the next turn.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way < self.under_way_max && !self.ready.is_empty()
    }

    /// Registers and connects whoever is due, as far as the bounds allow.
    pub(super) fn turn(&mut self, lives: &mut [Life], registry: &Registry, now: Instant) -> io::Result<()> {
        while let Some(&Reverse((at, place))) = self.later.peek()
            && at <= now
        {
            self.later.pop();
            if lives[place].path.is_empty() {
                self.nameless.push_back(place);
            } else {
                self.ready.push_back(place);
            }
        }
        self.register(lives, registry)?;
        for _ in 0..DIALS_PER_TURN.min(self.under_way_max.saturating_sub(self.under_way)) {
            let Some(place) = self.ready.pop_front() else { break };
            let life = &mut lives[place];
            let receive_buffer = self.receive_buffer.filter(|_| life.role == Role::Slow);
            let socket = dial(self.address, source(0, life.number), receive_buffer)?;
            let mut stream = Stream::new(socket, false)?;
            registry.register(&mut stream, Token(place), Interest::READABLE | Interest::WRITABLE)?;
            life.connect(stream, handshake::request(&life.path, self.address, self.subprotocol));
            self.under_way += 1;
        }
        Ok(())
    }

    fn register(&mut self, lives: &[Life], registry: &Registry) -> io::Result<()> {
        if self.nameless.is_empty() && self.asked.is_empty() {
            self.pipeline = None;
            return Ok(());
        }
        if self.pipeline.is_none() {
            self.pipeline = Some(Pipeline::connect(self.address, false, registry, self.token)?);
        }
        let Some(pipeline) = &mut self.pipeline else { return Ok(()) };
        while self.asked.len() < REGISTERING_MAX
            && let Some(place) = self.nameless.pop_front()
        {
            let life = &lives[place];
            let is_in = |standing: &Standing| matches!(standing.hold(), Hold::In | Hold::Joining);
            let held = life.standings.iter().zip(&self.topics).filter(|(standing, _)| is_in(standing));
            let topics: Vec<&str> = held.map(|(_, topic)| topic.as_str()).collect();
            ask(pipeline.requests(), self.address, life.number as u64 + 1, &topics)?;
            self.asked.push_back(place);
        }
        pipeline.flush()
    }

    /// Reads the answers to registrations.
    pub(super) fn attend(&mut self, lives: &mut [Life]) -> io::Result<()> {
        let Some(pipeline) = &mut self.pipeline else { return Ok(()) };
        pipeline.flush()?;
        pipeline.fill()?;
        while let Some(answer) = pipeline.answer()? {
            let Some(place) = self.asked.pop_front() else {
                return Err(io::Error::other("an answer to no registration"));
            };
            lives[place].path = granted(&answer)?;
            self.ready.push_back(place);
        }
        Ok(())
    }
}
