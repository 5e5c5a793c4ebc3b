//! A publication from the publish object to the answer: handed to the engine, then placed, then told.
//!
//! The ordinary one, to one topic and with nothing else asked for, goes the short way.

use tokio::time::Instant;

use crate::{
    connection::Local,
    http::credentials::Caller,
    node::{Ordered, Placed, PublishError, Published, Submitted, Wishes},
    protocol::{
        publish_answer::{self, TopicResult},
        publish_body::PublishBody,
    },
    publication::{Position, Stands},
    topic::Topic,
};

/// A publication in the engine.
pub(super) struct Underway {
    way: Way,
    /// Whether its topics came as a list, and are answered as one.
    is_list: bool,
}

enum Way {
    Short(Topic, Submitted),
    Order(Ordered),
}

/// A publication that has its places.
pub(super) struct Standing {
    places: Places,
    is_list: bool,
}

enum Places {
    One(Topic, Position),
    Order(Placed),
}

impl Underway {
    /// Hands a publication of `caller` to the engine, and waits for credits, `until` at the latest. The order of these calls is the
    /// order of the publications in each topic; except that one to several topics must have its places first.
    ///
    /// # Errors
    /// When it was not taken; nothing of it was.
    pub(super) async fn begin(
        local: &Local,
        caller: &Caller,
        publication: PublishBody,
        until: Instant,
    ) -> Result<Self, PublishError> {
        let PublishBody { mut topics, is_list, content, idempotency_key, receipt } = publication;
        let way = if topics.len() == 1 && idempotency_key.is_none() && !receipt {
            let topic = topics.pop().expect("it is one");
            Way::Short(topic.clone(), local.submit(topic, content, until).await?)
        } else {
            let publisher = idempotency_key.as_ref().map(|_| caller.publisher()).unwrap_or_default();
            let wishes = Wishes { idempotency_key, publisher, receipt };
            Way::Order(local.order(topics.into_iter().collect(), content, wishes, until).await?)
        };
        Ok(Self { way, is_list })
    }

    /// Waits for its places.
    ///
    /// # Errors
    /// When no topic took it.
    pub(super) async fn placed(self) -> Result<Standing, PublishError> {
        let places = match self.way {
            Way::Short(topic, submitted) => Places::One(topic, submitted.position().await?),
            Way::Order(ordered) => Places::Order(ordered.placed().await?),
        };
        Ok(Standing { places, is_list: self.is_list })
    }
}

impl Standing {
    /// What its publisher is told; it waits for receipts where they were asked for, `until` at the latest.
    pub(super) async fn json(self, until: Instant) -> Vec<u8> {
        let mut json = Vec::with_capacity(128);
        let published = match self.places {
            Places::One(topic, position) if !self.is_list => {
                publish_answer::stands(&mut json, &topic, &Stands { position, receipt: None });
                return json;
            }
            Places::One(topic, position) => {
                vec![Published { topic, outcome: Ok(Stands { position, receipt: None }) }]
            }
            Places::Order(placed) => placed.published(until).await,
        };
        let results: Vec<TopicResult<'_>> = published.iter().map(Published::result).collect();
        match &results[..] {
            // That it stands nowhere was an error before it had its places.
            [TopicResult { topic, outcome: Ok(stands) }] if !self.is_list => {
                publish_answer::stands(&mut json, topic, stands);
            }
            results => {
                json.extend_from_slice(br#"{"results":"#);
                publish_answer::results(&mut json, results);
                json.push(b'}');
            }
        }
        json
    }
}
