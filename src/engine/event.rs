//! What a shard tells its driver.

use super::{home::TopicsFull, subscribers::Key};
use crate::websocket::CloseCode;

/// What the driver of a shard has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A change of topics is in force, or was refused as a whole and changed nothing. It also comes when a close is
    /// kept for a subscriber that waits for its socket, so that whoever waits for the change goes on to the socket.
    TopicsSet {
        /// The subscriber.
        key: Key,
        /// Whether it is in force.
        outcome: Result<(), TopicsFull>,
    },
    /// The subscriber is being closed: it is in no topic, takes no commands, and a close frame is queued.
    Closing {
        /// The subscriber.
        key: Key,
        /// What it is told; `None` if it closed first.
        code: Option<CloseCode>,
    },
    /// Everything that will ever be written to it is written, the close frame last.
    Ended {
        /// The subscriber.
        key: Key,
    },
    /// The transport said that the connection is gone; or it was being closed, read nothing, and held memory that is
    /// needed: it is to be reset. Nothing more is written to it.
    Lost {
        /// The subscriber.
        key: Key,
    },
    /// Stop was taken: every subscriber is being closed.
    Stopped,
}
