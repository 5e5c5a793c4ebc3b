//! `POST /publish`, a publish object in JSON, and `POST /publish/{topic}`, whose body is the message itself.

use std::rc::Rc;

use bytes::Bytes;
use hyper::{Request, body::Incoming};
use tokio::time::Instant;

use super::{
    answer::{Answer, Refusal, json},
    body::{self, Bounds},
    connections::Connections,
    content_type::ContentType,
    credentials::Caller,
    percent,
    underway::Underway,
};
use crate::{
    connection::Local,
    limits::MESSAGE_SHARED_FROM,
    protocol::{
        publish_body::{self, PublishBody},
        publish_options::PublishOptions,
    },
    publication::Message,
    topic::Topic,
};

/// Publishes the object in the body.
pub(super) async fn publish(
    local: &Local,
    connections: &Rc<Connections>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let settings = local.node().settings();
    let caller = Caller::of(&settings, request.headers())?;
    caller.enter_to_publish(&settings)?;
    ContentType::of(request.headers())?.json_or_absent()?;
    let bounds = Bounds::of_object(&settings);
    // Settings are looked up again behind each wait, and never held through one.
    drop(settings);
    let body = body::read(request.into_body(), &bounds, connections).await?;
    let settings = local.node().settings();
    let publication = publish_body::parse(body.bytes, settings.max_message)?;
    publication.topics.iter().try_for_each(|topic| caller.may_publish(&settings, topic))?;
    drop(settings);
    take(local, connections, &caller, publication).await
}

/// Publishes the body to the topic in the path.
pub(super) async fn publish_to(
    local: &Local,
    connections: &Rc<Connections>,
    topic: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let settings = local.node().settings();
    let caller = Caller::of(&settings, request.headers())?;
    caller.enter_to_publish(&settings)?;
    let topic =
        Topic::parse(&percent::decode(topic)?).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let options = options(request.uri().query().unwrap_or_default())?;
    caller.may_publish(&settings, &topic)?;
    let kind = Kind::of(ContentType::of(request.headers())?)?;
    let bounds = Bounds {
        max: settings.max_message,
        too_large: Refusal::message_too_large,
        timeout: settings.http_body_timeout,
    };
    drop(settings);
    let body = body::read(request.into_body(), &bounds, connections).await?;
    let message = kind.message(body.bytes)?;
    take(local, connections, &caller, PublishBody::to_topic(topic, message, options)).await
}

/// Has the node take a publication, when it is this request's turn.
async fn take(
    local: &Local,
    connections: &Rc<Connections>,
    caller: &Caller,
    publication: PublishBody,
) -> Result<Answer, Refusal> {
    let (wait, receipt_wait) = {
        let settings = local.node().settings();
        (settings.publish_wait, settings.receipt_wait)
    };
    // One deadline for both waits: a publisher is told after `publish_wait`, wherever it stood.
    let until = Instant::now() + wait;
    let work = connections.work(wait).await.ok_or_else(Refusal::overloaded)?;
    let standing = Underway::begin(local, caller, publication, until).await?.placed().await?;
    // Who waits for a receipt holds back nobody who only wants to publish.
    drop(work);
    Ok(json(standing.json(Instant::now() + receipt_wait).await))
}

/// How a body that is the message is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
}

impl Kind {
    fn of(content_type: ContentType) -> Result<Self, Refusal> {
        match content_type {
            ContentType::Absent | ContentType::Text => Ok(Self::Text),
            ContentType::Bytes => Ok(Self::Binary),
            ContentType::Form => Err(Refusal::unsupported_media_type(
                "a form is no message: with curl add -H 'Content-Type: text/plain' \
                 (or application/octet-stream for binary frames)",
            )),
            ContentType::Json | ContentType::Lines | ContentType::Other => {
                Err(Refusal::unsupported_media_type(
                    "here the body is the message: text/plain in UTF-8 (or no type) for text frames, \
                 application/octet-stream for binary frames; a publish object goes to /publish",
                ))
            }
        }
    }

    fn message(self, body: Bytes) -> Result<Message, Refusal> {
        // A small one is copied, so that it does not keep the buffer the whole connection was read into.
        let body = if body.len() < MESSAGE_SHARED_FROM { Bytes::copy_from_slice(&body) } else { body };
        Ok(match self {
            Self::Text => Message::Text(body.try_into().map_err(|_| {
                Refusal::bad_request(
                    "the message is not UTF-8; send it as application/octet-stream for binary frames",
                )
            })?),
            Self::Binary => Message::Binary(body),
        })
    }
}

/// Reads the parameters of `/publish/{topic}`.
fn options(query: &str) -> Result<PublishOptions, Refusal> {
    let mut options = PublishOptions::default();
    for parameter in percent::decoded_pairs(query) {
        let (name, value) = parameter?;
        options.set(&name, &value).map_err(|error| Refusal::bad_request(error.to_string()))?;
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{ClientId, User},
        publication::{Audience, IdempotencyKey, MessageKey},
    };

    fn to_topic(query: &str) -> PublishBody {
        let topic = Topic::parse("a").expect("it is a topic");
        PublishBody::to_topic(topic, Message::text("m"), options(query).expect(query))
    }

    #[test]
    fn options_are_read_from_the_query() {
        let id = ClientId::random();
        assert_eq!(options("").unwrap(), PublishOptions::default());
        assert_eq!(options("&&").unwrap(), PublishOptions::default());
        let content = to_topic(&format!("user_id=7&key=a%2Fb&exclude={id}")).content;
        assert_eq!(content.audience, Audience { user: Some(User::number(7)), exclude: Some(id) });
        assert_eq!(content.key, Some(MessageKey::parse("a/b").unwrap()));
        let body = to_topic("idempotency_key=7f&receipt=true");
        assert_eq!(body.idempotency_key, Some(IdempotencyKey::parse("7f").unwrap()));
        assert!(body.receipt && !body.is_list && !to_topic("receipt=false").receipt);
        let audience = options("user_id=a%26b+c").unwrap().audience;
        assert_eq!(audience.user, Some(User::parse("a&b c").unwrap()));
    }

    #[test]
    fn parameters_that_cannot_be_served_are_refused() {
        for query in [
            "user=1",
            "user_id",
            "user_id=",
            "user_id=1&user_id=2",
            "exclude=x",
            "user_id=%zz",
            "key=",
            "idempotency_key=",
            "receipt=maybe",
        ] {
            let refusal = options(query).unwrap_err();
            assert_eq!((refusal.status.as_u16(), refusal.code.as_str()), (400, "bad_request"), "{query}");
        }
    }

    #[test]
    fn content_type_decides_between_text_and_binary() {
        assert_eq!(Kind::of(ContentType::Absent), Ok(Kind::Text));
        assert_eq!(Kind::of(ContentType::Bytes), Ok(Kind::Binary));
        for other in [ContentType::Json, ContentType::Form, ContentType::Other] {
            assert_eq!(Kind::of(other).unwrap_err().status.as_u16(), 415);
        }
        assert_eq!(Kind::Text.message("größe".into()).unwrap(), Message::text("größe"));
        assert_eq!(Kind::Text.message(Bytes::from_static(b"\xff")).unwrap_err().status.as_u16(), 400);
        let binary = Kind::Binary.message(Bytes::from_static(b"\xff")).unwrap();
        assert_eq!(binary, Message::Binary(Bytes::from_static(b"\xff")));
    }
}
