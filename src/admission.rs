//! Admission: the node's budget of publications under way, and the credits taken from it.
//!
//! Whoever publishes takes credits first and waits here, at the edge, in order of arrival; behind this line nothing
//! waits. The credits travel with the publication and come back when the last interested shard has put it into its
//! log, because that is when the publication is dropped. So the queues into the shards can be sized never to overflow.

use std::{fmt, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a publication is charged for besides its message, bytes: topic, audience, queue entries.
const PUBLICATION_OVERHEAD: usize = 512;

/// The budget of one node.
#[derive(Debug)]
pub struct Admission {
    /// One permit a publication.
    publications: Arc<Semaphore>,
    /// One permit a byte.
    bytes: Arc<Semaphore>,
    publications_max: u32,
    bytes_max: u32,
}

/// The share of the budget one publication holds, or several do together; dropping it gives it back.
#[derive(Debug, Default)]
pub struct Credits {
    held: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
    /// When they were asked for, microseconds of the node's clock, if that is known. It stands here because what has
    /// credits is what is measured.
    asked: Option<u64>,
}

impl Credits {
    /// Takes the share of one publication out of those of several; what is left is the last one's.
    pub(crate) fn share(&mut self) -> Self {
        let Some((publications, bytes)) = &mut self.held else { return Self::default() };
        let left = publications.num_permits();
        if left <= 1 {
            return std::mem::take(self);
        }
        let share = bytes.num_permits() / left;
        Self { held: publications.split(1).zip(bytes.split(share)), asked: self.asked }
    }

    /// Notes when they were asked for, microseconds of the node's clock.
    pub(crate) fn note_asked(&mut self, at: u64) {
        self.asked = Some(at);
    }

    /// When they were asked for.
    pub(crate) fn asked(&self) -> Option<u64> {
        self.asked
    }
}

/// The node is stopping and admits nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping;

impl fmt::Display for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node is stopping")
    }
}

impl std::error::Error for Stopping {}

impl Admission {
    /// A budget of `publications` and `bytes`.
    ///
    /// # Panics
    /// When either is zero or over `u32::MAX`.
    pub fn new(publications: usize, bytes: usize) -> Self {
        let fits = |n: usize| u32::try_from(n).ok().filter(|&n| n > 0).expect("a budget is 1 to 2^32-1");
        Self {
            publications_max: fits(publications),
            bytes_max: fits(bytes),
            publications: Arc::new(Semaphore::new(publications)),
            bytes: Arc::new(Semaphore::new(bytes)),
        }
    }

    /// Waits for the credits of a message of `bytes`, behind everyone who asked before. Cancel-safe.
    ///
    /// # Errors
    /// When the node is stopping.
    pub async fn admit(&self, bytes: usize) -> Result<Credits, Stopping> {
        self.admit_all(1, bytes).await
    }

    /// The credits of a message of `bytes`, if they are to be had now.
    pub fn try_admit(&self, bytes: usize) -> Option<Credits> {
        self.try_admit_all(1, bytes)
    }

    /// Waits for the credits of `count` publications of one message of `bytes`, all at once: whoever had some of them
    /// and waited for others could wait for someone who does the same. Cancel-safe.
    ///
    /// # Errors
    /// When the node is stopping.
    pub(crate) async fn admit_all(&self, count: u32, bytes: usize) -> Result<Credits, Stopping> {
        debug_assert!((1..=self.publications_max).contains(&count), "it would wait for ever");
        // Everyone takes the one before the other, so the order of arrival holds over both.
        let publications = self.publications.clone().acquire_many_owned(count).await.map_err(|_| Stopping)?;
        let charge = self.charge(count, bytes);
        let bytes = self.bytes.clone().acquire_many_owned(charge).await.map_err(|_| Stopping)?;
        Ok(Credits { held: Some((publications, bytes)), asked: None })
    }

    /// The credits of `count` publications of one message of `bytes`, if they are to be had now.
    pub fn try_admit_all(&self, count: u32, bytes: usize) -> Option<Credits> {
        let publications = self.publications.clone().try_acquire_many_owned(count).ok()?;
        let bytes = self.bytes.clone().try_acquire_many_owned(self.charge(count, bytes)).ok()?;
        Some(Credits { held: Some((publications, bytes)), asked: None })
    }

    /// The most publications that may be under way.
    pub fn publications_max(&self) -> usize {
        self.publications_max as usize
    }

    /// Waits until everything admitted so far is in the logs of all interested shards.
    pub async fn drained(&self) {
        // FIFO: this waits behind those who wait already, and holds back nobody for longer than it takes.
        let _all = self.publications.acquire_many(self.publications_max).await;
    }

    /// Admits nothing any more; those who wait are told.
    pub fn close(&self) {
        self.publications.close();
        self.bytes.close();
    }

    /// Publications under way now.
    pub fn inflight(&self) -> usize {
        self.publications_max as usize - self.publications.available_permits()
    }

    fn charge(&self, count: u32, bytes: usize) -> u32 {
        let all = bytes.saturating_add(PUBLICATION_OVERHEAD).saturating_mul(count as usize);
        u32::try_from(all).unwrap_or(u32::MAX).min(self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_is_bounded_in_count_and_in_bytes_and_comes_back() {
        let admission = Admission::new(2, 10_000);
        let first = admission.try_admit(10).expect("the budget is whole");
        let second = admission.try_admit(10).expect("one is left");
        assert!(admission.try_admit(10).is_none());
        assert_eq!(admission.inflight(), 2);
        drop(first);
        let large = admission.try_admit(8_000).expect("bytes are left");
        drop(second);
        assert!(admission.try_admit(8_000).is_none(), "one publication is free, its bytes are not");
        drop(large);
        assert!(admission.try_admit(usize::MAX).is_some(), "what is larger than the budget takes all of it");
    }

    #[test]
    fn credits_of_several_come_back_one_by_one_and_none_is_left_over() {
        let admission = Admission::new(3, 10_000);
        let mut all = admission.try_admit_all(3, 100).expect("the budget is whole");
        assert_eq!(admission.inflight(), 3);
        for left in [2, 1] {
            drop(all.share());
            assert_eq!(admission.inflight(), left);
        }
        let last = all.share();
        drop(all);
        assert_eq!(admission.inflight(), 1);
        drop(last);
        assert!(admission.try_admit(usize::MAX).is_some(), "every byte is back");
        let clamped = admission.try_admit_all(2, usize::MAX).expect("what is larger takes all bytes");
        drop(clamped);
        assert!(admission.try_admit(usize::MAX).is_some());
    }

    #[tokio::test]
    async fn closing_tells_those_who_wait() {
        let admission = Arc::new(Admission::new(1, 10_000));
        let held = admission.try_admit(1).expect("the budget is whole");
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { admission.admit(1).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        admission.close();
        assert_eq!(waiting.await.expect("it does not panic"), Err(Stopping));
        drop(held);
    }
}
