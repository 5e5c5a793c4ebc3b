//! Answering what operators ask a shard: in steps, between which the shard's own work goes on.
//!
//! One task of the shard's thread, which sleeps unless something is asked. It never looks at more than
//! [`SURVEYED_AT_ONCE`] places without letting the driver have its turn, and stops when nobody waits for the answer.

use tokio::{sync::mpsc, task::yield_now};

use super::local::Local;
use crate::{
    engine::{ClientRank, Key, TopicRank},
    limits::SURVEYED_AT_ONCE,
    node::{ConnectionName, SlowClient, Survey},
    topic::Topic,
};

/// Answers questions until the node has gone.
pub(super) async fn answer_all(local: Local, mut questions: mpsc::Receiver<Survey>) {
    while let Some(question) = questions.recv().await {
        match question {
            Survey::Topics { by, most, reply } => {
                let topics = first_topics(&local, by, most, || reply.is_closed()).await;
                let _gone = reply.send(topics);
            }
            Survey::TopicFigures { topics, reply } => {
                let mut figures = Vec::with_capacity(topics.len());
                for some in topics.chunks(SURVEYED_AT_ONCE) {
                    {
                        let shard = &local.state().shard;
                        figures.extend(some.iter().map(|topic| shard.topic_figures(topic)));
                    }
                    yield_now().await;
                }
                let _gone = reply.send(figures);
            }
            Survey::Clients { by, most, reply } => {
                let clients = slowest_clients(&local, by, most, || reply.is_closed()).await;
                let _gone = reply.send(clients);
            }
            Survey::ClientId { key, reply } => {
                let id = local.state().shard.client_id(key).flatten();
                let _gone = reply.send(id);
            }
        }
    }
}

async fn first_topics(
    local: &Local,
    by: TopicRank,
    most: usize,
    is_given_up: impl Fn() -> bool,
) -> Vec<Topic> {
    let (mut first, mut from) = (First::new(most), Some(0));
    while let Some(next) = from.filter(|_| !is_given_up()) {
        let visit = |topic: &Topic, rank| first.offer(rank, || topic.clone());
        from = local.state().shard.walk_topics(by, (next, SURVEYED_AT_ONCE), visit);
        yield_now().await;
    }
    first.into_sorted().into_iter().map(|(_, topic)| topic).collect()
}

async fn slowest_clients(
    local: &Local,
    by: ClientRank,
    most: usize,
    is_given_up: impl Fn() -> bool,
) -> Vec<SlowClient> {
    let (mut first, mut from) = (First::new(most), Some(0));
    while let Some(next) = from.filter(|_| !is_given_up()) {
        let visit = |key: Key, rank| first.offer(rank, || key);
        from = local.state().shard.walk_queues(by, (next, SURVEYED_AT_ONCE), visit);
        yield_now().await;
    }
    let state = &mut *local.state();
    let figures = |(rank, key)| {
        // It may have gone since.
        let figures = state.shard.client_figures(key)?;
        let peer = state.sockets.get_mut(key).and_then(|socket| socket.peer());
        Some(SlowClient { rank, name: ConnectionName(local.claim_of(key)), figures, peer })
    };
    first.into_sorted().into_iter().filter_map(figures).collect()
}

/// The first by rank of all that are offered.
struct First<T> {
    most: usize,
    /// Up to twice as many as are wanted.
    found: Vec<(u64, T)>,
    /// Only above this rank one can be among the first.
    floor: Option<u64>,
}

impl<T> First<T> {
    fn new(most: usize) -> Self {
        Self { most, found: Vec::new(), floor: None }
    }

    fn offer(&mut self, rank: u64, make: impl FnOnce() -> T) {
        if rank == 0 || self.floor.is_some_and(|floor| rank <= floor) {
            return;
        }
        self.found.push((rank, make()));
        if self.found.len() >= 2 * self.most {
            self.sort();
            self.floor = self.found.last().map(|(rank, _)| *rank);
        }
    }

    fn sort(&mut self) {
        self.found.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        self.found.truncate(self.most);
    }

    fn into_sorted(mut self) -> Vec<(u64, T)> {
        self.sort();
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_by_rank_are_found_whatever_the_order_and_nothing_is_none() {
        let mut first = First::new(3);
        for n in [5, 0, 9, 1, 7, 3, 8, 2, 6, 4, 0] {
            first.offer(n, || n);
        }
        assert_eq!(first.into_sorted(), [(9, 9), (8, 8), (7, 7)]);
        let mut few = First::new(3);
        few.offer(0, || 0);
        few.offer(2, || 2);
        assert_eq!(few.into_sorted(), [(2, 2)]);
    }
}
