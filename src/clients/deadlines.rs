//! The deadlines of registrations one shard looks after.
//!
//! The shard's driver pushes what [`Clients`] hands out, and calls [`Deadlines::expire`] when one [`Deadlines::is_due`].
//! What an entry means is for [`Clients`] to say; here is only when to ask.

use std::{cmp::Reverse, collections::BinaryHeap, sync::atomic::Ordering::Relaxed, time::Instant};

use super::{Clients, ComeUp, Due};
use crate::limits;

/// The deadlines one shard looks after, soonest first.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<Due>>,
}

impl Deadlines {
    /// Adds a deadline got from [`Clients`].
    pub(crate) fn push(&mut self, due: Due) {
        self.heap.push(Reverse(due));
    }

    /// Takes over the deadlines of registrations that no shard made; no more than [`limits::DEADLINES_PER_TURN`].
    pub(crate) fn take_unassigned(&mut self, clients: &Clients) {
        for _ in 0..limits::DEADLINES_PER_TURN {
            let Some(due) = clients.unassigned.pop() else { break };
            self.push(due);
        }
    }

    /// Removes the registrations that are unclaimed and overdue at `now`; says how many. Looks at no more than
    /// [`limits::DEADLINES_PER_TURN`]: call again in the next turn while [`Self::is_due`] says so.
    pub(crate) fn expire(&mut self, now: Instant, clients: &Clients) -> usize {
        let now = clients.time(now);
        let mut expired = 0;
        for _ in 0..limits::DEADLINES_PER_TURN {
            match self.heap.peek() {
                Some(&Reverse(due)) if due.at <= now => {
                    self.heap.pop();
                    match clients.come_up(due, now) {
                        ComeUp::Again(later) => {
                            self.heap.push(Reverse(later));
                            continue;
                        }
                        ComeUp::Expired => expired += 1,
                        ComeUp::Forget => {}
                    }
                    clients.deadlines.fetch_sub(1, Relaxed);
                }
                _ => break,
            }
        }
        if self.heap.capacity() > 1_024 && self.heap.len() < self.heap.capacity() / 8 {
            self.heap.shrink_to(self.heap.capacity() / 4);
        }
        expired
    }

    /// How many entries there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there is none.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Whether [`Self::expire`] has something to do at `now`.
    pub(crate) fn is_due(&self, now: Instant, clients: &Clients) -> bool {
        self.heap.peek().is_some_and(|&Reverse(due)| due.at <= clients.time(now))
    }
}
