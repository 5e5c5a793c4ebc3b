//! The header of a frame as a client sends it, judged strictly (RFC 6455 sections 5.1, 5.2, 5.4 and 5.5).
//!
//! Called by the reader with as many bytes as it has; the first byte that breaks a rule is refused without waiting
//! for the rest. It must never look behind the header, and knows nothing of limits an operator sets.

use super::mask::Mask;
use super::{Opcode, Violation};
use crate::limits::CONTROL_PAYLOAD_MAX;

/// Longest header of a client's frame, bytes: two, a length of eight, a key of four.
pub(super) const CLIENT_HEADER_MAX: usize = 14;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// Whether the client is in the middle of a fragmented message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Between {
    /// A data frame must start a message.
    Messages,
    /// A data frame must be a continuation.
    Fragments,
}

/// A whole and legal header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientHeader {
    pub(super) opcode: Opcode,
    /// Whether the frame ends its message; always true for a control frame.
    pub(super) fin: bool,
    /// Bytes the header itself takes.
    pub(super) len: usize,
    /// Bytes of payload that follow; at most 125 for a control frame.
    pub(super) payload: usize,
    pub(super) mask: Mask,
}

impl ClientHeader {
    /// Reads the header at the start of `bytes`. `None` if it is legal as far as it goes and goes on.
    pub(super) fn parse(bytes: &[u8], between: Between) -> Result<Option<ClientHeader>, Violation> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let opcode = judge_first(first, between)?;
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        let short = judge_second(second, opcode)?;
        let Some((payload, key_at)) = payload_len(bytes, short)? else { return Ok(None) };
        let Some(key) = bytes[key_at..].first_chunk::<4>() else { return Ok(None) };
        let (fin, mask, len) = (first & FIN != 0, Mask::new(*key), key_at + key.len());
        Ok(Some(ClientHeader { opcode, fin, len, payload, mask }))
    }
}

fn judge_first(first: u8, between: Between) -> Result<Opcode, Violation> {
    if first & RESERVED != 0 {
        return Err(Violation::Protocol("reserved bit set"));
    }
    let opcode = Opcode::of(first).ok_or(Violation::Protocol("reserved opcode"))?;
    if opcode.is_control() {
        if first & FIN == 0 {
            return Err(Violation::Protocol("fragmented control frame"));
        }
        return Ok(opcode);
    }
    match (opcode, between) {
        (Opcode::Continuation, Between::Messages) => Err(Violation::Protocol("continuation of nothing")),
        (Opcode::Text | Opcode::Binary, Between::Fragments) => {
            Err(Violation::Protocol("new message inside a fragmented one"))
        }
        _ => Ok(opcode),
    }
}

/// Judges the second byte and returns its length field.
fn judge_second(second: u8, opcode: Opcode) -> Result<u8, Violation> {
    if second & MASKED == 0 {
        return Err(Violation::Protocol("frame without a mask"));
    }
    let short = second & !MASKED;
    if opcode.is_control() && usize::from(short) > CONTROL_PAYLOAD_MAX {
        return Err(Violation::Protocol("control frame over 125 bytes"));
    }
    Ok(short)
}

/// The payload's length and where the masking key starts; `None` if the length is not all there.
fn payload_len(bytes: &[u8], short: u8) -> Result<Option<(usize, usize)>, Violation> {
    let extended = &bytes[2..];
    match short {
        126 => {
            let Some(field) = extended.first_chunk::<2>() else { return Ok(None) };
            let length = u16::from_be_bytes(*field);
            if length < 126 {
                return Err(Violation::Protocol("length not in its shortest form"));
            }
            Ok(Some((usize::from(length), 4)))
        }
        127 => {
            let Some(field) = extended.first_chunk::<8>() else { return Ok(None) };
            let length = u64::from_be_bytes(*field);
            if length >> 63 != 0 {
                return Err(Violation::Protocol("length of 2^63 or more"));
            }
            if length <= u64::from(u16::MAX) {
                return Err(Violation::Protocol("length not in its shortest form"));
            }
            // Where a machine word is too small for the length, so is its memory.
            let length = usize::try_from(length).map_err(|_| Violation::TooBig)?;
            Ok(Some((length, 10)))
        }
        _ => Ok(Some((usize::from(short), 2))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Option<ClientHeader>, Violation> {
        ClientHeader::parse(bytes, Between::Messages)
    }

    fn protocol(bytes: &[u8]) -> bool {
        matches!(parse(bytes), Err(Violation::Protocol(_)))
    }

    #[test]
    fn lengths_are_read_in_all_three_forms() {
        let cases: [(&[u8], usize, usize); 4] = [
            (&[0x81, 0x80, 1, 2, 3, 4], 0, 6),
            (&[0x81, 0xFD, 1, 2, 3, 4], 125, 6),
            (&[0x81, 0xFE, 0, 126, 1, 2, 3, 4], 126, 8),
            (&[0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4], 65_536, 14),
        ];
        for (bytes, payload, len) in cases {
            let header = parse(bytes).expect("legal").expect("whole");
            assert_eq!((header.payload, header.len), (payload, len));
            assert_eq!(header.mask, Mask::new([1, 2, 3, 4]));
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_length_not_in_its_shortest_form_is_refused() {
        assert!(protocol(&[0x81, 0xFE, 0, 125]));
        assert!(protocol(&[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]));
    }

    #[test]
    fn a_length_with_the_top_bit_is_refused() {
        assert!(protocol(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn the_first_wrong_byte_is_refused_without_waiting_for_more() {
        for reserved_bit in [0x40, 0x20, 0x10] {
            assert!(protocol(&[0x81 | reserved_bit]));
        }
        for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
            assert!(protocol(&[0x80 | opcode]), "opcode {opcode}");
        }
        for control in [0x08, 0x09, 0x0A] {
            assert!(protocol(&[control]), "fragmented control frame {control}");
            assert!(protocol(&[0x80 | control, 0x80 | 126]), "long control frame {control}");
        }
        assert!(protocol(&[0x81, 0x05]), "no mask");
    }

    #[test]
    fn data_frames_must_fit_where_the_message_stands() {
        let between = |first| ClientHeader::parse(&[first], Between::Fragments);
        assert!(protocol(&[0x80]) && protocol(&[0x00]));
        assert!(between(0x81).is_err() && between(0x02).is_err());
        assert!(between(0x80).is_ok() && between(0x00).is_ok() && between(0x89).is_ok());
    }
}
