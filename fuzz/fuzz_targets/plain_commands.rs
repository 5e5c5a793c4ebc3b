//! Any text as a command of the plain protocol: no panic, what is accepted means the same when it is written again, and
//! what is not is answered with JSON.

#![no_main]

use fanfare::protocol::plain::{Command, parse};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const MAX_TOPICS: usize = 4;

fuzz_target!(|text: &[u8]| match parse(text, MAX_TOPICS) {
    Ok(command @ Command::SetTopics(_)) => {
        let Command::SetTopics(topics) = &command else { return };
        assert!(topics.len() <= MAX_TOPICS);
        let names: Vec<&str> = topics.iter().map(|topic| topic.as_str()).collect();
        let again = json!({ "topics": names }).to_string();
        assert_eq!(parse(again.as_bytes(), MAX_TOPICS), Ok(command));
    }
    Ok(Command::Ping) => assert!(text.starts_with(b"ping")),
    Err(error) => {
        let answer: Value = serde_json::from_str(&error.to_json()).expect("an answer is JSON");
        assert_eq!(answer["error"]["code"], "bad_request");
    }
});
