//! What peers say to Fanfare and what it answers, as text: client commands, request bodies, errors.
//!
//! The shards call [`plain`] for what arrives on a socket; `http` calls the body parsers. Everything here is
//! a function over bytes: no socket, no clock, no registry. Every parser is strict JSON: trailing bytes and repeated
//! fields are errors. What it returns is checked, so nothing below checks it again.

pub mod error;
mod ignored;
pub(crate) mod json;
pub mod lines;
pub mod plain;
pub mod publish_answer;
pub mod publish_body;
pub mod publish_options;
pub mod register_body;
pub mod topic_list;
pub mod user_id;
pub mod v1;
mod verbatim;
