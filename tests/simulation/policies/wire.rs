//! The connections of one shard. What a connection takes depends on what it was told and what it is offered, and on nothing else.

use std::{collections::HashMap, io::IoSlice};

use fanfare::engine::{Key, Offered, Transport};

use super::op::Manners;
use crate::stream::{Frame, Stream};

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) manners: Manners,
    pub(super) stream: Stream,
    /// Whether it took less than it was offered, and nobody was told that it takes bytes again.
    pub(super) blocked: bool,
    /// Whether it said that it is gone.
    pub(super) gone: bool,
    /// Frames that came and have not been looked at.
    pub(super) frames: Vec<Frame>,
}

/// All connections of one shard.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) connections: HashMap<Key, Connection>,
}

impl Wire {
    pub(super) fn connect(&mut self, key: Key, manners: Manners) {
        let stream = Stream::default();
        let connection = Connection { manners, stream, blocked: false, gone: false, frames: Vec::new() };
        assert!(self.connections.insert(key, connection).is_none(), "{key:?} has a connection");
    }
}

impl Transport for Wire {
    fn offer(&mut self, key: Key, slices: &[IoSlice<'_>]) -> Offered {
        let connection = self.connections.get_mut(&key).expect("only who has a socket is offered bytes");
        assert!(!connection.gone && !connection.blocked, "{key:?} was offered bytes");
        let mut bytes = Vec::new();
        slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
        assert!(!bytes.is_empty(), "an offer of nothing");
        let taken = match connection.manners {
            Manners::Willing | Manners::Unflushed => bytes.len(),
            Manners::Choppy(most) => most.min(bytes.len()),
            Manners::Stuck => {
                connection.blocked = true;
                return Offered::WouldBlock;
            }
            Manners::Vanishing => {
                connection.gone = true;
                return Offered::Closed;
            }
        };
        connection.frames.extend(connection.stream.feed(&bytes[..taken]));
        let unflushed = connection.manners == Manners::Unflushed;
        connection.blocked = taken < bytes.len() || unflushed;
        Offered::Wrote { bytes: taken, unflushed }
    }
}
