//! The body of `POST /publish`: `{"topic":"cats","message":"are awesome"}`, with optional `user_id` and `exclude`.
//!
//! Two parsers read it with one visitor: serde_json and simd-json. [`parse`] chooses ([`SIMD_JSON_FROM`]); the other two
//! functions are public for the benchmarks that decide the choice (`benches/parse.rs`). They agree on which bodies are
//! publish objects and on what they mean; their words for what is wrong differ.
//!
//! The message is not unescaped into a buffer of its own where it can be a part of the body, but a small message
//! never keeps a large body alive: the credits taken for it are by its own size.

use std::{fmt, ops::Range};

use bytes::{Bytes, BytesMut};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use crate::{
    identity::ClientId,
    limits::MESSAGE_SHARED_FROM,
    protocol::{ignored::Ignored, user_id::UserId},
    publication::{Audience, Content, Message},
    topic::Topic,
};

/// From this size of the body on, bytes, simd-json reads it, if it has escapes and can be changed in place. Measured:
/// without escapes serde_json wins at every size (0.5 to 0.8 of the time); with them simd-json wins from 1 KiB on
/// (0.56 to 0.89).
pub const SIMD_JSON_FROM: usize = 1_024;
/// A body with escapes shows one in this many bytes from its begin, or has few.
const ESCAPES_WITHIN: usize = 256;

const _: () = assert!(ESCAPES_WITHIN <= SIMD_JSON_FROM);

/// What is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishBody {
    /// Where.
    pub topic: Topic,
    /// What, and for whom.
    pub content: Content,
}

/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishBodyError {
    /// It is no publish object.
    Malformed(String),
    /// It has a field that this version understands and does not serve; to ignore it would be a lie.
    Unsupported(&'static str),
    /// The message, decoded, is longer than `max` bytes.
    MessageTooLarge {
        /// The limit.
        max: usize,
    },
}

impl fmt::Display for PublishBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "the body is not a publish object: {why}"),
            Self::Unsupported(field) => write!(f, "`{field}` is not served by this version"),
            Self::MessageTooLarge { max } => write!(f, "the message is longer than {max} bytes"),
        }
    }
}

impl std::error::Error for PublishBodyError {}

/// Reads a body with whichever parser is faster for its size.
///
/// # Errors
/// When it is no publish object, asks for what is not served, or has a message over `max_message` bytes.
pub fn parse(body: Bytes, max_message: usize) -> Result<PublishBody, PublishBodyError> {
    if body.len() < SIMD_JSON_FROM || !body[..ESCAPES_WITHIN].contains(&b'\\') {
        return parse_serde_json(&body, max_message);
    }
    match body.try_into_mut() {
        Ok(body) => parse_simd_json(body, max_message),
        Err(shared) => parse_serde_json(&shared, max_message),
    }
}

/// Reads a body with serde_json.
///
/// # Errors
/// As [`parse`].
pub fn parse_serde_json(body: &Bytes, max_message: usize) -> Result<PublishBody, PublishBodyError> {
    let read: Read<'_> = serde_json::from_slice(body).map_err(malformed)?;
    let checked = read.check(max_message)?;
    Ok(match place(checked.message, body.as_ptr_range()) {
        Place::Own(message) => checked.rest.with(message),
        Place::In(range) => checked.rest.with(body.slice(range)),
    })
}

/// Reads a body with simd-json, which unescapes in place.
///
/// # Errors
/// As [`parse`].
pub fn parse_simd_json(mut body: BytesMut, max_message: usize) -> Result<PublishBody, PublishBodyError> {
    let span = body.as_ptr_range();
    let read: Read<'_> = simd_json::serde::from_slice(&mut body).map_err(malformed)?;
    let checked = read.check(max_message)?;
    Ok(match place(checked.message, span) {
        Place::Own(message) => checked.rest.with(message),
        Place::In(range) => checked.rest.with(body.freeze().slice(range)),
    })
}

fn malformed(error: impl fmt::Display) -> PublishBodyError {
    PublishBodyError::Malformed(error.to_string())
}

/// The fields as they were read; what has to be there is not checked yet.
#[derive(Default)]
struct Read<'a> {
    topic: Option<Topic>,
    message: Option<Text<'a>>,
    audience: Audience,
    /// The first field that is understood and not served.
    unsupported: Option<&'static str>,
}

/// A body found good, except that its message still lies where it was read.
struct Checked<'a> {
    message: Text<'a>,
    rest: Rest,
}

/// A publish object without its message.
struct Rest {
    topic: Topic,
    audience: Audience,
}

impl Rest {
    fn with(self, message: Bytes) -> PublishBody {
        let content = Content { message: Message::Text(message), audience: self.audience, key: None };
        PublishBody { topic: self.topic, content }
    }
}

impl<'a> Read<'a> {
    fn check(self, max_message: usize) -> Result<Checked<'a>, PublishBodyError> {
        if let Some(field) = self.unsupported {
            return Err(PublishBodyError::Unsupported(field));
        }
        let topic = self.topic.ok_or_else(|| malformed("missing field `topic`"))?;
        let message = self.message.ok_or_else(|| malformed("missing field `message`"))?;
        if message.as_str().len() > max_message {
            return Err(PublishBodyError::MessageTooLarge { max: max_message });
        }
        Ok(Checked { message, rest: Rest { topic, audience: self.audience } })
    }
}

/// Where the bytes of a message are to be had.
enum Place {
    /// They have a place of their own.
    Own(Bytes),
    /// They stay in the body, here.
    In(Range<usize>),
}

/// Leaves a large message in the body it fills most of, and copies every other, so that it does not keep the body.
fn place(message: Text<'_>, body: Range<*const u8>) -> Place {
    match message {
        Text::Own(text) => Place::Own(Bytes::from(text)),
        Text::Part(part) => {
            let length = body.end as usize - body.start as usize;
            if part.len() < MESSAGE_SHARED_FROM || part.len() < length / 2 {
                return Place::Own(Bytes::copy_from_slice(part.as_bytes()));
            }
            let from = part.as_ptr() as usize - body.start as usize;
            Place::In(from..from + part.len())
        }
    }
}

/// A JSON string, in place where the parser can leave it there.
enum Text<'a> {
    /// A part of the body.
    Part(&'a str),
    /// Unescaped into memory of its own.
    Own(String),
}

impl Text<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Part(text) => text,
            Self::Own(text) => text,
        }
    }
}

struct ReadVisitor;

impl<'de> Deserialize<'de> for Read<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ReadVisitor)
    }
}

impl<'de> Visitor<'de> for ReadVisitor {
    type Value = Read<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"an object such as {"topic":"cats","message":"are awesome"}"#)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read<'de>, A::Error> {
        let mut read = Read::default();
        while let Some(field) = map.next_key::<Field>()? {
            let name = field.name();
            let first = match field {
                Field::Topic => read.topic.replace(topic(map.next_value::<Text<'de>>()?)?).is_none(),
                Field::Message => read.message.replace(map.next_value()?).is_none(),
                Field::UserId => read.audience.user.replace(map.next_value::<UserId>()?.0).is_none(),
                Field::Exclude => {
                    read.audience.exclude.replace(client(map.next_value::<Text<'de>>()?)?).is_none()
                }
                Field::Other => map.next_value_seed(Ignored::VALUE).map(|()| true)?,
                Field::Topics | Field::Data | Field::Key | Field::IdempotencyKey | Field::Receipt => {
                    map.next_value_seed(Ignored::VALUE)?;
                    read.unsupported.get_or_insert(name);
                    true
                }
            };
            if !first {
                return Err(de::Error::duplicate_field(name));
            }
        }
        Ok(read)
    }
}

fn topic<E: de::Error>(text: Text<'_>) -> Result<Topic, E> {
    Topic::parse(text.as_str()).map_err(E::custom)
}

fn client<E: de::Error>(text: Text<'_>) -> Result<ClientId, E> {
    ClientId::parse(text.as_str()).ok_or_else(|| E::custom("`exclude` is a client id, 32 hex digits"))
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text::Part(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text::Own(text.to_owned()))
    }
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Topic,
    Message,
    UserId,
    Exclude,
    Topics,
    Data,
    Key,
    IdempotencyKey,
    Receipt,
    #[serde(other)]
    Other,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Message => "message",
            Self::UserId => "user_id",
            Self::Exclude => "exclude",
            Self::Topics => "topics",
            Self::Data => "data",
            Self::Key => "key",
            Self::IdempotencyKey => "idempotency_key",
            Self::Receipt => "receipt",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{identity::User, limits::JSON_DEPTH_MAX};

    /// What both parsers say; they must agree, except in the words of an error.
    fn both(body: &str, max_message: usize) -> Result<PublishBody, PublishBodyError> {
        let serde = parse_serde_json(&Bytes::copy_from_slice(body.as_bytes()), max_message);
        let simd = parse_simd_json(BytesMut::from(body.as_bytes()), max_message);
        match (&serde, &simd) {
            (Err(PublishBodyError::Malformed(_)), Err(PublishBodyError::Malformed(_))) => {}
            _ => assert_eq!(serde, simd, "{body}"),
        }
        serde
    }

    fn message(body: &str) -> String {
        let body = both(body, 1 << 20).expect("it is a publish object");
        String::from_utf8(body.content.message.bytes().to_vec()).expect("a message read from JSON is text")
    }

    #[test]
    fn topic_and_message_are_enough() {
        let body = both(r#"{"topic":"cats","message":"are awesome"}"#, 11).unwrap();
        assert_eq!(body.topic.as_str(), "cats");
        assert_eq!(body.content.message, Message::text("are awesome"));
        assert!(body.content.audience.is_everyone());
    }

    #[test]
    fn audience_is_read() {
        let id = ClientId::random();
        let body =
            both(&format!(r#"{{"user_id":7,"exclude":"{id}","topic":"a","message":""}}"#), 10).unwrap();
        assert_eq!(body.content.audience, Audience { user: Some(User::Number(7)), exclude: Some(id) });
        let text = both(r#"{"topic":"a","message":"","user_id":"7"}"#, 10).unwrap();
        assert_eq!(text.content.audience.user, body.content.audience.user);
    }

    #[test]
    fn null_audience_does_not_become_everyone() {
        for bad in [r#""user_id":null"#, r#""exclude":null"#, r#""exclude":"x""#, r#""user_id":-1"#] {
            let body = format!(r#"{{"topic":"a","message":"m",{bad}}}"#);
            assert!(matches!(both(&body, 10), Err(PublishBodyError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn message_is_unescaped() {
        assert_eq!(
            message(r#"{"topic":"a","message":"\"\\\/\b\f\n\r\t\u00e4\ud83d\udc08\u0000"}"#),
            "\"\\/\u{8}\u{c}\n\r\tä🐈\0"
        );
    }

    #[test]
    fn large_message_stays_in_the_body_and_small_one_leaves_it() {
        let large = "x".repeat(MESSAGE_SHARED_FROM);
        let body = Bytes::from(format!(r#"{{"topic":"a","message":"{large}"}}"#));
        let read = parse_serde_json(&body, 1 << 20).unwrap();
        assert!(body.as_ptr_range().contains(&read.content.message.bytes().as_ptr()));
        let mutable = BytesMut::from(&body[..]);
        let span = mutable.as_ptr() as usize..mutable.as_ptr() as usize + mutable.len();
        let read = parse_simd_json(mutable, 1 << 20).unwrap();
        assert_eq!(read.content.message.bytes(), large.as_bytes());
        assert!(span.contains(&(read.content.message.bytes().as_ptr() as usize)));

        let filler = "y".repeat(3 * MESSAGE_SHARED_FROM);
        for body in [
            format!(r#"{{"topic":"a","message":"{large}","z":"{filler}"}}"#),
            r#"{"topic":"a","message":"x"}"#.into(),
        ] {
            let body = Bytes::from(body);
            let read = parse_serde_json(&body, 1 << 20).unwrap();
            assert!(!body.as_ptr_range().contains(&read.content.message.bytes().as_ptr()));
        }
    }

    #[test]
    fn length_is_that_of_the_decoded_message() {
        assert!(both(r#"{"topic":"a","message":"\u0000\u0000"}"#, 2).is_ok());
        assert_eq!(
            both(r#"{"topic":"a","message":"ää"}"#, 3),
            Err(PublishBodyError::MessageTooLarge { max: 3 })
        );
    }

    #[test]
    fn what_is_not_served_is_refused_by_name_and_the_rest_ignored() {
        for field in ["topics", "data", "key", "idempotency_key", "receipt"] {
            let body = format!(r#"{{"topic":"a","message":"m","{field}":null}}"#);
            assert_eq!(both(&body, 10).unwrap_err(), PublishBodyError::Unsupported(field));
        }
        assert_eq!(
            both(r#"{"topic":"a","data":{}}"#, 10).unwrap_err(),
            PublishBodyError::Unsupported("data")
        );
        assert_eq!(message(r#"{"later":{"a":[1,{}]},"topic":"a","message":"m","x":null}"#), "m");
    }

    #[test]
    fn what_is_not_one_whole_publish_object_is_refused() {
        for bad in [
            "",
            " ",
            "{",
            "{}",
            "[]",
            "null",
            r#""topic""#,
            r#"{"topic":"a"}"#,
            r#"{"message":"m"}"#,
            r#"{"topic":"a","message":1}"#,
            r#"{"topic":"a","message":null}"#,
            r#"{"topic":1,"message":"m"}"#,
            r#"{"topic":"","message":"m"}"#,
            r#"{"topic":"a\n","message":"m"}"#,
            r#"{"topic":"a","topic":"a","message":"m"}"#,
            r#"{"topic":"a","message":"m","message":"m"}"#,
            r#"{"topic":"a","message":"m","user_id":1,"user_id":1}"#,
            r#"{"topic":"a","message":"m"}x"#,
            r#"{"topic":"a","message":"m"}{}"#,
            r#"{"topic":"a","message":"m",}"#,
            r#"{"topic":"a","message":"\ud800"}"#,
            "{\"topic\":\"a\",\"message\":\"a\nb\"}",
            r#"["a","m"]"#,
        ] {
            assert!(matches!(both(bad, 10), Err(PublishBodyError::Malformed(_))), "{bad}");
        }
        let broken = b"{\"topic\":\"a\",\"message\":\"\xff\"}";
        assert!(parse_serde_json(&Bytes::from_static(broken), 10).is_err());
        assert!(parse_simd_json(BytesMut::from(&broken[..]), 10).is_err());
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| {
            format!(r#"{{"topic":"a","message":"m","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth))
        };
        assert!(both(&nested(JSON_DEPTH_MAX), 10).is_ok());
        assert!(both(&nested(JSON_DEPTH_MAX + 1), 10).is_err());
        assert!(both(&nested(500_000), 10).is_err());
        assert!(both(&r#"{"a":"#.repeat(170_000), 10).is_err());
    }

    proptest! {
        #[test]
        fn any_text_comes_through_both_parsers(text in "\\PC{0,200}|[\\x00-\\x7f]{0,200}") {
            let body = serde_json::json!({ "topic": "a", "message": text }).to_string();
            prop_assert_eq!(message(&body), text);
        }

        #[test]
        fn parsers_agree_on_damaged_bodies(at in 0_usize..60, byte in 0x20_u8..0x7f) {
            let mut body = br#"{"topic":"cats","message":"a\u0041\n","user_id":12,"x":[1,2]}"#.to_vec();
            body[at] = byte;
            let _ = both(std::str::from_utf8(&body).expect("it is ASCII"), 100);
        }
    }
}
