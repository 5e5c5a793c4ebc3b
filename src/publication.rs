//! A publication, its position, and what its publisher is told of it: data only.

use std::{
    fmt,
    hash::BuildHasher,
    sync::{Arc, OnceLock},
};

use crate::{
    admission::Credits,
    identity::{ClientId, User},
    limits::{IDEMPOTENCY_KEY_BYTES_MAX, MESSAGE_KEY_BYTES_MAX},
    topic::Topic,
};

pub use message::{Json, JsonError, Message, Text};

mod message;

/// Which subscribers of the topic a publication is meant for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Only subscribers that belong to this user.
    pub user: Option<User>,
    /// Everyone but this client.
    pub exclude: Option<ClientId>,
}

impl Audience {
    /// Whether it is every subscriber of the topic.
    pub fn is_everyone(&self) -> bool {
        self.user.is_none() && self.exclude.is_none()
    }
}

/// What a message is about: of two with one key in one topic the younger replaces the older, where the topic's class
/// conflates. 1 to [`MESSAGE_KEY_BYTES_MAX`] bytes of UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey(Arc<str>);

/// A text is no key: it is empty or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageKeyError;

impl MessageKey {
    /// Checks a text and makes it a key.
    ///
    /// # Errors
    /// When it is empty or longer than [`MESSAGE_KEY_BYTES_MAX`].
    pub fn parse(text: &str) -> Result<Self, MessageKeyError> {
        match text.is_empty() || text.len() > MESSAGE_KEY_BYTES_MAX {
            true => Err(MessageKeyError),
            false => Ok(Self(text.into())),
        }
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands for the key where there is one for each frame; never 0. Seeded per process, since strangers choose
    /// keys: two different ones in one queue meet with a chance of one in 2^64.
    pub(crate) fn hash_of(&self) -> u64 {
        KEY_SEED.get_or_init(foldhash::quality::RandomState::default).hash_one(&*self.0).max(1)
    }
}

static KEY_SEED: OnceLock<foldhash::quality::RandomState> = OnceLock::new();

impl fmt::Display for MessageKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key has 1 to {MESSAGE_KEY_BYTES_MAX} bytes")
    }
}

impl std::error::Error for MessageKeyError {}

/// What a publisher calls one publication, so that it can send it again, not knowing whether it was taken, without
/// publishing it twice. 1 to [`IDEMPOTENCY_KEY_BYTES_MAX`] bytes of UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Arc<str>);

/// A text is no idempotency key: it is empty or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    /// Checks a text and makes it a key.
    ///
    /// # Errors
    /// When it is empty or longer than [`IDEMPOTENCY_KEY_BYTES_MAX`].
    pub fn parse(text: &str) -> Result<Self, IdempotencyKeyError> {
        match text.is_empty() || text.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            true => Err(IdempotencyKeyError),
            false => Ok(Self(text.into())),
        }
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an idempotency key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes")
    }
}

impl std::error::Error for IdempotencyKeyError {}

/// Who publishes, as far as that is proved. Each has idempotency keys of its own: what one calls a publication says nothing of
/// what another calls so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Publisher {
    /// The program that the node runs in. It may also say on whose behalf it publishes.
    #[default]
    Program,
    /// All who prove nothing, together.
    Anonymous,
    /// Whoever calls with the API key of this name. What the key itself is does not matter, so that one who gets another under
    /// the same name is still the same publisher.
    ApiKey(Arc<str>),
    /// A user: on the sockets of its clients and over HTTP, with one token or the next.
    User(User),
}

/// An idempotency key and whose it is. What is found by it in a topic is a repeat.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScopedKey {
    /// Whose key it is.
    pub publisher: Publisher,
    /// The key.
    pub key: IdempotencyKey,
}

/// What is published and for whom; the same in each topic it goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What it says.
    pub message: Message,
    /// Whom it is meant for.
    pub audience: Audience,
    /// What it is about, for topics that conflate.
    pub key: Option<MessageKey>,
}

impl From<Message> for Content {
    /// For every subscriber, without a key.
    fn from(message: Message) -> Self {
        Self { message, audience: Audience::default(), key: None }
    }
}

/// One message to one topic, on its way through the engine.
#[derive(Debug)]
pub struct Publication {
    /// Where it goes.
    pub topic: Topic,
    /// What it says, and whom it is meant for.
    pub content: Content,
    /// Its share of the node's budget, given back when the last shard drops the publication.
    pub credits: Credits,
}

/// One incarnation of a topic's record at its home. An offset never repeats within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// Random, chosen when the node starts.
    pub node: u64,
    /// Which incarnation on that node.
    pub incarnation: u64,
}

impl Epoch {
    /// Reads an epoch exactly as `Display` writes it: a number can be written in several ways, an epoch in one. Any other
    /// text is the epoch of no topic.
    pub fn parse(text: &str) -> Option<Self> {
        let (node, incarnation) = text.split_once('-')?;
        let is_hex = |digits: &str| digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let is_short = incarnation == "0" || !incarnation.starts_with('0');
        if node.len() != 16 || !is_short || !is_hex(node) || !is_hex(incarnation) {
            return None;
        }
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        Some(Self { node: number(node)?, incarnation: number(incarnation)? })
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.node, self.incarnation)
    }
}

/// Where a publication stands in its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The topic's epoch.
    pub epoch: Epoch,
    /// Its place, from 1.
    pub offset: u64,
}

/// Where a publication stands in a topic, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stands {
    /// Its place.
    pub position: Position,
    /// What became of it, if that was asked for.
    pub receipt: Option<Told>,
}

/// A receipt as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The sums over the shards that have said theirs.
    pub receipt: Receipt,
    /// Whether some have not, after [`Settings::receipt_wait`](crate::settings::Settings::receipt_wait).
    pub is_partial: bool,
}

/// What became of one publication in one topic, after the pass that was to write it: `matched` is the sum of the
/// others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Subscribers it was meant for.
    pub matched: u64,
    /// Those whose connection took it whole.
    pub written: u64,
    /// Those for whom it is still queued.
    pub queued: u64,
    /// Those who will not get it: their queue was at its bound, or they were closed.
    pub dropped: u64,
    /// Those for whom a younger message with its key replaced it.
    pub conflated: u64,
}

impl std::ops::AddAssign for Receipt {
    fn add_assign(&mut self, other: Self) {
        self.matched += other.matched;
        self.written += other.written;
        self.queued += other.queued;
        self.dropped += other.dropped;
        self.conflated += other.conflated;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_is_read_as_it_is_written_and_in_no_other_way() {
        for (node, incarnation) in [(0, 0), (10, 3), (u64::MAX, u64::MAX), (1 << 63, 0x10)] {
            let epoch = Epoch { node, incarnation };
            assert_eq!(Epoch::parse(&epoch.to_string()), Some(epoch), "{epoch}");
        }
        for other in [
            "",
            "-",
            "000000000000000a",
            "000000000000000a-",
            "a-3",
            "000000000000000A-3",
            "000000000000000a-03",
            "000000000000000a-+3",
            "+00000000000000a-3",
            "000000000000000a-3-",
            "000000000000000a-10000000000000000",
            "0000000000000000a-3",
            "00000000000000ä-3",
        ] {
            assert_eq!(Epoch::parse(other), None, "{other}");
        }
    }

    #[test]
    fn keys_have_a_length() {
        assert_eq!(MessageKey::parse(""), Err(MessageKeyError));
        assert!(MessageKey::parse(&"k".repeat(MESSAGE_KEY_BYTES_MAX)).is_ok());
        assert_eq!(MessageKey::parse(&"k".repeat(MESSAGE_KEY_BYTES_MAX + 1)), Err(MessageKeyError));
        assert_eq!(IdempotencyKey::parse(""), Err(IdempotencyKeyError));
        assert!(IdempotencyKey::parse(&"k".repeat(IDEMPOTENCY_KEY_BYTES_MAX)).is_ok());
        let long = "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX + 1);
        assert_eq!(IdempotencyKey::parse(&long), Err(IdempotencyKeyError));
    }
}
