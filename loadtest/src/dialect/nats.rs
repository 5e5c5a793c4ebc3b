//! The NATS client protocol, as far as subscribing and publishing need it (docs.nats.io, "NATS Client Protocol").
//! Over WebSocket it is a stream: a frame may hold several messages, and a message may be cut by the end of one.

use super::heard::{Heard, client_frame, server_frame};

/// What a publisher says first, and then nothing but publications.
pub(super) const HELLO: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"loadtest\",\"version\":\"1\",\"protocol\":1}\r\n";
/// Behind each publication: its PONG is the answer, so that the publisher knows exactly what was taken.
pub(super) const TAIL: &[u8] = b"\r\nPING\r\n";

/// What a subscriber says first. The answer to its PING comes when the subscription is in force.
pub(super) fn subscribe(topic: &str) -> Vec<u8> {
    [HELLO, format!("SUB {topic} 1\r\nPING\r\n").as_bytes()].concat()
}

/// Before each message.
pub(super) fn publication(topic: &str, size: usize) -> Vec<u8> {
    format!("PUB {topic} {size}\r\n").into_bytes()
}

/// One thing that a server says.
#[derive(Debug, PartialEq)]
pub(super) enum Said<'a> {
    Message(&'a [u8]),
    Ping,
    Pong,
    /// `INFO` and `+OK`.
    Nothing,
    Error(&'a [u8]),
}

/// What lies at the front of `bytes` and its length, or `None` while it is cut.
pub(super) fn front(bytes: &[u8]) -> Result<Option<(Said<'_>, usize)>, String> {
    let Some(at) = bytes.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
    let (line, length) = (bytes[..at].trim_ascii_end(), at + 1);
    if let Some(arguments) = line.strip_prefix(b"MSG ") {
        let size =
            arguments.rsplit(|&byte| byte == b' ').next().and_then(|size| std::str::from_utf8(size).ok());
        let size: usize = size
            .and_then(|size| size.parse().ok())
            .ok_or_else(|| format!("no length: {}", String::from_utf8_lossy(line)))?;
        let end = length.checked_add(size).ok_or("a length out of range")?;
        let (Some(message), Some(b"\r\n")) =
            (bytes.get(length..end), bytes.get(end..).and_then(|it| it.get(..2)))
        else {
            return if bytes.len() >= end.saturating_add(2) {
                Err("a message is longer than it says".to_owned())
            } else {
                Ok(None)
            };
        };
        return Ok(Some((Said::Message(message), end + 2)));
    }
    let said = match line {
        b"PING" => Said::Ping,
        b"PONG" => Said::Pong,
        _ if line == b"+OK" || line.starts_with(b"INFO ") => Said::Nothing,
        _ if line.starts_with(b"-ERR") => Said::Error(line),
        _ => return Err(format!("not NATS: {}", String::from_utf8_lossy(&line[..line.len().min(80)]))),
    };
    Ok(Some((said, length)))
}

/// Takes what is whole, and gives its length.
pub(super) fn hear(bytes: &[u8], heard: &mut Heard) -> Result<usize, String> {
    let mut at = 0;
    while let Some((said, length)) = front(&bytes[at..])? {
        match said {
            Said::Message(message) => server_frame(message, &mut heard.frames),
            Said::Ping => heard.replies.extend(client_frame(b"PONG\r\n")),
            Said::Pong => heard.has_joined = true,
            Said::Nothing => {}
            Said::Error(line) => return Err(String::from_utf8_lossy(line).into_owned()),
        }
        at += length;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_messages_of_one_frame_are_told_apart() {
        let mut heard = Heard::default();
        let bytes =
            b"INFO {}\r\nMSG a.b 1 3\r\none\r\nPONG\r\nMSG a.b 1 reply.to 5\r\n\r\nand\r\nMSG a.b 1 9\r\nhal";
        let taken = hear(bytes, &mut heard).expect("NATS");
        assert_eq!(&bytes[taken..], b"MSG a.b 1 9\r\nhal");
        let mut expected = Vec::new();
        server_frame(b"one", &mut expected);
        server_frame(b"\r\nand", &mut expected);
        assert_eq!(heard, Heard { frames: expected, replies: Vec::new(), has_joined: true });
    }

    #[test]
    fn complaints_and_nonsense_are_errors() {
        for bytes in [
            &b"-ERR 'Authorization Violation'\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\n",
            b"MSG a 1 x\r\n",
            b"MSG a 1 2\r\nlong\r\n",
            b"MSG a 1 18446744073709551615\r\nx",
        ] {
            assert!(hear(bytes, &mut Heard::default()).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
