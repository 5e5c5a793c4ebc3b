//! The TLS of one connection, without its socket and without buffers at rest.
//!
//! Reading and writing are closures, called at most as often as one turn allows; they never wait. Records are opened and
//! sealed in a [`Scratch`] that all connections of a thread share. A connection itself keeps bytes only while it has half a
//! record, or records that the kernel did not take.
//!
//! rustls remembers where half a message lies in the bytes it was shown. So it is always shown `unread` from its
//! beginning, and never anything shorter.

use std::{
    fmt,
    io::{self, ErrorKind, IoSlice},
    sync::Arc,
};

use rustls::{
    HandshakeKind, ServerConfig,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, WriteTraffic},
};

use super::unsent::{Unsent, UnsentTotal};
use crate::limits::{
    TLS_OVERHEAD_A_COMMAND, TLS_OVERHEAD_A_FRAME, TLS_OVERHEAD_FREE, TLS_OVERHEAD_PARTS, TLS_PIECE_BYTES,
    TLS_UNREAD_BYTES,
};

/// The TLS of one connection.
pub(crate) struct Connection {
    rustls: UnbufferedServerConnection,
    /// The beginning of a record, or the records of a message whose end is still to come. Nothing once the connection is
    /// broken: then rustls is not asked again, for it would look for what it was shown before, and panic.
    unread: Box<[u8]>,
    /// What the kernel has not taken yet.
    unsent: Unsent,
    /// Bytes that records took besides what was in them, as far as they are not paid for.
    overhead: u32,
    end: End,
}

/// How far the peer's side of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// It said that nothing more comes.
    Closed,
    /// It went away without a word.
    Cut,
    /// It broke the protocol.
    Broken,
}

/// Buffers for records, lent to one connection at a time. They have no size before the first.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// What was read.
    records: Vec<u8>,
    /// What is to be one record, from several slices.
    gathered: Vec<u8>,
    /// What is to be written.
    sealed: Vec<u8>,
}

/// What became of bytes to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// So many of them are sealed.
    pub(crate) taken: usize,
    /// Whether records of them, or of earlier ones, wait for the kernel.
    pub(crate) unflushed: bool,
}

/// Why nothing more comes from a peer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The socket says so, or that there is nothing now.
    Io(io::Error),
    /// The peer ended the connection without saying so by `close_notify`.
    Truncated,
    /// What it sent first is HTTP.
    PlainHttp,
    /// It sent a message longer than any that a client has reason to send.
    TooLong,
    /// It broke the protocol, or there is nothing that both sides can do. It is told by an alert.
    Protocol(rustls::Error),
}

impl Connection {
    /// One whose handshake is still to come.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Self, Failure> {
        let rustls = UnbufferedServerConnection::new(config).map_err(Failure::Protocol)?;
        Ok(Self { rustls, unread: Box::default(), unsent: Unsent::default(), overhead: 0, end: End::Open })
    }

    /// Has what the kernel does not take count in `total` from now on, as long as this lives.
    pub(crate) fn count_unsent_in(&mut self, total: &UnsentTotal) {
        self.unsent.count_in(total);
    }

    /// Reads once, and gives what is in whole records to `take`, which may be called several times. Returns whether the
    /// read filled the buffer, so that there may be more. Answers that TLS itself makes wait for [`Self::flush`].
    ///
    /// # Errors
    /// When nothing can be read, now or ever. What came before was given to `take`.
    pub(crate) fn receive(
        &mut self,
        scratch: &mut Scratch,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
        take: impl FnMut(&[u8]),
    ) -> Result<bool, Failure> {
        debug_assert!(!self.has_ended());
        scratch.records.resize(TLS_UNREAD_BYTES, 0);
        let held = self.unread.len();
        let filled = held + read(&mut scratch.records[held..]).map_err(Failure::Io)?;
        if filled == held {
            self.end = End::Cut;
            return Err(Failure::Truncated);
        }
        scratch.records[..held].copy_from_slice(&self.unread);
        let records = &mut scratch.records[..filled];
        if self.rustls.protocol_version().is_none() && is_http(records) {
            self.end = End::Broken;
            return Err(Failure::PlainHttp);
        }
        let opened = self.open(records, take);
        self.unread = match &opened {
            Ok(used) if self.end == End::Open => records[*used..].into(),
            _ => Box::default(),
        };
        if opened.is_err() {
            self.end = End::Broken;
        }
        opened.map_err(Failure::Protocol)?;
        if self.unread.len() == TLS_UNREAD_BYTES {
            self.end = End::Broken;
            self.unread = Box::default();
            return Err(Failure::TooLong);
        }
        Ok(filled == TLS_UNREAD_BYTES)
    }

    /// Seals what is in the slices and writes it, until the kernel takes no more. What it did not take is kept: one piece
    /// of [`TLS_PIECE_BYTES`] at most.
    ///
    /// # Errors
    /// When the kernel took not even what was kept before (`WouldBlock`), or the connection is broken.
    pub(crate) fn send(
        &mut self,
        scratch: &mut Scratch,
        slices: &[IoSlice<'_>],
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<Sent> {
        if self.end == End::Broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if !self.flush(&mut write)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let Scratch { gathered, sealed, .. } = scratch;
        let (mut rest, mut taken) = (Rest { slices, at: 0 }, 0);
        while let Some(piece) = rest.next_piece(gathered) {
            let length = self.seal(piece, sealed)?;
            taken += piece.len();
            let written = written(write(&sealed[..length]))?;
            if written < length {
                self.unsent.change(|unsent| unsent.extend_from_slice(&sealed[written..length]));
                return Ok(Sent { taken, unflushed: true });
            }
        }
        Ok(Sent { taken, unflushed: false })
    }

    /// Writes what the kernel did not take before. Returns whether nothing of it is left.
    ///
    /// # Errors
    /// When the connection is broken; nothing of it is left then either.
    pub(crate) fn flush(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<bool> {
        if self.unsent.is_empty() {
            return Ok(true);
        }
        let written = written(write(&self.unsent)).inspect_err(|_| self.unsent.clear())?;
        self.unsent.sent(written);
        Ok(self.unsent.is_empty())
    }

    /// Says that nothing more will be sent; that waits for [`Self::flush`], behind what is kept. Once is enough, and in
    /// the middle of a handshake nothing is said. To who broke the protocol an alert has said it; and half a message that
    /// rustls remembers is not there to be shown any more.
    pub(crate) fn close(&mut self) {
        let Self { rustls, unread, unsent, end, .. } = self;
        if rustls.is_handshaking() || *end == End::Broken {
            return;
        }
        unsent.change(|unsent| {
            let at = unsent.len();
            let end =
                write_traffic(rustls, unread, unsent, at, |traffic, out| traffic.queue_close_notify(out));
            // Where it cannot be said the end is still an end.
            unsent.truncate(end.unwrap_or(at));
        });
    }

    /// Bytes that were read and not opened: those of a record, or a message of TLS, whose end is still to come.
    pub(crate) fn unopened(&self) -> usize {
        self.unread.len()
    }

    /// Notes that so many frames came in what was received: records are there to carry them.
    pub(crate) fn pay(&mut self, frames: usize) {
        let paid = TLS_OVERHEAD_A_FRAME.saturating_mul(u32::try_from(frames).unwrap_or(u32::MAX));
        self.overhead = self.overhead.saturating_sub(paid);
    }

    /// What the peer owes for records that carry too little, in commands. It is to be asked for once.
    pub(crate) fn take_owed(&mut self) -> u32 {
        let owed = self.overhead.saturating_sub(TLS_OVERHEAD_FREE) / TLS_OVERHEAD_A_COMMAND;
        self.overhead -= owed * TLS_OVERHEAD_A_COMMAND;
        owed
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.rustls.is_handshaking()
    }

    /// Whether the client came back with a ticket.
    pub(crate) fn is_resumed(&self) -> bool {
        self.rustls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether nothing more can be received.
    pub(crate) fn has_ended(&self) -> bool {
        self.end != End::Open
    }

    /// Whether the peer said that nothing more comes.
    pub(crate) fn is_closed(&self) -> bool {
        self.end == End::Closed
    }

    /// Whether the peer broke the protocol.
    pub(crate) fn is_broken(&self) -> bool {
        self.end == End::Broken
    }

    /// Whether there are records that the kernel has not taken.
    pub(crate) fn is_unflushed(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Opens all whole records. Returns how many bytes are done with.
    fn open(&mut self, records: &mut [u8], mut take: impl FnMut(&[u8])) -> Result<usize, rustls::Error> {
        let Self { rustls, unsent, overhead, end, .. } = self;
        let mut used = 0;
        let mut payload = 0;
        loop {
            let status = rustls.process_tls_records(&mut records[used..]);
            let mut discard = status.discard;
            match status.state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        payload += record.payload.len();
                        take(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut encode)) => {
                    unsent.change(|unsent| encode_to(&mut encode, unsent));
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => *end = End::Closed,
                Ok(_) => {
                    used += discard;
                    break;
                }
                Err(error) => {
                    // What was still to be said, the alert last. To ask for more would be to fail again.
                    while rustls.wants_write()
                        && let Ok(ConnectionState::EncodeTlsData(mut encode)) =
                            rustls.process_tls_records(&mut records[used + discard..]).state
                    {
                        unsent.change(|unsent| encode_to(&mut encode, unsent));
                    }
                    return Err(error);
                }
            }
            used += discard;
        }
        let besides = used.saturating_sub(payload + payload / TLS_OVERHEAD_PARTS);
        *overhead = overhead.saturating_add(u32::try_from(besides).unwrap_or(u32::MAX));
        Ok(used)
    }

    /// Seals one piece into `sealed`; how many bytes of it that takes.
    fn seal(&mut self, piece: &[u8], sealed: &mut Vec<u8>) -> io::Result<usize> {
        write_traffic(&mut self.rustls, &mut self.unread, sealed, 0, |traffic, out| {
            traffic.encrypt(piece, out)
        })
    }
}

/// Has rustls write into `out` from `at` on, which grows as needed. Returns where that ends.
fn write_traffic<W>(
    rustls: &mut UnbufferedServerConnection,
    unread: &mut [u8],
    out: &mut Vec<u8>,
    mut at: usize,
    mut write: W,
) -> io::Result<usize>
where
    W: FnMut(&mut WriteTraffic<'_, ServerConnectionData>, &mut [u8]) -> Result<usize, EncryptError>,
{
    loop {
        match rustls.process_tls_records(unread).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => loop {
                match write(&mut traffic, &mut out[at..]) {
                    Ok(length) => return Ok(at + length),
                    Err(EncryptError::InsufficientSize(error)) => out.resize(at + error.required_size, 0),
                    // The keys were used as often as they may be, and the protocol has no new ones (TLS 1.2).
                    Err(EncryptError::EncryptExhausted) => return Err(ErrorKind::BrokenPipe.into()),
                }
            },
            Ok(ConnectionState::EncodeTlsData(mut encode)) => {
                out.truncate(at);
                encode_to(&mut encode, out);
                at = out.len();
            }
            Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
            _ => return Err(ErrorKind::BrokenPipe.into()),
        }
    }
}

/// Appends what rustls has to say.
fn encode_to(encode: &mut EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    let at = out.len();
    let Err(EncodeError::InsufficientSize(error)) = encode.encode(&mut []) else { return };
    out.resize(at + error.required_size, 0);
    let length = encode.encode(&mut out[at..]).expect("it has the size it asked for");
    debug_assert_eq!(at + length, out.len());
}

/// How many bytes were written; none where the kernel takes none now.
fn written(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Ok(0) => Err(ErrorKind::WriteZero.into()),
        result => result,
    }
}

/// Whether bytes begin like a request of HTTP. No record of TLS begins with a letter.
fn is_http(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_uppercase)
}

/// What is left of slices.
struct Rest<'a> {
    slices: &'a [IoSlice<'a>],
    /// How much of the first was taken.
    at: usize,
}

impl<'a> Rest<'a> {
    /// The next piece, of [`TLS_PIECE_BYTES`] at most: out of one slice where it can be, else gathered.
    fn next_piece<'p>(&mut self, gathered: &'p mut Vec<u8>) -> Option<&'p [u8]>
    where
        'a: 'p,
    {
        let first: &'a [u8] = self.next_slice(TLS_PIECE_BYTES)?;
        if first.len() == TLS_PIECE_BYTES || self.slices.is_empty() {
            return Some(first);
        }
        gathered.clear();
        gathered.extend_from_slice(first);
        while let Some(next) = self.next_slice(TLS_PIECE_BYTES - gathered.len()) {
            gathered.extend_from_slice(next);
        }
        Some(gathered)
    }

    /// What there is of the next slice that is not empty, `most` bytes of it at most; nothing of nothing.
    fn next_slice(&mut self, most: usize) -> Option<&'a [u8]> {
        if most == 0 {
            return None;
        }
        loop {
            let (first, others) = self.slices.split_first()?;
            let left = &first[self.at..];
            if left.len() > most {
                self.at += most;
                return Some(&left[..most]);
            }
            (self.slices, self.at) = (others, 0);
            if !left.is_empty() {
                return Some(left);
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Truncated => f.write_str("the client went away"),
            Self::PlainHttp => f.write_str("the client speaks HTTP without TLS"),
            Self::TooLong => f.write_str("the client sent a message that is too long"),
            Self::Protocol(error) => error.fmt(f),
        }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Io(error) => error,
            Failure::Truncated => ErrorKind::UnexpectedEof.into(),
            failure => Self::new(ErrorKind::InvalidData, failure.to_string()),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("version", &self.rustls.protocol_version())
            .field("unread", &self.unread.len())
            .field("unsent", &self.unsent.len())
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
