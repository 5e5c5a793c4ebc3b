//! Frames as a server writes them: final, unmasked, with no extension.
//!
//! Called by whatever encodes a message for the wire (the header goes in front of a payload that is shared or
//! copied elsewhere) and by whatever answers on a connection (whole control frames). It must never allocate for a
//! data frame, and never write a frame a client may refuse: control payloads are cut to fit.

use smallvec::SmallVec;

use super::CloseCode;
use crate::limits::CONTROL_PAYLOAD_MAX;

/// Bytes a [`ControlFrame`] keeps without allocating: a ping, and a close with any reason of ours.
const CONTROL_FRAME_INLINE: usize = 24;
/// Largest payload whose length fits in the second byte of a header.
const SHORT_PAYLOAD_MAX: usize = 125;
/// Largest payload whose length is written in 16 bits.
const MEDIUM_PAYLOAD_MAX: usize = 0xFFFF;
/// The bit of the first byte that says a frame ends its message.
const FIN: u8 = 0x80;
/// A status code in front of a close reason, bytes.
const CLOSE_CODE_BYTES: usize = 2;

/// A whole control frame, header and payload, ready to be written.
pub type ControlFrame = SmallVec<[u8; CONTROL_FRAME_INLINE]>;

/// What a frame is (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The next part of a fragmented message.
    Continuation = 0x0,
    /// A message of UTF-8 text, or its first part.
    Text = 0x1,
    /// A message of bytes, or its first part.
    Binary = 0x2,
    /// The last frame its sender sends.
    Close = 0x8,
    /// Asks for a pong with the same payload.
    Ping = 0x9,
    /// Answers a ping.
    Pong = 0xA,
}

impl Opcode {
    /// The opcode of a frame's first byte; `None` for the reserved ones.
    pub const fn of(first: u8) -> Option<Opcode> {
        match first & 0x0F {
            0x0 => Some(Opcode::Continuation),
            0x1 => Some(Opcode::Text),
            0x2 => Some(Opcode::Binary),
            0x8 => Some(Opcode::Close),
            0x9 => Some(Opcode::Ping),
            0xA => Some(Opcode::Pong),
            _ => None,
        }
    }

    /// Whether this is a control frame: at most 125 bytes, never fragmented, allowed between fragments.
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// The header of a final, unmasked frame: what stands before the payload of everything a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The encoded header; what lies behind `len` is zero and is not sent.
    bytes: [u8; 10],
    /// Bytes in use: 2, 4 or 10.
    len: u8,
}

impl Header {
    /// The header for a payload of `payload_len` bytes, with the shortest length encoding.
    pub const fn new(opcode: Opcode, payload_len: usize) -> Header {
        let mut bytes = [0; 10];
        bytes[0] = FIN | opcode as u8;
        if payload_len <= SHORT_PAYLOAD_MAX {
            bytes[1] = payload_len as u8;
        } else if payload_len <= MEDIUM_PAYLOAD_MAX {
            bytes[1] = 126;
            [bytes[2], bytes[3]] = (payload_len as u16).to_be_bytes();
        } else {
            bytes[1] = 127;
            let length = (payload_len as u64).to_be_bytes();
            let mut i = 0;
            while i < length.len() {
                bytes[2 + i] = length[i];
                i += 1;
            }
        }
        Header { bytes, len: Header::len_for(payload_len) as u8 }
    }

    /// Bytes the header of a payload of `payload_len` bytes takes: 2, 4 or 10.
    pub const fn len_for(payload_len: usize) -> usize {
        if payload_len <= SHORT_PAYLOAD_MAX {
            2
        } else if payload_len <= MEDIUM_PAYLOAD_MAX {
            4
        } else {
            10
        }
    }

    /// The bytes to write before the payload.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A ping without payload.
pub fn ping() -> ControlFrame {
    control(Opcode::Ping, &[])
}

/// A pong that carries back the payload of a ping. A payload over 125 bytes is cut; the reader lets none through.
pub fn pong(payload: &[u8]) -> ControlFrame {
    control(Opcode::Pong, &payload[..payload.len().min(CONTROL_PAYLOAD_MAX)])
}

/// A close frame with a code and a reason; the reason is cut between characters to fit the frame.
pub fn close(code: CloseCode, reason: &str) -> ControlFrame {
    let mut end = reason.len().min(CONTROL_PAYLOAD_MAX - CLOSE_CODE_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut frame = ControlFrame::new();
    frame.extend_from_slice(Header::new(Opcode::Close, CLOSE_CODE_BYTES + end).as_slice());
    frame.extend_from_slice(&code.get().to_be_bytes());
    frame.extend_from_slice(&reason.as_bytes()[..end]);
    frame
}

/// The answer to a peer's close: the same code if it gave one, else no code, and no reason (RFC 6455 section 5.5.1).
pub fn close_reply(received: Option<CloseCode>) -> ControlFrame {
    match received {
        Some(code) => close(code, ""),
        None => control(Opcode::Close, &[]),
    }
}

fn control(opcode: Opcode, payload: &[u8]) -> ControlFrame {
    let mut frame = ControlFrame::new();
    frame.extend_from_slice(Header::new(opcode, payload.len()).as_slice());
    frame.extend_from_slice(payload);
    frame
}

/// A whole text frame.
pub fn text(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(crate::limits::FRAME_HEADER_MAX + payload.len());
    frame.extend_from_slice(Header::new(Opcode::Text, payload.len()).as_slice());
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_length_encoding_is_used_at_every_border() {
        let cases: [(usize, &[u8]); 6] = [
            (0, &[0x81, 0]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xFF, 0xFF]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            (0x0102_0304, &[0x81, 127, 0, 0, 0, 0, 1, 2, 3, 4]),
        ];
        for (payload_len, expected) in cases {
            let header = Header::new(Opcode::Text, payload_len);
            assert_eq!(header.as_slice(), expected, "payload of {payload_len}");
            assert_eq!(Header::len_for(payload_len), expected.len(), "payload of {payload_len}");
        }
    }

    #[test]
    fn an_opcode_is_read_back_from_the_byte_it_is_written_as() {
        for first in 0..=u8::MAX {
            if let Some(opcode) = Opcode::of(first) {
                assert_eq!(opcode as u8, first & 0x0F);
                assert_eq!(opcode.is_control(), first & 0x08 != 0);
            }
        }
        assert_eq!((0..16).filter_map(Opcode::of).count(), 6);
    }

    #[test]
    fn small_control_frames_do_not_allocate() {
        assert_eq!(ping().as_slice(), &[0x89, 0]);
        assert_eq!(pong(b"abc").as_slice(), b"\x8A\x03abc");
        let slow = close(CloseCode::TRY_AGAIN_LATER, "slow consumer");
        assert_eq!(slow.as_slice(), b"\x88\x0f\x03\xf5slow consumer");
        assert!(!slow.spilled() && !ping().spilled());
    }

    #[test]
    fn a_long_close_reason_is_cut_between_characters() {
        let frame = close(CloseCode::NORMAL, &"\u{20ac}".repeat(50));
        assert!(frame.len() <= 2 + CONTROL_PAYLOAD_MAX);
        let reason = std::str::from_utf8(&frame[4..]).expect("cut between characters");
        assert_eq!(reason.chars().count(), 41);
        assert_eq!(usize::from(frame[1]), frame.len() - 2);
    }

    #[test]
    fn a_close_is_answered_with_its_own_code_or_none() {
        assert_eq!(close_reply(None).as_slice(), &[0x88, 0]);
        assert_eq!(close_reply(Some(CloseCode::NORMAL)).as_slice(), &[0x88, 2, 0x03, 0xE8]);
    }

    #[test]
    fn an_overlong_pong_payload_is_cut_to_a_legal_frame() {
        assert_eq!(pong(&[7; 300]).len(), 2 + CONTROL_PAYLOAD_MAX);
    }
}
