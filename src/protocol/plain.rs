//! The plain protocol: what a client that asked for no subprotocol may say on its socket.
//!
//! `{"topics":["cats","dogs"]}` replaces its topics, `ping` asks for `pong`. Everything else is answered with an
//! error and changes nothing. The other direction needs no encoding: a message is sent as it was published.

use std::{fmt, sync::Arc};

use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::{
    protocol::{
        error::{Code, error_json},
        topic_list::TopicListSeed,
    },
    topic::Topic,
};

/// What a text `ping` is answered with.
pub const PONG: &[u8] = b"pong";

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// These topics, each once, instead of those it has.
    SetTopics(Arc<[Topic]>),
    /// A [`PONG`], when everything asked before it is in force.
    Ping,
}

/// Why a message was no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {
    message: String,
}

impl CommandError {
    /// A binary message: commands are text.
    pub fn binary() -> Self {
        Self { message: "commands are sent as text".into() }
    }

    /// The answer, JSON.
    pub fn to_json(&self) -> String {
        error_json(Code::BadRequest, &self.message)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CommandError {}

/// Reads a text message of a client that may have `max_topics` topics.
///
/// # Errors
/// When it is no command, or its list of topics is refused.
pub fn parse(text: &[u8], max_topics: usize) -> Result<Command, CommandError> {
    if matches!(text, b"ping" | b"ping\n") {
        return Ok(Command::Ping);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let parsed = deserializer
        .deserialize_map(CommandVisitor { max_topics })
        .and_then(|topics| deserializer.end().map(|()| topics));
    match parsed {
        Ok(topics) => Ok(Command::SetTopics(topics)),
        Err(error) => Err(CommandError { message: format!("not a command ({HINT}): {error}") }),
    }
}

const HINT: &str = r#"{"topics":["a","b"]} or ping"#;

struct CommandVisitor {
    max_topics: usize,
}

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = Arc<[Topic]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut topics = None;
        while let Some(Field::Topics) = map.next_key()? {
            if topics.is_some() {
                return Err(de::Error::duplicate_field("topics"));
            }
            topics = Some(map.next_value_seed(TopicListSeed(self.max_topics))?.into_topics());
        }
        topics.ok_or_else(|| de::Error::missing_field("topics"))
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Topics,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> Command {
        Command::SetTopics(names.iter().map(|name| Topic::parse(name).unwrap()).collect())
    }

    #[test]
    fn topics_are_replaced_by_a_list() {
        assert_eq!(parse(br#"{"topics":["cats","dogs","cats"]}"#, 2).unwrap(), set(&["cats", "dogs"]));
        assert_eq!(parse(b" {\"topics\" : [ ] }\n", 2).unwrap(), set(&[]));
    }

    #[test]
    fn ping_is_ping_with_or_without_a_newline() {
        assert_eq!(parse(b"ping", 2).unwrap(), Command::Ping);
        assert_eq!(parse(b"ping\n", 2).unwrap(), Command::Ping);
    }

    #[test]
    fn everything_else_is_an_error() {
        let bad: [&[u8]; 16] = [
            b"",
            b"hello",
            b"PING",
            b"ping ",
            b"ping\r\n",
            b"pingping",
            b"{}",
            b"[]",
            b"null",
            br#"{"topics":"cats"}"#,
            br#"{"topics":null}"#,
            br#"{"topics":[1]}"#,
            br#"{"topics":["a"],"topics":["b"]}"#,
            br#"{"topics":["a"],"more":1}"#,
            br#"{"topics":["a"]}x"#,
            b"{\"topics\":[\"\xff\"]}",
        ];
        for bad in bad {
            assert!(parse(bad, 2).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn refused_list_says_which_topic() {
        let error = parse(br#"{"topics":["a",""]}"#, 2).unwrap_err();
        assert!(error.to_string().contains("topic 2 of the list"), "{error}");
        let error = parse(br#"{"topics":["a","b","c"]}"#, 2).unwrap_err();
        assert!(error.to_string().contains("at most 2 topics"), "{error}");
        let json: serde_json::Value = serde_json::from_str(&error.to_json()).unwrap();
        assert_eq!(json["error"]["code"], "bad_request");
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let deep = "[".repeat(60_000);
        assert!(parse(deep.as_bytes(), 2).is_err());
        assert!(parse(format!(r#"{{"topics":{deep}"#).as_bytes(), 2).is_err());
    }
}
