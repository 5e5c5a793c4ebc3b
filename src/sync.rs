//! Atomics, wakers and the bounded queue come from here, so that loom can model what is built on them.
//!
//! Under `--cfg fanfare_loom` the same names are loom's; the queue, whose own correctness is crossbeam's business, is
//! then a stand-in with the same contract and no more: whoever finds it empty has synchronised with nobody. Nothing
//! else in the crate names `std::sync::atomic` for what two threads use to meet.

#[cfg(not(fanfare_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(not(fanfare_loom))]
pub(crate) use atomic_waker::AtomicWaker;
#[cfg(not(fanfare_loom))]
pub(crate) use crossbeam_queue::ArrayQueue;

#[cfg(fanfare_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};

#[cfg(fanfare_loom)]
pub(crate) use self::model::{ArrayQueue, AtomicWaker};

#[cfg(fanfare_loom)]
mod model {
    use std::{collections::VecDeque, task::Waker};

    use loom::sync::atomic::{AtomicUsize, Ordering};

    /// loom's waker cell under the name of the real one.
    #[derive(Debug)]
    pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub(crate) fn new() -> Self {
            Self(loom::future::AtomicWaker::new())
        }

        pub(crate) fn register(&self, waker: &Waker) {
            self.0.register_by_ref(waker);
        }

        pub(crate) fn wake(&self) {
            self.0.wake();
        }
    }

    /// A bounded FIFO with the contract of `crossbeam_queue::ArrayQueue`.
    #[derive(Debug)]
    pub(crate) struct ArrayQueue<T> {
        items: loom::sync::Mutex<VecDeque<T>>,
        /// Items there are. Read without the lock, so that a look into an empty queue orders nothing.
        len: AtomicUsize,
        capacity: usize,
    }

    impl<T> ArrayQueue<T> {
        pub(crate) fn new(capacity: usize) -> Self {
            Self { items: loom::sync::Mutex::new(VecDeque::new()), len: AtomicUsize::new(0), capacity }
        }

        pub(crate) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().expect("loom mutex");
            if items.len() == self.capacity {
                return Err(item);
            }
            items.push_back(item);
            self.len.fetch_add(1, Ordering::Release);
            Ok(())
        }

        pub(crate) fn pop(&self) -> Option<T> {
            if self.is_empty() {
                return None;
            }
            let item = self.items.lock().expect("loom mutex").pop_front();
            self.len.fetch_sub(item.is_some().into(), Ordering::Relaxed);
            item
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.len() == 0
        }

        pub(crate) fn len(&self) -> usize {
            self.len.load(Ordering::Acquire)
        }

        pub(crate) fn capacity(&self) -> usize {
            self.capacity
        }
    }
}
