//! Any bytes, cut anywhere into pieces, must give the same lines as when they are split at once, without a panic and without
//! holding more than a line. The first two bytes of the input are the longest line and the length of the pieces.

#![no_main]

use bytes::Bytes;
use fanfare::protocol::lines::{LineSplitter, Split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [max, length, bytes @ ..] = data else { return };
    let max = usize::from(*max);
    let naive: Vec<Split> = bytes.split(|byte| *byte == b'\n').filter_map(|line| said(line, max)).collect();
    for length in [usize::from(*length).max(1), 1, bytes.len().max(1)] {
        assert_eq!(split(bytes, max, length), naive);
    }
});

fn said(line: &[u8], max: usize) -> Option<Split> {
    match line {
        _ if line.len() > max => Some(Split::TooLong),
        _ if line.iter().all(u8::is_ascii_whitespace) => None,
        _ => Some(Split::Line(Bytes::copy_from_slice(line))),
    }
}

fn split(bytes: &[u8], max: usize, length: usize) -> Vec<Split> {
    let mut splitter = LineSplitter::new(max);
    let mut split = Vec::new();
    for piece in bytes.chunks(length) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(line) = splitter.next(&mut piece) {
            split.push(line);
        }
        splitter.keep(&piece);
        assert!(splitter.holds() <= max);
    }
    split.extend(splitter.end());
    split
}
