//! `POST /batch`: many publications in one request, as a JSON array or as a stream of lines.
//!
//! Each is a publish object of its own, with a result of its own: one that is wrong is one error, and the others go on.
//! Several are under way at once, and results come in the order of the publications. In each topic publications stand in
//! that order too; across topics only if the request asks for it, for then each waits for the one before. A batch takes
//! one of the shard's places for requests in work only while it hands a publication to the engine, never while it waits
//! for its client.

use std::rc::Rc;

use bytes::Bytes;
use hyper::{Request, body::Incoming, header::EXPECT};
use serde::{
    Deserialize,
    de::{Deserializer, Error, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use self::queue::Queue;
use super::{
    answer::{Answer, Refusal, json, lines},
    body::{self, Bounds},
    connections::Connections,
    content_type::ContentType,
    credentials::Caller,
    lines::Lines,
    percent,
    results::results,
};
use crate::{connection::Local, limits::BATCH_ITEMS_MAX};

mod queue;
mod stream;

/// Publishes all that is in the body.
pub(super) async fn batch(
    local: &Local,
    connections: &Rc<Connections>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let caller = {
        let settings = local.node().settings();
        let caller = Caller::of(&settings, request.headers())?;
        caller.enter_to_publish(&settings)?;
        caller
    };
    let is_ordered = is_ordered(request.uri().query().unwrap_or_default())?;
    let content_type = ContentType::of(request.headers())?;
    let is_stream = content_type == ContentType::Lines;
    if !is_stream {
        content_type.json_or_absent()?;
    }
    let place = connections.batch().ok_or_else(Refusal::overloaded)?;
    let queue = Queue::new(local.clone(), connections.clone(), caller, is_ordered);
    let settings = local.node().settings();
    if is_stream {
        let waits = request.headers().contains_key(EXPECT);
        let mut body =
            Lines::new(request.into_body(), settings.max_body, settings.batch_line_wait, connections);
        drop(settings);
        if waits {
            body.begin().await?;
        }
        let (writer, results) = results();
        tokio::task::spawn_local(async move {
            stream::publish(queue, body, writer).await;
            drop(place);
        });
        return Ok(lines(results));
    }
    let bounds = Bounds::of_object(&settings);
    drop(settings);
    let body = body::read(request.into_body(), &bounds, connections).await?;
    publish_array(queue, &body.bytes).await
}

/// Publishes the elements of an array, and answers when all have their results.
async fn publish_array(mut queue: Queue, body: &Bytes) -> Result<Answer, Refusal> {
    let Elements(elements) = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("this is not an array of publish objects: {error}")))?;
    let mut all = br#"{"results":["#.to_vec();
    let mut push = |result: Vec<u8>| {
        if !all.ends_with(b"[") {
            all.push(b',');
        }
        all.extend_from_slice(&result);
    };
    for element in elements {
        while !queue.has_room() {
            push(queue.next().await);
        }
        queue.publish(body.slice_ref(element.get().as_bytes())).await;
    }
    while !queue.is_empty() {
        push(queue.next().await);
    }
    all.extend_from_slice(b"]}");
    Ok(json(all))
}

/// The elements of an array, as they stand there.
struct Elements<'a>(Vec<&'a RawValue>);

struct ElementsVisitor;

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ElementsVisitor)
    }
}

impl<'de> Visitor<'de> for ElementsVisitor {
    type Value = Elements<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of publish objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Elements<'de>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element()? {
            if elements.len() == BATCH_ITEMS_MAX {
                let why = format!("it has more than {BATCH_ITEMS_MAX}; a stream of lines has no such limit");
                return Err(A::Error::custom(why));
            }
            elements.push(element);
        }
        Ok(Elements(elements))
    }
}

/// Reads the parameters.
fn is_ordered(query: &str) -> Result<bool, Refusal> {
    let mut ordered = None;
    for (name, value) in percent::pairs(query) {
        if percent::decode_query(name)? != "ordered" {
            return Err(Refusal::bad_request("the only parameter here is `ordered`"));
        }
        let Ok(value) = percent::decode_query(value)?.parse() else {
            return Err(Refusal::bad_request("`ordered` is true or false"));
        };
        if ordered.replace(value).is_some() {
            return Err(Refusal::bad_request("`ordered` is given more than once"));
        }
    }
    Ok(ordered.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_asked_for_in_the_query() {
        assert!(!is_ordered("").unwrap() && !is_ordered("ordered=false").unwrap());
        assert!(is_ordered("&ordered=true").unwrap());
        for bad in ["ordered", "ordered=1", "order=true", "ordered=true&ordered=true", "%=1"] {
            assert!(is_ordered(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn elements_are_bounded_in_number() {
        let count = |count: usize| {
            let array = format!("[{}]", vec!["{}"; count].join(","));
            serde_json::from_str::<Elements<'_>>(&array).map(|elements| elements.0.len())
        };
        assert_eq!(count(0).unwrap(), 0);
        assert_eq!(count(BATCH_ITEMS_MAX).unwrap(), BATCH_ITEMS_MAX);
        assert!(count(BATCH_ITEMS_MAX + 1).is_err());
    }
}
