//! The protocol `fanfare.v1`: what a client that asked for this subprotocol says and is told, as JSON in text frames.
//!
//! ```text
//!  text message ─► commands::parse ─► Command { id, what }          what the client wants
//!                        └──────────► CommandError                  told to it, the connection goes on
//!
//!  message, gap       ◄─ encode::{message, gap}                     once for each publication, by its home
//!  answers, greeting  ◄─ encode::{hello, ok, published, pong, error, bye}
//! ```
//!
//! One JSON object is one message, in both directions. Which of them a server message is, is told by the one of these
//! fields that it has: `hello`, `ok`, `topic`, `gap`, `pong`, `error`, `bye`. A client passes over what it does not
//! know, and so does [`commands::parse`]: fields may be added to either side.
//!
//! Nothing here knows which topics a client has, or whether it may do what it asks.

pub mod commands;
mod echo;
pub mod encode;

pub use echo::{Echo, EchoError};

/// What a client calls a command, so that it knows the answer to it.
pub type CommandId = Echo;

/// The subprotocol's name in the handshake.
pub const SUBPROTOCOL: &str = "fanfare.v1";
