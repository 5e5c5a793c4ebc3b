//! Admission: the node's budget of publications under way, and the credits taken from it.
//!
//! Whoever publishes takes credits first and waits here, at the edge, in order of arrival; behind this line nothing
//! waits. The credits travel with the publication and come back when the last interested shard has put it into its
//! log, because that is when the publication is dropped. So the queues into the shards can be sized never to overflow.

use std::sync::Arc;

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

/// The share of the budget one publication holds; dropping it gives it back.
#[derive(Debug, Default)]
pub struct Credits {
    _held: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

/// The node is stopping and admits nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping;

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
        // Everyone takes the one before the other, so the order of arrival holds over both.
        let publication = self.publications.clone().acquire_owned().await.map_err(|_| Stopping)?;
        let bytes = self.bytes.clone().acquire_many_owned(self.charge(bytes)).await.map_err(|_| Stopping)?;
        Ok(Credits { _held: Some((publication, bytes)) })
    }

    /// The credits of a message of `bytes`, if they are to be had now.
    pub fn try_admit(&self, bytes: usize) -> Option<Credits> {
        let publication = self.publications.clone().try_acquire_owned().ok()?;
        let bytes = self.bytes.clone().try_acquire_many_owned(self.charge(bytes)).ok()?;
        Some(Credits { _held: Some((publication, bytes)) })
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

    fn charge(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.saturating_add(PUBLICATION_OVERHEAD)).unwrap_or(u32::MAX).min(self.bytes_max)
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
