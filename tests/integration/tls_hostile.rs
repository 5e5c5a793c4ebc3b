//! Clients that mean no good, or do not know better, at a port that speaks TLS.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use fanfare::{limits, settings::Settings};

use crate::support::{
    DEADLINE, Http, Running, WebSocket,
    certificate::{Certificate, Insists, TlsStream},
    eventually, serve,
    websocket::{PING, PONG, frame},
    wire::Wire,
};

/// A server with a certificate that waits for a handshake no longer than a moment.
fn serve_tls(test: impl FnOnce(&Running, &Certificate)) {
    let certificate = Certificate::new();
    let settings = Settings { tls_handshake_timeout: Duration::from_millis(300), ..certificate.settings(1) };
    serve(settings, |running| test(running, &certificate));
}

fn raw(running: &Running) -> TcpStream {
    let stream = TcpStream::connect(running.address()).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("it is not zero");
    stream
}

/// What comes until the end, which may be a reset.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4_096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return bytes,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return bytes,
            Err(error) => panic!("it ends in time: {error}"),
        }
    }
}

fn client(running: &Running, certificate: &Certificate, insists: Insists) -> WebSocket {
    let mut http = Http::over(certificate.connect(running.address()), running.address());
    let id = http.register(r#"{"user_id":1,"topics":["a"]}"#);
    let stream = TlsStream::connect(running.address(), certificate.client(insists)).expect("a handshake");
    let http = Http::over(Wire::secure(stream), running.address());
    WebSocket::upgrade(http, running.address(), &id, b"").expect("the upgrade is taken")
}

/// That the server still serves others.
fn is_well(running: &Running, certificate: &Certificate) {
    let mut client = client(running, certificate, Insists::default());
    client.set_topics(&["b"]);
    client.close();
}

/// An alert record in the clear says how bad it is and what is wrong.
fn alert(record: &[u8]) -> Option<(u8, u8)> {
    match record {
        [21, 3, _, 0, 2, level, what] => Some((*level, *what)),
        _ => None,
    }
}

/// A record in the clear.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a record is short");
    [&[kind, 3, 3][..], &length.to_be_bytes(), content].concat()
}

#[test]
fn http_without_tls_is_told_what_to_do_counted_and_closed() {
    serve_tls(|running, certificate| {
        let mut http = Http::connect(running.address());
        let answer = http.get("/health");
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.text().contains("this port speaks TLS: use https:// and wss://"), "{answer:?}");
        http.expect_end();
        assert_eq!(running.total().tls_failed_plain, 1);
        is_well(running, certificate);
    });
}

#[test]
fn handshake_that_takes_too_long_is_closed_and_silent_ones_do_not_keep_others_out() {
    serve_tls(|running, certificate| {
        let mut silent: Vec<_> = (0..2 * limits::HANDSHAKES_OPEN).map(|_| raw(running)).collect();
        let mut dribbler = raw(running);
        dribbler.write_all(&[22, 3, 1, 2]).expect("it is connected");
        is_well(running, certificate);
        silent.push(dribbler);
        for stream in &mut silent {
            assert_eq!(rest(stream), b"");
        }
        eventually("they are counted", || running.total().tls_failed_timeout == silent.len() as u64);
    });
}

#[test]
fn client_that_goes_away_in_its_handshake_leaves_nothing_behind() {
    serve_tls(|running, certificate| {
        let mut stream = raw(running);
        stream.write_all(&[22, 3, 1, 2]).expect("it is connected");
        stream.shutdown(Shutdown::Write).expect("it is connected");
        assert_eq!(rest(&mut stream), b"");
        assert_eq!(running.total().tls_failed_gone, 1);
        is_well(running, certificate);
    });
}

#[test]
fn garbage_instead_of_a_handshake_is_answered_by_an_alert() {
    serve_tls(|running, certificate| {
        for (bytes, what) in [
            // No type of records there is.
            (&[1, 3, 3, 0, 1, 0][..], 50),
            // A record longer than any.
            (&[22, 3, 3, 0xff, 0xff, 0], 22),
            // A message that does not come first.
            (&record(22, &[20, 0, 0, 1, 0]), 10),
            (&record(23, b"hello"), 10),
        ] {
            let mut stream = raw(running);
            stream.write_all(bytes).expect("it is connected");
            let told = rest(&mut stream);
            let (level, told) = alert(&told).unwrap_or_else(|| panic!("{told:?} for {bytes:?}"));
            assert_eq!(level, 2, "it is fatal");
            assert!([what, 50].contains(&told), "{told} for {bytes:?}");
        }
        assert_eq!(running.total().tls_failed_protocol, 4);
        is_well(running, certificate);
    });
}

#[test]
fn handshake_message_without_end_is_cut_at_the_limit() {
    serve_tls(|running, certificate| {
        let mut stream = raw(running);
        // A hello that claims 60,000 bytes, in the smallest records there can be.
        let mut flood = record(22, &[1, 0, 0xea, 0x60]);
        for _ in 0..limits::TLS_UNREAD_BYTES / 6 {
            flood.extend(record(22, &[0]));
        }
        // It may be closed before all of it is written.
        let _ = stream.write_all(&flood);
        rest(&mut stream);
        eventually("it is counted", || running.total().tls_failed_protocol == 1);
        is_well(running, certificate);
    });
}

#[test]
fn records_that_were_tampered_with_end_the_connection_and_deliver_nothing() {
    serve_tls(|running, certificate| {
        for insists in [Insists::default(), Insists::on(&rustls::version::TLS12)] {
            let broken = running.total().tls_broken;
            let mut client = client(running, certificate, insists);
            client.set_topics(&["b"]);
            let socket = &mut client.wire().tls().0.sock;
            socket.write_all(&record(23, &[7; 100])).expect("it is connected");
            assert!(client.read_to_end().is_empty());
            eventually("it is counted", || running.total().tls_broken == broken + 1);
            running.wait_until_empty();
        }
        is_well(running, certificate);
    });
}

#[test]
fn connection_that_ends_without_a_word_is_forgotten_in_the_middle_of_a_record_too() {
    serve_tls(|running, certificate| {
        for rest in [&[][..], &[23, 3, 3, 1, 0, 7, 7]] {
            let mut client = client(running, certificate, Insists::default());
            let socket = &mut client.wire().tls().0.sock;
            socket.write_all(rest).expect("it is connected");
            socket.shutdown(Shutdown::Write).expect("it is connected");
            running.wait_until_empty();
        }
        is_well(running, certificate);
    });
}

#[test]
fn client_that_says_it_ends_is_answered_so_and_forgotten() {
    serve_tls(|running, certificate| {
        let mut client = client(running, certificate, Insists::default());
        client.wire().tls().say_end();
        running.wait_until_empty();
        // An end without `close_notify` would be an error.
        assert_eq!(client.wire().fill().expect("an end in order"), 0);
    });
}

#[test]
fn commands_that_come_with_the_end_are_still_taken() {
    serve_tls(|running, certificate| {
        let mut http = Http::over(certificate.connect(running.address()), running.address());
        let id = http.register(r#"{"user_id":1,"topics":["a"]}"#);
        let connect = || {
            let http = Http::over(certificate.connect(running.address()), running.address());
            WebSocket::upgrade(http, running.address(), &id, b"").expect("the upgrade is taken")
        };
        let mut client = connect();
        client.send_topics(&["b"]);
        client.wire().tls().say_end();
        running.wait_until_empty();
        let mut again = connect();
        http.publish("a", "not for it");
        http.publish("b", "purr");
        again.expect_text("purr");
    });
}

#[test]
fn http_request_cut_off_is_not_taken() {
    serve_tls(|running, certificate| {
        let mut http = Http::over(certificate.connect(running.address()), running.address());
        http.send("POST /publish/a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\npur");
        http.wire().shut_write();
        http.drain();
        let mut http = Http::over(certificate.connect(running.address()), running.address());
        assert_eq!(http.get("/health").status, 200);
        assert_eq!(running.total().sequenced, 0);
    });
}

#[test]
fn empty_and_tiny_records_count_as_commands() {
    serve_tls(|running, certificate| {
        let mut client = client(running, certificate, Insists::default());
        // One frame that is never whole, a byte in each record. It is closed long before the frame has its end.
        let frame = frame(0x80 | PING, &[7; 125]);
        let mut sent = 0;
        let closed = loop {
            let Err(error) = client.wire().try_write(&frame[sent % 100..sent % 100 + 1]) else {
                sent += 1;
                assert!(sent < 1_000_000, "it is never closed");
                continue;
            };
            break error;
        };
        drop(closed);
        eventually("it is closed for that", || {
            running.total().closed_policy + running.total().closed_protocol > 0
        });
        is_well(running, certificate);
    });
}

#[test]
fn frames_in_records_of_their_own_cost_no_more_than_frames() {
    let certificate = Certificate::new();
    serve(Settings { commands_burst: 500, ..certificate.settings(1) }, |running| {
        let mut client = client(running, &certificate, Insists::default());
        // Header and payload apart, as many libraries write them.
        for n in 0..400_u16 {
            let frame = frame(0x80 | PING, &n.to_be_bytes());
            client.send(&frame[..6]);
            client.send(&frame[6..]);
        }
        loop {
            let pong = client.receive().expect("it is not closed");
            assert_eq!(pong.opcode, PONG);
            if pong.payload == 399_u16.to_be_bytes() {
                break;
            }
        }
    });
}

#[test]
fn key_updates_are_answered_and_messages_go_on() {
    serve_tls(|running, certificate| {
        let mut client = client(running, certificate, Insists::default());
        let mut http = Http::over(certificate.connect(running.address()), running.address());
        for n in 0..10 {
            client.wire().tls().0.conn.refresh_traffic_keys().expect("it is TLS 1.3");
            client.set_topics(&["a"]);
            http.publish("a", &n.to_string());
            client.expect_text(&n.to_string());
        }
        client.close();
    });
}
