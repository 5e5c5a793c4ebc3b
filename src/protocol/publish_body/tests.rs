//! What both parsers make of publish objects; they must agree.

use proptest::prelude::*;

use super::*;
use crate::{
    identity::{ClientId, Spelling, User},
    limits::{IDEMPOTENCY_KEY_BYTES_MAX, JSON_DEPTH_MAX, MESSAGE_KEY_BYTES_MAX, PUBLISH_TOPICS_MAX},
    publication::{Audience, Json, MessageKey},
};

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
    let cats = Topic::parse("cats").unwrap();
    assert_eq!(body, PublishBody::to_topic(cats, Message::text("are awesome"), PublishOptions::default()));
    assert!(body.content.audience.is_everyone() && !body.is_list && !body.receipt);
}

#[test]
fn audience_is_read() {
    let id = ClientId::random();
    let body = both(&format!(r#"{{"user_id":7,"exclude":"{id}","topic":"a","message":""}}"#), 10).unwrap();
    assert_eq!(body.content.audience, Audience { user: Some(User::number(7)), exclude: Some(id) });
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
    assert_eq!(both(r#"{"topic":"a","message":"ää"}"#, 3), Err(PublishBodyError::MessageTooLarge { max: 3 }));
}

fn refusal(body: &str) -> String {
    match both(body, 10) {
        Err(PublishBodyError::Malformed(why)) => why,
        other => panic!("{body} gives {other:?}"),
    }
}

fn names(body: &str) -> Vec<String> {
    let body = both(body, 10).expect("it is a publish object");
    assert!(body.is_list);
    body.topics.iter().map(|topic| topic.as_str().to_owned()).collect()
}

#[test]
fn topics_are_a_list_of_different_ones() {
    assert_eq!(names(r#"{"topics":["b","a","b","\u0061"],"message":"m"}"#), ["b", "a"]);
    assert_eq!(names(r#"{"data":1,"topics":["a"]}"#), ["a"]);
    let list = |count: usize| {
        let topics: Vec<String> = (0..count).map(|n| format!("topic-{n}")).collect();
        serde_json::json!({ "topics": topics, "message": "m" }).to_string()
    };
    assert_eq!(names(&list(PUBLISH_TOPICS_MAX)).len(), PUBLISH_TOPICS_MAX);
    assert!(refusal(&list(PUBLISH_TOPICS_MAX + 1)).contains("at most 16 topics"));
    assert!(refusal(r#"{"topics":[],"message":"m"}"#).contains("at least one topic"));
    assert!(refusal(r#"{"topics":["a",""],"message":"m"}"#).contains("topic 2 of the list"));
    for bad in [r#""a""#, "null", "[1]", "{}", r#"["a"],"topics":["a"]"#] {
        refusal(&format!(r#"{{"topics":{bad},"message":"m"}}"#));
    }
}

#[test]
fn topic_and_topics_exclude_each_other_and_so_do_message_and_data() {
    for (body, words) in [
        (r#"{"topic":"a","topics":["a"],"message":"m"}"#, "not both"),
        (r#"{"topics":["a"],"topic":"a","message":"m"}"#, "not both"),
        (r#"{"topic":"a","message":"m","data":1}"#, "not both"),
        (r#"{"topic":"a","data":1,"message":"m"}"#, "not both"),
        (r#"{"topic":"a","d\u0061ta":1,"message":"m"}"#, "not both"),
        (r#"{"topic":"a","message":"m","d\u0061ta":1}"#, "not both"),
        (r#"{"message":"m"}"#, "missing field `topic`"),
        (r#"{"data":"m"}"#, "missing field `topic`"),
        (r#"{"topic":"a"}"#, "missing field `message`"),
        (r#"{"topics":["a"]}"#, "missing field `message`"),
    ] {
        assert!(refusal(body).contains(words), "{body}");
    }
}

fn data(value: &str) -> Result<PublishBody, PublishBodyError> {
    let body = format!(r#"{{"topic":"a","data":{value} }}"#);
    let read = both(&body, 1 << 20)?;
    assert_eq!(read.content.message, Message::Data(Json::parse(value).unwrap()), "{body}");
    Ok(read)
}

#[test]
fn data_is_kept_byte_for_byte() {
    for value in [
        "null",
        "false",
        r#""""#,
        "-0.10e+02",
        "123456789012345678901234567890",
        r#"{"message":"a","data":"\u0041\/","topic":1,"topic":2}"#,
        "{\r\n  \"bid\" : 1.10,\n\t\"ask\":[ ] }",
        r#""\ud83d\udc08 ä 🐈""#,
    ] {
        data(value).expect(value);
    }
    for bad in
        ["", "nul", "01", "[1,]", "{1:2}", "1e999", r#""\ud800""#, r#"["\udc08\ud83d"]"#, "\"\n\"", "1 2"]
    {
        assert!(matches!(data(bad), Err(PublishBodyError::Malformed(_))), "{bad}");
    }
    let not_utf8 = b"{\"topic\":\"a\",\"data\":[\"\xff\"]}";
    assert!(parse_serde_json(&Bytes::from_static(not_utf8), 10).is_err());
    assert!(parse_simd_json(BytesMut::from(&not_utf8[..]), 10).is_err());
}

#[test]
fn data_is_nested_and_long_to_a_limit() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(data(&nested(JSON_DEPTH_MAX)).is_ok());
    assert!(data(&nested(JSON_DEPTH_MAX + 1)).is_err());
    assert!(data(&nested(500_000)).is_err());
    assert!(both(r#"{"topic":"a","data":[1, 2, 3]}"#, 9).is_ok());
    let error = both(r#"{"topic":"a","data":[1, 2, 3]}"#, 8).unwrap_err();
    assert_eq!(error, PublishBodyError::MessageTooLarge { max: 8 });
}

#[test]
fn large_data_with_escapes_is_whole_and_stays_in_the_body() {
    let value = format!(r#"["\n{}"]"#, r"\u0041".repeat(MESSAGE_SHARED_FROM));
    for body in [
        format!(r#"{{"topic":"a\u0041","data":{value}}}"#),
        format!(r#"{{"topic":"a\u0041","d\u0061ta":{value}}}"#),
        format!(r#"{{"x":{{"message":"\n"}},"topic":"a\u0041","data":{value}}}"#),
        format!(
            r#"{{"x":["message","\n"],"topic":"message","key":"message","topic":"a\u0041","data":{value}}}"#
        )
        .replace(r#""topic":"message","#, ""),
    ] {
        let body = Bytes::from(body);
        let span = body.as_ptr_range();
        let read = parse(body, 1 << 20).unwrap();
        assert_eq!(read.content.message, Message::Data(Json::parse(value.clone()).unwrap()));
        assert!(span.contains(&read.content.message.bytes().as_ptr()));
    }
}

#[test]
fn simd_json_gets_only_what_cannot_have_data() {
    for sure in [
        r#"{"message":"#,
        r#" { "topic" : "data" , "message" : "#,
        r#"{"topics":["data","message"],"x":{"data":[{}]},"n":-1e3,"t":true,"message""#,
    ] {
        assert!(names_message_first(sure.as_bytes()), "{sure}");
    }
    for unsure in [
        "",
        "{",
        r#"{"topic":"message""#,
        r#"{"topic":["message"]"#,
        r#"{"x":{"message":1}"#,
        r#"{"data":1,"message""#,
        r#"{"d\u0061ta":1,"message""#,
        r#"{"topic":"\"","message""#,
        r#"{"messag"#,
        r#"{"message"#,
    ] {
        assert!(!names_message_first(unsure.as_bytes()), "{unsure}");
    }
}

#[test]
fn options_are_read_and_checked() {
    let id = ClientId::random();
    let body = format!(
        r#"{{"key":"k\u0031","idempotency_key":"i","receipt":true,"exclude":"{id}","topic":"a","message":"m"}}"#
    );
    let body = both(&body, 10).unwrap();
    assert_eq!(body.content.key, Some(MessageKey::parse("k1").unwrap()));
    assert_eq!(body.idempotency_key, Some(IdempotencyKey::parse("i").unwrap()));
    assert!(body.receipt);
    assert_eq!(body.content.audience.exclude, Some(id));

    let field = |field: &str| format!(r#"{{"topic":"a","message":"m",{field}}}"#);
    assert!(!both(&field(r#""receipt":false"#), 10).unwrap().receipt);
    let long_key = format!(r#""key":"{}""#, "k".repeat(MESSAGE_KEY_BYTES_MAX + 1));
    let long_name = format!(r#""idempotency_key":"{}""#, "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX + 1));
    for bad in [
        r#""key":"""#,
        r#""key":null"#,
        r#""key":1"#,
        r#""key":"a","key":"a""#,
        &long_key,
        r#""idempotency_key":"""#,
        r#""idempotency_key":1"#,
        r#""idempotency_key":"a","idempotency_key":"a""#,
        &long_name,
        r#""receipt":null"#,
        r#""receipt":1"#,
        r#""receipt":"true""#,
        r#""receipt":true,"receipt":true"#,
        r#""exclude":null"#,
    ] {
        refusal(&field(bad));
    }
}

#[test]
fn unknown_fields_are_passed_over() {
    assert_eq!(message(r#"{"later":{"a":[1,{}]},"topic":"a","message":"m","x":null}"#), "m");
}

#[test]
fn parsers_agree_on_which_numbers_there_are() {
    let body = |number: &str| format!(r#"{{"message":"m","topic":"a","later":{number}}}"#);
    for number in [
        "-0",
        "0e999",
        "0.1e-400",
        "-1e-999999999999",
        "1.7976931348623157e308",
        "18446744073709551616",
        "-9223372036854775809",
        "123456789012345678901234567890",
    ] {
        assert!(both(&body(number), 10).is_ok(), "{number}");
    }
    for bad in ["1e309", "-1e309", "1e99999999999", "+1", "01", "1.", ".1", "1e", "-", "0x1", "NaN", "1_0"] {
        assert!(both(&body(bad), 10).is_err(), "{bad}");
    }
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

/// Any JSON value of little depth.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "\\PC{0,8}|[\\x00-\\x7f]{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into);
        let pairs = prop::collection::vec(("[a-z\"]{0,4}", inner), 0..4);
        prop_oneof![list, pairs.prop_map(|pairs| pairs.into_iter().collect::<serde_json::Value>())]
    })
}

/// A publish object with the meaning of `body`.
fn written(body: &PublishBody) -> String {
    let mut json = serde_json::Map::new();
    let topics: Vec<&str> = body.topics.iter().map(Topic::as_str).collect();
    match body.is_list {
        true => json.insert("topics".into(), topics.into()),
        false => json.insert("topic".into(), topics[0].into()),
    };
    let Content { message, audience, key } = &body.content;
    let text = std::str::from_utf8(message.bytes()).expect("what comes as JSON is UTF-8");
    if let Message::Text(_) = message {
        json.insert("message".into(), text.into());
    }
    match audience.user.as_ref().map(User::spelling) {
        Some(Spelling::Number(number)) => drop(json.insert("user_id".into(), number.into())),
        Some(Spelling::Name(name)) => drop(json.insert("user_id".into(), name.into())),
        None => {}
    }
    if let Some(id) = audience.exclude {
        json.insert("exclude".into(), id.to_string().into());
    }
    if let Some(key) = key {
        json.insert("key".into(), key.as_str().into());
    }
    if let Some(key) = &body.idempotency_key {
        json.insert("idempotency_key".into(), key.as_str().into());
    }
    json.insert("receipt".into(), body.receipt.into());
    let json = serde_json::Value::from(json).to_string();
    match message {
        Message::Data(_) => format!(r#"{{"data":{text},{}"#, &json[1..]),
        _ => json,
    }
}

/// What is accepted means the same when it is written again.
fn means_the_same_again(body: &PublishBody) {
    assert_eq!(both(&written(body), 1 << 20).as_ref(), Ok(body));
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

    #[test]
    fn any_object_is_read_by_both_parsers_and_means_the_same_again(
        topics in prop::collection::vec("[a-c]{1,2}", 1..4),
        text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}",
        value in any_json(),
        options in any::<[bool; 6]>(),
        unknown in any_json(),
    ) {
        let mut json = serde_json::json!({ "later": unknown });
        let [is_list, is_data, has_user, has_key, has_name, receipt] = options;
        if is_list { json["topics"] = topics.into() } else { json["topic"] = (&*topics[0]).into() }
        if is_data { json["data"] = value.clone() } else { json["message"] = (&*text).into() }
        if has_user { json["user_id"] = 7.into() }
        if has_key { json["key"] = "k\"".into() }
        if has_name { json["idempotency_key"] = "i\\".into() }
        if receipt { json["receipt"] = true.into() }
        let body = both(&json.to_string(), 1 << 20).expect("it is a publish object");
        match is_data {
            true => prop_assert_eq!(&body.content.message, &Message::Data(Json::parse(value.to_string()).unwrap())),
            false => prop_assert_eq!(&body.content.message, &Message::text(text)),
        }
        means_the_same_again(&body);
    }

    #[test]
    fn no_bytes_make_the_parsers_panic_or_disagree(
        parts in prop::collection::vec(prop::sample::select(PARTS), 0..24),
    ) {
        let body = parts.concat();
        if let Ok(body) = both(&body, 100) {
            means_the_same_again(&body);
        }
        let body = format!(r#"{{"message":"m","topic":"a",{body}"#);
        if let Ok(body) = both(&body, 100) {
            means_the_same_again(&body);
        }
    }
}

/// What publish objects are made of, and what breaks them.
const PARTS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    " ",
    "\n",
    "\"",
    "\\",
    "1",
    "-",
    "e",
    ".",
    "0",
    "null",
    "true",
    "x",
    "é",
    r#"\u0041"#,
    r#"\ud800"#,
    r#""a""#,
    r#""topic""#,
    r#""topics""#,
    r#""message""#,
    r#""data""#,
    r#""d\u0061ta""#,
    r#""key""#,
    r#""receipt""#,
    r#""user_id""#,
    r#""topic":"a","#,
    r#""message":"m","#,
    r#""data":[1],"#,
    r#""x":1,"#,
    r#""x":1}"#,
];
