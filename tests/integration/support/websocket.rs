//! A WebSocket client that sends what it is told, right or wrong, and shows every frame of the server.
//!
//! It owes nothing to the library's own frames. It checks of each frame that a server may send it.

use std::{net::SocketAddr, time::Instant};

use super::{
    DEADLINE,
    http::{Answer, Http, expect_error_json},
    v1::V1,
    wire::Wire,
};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The masking key of everything this client sends.
const MASK: [u8; 4] = [0x5a, 0x00, 0xc3, 0x81];

/// A WebSocket behind its 101.
#[derive(Debug)]
pub(crate) struct WebSocket {
    wire: Wire,
}

/// A frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The server closed it in order (FIN).
    InOrder,
    /// It was reset.
    Reset,
}

impl WebSocket {
    /// Upgrades; the answer, if it is not a 101.
    pub(crate) fn connect(address: SocketAddr, id: &str) -> Result<Self, Answer> {
        Self::upgrade(Http::connect(address), address, id, b"")
    }

    /// Upgrades a connection with a receive buffer as small as can be.
    pub(crate) fn connect_narrow(address: SocketAddr, id: &str) -> Self {
        let http = Http::over(Wire::connect_narrow(address), address);
        Self::upgrade(http, address, id, b"").expect("the upgrade is taken")
    }

    /// Upgrades a connection there is, with `behind` in the same segment as the handshake.
    pub(crate) fn upgrade(
        mut http: Http,
        address: SocketAddr,
        id: &str,
        behind: &[u8],
    ) -> Result<Self, Answer> {
        http.send([handshake(address, id).as_bytes(), behind].concat());
        Self::switched(http, None)
    }

    /// Upgrades at a path, with subprotocols offered, to the one that is expected.
    pub(crate) fn speak(
        address: SocketAddr,
        path: &str,
        offered: &str,
        expected: Option<&str>,
    ) -> Result<Self, Answer> {
        let mut http = Http::connect(address);
        let offer = format!("\r\nSec-WebSocket-Protocol: {offered}\r\n\r\n");
        let handshake = handshake(address, "").replace("/ws/", path).replace("\r\n\r\n", &offer);
        http.send(handshake);
        Self::switched(http, expected)
    }

    /// Upgrades at a path with further headers, to the plain protocol or, if one of them offers it, to `fanfare.v1`.
    pub(crate) fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, Answer> {
        let mut http = Http::connect(address);
        let mut further = String::from("\r\n");
        for (name, value) in headers {
            further.push_str(&format!("{name}: {value}\r\n"));
        }
        http.send(handshake(address, "").replace("/ws/", path).replace("\r\n\r\n", &(further + "\r\n")));
        let speaks_v1 = headers.iter().any(|(_, value)| *value == V1);
        Self::switched(http, speaks_v1.then_some(V1))
    }

    fn switched(mut http: Http, subprotocol: Option<&str>) -> Result<Self, Answer> {
        let answer = http.answer();
        if answer.status != 101 {
            return Err(answer);
        }
        // RFC 6455 section 1.3: what this key is to be answered with.
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(answer.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")));
        assert!(answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
        assert_eq!(answer.header("sec-websocket-protocol"), subprotocol);
        assert_eq!(answer.header("sec-websocket-extensions"), None, "no extension was asked for");
        Ok(Self { wire: http.into_wire() })
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.wire.write(bytes);
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.send(&frame(0x80 | TEXT, text.as_bytes()));
    }

    /// Asks for these topics instead of those it has; the answer to a ping tells when they are in force.
    pub(crate) fn send_topics(&mut self, topics: &[&str]) {
        self.send_text(&serde_json::json!({ "topics": topics }).to_string());
    }

    /// Replaces its topics, and waits until they are in force. Nothing may come meanwhile.
    pub(crate) fn set_topics(&mut self, topics: &[&str]) {
        self.send_topics(topics);
        self.send_text("ping");
        self.expect_text("pong");
    }

    /// The next frame, or how the connection ended.
    pub(crate) fn receive(&mut self) -> Result<Frame, Ended> {
        let mut header = 2;
        loop {
            match self.wire.fill_to(header) {
                Ok(true) => {}
                Ok(false) => {
                    assert!(self.wire.unread().is_empty(), "the connection ended in the middle of a frame");
                    return Err(Ended::InOrder);
                }
                Err(_) => return Err(Ended::Reset),
            }
            let bytes = self.wire.unread();
            assert_eq!(bytes[0] & 0xf0, 0x80, "a server's frame is whole and has no reserved bits");
            let (length, long) = match bytes[1] {
                126 => (2, 126),
                127 => (8, 65_536),
                short => {
                    assert!(short < 126, "a server's frame has no mask");
                    (0, 0)
                }
            };
            if header < 2 + length {
                header += length;
                continue;
            }
            let payload = match length {
                0 => u64::from(bytes[1]),
                _ => bytes[2..header].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
            };
            assert!(payload >= long, "the length is in its shortest form");
            let payload = usize::try_from(payload).expect("it fits");
            match self.wire.fill_to(header + payload) {
                Ok(true) => {}
                Ok(false) => panic!("the connection ended in the middle of a frame"),
                Err(_) => return Err(Ended::Reset),
            }
            let opcode = self.wire.take(header)[0] & 0x0f;
            return Ok(Frame { opcode, payload: self.wire.take(payload) });
        }
    }

    /// The next frame that is no ping, each of which is answered, as every client does. That a server goes on with pings
    /// makes nobody wait for longer.
    pub(crate) fn next(&mut self) -> Result<Frame, Ended> {
        let end = Instant::now() + DEADLINE;
        loop {
            let received = self.receive()?;
            if received.opcode != PING {
                return Ok(received);
            }
            assert!(Instant::now() < end, "nothing but pings came within {DEADLINE:?}");
            self.send(&frame(0x80 | PONG, &received.payload));
        }
    }

    /// The next message, a text.
    pub(crate) fn text(&mut self) -> String {
        let frame = self.next().expect("a message before the end");
        assert_eq!(frame.opcode, TEXT, "{frame:?}");
        String::from_utf8(frame.payload).expect("a text is UTF-8")
    }

    #[track_caller]
    /// The next message, which is JSON.
    pub(crate) fn json(&mut self) -> serde_json::Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub(crate) fn expect_text(&mut self, text: &str) {
        let received = self.text();
        assert!(received == text, "{received:?} instead of {text:?}");
    }

    #[track_caller]
    pub(crate) fn expect_error(&mut self, code: &str) {
        expect_error_json(&self.text(), code);
    }

    /// Waits for a close with this code, right now, and for the end of the connection, in order.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, code: u16, reason: &str) {
        let frame = self.next().expect("a close before the end");
        assert_eq!(frame.opcode, CLOSE, "{frame:?}");
        assert_eq!(frame.close(), (code, reason.to_owned()));
        assert_eq!(self.receive(), Err(Ended::InOrder), "nothing comes behind a close");
    }

    /// Waits for a close with this code, whatever comes before; the frames that did.
    #[track_caller]
    pub(crate) fn read_to_close(&mut self, code: u16) -> Vec<Frame> {
        let mut before = Vec::new();
        loop {
            let frame = self.next().unwrap_or_else(|ended| panic!("{ended:?} without a close"));
            if frame.opcode == CLOSE {
                assert_eq!(frame.close().0, code, "{frame:?}");
                assert_eq!(self.receive(), Err(Ended::InOrder), "nothing comes behind a close");
                return before;
            }
            before.push(frame);
        }
    }

    /// Reads whatever comes until the connection ends.
    pub(crate) fn read_to_end(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next().ok()).collect()
    }

    /// Closes as a client does, and waits for the answer and the end.
    pub(crate) fn close(mut self) {
        self.send(&frame(0x80 | CLOSE, &1000_u16.to_be_bytes()));
        self.read_to_close(1000);
    }

    /// Throws the connection away with a reset.
    pub(crate) fn reset(self) {
        self.wire.reset();
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl Frame {
    /// Code and reason of a close.
    pub(crate) fn close(&self) -> (u16, String) {
        let (code, reason) = self.payload.split_first_chunk().expect("a close of the server has a code");
        (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).expect("a reason is UTF-8"))
    }
}

/// A client's handshake.
pub(crate) fn handshake(address: SocketAddr, id: &str) -> String {
    format!(
        "GET /ws/{id} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A masked frame; `first` is its first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The header of a masked frame that claims to be so long, in the shortest form.
pub(crate) fn header(first: u8, length: u64) -> Vec<u8> {
    let mut header = vec![first];
    match length {
        0..126 => header.push(0x80 | length as u8),
        126..65_536 => {
            header.push(0x80 | 126);
            header.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend_from_slice(&length.to_be_bytes());
        }
    }
    header.extend_from_slice(&MASK);
    header
}
