//! Messages of clients that begin and do not end: what they take together is bounded and counted, and each has its time.

use std::time::{Duration, Instant};

use fanfare::{engine::Rung, limits, settings::Settings};

use crate::support::{
    WebSocket, eventually, serve, shards,
    websocket::{CLOSE, PING, PONG, TEXT, frame, header},
};

/// What clients send of a message, of less than a whole one.
const PART: usize = 60_000;

/// A command as long as one may be, cut behind that.
fn halves() -> (Vec<u8>, Vec<u8>) {
    let command = format!("{:<width$}}}", r#"{"topics":["cats"]"#, width = limits::COMMAND_BYTES - 1);
    let mut command = frame(0x80 | TEXT, command.as_bytes());
    let rest = command.split_off(PART);
    (command, rest)
}

/// One shard, with little memory, whose pings do not come into it.
fn small() -> Settings {
    Settings { memory_bytes: limits::MEMORY_BYTES_MIN, ..shards(1) }
}

#[test]
fn half_messages_have_a_bound_together_and_those_that_took_longest_go_first() {
    let bound = small().half_messages_bytes();
    assert_eq!(bound, limits::MEMORY_BYTES_MIN / limits::HALF_MESSAGES_PARTS, "and not what one takes");
    serve(small(), |server| {
        let (part, rest) = halves();
        let mut reader = server.client(&["cats"]);
        let fit = bound / (limits::COMMAND_BYTES + limits::HALF_MESSAGE_COST);
        let mut clients: Vec<WebSocket> = Vec::new();
        for number in 0..3 * fit {
            let mut client = server.client(&["cats"]);
            client.send(&part);
            clients.push(client);
            eventually("its part is there, or others have gone for it", || {
                let total = server.total();
                let seen = total.half_messages_squeezed as usize * PART + total.half_message_bytes as usize;
                seen >= (number + 1) * PART
            });
            let total = server.total();
            assert!(total.half_message_bytes as usize <= bound, "{total:?}");
            assert_eq!(server.node().memory().rung(), Rung::Calm, "nobody's queue is to pay for them");
        }
        let total = server.total();
        assert!(server.node().memory().used() >= total.half_message_bytes as usize, "they count");
        let gone = total.half_messages_squeezed as usize;
        assert!((fit..3 * fit).contains(&gone), "{total:?}");
        assert_eq!((total.closed_slow as usize, total.half_messages_overdue), (gone, 0));
        for client in &mut clients[..gone] {
            client.expect_close(1013, "unfinished message");
        }
        // The others' end is taken, and then nothing is held.
        for client in &mut clients[gone..] {
            client.send(&rest);
            client.send_text("ping");
            client.expect_text("pong");
        }
        eventually("nothing is held", || server.total().half_message_bytes == 0);
        server.http().publish("cats", "purr");
        reader.expect_text("purr");
    });
}

#[test]
fn half_messages_of_whoever_goes_are_not_counted_any_more() {
    serve(small(), |server| {
        let (part, _) = halves();
        let mut clients: Vec<_> = (0..3).map(|_| server.client(&["cats"])).collect();
        for client in &mut clients {
            client.send(&part);
        }
        eventually("they are counted", || server.total().half_message_bytes as usize >= 3 * PART);
        for client in clients {
            client.reset();
        }
        eventually("they are not any more", || server.total().half_message_bytes == 0);
    });
}

#[test]
fn message_that_does_not_end_in_its_time_is_closed_with_1008_however_alive_its_client_is() {
    let (ping_interval, pong_timeout) = (Duration::from_millis(1_200), Duration::from_millis(1_100));
    let message_time = Duration::from_millis(2_000);
    serve(Settings { ping_interval, pong_timeout, message_time, ..shards(1) }, |server| {
        for half in [frame(TEXT, b"half"), header(0x80 | TEXT, 60_000)] {
            let mut client = server.client(&["cats"]);
            client.send(&half);
            let mut pings = 0;
            let close = loop {
                match client.receive().expect("a close before the end") {
                    ping if ping.opcode == PING => {
                        pings += 1;
                        // Within a frame a pong would be a part of it; so is any byte, and a sign of life too.
                        match half[0] {
                            TEXT => client.send(&frame(0x80 | PONG, &ping.payload)),
                            _ => client.send(b" "),
                        }
                    }
                    other => break other,
                }
            };
            assert_eq!((close.opcode, pings > 0), (CLOSE, true));
            assert_eq!(close.close(), (1008, "message took too long".into()));
        }
        let total = server.total();
        assert_eq!((total.half_messages_overdue, total.closed_policy), (2, 2), "{total:?}");
        eventually("nothing is held", || server.total().half_message_bytes == 0);
    });
}

#[test]
fn client_that_is_always_amid_a_message_stays_while_each_ends_in_time() {
    // Long enough for a machine that does much else, too.
    let message_time = Duration::from_secs(3);
    serve(Settings { message_time, ..shards(1) }, |server| {
        let text = frame(0x80 | TEXT, b"ping");
        let (begin, end) = text.split_at(text.len() - 2);
        let mut client = server.client(&["cats"]);
        client.send(begin);
        let began = Instant::now();
        while began.elapsed() < 2 * message_time {
            client.send(&[end, begin].concat());
            client.expect_text("pong");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(server.total().half_messages_overdue, 0);
        client.send(end);
        client.expect_text("pong");
    });
}
