//! A publication and its position: data only.

use std::fmt;

use bytes::Bytes;

use crate::{
    admission::Credits,
    identity::{ClientId, User},
    topic::Topic,
};

/// What is published: the bytes every subscriber receives, nothing around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Sent in text frames. Always valid UTF-8.
    Text(Bytes),
    /// Sent in binary frames.
    Binary(Bytes),
}

impl Message {
    /// A text message.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Bytes::from(text.into()))
    }

    /// The bytes of the message.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

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

/// One message to one topic, on its way through the engine.
#[derive(Debug)]
pub struct Publication {
    /// Where it goes.
    pub topic: Topic,
    /// What it says.
    pub message: Message,
    /// Whom it is meant for.
    pub audience: Audience,
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
