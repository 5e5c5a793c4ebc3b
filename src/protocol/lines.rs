//! Lines out of bytes that come in any pieces, each line bounded; what is too long is passed over, not held.
//!
//! A batch that is a stream is read with it (`http/lines.rs`), which adds what knows time and sockets. It holds the begin of
//! one line and nothing else.

use bytes::{Buf, Bytes, BytesMut};

/// Takes lines apart.
#[derive(Debug)]
pub struct LineSplitter {
    /// Longest line, bytes.
    max: usize,
    /// The begin of a line whose end has not come.
    begun: BytesMut,
    /// Whether the rest of a line that is too long is passed over.
    passes_over: bool,
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub enum Split {
    /// A line, without its end, that has more in it than white space; such lines are passed over.
    Line(Bytes),
    /// A line that was too long.
    TooLong,
}

impl LineSplitter {
    /// Of lines of at most `max` bytes, without their ends.
    pub fn new(max: usize) -> Self {
        Self { max, begun: BytesMut::new(), passes_over: false }
    }

    /// The line whose end comes next in `piece`, which is taken out of it. Without an end of a line in it, `piece` stays as it is
    /// and waits for [`Self::keep`].
    pub fn next(&mut self, piece: &mut Bytes) -> Option<Split> {
        loop {
            let length = piece.iter().position(|&byte| byte == b'\n')?;
            let mut line = piece.split_to(length);
            piece.advance(1);
            let begun = std::mem::take(&mut self.begun);
            if std::mem::take(&mut self.passes_over) || begun.len() + line.len() > self.max {
                return Some(Split::TooLong);
            }
            if !begun.is_empty() {
                let mut whole = begun;
                whole.extend_from_slice(&line);
                line = whole.freeze();
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(Split::Line(line));
            }
        }
    }

    /// Whether [`Self::keep`] holds on to a piece of `len` bytes, or passes over it.
    pub fn keeps(&self, len: usize) -> bool {
        !self.passes_over && self.begun.len() + len <= self.max
    }

    /// Puts a piece that has no end of a line behind the line that has begun.
    pub fn keep(&mut self, piece: &[u8]) {
        debug_assert!(!piece.contains(&b'\n'));
        if self.keeps(piece.len()) {
            self.begun.extend_from_slice(piece);
        } else {
            self.passes_over = true;
            self.begun = BytesMut::new();
        }
    }

    /// The last line, which needs no end of its own: nothing more comes.
    pub fn end(&mut self) -> Option<Split> {
        if std::mem::take(&mut self.passes_over) {
            return Some(Split::TooLong);
        }
        let last = self.begun.split().freeze();
        (!last.iter().all(u8::is_ascii_whitespace)).then_some(Split::Line(last))
    }

    /// Bytes it holds.
    pub fn holds(&self) -> usize {
        self.begun.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const MAX: usize = 6;

    /// The lines of `bytes` in pieces of these lengths, over and over.
    fn split(bytes: &[u8], lengths: &[usize]) -> Vec<Split> {
        let mut splitter = LineSplitter::new(MAX);
        let (mut split, mut rest) = (Vec::new(), bytes);
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at((*length).min(rest.len()));
            rest = behind;
            let mut piece = Bytes::copy_from_slice(piece);
            while let Some(line) = splitter.next(&mut piece) {
                split.push(line);
            }
            splitter.keep(&piece);
            assert!(splitter.holds() <= MAX);
        }
        split.extend(splitter.end());
        split
    }

    /// The same, the naive way.
    fn naive(bytes: &[u8]) -> Vec<Split> {
        let lines = bytes.split(|byte| *byte == b'\n');
        let said = lines.filter_map(|line| match line {
            _ if line.len() > MAX => Some(Split::TooLong),
            _ if line.iter().all(u8::is_ascii_whitespace) => None,
            _ => Some(Split::Line(Bytes::copy_from_slice(line))),
        });
        said.collect()
    }

    proptest! {
        /// The stable twin of the fuzz target `lines`.
        #[test]
        fn lines_are_the_same_however_they_are_cut(
            bytes in vec(prop_oneof![Just(b'\n'), Just(b' '), Just(b'\r'), any::<u8>()], 0..80),
            lengths in vec(1_usize..10, 1..6),
        ) {
            prop_assert_eq!(split(&bytes, &lengths), naive(&bytes));
        }
    }
}
