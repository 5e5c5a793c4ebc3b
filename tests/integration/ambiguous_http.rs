//! Requests that a proxy in front may read otherwise than the server does: each is refused and its connection closed, or
//! read in the one way the RFC gives. In none does a request appear that nobody meant to send.
//!
//! Each case is a publication whose message, read as RFC 9112 says, is `ab`, with a second request right behind it.

use crate::support::{Answer, Http, Running, WebSocket, eventually, serve, shards, websocket::frame};

/// What stands behind every case.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
/// Its beginning, up to the headers that are the case.
const HEAD: &str = "POST /publish/cats HTTP/1.1\r\nHost: a\r\n";

/// What becomes of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// 400, nothing published, nothing further read, the connection closed.
    Refused,
    /// `ab` is published, and the next request is the one behind it.
    Read,
    /// `ab` is published; then the connection is closed and what stands behind it not read.
    ReadAndClosed,
}
use Outcome::{Read, ReadAndClosed, Refused};

/// Cases by the headers behind [`HEAD`], and what follows them.
const LENGTHS: [(&str, Outcome); 14] = [
    ("Content-Length: 2\r\n\r\nab", Read),
    ("Content-Length: 2\r\nContent-Length: 2\r\n\r\nab", Read),
    ("Content-Length: 2\r\nContent-Length: 3\r\n\r\nab", Refused),
    ("Content-Length: 3\r\nContent-Length: 2\r\n\r\nab", Refused),
    ("Content-Length: 2, 2\r\n\r\nab", Refused),
    ("Content-Length: +2\r\n\r\nab", Refused),
    ("Content-Length: -2\r\n\r\nab", Refused),
    ("Content-Length: 0x2\r\n\r\nab", Refused),
    ("Content-Length: 2.0\r\n\r\nab", Refused),
    ("Content-Length: \r\n\r\nab", Refused),
    ("Content-Length: 18446744073709551618\r\n\r\nab", Refused),
    ("Content-Length : 2\r\n\r\nab", Refused),
    ("Content_Length: 99\r\nContent-Length: 2\r\n\r\nab", Read),
    ("Connection: Content-Length\r\nContent-Length: 2\r\n\r\nab", Read),
];

const CODINGS: [(&str, Outcome); 17] = [
    ("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", Read),
    ("Transfer-Encoding: Chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", Read),
    ("Transfer-Encoding:\tchunked \r\n\r\n2\r\nab\r\n0\r\n\r\n", Read),
    // RFC 9112 section 6.3: the coding wins, and the connection ends behind the answer.
    ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", ReadAndClosed),
    ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n2\r\nab\r\n0\r\n\r\n", ReadAndClosed),
    ("Transfer-Encoding: xchunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", Refused),
    ("Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nab", Refused),
    ("Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", Refused),
    ("Transfer-Encoding: chunked, identity\r\n\r\n2\r\nab\r\n0\r\n\r\n", Refused),
    ("Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", Refused),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", Refused),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n2\r\nab\r\n0\r\n\r\n", Refused),
    ("Transfer-Encoding: \u{b}chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", Refused),
    ("Transfer-Encoding: \"chunked\"\r\n\r\n2\r\nab\r\n0\r\n\r\n", Refused),
    ("Transfer-Encoding : chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", Refused),
    ("Transfer-Encoding:\r\n chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", Refused),
    // Another name, whatever a gateway may make of it.
    ("Transfer_Encoding: chunked\r\nContent-Length: 2\r\n\r\nab", Read),
];

/// Behind `Transfer-Encoding: chunked` and the end of the head.
const CHUNKS: [(&str, Outcome); 19] = [
    ("1\r\na\r\n1\r\nb\r\n0\r\n\r\n", Read),
    ("00000002\r\nab\r\n0\r\n\r\n", Read),
    ("2;name=value;flag\r\nab\r\n0;last\r\n\r\n", Read),
    ("2 \r\nab\r\n0\r\n\r\n", Read),
    ("2;a\nab\r\n0\r\n\r\n", Refused),
    ("2\nab\r\n0\r\n\r\n", Refused),
    ("2\r\nab\n0\r\n\r\n", Refused),
    ("2\r\nab\r\n0\n\r\n", Refused),
    ("2\r\nab0\r\n\r\n", Refused),
    ("2\r\nabc\r\n0\r\n\r\n", Refused),
    ("+2\r\nab\r\n0\r\n\r\n", Refused),
    ("-2\r\nab\r\n0\r\n\r\n", Refused),
    ("0x2\r\nab\r\n0\r\n\r\n", Refused),
    ("\r\nab\r\n0\r\n\r\n", Refused),
    ("10000000000000002\r\nab\r\n0\r\n\r\n", Refused),
    // Trailers: what one reader takes for them may be the next request to another.
    ("2\r\nab\r\n0\r\nContent-Length: 9\r\n\r\n", Refused),
    ("2\r\nab\r\n0\r\nX: y\r\n\r\n", Refused),
    ("2\r\nab\r\n0\r\n\n", Refused),
    ("2\r\nab\r\n0\r\n\r", Refused),
];

const LINES: [(&str, Outcome); 9] = [
    ("X: a\r\n b\r\nContent-Length: 2\r\n\r\nab", Refused),
    (" X: a\r\nContent-Length: 2\r\n\r\nab", Refused),
    ("X: a\rTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nab", Refused),
    ("X: a\0b\r\nContent-Length: 2\r\n\r\nab", Refused),
    ("X\0: a\r\nContent-Length: 2\r\n\r\nab", Refused),
    ("X a\r\nContent-Length: 2\r\n\r\nab", Refused),
    (": a\r\nContent-Length: 2\r\n\r\nab", Refused),
    // RFC 9112 section 2.2 allows a line to end so, and that it is read as an end is the one thing it can mean.
    ("X: a\nContent-Length: 2\r\n\r\nab", Read),
    ("Host: b\r\nContent-Length: 2\r\n\r\nab", Refused),
];

/// Sends `case`, and checks what becomes of it.
fn expect(server: &Running, client: &mut WebSocket, case: &str, outcome: Outcome) {
    let mut http = server.http();
    http.send([case, NEXT].concat());
    let first = http.answer();
    assert_eq!(first.status, if outcome == Refused { 400 } else { 200 }, "{case:?}: {first:?}");
    if outcome == Read {
        http.answer().expect_error(404, "not_found");
        // The two sides still agree where they are.
        assert_eq!(http.get("/health").status, 200, "{case:?}");
    } else {
        let further = rest(&mut http);
        assert_eq!(further, [], "{case:?}: an answer to what nobody asked");
    }
    if outcome != Refused {
        let text = client.text();
        assert_eq!(text, "ab", "{case:?}");
    }
}

/// The answers up to the end of the connection.
fn rest(http: &mut Http) -> Vec<Answer> {
    std::iter::from_fn(|| http.try_answer_to("GET")).collect()
}

/// Checks cases that begin with `head`, and that none of those that were refused has published anything.
fn expect_all(head: &str, cases: &[(&str, Outcome)]) {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        for (case, outcome) in cases {
            expect(server, &mut client, &[head, case].concat(), *outcome);
        }
        server.http().publish("cats", "end");
        client.expect_text("end");
    });
}

#[test]
fn length_is_one_number_or_the_request_is_refused() {
    expect_all(HEAD, &LENGTHS);
}

#[test]
fn transfer_coding_is_chunked_or_the_request_is_refused() {
    expect_all(HEAD, &CODINGS);
}

#[test]
fn chunks_are_as_the_grammar_says_or_the_request_is_refused() {
    expect_all(&format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n"), &CHUNKS);
}

#[test]
fn lines_of_a_head_are_as_the_grammar_says_or_the_request_is_refused() {
    expect_all(HEAD, &LINES);
}

#[test]
fn request_line_is_as_the_grammar_says_or_the_request_is_refused() {
    let behind = "\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
    let cases = [
        ("POST /publish/cats HTTP/1.1", Read),
        ("\r\nPOST /publish/cats HTTP/1.1", Read),
        ("POST http://a/publish/cats HTTP/1.1", Read),
        ("POST  /publish/cats HTTP/1.1", Refused),
        ("POST\t/publish/cats\tHTTP/1.1", Refused),
        ("POST /publish/cats HTTP/1.1 ", Refused),
        ("POST /publish/cats HTTP/1.2", Refused),
        ("POST /publish/cats http/1.1", Refused),
        ("POST /publish/cats", Refused),
        ("P\0ST /publish/cats HTTP/1.1", Refused),
    ];
    let cases: Vec<_> = cases.iter().map(|(line, outcome)| ([*line, behind].concat(), *outcome)).collect();
    let cases: Vec<_> = cases.iter().map(|(case, outcome)| (case.as_str(), *outcome)).collect();
    expect_all("", &cases);
}

#[test]
fn chunks_in_http_1_0_and_a_host_that_is_missing_are_refused() {
    expect_all(
        "",
        &[
            (
                "POST /publish/cats HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nab\r\n0\r\n\r\n",
                Refused,
            ),
            ("POST /publish/cats HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", Refused),
            ("POST /publish/cats HTTP/1.0\r\nContent-Length: 2\r\n\r\nab", ReadAndClosed),
        ],
    );
}

#[test]
fn chunks_that_no_call_reads_end_the_connection() {
    serve(shards(2), |server| {
        // Trailers to us, the end and a request to whoever ends a line at LF.
        let chunks = "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\n";
        for (line, status) in [
            ("GET /health", 200),
            ("POST /nothing", 404),
            ("PUT /publish/cats", 405),
            ("OPTIONS /publish", 204),
            ("DELETE /register/0123456789abcdef0123456789abcdef", 200),
            ("POST /publish/%00", 400),
            ("GET /ws/0123456789abcdef0123456789abcdef", 426),
        ] {
            let mut http = server.http();
            http.send(format!("{line} HTTP/1.1\r\nHost: a\r\n{chunks}{NEXT}"));
            assert_eq!(http.answer().status, status, "{line}");
            assert_eq!(rest(&mut http), [], "{line}");
        }
    });
}

#[test]
fn stream_in_chunks_ends_its_connection() {
    serve(shards(2), |server| {
        let mut http = server.http();
        http.begin_chunked("/batch", "application/x-ndjson");
        http.chunk("{\"topic\":\"cats\",\"message\":\"ab\"}\n");
        let head = http.streamed_head();
        assert_eq!(head.header("connection"), Some("close"));
        http.streamed_line().expect("a result");
        http.send(format!("0\r\n\n{NEXT}"));
        while http.streamed_line().is_some() {}
        assert_eq!(rest(&mut http), []);
    });
}

#[test]
fn body_that_is_announced_is_no_request_whatever_stands_in_it() {
    serve(shards(2), |server| {
        let length = NEXT.len();
        for line in ["GET /health", "DELETE /register/0123456789abcdef0123456789abcdef", "POST /register"] {
            let mut http = server.http();
            http.send(format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{NEXT}"));
            let first = http.answer();
            assert_eq!(first.status, if line.starts_with("POST") { 400 } else { 200 }, "{line}");
            assert_eq!(http.get("/health").status, 200, "{line}");
        }
    });
}

#[test]
fn handshake_with_a_body_is_refused_and_its_body_is_no_frame() {
    serve(shards(2), |server| {
        let id = server.register(&["cats"]);
        let ping = frame(0x81, b"ping");
        let handshake = format!(
            "GET /ws/{id} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for framing in ["Content-Length: 10\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\na\r\n"] {
            let mut http = server.http();
            http.send([handshake.as_bytes(), framing.as_bytes(), &ping].concat());
            http.answer().expect_error(400, "bad_request");
            http.drain();
        }
        let mut client = server.connect(&id);
        client.send_text("ping");
        client.expect_text("pong");
    });
}

#[test]
fn other_protocols_on_the_port_are_not_spoken() {
    serve(shards(2), |server| {
        for other in [
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\u{16}\u{3}\u{1}\0\u{5}hello",
            "CONNECT a:80 HTTP/1.1\r\n\r\n",
        ] {
            let mut http = server.http();
            http.send(other);
            http.wire().shut_write();
            assert!(rest(&mut http).iter().all(|answer| answer.status >= 400), "{other:?}");
        }
        eventually("nothing is left of them", || (0..2).all(|shard| server.node().load(shard) == 0));
        let mut http = server.http();
        http.send(
            "GET /health HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
        );
        let answer = http.answer();
        assert_eq!((answer.status, answer.header("upgrade")), (200, None));
    });
}
