//! The side of a socket that speaks TLS: records where a plain one has bytes.
//!
//! What the engine offers is sealed, sent, and counts as taken. What the kernel does not take of it waits here, and the
//! subscriber counts as blocked until that has left ([`Socket::flush`]).

use std::io::{ErrorKind, IoSlice, Read};

use mio::net::TcpStream;

use super::{Flags, Rare, ReadResult, Socket, send, uninterrupted};
use crate::{
    engine::Offered,
    tls::{Connection, Failure, Scratch, Sent},
};

impl Socket {
    /// Writes the records that the kernel did not take before. Returns whether the socket may be written to; a plain one
    /// always may.
    pub(in crate::connection) fn flush(&mut self) -> bool {
        let Some((tls, stream)) = self.tls() else { return true };
        if !tls.is_unflushed() {
            return true;
        }
        let mut moved = false;
        let flushed = tls.flush(|bytes| write(stream, bytes, &mut moved));
        self.note_written(moved);
        // One that is broken says so to whoever reads or writes next.
        let all = flushed.unwrap_or(true);
        match all {
            false => self.set(Flags::WRITE_BLOCKED),
            true if self.has(Flags::SHUT) => self.shut_stream(),
            true => {}
        }
        all
    }

    /// Says that nothing more comes, before the connection is dropped; a plain one needs no words. That is dropped with
    /// it which the kernel does not take.
    pub(in crate::connection) fn say_end(&mut self) {
        if self.has(Flags::TLS) && !self.has(Flags::SHUT) {
            self.close_records();
        }
    }

    /// Whether the peer broke the protocol of TLS.
    pub(in crate::connection) fn is_broken(&mut self) -> bool {
        self.tls().is_some_and(|(tls, _)| tls.is_broken())
    }

    /// Bytes of records that were read and are not whole.
    pub(super) fn unopened(&mut self) -> usize {
        self.tls().map_or(0, |(tls, _)| tls.unopened())
    }

    /// Notes that so many frames came in what was read.
    pub(in crate::connection) fn pay(&mut self, frames: usize) {
        if let Some((tls, _)) = self.tls() {
            tls.pay(frames);
        }
    }

    /// What the peer owes for records that carry too little, in commands.
    pub(in crate::connection) fn take_owed(&mut self) -> u32 {
        self.tls().map_or(0, |(tls, _)| tls.take_owed())
    }

    pub(super) fn read_records(&mut self, buffer: &mut [u8], scratch: &mut Scratch) -> ReadResult {
        let Some((tls, stream)) = self.tls() else { return ReadResult::Ended };
        let mut filled = 0;
        let received = match tls.has_ended() {
            true => Ok(false),
            false => tls.receive(
                scratch,
                |records| uninterrupted(|| (&*stream).read(records)),
                |payload| {
                    buffer[filled..filled + payload.len()].copy_from_slice(payload);
                    filled += payload.len();
                },
            ),
        };
        // Answers that TLS itself makes: alerts. A connection that is broken says so with the next read.
        let mut moved = false;
        let _ = tls.flush(|bytes| write(stream, bytes, &mut moved));
        let ended = tls.has_ended();
        self.note_written(moved);
        match received {
            Err(Failure::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                self.clear(Flags::READABLE);
                ReadResult::Nothing
            }
            // What came with the end is read first. It stays readable.
            _ if filled > 0 && ended => ReadResult::Bytes(filled),
            Ok(more) if !ended => {
                self.set(Flags::ALIVE);
                if !more && !self.has(Flags::READ_CLOSED) {
                    self.clear(Flags::READABLE);
                }
                if filled > 0 { ReadResult::Bytes(filled) } else { ReadResult::Nothing }
            }
            Ok(_) | Err(_) => {
                self.set(Flags::PEER_GONE);
                self.clear(Flags::READABLE);
                ReadResult::Ended
            }
        }
    }

    pub(super) fn write_records(&mut self, slices: &[IoSlice<'_>], scratch: &mut Scratch) -> Offered {
        let Some((tls, stream)) = self.tls() else { return Offered::Closed };
        let mut moved = false;
        let sent = tls.send(scratch, slices, |bytes| write(stream, bytes, &mut moved));
        self.note_written(moved);
        match sent {
            Ok(Sent { taken, unflushed }) => {
                if unflushed {
                    self.set(Flags::WRITE_BLOCKED);
                }
                Offered::Wrote { bytes: taken, unflushed }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.set(Flags::WRITE_BLOCKED);
                Offered::WouldBlock
            }
            Err(_) => Offered::Closed,
        }
    }

    /// Says that nothing more comes. Returns whether that has left, or never will.
    pub(super) fn close_records(&mut self) -> bool {
        let Some((tls, stream)) = self.tls() else { return true };
        tls.close();
        tls.flush(|bytes| write(stream, bytes, &mut false)).unwrap_or(true)
    }

    /// Whether there are records that the kernel has not taken.
    pub(in crate::connection) fn is_unflushed(&mut self) -> bool {
        self.tls().is_some_and(|(tls, _)| tls.is_unflushed())
    }

    fn note_written(&mut self, moved: bool) {
        if moved {
            self.clear(Flags::SEEN_UNFLUSHED);
        }
        if moved && self.has(Flags::WRITE_BLOCKED) {
            self.clear(Flags::WRITE_BLOCKED);
            self.set(Flags::ALIVE);
        }
    }

    fn tls(&mut self) -> Option<(&mut Connection, &TcpStream)> {
        if !self.flags.has(Flags::TLS) {
            return None;
        }
        let Rare { tls, .. } = &mut **self.rare.as_mut()?;
        Some((tls.as_mut()?, &self.stream))
    }
}

/// Writes once, and notes whether the kernel took anything.
fn write(stream: &TcpStream, bytes: &[u8], moved: &mut bool) -> std::io::Result<usize> {
    let written = uninterrupted(|| send(stream, bytes));
    *moved |= written.as_ref().is_ok_and(|&bytes| bytes > 0);
    written
}
