//! What is a command, what is none, and that an error carries the id.

use proptest::prelude::*;

use super::*;
use crate::{
    limits::{ECHO_BYTES_MAX, JSON_DEPTH_MAX, LAST_MESSAGES_MAX},
    publication::{Json, Message},
};

const LIMITS: CommandLimits = CommandLimits { max_topics: 3, max_message: 20 };

fn read(text: &str) -> Result<Command, CommandError> {
    parse(text.as_bytes(), &LIMITS)
}

fn what(text: &str) -> What {
    read(text).unwrap_or_else(|error| panic!("{text}: {error}")).what
}

/// The error, which has no id.
fn refusal(text: &str) -> CommandError {
    let error = read(text).expect_err(text);
    assert_eq!(error.id, None, "{text}");
    error
}

fn topics(names: &[&str]) -> Arc<[Topic]> {
    names.iter().map(|name| Topic::parse(name).unwrap()).collect()
}

fn subscription(names: &[&str]) -> Subscription {
    Subscription { topics: topics(names), since: TopicMap::default(), last: None }
}

#[test]
fn each_command_is_read() {
    assert_eq!(what(r#"{"subscribe":["b","a","b"]}"#), What::Subscribe(subscription(&["b", "a"])));
    assert_eq!(what(r#" {"subscribe" : [ ] } "#), What::Subscribe(subscription(&[])));
    assert_eq!(what(r#"{"unsubscribe":["a"]}"#), What::Unsubscribe(topics(&["a"])));
    assert_eq!(what(r#"{"topics":["a"]}"#), What::Topics(subscription(&["a"])));
    assert_eq!(what(r#"{"topics":[]}"#), What::Topics(subscription(&[])));
    let ping = |json: &str| What::Ping(Echo::parse(json).unwrap());
    assert_eq!(what(r#"{"ping":123}"#), ping("123"));
    assert_eq!(what(r#"{"ping":"\u0031"}"#), ping(r#""\u0031""#));
    assert_eq!(what(r#"{"auth":"a.b.c"}"#), What::Auth(Bearer::new("a.b.c".into())));
    assert!(!format!("{:?}", what(r#"{"auth":"a.b.c"}"#)).contains("a.b.c"), "it is a secret");
}

#[test]
fn publish_takes_what_a_publish_object_takes() {
    let command = r#"{"publish":{"topics":["a","b"],"data":{"x": 1},"key":"k","receipt":true},"id":4}"#;
    let What::Publish(body) = what(command) else { panic!("it is a publish") };
    assert_eq!(&body.topics[..], &topics(&["a", "b"])[..]);
    assert_eq!(body.content.message, Message::Data(Json::parse(r#"{"x": 1}"#).unwrap()));
    assert_eq!(body.content.key.as_ref().map(|key| key.as_str()), Some("k"));
    assert!(body.receipt);
    let command = r#"{"publish":{"topic":"a","message":"\"m\"","later":1}}"#;
    let What::Publish(body) = what(command) else { panic!("it is a publish") };
    assert_eq!(body.content, Message::text("\"m\"").into());

    let error = read(r#"{"publish":{"topic":"a","message":"123456789012345678901"},"id":4}"#).unwrap_err();
    assert_eq!((error.code, error.id.unwrap().as_json()), (Code::MessageTooLarge, "4"));
    for bad in ["null", "[]", "{}", r#"{"topic":"a"}"#, r#"{"topic":"a","message":"m","data":1}"#] {
        let error = refusal(&format!(r#"{{"publish":{bad}}}"#));
        assert_eq!(error.code, Code::BadRequest, "{bad}");
    }
}

#[test]
fn id_is_echoed_as_it_is_written() {
    let long = format!("\"{}\"", "x".repeat(ECHO_BYTES_MAX));
    for id in ["1", "-1.50e2", r#""""#, r#""a\u0041\/ é""#, "123456789012345678901234567890", &long] {
        for text in [
            format!(r#"{{"id":{id},"ping":1}}"#),
            format!(r#"{{"ping":1,"x":[{{}}],"id": {id} }}"#),
            format!(r#"{{"ping":1,"i\u0064":{id}}}"#),
        ] {
            assert_eq!(read(&text).expect(&text).id.unwrap().as_json(), id);
        }
    }
    assert_eq!(read(r#"{"ping":1}"#).unwrap().id, None);
}

#[test]
fn id_is_echoed_with_an_error_wherever_it_stands() {
    for text in [
        r#"{"id":"x","subscribe":1}"#,
        r#"{"subscribe":1,"id":"x"}"#,
        r#"{"subscribe":[""],"since":{"a":[{"b":null}]},"id":"x"}"#,
        r#"{"id":"x","subscribe":["a","b","c","d"]}"#,
        r#"{"ping":1,"ping":2,"id":"x"}"#,
        r#"{"ping":1,"unsubscribe":[],"id":"x"}"#,
        r#"{"id":"x"}"#,
        r#"{"frobnicate":[1],"id":"x"}"#,
        r#"{"publish":{"topic":"a"},"id":"x"}"#,
        r#"{"ping":1,"last":1,"id":"x"}"#,
        r#"{"ping":"\ud800","id":"x"}"#,
        r#"{"ping":1,"id":"x"}x"#,
        r#"{"id":"x","ping":1"#,
        r#"{"id":"x",,}"#,
    ] {
        let error = read(text).expect_err(text);
        assert_eq!(error.id.as_ref().map(Echo::as_json), Some(r#""x""#), "{text}");
        let mut out = Vec::new();
        error.encode(&mut out);
        let json: serde_json::Value = serde_json::from_slice(&out).expect("an answer is JSON");
        assert_eq!((&json["error"]["code"], &json["error"]["id"]), (&"bad_request".into(), &"x".into()));
        assert!(json["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    let deep = format!(r#"{{"x":{}1{},"id":"x"}}"#, "[".repeat(70), "]".repeat(70));
    assert_eq!(read(&deep).unwrap_err().id.unwrap().as_json(), r#""x""#);
}

#[test]
fn id_that_is_none_is_an_error_without_one() {
    let long = format!("\"{}\"", "x".repeat(ECHO_BYTES_MAX + 1));
    let digits = "1".repeat(ECHO_BYTES_MAX + 1);
    for id in ["null", "true", "[1]", "{}", "1e999", r#""\ud800""#, "1,\"id\":1", &long, &digits] {
        refusal(&format!(r#"{{"ping":1,"id":{id}}}"#));
        refusal(&format!(r#"{{"id":{id},"ping":1}}"#));
    }
    for ping in ["null", "true", "[]", "{}", "1e999", &long, &digits] {
        refusal(&format!(r#"{{"ping":{ping}}}"#));
    }
}

#[test]
fn since_is_read_for_topics_of_the_list() {
    let epoch = Epoch { node: 10, incarnation: 3 };
    let since = format!(r#"{{"a":{{"offset":17,"epoch":"{epoch}"}},"b":{{"epoch":"x","offset":0,"y":[]}}}}"#);
    for text in [
        format!(r#"{{"subscribe":["a","b","c"],"since":{since},"last":2}}"#),
        format!(r#"{{"last":2,"since":{since},"topics":["a","b","c"]}}"#),
    ] {
        let (What::Subscribe(wanted) | What::Topics(wanted)) = what(&text) else { panic!("{text}") };
        let a = Since { epoch: Some(epoch), offset: 17 };
        let b = Since { epoch: None, offset: 0 };
        let pairs = topics(&["a", "b"]).iter().cloned().zip([a, b]).collect();
        assert_eq!((wanted.since, wanted.last), (pairs, Some(2)));
    }
    let none = What::Subscribe(subscription(&["a"]));
    assert_eq!(what(r#"{"subscribe":["a"],"since":{}}"#), none);

    let with = |since: &str| refusal(&format!(r#"{{"subscribe":["a"],"since":{since}}}"#)).message;
    assert!(with(r#"{"b":{"epoch":"x","offset":1}}"#).contains(r#"names "b", which is not in the list"#));
    assert!(with(r#"{"a":{"epoch":"x","offset":1},"\u0061":{"epoch":"x","offset":1}}"#).contains("twice"));
    let four = r#"{"a":{"epoch":"","offset":1},"b":{"epoch":"","offset":1},"c":{"epoch":"","offset":1},
        "d":{"epoch":"","offset":1}}"#;
    assert!(with(four).contains("more than 3 topics"));
}

#[test]
fn since_is_an_epoch_and_an_integer() {
    for at in [
        "null",
        "17",
        "[]",
        "{}",
        r#"{"epoch":"x"}"#,
        r#"{"offset":1}"#,
        r#"{"epoch":null,"offset":1}"#,
        r#"{"epoch":1,"offset":1}"#,
        r#"{"epoch":"x","offset":"1"}"#,
        r#"{"epoch":"x","offset":1.0}"#,
        r#"{"epoch":"x","offset":-1}"#,
        r#"{"epoch":"x","offset":null}"#,
        r#"{"epoch":"x","offset":18446744073709551616}"#,
        r#"{"epoch":"x","offset":1,"offset":1}"#,
        r#"{"epoch":"x","epoch":"x","offset":1}"#,
    ] {
        refusal(&format!(r#"{{"subscribe":["a"],"since":{{"a":{at}}}}}"#));
    }
    let last = r#"{"subscribe":["a"],"since":{"a":{"epoch":"x","offset":18446744073709551615}}}"#;
    let What::Subscribe(wanted) = what(last) else { panic!("it is a subscribe") };
    assert_eq!(wanted.since[&topics(&["a"])[0]].offset, u64::MAX);
    for bad in ["null", "[]", r#"{"":{"epoch":"x","offset":1}}"#] {
        refusal(&format!(r#"{{"subscribe":["a"],"since":{bad}}}"#));
    }
}

#[test]
fn last_has_a_limit() {
    for last in [1, LAST_MESSAGES_MAX] {
        let What::Subscribe(wanted) = what(&format!(r#"{{"subscribe":["a"],"last":{last}}}"#)) else {
            panic!("it is a subscribe")
        };
        assert_eq!(wanted.last, Some(last));
    }
    for bad in
        ["0", "-1", "1.0", "null", "\"1\"", "true", "99999999999", &(LAST_MESSAGES_MAX + 1).to_string()]
    {
        refusal(&format!(r#"{{"subscribe":["a"],"last":{bad}}}"#));
    }
}

#[test]
fn since_and_last_go_with_topics_to_join_only() {
    for command in [r#""unsubscribe":["a"]"#, r#""ping":1"#, r#""publish":{"topic":"a","message":"m"}"#] {
        for past in [r#""last":1"#, r#""since":{}"#, r#""since":{"a":{"epoch":"x","offset":1}}"#] {
            let error = refusal(&format!("{{{past},{command}}}"));
            assert!(error.message.contains("go with `subscribe` and `topics`"), "{error}");
        }
    }
}

#[test]
fn exactly_one_command_is_taken() {
    let commands = [
        r#""subscribe":["a"]"#,
        r#""unsubscribe":["a"]"#,
        r#""topics":["a"]"#,
        r#""publish":{"topic":"a","message":"m"}"#,
        r#""ping":1"#,
    ];
    for one in commands {
        for other in commands {
            let error = refusal(&format!("{{{one},{other}}}"));
            assert!(error.message.contains("holds one command"), "{error}");
        }
        what(&format!(r#"{{"later":{{"subscribe":1}},{one},"subscribed":[]}}"#));
    }
    for none in ["{}", r#"{"since":{}}"#, r#"{"subscribed":["a"]}"#, r#"{"Subscribe":["a"]}"#, r#"{"x":1}"#] {
        assert!(refusal(none).message.contains("there is no command"), "{none}");
    }
}

#[test]
fn what_is_not_one_whole_object_is_refused() {
    for bad in [
        "",
        " ",
        "ping",
        "null",
        "1",
        "[]",
        r#"["ping"]"#,
        r#""ping""#,
        "{",
        r#"{"ping":1}{}"#,
        r#"{"ping":1}x"#,
        r#"{"ping":1,}"#,
        r#"{ping:1}"#,
        r#"{"subscribe":"a"}"#,
        r#"{"subscribe":null}"#,
        r#"{"subscribe":[1]}"#,
        r#"{"subscribe":["a\n"]}"#,
        r#"{"subscribe":["\ud800"]}"#,
        r#"{"unsubscribe":{}}"#,
        r#"{"topics":[[]]}"#,
        r#"{"subscribe":["a"],"last":1,"last":1}"#,
        r#"{"subscribe":["a"],"since":{},"since":{}}"#,
    ] {
        assert_eq!(refusal(bad).code, Code::BadRequest, "{bad}");
    }
    assert!(parse(b"{\"ping\":\"\xff\"}", &LIMITS).is_err());
    assert_eq!(CommandError::binary().code, Code::BadRequest);
}

#[test]
fn list_is_bounded_and_says_which_topic_is_bad() {
    for command in ["subscribe", "unsubscribe", "topics"] {
        what(&format!(r#"{{"{command}":["a","b","c","a"]}}"#));
        let error = refusal(&format!(r#"{{"{command}":["a","b","c","d"]}}"#));
        assert!(error.message.contains("at most 3 topics"), "{error}");
        let error = refusal(&format!(r#"{{"{command}":["a",""]}}"#));
        assert!(error.message.contains("topic 2 of the list"), "{error}");
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    what(&format!(r#"{{"x":{},"ping":1}}"#, nested(JSON_DEPTH_MAX)));
    refusal(&format!(r#"{{"x":{},"ping":1}}"#, nested(JSON_DEPTH_MAX + 1)));
    for deep in [
        "[".repeat(60_000),
        r#"{"x":"#.repeat(20_000),
        nested(30_000),
        format!(r#"{{"ping":{}"#, "[".repeat(60_000)),
        format!(r#"{{"since":{}"#, r#"{"a":"#.repeat(20_000)),
        format!(r#"{{"publish":{{"topic":"a","data":{}}}}}"#, nested(30_000)),
    ] {
        refusal(&deep);
    }
}

/// The same command; `None` for a publish, whose object has tests of its own.
fn written(command: &Command) -> Option<String> {
    let names = |topics: &[Topic]| topics.iter().map(Topic::as_str).collect::<serde_json::Value>();
    let mut json = match &command.what {
        What::Subscribe(wanted) | What::Topics(wanted) => {
            let since = wanted.since.iter().map(|(topic, since)| {
                let epoch = since.epoch.map_or("another".into(), |epoch| epoch.to_string());
                let at = serde_json::json!({ "epoch": epoch, "offset": since.offset });
                (topic.as_str().to_owned(), at)
            });
            let since: serde_json::Value = since.collect();
            let name = if matches!(command.what, What::Topics(_)) { "topics" } else { "subscribe" };
            let mut json = serde_json::json!({ name: names(&wanted.topics), "since": since });
            if let Some(last) = wanted.last {
                json["last"] = last.into();
            }
            json.to_string()
        }
        What::Unsubscribe(topics) => serde_json::json!({ "unsubscribe": names(topics) }).to_string(),
        What::Ping(value) => format!(r#"{{"ping":{}}}"#, value.as_json()),
        What::Auth(token) => serde_json::json!({ "auth": token.as_str() }).to_string(),
        What::Publish(_) => return None,
    };
    if let Some(id) = command.id.as_ref().map(Echo::as_json) {
        json.replace_range(..1, &format!(r#"{{"id":{id},"#));
    }
    Some(json)
}

/// What is accepted means the same when it is written again; what is not is answered with JSON.
fn holds(text: &str) {
    match read(text) {
        Ok(command) => {
            if let Some(again) = written(&command) {
                assert_eq!(read(&again), Ok(command), "{text}");
            }
        }
        Err(error) => {
            let mut out = Vec::new();
            error.encode(&mut out);
            serde_json::from_slice::<serde_json::Value>(&out).expect("an answer is JSON");
        }
    }
}

/// What commands are made of, and what breaks them.
const PARTS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    " ",
    "1",
    "-",
    "e9",
    "null",
    "é",
    r#"\ud800"#,
    r#""a""#,
    r#""id""#,
    r#""id":1,"#,
    r#""id":"x\u0041","#,
    r#""last":1,"#,
    r#""since":{},"#,
    r#""subscribe":["a"],"#,
    r#""since":{"a":{"epoch":"x","offset":1}},"#,
    r#""topics":["a","b"],"#,
    r#""unsubscribe":[],"#,
    r#""publish":{"topic":"a","message":"m"},"#,
    r#""ping":1.0,"#,
    r#""x":{"y":[]},"#,
    r#""x":1}"#,
];

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_what_is_accepted_means_the_same_again(
        parts in prop::collection::vec(prop::sample::select(PARTS), 0..12),
    ) {
        holds(&parts.concat());
        holds(&format!("{{{}\"x\":1}}", parts.concat()));
    }

    #[test]
    fn any_subscription_is_read(
        names in prop::collection::vec("[^\\p{Cc}]{1,6}", 0..4),
        offsets in prop::collection::vec(any::<Option<(u64, u64, u64)>>(), 4),
        last in prop::option::of(1..=LAST_MESSAGES_MAX),
        id in prop::option::of("\\PC{0,10}"),
    ) {
        let mut wanted = subscription(&[]);
        let mut distinct: Vec<&str> = Vec::new();
        for (name, at) in names.iter().zip(offsets) {
            if !distinct.contains(&&**name) {
                distinct.push(name);
                if let Some((node, incarnation, offset)) = at {
                    let since = Since { epoch: Some(Epoch { node, incarnation }), offset };
                    wanted.since.insert(Topic::parse(name).unwrap(), since);
                }
            }
        }
        wanted.topics = topics(&distinct);
        wanted.last = last;
        let id = id.map(|id| Echo::parse(&serde_json::to_string(&id).expect("it is text")).expect("it is short"));
        let command = Command { id, what: What::Subscribe(wanted) };
        let text = written(&command).expect("it is a subscribe");
        prop_assert_eq!(read(&text), Ok(command));
    }
}
