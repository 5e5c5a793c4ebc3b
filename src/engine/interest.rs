//! Which shards want a topic, and in which encodings.

use super::encoding::{ENCODINGS, Encoding};
use crate::limits::SHARDS_MAX;

/// A set of shards: bit n is shard n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardSet(u64);

const _: () = assert!(SHARDS_MAX <= u64::BITS as usize);

impl ShardSet {
    pub(crate) fn insert(&mut self, shard: u16) {
        self.0 |= 1 << shard;
    }

    pub(crate) fn remove(&mut self, shard: u16) {
        self.0 &= !(1 << shard);
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let shard = left.trailing_zeros() as usize;
            left &= left.checked_sub(1)?;
            Some(shard)
        })
    }
}

/// Which shards want a topic, for each encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest([ShardSet; ENCODINGS]);

impl Interest {
    /// The shards that want it in `encoding`.
    pub(crate) fn in_encoding(self, encoding: Encoding) -> ShardSet {
        self.0[encoding as usize]
    }

    /// The shards that want it at all.
    pub(crate) fn shards(self) -> ShardSet {
        ShardSet(self.0.iter().fold(0, |all, set| all | set.0))
    }

    pub(super) fn insert(&mut self, shard: u16, encoding: Encoding) {
        self.0[encoding as usize].insert(shard);
    }

    pub(super) fn remove(&mut self, shard: u16, encoding: Encoding) {
        self.0[encoding as usize].remove(shard);
    }

    pub(super) fn is_empty(self) -> bool {
        self.shards().is_empty()
    }
}
