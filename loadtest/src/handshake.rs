//! The WebSocket opening handshake (RFC 6455 section 4) with one fixed key. The key protects against caches and
//! against servers that do not speak WebSocket at all; a fixed one proves the latter just as well, and spares
//! the harness SHA-1 and a random source. It is the example of RFC 6455 section 1.3.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::http;

/// What every client sends as `Sec-WebSocket-Key`.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What a server that understood has to answer to [`KEY`].
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// The answer of the floor server, which is asked by these clients only.
pub(crate) const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
    connection: upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// What the bytes received so far amount to.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    Incomplete,
    /// The upgrade is done; frames begin this many bytes further on.
    Accepted(usize),
    /// The server refused, or its answer is not a handshake. Holds the reason.
    Refused(String),
}

/// What became of a request that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    Sent,
    /// The socket is not connected yet.
    NotYet,
}

/// The request that upgrades a connection to `path`.
pub(crate) fn request(path: &str, host: SocketAddr) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// Sends a [`request`] if the socket is connected by now.
pub(crate) fn send(request: &[u8], stream: &mut TcpStream) -> io::Result<Sending> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.write(request) {
        Ok(sent) if sent == request.len() => Ok(Sending::Sent),
        // The buffer of a new socket holds far more than one request.
        Ok(_) => Err(ErrorKind::WriteZero.into()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
            Ok(Sending::NotYet)
        }
        Err(error) => Err(error),
    }
}

/// Judges what has been received in answer to [`request`].
pub(crate) fn answer(bytes: &[u8]) -> Answer {
    match http::response(bytes) {
        Ok(None) => Answer::Incomplete,
        Err(bad) => Answer::Refused(bad.to_string()),
        Ok(Some(response)) if response.status != 101 => {
            let body = String::from_utf8_lossy(response.body);
            Answer::Refused(format!("status {} {}", response.status, body.trim()))
        }
        Ok(Some(response)) if http::header(response.head, "sec-websocket-accept") != Some(ACCEPT) => {
            Answer::Refused("the Sec-WebSocket-Accept is wrong".to_owned())
        }
        Ok(Some(response)) => Answer::Accepted(response.length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canned_answer_is_the_right_one() {
        let length = RESPONSE.len();
        assert_eq!(answer(RESPONSE.as_bytes()), Answer::Accepted(length));
        assert_eq!(answer(&RESPONSE.as_bytes()[..length - 1]), Answer::Incomplete);
        assert!(RESPONSE.contains(ACCEPT));
    }

    #[test]
    fn a_refusal_and_a_wrong_accept_are_told_apart_from_success() {
        assert!(matches!(answer(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"), Answer::Refused(_)));
        assert!(matches!(answer(RESPONSE.replace("s3p", "xxx").as_bytes()), Answer::Refused(_)));
    }
}
