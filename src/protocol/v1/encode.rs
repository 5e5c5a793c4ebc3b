//! temp
#![allow(missing_docs, reason = "temp")]
use crate::{
    publication::{Content, Position},
    topic::Topic,
};
use bytes::Bytes;
pub struct Told<'a> {
    pub topic: &'a Topic,
    pub position: Position,
    pub recovered: bool,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    Slow,
    History,
    Reset,
}
pub fn message(topic: &Topic, offset: u64, content: &Content, _also: &[Topic]) -> Bytes {
    format!(
        "{{\"topic\":{:?},\"offset\":{offset},\"message\":{:?}}}",
        topic.as_str(),
        String::from_utf8_lossy(content.message.bytes())
    )
    .into()
}
pub fn gap(
    out: &mut Vec<u8>,
    topic: &Topic,
    from: u64,
    to: u64,
    reason: GapReason,
    conflated: u64,
    dropped: u64,
) {
    out.extend(format!("{{\"gap\":{{\"topic\":{:?},\"from\":{from},\"to\":{to},\"reason\":\"{reason:?}\",\"conflated\":{conflated},\"dropped\":{dropped}}}}}", topic.as_str()).bytes());
}
pub fn ok(out: &mut Vec<u8>, id: Option<&str>, positions: &[(Topic, Position, Option<bool>)]) {
    out.extend(format!("{{\"ok\":{},\"positions\":{}}}", id.unwrap_or("null"), positions.len()).bytes());
}
pub fn full(out: &mut Vec<u8>, id: Option<&str>) {
    out.extend(format!("{{\"error\":{{\"id\":{}}}}}", id.unwrap_or("null")).bytes());
}
