//! Publishing with more than one place asked for: to several topics, once for a key, with a receipt.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};

use super::{Node, PublishError};
use crate::{
    engine::{Ingress, Order, Outcome, Places, TopicsFull},
    limits::PUBLISH_TOPICS_MAX,
    protocol::{
        error::Code,
        publish_answer::{TopicFailure, TopicResult},
    },
    publication::{Content, IdempotencyKey, Publisher, Receipt, ScopedKey, Stands, Told},
    topic::Topic,
};

/// What a publisher asks for besides having its message published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// What it calls the publication. Another of the same publisher with this key and the same first topic, within
    /// [`Settings::idempotency_ttl`](crate::settings::Settings::idempotency_ttl), is not published, but answered with what
    /// the first came to; as far as the node remembers so many.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Who it is; asked only of one with an idempotency key. The program itself, unless it publishes on behalf of somebody.
    pub publisher: Publisher,
    /// Whether to tell what became of it, which takes until it was offered to every subscriber.
    pub receipt: bool,
}

/// What a publication came to in one of its topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The topic.
    pub topic: Topic,
    /// Where it stands there; or it does not, because the topic is new and the node can keep no further one.
    pub outcome: Result<Stands, TopicsFull>,
}

impl Published {
    /// As its publisher is told.
    pub(crate) fn result(&self) -> TopicResult<'_> {
        let full = |TopicsFull| TopicFailure {
            code: Code::Full,
            message: "the node keeps as many topics as it may",
        };
        TopicResult { topic: &self.topic, outcome: self.outcome.map_err(full) }
    }
}

impl Node {
    /// Publishes `content` to several `topics`, in their order, with what else is wished for. A subscriber of more than one
    /// of them gets the message once, as the copy of the first that it has. A topic that is given again counts once, at its
    /// first place, and is told of once, as in `POST /publish`.
    ///
    /// The topics stand for themselves: if one of them takes it, this is no error, and those that do not say so. Must be
    /// called in a tokio runtime with its time enabled.
    ///
    /// ```
    /// use fanfare::{
    ///     node::Wishes,
    ///     publication::{IdempotencyKey, Message},
    ///     server::Server,
    ///     settings::Settings,
    ///     topic::Topic,
    /// };
    ///
    /// let server = Server::start("127.0.0.1:0".parse()?, Settings::default())?;
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// let topics = ["cats", "pets"].map(|topic| Topic::parse(topic).unwrap());
    /// let wishes = Wishes { idempotency_key: IdempotencyKey::parse("7f3a").ok(), receipt: true, ..Wishes::default() };
    /// let publish = || server.node().publish_to(topics.clone(), Message::text("purr"), wishes.clone());
    ///
    /// let published = runtime.block_on(publish()).unwrap();
    /// let cats = published[0].outcome.unwrap();
    /// assert_eq!((published.len(), cats.position.offset), (2, 1));
    /// assert_eq!(cats.receipt.map(|told| told.receipt.matched), Some(0), "nobody is there");
    /// // Sent again, it is answered again and published no second time.
    /// assert_eq!(runtime.block_on(publish()).unwrap(), published);
    /// server.stop();
    /// server.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When it was taken in no topic; or, with [`PublishError::Conflict`], when another has its key.
    ///
    /// # Cancel safety
    /// As [`Self::publish`]: dropped later than while it waits for credits, the publication goes on, in every topic.
    pub async fn publish_to(
        &self,
        topics: impl Into<Arc<[Topic]>>,
        content: impl Into<Content>,
        wishes: Wishes,
    ) -> Result<Vec<Published>, PublishError> {
        let until = Instant::now() + self.settings().publish_wait;
        let placed =
            self.order(self.each_once(topics.into())?, content.into(), wishes, until).await?.placed().await?;
        Ok(placed.published(Instant::now() + self.settings().receipt_wait).await)
    }

    /// The topics without those that stand there before. No more is kept than may be.
    fn each_once(&self, topics: Arc<[Topic]>) -> Result<Arc<[Topic]>, PublishError> {
        let max = self.publish_topics_max();
        let mut once: SmallVec<[&Topic; PUBLISH_TOPICS_MAX]> = SmallVec::new();
        for topic in topics.iter() {
            if once.contains(&topic) {
                continue;
            }
            if once.len() == max {
                return Err(PublishError::TopicCount { max });
            }
            once.push(topic);
        }
        let once: Option<Arc<[Topic]>> =
            (once.len() < topics.len()).then(|| once.into_iter().cloned().collect());
        Ok(once.unwrap_or(topics))
    }

    fn publish_topics_max(&self) -> usize {
        PUBLISH_TOPICS_MAX.min(self.admission.publications_max())
    }

    /// The first half of [`Self::publish_to`]: waits for the credits of all topics, `until` at the latest, and hands the
    /// order to the first home. Each topic is given once.
    pub(crate) async fn order(
        &self,
        topics: Arc<[Topic]>,
        content: Content,
        wishes: Wishes,
        until: Instant,
    ) -> Result<Ordered, PublishError> {
        let max = self.publish_topics_max();
        if topics.is_empty() || topics.len() > max {
            return Err(PublishError::TopicCount { max });
        }
        let credits = self.credits(topics.len() as u32, &content, until).await?;
        let home = topics[0].home(self.settings().shards);
        let Wishes { idempotency_key, publisher, receipt } = wishes;
        let key = idempotency_key.map(|key| ScopedKey { publisher, key });
        let (order, outcome) = Order::new(topics.clone(), content, key, receipt, credits);
        self.mailboxes().to_home(home, Ingress::Order(Box::new(order)));
        Ok(Ordered { home, topics, outcome })
    }
}

/// An order that is at the home of its first topic, or on its way there.
pub(crate) struct Ordered {
    /// That home.
    pub(crate) home: usize,
    topics: Arc<[Topic]>,
    outcome: oneshot::Receiver<Outcome>,
}

impl Ordered {
    /// Waits for its places.
    pub(crate) async fn placed(self) -> Result<Placed, PublishError> {
        let places = match self.outcome.await {
            Ok(Outcome::Placed(places)) => Some(places),
            Ok(Outcome::Underway(mut underway)) => {
                underway.wait_for(Option::is_some).await.ok().and_then(|places| places.clone())
            }
            Ok(Outcome::Conflict) => return Err(PublishError::Conflict),
            Err(_) => None,
        };
        let places = places.ok_or(PublishError::Stopping)?;
        match places.iter().all(Result::is_err) {
            true => Err(PublishError::TopicsFull),
            false => Ok(Placed { topics: self.topics, places }),
        }
    }
}

/// An order that has its places.
pub(crate) struct Placed {
    topics: Arc<[Topic]>,
    places: Places,
}

impl Placed {
    /// Waits for receipts where they were asked for, `until` at the latest.
    pub(crate) async fn published(self, until: Instant) -> Vec<Published> {
        let mut published = Vec::with_capacity(self.topics.len());
        for (topic, place) in self.topics.iter().zip(&*self.places) {
            let outcome = match place {
                Err(TopicsFull) => Err(TopicsFull),
                Ok(place) => {
                    let receipt = match &place.receipt {
                        Some(sums) => Some(told(sums.clone(), until).await),
                        None => None,
                    };
                    Ok(Stands { position: place.position, receipt })
                }
            };
            published.push(Published { topic: topic.clone(), outcome });
        }
        published
    }
}

/// Waits until every shard has said its part of a receipt.
async fn told(mut sums: watch::Receiver<Receipt>, until: Instant) -> Told {
    let is_partial = loop {
        match timeout_at(until, sums.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => break false,
            Err(_) => break true,
        }
    };
    let receipt = *sums.borrow();
    Told { receipt, is_partial }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, io::IoSlice, pin::pin, task::Context, time::Duration};

    use super::*;
    use crate::{
        engine::{Encoding, Key, Offered, Shard, Transport},
        publication::Message,
        settings::Settings,
    };

    struct TakesAll;

    impl Transport for TakesAll {
        fn offer(&mut self, _: Key, slices: &[IoSlice<'_>]) -> Offered {
            Offered::Wrote { bytes: slices.iter().map(|slice| slice.len()).sum(), unflushed: false }
        }
    }

    /// A node of two shards, with one subscriber of a topic on the first and two on the second.
    fn node(settings: Settings) -> (Arc<Node>, Vec<Shard>, Topic) {
        let node = Node::new(Settings { shards: 2, ..settings });
        let topic = Topic::parse("cats").expect("a topic");
        let mut shards: Vec<_> = (0..2).map(|n| Shard::new(n, node.fabric().clone())).collect();
        for (shard, subscribers) in shards.iter_mut().zip([1, 2]) {
            for _ in 0..subscribers {
                let key = shard.add(None, None, Encoding::Plain);
                shard.attached(key);
                shard.set_topics(key, [topic.clone()]);
            }
        }
        sequence(&mut shards);
        shards.iter_mut().for_each(pass);
        (node, shards, topic)
    }

    fn sequence(shards: &mut [Shard]) {
        for shard in shards {
            shard.sequence(usize::MAX);
        }
    }

    /// Has a shard take what there is, and finish its pass.
    fn pass(shard: &mut Shard) {
        while shard.take(usize::MAX) + shard.flush(&mut TakesAll, usize::MAX) > 0 {}
    }

    fn written(count: u64) -> Receipt {
        Receipt { matched: count, written: count, ..Receipt::default() }
    }

    #[tokio::test]
    async fn receipt_is_partial_exactly_as_long_as_a_shard_has_not_finished_its_pass() {
        let (node, mut shards, topic) = node(Settings::default());
        let wishes = Wishes { receipt: true, ..Wishes::default() };
        let now = Instant::now();
        let ordered = node.order([topic].into(), Message::text("purr").into(), wishes, now);
        let ordered = ordered.await.expect("there are credits");
        sequence(&mut shards);
        let placed = ordered.placed().await.expect("there is room");
        let sums =
            placed.places[0].as_ref().expect("there is room").receipt.clone().expect("it was asked for");

        let late = told(sums.clone(), now).await;
        assert_eq!(late, Told { receipt: written(0), is_partial: true }, "neither has begun");
        pass(&mut shards[0]);
        let late = told(sums.clone(), now).await;
        assert_eq!(late, Told { receipt: written(1), is_partial: true }, "one has finished");

        let mut whole = pin!(told(sums.clone(), now + Duration::from_secs(3_600)));
        let mut context = Context::from_waker(std::task::Waker::noop());
        shards[1].take(usize::MAX);
        assert!(
            whole.as_mut().poll(&mut context).is_pending(),
            "the other has marked it, and flushed nothing"
        );
        pass(&mut shards[1]);
        assert_eq!(whole.await, Told { receipt: written(3), is_partial: false });
        let late = told(sums, now).await;
        assert_eq!(late, Told { receipt: written(3), is_partial: false }, "late, and complete all the same");
    }

    #[tokio::test]
    async fn topic_given_twice_is_published_to_once() {
        let (node, mut shards, topic) = node(Settings::default());
        let other = Topic::parse("dogs").expect("a topic");
        let wishes = Wishes { receipt: true, ..Wishes::default() };
        let topics = [&topic, &other, &topic, &other, &topic].map(Topic::clone);
        let mut publish = pin!(node.publish_to(topics, Message::text("purr"), wishes));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(publish.as_mut().poll(&mut context).is_pending());
        // From the home of the one topic to that of the other.
        (0..2).for_each(|_| sequence(&mut shards));
        shards.iter_mut().for_each(pass);
        let published = publish.await.expect("it was taken");
        let told: Vec<_> = published
            .iter()
            .map(|published| {
                let stands = published.outcome.expect("there is room");
                let receipt = stands.receipt.expect("it was asked for").receipt;
                (&published.topic, stands.position.offset, receipt)
            })
            .collect();
        assert_eq!(told, [(&topic, 1, written(3)), (&other, 1, written(0))]);
    }

    #[tokio::test]
    async fn topics_are_bounded_as_they_are_counted_once() {
        let (node, ..) = node(Settings::default());
        let topics = |count: usize| -> Vec<Topic> {
            (0..count).map(|n| Topic::parse(&format!("t{n}")).expect("a topic")).collect()
        };
        let publish = |topics: Vec<Topic>| node.publish_to(topics, Message::text("purr"), Wishes::default());
        let refused = Err(PublishError::TopicCount { max: PUBLISH_TOPICS_MAX });
        assert_eq!(publish(Vec::new()).await, refused);
        assert_eq!(publish(topics(PUBLISH_TOPICS_MAX + 1)).await, refused);
        assert_eq!(node.inflight(), 0, "nothing of them was taken");
        let repeated: Vec<Topic> = (0..1_000).flat_map(|_| topics(PUBLISH_TOPICS_MAX)).collect();
        let mut publish = pin!(publish(repeated));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(publish.as_mut().poll(&mut context).is_pending());
        assert_eq!(node.inflight(), PUBLISH_TOPICS_MAX, "it is on its way");
    }

    #[tokio::test]
    async fn publisher_waits_for_its_receipt_as_long_as_the_settings_say() {
        for (receipt_wait, is_partial) in [(Duration::ZERO, true), (Duration::from_secs(3_600), false)] {
            let (node, mut shards, topic) = node(Settings { receipt_wait, ..Settings::default() });
            let wishes = Wishes { receipt: true, ..Wishes::default() };
            let mut publish = pin!(node.publish_to([topic], Message::text("purr"), wishes));
            let mut context = Context::from_waker(std::task::Waker::noop());
            assert!(publish.as_mut().poll(&mut context).is_pending());
            sequence(&mut shards);
            pass(&mut shards[0]);
            if !is_partial {
                assert!(publish.as_mut().poll(&mut context).is_pending(), "a shard is missing");
                pass(&mut shards[1]);
            }
            let published = publish.await.expect("it was taken");
            let receipt = published[0].outcome.expect("there is room").receipt;
            let expected = written(if is_partial { 1 } else { 3 });
            assert_eq!(receipt, Some(Told { receipt: expected, is_partial }));
        }
    }
}
