//! `Topic`: parsed once at the edge, with its hash kept, and the maps keyed by it.
//!
//! Nothing below the edge checks a topic again. The hash is seeded per process, since strangers choose topics; it
//! also decides the topic's home shard, so it is the same on every shard of a node.

use std::{
    fmt,
    hash::{BuildHasher, Hash, Hasher},
    str::FromStr,
    sync::{Arc, OnceLock},
};

use crate::limits::TOPIC_BYTES_MAX;

pub(crate) use shared::SharedTopics;

mod shared;

static SEED: OnceLock<u64> = OnceLock::new();

/// A valid topic: 1 to 200 bytes of UTF-8 without control characters.
#[derive(Clone)]
pub struct Topic {
    name: Arc<str>,
    hash: u64,
}

/// Why a text is no topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// No byte at all.
    Empty,
    /// More than [`TOPIC_BYTES_MAX`] bytes.
    TooLong,
    /// A control character in it.
    Control,
}

impl Topic {
    /// Checks `name` and makes it a topic.
    ///
    /// # Errors
    /// When it is empty, too long, or has a control character.
    pub fn parse(name: &str) -> Result<Self, TopicError> {
        if name.is_empty() {
            return Err(TopicError::Empty);
        }
        if name.len() > TOPIC_BYTES_MAX {
            return Err(TopicError::TooLong);
        }
        if has_control(name) {
            return Err(TopicError::Control);
        }
        let hash = foldhash::quality::FixedState::with_seed(seed()).hash_one(name);
        Ok(Self { name: name.into(), hash })
    }

    /// Fixes the seed of all topic hashes of this process, so that a simulation can be repeated. Has an effect only
    /// before the first topic is parsed; returns the seed in force.
    pub fn fix_hash_seed(wanted: u64) -> u64 {
        *SEED.get_or_init(|| wanted)
    }

    /// The topic's text.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The hash it carries, for tables that hold topics by number.
    pub(crate) fn kept_hash(&self) -> u64 {
        self.hash
    }

    /// The home shard of this topic among `shards`.
    pub fn home(&self, shards: usize) -> usize {
        // The high half, because the maps keyed by topics use the low bits and the highest seven.
        ((self.hash >> 20) % shards as u64) as usize
    }
}

/// Whether a text has a control character. Almost every topic is ASCII, and that is seen in one pass over its bytes.
fn has_control(name: &str) -> bool {
    match name.is_ascii() {
        true => name.bytes().any(|byte| byte.is_ascii_control()),
        false => name.chars().any(char::is_control),
    }
}

fn seed() -> u64 {
    *SEED.get_or_init(|| std::hash::RandomState::new().hash_one(0_u8))
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && (Arc::ptr_eq(&self.name, &other.name) || self.name == other.name)
    }
}

impl Eq for Topic {}

impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    /// As [`Topic::parse`].
    fn from_str(name: &str) -> Result<Self, TopicError> {
        Self::parse(name)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({:?})", self.as_str())
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a topic must not be empty"),
            Self::TooLong => write!(f, "a topic has at most {TOPIC_BYTES_MAX} bytes"),
            Self::Control => f.write_str("a topic has no control characters"),
        }
    }
}

impl std::error::Error for TopicError {}

/// A map keyed by topics; it uses the hash the topic carries.
pub type TopicMap<V> = hashbrown::HashMap<Topic, V, KeptHash>;

/// Hands on the hash a [`Topic`] carries.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeptHash;

/// The hasher of [`KeptHash`].
#[derive(Debug, Default)]
pub struct KeptHasher(u64);

impl BuildHasher for KeptHash {
    type Hasher = KeptHasher;

    fn build_hasher(&self) -> KeptHasher {
        KeptHasher(0)
    }
}

impl Hasher for KeptHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only topics are keys here, and a topic writes one u64");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_bytes_and_bounded() {
        assert_eq!(Topic::parse("").unwrap_err(), TopicError::Empty);
        assert!(Topic::parse(&"a".repeat(TOPIC_BYTES_MAX)).is_ok());
        assert_eq!(Topic::parse(&"a".repeat(TOPIC_BYTES_MAX + 1)).unwrap_err(), TopicError::TooLong);
        assert_eq!(Topic::parse(&"ä".repeat(TOPIC_BYTES_MAX / 2 + 1)).unwrap_err(), TopicError::TooLong);
    }

    #[test]
    fn control_characters_are_refused_and_everything_else_is_not() {
        for bad in ["a\nb", "\0", "a\u{7f}", "\u{85}"] {
            assert_eq!(Topic::parse(bad).unwrap_err(), TopicError::Control, "{bad:?}");
        }
        for good in ["cats", "katzen/größe", "a b", "🐈", "a,b%2F+"] {
            assert_eq!(Topic::parse(good).expect("it is a topic").as_str(), good);
            assert_eq!(good.parse::<Topic>().expect("it is a topic").to_string(), good);
        }
    }

    #[test]
    fn equal_topics_have_one_home_and_one_place_in_a_map() {
        let (a, b) = (Topic::parse("cats").unwrap(), Topic::parse("cats").unwrap());
        assert_eq!(a, b);
        assert_eq!(a.home(7), b.home(7));
        let mut map = TopicMap::default();
        map.insert(a, 1);
        assert_eq!(map.get(&b), Some(&1));
        assert_ne!(b, Topic::parse("dogs").unwrap());
    }

    #[test]
    fn homes_are_spread_over_the_shards() {
        let mut counts = [0_usize; 4];
        for n in 0..4_000 {
            counts[Topic::parse(&format!("topic-{n}")).unwrap().home(4)] += 1;
        }
        assert!(counts.iter().all(|&n| n > 700), "{counts:?}");
    }
}
