//! A JSON list of topics: parsed as it is read, duplicates once, bounded.
//!
//! Used wherever topics are listed: in a registration, in a command on a socket, in a publish object; so all say the same
//! about the same list. No more than the allowed number of topics is ever kept of a list, however long it is.

use std::{fmt, sync::Arc};

use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use crate::topic::{Topic, TopicError, TopicMap};

/// How much of a bad topic an error shows, characters.
const SHOWN: usize = 40;

/// Why a list of topics was refused. Places count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicListError {
    /// More than `max` different topics.
    TooMany {
        /// The limit.
        max: usize,
    },
    /// One of them is no topic.
    Bad {
        /// Its place in the list.
        place: usize,
        /// How it begins.
        text: String,
        /// What is wrong with it.
        why: TopicError,
    },
}

impl fmt::Display for TopicListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { max } => write!(f, "at most {max} topics can be named here"),
            Self::Bad { place, text, why } => write!(f, "topic {place} of the list, {text:?}: {why}"),
        }
    }
}

impl std::error::Error for TopicListError {}

/// Collects topics in the order given, each once.
#[derive(Debug)]
pub struct TopicList {
    topics: Vec<Topic>,
    seen: TopicMap<()>,
    max: usize,
    /// How many texts were looked at.
    looked_at: usize,
}

impl TopicList {
    /// An empty list for at most `max` topics.
    pub fn new(max: usize) -> Self {
        Self { topics: Vec::new(), seen: TopicMap::default(), max, looked_at: 0 }
    }

    /// Adds the topic `text`, unless it is there.
    ///
    /// # Errors
    /// When it is no topic, or one too many.
    pub fn add(&mut self, text: &str) -> Result<(), TopicListError> {
        self.looked_at += 1;
        let topic = Topic::parse(text).map_err(|why| TopicListError::Bad {
            place: self.looked_at,
            text: text.chars().take(SHOWN).collect(),
            why,
        })?;
        self.add_topic(topic)
    }

    /// Adds a topic, unless it is there.
    ///
    /// # Errors
    /// When it is one too many.
    pub fn add_topic(&mut self, topic: Topic) -> Result<(), TopicListError> {
        if self.seen.insert(topic.clone(), ()).is_some() {
            return Ok(());
        }
        if self.topics.len() == self.max {
            return Err(TopicListError::TooMany { max: self.max });
        }
        self.topics.push(topic);
        Ok(())
    }

    /// Whether the topic is there.
    pub fn contains(&self, topic: &Topic) -> bool {
        self.seen.contains_key(topic)
    }

    /// The topics, as they are shared.
    pub fn into_topics(self) -> Arc<[Topic]> {
        self.topics.into()
    }

    /// The topics of one owner.
    pub fn into_vec(self) -> Vec<Topic> {
        self.topics
    }
}

/// Reads a JSON array into topics, at most the given number of different ones.
#[derive(Clone, Copy, Debug)]
pub struct TopicListSeed(pub usize);

impl<'de> DeserializeSeed<'de> for TopicListSeed {
    type Value = TopicList;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for TopicListSeed {
    type Value = TopicList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of topics")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = TopicList::new(self.0);
        while seq.next_element_seed(One(&mut list))?.is_some() {}
        Ok(list)
    }
}

/// Reads one JSON string into the list.
struct One<'a>(&'a mut TopicList);

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for One<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a topic (a string)")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.0.add(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, max: usize) -> Result<Vec<String>, String> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let topics = TopicListSeed(max).deserialize(&mut deserializer).map_err(|error| error.to_string())?;
        Ok(topics.into_vec().iter().map(|topic| topic.as_str().to_owned()).collect())
    }

    #[test]
    fn duplicates_count_once_and_order_is_kept() {
        assert_eq!(read(r#"["b","a","b","\u0061"]"#, 2).unwrap(), ["b", "a"]);
        assert_eq!(read("[]", 0).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn error_says_which_topic_and_why() {
        assert!(read(r#"["a","b","c"]"#, 2).unwrap_err().contains("at most 2 topics"));
        let error = read(r#"["a","b\u0007c"]"#, 2).unwrap_err();
        assert!(error.contains(r#"topic 2 of the list, "b\u{7}c": a topic has no control"#), "{error}");
        assert!(read(&format!("[\"{}\"]", "x".repeat(300)), 2).unwrap_err().len() < 150);
        assert!(read("[1]", 2).unwrap_err().contains("expected a topic (a string)"));
        assert!(read("{}", 2).unwrap_err().contains("expected a list of topics"));
    }
}
