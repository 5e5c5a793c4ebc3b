//! Any bytes, cut anywhere into reads, must give the same events as when read whole, without a panic and without
//! holding more than the limits. The first byte of the input is the length of the reads.

#![no_main]

use fanfare::limits::CONTROL_PAYLOAD_MAX;
use fanfare::websocket::{Input, Reader, ReaderLimits};
use libfuzzer_sys::fuzz_target;

/// Small, so that the fuzzer gets to every one of them.
const LIMITS: ReaderLimits = ReaderLimits { frame: 200, message: 300, fragments: 4 };

fuzz_target!(|data: &[u8]| {
    let Some((&length, bytes)) = data.split_first() else { return };
    let whole = events(bytes, bytes.len().max(1));
    assert_eq!(events(bytes, usize::from(length).max(1)), whole);
    assert_eq!(events(bytes, 1), whole);
});

/// The events of `bytes` in reads of `length`, each as text.
fn events(bytes: &[u8], length: usize) -> Vec<String> {
    let mut reader = Reader::new();
    let mut events = Vec::new();
    for read in bytes.chunks(length) {
        let mut read = read.to_vec();
        let mut input = Input::new(&mut read);
        loop {
            match reader.next(&mut input, &LIMITS) {
                Ok(Some(incoming)) => events.push(format!("{incoming:?}")),
                Ok(None) => break,
                Err(violation) => events.push(format!("{violation:?}")),
            }
            assert!(reader.holds() <= LIMITS.message + CONTROL_PAYLOAD_MAX);
        }
        assert!(input.is_empty());
    }
    events
}
