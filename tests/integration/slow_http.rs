//! Clients that take their time over HTTP: each is cut, and holds nobody else up.

use std::time::Duration;

use fanfare::{limits, settings::Settings};

use crate::support::{Http, eventually, serve, shards};

/// A server that soon loses patience with a head or a body.
fn impatient() -> Settings {
    let timeout = Duration::from_millis(400);
    Settings { http_head_timeout: timeout, http_body_timeout: timeout, ..shards(2) }
}

/// Sends a byte now and then until the connection is cut.
fn dribble(http: &mut Http, byte: u8) {
    for _ in 0..1_000 {
        if http.wire().try_write(&[byte]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("a client may dribble for ever");
}

#[test]
fn head_that_is_dribbled_is_cut() {
    serve(impatient(), |server| {
        let mut http = server.http();
        http.send("GET /health HTTP/1.1\r\nX: ");
        dribble(&mut http, b'x');
    });
}

#[test]
fn connection_on_which_nothing_comes_is_closed() {
    serve(impatient(), |server| {
        let mut silent = server.http();
        let mut kept_alive = server.http();
        assert_eq!(kept_alive.get("/health").status, 200);
        silent.expect_end();
        kept_alive.expect_end();
    });
}

#[test]
fn body_that_is_dribbled_is_cut_and_answered_with_408() {
    serve(impatient(), |server| {
        for path in ["/publish", "/publish/cats", "/register"] {
            for framing in ["Content-Length: 1000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n3e8\r\n"] {
                let mut http = server.http();
                http.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}{{"));
                let answer = http.answer();
                answer.expect_error(408, "timeout");
                assert_eq!(answer.header("connection"), Some("close"));
                http.expect_end();
            }
        }
        let mut http = server.http();
        http.send("POST /publish/cats HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
        dribble(&mut http, b'x');
    });
}

#[test]
fn body_that_breaks_off_is_published_to_nobody() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        for framing in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
            let mut http = server.http();
            http.send(format!("POST /publish/cats HTTP/1.1\r\nHost: a\r\n{framing}"));
            http.wire().shut_write();
            http.drain();
            let mut http = server.http();
            http.send(format!("POST /publish/cats HTTP/1.1\r\nHost: a\r\n{framing}"));
            http.into_wire().reset();
        }
        server.http().publish("cats", "end");
        client.expect_text("end");
    });
}

#[test]
fn silent_connections_do_not_stop_others_from_being_served() {
    serve(shards(2), |server| {
        let mut connected = server.client(&["cats"]);
        let mut http = server.http();
        // More than may be between accept and their first answer.
        let silent: Vec<_> = (0..3 * limits::HANDSHAKES_OPEN).map(|_| server.http()).collect();
        http.publish("cats", "on a connection there was");
        connected.expect_text("on a connection there was");
        let mut late = server.client(&["cats"]);
        server.http().publish("cats", "on one that came after them");
        late.expect_text("on one that came after them");
        drop(silent);
    });
}

#[test]
fn bodies_half_received_are_bounded_and_the_rest_refused() {
    let settings = Settings { max_message: 2 << 20, max_body: 64 << 20, outbox_bytes: 24 << 20, ..shards(1) };
    serve(settings, |server| {
        let size = 2 << 20;
        let most = limits::HTTP_BODIES_BYTES / size;
        let head = format!("POST /publish/cats HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
        let almost = vec![b'x'; size - 1];
        let begin = || {
            let mut http = server.http();
            http.send(&head);
            http.send(&almost);
            http
        };
        let mut half: Vec<_> = (0..most).map(|_| begin()).collect();
        // A little of each is not counted, so another may fit; and until the server has read all of them it may be one
        // of these that is refused for it.
        eventually("a further body is refused", || {
            let mut http = begin();
            http.send("x");
            let answer = http.answer();
            if answer.status == 200 {
                half.push(begin());
                return false;
            }
            answer.expect_error(503, "overloaded");
            true
        });
        assert_eq!(server.http().get("/health").status, 200);
        drop(half);
        eventually("there is room again", || {
            let body = vec![b'x'; size];
            server.http().post_as("/publish/cats", None, &body).status == 200
        });
    });
}

#[test]
fn sender_that_goes_on_behind_its_413_is_cut() {
    serve(shards(2), |server| {
        let mut http = server.http();
        http.send("POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
        http.answer().expect_error(413, "body_too_large");
        let piece = vec![b'x'; 64 << 10];
        let mut sent = 0;
        while http.wire().try_write(&piece).is_ok() {
            sent += piece.len();
            assert!(sent < 256 << 20, "it is read without end");
        }
        assert!(sent >= limits::HTTP_DISCARD_BYTES / 2, "{sent}");
    });
}
