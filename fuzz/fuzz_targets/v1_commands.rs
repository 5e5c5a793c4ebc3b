//! Any text as a command of fanfare.v1: no panic, what is accepted means the same when it is written again, and what is
//! not is answered with JSON that carries the id.

#![no_main]

use fanfare::{
    limits::LAST_MESSAGES_MAX,
    protocol::v1::{
        Echo,
        commands::{Command, CommandLimits, Since, What, parse},
        encode,
    },
    publication::Message,
    topic::{Topic, TopicMap},
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const LIMITS: CommandLimits = CommandLimits { max_topics: 4, max_message: 100 };

fuzz_target!(|text: &[u8]| match parse(text, &LIMITS) {
    Ok(command) => {
        if let Some(again) = written(&command) {
            assert_eq!(parse(again.as_bytes(), &LIMITS), Ok(command), "{again}");
        }
    }
    Err(error) => {
        let mut out = Vec::new();
        error.encode(&mut out);
        let answer: Value = serde_json::from_slice(&out).expect("an answer is JSON");
        assert_eq!(answer["error"].get("id").is_some(), error.id.is_some());
    }
});

/// The same command; `None` for one that the target for publish objects looks at.
fn written(command: &Command) -> Option<String> {
    let mut json = match &command.what {
        What::Subscribe(wanted) | What::Topics(wanted) => {
            assert!(wanted.topics.len() <= LIMITS.max_topics);
            assert!(wanted.since.keys().all(|topic| wanted.topics.contains(topic)));
            assert!(wanted.last.is_none_or(|last| (1..=LAST_MESSAGES_MAX).contains(&last)));
            let name = if matches!(command.what, What::Topics(_)) { "topics" } else { "subscribe" };
            let mut json = json!({ name: names(&wanted.topics), "since": positions(&wanted.since) });
            if let Some(last) = wanted.last {
                json["last"] = last.into();
            }
            json.to_string()
        }
        What::Unsubscribe(topics) => json!({ "unsubscribe": names(topics) }).to_string(),
        What::Publish(body) => {
            // What can be published can be sent on.
            let sent = encode::message(&body.topics[0], 1, &body.content, &body.topics[1..]);
            let sent: Value = serde_json::from_slice(&sent).expect("a message is JSON");
            if let Message::Text(text) = &body.content.message {
                assert_eq!(sent["message"].as_str().map(str::as_bytes), Some(&text.as_bytes()[..]));
            }
            return None;
        }
        What::Auth(token) => json!({ "auth": token.as_str() }).to_string(),
        What::Ping(value) => {
            let mut pong = Vec::new();
            encode::pong(&mut pong, value);
            serde_json::from_slice::<Value>(&pong).expect("a pong is JSON");
            format!(r#"{{"ping":{}}}"#, value.as_json())
        }
    };
    if let Some(id) = command.id.as_ref().map(Echo::as_json) {
        json.replace_range(..1, &format!(r#"{{"id":{id},"#));
    }
    Some(json)
}

fn names(topics: &[Topic]) -> Vec<&str> {
    topics.iter().map(Topic::as_str).collect()
}

fn positions(since: &TopicMap<Since>) -> Value {
    let at = |since: &Since| {
        let epoch = since.epoch.map_or("another".to_owned(), |epoch| epoch.to_string());
        json!({ "epoch": epoch, "offset": since.offset })
    };
    since.iter().map(|(topic, since)| (topic.as_str().to_owned(), at(since))).collect()
}
