//! How the engine hands bytes to connections, whatever carries them: sockets, memory, a batch submitter.

use std::io::IoSlice;

use super::subscribers::Key;

/// What writes to the connections of one shard. The engine offers each dirty subscriber's bytes once a pass.
pub trait Transport {
    /// Writes the slices, as many bytes of them as it can now, without waiting. It may answer
    /// [`Offered::Later`]; the bytes then stay where they are until [`Self::finish`] gives the result.
    fn offer(&mut self, key: Key, slices: &[IoSlice<'_>]) -> Offered;

    /// Adds the results of all offers of this pass that were answered with `Later`.
    fn finish(&mut self, results: &mut Vec<(Key, Offered)>);
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
    /// The result comes with [`Transport::finish`].
    Later,
    /// The connection is gone.
    Closed,
}
