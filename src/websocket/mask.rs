//! The mask of a client's frame (RFC 6455 section 5.3): XOR with a key of four bytes, over and over.
//!
//! Called by the reader for every payload byte, so it works a machine word at a time. It keeps the phase, so that a
//! payload may come in pieces of any length. It must never touch bytes outside the slice it is given.

/// A masking key, turned so that its first byte belongs to the next byte of payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mask([u8; 4]);

impl Mask {
    pub(super) const fn new(key: [u8; 4]) -> Mask {
        Mask(key)
    }

    /// Unmasks the next `payload.len()` bytes in place.
    pub(super) fn apply(&mut self, payload: &mut [u8]) {
        let [a, b, c, d] = self.0;
        let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let (words, rest) = payload.as_chunks_mut::<8>();
        for bytes in words {
            *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
        }
        for (byte, key) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
            *byte ^= key;
        }
        // Eight is a multiple of four, so only the bytes after the last word turn the key.
        self.0.rotate_left(rest.len() % 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmasking_in_pieces_equals_unmasking_byte_by_byte() {
        let key = [0x12, 0x34, 0x56, 0x78];
        let masked: Vec<u8> = (0..67).collect();
        let expected: Vec<u8> = masked.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
        for first in 0..=masked.len() {
            for second in first..=masked.len() {
                let mut bytes = masked.clone();
                let mut mask = Mask::new(key);
                mask.apply(&mut bytes[..first]);
                mask.apply(&mut bytes[first..second]);
                mask.apply(&mut bytes[second..]);
                assert_eq!(bytes, expected, "cut at {first} and {second}");
            }
        }
    }
}
