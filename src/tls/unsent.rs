//! Records that the kernel has not taken yet, of one connection, and what all of those take together that count.
//!
//! A client's count from when its socket is the shard's: then they are part of what is queued for clients, which
//! the node's memory budget is for. The sum is told whenever the buffer changes, which it does only where a kernel takes no more.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// Bytes that unsent records take together. Written by the thread that has the connections.
pub(crate) type UnsentTotal = Arc<AtomicUsize>;

/// Whole records, from their beginning or in their middle.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    records: Vec<u8>,
    /// What they count in, and as how much they do.
    total: Option<UnsentTotal>,
    counted: usize,
}

impl Unsent {
    /// Has them count in `total` from now on.
    pub(super) fn count_in(&mut self, total: &UnsentTotal) {
        self.uncount();
        self.total = Some(total.clone());
        self.count();
    }

    /// Has `change` done to the records.
    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let changed = change(&mut self.records);
        if self.records.is_empty() {
            // A connection at rest holds no memory for this.
            self.records = Vec::new();
        }
        self.count();
        changed
    }

    /// Takes the first `bytes` bytes out: they are sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.change(|records| drop(records.drain(..bytes)));
    }

    pub(super) fn clear(&mut self) {
        self.change(Vec::clear);
    }

    fn count(&mut self) {
        let held = self.records.capacity();
        if held != self.counted
            && let Some(total) = &self.total
        {
            // Wraps where it became less, and so does the sum.
            total.fetch_add(held.wrapping_sub(self.counted), Relaxed);
            self.counted = held;
        }
    }

    fn uncount(&mut self) {
        if let Some(total) = self.total.take() {
            total.fetch_sub(std::mem::take(&mut self.counted), Relaxed);
        }
    }
}

impl Deref for Unsent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.records
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.uncount();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_is_what_all_connections_hold_that_count() {
        let total = UnsentTotal::default();
        let held = || total.load(Relaxed);
        let (mut one, mut other) = (Unsent::default(), Unsent::default());
        one.change(|records| records.extend_from_slice(&[7; 1_000]));
        assert_eq!(held(), 0, "it does not count yet");
        one.count_in(&total);
        assert!(held() >= 1_000, "{}", held());
        let with_one = held();
        other.count_in(&total);
        other.change(|records| records.extend_from_slice(&[7; 500]));
        assert!(held() >= with_one + 500, "{}", held());
        other.sent(499);
        assert_eq!(*other, [7]);
        assert!(held() > with_one, "its memory is still there");
        other.sent(1);
        assert_eq!(held(), with_one, "a connection at rest holds none");
        other.change(|records| records.push(7));
        other.clear();
        drop(one);
        assert_eq!(held(), 0);
    }
}
