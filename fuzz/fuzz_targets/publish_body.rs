//! Any bytes as a publish object: no panic, both parsers agree, and what is accepted means the same when it is written
//! again. As `data` it has to be one JSON value, and comes through byte for byte.

#![no_main]

use bytes::{Bytes, BytesMut};
use fanfare::{
    identity::{Spelling, User},
    protocol::publish_body::{
        PublishBody, PublishBodyError, SIMD_JSON_FROM, parse, parse_serde_json, parse_simd_json,
    },
    publication::{Content, Message},
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

const MAX_MESSAGE: usize = 100;

fuzz_target!(|data: &[u8]| {
    holds(data);
    // simd-json reads only what has named its message, and `parse` hands it only what is long and has escapes.
    holds(&[br#"{"message":"m","#, data].concat());
    let long = format!(r#"{{"message":"\n","x":"{}","#, "x".repeat(SIMD_JSON_FROM));
    holds(&[long.as_bytes(), data].concat());

    if let Some(PublishBody { content: Content { message: Message::Data(value), .. }, .. }) =
        holds(&[br#"{"topic":"a","data":"#, data, b"}"].concat())
    {
        serde_json::from_slice::<Value>(value.as_bytes()).expect("data is JSON");
    }
});

fn holds(body: &[u8]) -> Option<PublishBody> {
    let read = both(body).ok()?;
    assert_eq!(both(written(&read).as_bytes()).as_ref(), Ok(&read));
    Some(read)
}

/// What all ways to read it say; they must agree, except in the words of an error.
fn both(body: &[u8]) -> Result<PublishBody, PublishBodyError> {
    let read = parse_serde_json(&Bytes::copy_from_slice(body), MAX_MESSAGE);
    for other in
        [parse_simd_json(BytesMut::from(body), MAX_MESSAGE), parse(Bytes::copy_from_slice(body), MAX_MESSAGE)]
    {
        match (&read, &other) {
            (Err(PublishBodyError::Malformed(_)), Err(PublishBodyError::Malformed(_))) => {}
            _ => assert_eq!(read, other),
        }
    }
    read
}

/// A publish object with the same meaning.
fn written(body: &PublishBody) -> String {
    let topics: Vec<&str> = body.topics.iter().map(|topic| topic.as_str()).collect();
    let mut json = match body.is_list {
        true => json!({ "topics": topics }),
        false => json!({ "topic": topics[0] }),
    };
    let mut set = |name: &str, value: Value| {
        let fields: &mut Map<String, Value> = json.as_object_mut().expect("it is an object");
        fields.insert(name.to_owned(), value);
    };
    match body.content.audience.user.as_ref().map(User::spelling) {
        Some(Spelling::Number(number)) => set("user_id", number.into()),
        Some(Spelling::Name(name)) => set("user_id", name.into()),
        None => {}
    }
    if let Some(client) = body.content.audience.exclude {
        set("exclude", client.to_string().into());
    }
    if let Some(key) = &body.content.key {
        set("key", key.as_str().into());
    }
    if let Some(key) = &body.idempotency_key {
        set("idempotency_key", key.as_str().into());
    }
    set("receipt", body.receipt.into());
    let text = std::str::from_utf8(body.content.message.bytes()).expect("what comes as JSON is UTF-8");
    match &body.content.message {
        Message::Data(_) => format!(r#"{{"data":{text},{}"#, &json.to_string()[1..]),
        _ => {
            set("message", text.into());
            json.to_string()
        }
    }
}
