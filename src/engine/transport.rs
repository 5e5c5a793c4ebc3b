//! How the engine hands bytes to connections, whatever carries them: sockets, memory, a batch submitter.

use std::io::IoSlice;

use super::subscribers::Key;

/// What writes to the connections of one shard. The engine offers each dirty subscriber's bytes once a pass.
pub trait Transport {
    /// Writes the slices, as many bytes of them as it can now, without waiting.
    fn offer(&mut self, key: Key, slices: &[IoSlice<'_>]) -> Offered;

    /// Offers the same slices to each of `keys`, as [`Self::offer`] would one by one and in that order. Adds those that
    /// did not take all of it, with their place in `keys`, in ascending order; whoever is not named took all.
    ///
    /// The slices are not touched any more when this returns.
    fn offer_alike(&mut self, keys: &[Key], slices: &[IoSlice<'_>], partial: &mut Vec<(u32, Offered)>) {
        let whole = Offered::Wrote { bytes: total(slices), unflushed: false };
        for (place, &key) in (0..).zip(keys) {
            let offered = self.offer(key, slices);
            if offered != whole {
                partial.push((place, offered));
            }
        }
    }
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

/// Bytes of all of them.
pub(crate) fn total(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().map(|slice| slice.len()).sum()
}
