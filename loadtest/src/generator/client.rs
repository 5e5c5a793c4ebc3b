//! One simulated client: its socket, where it stands in the stream, and the bytes of a frame that was cut.
//! Kept small: a run has tens of thousands, and they should stay in the cache.

use std::io::{self, ErrorKind, Write};

use mio::net::TcpStream;

/// Where a client is in its life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum State {
    /// No socket yet.
    Absent,
    /// The socket is being connected; `kept` holds the request to be sent then.
    Connecting,
    /// The request has been sent; `kept` holds what has come of the answer.
    Upgrading,
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
    pub(crate) stream: Option<TcpStream>,
    /// The sequence number it expects: every lower one it has had, or the ledger knows of it.
    pub(crate) next: u64,
    pub(crate) kept: Vec<u8>,
    pub(crate) state: State,
    /// Whether the latency of every message is recorded and its padding compared.
    pub(crate) sampled: bool,
    /// Whether it belongs to those that stop reading when told.
    pub(crate) will_stall: bool,
}

impl Client {
    pub(crate) fn new(sampled: bool, will_stall: bool) -> Self {
        Self { stream: None, next: 0, kept: Vec::new(), state: State::Absent, sampled, will_stall }
    }

    /// A socket on its way; `request` is sent when it is connected.
    pub(crate) fn connect(&mut self, stream: TcpStream, request: String) {
        self.stream = Some(stream);
        self.kept = request.into_bytes();
        self.state = State::Connecting;
    }

    /// Sends the upgrade request if the socket is connected by now.
    pub(crate) fn send_request(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.write(&self.kept) {
            Ok(sent) if sent == self.kept.len() => {
                self.kept = Vec::new();
                self.state = State::Upgrading;
                Ok(())
            }
            // The buffer of a new socket holds far more than one request.
            Ok(_) => Err(ErrorKind::WriteZero.into()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lets go of the socket: the server closed it.
    pub(crate) fn depart(&mut self) {
        self.stream = None;
        self.kept = Vec::new();
        self.state = State::Gone;
    }
}
