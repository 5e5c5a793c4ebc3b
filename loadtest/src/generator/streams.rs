//! What is published to whom: the topics of a run, its streams, and which client is in which of them.
//!
//! A stream is a series of messages with numbers of its own, published over one connection to one topic or to one
//! user within it. Each publisher has streams to itself, so that the order of a stream is known exactly whatever
//! the order in which a server hears several publishers.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::rotation::{Order, draw};
use crate::error::{Error, Result};
use crate::place::STREAMS_MAX;

/// One series of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) topic: u32,
    /// Only clients of this user are in it; `None` is everybody on the topic.
    pub(crate) user: Option<u64>,
    /// The one connection it is published over.
    pub(crate) publisher: usize,
}

/// How many topics there are, and how clients and publications spread over them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) topics: usize,
    /// Topics each client is on.
    pub(crate) per_client: usize,
    /// Topic number n has weight 1/n to this power, for clients and publications alike; 0 is all alike.
    pub(crate) zipf: f64,
    pub(crate) order: Order,
}

/// Who is on which topics.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Membership {
    Everybody,
    /// For each client the topics it is on, in ascending order.
    Listed(Vec<Vec<u32>>),
}

/// Topics, streams, and who is in them. The same for all threads of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Unindexed")]
pub(crate) struct Streams {
    topics: Vec<String>,
    streams: Vec<Stream>,
    order: Order,
    /// How often each topic is published to, relative to the others.
    weights: Vec<f64>,
    membership: Membership,
    /// Clients of one user; consecutive clients belong to one.
    clients_per_user: usize,
    /// Streams by topic and user; follows from the streams.
    #[serde(skip_serializing)]
    index: HashMap<(u32, Option<u64>), Vec<u32>>,
}

/// [`Streams`] as another process was told of them.
#[derive(Deserialize)]
struct Unindexed {
    topics: Vec<String>,
    streams: Vec<Stream>,
    order: Order,
    weights: Vec<f64>,
    membership: Membership,
    clients_per_user: usize,
}

impl From<Unindexed> for Streams {
    fn from(told: Unindexed) -> Self {
        let Unindexed { topics, streams, order, weights, membership, clients_per_user } = told;
        Self { order, weights, ..Self::of(topics, streams, membership, clients_per_user) }
    }
}

impl Streams {
    /// Everybody on `topic`, and `publishers` streams of it: one for each connection.
    pub(crate) fn one_topic(topic: String, publishers: usize) -> Self {
        let streams = (0..publishers.max(1)).map(|publisher| Stream { topic: 0, user: None, publisher });
        Self::of(vec![topic], streams.collect(), Membership::Everybody, 1)
    }

    /// Everybody on `topic`, and for each publisher `each` streams of it, which may be under way at once.
    pub(crate) fn side_by_side(topic: String, publishers: usize, each: usize) -> Self {
        let stream = |name: usize| Stream { topic: 0, user: None, publisher: name / each };
        Self::of(vec![topic], (0..publishers * each).map(stream).collect(), Membership::Everybody, 1)
    }

    /// As [`Self::one_topic`], but only `audience` of the `clients`, spread evenly, are on the topic; the others are on
    /// one that nothing is published to.
    pub(crate) fn one_topic_of_some(
        topic: String,
        clients: usize,
        audience: usize,
        publishers: usize,
    ) -> Self {
        let share = |client: usize| client * audience.min(clients) / clients;
        let topics = |client: usize| vec![u32::from(share(client) == share(client + 1))];
        let membership = Membership::Listed((0..clients).map(topics).collect());
        let streams = (0..publishers.max(1)).map(|publisher| Stream { topic: 0, user: None, publisher });
        let aside = format!("{topic}-aside");
        Self::of(vec![topic, aside], streams.collect(), membership, 1)
    }

    /// Topics named after `topic`. Each publisher has topics to itself, or, if there are more publishers than topics,
    /// a stream of its own on each.
    pub(crate) fn many_topics(topic: &str, clients: usize, spread: &Spread, publishers: usize) -> Self {
        let names: Vec<String> = (0..spread.topics).map(|number| format!("{topic}-{number}")).collect();
        let weights: Vec<f64> =
            (1..=spread.topics).map(|number| (number as f64).powf(-spread.zipf)).collect();
        let owners = |topic: usize| match publishers <= spread.topics {
            true => topic % publishers..topic % publishers + 1,
            false => 0..publishers,
        };
        let stream = |topic: usize, publisher| Stream { topic: topic as u32, user: None, publisher };
        let streams = (0..spread.topics)
            .flat_map(|topic| owners(topic).map(move |publisher| stream(topic, publisher)))
            .collect();
        let membership = match spread.per_client >= spread.topics {
            true => Membership::Everybody,
            false => Membership::Listed(choose(clients, spread, &weights)),
        };
        Self { order: spread.order, weights, ..Self::of(names, streams, membership, 1) }
    }

    /// Everybody on `topic`, every `per_user` clients of one user, and a stream for each user.
    pub(crate) fn users(topic: String, clients: usize, per_user: usize, publishers: usize) -> Self {
        let users = 0..clients.div_ceil(per_user);
        let streams =
            users.map(|user| Stream { topic: 0, user: Some(user as u64 + 1), publisher: user % publishers });
        Self::of(vec![topic], streams.collect(), Membership::Everybody, per_user)
    }

    /// How many of `clients` a publication is for, on average.
    pub(crate) fn mean_audience(&self, clients: usize) -> f64 {
        let mut audience = vec![0u32; self.streams.len()];
        (0..clients).flat_map(|client| self.streams_of(client)).for_each(|name| audience[name as usize] += 1);
        let weight = |stream: &Stream| match self.order {
            Order::InTurn => 1.0,
            Order::Drawn => self.weight(*stream),
        };
        let total: f64 = self.streams.iter().map(weight).sum();
        let sum: f64 =
            self.streams.iter().zip(&audience).map(|(stream, &size)| weight(stream) * f64::from(size)).sum();
        sum / total
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

/// The topics of each client: `per_client` different ones, dealt out evenly if all weigh alike, else drawn by weight.
/// The lots are the same in every run.
fn choose(clients: usize, spread: &Spread, weights: &[f64]) -> Vec<Vec<u32>> {
    let mut state = 0x5EED_0F70_91C5;
    let mut list = |client: usize| {
        let mut topics: Vec<u32> = if spread.zipf == 0.0 {
            let first = client * spread.per_client;
            (first..first + spread.per_client).map(|number| (number % spread.topics) as u32).collect()
        } else {
            // The largest of u^(1/weight) are a weighted sample without replacement (Efraimidis and Spirakis 2006);
            // compared by their logarithms.
            let key = |weight: &f64| draw(&mut state).max(f64::MIN_POSITIVE).ln() / weight;
            let mut keys: Vec<(f64, u32)> = weights.iter().map(key).zip(0..).collect();
            keys.sort_by(|a, b| b.0.total_cmp(&a.0));
            keys[..spread.per_client].iter().map(|&(_, topic)| topic).collect()
        };
        topics.sort_unstable();
        topics
    };
    (0..clients).map(&mut list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVEN: Spread = Spread { topics: 10, per_client: 3, zipf: 0.0, order: Order::InTurn };

    #[test]
    fn topics_are_dealt_out_evenly() {
        let streams = Streams::many_topics("t", 100, &EVEN, 1);
        let mut sizes = [0; 10];
        for client in 0..100 {
            let own = streams.streams_of(client);
            assert_eq!(own.len(), 3);
            assert!(own.is_sorted_by(|a, b| a < b), "{own:?}");
            assert_eq!(streams.topics_of(client).len(), 3);
            own.iter().for_each(|&name| sizes[name as usize] += 1);
        }
        assert_eq!(sizes, [30; 10]);
        assert!((streams.mean_audience(100) - 30.0).abs() < 1e-9);
    }

    #[test]
    fn popular_topics_have_more_clients_and_publications() {
        let spread = Spread { zipf: 1.0, order: Order::Drawn, ..EVEN };
        let streams = Streams::many_topics("t", 1_000, &spread, 1);
        let of = |name: u32| (0..1_000).filter(|&client| streams.streams_of(client).contains(&name)).count();
        assert!(of(0) > 2 * of(9), "{} and {}", of(0), of(9));
        assert!(streams.mean_audience(1_000) > 300.0);
    }

    #[test]
    fn every_stream_has_one_publisher() {
        for (publishers, count) in [(1, 10), (3, 10), (25, 250)] {
            let streams = Streams::many_topics("t", 10, &EVEN, publishers);
            assert_eq!(streams.len(), count);
            let published: usize = (0..publishers).map(|number| streams.published_by(number).count()).sum();
            assert_eq!(published, count);
            assert!((0..publishers).all(|number| streams.published_by(number).count() > 0));
        }
    }

    #[test]
    fn a_users_stream_is_for_its_clients_only() {
        let streams = Streams::users("t".to_owned(), 8, 3, 2);
        assert_eq!(streams.len(), 3);
        let own: Vec<Vec<u32>> = (0..8).map(|client| streams.streams_of(client)).collect();
        assert_eq!(own, [0, 0, 0, 1, 1, 1, 2, 2].map(|name| vec![name]));
        let (_, stream) = streams.published_by(1).next().expect("the second user's");
        assert_eq!(streams.addressee(stream), ("t", Some(2)));
        assert_eq!(streams.user_of(5), 2);
    }

    #[test]
    fn another_process_learns_who_is_in_which_stream() {
        let several = Streams::many_topics("t", 20, &EVEN, 3);
        for streams in [several, Streams::users("u".to_owned(), 20, 3, 2)] {
            let text = serde_json::to_string(&streams).expect("plain data");
            let told: Streams = serde_json::from_str(&text).expect("what was just written");
            for client in 0..20 {
                assert_eq!(told.streams_of(client), streams.streams_of(client));
                assert_eq!(told.topics_of(client), streams.topics_of(client));
                assert_eq!(told.user_of(client), streams.user_of(client));
            }
        }
    }

    #[test]
    fn some_are_on_the_one_topic_and_the_others_aside() {
        let streams = Streams::one_topic_of_some("t".to_owned(), 10, 3, 1);
        let on = (0..10).filter(|&client| streams.streams_of(client) == [0]).count();
        assert_eq!(on, 3);
        assert!((0..10).all(|client| streams.topics_of(client).len() == 1));
    }
}
