//! A publication from the publish object to the answer: handed to the engine, then placed, then told.
//!
//! The ordinary one, to one topic and with nothing else asked for, goes the short way.

use tokio::time::Instant;

use super::answer::Refusal;
use crate::{
    connection::Local,
    node::{Ordered, Placed, PublishError, Published, Submitted, Told, Wishes},
    protocol::{
        error::push_error_field,
        json::{push_str, push_u64},
        publish_answer,
        publish_body::PublishBody,
    },
    publication::Position,
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
    /// Hands a publication to the engine, and waits for credits, `until` at the latest. The order of these calls is the
    /// order of the publications in each topic; except that one to several topics must have its places first.
    ///
    /// # Errors
    /// When it was not taken; nothing of it was.
    pub(super) async fn begin(
        local: &Local,
        publication: PublishBody,
        until: Instant,
    ) -> Result<Self, PublishError> {
        let PublishBody { mut topics, is_list, content, idempotency_key, receipt } = publication;
        let way = if topics.len() == 1 && idempotency_key.is_none() && !receipt {
            let topic = topics.pop().expect("it is one");
            Way::Short(topic.clone(), local.submit(topic, content, until).await?)
        } else {
            let wishes = Wishes { idempotency_key, receipt };
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
                publish_answer::position(&mut json, &topic, position);
                return json;
            }
            Places::One(topic, position) => {
                let stands = crate::node::Stands { position, receipt: None };
                vec![Published { topic, outcome: Ok(stands) }]
            }
            Places::Order(placed) => placed.published(until).await,
        };
        match &published[..] {
            [only] if !self.is_list => push_published(&mut json, only),
            all => {
                json.extend_from_slice(br#"{"results":["#);
                for (nth, one) in all.iter().enumerate() {
                    if nth > 0 {
                        json.push(b',');
                    }
                    push_published(&mut json, one);
                }
                json.extend_from_slice(b"]}");
            }
        }
        json
    }
}

fn push_published(json: &mut Vec<u8>, published: &Published) {
    match &published.outcome {
        Ok(stands) => {
            publish_answer::position(json, &published.topic, stands.position);
            if let Some(told) = &stands.receipt {
                json.pop();
                push_receipt(json, told);
                json.push(b'}');
            }
        }
        Err(full) => {
            let refusal = Refusal::from(PublishError::from(*full));
            json.extend_from_slice(br#"{"topic":"#);
            push_str(json, published.topic.as_str().as_bytes());
            json.push(b',');
            push_error_field(json, refusal.code, &refusal.message, None);
            json.push(b'}');
        }
    }
}

fn push_receipt(json: &mut Vec<u8>, told: &Told) {
    let receipt = &told.receipt;
    for (name, count) in [
        (&br#","matched":"#[..], receipt.matched),
        (br#","written":"#, receipt.written),
        (br#","queued":"#, receipt.queued),
        (br#","dropped":"#, receipt.dropped),
        (br#","conflated":"#, receipt.conflated),
    ] {
        json.extend_from_slice(name);
        push_u64(json, count);
    }
    if told.is_partial {
        json.extend_from_slice(br#","partial":true"#);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{Receipt, TopicsFull},
        node::Stands,
        publication::Epoch,
    };

    #[test]
    fn receipt_and_refusal_stand_beside_their_topic() {
        let position = Position { epoch: Epoch { node: 10, incarnation: 3 }, offset: 7 };
        let receipt = Receipt { matched: 15, written: 1, queued: 2, dropped: 4, conflated: 8 };
        let topic = Topic::parse("a\"b").unwrap();
        let told = |is_partial| {
            let stands = Stands { position, receipt: Some(Told { receipt, is_partial }) };
            let mut json = Vec::new();
            push_published(&mut json, &Published { topic: topic.clone(), outcome: Ok(stands) });
            String::from_utf8(json).unwrap()
        };
        let json = concat!(
            r#"{"topic":"a\"b","offset":7,"epoch":"000000000000000a-3","#,
            r#""matched":15,"written":1,"queued":2,"dropped":4,"conflated":8"#
        );
        assert_eq!(told(false), format!("{json}}}"));
        assert_eq!(told(true), format!(r#"{json},"partial":true}}"#));
        let mut json = Vec::new();
        push_published(&mut json, &Published { topic, outcome: Err(TopicsFull) });
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!((&json["topic"], &json["error"]["code"]), (&"a\"b".into(), &"full".into()));
    }
}
