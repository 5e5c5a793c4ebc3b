//! How one publishes: what stands before and behind each message, and what an answer looks like. Every dialect is
//! arranged so that answers come one for each publication and in order; that keeps the publisher's count exact.

use std::net::SocketAddr;

use super::nats::{self, Said};
use crate::http::{self, BadResponse, Response};

/// Where publications go, and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publishing {
    /// `POST /publish/{topic}`, and the body is the message.
    Post,
    /// `POST /publish`, and the body is an object that names the topic.
    JsonPost,
    /// `PUB` in the NATS protocol, each with a `PING` whose `PONG` is the answer.
    Nats,
}

/// Keys there are, where publications have one. They differ in two digits. So few that a message of each, of a usual
/// size, is well below what a server queues for one client.
const KEYS: u64 = 16;
/// What stands before these digits in the target of a request.
const KEY: &str = "key=k";

/// What stands before and behind each message; the same for all of one size and topic, but for the key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Envelope {
    pub(crate) head: Vec<u8>,
    pub(crate) tail: &'static [u8],
    /// Where the digits of the key stand in the head, if there is one.
    key_at: Option<usize>,
}

impl Envelope {
    fn new(head: Vec<u8>, tail: &'static [u8]) -> Self {
        Self { head, tail, key_at: None }
    }

    /// Appends what stands before message `number`. Keys take turns.
    pub(crate) fn open(&self, number: u64, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&self.head);
        if let Some(at) = self.key_at {
            let key = (number % KEYS) as u8;
            out[begin + at] = b'0' + key / 10;
            out[begin + at + 1] = b'0' + key % 10;
        }
    }
}

impl Publishing {
    /// What is said once, on a new connection.
    pub(crate) fn hello(self) -> &'static [u8] {
        match self {
            Self::Post | Self::JsonPost => b"",
            Self::Nats => nats::HELLO,
        }
    }

    /// The answer at the front of `bytes`, as an HTTP response has it, or `None` while it is incomplete.
    pub(crate) fn answer(self, bytes: &[u8]) -> Result<Option<Response<'_>>, BadResponse> {
        match self {
            Self::Post | Self::JsonPost => http::response(bytes),
            Self::Nats => {
                let mut at = 0;
                while let Some((said, length)) =
                    nats::front(&bytes[at..]).map_err(|_| BadResponse("not NATS"))?
                {
                    at += length;
                    let (status, body) = match said {
                        Said::Pong => (200, &b""[..]),
                        Said::Error(line) => (500, line),
                        // A server that is not answered for minutes closes; no run is that long between two answers.
                        Said::Ping | Said::Nothing | Said::Message(_) => continue,
                    };
                    return Ok(Some(Response { status, retry_after: None, head: "", body, length: at }));
                }
                Ok(None)
            }
        }
    }

    /// For messages of `size` bytes on `topic`, for one `user` or everybody, each with a key if they are `keyed`, for which
    /// there is a place only in [`Publishing::Post`]. Messages and topics of this harness need no escapes in JSON.
    pub(crate) fn envelope(
        self,
        address: SocketAddr,
        topic: &str,
        user: Option<u64>,
        keyed: bool,
        size: usize,
    ) -> Envelope {
        let (path, kind, before, tail) = match self {
            // NATS knows no users.
            Self::Nats => return Envelope::new(nats::publication(topic, size), nats::TAIL),
            Self::Post => {
                let user = user.map(|user| format!("user_id={user}"));
                let query: Vec<String> = user.into_iter().chain(keyed.then(|| format!("{KEY}00"))).collect();
                let mark = if query.is_empty() { "" } else { "?" };
                (format!("/publish/{topic}{mark}{}", query.join("&")), "text/plain", String::new(), "")
            }
            Self::JsonPost => {
                let user = user.map(|user| format!(r#""user_id":{user},"#)).unwrap_or_default();
                let before = format!(r#"{{"topic":"{topic}",{user}"message":""#);
                ("/publish".to_owned(), "application/json", before, r#""}"#)
            }
        };
        let length = before.len() + size + tail.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{before}"
        );
        let key_at = if keyed { head.find(KEY).map(|at| at + KEY.len()) } else { None };
        Envelope { key_at, ..Envelope::new(head.into_bytes(), tail.as_bytes()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[test]
    fn keys_take_turns() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        for (user, keys) in [(None, "?key="), (Some(7), "?user_id=7&key=")] {
            let envelope = Publishing::Post.envelope(address, "cats", user, true, 5);
            for (number, key) in [(0, "k00"), (7, "k07"), (KEYS - 1, "k15"), (KEYS + 12, "k12")] {
                let mut head = b"before".to_vec();
                envelope.open(number, &mut head);
                let begin = format!("beforePOST /publish/cats{keys}{key} HTTP/1.1\r\n");
                assert!(head.starts_with(begin.as_bytes()), "{}", String::from_utf8_lossy(&head));
            }
        }
    }

    #[test]
    fn an_envelope_states_the_length_of_what_it_holds() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        for publishing in [Publishing::Post, Publishing::JsonPost] {
            let envelope = publishing.envelope(address, "cats", Some(7), false, 5);
            let whole = [&envelope.head, &b"12345"[..], envelope.tail].concat();
            let end = http::head_end(&whole).expect("a head");
            let head = std::str::from_utf8(&whole[..end]).expect("text");
            assert_eq!(head.starts_with("POST /publish/cats?user_id=7 "), publishing == Publishing::Post);
            let length = http::header(head, "content-length").expect("a length");
            assert_eq!(length, (whole.len() - end).to_string());
            if publishing == Publishing::JsonPost {
                let body: serde_json::Value = serde_json::from_slice(&whole[end..]).expect("JSON");
                assert_eq!(body, serde_json::json!({ "topic": "cats", "user_id": 7, "message": "12345" }));
            }
        }
    }
}
