//! A client that speaks HTTP as it stands on the wire: it shows status, headers and body exactly, and can send
//! anything.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use super::wire::Wire;

/// A connection that speaks HTTP.
#[derive(Debug)]
pub(crate) struct Http {
    wire: Wire,
    /// What is said in Host.
    host: String,
    /// What came of a body in chunks and was not looked at.
    streamed: Vec<u8>,
}

/// An answer, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case, in the order in which they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(Wire::connect(address), address)
    }

    pub(crate) fn over(wire: Wire, address: SocketAddr) -> Self {
        Self { wire, host: address.to_string(), streamed: Vec::new() }
    }

    /// A connection from an address of this machine. Whoever is turned away learns so at the first answer.
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(Wire::connect_from(source, address)?, address))
    }

    /// A connection of a client that takes little at once.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Self {
        Self::over(Wire::connect_narrow(address), address)
    }

    /// The same connection, for another thread to send on.
    pub(crate) fn for_sending(&self) -> Self {
        Self { wire: self.wire.for_writing(), host: self.host.clone(), streamed: Vec::new() }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.write(bytes.as_ref());
    }

    /// A request as bytes, with Host and the length of the body.
    pub(crate) fn encode(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let mut request = (request + "\r\n").into_bytes();
        request.extend_from_slice(body);
        request
    }

    /// Sends a request, and waits for its answer.
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let request = self.encode(method, path, headers, body);
        self.send(request);
        self.answer_to(method)
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    /// Posts JSON.
    pub(crate) fn post(&mut self, path: &str, body: &str) -> Answer {
        self.request("POST", path, &[("Content-Type", "application/json")], body.as_bytes())
    }

    /// Posts a body with a content type, or none.
    pub(crate) fn post_as(&mut self, path: &str, content_type: Option<&str>, body: &[u8]) -> Answer {
        let header = content_type.map(|value| ("Content-Type", value));
        self.request("POST", path, header.as_slice(), body)
    }

    pub(crate) fn delete(&mut self, id: &str) -> Answer {
        self.request("DELETE", &format!("/register/{id}"), &[], b"")
    }

    /// Registers with this body; the id.
    pub(crate) fn register(&mut self, body: &str) -> String {
        self.post("/register", body).id()
    }

    /// Publishes a text, which must be taken.
    pub(crate) fn publish(&mut self, topic: &str, message: &str) {
        let body = serde_json::json!({"topic": topic, "message": message}).to_string();
        let answer = self.post("/publish", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// The answer to the request that was sent first and not answered yet.
    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    pub(crate) fn answer_to(&mut self, method: &str) -> Answer {
        self.try_answer_to(method).expect("an answer before the connection ends")
    }

    /// Begins a body in chunks, of `content_type`.
    pub(crate) fn begin_chunked(&mut self, path: &str, content_type: &str) {
        let host = &self.host;
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        ));
    }

    /// Sends a piece of such a body; an empty one ends it.
    pub(crate) fn chunk(&mut self, piece: &str) {
        self.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
    }

    /// The head of the next answer, whose body comes in chunks.
    pub(crate) fn streamed_head(&mut self) -> Answer {
        let head = self.head().expect("an answer before the connection ends");
        assert_eq!(head.header("transfer-encoding"), Some("chunked"), "{head:?}");
        head
    }

    /// The next line of such a body; `None` when it has ended.
    pub(crate) fn streamed_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.streamed, b"\n") {
                let rest = self.streamed.split_off(end + 1);
                let line = std::mem::replace(&mut self.streamed, rest);
                return Some(String::from_utf8(line).expect("a line is text").trim_end().to_owned());
            }
            let size = loop {
                if let Some(end) = find(self.wire.unread(), b"\r\n") {
                    break String::from_utf8(self.wire.take(end + 2)).expect("a size is ASCII");
                }
                assert!(self.wire.fill().expect("it is not reset") > 0, "the body is whole");
            };
            let size = usize::from_str_radix(size.trim_end(), 16).expect("a size is hexadecimal");
            assert!(self.wire.fill_to(size + 2).expect("it is not reset"), "the chunk is whole");
            self.streamed.extend(self.wire.take(size));
            assert_eq!(self.wire.take(2), b"\r\n");
            if size == 0 {
                assert!(self.streamed.is_empty(), "the last line has an end");
                return None;
            }
        }
    }

    /// The next answer; `None` when the connection has ended instead.
    pub(crate) fn try_answer_to(&mut self, method: &str) -> Option<Answer> {
        let mut answer = self.head()?;
        let none = method == "HEAD" || matches!(answer.status, 100..200 | 204 | 304);
        if !none {
            let length = answer.header("content-length").expect("every answer says its length");
            let length = length.parse().expect("a length is a number");
            assert!(self.wire.fill_to(length).expect("it is not reset"), "the body is whole");
            answer.body = self.wire.take(length);
        }
        Some(answer)
    }

    fn head(&mut self) -> Option<Answer> {
        let head = loop {
            if let Some(end) = find(self.wire.unread(), b"\r\n\r\n") {
                break self.wire.take(end + 4);
            }
            if self.wire.fill().unwrap_or(0) == 0 {
                assert!(self.wire.unread().is_empty(), "the connection ended in the middle of a head");
                return None;
            }
        };
        Some(Answer::of(std::str::from_utf8(&head).expect("a head is ASCII")))
    }

    /// Gets `/health`, unless the connection ends without an answer: whether it was answered.
    pub(crate) fn try_health(&mut self) -> bool {
        let request = self.encode("GET", "/health", &[], b"");
        self.wire.try_write(&request).is_ok()
            && self.try_answer_to("GET").is_some_and(|got| got.status == 200)
    }

    /// Waits for the end of the connection, before which nothing more may come.
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.wire.unread(), b"", "nothing comes behind the last answer");
        let end = self.wire.fill();
        assert!(matches!(end, Ok(0)), "an orderly end: {end:?}, {:?}", self.wire.unread());
    }

    /// Whether the end came with a reset or in order, after whatever else came.
    pub(crate) fn drain(&mut self) {
        while self.wire.fill().is_ok_and(|read| read > 0) {}
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    pub(crate) fn into_wire(self) -> Wire {
        self.wire
    }
}

impl Answer {
    fn of(head: &str) -> Self {
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().expect("a head has a first line");
        let status = status.strip_prefix("HTTP/1.1 ").or_else(|| status.strip_prefix("HTTP/1.0 "));
        let status = status.expect("it is HTTP").split(' ').next().expect("a status");
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').expect("a header has a colon");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self { status: status.parse().expect("a number"), headers: headers.collect(), body: Vec::new() }
    }

    /// The value of a header, which must not stand more than once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(other, _)| other == name);
        let first = values.next();
        assert!(values.next().is_none(), "{name} stands twice in {self:?}");
        first.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The id in the URL of a registration.
    pub(crate) fn id(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        let json = self.json();
        let url = json["url"].as_str().expect("there is a URL");
        let (_, id) = url.rsplit_once("/ws/").expect("it is a socket's");
        assert!(id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{url}");
        id.to_owned()
    }

    /// Checks that this is a refusal with this status and code, of the one shape all errors have.
    #[track_caller]
    pub(crate) fn expect_error(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?} {:?}", String::from_utf8_lossy(&self.body));
        expect_error_json(self.text(), code);
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert_eq!(self.header("access-control-allow-origin"), Some("*"), "{self:?}");
        assert_eq!(self.header("access-control-allow-credentials"), None, "{self:?}");
        if status == 503 {
            assert_eq!(self.header("retry-after"), Some("1"), "{self:?}");
        }
    }
}

/// Checks that `text` is `{"error":{"code":"…","message":"…"}}`, with this code and nothing besides.
#[track_caller]
pub(crate) fn expect_error_json(text: &str, code: &str) {
    let json: serde_json::Value = serde_json::from_str(text).expect("an error is JSON");
    let message = json["error"]["message"].as_str().expect("it has a message for people");
    assert!(!message.is_empty());
    assert_eq!(json, serde_json::json!({"error": {"code": code, "message": message}}));
}

/// Where `needle` begins.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
