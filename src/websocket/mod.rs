//! The WebSocket protocol (RFC 6455), server side, as values: no sockets, no runtime, no clock.
//!
//! ```text
//! bytes read ─► Input ─► Reader::next ─► Incoming::{Text, Binary, Ping, Pong, Close}
//!                          │   └───────► Violation ─► Violation::close_code ─┐
//!                          │                                                 ▼
//!                          └ half a frame or message: heap,     frame::{ping, pong, close} ─► ControlFrame
//!                            until it is whole                  Header::new + the payload   ─► data frame
//! ```
//!
//! A connection owns one [`Reader`] and hands it what it reads; what is to be written is encoded with [`frame`].
//! Nothing here decides when to read, when to write, or what a message means.

mod client_header;
mod close;
pub mod frame;
mod half;
mod incoming;
mod mask;
mod message;
mod reader;

pub use close::CloseCode;
pub use frame::{ControlFrame, Header, Opcode};
pub use incoming::{Incoming, Input, ReaderLimits, Violation};
pub use reader::Reader;
