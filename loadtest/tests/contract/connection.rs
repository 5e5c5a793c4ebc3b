//! One connection of the small server.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use socket2::SockRef;

use super::{Breach, v1};

/// MSG_DONTWAIT of Linux.
const DONT_WAIT: i32 = 0x40;
/// One client's socket, and what waits for it.
pub(super) struct Connection {
    pub(super) client: u64,
    pub(super) speaks_v1: bool,
    pub(super) stream: TcpStream,
    /// Not taken by the socket yet.
    pub(super) waiting: Vec<u8>,
    /// To be broken off when `waiting` is out.
    pub(super) ends: bool,
    /// For the breaches that skip messages: topic (or any), and how many are still delivered before the one lost.
    pub(super) skip: Option<(Option<String>, u32)>,
    /// For the breach that delivers too much.
    pub(super) left: BTreeSet<String>,
    /// Dropped since it was last told of it.
    pub(super) dropped: Option<Dropped>,
}

/// Messages of a topic that did not fit.
pub(super) struct Dropped {
    pub(super) topic: String,
    /// Offset of the last.
    pub(super) to: u64,
    pub(super) count: u64,
}

impl Connection {
    /// Tells it what was dropped, if something was and its protocol says so.
    pub(super) fn tell_drops(&mut self, breach: Breach, done: &AtomicU64) {
        let Some(Dropped { topic, to, mut count }) = self.dropped.take_if(|_| self.speaks_v1) else { return };
        match breach {
            Breach::ConcealDrops => {
                done.fetch_add(count, SeqCst);
                return;
            }
            Breach::ExaggerateDrops => {
                done.fetch_add(1, SeqCst);
                count += 1;
            }
            _ => {}
        }
        self.waiting.extend(v1::gap(&topic, to, count, "slow"));
    }

    /// Whether the message about to be sent is one to be lost.
    pub(super) fn skips(&mut self, topic: &str) -> bool {
        let Some((of, before)) = &mut self.skip else { return false };
        if of.as_deref().is_some_and(|of| of != topic) {
            return false;
        }
        if *before > 0 {
            *before -= 1;
            return false;
        }
        self.skip = None;
        true
    }

    /// `false` if it is at its end.
    pub(super) fn flush(&mut self) -> bool {
        while !self.waiting.is_empty() {
            // The reading thread shares the socket, and is to block.
            match SockRef::from(&self.stream).send_with_flags(&self.waiting, DONT_WAIT) {
                Ok(sent) => drop(self.waiting.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        if self.ends {
            let _ = self.stream.shutdown(std::net::Shutdown::Write);
        }
        !self.ends
    }
}
