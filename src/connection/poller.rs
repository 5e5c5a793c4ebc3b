//! The one poller of a shard: all its sockets in one `mio::Poll`, which is itself registered with the runtime.
//!
//! Sockets are registered once, for reading and writing, edge-triggered; what the events say is kept as bits of the
//! sockets. The runtime's readiness of the poller is cleared only after a poll that found nothing.

use std::{
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use mio::{Events, Token};
use tokio::io::{Interest, unix::AsyncFd};

use super::socket::Socket;
use crate::{engine::Key, logging::sampled};

/// Events taken at once.
pub(super) const EVENTS: usize = 1_024;

/// The poller.
#[derive(Debug)]
pub(super) struct Poller {
    poll: AsyncFd<mio::Poll>,
    events: Events,
}

/// What happened to a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Happened {
    pub(super) key: Key,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer sends nothing more.
    pub(super) read_closed: bool,
}

impl Poller {
    #[expect(
        deprecated,
        reason = "the poll owns its descriptor and is never replaced; the successor is unsafe"
    )]
    pub(super) fn new() -> io::Result<Self> {
        let poll = AsyncFd::with_interest(mio::Poll::new()?, Interest::READABLE)?;
        Ok(Self { poll, events: Events::with_capacity(EVENTS) })
    }

    pub(super) fn register(&self, key: Key, socket: &mut Socket) -> io::Result<()> {
        socket.register(self.poll.get_ref().registry(), token(key))
    }

    /// Looks for events now, and adds what happened. Returns whether there may be more.
    pub(super) fn poll_now(&mut self, happened: &mut Vec<Happened>) -> bool {
        loop {
            match self.poll.get_mut().poll(&mut self.events, Some(Duration::ZERO)) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    sampled!(ERROR, %error, "the poller failed");
                    return false;
                }
            }
        }
        let before = happened.len();
        happened.extend(self.events.iter().map(|event| Happened {
            key: key(event.token()),
            readable: event.is_readable() || event.is_read_closed() || event.is_error(),
            writable: event.is_writable() || event.is_write_closed() || event.is_error(),
            read_closed: event.is_read_closed() || event.is_error(),
        }));
        happened.len() - before == EVENTS
    }

    /// Is ready when an event came in, and has added what happened.
    pub(super) fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
        happened: &mut Vec<Happened>,
    ) -> Poll<io::Result<()>> {
        loop {
            // Dropping the guard keeps the runtime's readiness: only an empty poll may clear it.
            drop(ready!(self.poll.poll_read_ready(context))?);
            self.poll_now(happened);
            if !happened.is_empty() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll.poll_read_ready(context))?.clear_ready();
        }
    }
}

fn token(key: Key) -> Token {
    const { assert!(usize::BITS >= 64, "a token holds an index and a generation") };
    Token((key.generation as usize) << 32 | key.index as usize)
}

fn key(token: Token) -> Key {
    Key { index: token.0 as u32, generation: (token.0 >> 32) as u32 }
}
