//! How a delivery is wrapped, for servers that do not send the bare message. An [`Interpreter`] turns what they send
//! into the plain frames that the reader checks, says what has to be answered, and notices when a client has joined.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::heard::{Heard, client_frame, server_frame};
use super::{nats, socketio, v1};

/// How a delivery travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Framing {
    /// A frame holds the message and nothing else.
    Plain,
    /// The subprotocol `fanfare.v1`, which the reader understands by itself: see [`super::v1`].
    V1,
    /// Engine.IO 4 and Socket.IO 5 packets.
    SocketIo,
    /// The NATS protocol, as a stream over frames.
    Nats,
}

impl Framing {
    /// What a client offers in its handshake, and the server has to select.
    pub(crate) fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::V1 => Some(v1::SUBPROTOCOL),
            Self::Plain | Self::SocketIo | Self::Nats => None,
        }
    }
}

/// Interprets for all clients of one generator thread.
#[derive(Debug)]
pub(crate) struct Interpreter {
    framing: Framing,
    /// Sent right after the upgrade.
    pub(crate) opening: Vec<u8>,
    heard: Heard,
    /// By client, the beginning of what was cut at the end of a payload.
    cut: HashMap<usize, Vec<u8>>,
}

impl Interpreter {
    /// `None` if there is nothing to interpret. All clients are on `topic`.
    pub(crate) fn new(framing: Framing, topic: &str) -> Option<Self> {
        let opening = match framing {
            Framing::Plain | Framing::V1 => return None,
            Framing::SocketIo => Vec::new(),
            Framing::Nats => client_frame(&nats::subscribe(topic)),
        };
        Some(Self { framing, opening, heard: Heard::default(), cut: HashMap::new() })
    }

    /// Takes the payload of one frame to `client`. Fails with the server's complaint, or if this is not its protocol.
    pub(crate) fn hear(&mut self, client: usize, payload: &[u8]) -> Result<(), String> {
        match self.framing {
            Framing::Plain | Framing::V1 => {
                server_frame(payload, &mut self.heard.frames);
                Ok(())
            }
            Framing::SocketIo => socketio::hear(payload, &mut self.heard),
            Framing::Nats => match self.cut.remove(&client) {
                None => {
                    let taken = nats::hear(payload, &mut self.heard)?;
                    self.keep(client, &payload[taken..]);
                    Ok(())
                }
                Some(mut bytes) => {
                    bytes.extend_from_slice(payload);
                    let taken = nats::hear(&bytes, &mut self.heard)?;
                    self.keep(client, &bytes[taken..]);
                    Ok(())
                }
            },
        }
    }

    /// The plain frames of what was heard since the last call.
    pub(crate) fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.heard.frames
    }

    /// What is to be sent now, to the client that was heard last; empties it.
    pub(crate) fn take_replies(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.heard.replies)
    }

    /// Whether the client that was heard last has just joined; forgets it.
    pub(crate) fn take_joined(&mut self) -> bool {
        std::mem::take(&mut self.heard.has_joined)
    }

    fn keep(&mut self, client: usize, rest: &[u8]) {
        if !rest.is_empty() {
            self.cut.insert(client, rest.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cut_over_frames_is_put_together_for_its_client_only() {
        let mut interpreter = Interpreter::new(Framing::Nats, "t").expect("not plain");
        let whole = b"MSG t 1 5\r\nhello\r\nMSG t 1 2\r\nho\r\n";
        let mut expected = Vec::new();
        server_frame(b"hello", &mut expected);
        server_frame(b"ho", &mut expected);
        for cut in 0..whole.len() {
            interpreter.frames().clear();
            interpreter.hear(7, &whole[..cut]).expect("NATS");
            interpreter.hear(8, b"PING\r\n").expect("NATS");
            interpreter.hear(7, &whole[cut..]).expect("NATS");
            assert_eq!(*interpreter.frames(), expected, "cut at {cut}");
            assert_eq!(interpreter.take_replies(), client_frame(b"PONG\r\n"));
            assert!(interpreter.cut.is_empty());
        }
    }

    #[test]
    fn a_clients_frame_is_masked() {
        let frame = client_frame(b"40");
        assert_eq!(frame[..2], [0x81, 0x82]);
        let mask = &frame[2..6];
        let body: Vec<u8> = frame[6..].iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(body, b"40");
        assert_eq!(client_frame(&[0; 200])[1..4], [0xFE, 0, 200]);
        assert_eq!(client_frame(&[0; 70_000])[1..10], [0xFF, 0, 0, 0, 0, 0, 1, 17, 112]);
    }
}
