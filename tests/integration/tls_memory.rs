//! What TLS holds for clients that do not read counts against the node's memory, and goes when that is short.

use std::{net::TcpStream, time::Duration};

use fanfare::{
    limits::{MEMORY_BYTES_MIN, MEMORY_CLOSE_PERCENT},
    settings::Settings,
};

use crate::support::{
    Http, Running, WebSocket,
    certificate::{Certificate, Insists, TlsStream},
    eventually, serve,
    wire::Wire,
};

const STALLED: u64 = 300;
/// The longest message that is one record.
const MESSAGE: usize = 15_000;
/// Less than one record for each who stalls.
const MEMORY: usize = MEMORY_BYTES_MIN;

fn http(running: &Running, certificate: &Certificate) -> Http {
    Http::over(certificate.connect(running.address()), running.address())
}

fn client(running: &Running, certificate: &Certificate, socket: TcpStream) -> WebSocket {
    let id = http(running, certificate).register(r#"{"user_id":1,"topics":["a"]}"#);
    let stream = TlsStream::over(socket, certificate.client(Insists::default())).expect("a handshake");
    let http = Http::over(Wire::secure(stream), running.address());
    WebSocket::upgrade(http, running.address(), &id, b"").expect("the upgrade is taken")
}

#[test]
fn records_that_are_not_read_count_as_memory_and_some_who_hold_them_go_when_it_is_short() {
    let certificate = Certificate::new();
    let settings = Settings {
        memory_bytes: MEMORY,
        socket_send_buffer: 4 * 1024,
        // Nobody reads while hundreds of others shake hands, which takes a busy machine longer than a pong may.
        ping_interval: Duration::ZERO,
        ..certificate.settings(1)
    };
    serve(settings, |running| {
        let plain = TcpStream::connect(running.address()).expect("it listens");
        let mut reader = client(running, &certificate, plain);
        let stalled: Vec<_> = (0..STALLED)
            .map(|_| client(running, &certificate, Wire::narrow_socket(running.address())))
            .collect();
        let mut publisher = http(running, &certificate);
        let message = "x".repeat(MESSAGE);
        // Until the kernel takes no more for those who do not read: then each holds what it did not take.
        let close_from = MEMORY / 100 * MEMORY_CLOSE_PERCENT;
        eventually("they hold more than there may be", || {
            if running.node().memory().used() < close_from && running.total().closed_slow == 0 {
                // It may be refused by now.
                let answer = publisher.request("POST", "/publish/a", &[], message.as_bytes());
                if answer.status == 200 {
                    reader.expect_text(&message);
                }
            }
            running.total().closed_slow > 0
        });
        eventually("what they held is free", || running.node().memory().used() < close_from);
        let total = running.total();
        assert!(total.subscribers > 1, "no more go than have to: {total:?}");
        assert!(total.unflushed_bytes > 0 && total.unflushed_bytes < close_from as u64, "{total:?}");
        publisher.publish("a", "purr");
        reader.expect_text("purr");
        drop(stalled);
        eventually("nothing is left of what they held", || running.total().unflushed_bytes == 0);
    });
}
