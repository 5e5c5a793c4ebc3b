//! The publish object: `{"topic":"cats","message":"are awesome"}`, as the body of `POST /publish` and in commands.
//!
//! Instead of `topic` there may be `topics`, several, each once; instead of `message` there may be `data`, any JSON value,
//! which is passed on byte for byte. Optional are the [`PublishOptions`]: `user_id`, `exclude`, `key`,
//! `idempotency_key`, `receipt`.
//!
//! Two parsers read it with one visitor: serde_json and simd-json. [`parse`] chooses ([`SIMD_JSON_FROM`]); the other two
//! functions are public for the benchmarks that decide the choice (`benches/parse.rs`). They agree on which bodies are
//! publish objects and on what they mean; their words for what is wrong differ.
//!
//! The message is not unescaped into a buffer of its own where it can be a part of the body, but a small message
//! never keeps a large body alive: the credits taken for it are by its own size.

use std::{fmt, ops::Range};

use bytes::{Bytes, BytesMut};
use smallvec::{SmallVec, smallvec};

use crate::{
    limits::MESSAGE_SHARED_FROM,
    protocol::publish_options::PublishOptions,
    publication::{self, Content, IdempotencyKey, Json, Message},
    topic::Topic,
};

pub(crate) use object::PublishObject;
use object::{Checked, Said, Text};

mod object;
#[cfg(test)]
mod tests;

/// From this size of the body on, bytes, simd-json reads it, if it has escapes and can be changed in place. Measured:
/// without escapes serde_json wins at every size (0.5 to 0.8 of the time); with them simd-json wins from 1 KiB on
/// (0.56 to 0.89).
pub const SIMD_JSON_FROM: usize = 1_024;
/// A body with escapes shows one in this many bytes from its begin, or has few. A body for simd-json has named its
/// message by then, too.
const HEAD_BYTES: usize = 256;

const _: () = assert!(HEAD_BYTES <= SIMD_JSON_FROM);

/// What is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishBody {
    /// Where: at least one topic, each once, in the order given.
    pub topics: SmallVec<[Topic; 1]>,
    /// Whether they came as a list: then the answer is one too, however many there are.
    pub is_list: bool,
    /// What, and for whom.
    pub content: Content,
    /// What its publisher calls it.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Whether its publisher wants to be told what became of it.
    pub receipt: bool,
}

impl PublishBody {
    /// A message for one topic.
    pub fn to_topic(topic: Topic, message: Message, options: PublishOptions) -> Self {
        Self::assemble(smallvec![topic], false, message, options)
    }

    fn assemble(
        topics: SmallVec<[Topic; 1]>,
        is_list: bool,
        message: Message,
        options: PublishOptions,
    ) -> Self {
        let PublishOptions { audience, key, idempotency_key, receipt } = options;
        let content = Content { message, audience, key };
        Self { topics, is_list, content, idempotency_key, receipt: receipt.unwrap_or(false) }
    }
}

/// Why a publish object was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishBodyError {
    /// It is none.
    Malformed(String),
    /// The message, decoded, or the data, as it is written, is longer than `max` bytes.
    MessageTooLarge {
        /// The limit.
        max: usize,
    },
}

impl fmt::Display for PublishBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "this is not a publish object: {why}"),
            Self::MessageTooLarge { max } => write!(f, "the message is longer than {max} bytes"),
        }
    }
}

impl std::error::Error for PublishBodyError {}

/// Reads a body with whichever parser is faster for it.
///
/// ```
/// use bytes::Bytes;
/// use fanfare::{protocol::publish_body, publication::{Json, Message}};
///
/// let body = r#"{"topics":["eur","rates"],"data":{"bid": 1.10},"key":"EUR/USD"}"#;
/// let body = publish_body::parse(Bytes::from(body), 1_024)?;
/// assert_eq!(body.topics.len(), 2);
/// assert_eq!(body.content.message, Message::Data(Json::parse(r#"{"bid": 1.10}"#).unwrap()));
/// # Ok::<(), publish_body::PublishBodyError>(())
/// ```
///
/// # Errors
/// When it is no publish object, or has a message over `max_message` bytes.
pub fn parse(body: Bytes, max_message: usize) -> Result<PublishBody, PublishBodyError> {
    if body.len() < SIMD_JSON_FROM || !body[..HEAD_BYTES].contains(&b'\\') {
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
    let read: PublishObject<'_> = serde_json::from_slice(body).map_err(malformed)?;
    let Checked { said, rest } = read.check(max_message)?;
    let kind = kind(&said);
    Ok(match place(said, body.as_ptr_range()) {
        Place::Own(message) => rest.with(kind(message)),
        Place::In(range) => rest.with(kind(body.slice(range))),
    })
}

/// Reads a body with simd-json, which unescapes in place. A body that may have `data` is left to serde_json, for
/// nothing could be passed on byte for byte after that.
///
/// # Errors
/// As [`parse`].
pub fn parse_simd_json(mut body: BytesMut, max_message: usize) -> Result<PublishBody, PublishBodyError> {
    if !names_message_first(&body[..body.len().min(HEAD_BYTES)]) {
        return parse_serde_json(&body.freeze(), max_message);
    }
    let span = body.as_ptr_range();
    let read: PublishObject<'_> = simd_json::serde::from_slice(&mut body).map_err(malformed)?;
    let Checked { said, rest } = read.check(max_message)?;
    let kind = kind(&said);
    Ok(match place(said, span) {
        Place::Own(message) => rest.with(kind(message)),
        Place::In(range) => rest.with(kind(body.freeze().slice(range))),
    })
}

fn malformed(error: impl fmt::Display) -> PublishBodyError {
    PublishBodyError::Malformed(error.to_string())
}

/// What the bytes that are said are.
fn kind(said: &Said<'_>) -> fn(Bytes) -> Message {
    match said {
        Said::Text(_) => |bytes| Message::Text(publication::Text::known(bytes)),
        Said::Data(_) => |bytes| Message::Data(Json::known(bytes)),
    }
}

/// Whether the object that begins with `head` has a field `message` with no field `data` before it. True only if it is
/// sure: the fields before are passed over as far as that is simple. Then `data` anywhere behind is an error, whatever
/// its value is.
fn names_message_first(head: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut at_key = false;
    let mut rest = head;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'"' => {
                let Some(length) = rest.iter().position(|&byte| matches!(byte, b'"' | b'\\')) else {
                    return false;
                };
                let (text, behind) = rest.split_at(length);
                match text {
                    _ if behind[0] == b'\\' => return false,
                    b"message" if at_key => return true,
                    b"data" if at_key => return false,
                    _ => at_key = false,
                }
                rest = &behind[1..];
            }
            b'{' | b'[' => {
                depth += 1;
                at_key = depth == 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => at_key = depth == 1,
            _ => {}
        }
    }
    false
}

/// Where the bytes of a message are to be had.
enum Place {
    /// They have a place of their own.
    Own(Bytes),
    /// They stay in the body, here.
    In(Range<usize>),
}

/// Leaves a large message in the body it fills most of, and copies every other, so that it does not keep the body.
fn place(said: Said<'_>, body: Range<*const u8>) -> Place {
    match said {
        Said::Text(Text::Own(text)) => Place::Own(Bytes::from(text)),
        Said::Text(Text::Part(part)) | Said::Data(part) => {
            let length = body.end as usize - body.start as usize;
            if part.len() < MESSAGE_SHARED_FROM || part.len() < length / 2 {
                return Place::Own(Bytes::copy_from_slice(part.as_bytes()));
            }
            let from = part.as_ptr() as usize - body.start as usize;
            Place::In(from..from + part.len())
        }
    }
}
