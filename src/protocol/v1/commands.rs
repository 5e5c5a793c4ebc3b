//! What a client of fanfare.v1 asks for: one JSON object in a text message, with one command in it.
//!
//! | message | command |
//! | --- | --- |
//! | `{"subscribe":["a"],"id":1,"since":{"a":{"epoch":"x","offset":17}},"last":1}` | [`What::Subscribe`] |
//! | `{"unsubscribe":["a"],"id":2}` | [`What::Unsubscribe`] |
//! | `{"topics":["a"],"id":3}`, and `since` and `last` as with `subscribe` | [`What::Topics`] |
//! | `{"publish":{"topic":"a","message":"m"},"id":4}` | [`What::Publish`] |
//! | `{"ping":123}` | [`What::Ping`] |
//! | `{"auth":"eyJ…","id":5}` | [`What::Auth`] |
//!
//! Fields may stand in any order. One that is not known is passed over, so that a client written for a later version gets on
//! here; but a message without a command that is known, or with two, is an error. So is a field given twice.
//! `id` is optional with every command and goes back with the answer, with an error too if it could be read.

mod reading;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use super::{CommandId, Echo, encode};
use crate::{
    protocol::{
        error::Code,
        publish_body::{PublishBody, PublishBodyError},
    },
    publication::Epoch,
    topic::{Topic, TopicMap},
};

/// A command and what the client calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Goes back with the answer, byte for byte.
    pub id: Option<CommandId>,
    /// What is wanted.
    pub what: What,
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// These topics too.
    Subscribe(Subscription),
    /// These topics, each once, no longer.
    Unsubscribe(Arc<[Topic]>),
    /// These topics instead of those it has.
    Topics(Subscription),
    /// This publication.
    Publish(Box<PublishBody>),
    /// A pong with this value, when everything asked before it is in force.
    Ping(Echo),
    /// Who the client is, by this token, from now on.
    Auth(Bearer),
}

/// A token as it came, which is a secret: its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(Box<str>);

impl Bearer {
    pub(crate) fn new(token: String) -> Self {
        Self(token.into())
    }

    /// The token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer")
    }
}

/// Topics, and what is wanted of their past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Each once; may be none.
    pub topics: Arc<[Topic]>,
    /// What the client has of them: of these topics everything behind it is wanted. All of them are in the list.
    pub since: TopicMap<Since>,
    /// So many of the last messages are wanted of each topic without a `since`: 1 to
    /// [`LAST_MESSAGES_MAX`](crate::limits::LAST_MESSAGES_MAX).
    pub last: Option<u32>,
}

/// The position of the last message a client has of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// The topic's epoch then. `None` for a text that is no epoch of any node: it is another one than the topic has, always.
    pub epoch: Option<Epoch>,
    /// The place in it.
    pub offset: u64,
}

/// What bounds a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandLimits {
    /// Most different topics in a list.
    pub max_topics: usize,
    /// Longest message to publish, bytes.
    pub max_message: usize,
}

/// Why a message was no command, for the client that sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
    /// The command's id, if it could be read.
    pub id: Option<CommandId>,
}

impl CommandError {
    /// A binary message: commands are text.
    pub fn binary() -> Self {
        Self { code: Code::BadRequest, message: "commands are sent as text".into(), id: None }
    }

    /// The answer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode::error(out, self.code, &self.message, self.id.as_ref());
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CommandError {}

/// Reads a text message.
///
/// ```
/// use fanfare::{
///     protocol::v1::commands::{CommandLimits, What, parse},
///     topic::Topic,
/// };
///
/// let limits = CommandLimits { max_topics: 128, max_message: 65_536 };
/// let text = br#"{"subscribe":["a","b"],"id":1,"since":{"a":{"epoch":"x","offset":17}}}"#;
/// let command = parse(text, &limits).unwrap();
/// assert_eq!(command.id.unwrap().as_json(), "1");
/// let What::Subscribe(wanted) = command.what else { panic!() };
/// assert_eq!(wanted.topics.len(), 2);
/// // "x" is no epoch, so it is not the one the topic has; the client is told that it could not be recovered.
/// let since = wanted.since[&Topic::parse("a").unwrap()];
/// assert_eq!((since.epoch, since.offset), (None, 17));
///
/// let error = parse(br#"{"subscrib":["a"],"id":"x-7"}"#, &limits).unwrap_err();
/// assert_eq!(error.id.unwrap().as_json(), r#""x-7""#);
/// ```
///
/// # Errors
/// When it is not exactly one command, or the command is malformed or over a limit.
pub fn parse(text: &[u8], limits: &CommandLimits) -> Result<Command, CommandError> {
    let (code, message) = match reading::read(text, limits) {
        Ok(command) => return Ok(command),
        Err(Refused::Malformed(why)) => (Code::BadRequest, why),
        Err(Refused::Publish(error @ PublishBodyError::MessageTooLarge { .. })) => {
            (Code::MessageTooLarge, error.to_string())
        }
        Err(Refused::Publish(error)) => (Code::BadRequest, error.to_string()),
    };
    // The id may stand behind what is wrong, so it is looked for once more: an error need not be as fast as a command.
    Err(CommandError { code, message, id: reading::id(text) })
}

/// Why a message was no command.
enum Refused {
    Malformed(String),
    Publish(PublishBodyError),
}
