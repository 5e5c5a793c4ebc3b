//! Pings, silence, and the end of a connection.

use std::{thread, time::Duration};

use fanfare::settings::Settings;
use serde_json::json;

use crate::support::{
    Ended, WebSocket, eventually, serve, shards, v1,
    websocket::{CLOSE, PING, PONG, frame, header},
};

/// A server that pings often and soon loses patience.
fn impatient() -> Settings {
    let (ping_interval, pong_timeout) = (Duration::from_millis(300), Duration::from_millis(200));
    Settings { ping_interval, pong_timeout, ..shards(2) }
}

/// A server that pings often, and has patience with a busy machine.
fn attentive() -> Settings {
    let (ping_interval, pong_timeout) = (Duration::from_millis(1_200), Duration::from_millis(1_100));
    Settings { ping_interval, pong_timeout, ..shards(2) }
}

#[test]
fn client_that_answers_pings_stays() {
    serve(attentive(), |server| {
        let mut client = server.client(&["cats"]);
        for _ in 0..3 {
            let ping = client.receive().expect("it is not closed");
            assert_eq!(ping.opcode, PING);
            client.send(&frame(0x80 | PONG, &ping.payload));
        }
        server.http().publish("cats", "still here");
        assert_eq!(client.text(), "still here");
        assert_eq!(server.total().closed_no_pong, 0);
    });
}

#[test]
fn client_that_sends_anything_is_alive() {
    serve(attentive(), |server| {
        let mut client = server.client(&["cats"]);
        let mut pings = 0;
        while pings < 3 {
            match client.receive().expect("it is not closed") {
                frame if frame.opcode == PING => {
                    pings += 1;
                    client.send_text("ping");
                }
                other => assert_eq!(other.payload, b"pong"),
            }
        }
        assert_eq!(server.total().closed_no_pong, 0);
    });
}

#[test]
fn client_that_answers_no_ping_is_closed_with_4408() {
    serve(impatient(), |server| {
        let mut silent: Vec<_> = (0..4).map(|_| server.client(&["cats"])).collect();
        for client in &mut silent {
            loop {
                let received = client.receive().expect("a close before the end");
                if received.opcode == CLOSE {
                    assert_eq!(received.close(), (4408, "no pong".into()));
                    assert_eq!(client.receive(), Err(Ended::InOrder));
                    break;
                }
                assert_eq!(received.opcode, PING);
            }
        }
        assert_eq!(server.total().closed_no_pong, 4);
    });
}

#[test]
fn half_a_frame_and_then_silence_is_closed_with_4408_and_concerns_nobody_else() {
    serve(attentive(), |server| {
        let halves =
            [vec![0x81], frame(0x81, b"ping")[..7].to_vec(), header(0x81, 60_000), frame(0x01, b"half")];
        let mut silent: Vec<_> = halves
            .iter()
            .map(|half| {
                let mut client = server.client(&["cats"]);
                client.send(half);
                client
            })
            .collect();
        let mut neighbours = [server.client(&["cats"]), server.client(&["cats"])];
        thread::scope(|scope| {
            let readers: Vec<_> =
                neighbours.iter_mut().map(|client| scope.spawn(|| while client.text() != "end" {})).collect();
            eventually("the silent are closed", || server.total().closed_no_pong == 4);
            server.http().publish("cats", "end");
            readers.into_iter().for_each(|reader| reader.join().expect("they get everything"));
        });
        for client in &mut silent {
            let frames = std::iter::from_fn(|| client.receive().ok()).collect::<Vec<_>>();
            assert_eq!(frames.last().expect("a close").close().0, 4408);
        }
        assert_eq!(server.total().closed_no_pong, 4);
    });
}

#[test]
fn client_that_reads_slowly_but_reads_is_alive() {
    let settings = Settings { socket_unsent: 4_096, ..attentive() };
    serve(settings, |server| {
        let id = server.register(&["cats"]);
        let mut client = WebSocket::connect_narrow(server.address(), &id);
        let mut http = server.http();
        let message = "x".repeat(1_000);
        (0..200).for_each(|_| http.publish("cats", &message));
        // It takes a message now and then, over several intervals, and never answers a ping.
        let mut messages = 0;
        while messages < 200 {
            let received = client.receive().expect("it is not closed while it takes what waits");
            if received.opcode == PING {
                continue;
            }
            assert_ne!(received.opcode, CLOSE, "{received:?}");
            messages += 1;
            if messages % 10 == 0 && server.total().blocked > 0 {
                thread::sleep(Duration::from_millis(150));
            }
        }
        assert_eq!(server.total().closed_slow, 0);
    });
}

#[test]
fn peer_that_never_closes_is_reset_after_the_limit() {
    serve(shards(2), |server| {
        let mut stubborn = server.client(&["cats"]);
        stubborn.send(b"\x81\x00");
        stubborn.read_to_close(1002);
        // The server has ended its side; ours stays open.
        eventually("it is reset", || server.total().reset == 1);
        server.wait_until_empty();
        // It is counted a moment before the socket is closed.
        eventually("the peer sees it", || stubborn.wire().try_write(b"x").is_err());
    });
}

#[test]
fn peer_that_vanishes_is_forgotten() {
    serve(shards(2), |server| {
        for round in 0..60 {
            let mut client = server.client(&["cats"]);
            match round % 4 {
                0 => client.reset(),
                1 => drop(client),
                2 => {
                    client.wire().shut_write();
                    client.read_to_end();
                }
                _ => {
                    // With bytes of the server it has not read.
                    client.send_text("ping");
                    server.http().publish("cats", "x");
                    drop(client);
                }
            }
        }
        server.wait_until_empty();
        eventually("nobody has a topic", || server.total().topics == 0);
    });
}

#[test]
fn connection_that_is_as_old_as_it_may_be_is_closed_and_its_client_comes_back() {
    serve(Settings { max_connection_age: Duration::from_secs(1), ..shards(2) }, |server| {
        let id = server.register(&["cats"]);
        let mut plain = server.connect(&id);
        let mut told = v1::client(server, "cats");
        server.http().publish("cats", "while it lasts");
        plain.expect_text("while it lasts");
        assert_eq!(told.json()["message"], "while it lasts");
        let bye = json!({ "bye": { "code": 1012, "reason": "connection age", "retry_ms": [500, 5_500] } });
        assert_eq!(told.json(), bye);
        told.expect_close(1012, "connection age");
        plain.expect_close(1012, "connection age");
        assert_eq!(server.http().get("/health").json()["ledger"]["closed"]["aged"], 2);
        assert_eq!(server.total().closed_stopping, 0);
        let mut again = server.connect(&id);
        server.http().publish("cats", "it is young");
        again.expect_text("it is young");
    });
}
