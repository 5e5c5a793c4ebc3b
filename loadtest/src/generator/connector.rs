//! Brings the clients of one generator thread to the server: registers them over one pipelined connection, opens
//! a socket to the URL each was given and asks for the upgrade. A bounded number is under way at any time, so
//! that no server's backlog overflows (a dropped SYN costs a second) and no registration expires unclaimed.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use serde::Deserialize;
use socket2::{Domain, Protocol, Socket, Type};

use super::Plan;
use super::pipeline::Pipeline;
use super::streams::Streams;
use crate::handshake;
use crate::http::Response;
use crate::stream::Stream;

/// Registrations asked for and not yet used.
const REGISTERING_MAX: usize = 128;
/// Sockets between `connect` and the server's 101.
const HANDSHAKES_MAX: usize = 64;
/// Clients of process N come from 127.0.N.2 up to this many addresses further on. Each has some 28,000 ports of its
/// own, and those of an earlier run may still be in TIME_WAIT.
const SOURCES: usize = 240;

/// The state of connecting, dropped once everybody is connected.
#[derive(Debug)]
pub(crate) struct Connector {
    address: SocketAddr,
    /// Whose clients these are.
    process: usize,
    /// Where clients register; `None` if they need not.
    pipeline: Option<Pipeline>,
    streams: Arc<Streams>,
    subprotocol: Option<&'static str>,
    secure: bool,
    /// Clients of this thread, and the number of the first among those of all threads.
    clients: usize,
    first: usize,
    asked: usize,
    /// Paths handed out by the server to the clients from `opened` on.
    paths: VecDeque<String>,
    opened: usize,
    /// Clients whose upgrade has been answered.
    done: usize,
}

/// The part of the answer to a registration that is used.
#[derive(Deserialize)]
struct Registered<'a> {
    #[serde(borrow)]
    url: std::borrow::Cow<'a, str>,
}

/// Appends a registration of `user` for `topics` to `requests`.
pub(super) fn ask(requests: &mut Vec<u8>, address: SocketAddr, user: u64, topics: &[&str]) -> io::Result<()> {
    let body = serde_json::json!({ "user_id": user, "topics": topics }).to_string();
    let length = body.len();
    write!(
        requests,
        "POST /register HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: \
         {length}\r\n\r\n{body}"
    )
}

/// The path to connect to, from the answer to a registration.
pub(super) fn granted(answer: &Response<'_>) -> io::Result<String> {
    if answer.status != 200 {
        let (status, body) = (answer.status, String::from_utf8_lossy(answer.body));
        return Err(invalid(format!("a registration was answered with {status} {}", body.trim())));
    }
    let registered: Registered<'_> = serde_json::from_slice(answer.body)
        .map_err(|error| invalid(format!("the answer to a registration has no url: {error}")))?;
    let path = path_of(&registered.url).ok_or_else(|| invalid(format!("no URL: {}", registered.url)))?;
    Ok(path.to_owned())
}

impl Connector {
    /// For `clients` of the plan, which `process` holds.
    pub(super) fn new(
        plan: &Plan,
        process: usize,
        clients: Range<usize>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let direct = |client| plan.dialect.path(plan.streams.topics_of(client).first()?);
        let paths: VecDeque<String> = clients.clone().map_while(direct).collect();
        let pipeline = match paths.is_empty() {
            true => Some(Pipeline::connect(plan.address, plan.dialect.secure, registry, token)?),
            false => None,
        };
        Ok(Self {
            address: plan.address,
            process,
            pipeline,
            streams: Arc::clone(&plan.streams),
            subprotocol: plan.dialect.framing.subprotocol(),
            secure: plan.dialect.secure,
            clients: clients.len(),
            first: clients.start,
            asked: 0,
            paths,
            opened: 0,
            done: 0,
        })
    }

    /// Asks for registrations, as far as the bound allows.
    pub(crate) fn register(&mut self) -> io::Result<()> {
        let Some(pipeline) = &mut self.pipeline else { return Ok(()) };
        let room = REGISTERING_MAX.saturating_sub(self.asked - self.opened);
        for _ in 0..room.min(self.clients - self.asked) {
            let client = self.first + self.asked;
            let (user, topics) = (self.streams.user_of(client), self.streams.topics_of(client));
            ask(pipeline.requests(), self.address, user, &topics)?;
            self.asked += 1;
        }
        pipeline.flush()
    }

    /// Reads the answers to registrations.
    pub(crate) fn attend(&mut self) -> io::Result<()> {
        let Some(pipeline) = &mut self.pipeline else { return Ok(()) };
        pipeline.flush()?;
        pipeline.fill()?;
        while let Some(answer) = pipeline.answer()? {
            self.paths.push_back(granted(&answer)?);
        }
        Ok(())
    }

    /// Opens the next socket if one may be opened now, and gives it with its client's place in this thread.
    /// It reports to the token of that place.
    pub(crate) fn open(&mut self, registry: &Registry) -> io::Result<Option<(usize, Stream, String)>> {
        if self.opened - self.done >= HANDSHAKES_MAX {
            return Ok(None);
        }
        let Some(path) = self.paths.pop_front() else { return Ok(None) };
        let place = self.opened;
        let socket = dial(self.address, source(self.process, self.first + place), None)?;
        let mut stream = Stream::new(socket, self.secure)?;
        registry.register(&mut stream, Token(place), Interest::READABLE | Interest::WRITABLE)?;
        self.opened += 1;
        Ok(Some((place, stream, handshake::request(&path, self.address, self.subprotocol))))
    }

    /// A client's upgrade has been answered.
    pub(crate) fn opened_one(&mut self) {
        self.done += 1;
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done == self.clients
    }
}

/// Starts to connect from `source`; whether it succeeds shows when the socket is writable. The kernel holds
/// `receive_buffer` bytes for it, about twice as many with its own, or what it finds best.
pub(super) fn dial(
    address: SocketAddr,
    source: Ipv4Addr,
    receive_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if let Some(size) = receive_buffer {
        // Before connecting: the window is agreed on in the handshake.
        socket.set_recv_buffer_size(size)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddrV4::new(source, 0).into())?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Where `client` of the run comes from; no other process of the run has that address.
pub(super) fn source(process: usize, client: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, process as u8, 2 + (client % SOURCES) as u8)
}

/// The path and query of a URL. Its host is not used: only the target given on the command line is connected to.
fn path_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.find('/').map(|at| &rest[at..])
}

fn invalid(text: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::PROCESSES_MAX;

    #[test]
    fn only_the_path_of_a_url_is_used() {
        assert_eq!(path_of("ws://127.0.0.1:8000/ws/abc?x=1"), Some("/ws/abc?x=1"));
        assert_eq!(path_of("wss://example.com/"), Some("/"));
        assert_eq!(path_of("/ws/abc"), None);
        assert_eq!(path_of("ws://host"), None);
    }

    #[test]
    fn every_source_is_a_loopback_address_of_its_own() {
        let of = |process| (0..10 * SOURCES).map(move |client| source(process, client));
        let sources: std::collections::BTreeSet<_> = (0..usize::from(PROCESSES_MAX)).flat_map(of).collect();
        assert_eq!(sources.len(), SOURCES * usize::from(PROCESSES_MAX));
        assert!(sources.iter().all(Ipv4Addr::is_loopback));
    }
}
