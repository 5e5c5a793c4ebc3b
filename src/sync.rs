//! Atomics, wakers and the bounded queue come from here, so that loom can model what is built on them.
//!
//! Under `--cfg loom` the same names are loom's; the queue, whose own correctness is crossbeam's business, is
//! then a stand-in with the same contract. Nothing else in the crate names `std::sync::atomic` for what two
//! threads use to meet.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(not(loom))]
pub(crate) use atomic_waker::AtomicWaker;
#[cfg(not(loom))]
pub(crate) use crossbeam_queue::ArrayQueue;

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};

#[cfg(loom)]
pub(crate) use self::model::{ArrayQueue, AtomicWaker};

#[cfg(loom)]
mod model {
    use std::{collections::VecDeque, task::Waker};

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
        capacity: usize,
    }

    impl<T> ArrayQueue<T> {
        pub(crate) fn new(capacity: usize) -> Self {
            Self { items: loom::sync::Mutex::new(VecDeque::new()), capacity }
        }

        pub(crate) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().expect("loom mutex");
            if items.len() == self.capacity {
                return Err(item);
            }
            items.push_back(item);
            Ok(())
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.items.lock().expect("loom mutex").pop_front()
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.items.lock().expect("loom mutex").is_empty()
        }

        pub(crate) fn len(&self) -> usize {
            self.items.lock().expect("loom mutex").len()
        }

        pub(crate) fn capacity(&self) -> usize {
            self.capacity
        }
    }
}
