//! Publishing with more than one place asked for: to several topics, once for a key, with a receipt.

use std::sync::Arc;

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};

use super::{Node, PublishError};
use crate::{
    engine::{Ingress, Order, Outcome, Places, Receipt, TopicsFull},
    limits::PUBLISH_TOPICS_MAX,
    publication::{Content, IdempotencyKey, Position},
    topic::Topic,
};

/// What a publisher asks for besides having its message published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// What it calls the publication. Another with this key and the same first topic, within
    /// [`Settings::idempotency_ttl`](crate::settings::Settings::idempotency_ttl), is not published, but answered with what
    /// the first came to; as far as the node remembers so many.
    pub idempotency_key: Option<IdempotencyKey>,
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

/// Where a publication stands in a topic, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stands {
    /// Its place.
    pub position: Position,
    /// What became of it, if that was asked for.
    pub receipt: Option<Told>,
}

/// A receipt as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The sums over the shards that have said theirs.
    pub receipt: Receipt,
    /// Whether some have not, after [`Settings::receipt_wait`](crate::settings::Settings::receipt_wait).
    pub is_partial: bool,
}

impl Node {
    /// Publishes `content` to several `topics`, each given once, in their order, with what else is wished for. A
    /// subscriber of more than one of them gets the message once, as the copy of the first that it has.
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
    /// let wishes = Wishes { idempotency_key: IdempotencyKey::parse("7f3a").ok(), receipt: true };
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
        let until = Instant::now() + self.settings.publish_wait;
        let placed = self.order(topics.into(), content.into(), wishes, until).await?.placed().await?;
        Ok(placed.published(Instant::now() + self.settings.receipt_wait).await)
    }

    /// The first half of [`Self::publish_to`]: waits for the credits of all topics, `until` at the latest, and hands the
    /// order to the first home.
    pub(crate) async fn order(
        &self,
        topics: Arc<[Topic]>,
        content: Content,
        wishes: Wishes,
        until: Instant,
    ) -> Result<Ordered, PublishError> {
        let most = PUBLISH_TOPICS_MAX.min(self.admission.publications_max());
        if topics.is_empty() || topics.len() > most {
            return Err(PublishError::TopicCount { max: most });
        }
        let credits = self.credits(topics.len() as u32, &content, until).await?;
        let home = topics[0].home(self.settings.shards);
        let Wishes { idempotency_key, receipt } = wishes;
        let (order, outcome) = Order::new(topics.clone(), content, idempotency_key, receipt, credits);
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
