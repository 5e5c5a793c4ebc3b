//! The body of `POST /register`: `{"user_id": 1, "topics": ["a"]}`.
//!
//! `user_id` must be there. Without `topics` the client gets the default ones. Other fields are ignored, so that a
//! client written for a later version can register here.

use std::{fmt, sync::Arc};

use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::{
    identity::User,
    protocol::{topic_list::TopicListSeed, user_id::UserId},
    topic::Topic,
};

/// Who registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterBody {
    /// Whose client it is.
    pub user: User,
    /// The topics it named, each once.
    pub topics: Option<Arc<[Topic]>>,
}

/// Reads the body; a list of more than `max_topics` different topics is an error.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn parse(body: &[u8], max_topics: usize) -> Result<RegisterBody, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = deserializer
        .deserialize_map(BodyVisitor { max_topics })
        .and_then(|parsed| deserializer.end().map(|()| parsed));
    parsed.map_err(|error| format!("the body is not a registration: {error}"))
}

struct BodyVisitor {
    max_topics: usize,
}

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = RegisterBody;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"an object such as {"user_id":1}"#)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RegisterBody, A::Error> {
        let (mut user, mut topics) = (None, None);
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::UserId if user.is_some() => return Err(de::Error::duplicate_field("user_id")),
                Field::UserId => user = Some(map.next_value::<UserId>()?.0),
                Field::Topics if topics.is_some() => return Err(de::Error::duplicate_field("topics")),
                Field::Topics => {
                    topics = Some(map.next_value_seed(TopicListSeed(self.max_topics))?.into_topics());
                }
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let user = user.ok_or_else(|| de::Error::missing_field("user_id"))?;
        Ok(RegisterBody { user, topics })
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    UserId,
    Topics,
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(names: &[&str]) -> Option<Arc<[Topic]>> {
        Some(names.iter().map(|name| Topic::parse(name).unwrap()).collect())
    }

    #[test]
    fn user_alone_is_enough() {
        let body = parse(br#" {"user_id":1} "#, 2).unwrap();
        assert_eq!(body, RegisterBody { user: User::number(1), topics: None });
        let body = parse(br#"{"user_id":"ann","later":{"x":[1]}}"#, 2).unwrap();
        assert_eq!(body, RegisterBody { user: User::parse("ann").unwrap(), topics: None });
    }

    #[test]
    fn topics_may_be_named_and_none_is_a_choice() {
        let parse = |body: &str| parse(body.as_bytes(), 2).map(|body| body.topics);
        assert_eq!(parse(r#"{"topics":["b","a","b"],"user_id":1}"#).unwrap(), topics(&["b", "a"]));
        assert_eq!(parse(r#"{"topics":[],"user_id":1}"#).unwrap(), topics(&[]));
        assert!(parse(r#"{"topics":["a","b","c"],"user_id":1}"#).unwrap_err().contains("at most 2 topics"));
        assert!(parse(r#"{"topics":null,"user_id":1}"#).is_err());
    }

    #[test]
    fn what_is_not_one_whole_object_is_refused() {
        for bad in [
            "",
            "{",
            "[]",
            "1",
            "{}",
            r#"{"user_id":1}x"#,
            r#"{"user_id":1}{}"#,
            r#"{"user_id":1,"user_id":2}"#,
            r#"{"user_id":1,"topics":[],"topics":[]}"#,
            r#"{"user_id":null}"#,
            r#"{"user_id":1,}"#,
            r#"[1,["a"]]"#,
        ] {
            assert!(parse(bad.as_bytes(), 2).is_err(), "{bad}");
        }
        assert!(parse(b"{}", 2).unwrap_err().contains("missing field `user_id`"));
    }
}
