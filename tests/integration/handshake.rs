//! `GET /ws/{id}`: the checks and their order, and what happens right behind the 101.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use crate::support::{
    Answer, Ended, OnPanic, Running, WebSocket, eventually, serve, shards,
    websocket::{CLOSE, TEXT, frame, handshake, header},
};

#[test]
fn faults_of_a_handshake_are_found_in_the_order_of_the_contract() {
    serve(shards(2), |server| {
        let unknown = "0123456789abcdef0123456789abcdef";
        let upgrade = "Upgrade: websocket\r\n";
        let version = "Sec-WebSocket-Version: 13\r\n";
        let connection = "Connection: Upgrade\r\n";
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let ask = |id: &str, headers: &[&str]| {
            let mut http = server.http();
            http.send(format!("GET /ws/{id} HTTP/1.1\r\nHost: a\r\n{}\r\n", headers.concat()));
            http.answer()
        };
        for headers in [&[][..], &[version, connection, key], &["Upgrade: h2c\r\n", version, connection, key]]
        {
            let answer = ask(unknown, headers);
            answer.expect_error(426, "upgrade_required");
            assert_eq!(answer.header("upgrade"), Some("websocket"));
            assert_eq!(answer.header("sec-websocket-version"), None);
        }
        let older = "Sec-WebSocket-Version: 8\r\n";
        for headers in [&[upgrade][..], &[upgrade, older], &[upgrade, older, connection, key]] {
            let answer = ask(unknown, headers);
            answer.expect_error(426, "upgrade_required");
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        }
        let short = "Sec-WebSocket-Key: dGhl\r\n";
        for headers in [
            &[upgrade, version][..],
            &[upgrade, version, connection],
            &[upgrade, version, key],
            &[upgrade, version, connection, short],
            &[upgrade, version, connection, key, key],
        ] {
            ask(unknown, headers).expect_error(400, "bad_request");
        }
        let good = [upgrade, version, connection, key];
        for id in [unknown, "", "x", "0123456789abcdef0123456789abcde", "a/b"] {
            ask(id, &good).expect_error(404, "not_found");
        }
        let id = server.register(&["cats"]);
        ask(&id, &[upgrade]).expect_error(426, "upgrade_required");
        ask(&id, &[upgrade, version]).expect_error(400, "bad_request");
        assert_eq!(ask(&id, &good).status, 101, "what was refused took nothing away");
    });
}

#[test]
fn handshake_is_read_whatever_the_case_of_its_headers_and_its_id() {
    serve(shards(2), |server| {
        let id = server.register(&["cats"]).to_uppercase();
        let mut http = server.http();
        http.send(format!(
            "GET /ws/{id}?of=no&meaning HTTP/1.1\r\nhost: a\r\nupgrade: h2c, WebSocket\r\n\
             CONNECTION: keep-alive, upgrade\r\nsec-websocket-version: 13\r\nOrigin: https://example.com\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
        assert_eq!(http.answer().status, 101);
    });
}

#[test]
fn connection_refused_an_upgrade_goes_on_as_http() {
    serve(shards(2), |server| {
        let id = server.register(&["cats"]);
        let mut http = server.http();
        assert_eq!(http.get(&format!("/ws/{id}")).status, 426);
        http.send(handshake(server.address(), "0123456789abcdef0123456789abcdef"));
        http.answer().expect_error(404, "not_found");
        assert_eq!(http.get("/health").status, 200);
        let mut client = WebSocket::upgrade(http, server.address(), &id, b"").expect("the upgrade is taken");
        server.http().publish("cats", "x");
        client.expect_text("x");
    });
}

#[test]
fn publish_right_behind_the_101_arrives() {
    serve(shards(3), |server| {
        let mut publishers: Vec<_> = (0..3).map(|_| server.http()).collect();
        for round in 0..300 {
            let topic = format!("topic {}", round % 7);
            let mut client = server.client(&[&topic]);
            let message = round.to_string();
            publishers[round % 3].publish(&topic, &message);
            client.expect_text(&message);
        }
    });
}

#[test]
fn client_that_connects_under_publishing_sees_everything_from_its_101_on() {
    serve(shards(3), |server| {
        let begun = AtomicU64::new(0);
        let going = AtomicBool::new(true);
        thread::scope(|scope| {
            let _end = OnPanic(|| going.store(false, Ordering::SeqCst));
            scope.spawn(|| {
                let mut publishers = [server.http(), server.http(), server.http()];
                for n in 1.. {
                    if !going.load(Ordering::SeqCst) {
                        return;
                    }
                    begun.store(n, Ordering::SeqCst);
                    publishers[n as usize % 3].publish("cats", &n.to_string());
                }
            });
            for _ in 0..60 {
                let mut client = server.client(&["cats"]);
                let begun = begun.load(Ordering::SeqCst);
                let first: u64 = client.text().parse().expect("a number");
                assert!(first <= begun + 1, "{first} is the first, though {begun} was begun at the 101");
                (first + 1..first + 10).for_each(|n| client.expect_text(&n.to_string()));
            }
            going.store(false, Ordering::SeqCst);
        });
    });
}

#[test]
fn frames_in_one_segment_with_the_handshake_are_processed() {
    serve(shards(2), |server| {
        let mut http = server.http();
        for _ in 0..50 {
            let id = server.register(&["cats"]);
            let topics = br#"{"topics":["dogs"]}"#;
            let behind = [frame(0x81, b"ping"), frame(0x81, topics), frame(0x81, b"ping\n")].concat();
            let mut client =
                WebSocket::upgrade(server.http(), server.address(), &id, &behind).expect("a 101");
            client.expect_text("pong");
            client.expect_text("pong");
            http.publish("cats", "left");
            http.publish("dogs", "kept");
            client.expect_text("kept");
        }
    });
}

#[test]
fn half_a_frame_behind_the_handshake_is_completed_by_what_follows() {
    serve(shards(2), |server| {
        let ping = frame(0x80 | TEXT, b"ping");
        for cut in 1..ping.len() {
            let id = server.register(&["cats"]);
            let (first, rest) = ping.split_at(cut);
            let mut client = WebSocket::upgrade(server.http(), server.address(), &id, first).expect("a 101");
            client.send(rest);
            client.expect_text("pong");
        }
    });
}

#[test]
fn close_behind_the_handshake_is_answered() {
    serve(shards(2), |server| {
        let id = server.register(&["cats"]);
        let close = frame(0x80 | CLOSE, &1001_u16.to_be_bytes());
        let mut client = WebSocket::upgrade(server.http(), server.address(), &id, &close).expect("a 101");
        client.read_to_close(1001);
        let broken = [0xc1];
        let mut client = WebSocket::upgrade(server.http(), server.address(), &id, &broken).expect("a 101");
        client.read_to_close(1002);
    });
}

#[test]
fn of_two_upgrades_of_one_id_on_two_shards_exactly_one_survives() {
    serve(shards(2), |server| {
        let mut publisher = server.http();
        let mut on_two_shards = 0;
        for round in 0..60 {
            let id = server.register(&["cats"]);
            let before = upgrades(server);
            let upgraded = upgrade_at_once(server, &id);
            let mut clients = upgraded.map(|upgraded| upgraded.expect("both are answered with 101"));
            let marker = format!("round {round}");
            publisher.publish("cats", &marker);
            let mut survivors = 0;
            for client in &mut clients {
                let frame = client.next().expect("a message, or a close");
                if frame.opcode == CLOSE {
                    assert_eq!(frame.close(), (4409, "replaced".into()));
                    assert_eq!(client.receive(), Err(Ended::InOrder));
                } else {
                    assert_eq!((frame.opcode, frame.payload), (TEXT, marker.clone().into_bytes()));
                    survivors += 1;
                }
            }
            assert_eq!(survivors, 1, "in round {round}");
            drop(clients);
            server.wait_until_empty();
            let after = upgrades(server);
            on_two_shards += usize::from(after[0] > before[0] && after[1] > before[1]);
        }
        assert_eq!(server.total().closed_replaced, 60);
        assert!(on_two_shards > 20, "the race was on two shards in {on_two_shards} rounds only");
    });
}

#[test]
fn client_unregistered_while_it_upgrades_is_refused_or_closed() {
    serve(shards(2), |server| {
        let mut closed = 0;
        for round in 0..100 {
            let id = server.register(&["cats", "dogs"]);
            let (mut unregisters, upgrades) = (server.http(), server.http());
            let together = Barrier::new(2);
            let upgraded = thread::scope(|scope| {
                scope.spawn(|| {
                    together.wait();
                    assert_eq!(unregisters.delete(&id).status, 200);
                });
                together.wait();
                WebSocket::upgrade(upgrades, server.address(), &id, b"")
            });
            match upgraded {
                Ok(mut client) => {
                    client.expect_close(1000, "unregistered");
                    closed += 1;
                }
                Err(refused) => refused.expect_error(404, "not_found"),
            }
            assert_eq!(server.node().registrations(), 0, "in round {round}");
        }
        server.wait_until_empty();
        assert_eq!(server.total().closed_unregistered, closed);
    });
}

#[test]
fn client_that_vanishes_while_it_upgrades_leaves_nothing_behind() {
    serve(shards(2), |server| {
        let id = server.register(&["cats", "dogs"]);
        for round in 0..100 {
            let mut http = server.http();
            http.send(handshake(server.address(), &id));
            if round % 2 == 0 {
                http.into_wire().reset();
            }
        }
        // Connections are accepted in their order, so all of those were before this one.
        assert_eq!(server.http().get("/health").status, 200);
        eventually("all are gone", || (0..2).all(|shard| server.node().load(shard) == 0));
        let mut client = server.connect(&id);
        server.http().publish("cats", "x");
        client.expect_text("x");
        assert_eq!(server.node().registrations(), 1);
        eventually("only the topics of one client are left", || server.total().topics == 2);
    });
}

#[test]
fn more_joins_at_once_than_may_be_under_way_all_come_back() {
    serve(shards(2), |server| {
        let names: Vec<Vec<String>> =
            (0..24).map(|client| (0..128).map(|topic| format!("{client}/{topic}")).collect()).collect();
        thread::scope(|scope| {
            for names in &names {
                scope.spawn(|| {
                    let topics: Vec<_> = names.iter().map(String::as_str).collect();
                    let mut client = server.client(&topics);
                    let mut http = server.http();
                    for name in [&names[0], &names[127]] {
                        http.publish(name, name);
                        client.expect_text(name);
                    }
                });
            }
        });
    });
}

#[test]
fn data_begun_before_the_101_is_no_message_of_the_client_replaced() {
    serve(shards(2), |server| {
        let id = server.register(&["cats"]);
        let mut first = server.connect(&id);
        // Half a message, which the replaced connection never ends.
        first.send(&header(0x81, 100));
        let mut second = server.connect(&id);
        first.expect_close(4409, "replaced");
        second.send_text("ping");
        second.expect_text("pong");
    });
}

/// Upgrades one id over two connections at the same time.
fn upgrade_at_once(server: &Running, id: &str) -> [Result<WebSocket, Answer>; 2] {
    let connections = [server.http(), server.http()];
    let together = Barrier::new(2);
    thread::scope(|scope| {
        let upgrades = connections.map(|http| {
            scope.spawn(|| {
                together.wait();
                WebSocket::upgrade(http, server.address(), id, b"")
            })
        });
        upgrades.map(|upgrade| upgrade.join().expect("it is answered"))
    })
}

/// Upgrades there have been on each shard.
fn upgrades(server: &Running) -> [u64; 2] {
    [0, 1].map(|shard| server.node().metrics().shard(shard).upgrades.get())
}
