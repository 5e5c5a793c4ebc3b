//! One keep-alive HTTP connection with several requests under way: what is queued leaves in as few writes as the
//! socket allows, and answers come back in the order of the requests. Used to register and to publish.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::dialect::Publishing;
use crate::http::Response;
use crate::stream::Stream;

const READ_MAX: usize = 64 * 1024;
/// What has been sent is let go of from this many bytes on, even if there is always more to send.
const SENT_MAX: usize = 1 << 20;

/// A connection to the HTTP side of a server.
#[derive(Debug)]
pub(crate) struct Pipeline {
    stream: Stream,
    /// Requests not yet taken by the socket: those from `sent` on.
    requests: Vec<u8>,
    sent: usize,
    /// Answers not yet handed out: those from `taken` on.
    answers: Vec<u8>,
    taken: usize,
}

impl Pipeline {
    /// Connects, waiting for it, and reports to `token` from then on.
    pub(crate) fn connect(
        address: SocketAddr,
        secure: bool,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = Stream::new(TcpStream::from_std(stream), secure)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, requests: Vec::new(), sent: 0, answers: Vec::new(), taken: 0 })
    }

    /// Where to append requests; nothing leaves before [`Self::flush`].
    pub(crate) fn requests(&mut self) -> &mut Vec<u8> {
        &mut self.requests
    }

    /// Bytes of requests that the socket has not taken yet.
    pub(crate) fn queued(&self) -> usize {
        self.requests.len() - self.sent
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.requests.len() {
            match self.stream.write(&self.requests[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.sent >= SENT_MAX {
                        self.requests.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.requests.clear();
        self.sent = 0;
        match self.stream.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads all there is. A server that closes is an error: requests may be under way.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        self.answers.drain(..self.taken);
        self.taken = 0;
        loop {
            let filled = self.answers.len();
            self.answers.resize(filled + READ_MAX, 0);
            let read = self.stream.read(&mut self.answers[filled..]);
            self.answers.truncate(filled + read.as_ref().map_or(0, |&read| read));
            match read {
                Ok(0) => {
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
                }
                Ok(read) if read < READ_MAX => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next complete answer of an HTTP server.
    pub(crate) fn answer(&mut self) -> io::Result<Option<Response<'_>>> {
        self.answer_to(Publishing::Post)
    }

    /// The next complete answer to what was published so.
    pub(crate) fn answer_to(&mut self, publishing: Publishing) -> io::Result<Option<Response<'_>>> {
        let answer = publishing
            .answer(&self.answers[self.taken..])
            .map_err(|bad| io::Error::new(ErrorKind::InvalidData, bad.to_string()))?;
        if let Some(answer) = &answer {
            self.taken += answer.length;
        }
        Ok(answer)
    }
}
