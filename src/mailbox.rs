//! The bounded queue into a shard, and the one coalesced wake-up of all queues of that shard.
//!
//! Any thread pushes, the shard's thread alone pops. Algorithm of the wake-up: a producer pushes, then swaps
//! `scheduled` to true, and wakes the consumer only if it was false. The consumer, before it sleeps, registers
//! its waker, swaps `scheduled` to false and looks into the queues once more. Invariant (I7): when an item is in
//! a queue, the consumer is running, or `scheduled` is true and a wake-up has been given since it last slept.
//! A mailbox never blocks and never grows; whoever sizes it makes sure that a push cannot find it full.

use std::{sync::Arc, task::Waker};

use crossbeam_utils::CachePadded;

use crate::sync::{ArrayQueue, AtomicBool, AtomicWaker, Ordering};

/// Wakes one consumer, at most once for everything that is pushed while it has not looked.
#[derive(Debug)]
pub struct Wakeup {
    /// True from a push until the consumer is about to sleep. Producers set it, the consumer clears it.
    scheduled: CachePadded<AtomicBool>,
    /// The consumer's waker; registered by the consumer, taken by producers.
    waker: AtomicWaker,
}

impl Wakeup {
    /// A wake-up nobody waits for yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { scheduled: CachePadded::new(AtomicBool::new(false)), waker: AtomicWaker::new() })
    }

    /// Has the consumer look again. Called after the push it announces.
    pub fn wake(&self) {
        // AcqRel: releases the push to the consumer's swap in `about_to_sleep`; acquires that swap, so that a
        // producer which finds false also finds the waker registered before it.
        if !self.scheduled.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Called by the consumer before it sleeps. It must look into its queues after this, and only then sleep.
    pub fn about_to_sleep(&self, waker: &Waker) {
        self.waker.register(waker);
        // AcqRel: pairs with the swap in `wake`. Either that swap comes later and finds false, and wakes; or it came
        // earlier, and what was pushed before it is visible to the look that follows.
        self.scheduled.swap(false, Ordering::AcqRel);
    }
}

/// A bounded FIFO into a shard.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: ArrayQueue<T>,
    wakeup: Arc<Wakeup>,
}

impl<T> Mailbox<T> {
    /// A mailbox for `capacity` items, announcing each through `wakeup`.
    pub fn new(capacity: usize, wakeup: Arc<Wakeup>) -> Self {
        Self { queue: ArrayQueue::new(capacity), wakeup }
    }

    /// Appends `item` and wakes the consumer.
    ///
    /// # Errors
    /// Gives the item back when the mailbox is full.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.queue.push(item)?;
        self.wakeup.wake();
        Ok(())
    }

    /// Takes the oldest item. For the consumer only.
    pub fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many items wait, about.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many items fit.
    pub fn capacity(&self) -> usize {
        self.queue.capacity()
    }
}

#[cfg(all(test, not(fanfare_loom)))]
mod tests {
    use super::*;

    #[test]
    fn full_mailbox_gives_the_item_back_and_keeps_order() {
        let mailbox = Mailbox::new(2, Wakeup::new());
        assert_eq!(mailbox.push(1), Ok(()));
        assert_eq!(mailbox.push(2), Ok(()));
        assert_eq!(mailbox.push(3), Err(3));
        assert_eq!((mailbox.len(), mailbox.capacity()), (2, 2));
        assert_eq!([mailbox.pop(), mailbox.pop(), mailbox.pop()], [Some(1), Some(2), None]);
        assert!(mailbox.is_empty());
    }

    #[test]
    fn wake_ups_of_one_burst_are_one() {
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let wakeup = Wakeup::new();
        let mailbox = Mailbox::new(8, wakeup.clone());
        wakeup.about_to_sleep(&waker);
        for n in 0..5 {
            mailbox.push(n).expect("it has room");
        }
        assert_eq!(count.0.load(SeqCst), 1);
        wakeup.about_to_sleep(&waker);
        mailbox.push(5).expect("it has room");
        assert_eq!(count.0.load(SeqCst), 2);
    }
}

/// Every interleaving of producers and a consumer that sleeps, with every value a relaxed machine may show them:
/// `RUSTFLAGS="--cfg fanfare_loom" cargo test --lib --target-dir target/loom mailbox::loom`.
#[cfg(all(test, fanfare_loom))]
mod loom_model {
    use std::{
        future::poll_fn,
        task::{Context, Poll},
    };

    use loom::{future::block_on, thread};

    use super::*;

    /// What a shard does when it runs out of work: look, announce that it is about to sleep, look again, sleep.
    fn next<T>(mailboxes: &[&Mailbox<T>], context: &mut Context<'_>) -> Poll<T> {
        let look = || mailboxes.iter().find_map(|mailbox| mailbox.pop());
        if let Some(item) = look() {
            return Poll::Ready(item);
        }
        mailboxes[0].wakeup.about_to_sleep(context.waker());
        look().map_or(Poll::Pending, Poll::Ready)
    }

    fn model(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(run);
    }

    #[test]
    fn nothing_is_lost_doubled_or_reordered_and_no_wake_up_is_missed() {
        model(2, || {
            let mailbox = Arc::new(Mailbox::new(4, Wakeup::new()));
            let producers: Vec<_> = [10, 20]
                .into_iter()
                .map(|producer| {
                    let mailbox = mailbox.clone();
                    thread::spawn(move || {
                        for n in 0..2 {
                            mailbox.push(producer + n).expect("it has room");
                        }
                    })
                })
                .collect();
            // A wake-up that is missed leaves the consumer asleep for ever, which loom reports as a deadlock.
            let taken: Vec<i32> =
                (0..4).map(|_| block_on(poll_fn(|context| next(&[&mailbox], context)))).collect();
            for producer in producers {
                producer.join().expect("it does not panic");
            }
            for producer in [10, 20] {
                let of_one: Vec<i32> =
                    taken.iter().copied().filter(|item| item / 10 == producer / 10).collect();
                assert_eq!(of_one, [producer, producer + 1]);
            }
            assert_eq!(mailbox.pop(), None);
        });
    }

    #[test]
    fn one_wake_up_serves_two_mailboxes() {
        model(3, || {
            let wakeup = Wakeup::new();
            let mailboxes = [1, 2].map(|_| Arc::new(Mailbox::new(1, wakeup.clone())));
            let producers = mailboxes.clone().map(|mailbox| thread::spawn(move || mailbox.push(1)));
            let both = [&*mailboxes[0], &*mailboxes[1]];
            let taken: i32 = (0..2).map(|_| block_on(poll_fn(|context| next(&both, context)))).sum();
            assert_eq!(taken, 2);
            for producer in producers {
                assert_eq!(producer.join().expect("it does not panic"), Ok(()));
            }
        });
    }

    #[test]
    fn full_mailbox_gives_the_item_back_whoever_comes_second() {
        model(3, || {
            let mailbox = Arc::new(Mailbox::new(1, Wakeup::new()));
            let other = mailbox.clone();
            let producer = thread::spawn(move || other.push(1));
            let mine = mailbox.push(2);
            let theirs = producer.join().expect("it does not panic");
            let taken = block_on(poll_fn(|context| next(&[&mailbox], context)));
            match (mine, theirs) {
                (Ok(()), Err(1)) => assert_eq!(taken, 2),
                (Err(2), Ok(())) => assert_eq!(taken, 1),
                other => panic!("one fits and one does not: {other:?}"),
            }
            assert_eq!(mailbox.pop(), None);
        });
    }
}
