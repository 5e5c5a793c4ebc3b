//! What a client of fanfare.v1 is told: one JSON object a text frame. Each function writes one, without a frame header.
//!
//! [`message`] and [`gap`] are for everybody who has the topic; they are made once for each publication, so they are what
//! has to be fast. The others answer one client. They append to what is there, so that a caller can put a header
//! in front or reuse its memory.
//!
//! Where an answer echoes an id and the command had none, it says `"ok":null`; an error has no `id` then.

use std::ops::RangeInclusive;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::{CommandId, Echo};
use crate::{
    identity::{ClientId, Spelling, User},
    protocol::{
        error::{Code, push_error},
        json::{push_bool, push_str, push_u64},
        publish_answer::{self, TopicResult, push_epoch},
    },
    publication::{Content, Message, Position, Stands},
    topic::Topic,
    websocket::CloseCode,
};

#[cfg(test)]
mod tests;

/// The payload for subscribers of `topic`: `{"topic":"a","offset":22,"message":"…"}`.
///
/// What was published as JSON comes as `data` instead of `message`, byte for byte as its publisher wrote it. What was
/// published as binary comes as `base64` (RFC 4648 section 4, with padding), because everything here is JSON
/// text: a client decodes it and has the bytes. Then `key`, if the message has one, and `also`, the other topics of a
/// message that went to several.
///
/// ```
/// use fanfare::{
///     protocol::v1::encode,
///     publication::{Content, Json, Message, MessageKey},
///     topic::Topic,
/// };
///
/// let [a, b] = ["a", "b"].map(|topic| Topic::parse(topic).unwrap());
/// let text = Content::from(Message::text("say \"cats\""));
/// assert_eq!(encode::message(&a, 22, &text, &[]), r#"{"topic":"a","offset":22,"message":"say \"cats\""}"#);
///
/// let key = MessageKey::parse("EUR").ok();
/// let data = Content { key, ..Message::Data(Json::parse(r#"{"bid": 1.10}"#).unwrap()).into() };
/// let json = r#"{"topic":"a","offset":22,"data":{"bid": 1.10},"key":"EUR","also":["b"]}"#;
/// assert_eq!(encode::message(&a, 22, &data, &[b]), json);
///
/// let binary = Content::from(Message::binary(vec![0, 255]));
/// assert_eq!(encode::message(&a, 22, &binary, &[]), r#"{"topic":"a","offset":22,"base64":"AP8="}"#);
/// ```
pub fn message(topic: &Topic, offset: u64, content: &Content, also: &[Topic]) -> Bytes {
    let mut json = Vec::with_capacity(message_length(topic, offset, content, also));
    json.extend_from_slice(TOPIC);
    push_str(&mut json, topic.as_str().as_bytes());
    json.extend_from_slice(OFFSET);
    push_u64(&mut json, offset);
    match &content.message {
        Message::Text(text) => {
            json.extend_from_slice(MESSAGE);
            push_str(&mut json, text.as_bytes());
        }
        Message::Data(value) => {
            json.extend_from_slice(DATA);
            json.extend_from_slice(value.as_bytes());
        }
        Message::Binary(bytes) => {
            json.extend_from_slice(BASE64);
            push_base64(&mut json, bytes);
        }
    }
    if let Some(key) = &content.key {
        json.extend_from_slice(KEY);
        push_str(&mut json, key.as_str().as_bytes());
    }
    if !also.is_empty() {
        json.extend_from_slice(ALSO);
        for (nth, topic) in also.iter().enumerate() {
            json.push(if nth == 0 { b'[' } else { b',' });
            push_str(&mut json, topic.as_str().as_bytes());
        }
        json.push(b']');
    }
    json.push(b'}');
    Bytes::from(json)
}

const TOPIC: &[u8] = br#"{"topic":"#;
const OFFSET: &[u8] = br#","offset":"#;
const MESSAGE: &[u8] = br#","message":"#;
const DATA: &[u8] = br#","data":"#;
const BASE64: &[u8] = br#","base64":"#;
const KEY: &[u8] = br#","key":"#;
const ALSO: &[u8] = br#","also":"#;

/// The length of the payload, if nothing in it has to be escaped. Then the memory is neither too much nor moved.
fn message_length(topic: &Topic, offset: u64, content: &Content, also: &[Topic]) -> usize {
    let quoted = |text: &str| text.len() + 2;
    let digits = offset.checked_ilog10().map_or(1, |log| log as usize + 1);
    let said = match &content.message {
        Message::Text(text) => MESSAGE.len() + text.as_bytes().len() + 2,
        Message::Data(value) => DATA.len() + value.as_bytes().len(),
        Message::Binary(bytes) => BASE64.len() + base64_length(bytes) + 2,
    };
    let key = content.key.as_ref().map_or(0, |key| KEY.len() + quoted(key.as_str()));
    let also = match also {
        [] => 0,
        also => ALSO.len() + 1 + also.iter().map(|topic| quoted(topic.as_str()) + 1).sum::<usize>(),
    };
    TOPIC.len() + quoted(topic.as_str()) + OFFSET.len() + digits + said + key + also + 1
}

/// Appends bytes as a JSON string.
fn push_base64(json: &mut Vec<u8>, bytes: &[u8]) {
    json.push(b'"');
    let begin = json.len();
    json.resize(begin + base64_length(bytes), 0);
    STANDARD
        .encode_slice(bytes, &mut json[begin..])
        .expect("there is room for three bytes in four characters");
    json.push(b'"');
}

fn base64_length(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(3) * 4
}

/// Messages of a topic that a client does not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first offset it may concern.
    pub from: u64,
    /// The last. Messages between them may have been delivered.
    pub to: u64,
    /// Why.
    pub reason: GapReason,
    /// How many were replaced by younger ones with the same key.
    pub conflated: u64,
    /// How many are missing besides.
    pub dropped: u64,
}

/// Why messages are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapReason {
    /// The client did not take them fast enough.
    Slow,
    /// The topic's history does not reach back to where the client was.
    History,
    /// The topic's offsets begin anew: its epoch is another one than the client knew.
    Reset,
}

impl GapReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::History => "history",
            Self::Reset => "reset",
        }
    }
}

/// Appends `{"gap":{…}}`: in the stream where the missing messages would have been.
///
/// ```
/// use fanfare::{
///     protocol::v1::encode::{Gap, GapReason, gap},
///     topic::Topic,
/// };
///
/// let mut out = Vec::new();
/// let lost = Gap { from: 23, to: 40, reason: GapReason::Slow, conflated: 3, dropped: 15 };
/// gap(&mut out, &Topic::parse("a")?, &lost);
/// let json = r#"{"gap":{"topic":"a","from":23,"to":40,"reason":"slow","conflated":3,"dropped":15}}"#;
/// assert_eq!(out, json.as_bytes());
/// # Ok::<(), fanfare::topic::TopicError>(())
/// ```
pub fn gap(out: &mut Vec<u8>, topic: &Topic, gap: &Gap) {
    out.extend_from_slice(br#"{"gap":{"topic":"#);
    push_str(out, topic.as_str().as_bytes());
    out.extend_from_slice(br#","from":"#);
    push_u64(out, gap.from);
    out.extend_from_slice(br#","to":"#);
    push_u64(out, gap.to);
    out.extend_from_slice(br#","reason":""#);
    out.extend_from_slice(gap.reason.as_str().as_bytes());
    out.extend_from_slice(br#"","conflated":"#);
    push_u64(out, gap.conflated);
    out.extend_from_slice(br#","dropped":"#);
    push_u64(out, gap.dropped);
    out.extend_from_slice(b"}}");
}

/// What a client is greeted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The node it is connected to.
    pub node: &'a str,
    /// Its own id.
    pub client: ClientId,
    /// Time between two pings of the node, milliseconds; it is told in seconds.
    pub ping_ms: u64,
    /// Longest message it may publish, bytes.
    pub max_message: usize,
    /// To whom it belongs.
    pub user: Option<&'a User>,
}

/// Appends `{"hello":{…}}`, the first a client is told. `user` is there if the client belongs to one.
///
/// ```
/// use fanfare::{
///     identity::{ClientId, User},
///     protocol::v1::encode::{Hello, hello},
/// };
///
/// let client = ClientId::parse("67e5504410b1426f9247bb680e5fe0c8").unwrap();
/// let user = User::number(7);
/// let mut out = Vec::new();
/// hello(&mut out, &Hello { node: "n1", client, ping_ms: 25_000, max_message: 65_536, user: Some(&user) });
/// let begin = r#"{"hello":{"node":"n1","client":"67e5504410b1426f9247bb680e5fe0c8","ping_s":25,"#;
/// assert_eq!(out, format!(r#"{begin}"max_message":65536,"user":7}}}}"#).into_bytes());
/// ```
pub fn hello(out: &mut Vec<u8>, hello: &Hello<'_>) {
    out.extend_from_slice(br#"{"hello":{"node":"#);
    push_str(out, hello.node.as_bytes());
    out.extend_from_slice(br#","client":"#);
    push_str(out, hello.client.to_string().as_bytes());
    out.extend_from_slice(br#","ping_s":"#);
    push_seconds(out, hello.ping_ms);
    out.extend_from_slice(br#","max_message":"#);
    push_u64(out, hello.max_message as u64);
    if let Some(user) = hello.user {
        out.extend_from_slice(br#","user":"#);
        match user.spelling() {
            Spelling::Number(number) => push_u64(out, number),
            Spelling::Name(name) => push_str(out, name.as_bytes()),
        }
    }
    out.extend_from_slice(b"}}");
}

/// Appends a time in seconds, exactly.
fn push_seconds(out: &mut Vec<u8>, milliseconds: u64) {
    push_u64(out, milliseconds / 1_000);
    let fraction = milliseconds % 1_000;
    if fraction > 0 {
        let digits = [fraction / 100, fraction / 10 % 10, fraction % 10].map(|digit| b'0' + digit as u8);
        let length = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
        out.push(b'.');
        out.extend_from_slice(&digits[..length]);
    }
}

/// A topic a client has from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The topic.
    pub topic: Topic,
    /// Where it stands: what comes live has higher offsets.
    pub position: Position,
    /// For a client that said since when: whether all of it follows. If not, a gap follows.
    pub recovered: Option<bool>,
}

/// Appends `{"ok":2}`: the command is in force, and there is nothing more to say.
pub fn ok(out: &mut Vec<u8>, id: Option<&CommandId>) {
    begin_ok(out, id);
    out.push(b'}');
}

/// Appends `{"ok":1,"positions":{…}}`: these topics are joined. What is replayed follows, then what comes live.
///
/// ```
/// use fanfare::{
///     protocol::v1::{
///         CommandId,
///         encode::{Joined, ok_positions},
///     },
///     publication::{Epoch, Position},
///     topic::Topic,
/// };
///
/// let position = Position { epoch: Epoch { node: 10, incarnation: 3 }, offset: 21 };
/// let joined = Joined { topic: Topic::parse("a")?, position, recovered: Some(true) };
/// let id = CommandId::parse("1").ok();
/// let mut out = Vec::new();
/// ok_positions(&mut out, id.as_ref(), &[joined]);
/// let json = r#"{"ok":1,"positions":{"a":{"epoch":"000000000000000a-3","offset":21,"recovered":true}}}"#;
/// assert_eq!(out, json.as_bytes());
/// # Ok::<(), fanfare::topic::TopicError>(())
/// ```
pub fn ok_positions(out: &mut Vec<u8>, id: Option<&CommandId>, joined: &[Joined]) {
    begin_ok(out, id);
    out.extend_from_slice(br#","positions":{"#);
    for (nth, Joined { topic, position, recovered }) in joined.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        push_str(out, topic.as_str().as_bytes());
        out.extend_from_slice(br#":{"epoch":"#);
        push_epoch(out, position.epoch);
        out.extend_from_slice(br#","offset":"#);
        push_u64(out, position.offset);
        if let Some(recovered) = recovered {
            out.extend_from_slice(br#","recovered":"#);
            push_bool(out, *recovered);
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"}}");
}

/// Appends `{"ok":4,"position":{"topic":"a","offset":22,"epoch":"…"}}`: a publication to `topic` was taken. What became
/// of it stands beside its place, if that was asked for.
pub fn ok_position(out: &mut Vec<u8>, id: Option<&CommandId>, topic: &Topic, stands: &Stands) {
    begin_ok(out, id);
    out.extend_from_slice(br#","position":"#);
    publish_answer::stands(out, topic, stands);
    out.push(b'}');
}

/// Appends `{"ok":4,"results":[{"topic":"a","offset":22,"epoch":"…"},{"topic":"b","error":{…}}]}`: a publication to
/// `topics` was taken, as far as it was.
pub fn ok_results(out: &mut Vec<u8>, id: Option<&CommandId>, results: &[TopicResult<'_>]) {
    begin_ok(out, id);
    out.extend_from_slice(br#","results":"#);
    publish_answer::results(out, results);
    out.push(b'}');
}

fn begin_ok(out: &mut Vec<u8>, id: Option<&CommandId>) {
    out.extend_from_slice(br#"{"ok":"#);
    out.extend_from_slice(id.map_or("null", Echo::as_json).as_bytes());
}

/// Appends `{"pong":123}`.
pub fn pong(out: &mut Vec<u8>, value: &Echo) {
    out.extend_from_slice(br#"{"pong":"#);
    out.extend_from_slice(value.as_json().as_bytes());
    out.push(b'}');
}

/// Appends `{"error":{"code":"…","message":"…","id":1}}`; a message that is too long is cut.
pub fn error(out: &mut Vec<u8>, code: Code, message: &str, id: Option<&CommandId>) {
    push_error(out, code, message, id.map(Echo::as_json));
}

/// Appends `{"bye":{"code":1012,"reason":"restart","retry_ms":[500,20000]}}`, said just before a polite close.
///
/// `retry_ms` is from when to when the client is to come back, at a time it chooses by chance in between, so that not all come
/// at once. Without it the client is not to come back by itself.
///
/// ```
/// use fanfare::{protocol::v1::encode::bye, websocket::CloseCode};
///
/// let mut out = Vec::new();
/// bye(&mut out, CloseCode::RESTART, "restart", Some(500..=20_000));
/// assert_eq!(out, br#"{"bye":{"code":1012,"reason":"restart","retry_ms":[500,20000]}}"#);
/// ```
pub fn bye(out: &mut Vec<u8>, code: CloseCode, reason: &str, retry_ms: Option<RangeInclusive<u64>>) {
    out.extend_from_slice(br#"{"bye":{"code":"#);
    push_u64(out, code.get().into());
    out.extend_from_slice(br#","reason":"#);
    push_str(out, reason.as_bytes());
    if let Some(retry_ms) = retry_ms {
        out.extend_from_slice(br#","retry_ms":["#);
        push_u64(out, *retry_ms.start());
        out.push(b',');
        push_u64(out, *retry_ms.end());
        out.push(b']');
    }
    out.extend_from_slice(b"}}");
}
