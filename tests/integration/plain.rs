//! The plain protocol: topics, pings, errors, and the promises about their order.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use fanfare::settings::Settings;

use crate::support::{
    Frame, OnPanic, Running, WebSocket, eventually, serve, shards,
    websocket::{PONG, TEXT, frame},
};

#[test]
fn topics_are_replaced_and_none_is_a_choice() {
    serve(shards(3), |server| {
        let mut client = server.client(&["cats"]);
        let mut http = server.http();
        let mut publish_all =
            || ["cats", "dogs", "birds"].iter().for_each(|topic| http.publish(topic, topic));
        publish_all();
        client.expect_text("cats");
        client.set_topics(&["dogs", "birds", "dogs"]);
        publish_all();
        client.expect_text("dogs");
        client.expect_text("birds");
        client.set_topics(&[]);
        publish_all();
        client.set_topics(&["cats"]);
        publish_all();
        client.expect_text("cats");
        client.set_topics(&[]);
    });
}

#[test]
fn list_that_is_refused_changes_nothing_and_is_answered_with_an_error() {
    serve(Settings { max_topics_per_client: 3, ..shards(2) }, |server| {
        let mut client = server.client(&["cats"]);
        let mut http = server.http();
        let too_long = format!(r#"{{"topics":["dogs","{}"]}}"#, "t".repeat(201));
        for bad in [
            r#"{"topics":["dogs","a","b","c"]}"#,
            r#"{"topics":["dogs",""]}"#,
            r#"{"topics":["dogs","a\u0000"]}"#,
            r#"{"topics":["dogs",1]}"#,
            &too_long,
        ] {
            client.send_text(bad);
            client.expect_error("bad_request");
            http.publish("dogs", "not mine");
            http.publish("cats", "mine");
            client.expect_text("mine");
        }
        client.set_topics(&["a", "b", "c", "a", "b", "c"]);
    });
}

#[test]
fn longest_list_of_the_longest_topics_fits_a_command() {
    for most in [fanfare::limits::TOPICS_PER_CLIENT, fanfare::limits::TOPICS_PER_CLIENT_MAX] {
        serve(Settings { max_topics_per_client: most, ..shards(2) }, |server| {
            let mut client = server.client(&[]);
            let names: Vec<_> = (0..most).map(|n| format!("{n:0>200}")).collect();
            let topics: Vec<_> = names.iter().map(String::as_str).collect();
            client.set_topics(&topics);
            let mut http = server.http();
            for name in [&names[0], &names[most - 1]] {
                http.publish(name, "x");
                client.expect_text("x");
            }
        });
    }
}

#[test]
fn topic_that_is_kept_has_neither_gap_nor_duplicate_while_others_change() {
    serve(shards(3), |server| {
        let clients: Vec<_> = (0..3).map(|_| server.client(&["kept"])).collect();
        let changing = AtomicBool::new(true);
        thread::scope(|scope| {
            let _end = OnPanic(|| changing.store(false, Ordering::Relaxed));
            let publisher = scope.spawn(|| publish_numbers(server, "kept", &changing));
            let readers: Vec<_> = clients
                .into_iter()
                .map(|mut client| {
                    scope.spawn(move || {
                        let mut next = 0;
                        for round in 0..100 {
                            client
                                .send_topics([&["kept"][..], &["a", "kept"], &["kept", "b", "c"]][round % 3]);
                            client.send_text("ping");
                            next = expect_numbers(&mut client, next, "pong");
                        }
                        (client, next)
                    })
                })
                .collect();
            let seen: Vec<_> = readers.into_iter().map(|reader| reader.join().expect("no gap")).collect();
            changing.store(false, Ordering::Relaxed);
            let published = publisher.join().expect("every publish is taken");
            server.http().publish("kept", "end");
            for (mut client, next) in seen {
                assert_eq!(expect_numbers(&mut client, next, "end"), published);
            }
        });
    });
}

#[test]
fn nothing_of_the_topics_left_follows_the_pong() {
    serve(shards(3), |server| {
        let mut clients: Vec<_> = (0..3).map(|_| server.client(&["a"])).collect();
        let changing = AtomicBool::new(true);
        thread::scope(|scope| {
            let _end = OnPanic(|| changing.store(false, Ordering::Relaxed));
            let publishers = ["a", "b"].map(|topic| {
                let changing = &changing;
                scope.spawn(move || {
                    let mut http = server.http();
                    while changing.load(Ordering::Relaxed) {
                        http.publish(topic, topic);
                    }
                })
            });
            let readers: Vec<_> = clients
                .iter_mut()
                .map(|client| {
                    scope.spawn(|| {
                        for round in 0..60 {
                            let (mine, left) = if round % 2 == 0 { ("b", "a") } else { ("a", "b") };
                            client.send_topics(&[mine]);
                            client.send_text("ping");
                            while client.text() != "pong" {}
                            // The set is in force: its messages come, and none of the other's.
                            for _ in 0..3 {
                                let text = client.text();
                                assert!(
                                    text == mine,
                                    "{text:?} of {left:?} behind the pong of round {round}"
                                );
                            }
                        }
                    })
                })
                .collect();
            readers.into_iter().for_each(|reader| reader.join().expect("nothing follows"));
            changing.store(false, Ordering::Relaxed);
            publishers.into_iter().for_each(|publisher| publisher.join().expect("every publish is taken"));
        });
    });
}

#[test]
fn change_of_topics_is_in_force_when_the_pong_comes() {
    serve(shards(3), |server| {
        let mut client = server.client(&[]);
        let mut http = server.http();
        for round in 0..200 {
            let topic = format!("topic {round}");
            client.set_topics(&[&topic]);
            http.publish(&topic, &topic);
            client.expect_text(&topic);
        }
    });
}

#[test]
fn commands_sent_at_once_take_effect_in_their_order() {
    serve(shards(3), |server| {
        let mut client = server.client(&[]);
        let mut http = server.http();
        let mut commands = Vec::new();
        for n in 0..100 {
            commands.extend(frame(0x81, format!(r#"{{"topics":["a {n}","b {n}","both"]}}"#).as_bytes()));
            commands.extend(frame(0x81, if n % 2 == 0 { b"ping" } else { b"huh?" }));
        }
        client.send(&commands);
        for n in 0..100 {
            if n % 2 == 0 {
                client.expect_text("pong");
            } else {
                client.expect_error("bad_request");
            }
        }
        http.publish("a 98", "left");
        http.publish("a 99", "a");
        http.publish("both", "both");
        client.expect_text("a");
        client.expect_text("both");
    });
}

#[test]
fn ping_is_answered_with_pong_with_or_without_a_newline() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        client.send_text("ping");
        client.expect_text("pong");
        client.send_text("ping\n");
        client.expect_text("pong");
    });
}

#[test]
fn websocket_ping_is_answered_with_its_payload() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        for payload in [&b""[..], b"x", b"\x00\xff", &[7; 125]] {
            client.send(&frame(0x89, payload));
            assert_eq!(client.next(), Ok(Frame { opcode: PONG, payload: payload.to_vec() }));
        }
        client.send(&frame(0x8a, b"a pong nobody asked for"));
        client.send_text("ping");
        client.expect_text("pong");
    });
}

#[test]
fn websocket_ping_is_answered_ahead_of_data_that_waits() {
    // Little fits into the connection, so that much waits in the outbox of a client that does not read.
    let settings = Settings { socket_unsent: 4_096, outbox_bytes: 16 << 20, ..shards(2) };
    serve(settings, |server| {
        let id = server.register(&["cats"]);
        let mut client = WebSocket::connect_narrow(server.address(), &id);
        let mut http = server.http();
        let message = "x".repeat(16_000);
        let count = 400;
        (0..count).for_each(|_| http.publish("cats", &message));
        eventually("it is blocked", || server.total().blocked == 1);
        let commands = server.total().commands;
        client.send(&frame(0x89, b"now"));
        eventually("the ping is read", || server.total().commands > commands);
        let mut before = 0;
        let mut after = 0;
        let mut ponged = false;
        while before + after < count || !ponged {
            let received = client.next().expect("it is not closed");
            match received.opcode {
                PONG => ponged = true,
                TEXT if ponged => after += 1,
                _ => before += 1,
            }
        }
        assert!(after > count / 2, "{before} messages came before the pong, {after} behind it");
    });
}

#[test]
fn anything_else_is_answered_with_an_error_and_the_connection_goes_on() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        let mut http = server.http();
        for bad in [
            "",
            "hello",
            "PING",
            "ping ",
            "{}",
            "[]",
            "null",
            r#"{"topics":"cats"}"#,
            r#"{"topics":null}"#,
            r#"{"topics":[],"more":1}"#,
            r#"{"topics":["a"]}{}"#,
            r#"{"subscribe":["a"]}"#,
            "größe",
        ] {
            client.send_text(bad);
            client.expect_error("bad_request");
        }
        client.send(&frame(0x82, b"ping"));
        client.expect_error("bad_request");
        http.publish("cats", "still here");
        client.expect_text("still here");
    });
}

#[test]
fn command_in_fragments_with_pings_between_is_one_command() {
    serve(shards(2), |server| {
        let mut client = server.client(&[]);
        for (first, part) in [(0x01, "{\"topics\":[\"gr"), (0x00, "öß"), (0x00, "")] {
            client.send(&frame(first, part.as_bytes()));
            client.send(&frame(0x89, part.as_bytes()));
            assert_eq!(client.next(), Ok(Frame { opcode: PONG, payload: part.as_bytes().to_vec() }));
        }
        client.send(&frame(0x80, b"e\"]}"));
        client.send_text("ping");
        client.expect_text("pong");
        server.http().publish("größe", "x");
        client.expect_text("x");
    });
}

#[test]
fn close_of_the_client_is_answered_and_the_connection_ended() {
    serve(shards(2), |server| {
        for code in [1000_u16, 1001, 3000, 4999] {
            let mut client = server.client(&["cats"]);
            client.send(&frame(0x88, &[&code.to_be_bytes()[..], b"bye"].concat()));
            assert_eq!(client.read_to_close(code), []);
        }
        let mut client = server.client(&["cats"]);
        client.send(&frame(0x88, b""));
        let reply = client.next().expect("an answer");
        assert_eq!(reply, Frame { opcode: 8, payload: Vec::new() }, "no code is answered with none");
    });
}

/// Publishes 0, 1, … while `going`, from two connections by turns; how many there were.
fn publish_numbers(server: &Running, topic: &str, going: &AtomicBool) -> u64 {
    let mut publishers = [server.http(), server.http()];
    let mut next = 0;
    while going.load(Ordering::Relaxed) {
        publishers[next as usize % 2].publish(topic, &next.to_string());
        next += 1;
    }
    next
}

/// Reads numbers from `next` on, one after another, up to the text `end`; the number that follows.
fn expect_numbers(client: &mut WebSocket, mut next: u64, end: &str) -> u64 {
    loop {
        let text = client.text();
        if text == end {
            return next;
        }
        assert_eq!(text, next.to_string());
        next += 1;
    }
}
