//! What a connection holds while a frame or a message has come only in part.
//!
//! Called by [`super::reader`] when nothing whole stands at the front of the input; dropped by it as soon as nothing
//! is held. It copies what it keeps, since the input belongs to the caller. It must never reserve memory for bytes
//! that have not come, and never hold more than the limits allow.

use smallvec::SmallVec;

use super::Opcode;
use super::client_header::{Between, CLIENT_HEADER_MAX, ClientHeader};
use super::incoming::{Incoming, Input, ReaderLimits, Violation};
use super::message::Message;

/// A frame or a message of which only a part has come.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// The start of a header that is not whole.
    header: SmallVec<[u8; CLIENT_HEADER_MAX]>,
    /// The frame whose payload is under way; its `payload` counts what is still to come.
    frame: Option<ClientHeader>,
    /// Payload of the control frame under way, or of the one given out.
    control: Vec<u8>,
    /// The data message under way, or the one given out.
    message: Option<Message>,
    /// What was given out by the last call, and goes with the next.
    given: Option<Whole>,
    /// A close frame or a violation was read; nothing is read after it.
    finished: bool,
}

/// What became whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    /// A control frame with this opcode.
    Control(Opcode),
    /// A text or binary message.
    Message,
}

impl Half {
    /// Of a reader that reads nothing more. It never becomes empty.
    pub(super) fn finished() -> Self {
        Self { finished: true, ..Self::default() }
    }

    /// Whether it is that of a reader that reads nothing more.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes bytes from `input` until something is whole. `None`: all of it was taken.
    pub(super) fn take(
        &mut self,
        input: &mut Input<'_>,
        limits: &ReaderLimits,
    ) -> Result<Option<Whole>, Violation> {
        loop {
            let frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.take_header(input)? {
                    Some(header) => self.open(header, limits)?,
                    None => return Ok(None),
                },
            };
            self.given = self.take_payload(frame, input, limits)?;
            if self.given.is_some() || input.is_empty() {
                return Ok(self.given);
            }
        }
    }

    /// Drops what the last call gave out.
    pub(super) fn forget_given(&mut self) {
        match self.given.take() {
            Some(Whole::Control(_)) => self.control = Vec::new(),
            Some(Whole::Message) => self.message = None,
            None => {}
        }
    }

    /// The control payload that became whole.
    pub(super) fn control(&self) -> &[u8] {
        &self.control
    }

    /// The message that became whole.
    pub(super) fn message(&self) -> Option<Incoming<'_>> {
        self.message.as_ref().map(Message::as_incoming)
    }

    /// In how many fragments the message came that was given out by the last call; 0 if none was.
    pub(super) fn given_fragments(&self) -> u32 {
        match (self.given, &self.message) {
            (Some(Whole::Message), Some(message)) => message.fragments,
            _ => 0,
        }
    }

    /// Whether there is a data message that was not given out by the last call.
    pub(super) fn is_amid_message(&self) -> bool {
        self.message.is_some() && self.given != Some(Whole::Message)
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        let nothing_came = self.header.is_empty() && self.frame.is_none() && self.message.is_none();
        nothing_came && self.given.is_none() && !self.finished
    }

    /// Bytes of heap memory held for payload.
    pub(super) fn payload_bytes(&self) -> usize {
        self.control.capacity() + self.message.as_ref().map_or(0, Message::capacity)
    }

    /// Completes the header from `input`, or keeps all of `input` as a part of it.
    fn take_header(&mut self, input: &mut Input<'_>) -> Result<Option<ClientHeader>, Violation> {
        let between = if self.message.is_some() { Between::Fragments } else { Between::Messages };
        let held = self.header.len();
        let new = input.rest().len().min(CLIENT_HEADER_MAX - held);
        self.header.extend_from_slice(&input.rest()[..new]);
        let header = ClientHeader::parse(&self.header, between)?;
        match header {
            // What was held was not a whole header, so this one ends in the new bytes.
            Some(header) => {
                input.skip(header.len - held);
                self.header.clear();
            }
            None => input.skip(new),
        }
        Ok(header)
    }

    /// Judges a frame by the limits before any byte of it is kept.
    fn open(&mut self, header: ClientHeader, limits: &ReaderLimits) -> Result<ClientHeader, Violation> {
        if header.opcode.is_control() {
            return Ok(header);
        }
        let held = self.message.as_ref().map_or(0, Message::len);
        limits.admit(held, header.payload)?;
        let message = match header.opcode {
            Opcode::Text => self.message.insert(Message::text()),
            _ => match &mut self.message {
                Some(message) => {
                    message.fragments = message.fragments.saturating_add(1);
                    message
                }
                None => self.message.insert(Message::binary()),
            },
        };
        if message.fragments > limits.fragments {
            return Err(Violation::TooManyFragments);
        }
        Ok(header)
    }

    /// Takes what `input` has of the frame's payload.
    fn take_payload(
        &mut self,
        mut frame: ClientHeader,
        input: &mut Input<'_>,
        limits: &ReaderLimits,
    ) -> Result<Option<Whole>, Violation> {
        let bytes = input.take(frame.payload);
        frame.mask.apply(bytes);
        frame.payload -= bytes.len();
        if frame.opcode.is_control() {
            // At most 125 bytes in all: exactness is worth more here than few copies.
            self.control.reserve_exact(bytes.len());
            self.control.extend_from_slice(bytes);
        } else if let Some(message) = &mut self.message {
            let most = if frame.fin { message.len() + bytes.len() + frame.payload } else { limits.message };
            message.push(bytes, most)?;
        }
        if frame.payload > 0 {
            self.frame = Some(frame);
            return Ok(None);
        }
        if frame.opcode.is_control() {
            return Ok(Some(Whole::Control(frame.opcode)));
        }
        match &self.message {
            Some(message) if frame.fin => message.end().map(|()| Some(Whole::Message)),
            _ => Ok(None),
        }
    }
}
