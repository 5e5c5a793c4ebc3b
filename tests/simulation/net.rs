//! The connections of one shard: clients that read everything, little, nothing, later, or are gone.

use std::{collections::HashMap, io::IoSlice};

use fanfare::engine::{Key, Offered, Transport};

use super::{
    random::Random,
    stream::{BINARY, Frame, Stream, TEXT},
};

/// How a connection takes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Whatever is offered.
    Willing,
    /// At most so many bytes at once, then none until it is writable again.
    Choppy(usize),
    /// Nothing.
    Stuck,
    /// Whatever is offered, but it has not left yet.
    Unflushed,
    /// Each time as one of the others.
    Fickle,
    /// The next offer finds it gone.
    Vanishing,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) manners: Manners,
    pub(crate) stream: Stream,
    /// Whether it took less than it was offered, and nobody was told that it takes bytes again.
    pub(crate) blocked: bool,
    /// Whether it said that it is gone.
    pub(crate) gone: bool,
    /// Frames that came and have not been looked at.
    frames: Vec<Frame>,
}

/// All connections of one shard.
#[derive(Debug)]
pub(crate) struct Net {
    random: Random,
    connections: HashMap<Key, Connection>,
    /// Keys with frames to look at, in the order in which they came.
    fresh: Vec<Key>,
    /// Publications that came whole, over all connections there ever were.
    pub(crate) data_frames: u64,
    /// Bytes that came.
    pub(crate) bytes: u64,
    /// Offers that were cut inside a control frame.
    pub(crate) control_cuts: u64,
    /// Offers there were.
    pub(crate) offers: u64,
}

impl Net {
    pub(crate) fn new(random: Random) -> Self {
        Self {
            random,
            connections: HashMap::new(),
            fresh: Vec::new(),
            data_frames: 0,
            bytes: 0,
            control_cuts: 0,
            offers: 0,
        }
    }

    /// A socket for `key`.
    pub(crate) fn connect(&mut self, key: Key, manners: Manners) {
        let stream = Stream::default();
        let connection = Connection { manners, stream, blocked: false, gone: false, frames: Vec::new() };
        let before = self.connections.insert(key, connection);
        assert!(before.is_none(), "{key:?} has a connection");
    }

    pub(crate) fn disconnect(&mut self, key: Key) {
        self.connections.remove(&key);
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Connection> {
        self.connections.get(&key)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Connection> {
        self.connections.get_mut(&key)
    }

    /// The frames that came since the last call.
    pub(crate) fn take_frames(&mut self) -> Vec<(Key, Vec<Frame>)> {
        let mut taken = Vec::new();
        for key in std::mem::take(&mut self.fresh) {
            let connection = self.connections.get_mut(&key).expect("it was there in this step");
            taken.push((key, std::mem::take(&mut connection.frames)));
        }
        taken
    }

    /// What a connection does with bytes that are offered.
    fn take(&mut self, key: Key, bytes: &[u8], manners: Manners) -> Offered {
        let connection = self.connections.get_mut(&key).expect("it was offered bytes");
        let taken = match manners {
            Manners::Willing | Manners::Unflushed => bytes.len(),
            Manners::Choppy(most) => self.random.within(1, most).min(bytes.len()),
            Manners::Stuck => {
                connection.blocked = true;
                return Offered::WouldBlock;
            }
            Manners::Vanishing => {
                connection.gone = true;
                return Offered::Closed;
            }
            Manners::Fickle => unreachable!("it is one of the others now"),
        };
        let frames = connection.stream.feed(&bytes[..taken]);
        self.bytes += taken as u64;
        self.data_frames +=
            frames.iter().filter(|frame| [TEXT, BINARY].contains(&frame.opcode)).count() as u64;
        self.control_cuts += u64::from(connection.stream.is_inside_control());
        if !frames.is_empty() && connection.frames.is_empty() {
            self.fresh.push(key);
        }
        connection.frames.extend(frames);
        let unflushed = manners == Manners::Unflushed;
        connection.blocked = taken < bytes.len() || unflushed;
        Offered::Wrote { bytes: taken, unflushed }
    }
}

impl Transport for Net {
    fn offer(&mut self, key: Key, slices: &[IoSlice<'_>]) -> Offered {
        let connection = self.connections.get(&key).expect("only who has a socket is offered bytes");
        assert!(!connection.gone, "{key:?} is gone, and was offered bytes");
        assert!(!connection.blocked, "{key:?} is blocked, and was offered bytes");
        assert!(slices.len() <= 64 && slices.iter().all(|slice| !slice.is_empty()));
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        assert!(!bytes.is_empty(), "an offer of nothing");
        self.offers += 1;
        let manners = match connection.manners {
            Manners::Fickle => match self.random.below(20) {
                0..12 => Manners::Willing,
                12..17 => Manners::Choppy(bytes.len()),
                17..19 => Manners::Stuck,
                _ => Manners::Unflushed,
            },
            always => always,
        };
        self.take(key, &bytes, manners)
    }
}
