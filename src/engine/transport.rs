//! How the engine hands bytes to connections, whatever carries them: sockets, memory.

use std::io::IoSlice;

use super::subscribers::Key;

/// What writes to the connections of one shard. The engine offers each dirty subscriber's bytes once a pass.
pub trait Transport {
    /// Writes the slices, as many bytes of them as it can now, without waiting.
    fn offer(&mut self, key: Key, slices: &[IoSlice<'_>]) -> Offered;
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// The first `bytes` bytes are taken. Fewer than offered, or `unflushed` (taken, but not with the kernel yet, as a
    /// TLS record may be), means that the connection takes no more now.
    Wrote {
        /// Bytes taken.
        bytes: usize,
        /// Whether some of them wait in the transport.
        unflushed: bool,
    },
    /// Nothing is taken now; the shard is told when the connection takes bytes again.
    WouldBlock,
    /// The connection is gone.
    Closed,
}
