//! What a simulated client reads and writes: a socket, or TLS over a socket. Either behaves as a socket does that does not
//! wait, and is registered with a poller as one.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::tls::Tls;

/// What is read of a socket at once, of those that speak TLS. Loopback delivers what a socket buffer holds.
const SCRATCH: usize = 256 * 1024;
/// What is sealed before it is written.
const SEALED_MAX: usize = 64 * 1024;

thread_local! {
    /// Where the records of all connections of a thread are opened.
    static RECORDS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    tls: Option<Box<Tls>>,
}

impl Stream {
    /// Over a socket that may still be connecting.
    pub(crate) fn new(socket: TcpStream, secure: bool) -> io::Result<Self> {
        let tls = if secure { Some(Box::new(Tls::new()?)) } else { None };
        Ok(Self { socket, tls })
    }

    /// What went wrong with the socket, if anything did.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    /// Has the kernel reset the connection when it is dropped.
    pub(crate) fn reset_on_drop(&self) {
        // Without it the server gets a FIN, which is nearly as abrupt.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Whether there are bytes that were written here and not taken by the socket.
    pub(crate) fn is_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.unsent.is_empty())
    }
}

/// Asks with a connection of its own, and waits; all that comes until `is_whole` or the end.
pub(crate) fn ask(
    address: SocketAddr,
    secure: bool,
    request: &str,
    patience: Duration,
    is_whole: impl Fn(&[u8]) -> bool,
) -> io::Result<Vec<u8>> {
    let socket = std::net::TcpStream::connect_timeout(&address, patience)?;
    socket.set_read_timeout(Some(patience))?;
    let mut stream = Stream::new(TcpStream::from_std(socket), secure)?;
    let deadline = Instant::now() + patience;
    let in_time = |error: io::Error| match error.kind() {
        ErrorKind::WouldBlock if Instant::now() < deadline => Ok(0),
        _ => Err(error),
    };
    let mut sent = 0;
    while sent < request.len() || stream.is_unsent() {
        sent += stream.write(&request.as_bytes()[sent..]).or_else(in_time)?;
        stream.flush().map(|()| 0).or_else(in_time)?;
    }
    let (mut answer, mut part) = (Vec::new(), vec![0; SEALED_MAX]);
    while !is_whole(&answer) {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&part[..read]),
            Err(error) => drop(in_time(error)?),
        }
    }
    Ok(answer)
}

/// Reads what there is and opens it, into `out`, which has room for a record; how many bytes that is.
fn receive(socket: &mut TcpStream, tls: &mut Tls, out: &mut [u8]) -> io::Result<usize> {
    RECORDS.with_borrow_mut(|records| {
        records.resize(SCRATCH, 0);
        let mut filled = 0;
        loop {
            let kept = tls.unopened.len();
            // What is opened is never longer.
            let room = SCRATCH.min(out.len() - filled);
            if kept >= room {
                return Ok(filled);
            }
            records[..kept].copy_from_slice(&tls.unopened);
            let (read, error) = match socket.read(&mut records[kept..room]) {
                Ok(0) => {
                    tls.has_ended = true;
                    (0, None)
                }
                Ok(read) => (read, None),
                Err(error) => (0, Some(error)),
            };
            tls.open(&mut records[..kept + read], |payload| {
                out[filled..filled + payload.len()].copy_from_slice(payload);
                filled += payload.len();
            })?;
            match error {
                Some(error) if error.kind() == ErrorKind::Interrupted => {}
                Some(error) if filled == 0 && !tls.has_ended => return Err(error),
                Some(_) => return Ok(filled),
                None if tls.has_ended || kept + read < room => return Ok(filled),
                None => {}
            }
        }
    })
}

/// Writes what is sealed, as far as the socket takes it; whether that is all.
fn send(socket: &mut TcpStream, tls: &mut Tls) -> io::Result<bool> {
    while !tls.unsent.is_empty() {
        match socket.write(&tls.unsent) {
            Ok(written) => drop(tls.unsent.drain(..written)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Self { socket, tls } = self;
        let Some(tls) = tls else { return socket.read(out) };
        if tls.has_ended {
            return Ok(0);
        }
        let received = receive(socket, tls, out)?;
        // What TLS itself has to say leaves at the latest with what is written next.
        let _ = send(socket, tls)?;
        // Nothing but what TLS itself had to say is not an end.
        if received == 0 && !tls.has_ended { Err(ErrorKind::WouldBlock.into()) } else { Ok(received) }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { socket, tls } = self;
        let Some(tls) = tls else { return socket.write(bytes) };
        while !tls.is_ready {
            if !send(socket, tls)? {
                return Err(ErrorKind::WouldBlock.into());
            }
            // Nothing but the handshake can come: a server speaks when it is spoken to.
            match receive(socket, tls, &mut [0; SEALED_MAX]) {
                Ok(_) if tls.has_ended => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() != ErrorKind::WouldBlock || !tls.is_ready => return Err(error),
                _ => {}
            }
        }
        if !send(socket, tls)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = &bytes[..bytes.len().min(SEALED_MAX)];
        tls.seal(taken)?;
        send(socket, tls)?;
        Ok(taken.len())
    }

    /// Writes what is sealed and was not taken by the socket.
    fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        if send(&mut self.socket, tls)? { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) }
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}
