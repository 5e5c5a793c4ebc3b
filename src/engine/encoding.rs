//! How a publication looks on the wire: one encoding for each protocol.
//!
//! `plain` is a header and the message, which each shard puts before its log's copy. Encodings that cost work are made by
//! the topic's home, once, after the offset is given, and only if a shard wants them ([`Sequenced::v1`]).

use bytes::Bytes;

use super::{
    history::Kept,
    traffic::{Part, Sequenced},
};
use crate::{
    protocol::v1::encode,
    publication::Message,
    topic::Topic,
    websocket::{Header, Opcode},
};

/// An encoding, and with it the protocol of whoever receives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Encoding {
    /// Just the message.
    #[default]
    Plain,
    /// A JSON object with topic and offset: the subprotocol `fanfare.v1`.
    V1,
}

/// Encodings there are.
pub(crate) const ENCODINGS: usize = 2;

impl Encoding {
    /// Each of them.
    pub(crate) const ALL: [Self; ENCODINGS] = [Self::Plain, Self::V1];

    /// The header and the payload of a publication's frame; `None` if its home did not make this encoding, because nobody
    /// wanted it.
    pub(crate) fn frame_of(self, sequenced: &Sequenced) -> Option<(Header, &Bytes)> {
        let (opcode, payload) = match self {
            Self::V1 => (Opcode::Text, sequenced.v1.as_ref()?),
            Self::Plain => plain(&sequenced.publication.content.message),
        };
        Some((Header::new(opcode, payload.len()), payload))
    }

    /// The header and the payload of the frame of a message in a topic's history.
    pub(crate) fn frame_of_kept(self, topic: &Topic, kept: &Kept) -> (Header, Bytes) {
        let (opcode, payload) = match self {
            Self::V1 => (Opcode::Text, kept.to_json(topic)),
            Self::Plain => {
                let (opcode, payload) = plain(&kept.content.message);
                (opcode, payload.clone())
            }
        };
        (Header::new(opcode, payload.len()), payload)
    }

    /// Whether its protocol greets, and tells losses and positions.
    pub(crate) fn tells(self) -> bool {
        self == Self::V1
    }
}

impl Kept {
    /// The message as clients of `fanfare.v1` get it: a JSON object with `topic`, which it was published to, and offset.
    pub fn to_json(&self, topic: &Topic) -> Bytes {
        let also = self.part.as_ref().map(Part::also).unwrap_or_default();
        encode::message(topic, self.offset, &self.content, &also)
    }
}

fn plain(message: &Message) -> (Opcode, &Bytes) {
    match message {
        Message::Text(_) | Message::Data(_) => (Opcode::Text, message.bytes()),
        Message::Binary(bytes) => (Opcode::Binary, bytes),
    }
}
