//! What a server says in Fanfare's subprotocol `fanfare.v1`, and what a client asks for in it. A delivery is found by what
//! stands round its message, which has one length in a run, and without reading JSON: that is for the hot loop. All
//! else is rare, and read as what it is.

use std::collections::HashMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// What a client offers.
pub(crate) const SUBPROTOCOL: &str = "fanfare.v1";

/// What stands before the topic, before the offset and before the message.
const TOPIC: &[u8] = br#"{"topic":""#;
const OFFSET: &[u8] = br#"","offset":"#;
const MESSAGE: &[u8] = br#","message":""#;
/// What stands behind a message, and before the two digits of its key.
const END: &[u8] = br#""}"#;
const KEY: &[u8] = br#"","key":"k"#;
/// Bytes behind a message with a key.
const KEYED_END: usize = KEY.len() + 2 + END.len();

/// Where a frame holds a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) offset: u64,
    pub(crate) message: Range<usize>,
}

/// The delivery of a message of `size` bytes, with a key or without. Messages of this harness need no escapes, so that
/// their length in JSON is their own.
#[inline]
pub(crate) fn delivery(frame: &[u8], size: usize) -> Option<Delivery> {
    let end = frame.strip_suffix(END)?.len();
    ending(frame, end, size).or_else(|| {
        let end = frame.len().checked_sub(KEYED_END)?;
        frame[end..].starts_with(KEY).then(|| ending(frame, end, size)).flatten()
    })
}

/// The same of a message that ends at `end`.
#[inline]
fn ending(frame: &[u8], end: usize, size: usize) -> Option<Delivery> {
    let begin = end.checked_sub(size)?;
    let before = frame[..begin].strip_suffix(MESSAGE)?;
    let mut at = before.len();
    let (mut offset, mut worth) = (0, 1_u64);
    while at > 0 && before[at - 1].is_ascii_digit() {
        at -= 1;
        offset += u64::from(before[at] - b'0') * worth;
        worth = worth.wrapping_mul(10);
    }
    let is_one = at < before.len() && before[..at].ends_with(OFFSET) && frame.starts_with(TOPIC);
    is_one.then_some(Delivery { offset, message: begin..end })
}

/// Where a topic stands.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Position {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
    /// For who said since when: whether all of it follows.
    pub(crate) recovered: Option<bool>,
}

/// Messages that a client was told it misses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gaps {
    /// How often it was told so.
    pub(crate) gaps: u64,
    pub(crate) conflated: u64,
    pub(crate) dropped: u64,
}

impl Gaps {
    pub(crate) fn missing(self) -> u64 {
        self.conflated + self.dropped
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.gaps += other.gaps;
        self.conflated += other.conflated;
        self.dropped += other.dropped;
    }
}

/// What else a server says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Comes first.
    Hello,
    /// Topics are joined, and stand there.
    Joined(HashMap<String, Position>),
    Gap(Gaps),
    /// A close frame follows.
    Bye,
    /// What was asked for was wrong.
    Error(String),
}

/// Reads anything but a delivery; `None` if it is nothing the protocol has, or an answer to what no client here asks.
pub(crate) fn told(frame: &[u8]) -> Option<Told> {
    #[derive(Deserialize)]
    struct Hello {
        #[serde(rename = "node")]
        _node: String,
    }
    #[derive(Deserialize)]
    struct Bye {
        #[serde(rename = "code")]
        _code: u16,
    }
    #[derive(Deserialize)]
    struct Gap {
        conflated: u64,
        dropped: u64,
    }
    #[derive(Deserialize)]
    struct Failure {
        code: String,
        message: String,
    }
    #[derive(Deserialize)]
    struct Any {
        hello: Option<Hello>,
        positions: Option<HashMap<String, Position>>,
        gap: Option<Gap>,
        bye: Option<Bye>,
        error: Option<Failure>,
    }
    match serde_json::from_slice(frame).ok()? {
        Any { hello: Some(_), .. } => Some(Told::Hello),
        Any { positions: Some(positions), .. } => Some(Told::Joined(positions)),
        Any { gap: Some(Gap { conflated, dropped }), .. } => {
            Some(Told::Gap(Gaps { gaps: 1, conflated, dropped }))
        }
        Any { bye: Some(_), .. } => Some(Told::Bye),
        Any { error: Some(Failure { code, message }), .. } => Some(Told::Error(format!("{code}: {message}"))),
        _ => None,
    }
}

/// The command that subscribes to `topic`, from behind `since` if that is an epoch and an offset.
pub(crate) fn subscribe(topic: &str, since: Option<(&str, u64)>) -> String {
    let mut command = serde_json::json!({ "subscribe": [topic], "id": 1 });
    if let Some((epoch, offset)) = since {
        command["since"] = serde_json::json!({ topic: { "epoch": epoch, "offset": offset } });
    }
    command.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_with_a_key_and_without() {
        for (frame, offset) in [
            (r#"{"topic":"a","offset":7,"message":"0123456789"}"#, 7),
            (r#"{"topic":"a","offset":18446744073709551615,"message":"0123456789"}"#, u64::MAX),
            (r#"{"topic":"a","offset":40,"message":"0123456789","key":"k07"}"#, 40),
        ] {
            let found = delivery(frame.as_bytes(), 10).expect("a delivery");
            assert_eq!((found.offset, &frame[found.message]), (offset, "0123456789"));
            assert_eq!(delivery(frame.as_bytes(), 9), None);
            assert_eq!(delivery(frame.as_bytes(), 11), None);
            (0..frame.len()).for_each(|cut| assert_eq!(delivery(&frame.as_bytes()[..cut], 10), None));
        }
        for other in [
            r#"{"topic":"a","offset":,"message":"0123456789"}"#,
            r#"{"toqic":"a","offset":1,"message":"0123456789"}"#,
            r#"{"topic":"a","offest":1,"message":"0123456789"}"#,
            r#"{"topic":"a","offset":1,"massage":"0123456789"}"#,
            r#"{"topic":"a","offset":1,"message":"0123456789","kex":"k07"}"#,
        ] {
            assert_eq!(delivery(other.as_bytes(), 10), None, "{other}");
        }
    }

    #[test]
    fn everything_else_is_read_as_what_it_is() {
        let told = |text: &str| told(text.as_bytes());
        assert_eq!(told(r#"{"hello":{"node":"n","client":"c","ping_s":25}}"#), Some(Told::Hello));
        let text = r#"{"gap":{"topic":"a","from":1,"to":9,"reason":"slow","conflated":3,"dropped":2}}"#;
        assert_eq!(told(text), Some(Told::Gap(Gaps { gaps: 1, conflated: 3, dropped: 2 })));
        let text = r#"{"ok":1,"positions":{"a":{"epoch":"x-1","offset":21,"recovered":true}}}"#;
        let position = Position { epoch: "x-1".to_owned(), offset: 21, recovered: Some(true) };
        assert_eq!(told(text), Some(Told::Joined([("a".to_owned(), position)].into())));
        assert_eq!(told(r#"{"bye":{"code":1012,"reason":"restart"}}"#), Some(Told::Bye));
        let text = r#"{"error":{"code":"bad_request","message":"no"}}"#;
        assert_eq!(told(text), Some(Told::Error("bad_request: no".to_owned())));
        assert_eq!(told("0000000000000001"), None);
        assert_eq!(told(r#"{"pong":1}"#), None);
    }

    #[test]
    fn who_had_something_says_since_when() {
        assert_eq!(subscribe("a", None), r#"{"id":1,"subscribe":["a"]}"#);
        let text = subscribe("a", Some(("x-1", 7)));
        let command: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(command["since"], serde_json::json!({ "a": { "epoch": "x-1", "offset": 7 } }));
    }
}
