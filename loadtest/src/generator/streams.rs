//! What is published to whom: the topics of a run, its streams, and which client is in which of them.
//!
//! A stream is a series of messages with numbers of its own, published over one connection to one topic or to one
//! user within it. Each publisher has streams to itself, so that the order of a stream is known exactly whatever
//! the order in which a server hears several publishers.

use std::collections::HashMap;

use super::place::STREAMS_MAX;
use crate::error::{Error, Result};

/// One series of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) topic: u32,
    /// Only clients of this user are in it; `None` is everybody on the topic.
    pub(crate) user: Option<u64>,
    /// The one connection it is published over.
    pub(crate) publisher: usize,
}

/// How a publisher goes through its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// One after the other: neighbouring publications are never of one stream if there are two.
    InTurn,
    #[cfg_attr(not(test), expect(dead_code, reason = "no scenario draws lots yet"))]
    /// By lot, each topic as often as its weight says.
    Drawn,
}

/// Who is on which topics.
#[derive(Debug, Clone)]
enum Membership {
    Everybody,
    #[expect(dead_code, reason = "no scenario has more than one topic yet")]
    /// For each client the topics it is on, in ascending order.
    Listed(Vec<Vec<u32>>),
}

/// Topics, streams, and who is in them. The same for all threads of a run.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    topics: Vec<String>,
    streams: Vec<Stream>,
    order: Order,
    /// How often each topic is published to, relative to the others.
    weights: Vec<f64>,
    membership: Membership,
    /// Clients of one user; consecutive clients belong to one.
    clients_per_user: usize,
    /// Streams by topic and user.
    index: HashMap<(u32, Option<u64>), Vec<u32>>,
}

impl Streams {
    /// Everybody on `topic`, and `publishers` streams of it: one for each connection.
    pub(crate) fn one_topic(topic: String, publishers: usize) -> Self {
        let streams = (0..publishers.max(1)).map(|publisher| Stream { topic: 0, user: None, publisher });
        Self::of(vec![topic], streams.collect(), Membership::Everybody, 1)
    }

    fn of(
        topics: Vec<String>,
        streams: Vec<Stream>,
        membership: Membership,
        clients_per_user: usize,
    ) -> Self {
        let mut index: HashMap<_, Vec<u32>> = HashMap::new();
        for (name, stream) in streams.iter().enumerate() {
            index.entry((stream.topic, stream.user)).or_default().push(name as u32);
        }
        let weights = vec![1.0; topics.len()];
        Self { topics, streams, order: Order::InTurn, weights, membership, clients_per_user, index }
    }

    /// Refuses more streams than a message has digits for.
    pub(crate) fn check(&self) -> Result<()> {
        if self.streams.len() > STREAMS_MAX {
            let count = self.streams.len();
            return Err(Error::Usage(format!("{count} streams are too many: at most {STREAMS_MAX}")));
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// How often `stream` is published to, relative to the others of its publisher.
    pub(crate) fn weight(&self, stream: Stream) -> f64 {
        self.weights[stream.topic as usize]
    }

    /// The streams that `publisher` publishes.
    pub(crate) fn published_by(&self, publisher: usize) -> impl Iterator<Item = (u32, Stream)> + '_ {
        let streams = self.streams.iter().enumerate();
        streams
            .filter(move |(_, stream)| stream.publisher == publisher)
            .map(|(name, &stream)| (name as u32, stream))
    }

    /// The topic, and the user if it is for one, that `stream` is published to.
    pub(crate) fn addressee(&self, stream: Stream) -> (&str, Option<u64>) {
        (&self.topics[stream.topic as usize], stream.user)
    }

    /// The user that `client` registers as.
    pub(crate) fn user_of(&self, client: usize) -> u64 {
        (client / self.clients_per_user) as u64 + 1
    }

    /// The topics `client` registers for.
    pub(crate) fn topics_of(&self, client: usize) -> Vec<&str> {
        match &self.membership {
            Membership::Everybody => self.topics.iter().map(String::as_str).collect(),
            Membership::Listed(lists) => {
                lists[client].iter().map(|&topic| self.topics[topic as usize].as_str()).collect()
            }
        }
    }

    /// The streams `client` is in, in ascending order.
    pub(crate) fn streams_of(&self, client: usize) -> Vec<u32> {
        let user = self.user_of(client);
        let of_topic = |topic: u32| {
            let streams =
                [None, Some(user)].into_iter().filter_map(move |user| self.index.get(&(topic, user)));
            streams.flatten().copied()
        };
        let mut streams: Vec<u32> = match &self.membership {
            Membership::Everybody => (0..self.topics.len() as u32).flat_map(of_topic).collect(),
            Membership::Listed(lists) => lists[client].iter().flat_map(|&topic| of_topic(topic)).collect(),
        };
        streams.sort_unstable();
        streams
    }
}
