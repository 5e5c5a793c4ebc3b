//! What goes into a reader and what comes out: the input, the limits, the events, the violations.
//!
//! Data only. [`super::Reader`] takes an [`Input`] and gives out [`Incoming`], or a [`Violation`] that ends the
//! connection.

use std::fmt;
use std::ops::Range;

use super::CloseCode;

/// What a client may send at most. What is over it is refused from the header, before its payload has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderLimits {
    /// Payload of one data frame, bytes.
    pub frame: usize,
    /// One data message, over all its fragments, bytes.
    pub message: usize,
    /// Frames one data message may come in, empty ones included; at least 1.
    pub fragments: u32,
}

impl ReaderLimits {
    /// Judges the claim of a data frame, `payload` bytes after the `held` ones of its message.
    pub(super) fn admit(&self, held: usize, payload: usize) -> Result<(), Violation> {
        let fits = payload <= self.frame && payload <= self.message.saturating_sub(held);
        if fits { Ok(()) } else { Err(Violation::TooBig) }
    }
}

/// Something a client sent, whole and checked. Borrowed from the input or from the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered with a pong of the same payload; at most 125 bytes.
    Ping(&'a [u8]),
    /// A pong, at most 125 bytes.
    Pong(&'a [u8]),
    /// The client closes, with the code it gave; the last event of a connection.
    Close(Option<CloseCode>),
}

/// What a client did that ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// It broke a rule of RFC 6455; says which.
    Protocol(&'static str),
    /// Its text, or its close reason, is not UTF-8.
    NotUtf8,
    /// A frame or a message over its limit.
    TooBig,
    /// A message in more frames than the limit.
    TooManyFragments,
}

impl Violation {
    /// The code to close the connection with.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Violation::Protocol(_) => CloseCode::PROTOCOL,
            Violation::NotUtf8 => CloseCode::NOT_UTF8,
            Violation::TooBig => CloseCode::TOO_BIG,
            Violation::TooManyFragments => CloseCode::POLICY,
        }
    }

    /// What was wrong, short enough for a close frame.
    pub const fn reason(self) -> &'static str {
        match self {
            Violation::Protocol(rule) => rule,
            Violation::NotUtf8 => "text is not UTF-8",
            Violation::TooBig => "message too big",
            Violation::TooManyFragments => "too many fragments",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Violation {}

/// Bytes that were read, and how far the reader has come in them.
#[derive(Debug)]
pub struct Input<'b> {
    /// Unmasked in place up to `at`; behind it as it was read.
    pub(super) bytes: &'b mut [u8],
    /// How many bytes were taken; at most the length of `bytes`.
    at: usize,
}

impl<'b> Input<'b> {
    /// What one read brought.
    pub fn new(bytes: &'b mut [u8]) -> Input<'b> {
        Input { bytes, at: 0 }
    }

    /// The bytes not taken yet. A caller that stops before the reader said `None` must hand these in again, before
    /// what it reads next.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Whether all bytes were taken.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Takes `count` bytes, or all that are left, and gives them out to be unmasked.
    pub(super) fn take(&mut self, count: usize) -> &mut [u8] {
        let taken = self.advance(count);
        &mut self.bytes[taken]
    }

    /// Takes `count` bytes, or all that are left.
    pub(super) fn skip(&mut self, count: usize) {
        self.advance(count);
    }

    pub(super) fn advance(&mut self, count: usize) -> Range<usize> {
        let start = self.at;
        self.at += count.min(self.bytes.len() - start);
        start..self.at
    }
}
