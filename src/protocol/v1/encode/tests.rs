//! That what is written is JSON, means what it should, and takes the memory it needs.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    protocol::publish_answer::TopicFailure,
    publication::{Epoch, Json, MessageKey},
};

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn read(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(json)))
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"ahead".to_vec();
    write(&mut out);
    assert!(out.starts_with(b"ahead"), "what was there stays there");
    let json = out.split_off(5);
    read(&json);
    String::from_utf8(json).unwrap()
}

fn id(json: &str) -> CommandId {
    Echo::parse(json).unwrap()
}

/// Decodes what [`STANDARD`] wrote.
fn decoded(base64: &Value) -> Vec<u8> {
    STANDARD.decode(base64.as_str().expect("it is a string")).expect("it is base64")
}

#[test]
fn every_part_of_a_message_that_needs_it_is_escaped() {
    let content =
        Content { key: MessageKey::parse("k\"\n").ok(), ..Message::text("\"\\\u{1f}\u{0}é\n").into() };
    let json = message(&topic("a\"b\\"), 0, &content, &[topic("\"")]);
    let wanted = json!({
        "topic": "a\"b\\", "offset": 0, "message": "\"\\\u{1f}\u{0}é\n", "key": "k\"\n", "also": ["\""],
    });
    assert_eq!(read(&json), wanted);
}

#[test]
fn data_is_copied_byte_for_byte() {
    let data = "{ \"a\\u0041\" : [ 1.0 ,\r\n 1e2 ] }";
    let json = message(&topic("a"), u64::MAX, &Message::Data(Json::parse(data).unwrap()).into(), &[]);
    assert_eq!(json, format!(r#"{{"topic":"a","offset":18446744073709551615,"data":{data}}}"#));
}

#[test]
fn binary_is_base64_of_every_length() {
    for length in 0..10_u8 {
        let bytes: Vec<u8> = (0..length).map(|n| 250 + n % 6).collect();
        let json = message(&topic("a"), 1, &Message::binary(bytes.clone()).into(), &[]);
        assert_eq!(decoded(&read(&json)["base64"]), bytes);
    }
}

#[test]
fn message_takes_exactly_its_memory_unless_something_is_escaped() {
    let also = [topic("b"), topic("cc")];
    for offset in [0, 9, 10, 99_999, u64::MAX] {
        for said in
            [Message::text("größe"), Message::Data(Json::parse("[1]").unwrap()), Message::binary(vec![0; 4])]
        {
            let mut content = Content::from(said);
            for key in [None, MessageKey::parse("key").ok()] {
                content.key = key;
                for also in [&[], &also[..1], &also[..]] {
                    let json = message(&topic("a"), offset, &content, also);
                    assert_eq!(json.len(), message_length(&topic("a"), offset, &content, also));
                }
            }
        }
    }
}

#[test]
fn answers_echo_the_id_or_null() {
    let epoch = Epoch { node: 0xa, incarnation: 3 };
    let position = Position { epoch, offset: 22 };
    let long = id(r#""x\u0041""#);
    assert_eq!(written(|out| ok(out, Some(&long))), r#"{"ok":"x\u0041"}"#);
    assert_eq!(written(|out| ok(out, None)), r#"{"ok":null}"#);
    assert_eq!(written(|out| ok_positions(out, None, &[])), r#"{"ok":null,"positions":{}}"#);
    let joined = |name: &str, recovered| Joined { topic: topic(name), position, recovered };
    assert_eq!(
        written(|out| ok_positions(out, Some(&id("1")), &[joined("a\"", None), joined("b", Some(false))])),
        r#"{"ok":1,"positions":{"a\"":{"epoch":"000000000000000a-3","offset":22},"b":{"epoch":"000000000000000a-3","offset":22,"recovered":false}}}"#
    );
    assert_eq!(
        written(|out| ok_position(out, Some(&id("4")), &topic("a"), &Stands { position, receipt: None })),
        r#"{"ok":4,"position":{"topic":"a","offset":22,"epoch":"000000000000000a-3"}}"#
    );
    assert_eq!(written(|out| pong(out, &id("1.50"))), r#"{"pong":1.50}"#);
}

#[test]
fn results_are_in_the_order_given_and_failures_among_them() {
    let position = Position { epoch: Epoch { node: 0xa, incarnation: 3 }, offset: 22 };
    let stands = Stands { position, receipt: None };
    let (a, b) = (topic("a"), topic("b"));
    let failure = TopicFailure { code: Code::Full, message: "no \"room\"" };
    let results = [
        TopicResult { topic: &a, outcome: Ok(stands) },
        TopicResult { topic: &b, outcome: Err(failure) },
        TopicResult { topic: &a, outcome: Ok(stands) },
    ];
    let json = written(|out| ok_results(out, Some(&id("4")), &results));
    let taken = json!({ "topic": "a", "offset": 22, "epoch": "000000000000000a-3" });
    let refused = json!({ "topic": "b", "error": { "code": "full", "message": "no \"room\"" } });
    assert_eq!(read(json.as_bytes()), json!({ "ok": 4, "results": [taken, refused, taken] }));
    assert_eq!(written(|out| ok_results(out, None, &[])), r#"{"ok":null,"results":[]}"#);
}

#[test]
fn hello_tells_what_there_is() {
    let client = ClientId::random();
    let user = User::parse("a\"b").unwrap();
    let greeting = Hello { node: "n\"1", client, ping_ms: 25_000, max_message: 65_536, user: Some(&user) };
    let json = written(|out| hello(out, &greeting));
    let inside = json!({
        "node": "n\"1", "client": client.to_string(), "ping_s": 25, "max_message": 65_536, "user": "a\"b",
    });
    assert_eq!(read(json.as_bytes()), json!({ "hello": inside }));
    let json = written(|out| hello(out, &Hello { user: None, ..greeting }));
    assert_eq!(read(json.as_bytes())["hello"].get("user"), None);
}

#[test]
fn seconds_are_exact() {
    for (milliseconds, seconds) in
        [(0, "0"), (1, "0.001"), (100, "0.1"), (120, "0.12"), (25_000, "25"), (3_600_005, "3600.005")]
    {
        assert_eq!(written(|out| push_seconds(out, milliseconds)), seconds);
    }
}

#[test]
fn errors_carry_the_id_if_there_is_one() {
    assert_eq!(
        written(|out| error(out, Code::Full, "no \"room\"", Some(&id("\"7\"")))),
        r#"{"error":{"code":"full","message":"no \"room\"","id":"7"}}"#
    );
    assert_eq!(written(|out| error(out, Code::Full, "", None)), r#"{"error":{"code":"full","message":""}}"#);
    assert!(written(|out| error(out, Code::Full, &"é".repeat(60_000), None)).len() < 600);
}

#[test]
fn gap_and_bye_say_all_there_is() {
    for (reason, word) in
        [(GapReason::Slow, "slow"), (GapReason::History, "history"), (GapReason::Reset, "reset")]
    {
        let lost = Gap { from: 1, to: 2, reason, conflated: 0, dropped: u64::MAX };
        let json = written(|out| gap(out, &topic("a\""), &lost));
        let inside = json!({
            "topic": "a\"", "from": 1, "to": 2, "reason": word, "conflated": 0, "dropped": u64::MAX,
        });
        assert_eq!(read(json.as_bytes()), json!({ "gap": inside }));
    }
    assert_eq!(
        written(|out| bye(out, CloseCode::REPLACED, "re\"placed", None)),
        r#"{"bye":{"code":4409,"reason":"re\"placed"}}"#
    );
}

proptest! {
    #[test]
    fn any_text_decodes_to_itself(
        text in "\\PC{0,80}|[\\x00-\\x7f]{0,80}",
        name in "[^\\p{Cc}]{1,10}",
        key in prop::option::of("\\PC{1,10}|[\\x00-\\x7f]{1,10}"),
        offset in any::<u64>(),
        also in prop::collection::vec("[^\\p{Cc}]{1,10}", 0..3),
    ) {
        let key = key.map(|key| MessageKey::parse(&key).expect("it is short"));
        let content = Content { key: key.clone(), ..Message::text(text.clone()).into() };
        let topics: Vec<Topic> = also.iter().map(|name| topic(name)).collect();
        let json = read(&message(&topic(&name), offset, &content, &topics));
        prop_assert_eq!(&json["message"], &text);
        prop_assert_eq!(&json["topic"], &name);
        prop_assert_eq!(&json["offset"], offset);
        prop_assert_eq!(json.get("key").and_then(Value::as_str), key.as_ref().map(MessageKey::as_str));
        let others = if also.is_empty() { None } else { Some(json!(also)) };
        prop_assert_eq!(json.get("also"), others.as_ref());
    }

    #[test]
    fn any_bytes_decode_to_themselves(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let json = read(&message(&topic("a"), 1, &Message::binary(bytes.clone()).into(), &[]));
        prop_assert_eq!(decoded(&json["base64"]), bytes);
    }
}
