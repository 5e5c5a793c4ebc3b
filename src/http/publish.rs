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
    percent,
};
use crate::{
    connection::Local,
    identity::{ClientId, User},
    limits::MESSAGE_SHARED_FROM,
    protocol::{
        error::push_json_str,
        publish_body::{self, PublishBody},
    },
    publication::{Audience, Content, Message, Position},
    topic::Topic,
};

/// Publishes the object in the body.
pub(super) async fn publish(
    local: &Local,
    connections: &Rc<Connections>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let settings = &local.node().settings;
    ContentType::of(request.headers()).json_or_absent()?;
    let bounds = Bounds {
        max: settings.max_body,
        too_large: Refusal::body_too_large,
        timeout: settings.http_body_timeout,
    };
    let body = body::read(request.into_body(), &bounds, connections).await?;
    let publication = publish_body::parse(body.bytes, settings.max_message)?;
    take(local, connections, publication).await
}

/// Publishes the body to the topic in the path.
pub(super) async fn publish_to(
    local: &Local,
    connections: &Rc<Connections>,
    topic: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let settings = &local.node().settings;
    let topic =
        Topic::parse(&percent::decode(topic)?).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let audience = audience(request.uri().query().unwrap_or_default())?;
    let kind = Kind::of(ContentType::of(request.headers()))?;
    let bounds = Bounds {
        max: settings.max_message,
        too_large: Refusal::message_too_large,
        timeout: settings.http_body_timeout,
    };
    let body = body::read(request.into_body(), &bounds, connections).await?;
    let message = kind.message(body.bytes)?;
    take(local, connections, PublishBody { topic, content: Content { message, audience, key: None } }).await
}

/// Has the node take a publication, when it is this request's turn.
async fn take(
    local: &Local,
    connections: &Rc<Connections>,
    publication: PublishBody,
) -> Result<Answer, Refusal> {
    let PublishBody { topic, content } = publication;
    let wait = local.node().settings.publish_wait;
    // One deadline for both waits: a publisher is told after `publish_wait`, wherever it stood.
    let until = Instant::now() + wait;
    let _work = connections.work(wait).await.ok_or_else(Refusal::overloaded)?;
    let position = local.publish(topic.clone(), content, until).await?;
    Ok(json(position_json(&topic, position)))
}

fn position_json(topic: &Topic, position: Position) -> String {
    use std::fmt::Write as _;
    let mut json = String::with_capacity(96 + topic.as_str().len());
    json.push_str(r#"{"topic":"#);
    push_json_str(&mut json, topic.as_str());
    write!(json, r#","offset":{},"epoch":"{}"}}"#, position.offset, position.epoch)
        .expect("a String takes it");
    json
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
            ContentType::Json | ContentType::Other => Err(Refusal::unsupported_media_type(
                "here the body is the message: text/plain in UTF-8 (or no type) for text frames, \
                 application/octet-stream for binary frames; a publish object goes to /publish",
            )),
        }
    }

    fn message(self, body: Bytes) -> Result<Message, Refusal> {
        if self == Self::Text && std::str::from_utf8(&body).is_err() {
            return Err(Refusal::bad_request(
                "the message is not UTF-8; send it as application/octet-stream for binary frames",
            ));
        }
        // A small one is copied, so that it does not keep the buffer the whole connection was read into.
        let body = if body.len() < MESSAGE_SHARED_FROM { Bytes::copy_from_slice(&body) } else { body };
        Ok(match self {
            Self::Text => Message::Text(body),
            Self::Binary => Message::Binary(body),
        })
    }
}

/// Reads the parameters of `/publish/{topic}`. Each may stand once; one that is not known is an error, because to
/// ignore a misspelt `user_id` would publish to everyone.
fn audience(query: &str) -> Result<Audience, Refusal> {
    let mut audience = Audience::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (percent::decode_query(name)?, percent::decode_query(value)?);
        let first = match &*name {
            "user_id" => {
                let user = User::parse(&value).map_err(|error| Refusal::bad_request(error.to_string()))?;
                audience.user.replace(user).is_none()
            }
            "exclude" => {
                let malformed = || Refusal::bad_request("`exclude` is a client id, 32 hex digits");
                audience.exclude.replace(ClientId::parse(&value).ok_or_else(malformed)?).is_none()
            }
            "key" | "idempotency_key" | "receipt" => {
                return Err(Refusal::unsupported(format!("`{name}` is not served by this version")));
            }
            _ => {
                let shown: String = name.chars().take(40).collect();
                return Err(Refusal::bad_request(format!(
                    "{shown:?} is no parameter; there are `user_id` and `exclude`"
                )));
            }
        };
        if !first {
            return Err(Refusal::bad_request(format!("`{name}` is given more than once")));
        }
    }
    Ok(audience)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publication::Epoch;

    #[test]
    fn audience_is_read_from_the_query() {
        let id = ClientId::random();
        assert!(audience("").unwrap().is_everyone());
        assert!(audience("&&").unwrap().is_everyone());
        let both = audience(&format!("user_id=7&exclude={id}")).unwrap();
        assert_eq!(both, Audience { user: Some(User::Number(7)), exclude: Some(id) });
        assert_eq!(audience("user_id=a%26b+c").unwrap().user, Some(User::Name("a&b c".into())));
    }

    #[test]
    fn parameters_that_cannot_be_served_are_refused() {
        for (query, code) in [
            ("key=a", "unsupported"),
            ("idempotency_key=a", "unsupported"),
            ("receipt=true", "unsupported"),
            ("user=1", "bad_request"),
            ("user_id", "bad_request"),
            ("user_id=", "bad_request"),
            ("user_id=1&user_id=2", "bad_request"),
            ("exclude=x", "bad_request"),
            ("user_id=%zz", "bad_request"),
        ] {
            let refusal = audience(query).unwrap_err();
            assert_eq!((refusal.status.as_u16(), refusal.code.as_str()), (400, code), "{query}");
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

    #[test]
    fn answer_says_where_the_publication_stands() {
        let position = Position { epoch: Epoch { node: 10, incarnation: 3 }, offset: 7 };
        let topic = Topic::parse("a\"b").unwrap();
        let json = r#"{"topic":"a\"b","offset":7,"epoch":"000000000000000a-3"}"#;
        assert_eq!(position_json(&topic, position), json);
    }
}
