//! What the small server says in `fanfare.v1`, and what it keeps for those who come back: frames, and each topic's
//! history from its beginning.

use std::collections::HashMap;

/// The epoch of every topic.
const EPOCH: &str = "x-1";

/// Everything published, by topic; offsets count from one.
#[derive(Default)]
pub(super) struct History(HashMap<String, Vec<Vec<u8>>>);

/// What a client asks for: one topic, and from behind which offset if it was there before.
pub(super) struct Subscription {
    pub(super) topic: String,
    pub(super) since: Option<u64>,
}

impl Subscription {
    pub(super) fn parse(text: &str) -> Self {
        let command: serde_json::Value = serde_json::from_str(text).expect("a command is JSON");
        let topic = command["subscribe"][0].as_str().expect("a topic").to_owned();
        let since = command["since"].get(&topic).map(|since| {
            assert_eq!(since["epoch"], EPOCH, "the epoch it was told");
            since["offset"].as_u64().expect("an offset")
        });
        Self { topic, since }
    }
}

impl History {
    /// Keeps a message, and gives its offset.
    pub(super) fn keep(&mut self, topic: &str, body: &[u8]) -> u64 {
        let messages = self.0.entry(topic.to_owned()).or_default();
        messages.push(body.to_vec());
        messages.len() as u64
    }

    pub(super) fn head(&self, topic: &str) -> u64 {
        self.0.get(topic).map_or(0, |messages| messages.len() as u64)
    }

    /// The frames of what came behind `since`.
    pub(super) fn behind(&self, topic: &str, since: u64) -> Vec<Vec<u8>> {
        let messages = self.0.get(topic).map_or(&[][..], |messages| messages);
        let kept = messages.iter().zip(1..).skip(since as usize);
        kept.map(|(body, offset)| message(topic, offset, body)).collect()
    }
}

pub(super) fn hello() -> Vec<u8> {
    text_frame(br#"{"hello":{"node":"n","client":"c","ping_s":25,"max_message":65536}}"#)
}

pub(super) fn joined(topic: &str, offset: u64, recovered: Option<bool>) -> Vec<u8> {
    let mut position = serde_json::json!({ "epoch": EPOCH, "offset": offset });
    if let Some(recovered) = recovered {
        position["recovered"] = recovered.into();
    }
    let answer = serde_json::json!({ "ok": 1, "positions": { topic: position } });
    text_frame(answer.to_string().as_bytes())
}

pub(super) fn message(topic: &str, offset: u64, body: &[u8]) -> Vec<u8> {
    let head = format!(r#"{{"topic":"{topic}","offset":{offset},"message":""#);
    text_frame(&[head.as_bytes(), body, br#""}"#].concat())
}

pub(super) fn gap(topic: &str, to: u64, dropped: u64, reason: &str) -> Vec<u8> {
    let from = to.saturating_sub(dropped) + 1;
    let gap = format!(
        r#"{{"gap":{{"topic":"{topic}","from":{from},"to":{to},"reason":"{reason}","conflated":0,"dropped":{dropped}}}}}"#
    );
    text_frame(gap.as_bytes())
}

/// A text frame as a server sends it.
pub(super) fn text_frame(body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match body.len() {
        length @ 0..126 => frame.push(length as u8),
        length @ 126..=0xFFFF => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(body);
    frame
}
