//! A message of which only a part has come: its bytes so far, checked as they come.
//!
//! Called by [`super::half`], which has judged the frame headers and their limits. It grows with bytes received and
//! never because of a length a peer claimed, and it must never hold text that is not UTF-8.

use smallvec::SmallVec;
use std::str::from_utf8;

use super::incoming::{Incoming, Violation};

/// A message under way.
#[derive(Debug)]
pub(super) struct Message {
    content: Content,
    /// Frames opened so far, the first included.
    pub(super) fragments: u32,
}

#[derive(Debug)]
enum Content {
    /// `text` is what is known to be UTF-8; `cut` is the start of a character whose end has not come, so it is
    /// shorter than a character and legal as far as it goes.
    Text {
        text: String,
        cut: SmallVec<[u8; 4]>,
    },
    Binary(Vec<u8>),
}

impl Message {
    pub(super) fn text() -> Message {
        Message { content: Content::Text { text: String::new(), cut: SmallVec::new() }, fragments: 1 }
    }

    pub(super) fn binary() -> Message {
        Message { content: Content::Binary(Vec::new()), fragments: 1 }
    }

    /// Adds bytes that came. `most` is the length the whole message may reach; no more is ever reserved.
    pub(super) fn push(&mut self, bytes: &[u8], most: usize) -> Result<(), Violation> {
        let more = growth(self.len() + bytes.len(), self.capacity(), most);
        match &mut self.content {
            Content::Text { text, cut } => {
                text.reserve_exact(more.saturating_sub(text.len()));
                push_text(text, cut, bytes)
            }
            Content::Binary(held) => {
                held.reserve_exact(more.saturating_sub(held.len()));
                held.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Judges the message as ended: text must not stop inside a character.
    pub(super) fn end(&self) -> Result<(), Violation> {
        match &self.content {
            Content::Text { cut, .. } if !cut.is_empty() => Err(Violation::NotUtf8),
            _ => Ok(()),
        }
    }

    pub(super) fn as_incoming(&self) -> Incoming<'_> {
        match &self.content {
            Content::Text { text, .. } => Incoming::Text(text),
            Content::Binary(held) => Incoming::Binary(held),
        }
    }

    /// Bytes received.
    pub(super) fn len(&self) -> usize {
        match &self.content {
            Content::Text { text, cut } => text.len() + cut.len(),
            Content::Binary(held) => held.len(),
        }
    }

    /// Bytes of heap memory held for the content.
    pub(super) fn capacity(&self) -> usize {
        match &self.content {
            Content::Text { text, .. } => text.capacity(),
            Content::Binary(held) => held.capacity(),
        }
    }
}

/// The capacity to have before `needed` bytes are held: doubled, so that many small pieces are not copied again and
/// again, but never over `most`.
fn growth(needed: usize, capacity: usize, most: usize) -> usize {
    if needed <= capacity { capacity } else { needed.max(capacity.saturating_mul(2).min(most)) }
}

/// Appends `bytes` to `text`, refusing the first byte that cannot be part of UTF-8. The start of a character at the
/// end of `bytes` waits in `cut`.
fn push_text(text: &mut String, cut: &mut SmallVec<[u8; 4]>, mut bytes: &[u8]) -> Result<(), Violation> {
    while !cut.is_empty() {
        let Some((&next, rest)) = bytes.split_first() else { return Ok(()) };
        cut.push(next);
        bytes = rest;
        match from_utf8(cut) {
            Ok(character) => {
                text.push_str(character);
                cut.clear();
            }
            Err(error) if error.error_len().is_none() => {}
            Err(_) => return Err(Violation::NotUtf8),
        }
    }
    match from_utf8(bytes) {
        Ok(whole) => text.push_str(whole),
        // No length of error means: legal as far as it goes.
        Err(error) if error.error_len().is_none() => {
            let (whole, start) = bytes.split_at(error.valid_up_to());
            text.push_str(from_utf8(whole).map_err(|_| Violation::NotUtf8)?);
            cut.extend_from_slice(start);
        }
        Err(_) => return Err(Violation::NotUtf8),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1_000;

    fn push_each_byte(bytes: &[u8]) -> Result<Message, (usize, Violation)> {
        let mut message = Message::text();
        for (at, byte) in bytes.iter().enumerate() {
            message.push(std::slice::from_ref(byte), LIMIT).map_err(|violation| (at, violation))?;
        }
        Ok(message)
    }

    #[test]
    fn text_may_be_cut_inside_any_character() {
        let text = "a\u{e9}\u{20ac}\u{10348}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}z";
        let bytes = text.as_bytes();
        for at in 0..=bytes.len() {
            let mut message = Message::text();
            message.push(&bytes[..at], LIMIT).expect("legal");
            message.push(&bytes[at..], LIMIT).expect("legal");
            message.end().expect("whole");
            assert!(matches!(message.as_incoming(), Incoming::Text(held) if held == text), "cut at {at}");
        }
        let message = push_each_byte(bytes).expect("legal");
        assert!(matches!(message.as_incoming(), Incoming::Text(held) if held == text));
    }

    #[test]
    fn the_first_byte_that_cannot_be_utf8_is_refused_when_it_comes() {
        let cases: [(&[u8], usize); 8] = [
            (b"ab\xff", 2),
            (b"\x80", 0),
            (b"\xc0", 0),
            (b"\xe0\x80", 1),
            (b"\xed\xa0", 1),
            (b"\xf4\x90", 1),
            (b"\xf5", 0),
            (b"\xe2\x82a", 2),
        ];
        for (bytes, bad) in cases {
            assert_eq!(push_each_byte(bytes).err(), Some((bad, Violation::NotUtf8)), "{bytes:x?}");
            let mut whole = Message::text();
            assert_eq!(whole.push(bytes, LIMIT), Err(Violation::NotUtf8), "{bytes:x?}");
        }
    }

    #[test]
    fn text_that_ends_inside_a_character_is_refused_at_its_end() {
        let message = push_each_byte(b"a\xf0\x9f\x98").expect("legal as far as it goes");
        assert_eq!(message.end(), Err(Violation::NotUtf8));
        assert_eq!(message.len(), 4);
    }

    #[test]
    fn memory_doubles_and_stops_at_the_most_it_may_reach() {
        for mut message in [Message::text(), Message::binary()] {
            let mut capacities = Vec::new();
            for _ in 0..LIMIT {
                message.push(b"x", LIMIT).expect("legal");
                if capacities.last() != Some(&message.capacity()) {
                    capacities.push(message.capacity());
                }
            }
            assert!(capacities.iter().all(|&capacity| capacity <= LIMIT), "{capacities:?}");
            assert!(capacities.len() < 15, "{capacities:?}");
        }
    }
}
