//! What a published message looks like: 16 decimal digits of stream and sequence number, 16 of send time (nanoseconds
//! since the harness started), then padding up to the asked size. All of it is ASCII, so that it can travel in a
//! text frame. The publisher writes it; the readers look only at the digits, except for sampled clients, whose
//! padding is compared too.

use std::time::Instant;

use crate::place::Place;

/// Bytes of place and send time: the smallest message there can be.
pub(crate) const MESSAGE_MIN: usize = 32;
const DIGITS: usize = 16;

/// Messages of one size; only the digits differ from one to the next.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    padding: Vec<u8>,
    /// Send times count from here. One for a whole run, so that every thread of every process reads the same clock.
    epoch: Instant,
}

impl Message {
    /// Messages of `size` bytes, at least [`MESSAGE_MIN`].
    pub(crate) fn new(size: usize, epoch: Instant) -> Self {
        let padding = (b'a'..=b'z').cycle().take(size.saturating_sub(MESSAGE_MIN)).collect();
        Self { padding, epoch }
    }

    pub(crate) fn size(&self) -> usize {
        MESSAGE_MIN + self.padding.len()
    }

    /// From when send times count.
    pub(crate) fn epoch(&self) -> Instant {
        self.epoch
    }

    /// Nanoseconds from the harness's start to `at`.
    pub(crate) fn clock(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    /// Appends the message at `place`, sent at `sent_ns`.
    pub(crate) fn write(&self, place: Place, sent_ns: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&digits(place.digits()));
        out.extend_from_slice(&digits(sent_ns));
        out.extend_from_slice(&self.padding);
    }

    /// Whether everything behind the digits is as it was published.
    pub(crate) fn padding_is_intact(&self, body: &[u8]) -> bool {
        body.get(MESSAGE_MIN..) == Some(self.padding.as_slice())
    }
}

/// Stream and sequence number, or `None` if this was not written by [`Message::write`].
#[inline]
pub(crate) fn place(body: &[u8]) -> Option<Place> {
    number(body.first_chunk()?).map(Place::from_digits)
}

/// The send time in nanoseconds since the harness started.
#[inline]
pub(crate) fn sent_ns(body: &[u8]) -> Option<u64> {
    number(body.get(DIGITS..)?.first_chunk()?)
}

fn digits(mut number: u64) -> [u8; DIGITS] {
    let mut text = [b'0'; DIGITS];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    text
}

#[inline]
fn number(text: &[u8; DIGITS]) -> Option<u64> {
    let (high, low) = text.split_at(8);
    let high = eight_digits(u64::from_le_bytes(high.try_into().ok()?))?;
    let low = eight_digits(u64::from_le_bytes(low.try_into().ok()?))?;
    Some(high * 100_000_000 + low)
}

/// Eight ASCII digits at once: pairs, then fours, then eights are joined within one register. At ten million
/// deliveries a second a loop over the digits would be a good part of what a delivery costs the harness.
#[inline]
fn eight_digits(word: u64) -> Option<u64> {
    const HIGH: u64 = 0xF0F0_F0F0_F0F0_F0F0;
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    if word & HIGH != ZEROS || word.wrapping_add(0x0606_0606_0606_0606) & HIGH != ZEROS {
        return None;
    }
    let ones = word & 0x0F0F_0F0F_0F0F_0F0F;
    let pairs = ones.wrapping_mul(10).wrapping_add(ones >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_FFFF_0000_FFFF;
    Some(fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xFFFF_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(sequence: u64, sent_ns: u64, size: usize) -> Vec<u8> {
        let mut body = Vec::new();
        Message::new(size, Instant::now()).write(Place::from_digits(sequence), sent_ns, &mut body);
        body
    }

    #[test]
    fn what_is_written_is_read_back() {
        for number in [0, 1, 9, 10, 99_999_999, 100_000_000, 1_234_567_890_123_456, 9_999_999_999_999_999] {
            let body = written(number, 9_999_999_999_999_999 - number, 128);
            assert_eq!(body.len(), 128);
            assert_eq!(place(&body), Some(Place::from_digits(number)));
            assert_eq!(sent_ns(&body), Some(9_999_999_999_999_999 - number));
        }
    }

    #[test]
    fn anything_but_digits_is_no_number() {
        let body = written(42, 7, 64);
        for at in 0..16 {
            for byte in (0..=255u8).filter(|byte| !byte.is_ascii_digit()) {
                let mut spoilt = body.clone();
                spoilt[at] = byte;
                assert_eq!(place(&spoilt), None, "byte {byte} at {at}");
            }
        }
        assert_eq!(place(b"123"), None);
        assert_eq!(sent_ns(&body[..20]), None);
    }

    #[test]
    fn a_spoilt_padding_is_noticed() {
        let message = Message::new(64, Instant::now());
        let mut body = written(1, 1, 64);
        assert!(message.padding_is_intact(&body));
        body[63] ^= 1;
        assert!(!message.padding_is_intact(&body));
        assert!(!message.padding_is_intact(&body[..63]));
    }
}
