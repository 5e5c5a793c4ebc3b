//! One client's socket: its stream, the reader of its frames, its session, and what is known of its readiness.
//!
//! It is kept small, because there are very many at rest. Whoever polls sets its flags; it never waits.

use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::Shutdown,
    time::Duration,
};

use mio::net::TcpStream;
use socket2::SockRef;

use crate::{
    engine::{Encoding, Key, Offered, Transport},
    limits::CLOSE_DISCARD_BYTES,
    session::Session,
    tls,
    websocket::Reader,
};

mod secure;

/// What is known of a socket, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(u16);

impl Flags {
    /// There may be bytes to read.
    pub(super) const READABLE: Self = Self(1);
    /// It stands in the ready list.
    pub(super) const LISTED: Self = Self(2);
    /// The peer sends nothing more behind what there is to read.
    pub(super) const READ_CLOSED: Self = Self(4);
    /// A command is in flight: nothing is read until it is answered.
    pub(super) const PAUSED: Self = Self(8);
    /// The peer gave a sign of life since the last ping.
    pub(super) const ALIVE: Self = Self(16);
    /// A ping was sent since it came.
    pub(super) const PINGED: Self = Self(32);
    /// The kernel took not all of the last write: whatever it takes next shows that the peer reads.
    pub(super) const WRITE_BLOCKED: Self = Self(64);
    /// Its end has begun: what is read is thrown away.
    pub(super) const CLOSING: Self = Self(128);
    /// Everything is written and the sending direction is shut.
    pub(super) const SHUT: Self = Self(256);
    /// The peer's end was read.
    pub(super) const PEER_GONE: Self = Self(512);
    /// It speaks TLS.
    pub(super) const TLS: Self = Self(1_024);
    /// It held records that its kernel did not take when that was looked at, and has not moved since.
    pub(super) const SEEN_UNFLUSHED: Self = Self(2_048);
    /// What it sends has begun and not ended, and is noted.
    pub(super) const HALF: Self = Self(4_096);

    pub(super) fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A client's socket.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    pub(super) generation: u32,
    pub(super) reader: Reader,
    pub(super) session: Session,
    /// What few have. A thin pointer is all that it costs the others.
    rare: Option<Box<Rare>>,
    flags: Flags,
    /// What was agreed in the handshake.
    pub(super) encoding: Encoding,
    /// Bytes thrown away since its end began.
    discarded: u32,
}

/// What a socket has that speaks TLS, or that has bytes left.
#[derive(Debug, Default)]
struct Rare {
    /// Bytes that were read and not parsed yet; they come before what the stream holds.
    held: Option<Box<[u8]>>,
    /// There as long as the socket, if it speaks TLS; `Flags::TLS` says so too, without a look here.
    tls: Option<Box<tls::Connection>>,
}

// What a client costs at rest, here; the engine's two tables add about 100 bytes. (The stream knows its poller too
// where debug assertions are on.)
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Option<Socket>>() <= 56);

/// What one read came to.
#[derive(Debug)]
pub(super) enum ReadResult {
    /// So many bytes are in the buffer.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The peer sends nothing more, or the connection broke.
    Ended,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, generation: u32, session: Session, encoding: Encoding) -> Self {
        let (reader, flags) = (Reader::new(), Flags::READABLE);
        Self { stream, generation, reader, session, rare: None, flags, encoding, discarded: 0 }
    }

    /// Goes on with TLS, as far as the handshake and HTTP have come with it.
    pub(super) fn secure(&mut self, tls: Box<tls::Connection>) {
        self.set(Flags::TLS);
        self.rare.get_or_insert_default().tls = Some(tls);
    }

    /// Keeps bytes that were read and cannot be parsed yet.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.rare.get_or_insert_default().held = Some(bytes.into());
    }

    /// The bytes that were kept.
    pub(super) fn take_held(&mut self) -> Option<Box<[u8]>> {
        let held = self.rare.as_mut()?.held.take();
        if !self.flags.has(Flags::TLS) {
            self.rare = None;
        }
        held
    }

    pub(super) fn holds(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.held.is_some())
    }

    /// Bytes kept of what has come in part: a message, a frame, a record of TLS. `None` where nothing has, as nearly always.
    pub(super) fn half_bytes(&mut self) -> Option<usize> {
        self.reader.forget_given();
        let unopened = self.unopened();
        (self.reader.is_half() || unopened > 0).then(|| self.reader.holds() + unopened)
    }

    /// Reads once, into `buffer`; records of TLS are opened on the way. A read that does not fill the buffer counts as
    /// having emptied the socket, unless the peer is known to have ended: its end comes with no further event.
    pub(super) fn read(&mut self, buffer: &mut [u8], scratch: &mut tls::Scratch) -> ReadResult {
        if self.flags.has(Flags::TLS) { self.read_records(buffer, scratch) } else { self.read_raw(buffer) }
    }

    fn read_raw(&mut self, buffer: &mut [u8]) -> ReadResult {
        match uninterrupted(|| self.stream.read(buffer)) {
            Ok(0) => {
                self.set(Flags::PEER_GONE);
                self.clear(Flags::READABLE);
                ReadResult::Ended
            }
            Ok(n) => {
                self.set(Flags::ALIVE);
                if n < buffer.len() && !self.flags.has(Flags::READ_CLOSED) {
                    self.clear(Flags::READABLE);
                }
                ReadResult::Bytes(n)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.clear(Flags::READABLE);
                ReadResult::Nothing
            }
            Err(_) => {
                self.set(Flags::PEER_GONE);
                self.clear(Flags::READABLE);
                ReadResult::Ended
            }
        }
    }

    /// Reads once and throws it away; after `CLOSE_DISCARD_BYTES` nothing more is read.
    pub(super) fn discard(&mut self, buffer: &mut [u8]) {
        if self.discarded as usize >= CLOSE_DISCARD_BYTES {
            self.clear(Flags::READABLE);
            return;
        }
        // Of TLS too: nobody will look at what is in the records.
        if let ReadResult::Bytes(n) = self.read_raw(buffer) {
            self.discarded += n as u32;
        }
    }

    /// Whether a closing socket was sent more than is read and thrown away.
    pub(super) fn discarded_enough(&self) -> bool {
        self.discarded as usize >= CLOSE_DISCARD_BYTES
    }

    /// Writes once; with TLS, until the kernel takes no more.
    #[inline]
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>], scratch: &mut tls::Scratch) -> Offered {
        if self.flags.has(Flags::TLS) { self.write_records(slices, scratch) } else { self.write_raw(slices) }
    }

    #[inline]
    fn write_raw(&mut self, slices: &[IoSlice<'_>]) -> Offered {
        let (written, offered) = match slices {
            [only] => (uninterrupted(|| send(&self.stream, only)), only.len()),
            _ => (uninterrupted(|| self.stream.write_vectored(slices)), total(slices)),
        };
        match written {
            Ok(0) => Offered::Closed,
            Ok(bytes) => {
                if self.flags.has(Flags::WRITE_BLOCKED) {
                    self.clear(Flags::WRITE_BLOCKED);
                    self.set(Flags::ALIVE);
                }
                if bytes < offered {
                    self.set(Flags::WRITE_BLOCKED);
                }
                Offered::Wrote { bytes, unflushed: false }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.set(Flags::WRITE_BLOCKED);
                Offered::WouldBlock
            }
            Err(_) => Offered::Closed,
        }
    }

    /// Where its packets come from, if the connection is still there.
    pub(super) fn peer(&self) -> Option<std::net::SocketAddr> {
        self.stream.peer_addr().ok()
    }

    /// Says that nothing more will be written.
    pub(super) fn shut(&mut self) {
        self.set(Flags::SHUT);
        if self.flags.has(Flags::TLS) && !self.close_records() {
            // What the kernel did not take leaves with the next `flush`, and then it is shut.
            return;
        }
        self.shut_stream();
    }

    fn shut_stream(&self) {
        // The peer may be gone already; then there is nobody to tell.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Has the kernel throw the connection away when the stream is dropped.
    pub(super) fn reset_on_drop(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    pub(super) fn register(&mut self, registry: &mio::Registry, token: mio::Token) -> io::Result<()> {
        registry.register(&mut self.stream, token, mio::Interest::READABLE | mio::Interest::WRITABLE)
    }

    pub(super) fn has(&self, any: Flags) -> bool {
        self.flags.has(any)
    }

    pub(super) fn set(&mut self, flags: Flags) {
        self.flags.0 |= flags.0;
    }

    pub(super) fn clear(&mut self, flags: Flags) {
        self.flags.0 &= !flags.0;
    }
}

/// The system call itself: in a process of several threads the C library's wrapper turns asynchronous cancellation on
/// and off around it, which is a good part of what is left of a delivery's user time.
#[cfg(target_os = "linux")]
fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    use rustix::net::SendFlags;
    Ok(rustix::net::send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}

#[cfg(not(target_os = "linux"))]
fn send(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    stream.write(bytes)
}

/// Does a system call again until no signal comes in between: no event would tell that it is worth another try.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn total(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().map(|slice| slice.len()).sum()
}

/// The sockets of one shard, under the indexes of its subscribers.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    sockets: Vec<Option<Socket>>,
    /// Where the records of those are opened and sealed that speak TLS.
    pub(super) scratch: tls::Scratch,
}

impl Sockets {
    pub(super) fn insert(&mut self, key: Key, socket: Socket) {
        let index = key.index as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        self.sockets[index] = Some(socket);
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Socket> {
        self.get_mut(key)?;
        self.sockets[key.index as usize].take()
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Socket> {
        socket_of(&mut self.sockets, key)
    }

    /// Reads once from a socket, into `buffer`.
    pub(super) fn read(&mut self, key: Key, buffer: &mut [u8]) -> ReadResult {
        let Self { sockets, scratch } = self;
        socket_of(sockets, key).map_or(ReadResult::Nothing, |socket| socket.read(buffer, scratch))
    }

    /// The socket at an index, whoever it is.
    pub(super) fn at(&mut self, index: u32) -> Option<&mut Socket> {
        self.sockets.get_mut(index as usize)?.as_mut()
    }

    /// Indexes there are, of no socket too.
    pub(super) fn places(&self) -> u32 {
        self.sockets.len() as u32
    }
}

fn socket_of(sockets: &mut [Option<Socket>], key: Key) -> Option<&mut Socket> {
    let socket = sockets.get_mut(key.index as usize)?.as_mut();
    socket.filter(|socket| socket.generation == key.generation)
}

impl Transport for Sockets {
    fn offer(&mut self, key: Key, slices: &[IoSlice<'_>]) -> Offered {
        let Self { sockets, scratch } = self;
        match socket_of(sockets, key) {
            Some(socket) => socket.write(slices, scratch),
            None => Offered::Closed,
        }
    }
}
