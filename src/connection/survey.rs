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
    use tokio::{sync::oneshot, task::LocalSet};

    use super::*;
    use crate::{engine::Encoding, node::Node, settings::Settings, websocket::frame};

    #[test]
    fn table_is_walked_in_steps_between_which_others_of_the_thread_have_their_turns() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, async {
            let node = Node::new(Settings { shards: 1, ..Settings::default() });
            let local = Local::new(node.clone(), 0).expect("a descriptor");
            let clients = 20 * SURVEYED_AT_ONCE;
            for n in 0..clients {
                let shard = &mut local.state().shard;
                let key = shard.add(None, None, Encoding::Plain);
                shard.answer(key, frame::text(&vec![b'x'; 1 + n % 999]));
            }
            let questions = node.take_surveys(0);
            let answering = tokio::task::spawn_local(answer_all(local.clone(), questions));
            let credit = node.survey_credit().expect("there is room");
            let ask = |reply: oneshot::Sender<_>| Survey::Clients { by: ClientRank::Queued, most: 3, reply };
            let mut answer = node.ask_shard(&credit, 0, ask).expect("it takes questions");
            let mut turns = 0;
            let slowest = loop {
                match answer.try_recv() {
                    Ok(slowest) => break slowest,
                    Err(_) => turns += 1,
                }
                // As long as somebody else is at work the state is free.
                assert_eq!(local.state().shard.subscribers(), clients);
                yield_now().await;
            };
            assert!(turns >= clients / SURVEYED_AT_ONCE, "{turns} turns of others");
            assert!(slowest.iter().all(|client| client.figures.queued_bytes == 999 + 4), "{slowest:?}");
            assert_eq!(slowest.len(), 3);
            answering.abort();
        });
    }

    #[test]
    fn survey_that_nobody_waits_for_ends() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, async {
            let node = Node::new(Settings { shards: 1, ..Settings::default() });
            let local = Local::new(node, 0).expect("a descriptor");
            let asked = std::cell::Cell::new(0);
            let is_given_up = || {
                asked.set(asked.get() + 1);
                asked.get() > 1
            };
            for _ in 0..3 * SURVEYED_AT_ONCE {
                local.state().shard.add(None, None, Encoding::Plain);
            }
            assert!(slowest_clients(&local, ClientRank::Age, 3, is_given_up).await.is_empty());
            assert_eq!(asked.get(), 2, "two steps were left");
        });
    }

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
