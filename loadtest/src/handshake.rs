//! The WebSocket opening handshake (RFC 6455 section 4) with one fixed key. The key protects against caches and
//! against servers that do not speak WebSocket at all; a fixed one proves the latter just as well, and spares
//! the harness SHA-1 and a random source. It is the example of RFC 6455 section 1.3.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;

use crate::http;
use crate::stream::Stream;

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

/// The request that upgrades a connection to `path`, and offers a `subprotocol` if there is one to offer.
pub(crate) fn request(path: &str, host: SocketAddr, subprotocol: Option<&str>) -> String {
    let offer = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{offer}\r\n"
    )
}

/// Sends a [`request`] if the socket is connected by now.
pub(crate) fn send(request: &[u8], stream: &mut Stream) -> io::Result<Sending> {
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

/// Judges what has been received in answer to a [`request`] that offered this `subprotocol`.
pub(crate) fn answer(bytes: &[u8], subprotocol: Option<&str>) -> Answer {
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
        Ok(Some(response)) if http::header(response.head, "sec-websocket-protocol") != subprotocol => {
            Answer::Refused(match subprotocol {
                Some(name) => format!("the server does not speak {name}"),
                None => "the server chose a subprotocol that was not offered".to_owned(),
            })
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
        assert_eq!(answer(RESPONSE.as_bytes(), None), Answer::Accepted(length));
        assert_eq!(answer(&RESPONSE.as_bytes()[..length - 1], None), Answer::Incomplete);
        assert!(RESPONSE.contains(ACCEPT));
    }

    #[test]
    fn a_refusal_and_a_wrong_accept_are_told_apart_from_success() {
        let refuses = |bytes: &str| matches!(answer(bytes.as_bytes(), None), Answer::Refused(_));
        assert!(refuses("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"));
        assert!(refuses(&RESPONSE.replace("s3p", "xxx")));
    }

    #[test]
    fn the_subprotocol_has_to_be_the_one_that_was_offered() {
        let chosen = RESPONSE.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: a.v1\r\n\r\n");
        assert_eq!(answer(chosen.as_bytes(), Some("a.v1")), Answer::Accepted(chosen.len()));
        for (bytes, offered) in
            [(chosen.as_str(), None), (chosen.as_str(), Some("b.v1")), (RESPONSE, Some("a.v1"))]
        {
            assert!(matches!(answer(bytes.as_bytes(), offered), Answer::Refused(_)), "{offered:?}");
        }
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        assert!(request("/ws", address, Some("a.v1")).ends_with("\r\nSec-WebSocket-Protocol: a.v1\r\n\r\n"));
        assert!(!request("/ws", address, None).contains("Protocol"));
    }
}
