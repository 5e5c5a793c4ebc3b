//! What a publisher is told: where its publication stands. The same over HTTP and on a socket.
//!
//! A publication to `topic` is answered with `{"topic","offset","epoch"}`, one to `topics` with a list of these, or of
//! errors, in the order in which the topics were given. Who asked for a receipt gets its counts beside them.

use super::{
    error::{Code, push_error_field},
    json::{push_hex, push_str, push_u64},
};
use crate::{
    publication::{Epoch, Stands, Told},
    topic::Topic,
};

/// What became of a publication in one of its topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicResult<'a> {
    /// Where it was to go.
    pub topic: &'a Topic,
    /// Where it stands, or why it does not.
    pub outcome: Result<Stands, TopicFailure<'a>>,
}

/// Why a publication was not taken in one of its topics. The others stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicFailure<'a> {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: &'a str,
}

/// Appends `{"topic":"a","offset":22,"epoch":"…"}`, with the counts of its receipt if there is one.
///
/// ```
/// use fanfare::{
///     protocol::publish_answer,
///     publication::{Epoch, Position, Receipt, Stands, Told},
///     topic::Topic,
/// };
///
/// let position = Position { epoch: Epoch { node: 10, incarnation: 3 }, offset: 22 };
/// let written = |receipt| {
///     let mut out = Vec::new();
///     publish_answer::stands(&mut out, &Topic::parse("a").unwrap(), &Stands { position, receipt });
///     String::from_utf8(out).unwrap()
/// };
/// assert_eq!(written(None), r#"{"topic":"a","offset":22,"epoch":"000000000000000a-3"}"#);
///
/// let receipt = Receipt { matched: 15, written: 1, queued: 2, dropped: 4, conflated: 8 };
/// let json = concat!(
///     r#"{"topic":"a","offset":22,"epoch":"000000000000000a-3","#,
///     r#""matched":15,"written":1,"queued":2,"dropped":4,"conflated":8"#
/// );
/// assert_eq!(written(Some(Told { receipt, is_partial: false })), format!("{json}}}"));
/// assert_eq!(written(Some(Told { receipt, is_partial: true })), format!(r#"{json},"partial":true}}"#));
/// ```
pub fn stands(out: &mut Vec<u8>, topic: &Topic, stands: &Stands) {
    out.extend_from_slice(br#"{"topic":"#);
    push_str(out, topic.as_str().as_bytes());
    out.extend_from_slice(br#","offset":"#);
    push_u64(out, stands.position.offset);
    out.extend_from_slice(br#","epoch":"#);
    push_epoch(out, stands.position.epoch);
    if let Some(told) = &stands.receipt {
        push_receipt(out, told);
    }
    out.push(b'}');
}

/// Appends `[{"topic":"a","offset":22,"epoch":"…"},{"topic":"b","error":{"code":"full","message":"…"}}]`.
pub fn results(out: &mut Vec<u8>, results: &[TopicResult<'_>]) {
    out.push(b'[');
    for (nth, result) in results.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        match &result.outcome {
            Ok(at) => stands(out, result.topic, at),
            Err(TopicFailure { code, message }) => {
                out.extend_from_slice(br#"{"topic":"#);
                push_str(out, result.topic.as_str().as_bytes());
                out.push(b',');
                push_error_field(out, *code, message, None);
                out.push(b'}');
            }
        }
    }
    out.push(b']');
}

fn push_receipt(out: &mut Vec<u8>, told: &Told) {
    let receipt = &told.receipt;
    for (name, count) in [
        (&br#","matched":"#[..], receipt.matched),
        (br#","written":"#, receipt.written),
        (br#","queued":"#, receipt.queued),
        (br#","dropped":"#, receipt.dropped),
        (br#","conflated":"#, receipt.conflated),
    ] {
        out.extend_from_slice(name);
        push_u64(out, count);
    }
    if told.is_partial {
        out.extend_from_slice(br#","partial":true"#);
    }
}

/// Appends an epoch as a JSON string, as its `Display` writes it: it stands in every answer and at the head of every frame
/// that says a position, so it does without the machinery of `format!`.
pub(super) fn push_epoch(out: &mut Vec<u8>, epoch: Epoch) {
    let Epoch { node, incarnation } = epoch;
    out.push(b'"');
    push_hex(out, node, 16);
    out.push(b'-');
    push_hex(out, incarnation, 1);
    out.push(b'"');
}
