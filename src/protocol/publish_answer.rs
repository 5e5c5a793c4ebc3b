//! What a publisher is told: where its publication stands. The same over HTTP and on a socket.
//!
//! A publication to `topic` is answered with `{"topic","offset","epoch"}`, one to `topics` with a list of these, or of
//! errors, in the order in which the topics were given.

use std::io::Write;

use super::{
    error::{Code, push_error_field},
    json::{push_str, push_u64},
};
use crate::{
    publication::{Epoch, Position},
    topic::Topic,
};

/// What became of a publication in one of its topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicResult<'a> {
    /// Where it was to go.
    pub topic: &'a Topic,
    /// Where it stands, or why it does not.
    pub outcome: Result<Position, TopicFailure<'a>>,
}

/// Why a publication was not taken in one of its topics. The others stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicFailure<'a> {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: &'a str,
}

/// Appends `{"topic":"a","offset":22,"epoch":"…"}`.
///
/// ```
/// use fanfare::{
///     protocol::publish_answer,
///     publication::{Epoch, Position},
///     topic::Topic,
/// };
///
/// let mut out = Vec::new();
/// let position = Position { epoch: Epoch { node: 10, incarnation: 3 }, offset: 22 };
/// publish_answer::position(&mut out, &Topic::parse("a")?, position);
/// assert_eq!(out, br#"{"topic":"a","offset":22,"epoch":"000000000000000a-3"}"#);
/// # Ok::<(), fanfare::topic::TopicError>(())
/// ```
pub fn position(out: &mut Vec<u8>, topic: &Topic, position: Position) {
    out.extend_from_slice(br#"{"topic":"#);
    push_str(out, topic.as_str().as_bytes());
    out.extend_from_slice(br#","offset":"#);
    push_u64(out, position.offset);
    out.extend_from_slice(br#","epoch":"#);
    push_epoch(out, position.epoch);
    out.push(b'}');
}

/// Appends `[{"topic":"a","offset":22,"epoch":"…"},{"topic":"b","error":{"code":"full","message":"…"}}]`.
pub fn results(out: &mut Vec<u8>, results: &[TopicResult<'_>]) {
    out.push(b'[');
    for (nth, result) in results.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        match result.outcome {
            Ok(at) => position(out, result.topic, at),
            Err(TopicFailure { code, message }) => {
                out.extend_from_slice(br#"{"topic":"#);
                push_str(out, result.topic.as_str().as_bytes());
                out.push(b',');
                push_error_field(out, code, message, None);
                out.push(b'}');
            }
        }
    }
    out.push(b']');
}

/// Appends an epoch as a JSON string.
pub(super) fn push_epoch(out: &mut Vec<u8>, epoch: Epoch) {
    write!(out, "\"{epoch}\"").expect("a Vec takes everything");
}
