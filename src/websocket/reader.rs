//! The reader of what a client sends: an incremental, strict parser of client frames (RFC 6455).
//!
//! One [`Reader`] belongs to one connection, which hands it the bytes of every read and acts on the events. What is
//! whole in the input is given out from the input, unmasked in place; only what is not whole is copied, and the copy
//! is dropped as soon as it is used. A reader at rest owns no heap memory. It never answers, never waits, and never
//! holds more than [`ReaderLimits`] says, whatever a client claims or sends.

use std::ops::Range;

use super::client_header::{Between, ClientHeader};
use super::half::{Half, Whole};
use super::incoming::{Incoming, Input, ReaderLimits, Violation};
use super::{CloseCode, Opcode, close};

/// The parser of one connection's incoming bytes.
///
/// ```
/// use fanfare::websocket::{Incoming, Input, Reader, ReaderLimits};
///
/// let limits = ReaderLimits { frame: 1024, message: 1024, fragments: 16 };
/// let mut reader = Reader::new();
/// // "Hi", masked with a key of zeros.
/// let mut read = [0x81, 0x82, 0, 0, 0, 0, b'H', b'i'];
/// let mut input = Input::new(&mut read);
/// while let Some(incoming) = reader.next(&mut input, &limits)? {
///     assert_eq!(incoming, Incoming::Text("Hi"));
/// }
/// # Ok::<(), fanfare::websocket::Violation>(())
/// ```
#[derive(Debug, Default)]
pub struct Reader {
    /// What has come in part, and what was given out of it by the last call. `None` at rest, which is what nearly all
    /// readers of a process are: so one is a pointer and nothing else.
    half: Option<Box<Half>>,
}

/// Where the next event lies.
enum Found {
    /// In the input, a whole unfragmented frame that is not a close.
    InInput(Opcode, Range<usize>),
    /// In what is held, and not a close.
    InHalf(Whole),
    /// Nowhere: it is a close, and judged.
    Close(Option<CloseCode>),
}

impl Reader {
    /// A reader at rest, for a connection whose handshake is done.
    pub fn new() -> Reader {
        Reader::default()
    }

    /// Takes the next event from `input`. `None`: all of the input was taken and no event is whole.
    ///
    /// Call it until it says `None`: what an event was borrowed from is freed by the next call.
    ///
    /// # Errors
    /// The first [`Violation`] of the client, as soon as the byte that makes it one is read. After it, as after
    /// [`Incoming::Close`], the reader is finished: it takes all input and says `None`.
    pub fn next<'a>(
        &'a mut self,
        input: &'a mut Input<'_>,
        limits: &ReaderLimits,
    ) -> Result<Option<Incoming<'a>>, Violation> {
        self.forget_given();
        if self.is_finished() {
            input.skip(usize::MAX);
            return Ok(None);
        }
        let found = match self.find(input, limits) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(violation) => {
                self.finish();
                return Err(violation);
            }
        };
        match found {
            Found::InInput(Opcode::Text, payload) => match std::str::from_utf8(&input.bytes[payload]) {
                Ok(text) => Ok(Some(Incoming::Text(text))),
                Err(_) => {
                    self.finish();
                    Err(Violation::NotUtf8)
                }
            },
            Found::InInput(opcode, payload) => Ok(Some(bytes(opcode, &input.bytes[payload]))),
            Found::InHalf(whole) => Ok(self.half.as_deref().and_then(|half| match whole {
                Whole::Control(opcode) => Some(bytes(opcode, half.control())),
                Whole::Message => half.message(),
            })),
            Found::Close(code) => {
                self.finish();
                Ok(Some(Incoming::Close(code)))
            }
        }
    }

    /// Bytes of heap memory held for payload: at most the message limit and one control payload.
    pub fn holds(&self) -> usize {
        self.half.as_ref().map_or(0, |half| half.payload_bytes())
    }

    /// In how many fragments the message came that the last event is, if it came in several, or in part.
    pub fn given_fragments(&self) -> u32 {
        self.half.as_ref().map_or(0, |half| half.given_fragments())
    }

    /// Whether a close frame or a violation has ended the reading.
    pub fn is_finished(&self) -> bool {
        self.half.as_ref().is_some_and(|half| half.is_finished())
    }

    /// Whether a frame or a message has come in part. What was given out counts until it is forgotten.
    pub fn is_half(&self) -> bool {
        self.half.as_ref().is_some_and(|half| !half.is_finished())
    }

    /// Whether a data message has begun whose end was not given out yet.
    pub fn is_amid_message(&self) -> bool {
        self.half.as_ref().is_some_and(|half| half.is_amid_message())
    }

    /// Drops what the last event was borrowed from, and with the last of it the memory, before [`Self::next`] does.
    pub fn forget_given(&mut self) {
        if let Some(half) = &mut self.half {
            half.forget_given();
            if half.is_empty() {
                self.half = None;
            }
        }
    }

    fn finish(&mut self) {
        self.half = Some(Box::new(Half::finished()));
    }

    fn find(&mut self, input: &mut Input<'_>, limits: &ReaderLimits) -> Result<Option<Found>, Violation> {
        if input.is_empty() {
            return Ok(None);
        }
        if self.half.is_none()
            && let Some((opcode, payload)) = whole_frame(input, limits)?
        {
            return Ok(Some(match opcode {
                Opcode::Close => Found::Close(close::judge(&input.bytes[payload])?),
                _ => Found::InInput(opcode, payload),
            }));
        }
        let half = self.half.get_or_insert_default();
        Ok(match half.take(input, limits)? {
            Some(Whole::Control(Opcode::Close)) => Some(Found::Close(close::judge(half.control())?)),
            whole => whole.map(Found::InHalf),
        })
    }
}

/// Takes and unmasks the frame at the front of the input if it is a whole message or control frame.
fn whole_frame(
    input: &mut Input<'_>,
    limits: &ReaderLimits,
) -> Result<Option<(Opcode, Range<usize>)>, Violation> {
    let Some(mut header) = ClientHeader::parse(input.rest(), Between::Messages)? else { return Ok(None) };
    if !header.opcode.is_control() {
        limits.admit(0, header.payload)?;
    }
    if !header.fin || header.payload > input.rest().len() - header.len {
        return Ok(None);
    }
    input.skip(header.len);
    let payload = input.advance(header.payload);
    header.mask.apply(&mut input.bytes[payload.clone()]);
    Ok(Some((header.opcode, payload)))
}

/// The event of a frame whose payload is bytes.
fn bytes(opcode: Opcode, payload: &[u8]) -> Incoming<'_> {
    match opcode {
        Opcode::Ping => Incoming::Ping(payload),
        Opcode::Pong => Incoming::Pong(payload),
        _ => Incoming::Binary(payload),
    }
}

#[cfg(test)]
mod tests;
