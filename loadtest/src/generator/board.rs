//! How many numbers of each stream have been given out, where every process of a run can look: a file without a name,
//! in memory. The process that publishes writes it before it sends, so that whoever has read a message from a socket
//! finds its number here. To look is rare (a client that gets what it expects need not know), to be told would not be,
//! and a message to a process on its way might come later than what it announces. A file does that without sharing
//! memory, which takes unsafe code.
//!
//! Reading may meet a write half done. So each count stands beside its complement, and is read again until both agree.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};

/// Bytes of a count and its complement.
const CELL: usize = 16;

/// The file, and how many streams it is about.
#[derive(Debug)]
pub(crate) struct Board {
    file: File,
    streams: usize,
}

impl Board {
    /// Nothing given out yet of any of `streams` streams. Every page is written here, and so has its memory.
    pub(crate) fn new(streams: usize) -> io::Result<Self> {
        let board = Self { file: File::from(memfd_create("loadtest-board", MemfdFlags::CLOEXEC)?), streams };
        board.file.write_all_at(&cell(0).repeat(streams), 0)?;
        Ok(board)
    }

    /// The one made elsewhere for so many streams.
    pub(super) fn open(file: OwnedFd, streams: usize) -> io::Result<Self> {
        let file = File::from(file);
        match file.metadata()?.len() == (streams * CELL) as u64 {
            true => Ok(Self { file, streams }),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "no board of this run")),
        }
    }

    /// For a process that is to look at it.
    pub(super) fn handle(&self) -> io::Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned()
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams
    }

    /// So many numbers of `stream` have been given out.
    pub(crate) fn post(&self, stream: u32, count: u64) {
        let written = self.file.write_all_at(&cell(count), place(stream));
        written.expect("its memory is there since it was made");
    }

    /// How many numbers of `stream`, one of those it is about, have been given out.
    pub(crate) fn read(&self, stream: u32) -> u64 {
        loop {
            let mut read = [0; CELL];
            self.file.read_exact_at(&mut read, place(stream)).expect("memory within its length can be read");
            if let Some(count) = count(read) {
                return count;
            }
        }
    }
}

fn place(stream: u32) -> u64 {
    u64::from(stream) * CELL as u64
}

fn cell(count: u64) -> [u8; CELL] {
    (u128::from(count) | u128::from(!count) << 64).to_le_bytes()
}

/// What a cell says, if it was not being written.
fn count(cell: [u8; CELL]) -> Option<u64> {
    let both = u128::from_le_bytes(cell);
    let (count, complement) = (both as u64, (both >> 64) as u64);
    (count == !complement).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_posted_is_read_through_another_handle() {
        let board = Board::new(3).expect("memory");
        let other = Board::open(board.handle().expect("a handle"), 3).expect("the same board");
        assert_eq!([0, 1, 2].map(|stream| other.read(stream)), [0; 3]);
        board.post(1, u64::MAX);
        board.post(2, 7);
        assert_eq!([0, 1, 2].map(|stream| other.read(stream)), [0, u64::MAX, 7]);
        assert!(Board::open(board.handle().expect("a handle"), 4).is_err());
    }

    #[test]
    fn a_write_half_done_is_noticed() {
        let (before, after) = (cell(0x00FF), cell(0x0100));
        for done in 1..CELL {
            let mut torn = before;
            torn[..done].copy_from_slice(&after[..done]);
            let said = count(torn);
            assert!(said.is_none() || said == Some(0x0100), "{done} bytes written: {said:?}");
        }
        assert_eq!((count(before), count(after)), (Some(0x00FF), Some(0x0100)));
    }
}
