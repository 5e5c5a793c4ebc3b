//! Heads of the frames a server sends (RFC 6455 section 5.2). Sans-I/O: bytes in, one frame's place out.

/// Close code 1005: the close frame named none (RFC 6455 section 7.4.1).
pub(crate) const NO_CODE: u16 = 1005;

/// What every frame of ours is masked with: fixed, but not zero, so that the server has to unmask it.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// What a frame is, as far as a client that counts messages is concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// A whole message in one frame.
    Message,
    Ping,
    Pong,
    Close,
    /// A fragment, a masked frame or an unknown opcode: no server asked by this harness should send one.
    Unexpected,
}

/// A frame that lies whole at the front of a buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    /// Where its payload begins and ends; the next frame begins at `end`.
    pub(crate) body: usize,
    pub(crate) end: usize,
}

/// What lies at the front of a buffer.
#[derive(Debug, PartialEq)]
pub(crate) enum Front {
    Whole(Frame),
    /// The frame is cut. If its head is there, it needs a buffer of this many bytes.
    Cut(Option<u64>),
}

/// Looks at the front of `bytes`.
#[inline]
pub(crate) fn front(bytes: &[u8]) -> Front {
    let &[first, second, ..] = bytes else { return Front::Cut(None) };
    let (body, length) = match second & 0x7F {
        126 => {
            let Some(length) = bytes.get(2..4) else { return Front::Cut(None) };
            (4, u64::from(u16::from_be_bytes([length[0], length[1]])))
        }
        127 => {
            let Some(length) = bytes.get(2..).and_then(|rest| rest.first_chunk()) else {
                return Front::Cut(None);
            };
            (10, u64::from_be_bytes(*length))
        }
        short => (2, u64::from(short)),
    };
    let masked = second & 0x80 != 0;
    let total = length.saturating_add(body as u64);
    if (bytes.len() as u64) < total {
        return Front::Cut(Some(total));
    }
    let kind = match first {
        0x81 | 0x82 if !masked => Kind::Message,
        0x88 if !masked => Kind::Close,
        0x89 if !masked => Kind::Ping,
        0x8A if !masked => Kind::Pong,
        _ => Kind::Unexpected,
    };
    Front::Whole(Frame { kind, body, end: total as usize })
}

/// The code of a close frame's payload.
pub(crate) fn close_code(body: &[u8]) -> u16 {
    body.first_chunk().map_or(NO_CODE, |code| u16::from_be_bytes(*code))
}

/// The masked pong that answers a ping of `body`; a control frame holds at most 125 bytes.
pub(crate) fn pong(body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(125)];
    let mut frame = vec![0x8A, 0x80 | body.len() as u8];
    frame.extend_from_slice(&MASK);
    frame.extend(body.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Appends a masked text frame of `body`.
pub(crate) fn push_text(body: &str, out: &mut Vec<u8>) {
    out.push(0x81);
    match body.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(body.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_lengths_are_understood_and_cuts_noticed() {
        for (head, length) in [
            (vec![0x81, 5], 5),
            (vec![0x81, 126, 1, 0], 256),
            (vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 65_536),
        ] {
            let mut bytes = head.clone();
            bytes.resize(head.len() + length, b'x');
            let frame = Frame { kind: Kind::Message, body: head.len(), end: bytes.len() };
            assert_eq!(front(&bytes), Front::Whole(frame));
            for cut in 0..head.len() {
                assert_eq!(front(&bytes[..cut]), Front::Cut(None));
            }
            assert_eq!(front(&bytes[..bytes.len() - 1]), Front::Cut(Some(bytes.len() as u64)));
        }
    }

    #[test]
    fn a_monstrous_length_does_not_overflow() {
        assert_eq!(
            front(&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255, 0]),
            Front::Cut(Some(u64::MAX))
        );
    }

    #[test]
    fn kinds_are_told_apart() {
        let kind = |bytes: &[u8]| match front(bytes) {
            Front::Whole(frame) => frame.kind,
            Front::Cut(_) => panic!("cut"),
        };
        assert_eq!(kind(&[0x88, 0]), Kind::Close);
        assert_eq!(kind(&[0x89, 0]), Kind::Ping);
        assert_eq!(kind(&[0x8A, 0]), Kind::Pong);
        assert_eq!(kind(&[0x01, 0]), Kind::Unexpected);
        assert_eq!(kind(&[0x80, 0]), Kind::Unexpected);
        assert_eq!(kind(&[0xC1, 0]), Kind::Unexpected);
        assert_eq!(kind(&[0x81, 0x80, 0, 0, 0, 0]), Kind::Unexpected);
    }

    #[test]
    fn a_pong_is_masked_and_carries_the_pings_bytes() {
        let frame = pong(b"hello");
        assert_eq!(frame[..2], [0x8A, 0x85]);
        let body: Vec<u8> = frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!(body, b"hello");
        assert_eq!(close_code(&[]), NO_CODE);
        assert_eq!(close_code(&[0x03, 0xF5, b'x']), 1013);
    }
}
