//! Any bytes before a connection's first must be judged without a panic; a header ends where it says, whatever follows, and
//! what cannot become one never does.

#![no_main]

use fanfare::{
    limits::PROXY_HEADER_BYTES,
    proxy_protocol::{Parsed, parse},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| match parse(data) {
    Ok(Parsed::Complete { length, .. }) => {
        assert!(length <= data.len() && length <= PROXY_HEADER_BYTES);
        assert_eq!(parse(&data[..length]), parse(data));
        for cut in 0..length {
            assert_eq!(parse(&data[..cut]), Ok(Parsed::Incomplete));
        }
    }
    Ok(Parsed::Incomplete) => assert!(data.len() < PROXY_HEADER_BYTES),
    Err(error) => assert_eq!(parse(&[data, b"more"].concat()), Err(error)),
});
