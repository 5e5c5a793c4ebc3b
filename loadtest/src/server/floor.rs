//! The floor: the least a server can do to hand one publication to N sockets. One thread, one poller, and for
//! each publication a bare loop of `send` of one prepared frame over all sockets. No topics, no backpressure, no
//! protocol. Nothing in user space can do the one-publication-at-a-time case for less, so every server is
//! measured as a ratio to this one.
//!
//! It takes the same HTTP requests as any other target, so that the generator's work is the same to the byte,
//! but it only cuts them apart: a method, a path, a length. At N = 5,000 that is well under 0.1 ns of each
//! delivery. All publications found in one read leave in one buffer per socket. A socket that would block keeps
//! the rest in a buffer of its own, so that nothing is lost. It is for the harness alone: it trusts its peer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::launch;
use super::pings::{PING, Pings};
use crate::error::{Context, Result};
use crate::handshake;
use crate::http;
use crate::units::parse_duration;

/// One read takes at most this much, and so one pass at most what is published in it.
const READ_MAX: usize = 512 * 1024;
/// A socket this far behind is closed; only a client that never reads gets here.
const LEFTOVER_MAX: usize = 16 * 1024 * 1024;
const LISTENER: Token = Token(usize::MAX);

/// What `loadtest serve-floor` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct FloorArgs {
    /// Where to listen
    #[arg(long, value_parser = super::loopback)]
    listen: SocketAddr,
    /// Ping every client this often, spread over the interval
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ping_every: Option<Duration>,
}

/// Serves until it is ended.
pub(crate) fn serve(args: &FloorArgs) -> Result<()> {
    launch::end_with_parent()?;
    Floor::bind(args.listen)
        .and_then(|mut floor| floor.run(args.ping_every))
        .context(|| "the floor server failed".to_owned())
}

/// One accepted socket: first it speaks HTTP, after an upgrade it is written to only.
struct Peer {
    stream: TcpStream,
    subscribed: bool,
    /// Before the upgrade: the beginning of a request. After it: what the socket has not taken yet.
    leftover: Vec<u8>,
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    /// Slots are not reused: a round connects once, and what leaves leaves a hole.
    peers: Vec<Option<Peer>>,
    /// Slots of the peers that are written to.
    subscribers: Vec<usize>,
    scratch: Vec<u8>,
    /// Frames of the publications found in the current read.
    frames: Vec<u8>,
    /// Answers to the requests found in the current read.
    answers: Vec<u8>,
}

/// What a request asks of the floor.
enum Request<'a> {
    Health,
    Register,
    Upgrade,
    Publish(&'a [u8]),
}

impl Floor {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            peers: Vec::new(),
            subscribers: Vec::new(),
            scratch: vec![0; READ_MAX],
            frames: Vec::new(),
            answers: Vec::new(),
        })
    }

    fn run(&mut self, ping_every: Option<Duration>) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut pings = ping_every.map(|every| Pings::new(every, Instant::now()));
        loop {
            let rest = pings.as_ref().map(|pings| pings.rest(Instant::now()));
            match self.poll.poll(&mut events, rest) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(slot) if self.serve_peer(slot, event.is_read_closed()).is_err() => {
                        self.drop_peer(slot);
                    }
                    Token(_) => {}
                }
            }
            if let Some(pings) = &mut pings {
                self.ping(pings, Instant::now());
            }
        }
    }

    fn ping(&mut self, pings: &mut Pings, now: Instant) {
        while let Some(due) = pings.due(self.peers.len(), now) {
            for slot in due {
                let Some(peer) = &mut self.peers[slot] else { continue };
                if peer.subscribed && peer.send(&PING).is_err() {
                    self.drop_peer(slot);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true)?;
                    let token = Token(self.peers.len());
                    self.poll.registry().register(
                        &mut stream,
                        token,
                        Interest::READABLE | Interest::WRITABLE,
                    )?;
                    self.peers.push(Some(Peer { stream, subscribed: false, leftover: Vec::new() }));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn drop_peer(&mut self, slot: usize) {
        self.peers[slot] = None;
        self.subscribers.retain(|&subscriber| subscriber != slot);
    }

    /// Reads what there is; everything found in one read is answered and sent before the next.
    fn serve_peer(&mut self, slot: usize, to_end: bool) -> io::Result<()> {
        let Some(peer) = &mut self.peers[slot] else { return Ok(()) };
        if peer.subscribed {
            peer.flush_leftover()?;
        }
        loop {
            let Some(peer) = &mut self.peers[slot] else { return Ok(()) };
            let kept = if peer.subscribed { 0 } else { peer.leftover.len() };
            self.scratch[..kept].copy_from_slice(&peer.leftover[..kept]);
            let read = match peer.stream.read(&mut self.scratch[kept..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // Whatever a subscriber says is of no interest: the floor has no protocol.
            if !peer.subscribed {
                self.take_requests(slot, kept + read)?;
            }
            if kept + read < self.scratch.len() && !to_end {
                return Ok(());
            }
        }
    }

    fn take_requests(&mut self, slot: usize, filled: usize) -> io::Result<()> {
        self.frames.clear();
        self.answers.clear();
        let mut upgraded = false;
        let mut at = 0;
        while let Some((request, length)) = parse(&self.scratch[at..filled])? {
            at += length;
            match request {
                Request::Health => self.answers.extend_from_slice(OK),
                Request::Register => answer_register(slot, &mut self.answers),
                Request::Upgrade => {
                    self.answers.extend_from_slice(handshake::RESPONSE.as_bytes());
                    upgraded = true;
                }
                Request::Publish(body) => {
                    push_frame(body, &mut self.frames);
                    self.answers.extend_from_slice(PUBLISHED);
                }
            }
        }
        let Some(peer) = &mut self.peers[slot] else { return Ok(()) };
        peer.leftover.clear();
        peer.leftover.extend_from_slice(&self.scratch[at..filled]);
        // Answers are short and the peer reads them; one that does not is no client of this harness.
        peer.stream.write_all(&self.answers)?;
        if upgraded {
            peer.subscribed = true;
            peer.leftover = Vec::new();
            self.subscribers.push(slot);
        }
        if !self.frames.is_empty() {
            self.send_to_all();
        }
        Ok(())
    }

    /// The floor itself.
    fn send_to_all(&mut self) {
        let mut gone = Vec::new();
        for &slot in &self.subscribers {
            let Some(peer) = &mut self.peers[slot] else { continue };
            if peer.send(&self.frames).is_err() {
                gone.push(slot);
            }
        }
        for slot in gone {
            self.drop_peer(slot);
        }
    }
}

impl Peer {
    #[inline]
    fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        let sent = if self.leftover.is_empty() {
            match self.stream.write(frames) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            }
        } else {
            0
        };
        if sent < frames.len() {
            if self.leftover.len() > LEFTOVER_MAX {
                return Err(ErrorKind::OutOfMemory.into());
            }
            self.leftover.extend_from_slice(&frames[sent..]);
        }
        Ok(())
    }

    fn flush_leftover(&mut self) -> io::Result<()> {
        while !self.leftover.is_empty() {
            match self.stream.write(&self.leftover) {
                Ok(sent) => drop(self.leftover.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const PUBLISHED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

fn answer_register(slot: usize, answers: &mut Vec<u8>) {
    let body = format!(r#"{{"url":"ws://127.0.0.1/ws/{slot:032x}"}}"#);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    answers.extend_from_slice(head.as_bytes());
    answers.extend_from_slice(body.as_bytes());
}

/// The request at the front of `bytes` and its length, or `None` while it is incomplete.
fn parse(bytes: &[u8]) -> io::Result<Option<(Request<'_>, usize)>> {
    let bad = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
    let Some(end) = http::head_end(bytes) else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| bad("the head is not text"))?;
    let length: usize = match http::header(head, "content-length") {
        Some(length) => length.parse().map_err(|_| bad("the content length is not a number"))?,
        None => 0,
    };
    let Some(body) = bytes[end..].get(..length) else { return Ok(None) };
    let request = if head.starts_with("POST /publish/") {
        Request::Publish(body)
    } else if head.starts_with("POST /register ") {
        Request::Register
    } else if head.starts_with("GET /ws/") {
        Request::Upgrade
    } else if head.starts_with("GET /health ") {
        Request::Health
    } else {
        return Err(bad("not a request of this harness"));
    };
    Ok(Some((request, end + length)))
}

/// A text frame as RFC 6455 section 5.2 has it, unmasked as all of a server's.
fn push_frame(body: &[u8], frames: &mut Vec<u8>) {
    frames.push(0x81);
    match body.len() {
        length @ 0..126 => frames.push(length as u8),
        length @ 126..=0xFFFF => {
            frames.push(126);
            frames.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frames.push(127);
            frames.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frames.extend_from_slice(body);
}
