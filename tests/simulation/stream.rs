//! What a client reads: server frames out of bytes that come in any pieces. It refuses what a strict client would.

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The low four bits of its first byte.
    pub(crate) opcode: u8,
    /// What it carries.
    pub(crate) payload: Vec<u8>,
}

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Decides the homes of topics, in every run alike.
pub(crate) const HASH_SEED: u64 = 1;

/// An encoded control frame that carries a letter and a number.
pub(crate) fn control_frame(opcode: u8, letter: u8, number: u32) -> Vec<u8> {
    let [a, b, c, d] = number.to_be_bytes();
    vec![0x80 | opcode, 5, letter, a, b, c, d]
}

/// The bytes of one connection, from its first to the last that came.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Bytes of a frame that is not whole yet.
    half: Vec<u8>,
    /// Whether the close frame came.
    pub(crate) closed: bool,
}

impl Stream {
    /// Takes bytes, and gives the frames that became whole with them.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Frame> {
        assert!(!self.closed || bytes.is_empty(), "bytes after a close frame");
        self.half.extend_from_slice(bytes);
        let (mut frames, mut start) = (Vec::new(), 0);
        while let Some((frame, len)) = parse(&self.half[start..]) {
            assert!(!self.closed, "a frame after a close frame");
            self.closed = frame.opcode == CLOSE;
            frames.push(frame);
            start += len;
        }
        assert!(!self.closed || start == self.half.len(), "bytes after a close frame");
        self.half.drain(..start);
        frames
    }

    /// Whether the last byte that came ends a frame.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.half.is_empty()
    }

    /// Whether it stops inside a control frame.
    pub(crate) fn is_inside_control(&self) -> bool {
        self.half.first().is_some_and(|first| first & 8 != 0)
    }
}

/// The frame at the front of `bytes`, if it is whole, and its length.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let &first = bytes.first()?;
    let opcode = first & 0x0F;
    assert_eq!(first & 0xF0, 0x80, "final, and no extension: first byte {first:#x}");
    assert!([TEXT, BINARY, CLOSE, PING, PONG].contains(&opcode), "first byte {first:#x}");
    let &second = bytes.get(1)?;
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (header, len) = match second {
        126 => {
            let len = usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().expect("two bytes")));
            assert!(len > 125, "the shortest length encoding");
            (4, len)
        }
        127 => {
            let len = u64::from_be_bytes(bytes.get(2..10)?.try_into().expect("eight bytes"));
            assert!(len > 0xFFFF, "the shortest length encoding");
            (10, usize::try_from(len).expect("it fits"))
        }
        len => (2, usize::from(len)),
    };
    assert!(opcode < 8 || len <= 125, "a control frame over 125 bytes");
    let payload = bytes.get(header..header + len)?.to_vec();
    Some((Frame { opcode, payload }, header + len))
}
