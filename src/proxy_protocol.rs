//! The PROXY protocol, versions 1 and 2: what a proxy that passes on bytes says first of whom it passes them on for.
//!
//! A parser of bytes, without a socket: whoever accepts connections hands in what has come so far, and takes as many bytes off
//! the stream as the header was long. It is strict, for what it says decides who somebody is: what is not exactly a header is
//! an error. Source: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::limits::PROXY_HEADER_BYTES;

/// How a header of version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// How a header of version 1 begins.
const WORD: &[u8; 6] = b"PROXY ";
/// Longest header of version 1, its end included, bytes.
const LINE_BYTES: usize = 107;
/// What a header of version 2 has before its addresses, bytes.
const FIXED_BYTES: usize = 16;
/// The TLV that says how the client speaks with the proxy.
const TLV_SSL: u8 = 0x20;
/// In its first byte: by TLS.
const CLIENT_SSL: u8 = 1;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The proxy speaks for itself, to see whether anybody is there, or does not know for whom.
    Local,
    /// It passes on what somebody sends.
    Proxied {
        /// Where that comes from.
        source: SocketAddr,
        /// Where it was sent to.
        destination: SocketAddr,
        /// Whether the proxy received it by TLS.
        secure: bool,
    },
}

/// What has come so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header.
    Incomplete,
    /// A header, in so many bytes; what follows is not the proxy's.
    Complete {
        /// What it says.
        header: Header,
        /// Its length, bytes.
        length: usize,
    },
}

/// Why something is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// It does not begin like one.
    Missing,
    /// It is longer than is read ([`PROXY_HEADER_BYTES`]).
    TooLong,
    /// It begins like one and goes on like none.
    Malformed,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "it does not begin with a PROXY header",
            Self::TooLong => "its PROXY header is too long",
            Self::Malformed => "its PROXY header is malformed",
        })
    }
}

impl std::error::Error for HeaderError {}

/// Reads a header at the beginning of `bytes`.
///
/// # Errors
/// As soon as they cannot become one.
pub fn parse(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    if begins(bytes, SIGNATURE) {
        parse_binary(bytes)
    } else if begins(bytes, WORD) {
        parse_line(bytes)
    } else {
        Err(HeaderError::Missing)
    }
}

/// Whether `bytes` begin with `start`, as far as they go.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    let both = bytes.len().min(start.len());
    bytes[..both] == start[..both]
}

/// Version 1: a line of text.
fn parse_line(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    let Some(end) = bytes.windows(2).take(LINE_BYTES - 1).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LINE_BYTES { Ok(Parsed::Incomplete) } else { Err(HeaderError::TooLong) };
    };
    let line = std::str::from_utf8(&bytes[WORD.len()..end]).map_err(|_| HeaderError::Malformed)?;
    let header = header_of(line).ok_or(HeaderError::Malformed)?;
    Ok(Parsed::Complete { header, length: end + 2 })
}

/// What stands in a line behind `PROXY `.
fn header_of(line: &str) -> Option<Header> {
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored.
        return Some(Header::Local);
    }
    let [source, destination, source_port, destination_port] =
        [words.next()?, words.next()?, words.next()?, words.next()?];
    let address = |text: &str| match family {
        "TCP4" => text.parse().ok().map(IpAddr::V4),
        "TCP6" => text.parse().ok().map(IpAddr::V6),
        _ => None,
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    let header = Header::Proxied {
        source: SocketAddr::new(address(source)?, port(source_port)?),
        destination: SocketAddr::new(address(destination)?, port(destination_port)?),
        secure: false,
    };
    words.next().is_none().then_some(header)
}

/// Version 2: bytes.
fn parse_binary(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED_BYTES) else { return Ok(Parsed::Incomplete) };
    let [command, family, high, low] = fixed[SIGNATURE.len()..] else { return Ok(Parsed::Incomplete) };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(HeaderError::Malformed),
    };
    if family >> 4 > 3 || family & 0x0f > 2 {
        return Err(HeaderError::Malformed);
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED_BYTES + length > PROXY_HEADER_BYTES {
        return Err(HeaderError::TooLong);
    }
    let Some(body) = rest.get(..length) else { return Ok(Parsed::Incomplete) };
    let header = match family {
        _ if is_local => Header::Local,
        0x11 => proxied::<4>(body)?,
        0x21 => proxied::<16>(body)?,
        // Datagrams do not come over a stream.
        0x12 | 0x22 => return Err(HeaderError::Malformed),
        // It is not said for whom, or it is somebody on the proxy's own machine.
        _ => Header::Local,
    };
    Ok(Parsed::Complete { header, length: FIXED_BYTES + length })
}

/// Two addresses of `N` bytes, their ports, and what more the proxy has to say.
fn proxied<const N: usize>(body: &[u8]) -> Result<Header, HeaderError>
where
    Address<N>: Into<IpAddr>,
{
    let take = |from: usize| body.get(from..).and_then(|rest| rest.first_chunk::<N>()).copied();
    let port = |from: usize| body.get(from..).and_then(|rest| rest.first_chunk::<2>()).copied();
    let (Some(source), Some(destination), Some(source_port), Some(destination_port)) =
        (take(0), take(N), port(2 * N), port(2 * N + 2))
    else {
        return Err(HeaderError::Malformed);
    };
    let socket = |address, port| SocketAddr::new(Address(address).into(), u16::from_be_bytes(port));
    Ok(Header::Proxied {
        source: socket(source, source_port),
        destination: socket(destination, destination_port),
        secure: is_secure(&body[2 * N + 4..])?,
    })
}

/// The bytes of an IP address.
struct Address<const N: usize>([u8; N]);

impl From<Address<4>> for IpAddr {
    fn from(address: Address<4>) -> Self {
        Ipv4Addr::from(address.0).into()
    }
}

impl From<Address<16>> for IpAddr {
    fn from(address: Address<16>) -> Self {
        Ipv6Addr::from(address.0).into()
    }
}

/// Whether one of the TLVs says that the client speaks TLS with the proxy. All others are passed over.
fn is_secure(mut tlvs: &[u8]) -> Result<bool, HeaderError> {
    let mut is_secure = false;
    while let [kind, high, low, rest @ ..] = tlvs {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, others) = rest.split_at_checked(length).ok_or(HeaderError::Malformed)?;
        is_secure |= *kind == TLV_SSL && value.first().is_some_and(|client| client & CLIENT_SSL != 0);
        tlvs = others;
    }
    if tlvs.is_empty() { Ok(is_secure) } else { Err(HeaderError::Malformed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn socket(text: &str) -> SocketAddr {
        text.parse().expect("it is an address")
    }

    fn proxied(source: &str, destination: &str) -> Header {
        Header::Proxied { source: socket(source), destination: socket(destination), secure: false }
    }

    /// A header of version 2.
    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("it is short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    /// 192.0.2.7:4711 to 198.51.100.1:443.
    const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 1, 187];

    /// What `bytes` come to, and however they are cut: nothing but their whole is it.
    fn parsed(bytes: &[u8]) -> Result<Header, HeaderError> {
        let behind = [bytes, b"GET / HTTP/1.1\r\n\r\n"].concat();
        for cut in 0..bytes.len() {
            match parse(&bytes[..cut]) {
                Ok(Parsed::Incomplete) => {}
                Ok(complete) => panic!("{cut} bytes are {complete:?}"),
                Err(error) => return Err(error),
            }
        }
        let Parsed::Complete { header, length } = parse(&behind)? else { panic!("{bytes:?} are not whole") };
        assert_eq!(length, bytes.len());
        Ok(header)
    }

    #[test]
    fn lines_of_version_1() {
        let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
        assert_eq!(parsed(line), Ok(proxied("192.0.2.7:4711", "198.51.100.1:443")));
        let line = b"PROXY TCP6 2001:db8::7 2001:db8::1 65535 0\r\n";
        assert_eq!(parsed(line), Ok(proxied("[2001:db8::7]:65535", "[2001:db8::1]:0")));
        assert_eq!(parsed(b"PROXY UNKNOWN\r\n"), Ok(Header::Local));
        assert_eq!(parsed(b"PROXY UNKNOWN ffff::1 x 1 2 3\r\n"), Ok(Header::Local));
    }

    #[test]
    fn lines_that_are_not_exactly_so_are_malformed() {
        for line in [
            "PROXY \r\n",
            "PROXY  TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 \r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 4711 65536\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +4711 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 04711 443\r\n",
            "PROXY TCP4 192.0.2.07 198.51.100.1 4711 443\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.1 4711 443\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 4711 443\r\n",
            "PROXY tcp4 192.0.2.7 198.51.100.1 4711 443\r\n",
            "PROXY TCP4 192.0.2.7\n198.51.100.1 4711 443\r\n",
        ] {
            assert_eq!(parsed(line.as_bytes()), Err(HeaderError::Malformed), "{line:?}");
        }
        assert_eq!(parsed(b"PROXY TCP4 \xff\r\n"), Err(HeaderError::Malformed));
        let long = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
        assert_eq!(parsed(long(LINE_BYTES).as_bytes()), Ok(Header::Local));
        assert_eq!(parsed(long(LINE_BYTES + 1).as_bytes()), Err(HeaderError::TooLong));
    }

    #[test]
    fn anything_else_is_no_header() {
        for bytes in
            [&b"GET / HTTP/1.1\r\n"[..], b"proxy TCP4", b"PROXY\t", b"\x16\x03\x01", b"\r\n\r\n\r\n", b"\0"]
        {
            assert_eq!(parsed(bytes), Err(HeaderError::Missing), "{bytes:?}");
        }
        assert_eq!(parse(b""), Ok(Parsed::Incomplete));
    }

    #[test]
    fn headers_of_version_2() {
        assert_eq!(parsed(&binary(0x21, 0x11, &V4)), Ok(proxied("192.0.2.7:4711", "198.51.100.1:443")));
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().expect("an address").octets());
        v6[16..32].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        v6[32..].copy_from_slice(&[0, 1, 0, 2]);
        assert_eq!(parsed(&binary(0x21, 0x21, &v6)), Ok(proxied("[2001:db8::7]:1", "[::1]:2")));
        for (command, family, body) in [
            (0x20, 0x11, &V4[..]),
            (0x20, 0x00, b""),
            (0x20, 0x00, b"anything"),
            (0x21, 0x00, b""),
            (0x21, 0x31, &[0; 216]),
        ] {
            assert_eq!(parsed(&binary(command, family, body)), Ok(Header::Local), "{command} {family}");
        }
    }

    #[test]
    fn tlvs_are_passed_over_but_for_the_one_that_tells_of_tls() {
        let with = |tlvs: &[u8]| parsed(&binary(0x21, 0x11, &[&V4[..], tlvs].concat()));
        let secure = |tlvs: &[u8]| match with(tlvs) {
            Ok(Header::Proxied { secure, .. }) => Ok(secure),
            Ok(Header::Local) => panic!("it is proxied"),
            Err(error) => Err(error),
        };
        assert_eq!(secure(&[]), Ok(false));
        assert_eq!(secure(&[0x04, 0, 3, 0, 0, 0]), Ok(false));
        assert_eq!(secure(&[0x04, 0, 0, TLV_SSL, 0, 5, 1, 0, 0, 0, 0]), Ok(true));
        assert_eq!(secure(&[TLV_SSL, 0, 5, 4, 0, 0, 0, 0]), Ok(false));
        for tlvs in [&[0x04][..], &[0x04, 0], &[0x04, 0, 1], &[0x04, 0, 0, 0]] {
            assert_eq!(secure(tlvs), Err(HeaderError::Malformed), "{tlvs:?}");
        }
    }

    #[test]
    fn headers_of_version_2_that_are_not_exactly_so_are_malformed() {
        for (command, family, body) in [
            (0x11, 0x11, &V4[..]),
            (0x22, 0x11, &V4[..]),
            (0x21, 0x41, &V4[..]),
            (0x21, 0x13, &V4[..]),
            (0x21, 0x12, &V4[..]),
            (0x21, 0x11, &V4[..11]),
            (0x21, 0x21, &V4[..]),
            (0x20, 0xff, b""),
        ] {
            assert_eq!(
                parsed(&binary(command, family, body)),
                Err(HeaderError::Malformed),
                "{command} {family}"
            );
        }
        let longest = PROXY_HEADER_BYTES - FIXED_BYTES;
        assert_eq!(parsed(&binary(0x20, 0, &vec![0; longest])), Ok(Header::Local));
        assert_eq!(parse(&binary(0x20, 0, &vec![0; longest + 1])), Err(HeaderError::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_and_never_beyond_the_limit(bytes in any::<Vec<u8>>(), start in 0_usize..3) {
            let start: &[u8] = [&b""[..], WORD, SIGNATURE][start];
            let bytes = [start, &bytes].concat();
            match parse(&bytes) {
                Ok(Parsed::Complete { length, .. }) => {
                    prop_assert!(length <= bytes.len() && length <= PROXY_HEADER_BYTES);
                    prop_assert_eq!(parse(&bytes[..length]), parse(&bytes));
                }
                Ok(Parsed::Incomplete) => prop_assert!(bytes.len() < PROXY_HEADER_BYTES),
                Err(error) => prop_assert_eq!(parse(&[&bytes[..], b"more"].concat()), Err(error)),
            }
        }
    }
}
