//! Frames no client should send: each costs its sender the connection, with the right code, and nobody else anything.

use fanfare::{limits, settings::Settings};

use crate::support::{
    Running, WebSocket, eventually,
    process::Process,
    serve, shards,
    websocket::{BINARY, PING, TEXT, frame, header},
};

/// Sends `bytes` on a connection of its own, which must be closed with `code`. A neighbour must not notice.
#[track_caller]
fn expect_closed(server: &Running, bytes: &[u8], code: u16) {
    let mut client = server.client(&["cats"]);
    client.send(bytes);
    assert_eq!(client.read_to_close(code), [], "nothing comes before the close");
}

/// Checks that a server still does its work.
fn expect_sound(server: &Running) {
    let mut neighbour = server.client(&["cats"]);
    server.http().publish("cats", "x");
    neighbour.expect_text("x");
}

#[test]
fn frame_without_a_mask_is_closed_with_1002() {
    serve(shards(2), |server| {
        expect_closed(server, b"\x81\x04ping", 1002);
        expect_closed(server, b"\x89\x00", 1002);
        expect_closed(server, b"\x88\x02\x03\xe8", 1002);
        assert_eq!(server.total().closed_protocol, 3);
        expect_sound(server);
    });
}

#[test]
fn control_frame_over_125_bytes_or_in_fragments_is_closed_with_1002() {
    serve(shards(2), |server| {
        for opcode in [8, 9, 10] {
            expect_closed(server, &frame(0x80 | opcode, &[b'x'; 126]), 1002);
            expect_closed(server, &header(0x80 | opcode, 70_000), 1002);
            expect_closed(server, &frame(opcode, b"x"), 1002);
        }
        expect_sound(server);
    });
}

#[test]
fn message_that_starts_inside_another_is_closed_with_1002() {
    serve(shards(2), |server| {
        for second in [0x81, 0x01, 0x82, 0x02] {
            expect_closed(server, &[frame(0x01, b"one"), frame(second, b"two")].concat(), 1002);
        }
        for lonely in [0x80, 0x00] {
            expect_closed(server, &frame(lonely, b"of nothing"), 1002);
        }
        expect_sound(server);
    });
}

#[test]
fn reserved_bits_and_opcodes_are_closed_with_1002() {
    serve(shards(2), |server| {
        for first in [0xc1, 0xa1, 0x91, 0xf1, 0x83, 0x87, 0x8b, 0x8f, 0x03] {
            expect_closed(server, &frame(first, b"x"), 1002);
        }
        expect_sound(server);
    });
}

#[test]
fn close_that_is_not_allowed_is_closed_with_1002() {
    serve(shards(2), |server| {
        for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
            expect_closed(server, &frame(0x88, &code.to_be_bytes()), 1002);
        }
        expect_closed(server, &frame(0x88, b"\x03"), 1002);
        expect_closed(server, &frame(0x88, b"\x03\xe8\xff"), 1007);
        expect_sound(server);
    });
}

#[test]
fn length_not_in_its_shortest_form_is_closed_with_1002() {
    serve(shards(2), |server| {
        expect_closed(server, &[0x81, 0xfe, 0, 4, 0, 0, 0, 0, b'p', b'i', b'n', b'g'], 1002);
        expect_closed(server, &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0], 1002);
        expect_sound(server);
    });
}

#[test]
fn text_that_is_not_utf8_is_closed_with_1007_as_soon_as_that_is_certain() {
    serve(shards(2), |server| {
        for bad in [&b"\xff"[..], b"ab\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3"] {
            expect_closed(server, &frame(0x81, bad), 1007);
        }
        // The rest of the message never comes.
        expect_closed(server, &frame(0x01, b"\xc0"), 1007);
        expect_closed(server, &[frame(0x01, b"\xe2\x82"), frame(0x00, b"a")].concat(), 1007);
        expect_closed(server, &[frame(0x01, b"\xe2\x82"), frame(0x80, b"")].concat(), 1007);
        expect_sound(server);
    });
}

#[test]
fn command_that_is_too_long_is_closed_with_1009_before_it_has_come() {
    serve(shards(2), |server| {
        let most = server.node().settings().command_bytes();
        let mut client = server.client(&["cats"]);
        client.send(&frame(0x80 | TEXT, &vec![b'x'; most]));
        client.expect_error("bad_request");
        for opcode in [TEXT, BINARY] {
            expect_closed(server, &header(0x80 | opcode, most as u64 + 1), 1009);
            let first = frame(opcode, &vec![b'x'; most]);
            expect_closed(server, &[first, header(0x80, 1)].concat(), 1009);
        }
        expect_sound(server);
    });
}

#[test]
fn flood_of_tiny_fragments_is_closed_with_1008_and_a_long_one_with_1009() {
    serve(shards(2), |server| {
        let most = limits::FRAGMENTS_MAX as usize;
        let fragments = |count: usize| {
            let mut bytes = frame(TEXT, b"x");
            (2..count).for_each(|_| bytes.extend(frame(0x00, b"x")));
            bytes.extend(frame(0x80, b"x"));
            bytes
        };
        let mut client = server.client(&["cats"]);
        client.send(&fragments(most));
        client.expect_error("bad_request");
        expect_closed(server, &fragments(most + 1), 1008);
        let mut empty = frame(BINARY, b"");
        (0..most).for_each(|_| empty.extend(frame(0x00, b"")));
        expect_closed(server, &empty, 1008);
        let piece = server.node().settings().command_bytes() / 10;
        let mut long = frame(TEXT, &vec![b'x'; piece]);
        (0..10).for_each(|_| long.extend(frame(0x00, &vec![b'x'; piece])));
        expect_closed(server, &long, 1009);
        expect_sound(server);
    });
}

#[test]
fn length_of_2_to_the_63_is_closed_with_1002_and_one_below_with_1009() {
    serve(shards(2), |server| {
        for opcode in [TEXT, BINARY] {
            expect_closed(server, &header(0x80 | opcode, 1 << 63), 1002);
            expect_closed(server, &header(0x80 | opcode, u64::MAX), 1002);
            expect_closed(server, &header(0x80 | opcode, (1 << 63) - 1), 1009);
            expect_closed(server, &[frame(opcode, b"x"), header(0x80, (1 << 63) - 1)].concat(), 1009);
        }
        expect_sound(server);
    });
}

#[test]
fn nothing_is_allocated_for_a_length_that_is_only_claimed() {
    let mut process = Process::start(&["--shards", "2", "--log-level", "info"]);
    let address = process.address();
    let connect = || {
        let id = crate::support::Http::connect(address).register(r#"{"user_id":1}"#);
        WebSocket::connect(address, &id).expect("the upgrade is taken")
    };
    let most = Settings::default().command_bytes() as u64;
    // Whatever the process needs once it has by now.
    for _ in 0..20 {
        connect().close();
    }
    let before = process.resident();
    let mut claimed: Vec<_> = (0..200).map(|_| connect()).collect();
    for (n, client) in claimed.iter_mut().enumerate() {
        let claim = [1 << 63, (1 << 63) - 1, 1 << 40, most][n % 4];
        client.send(&header(0x80 | BINARY, claim));
    }
    for client in &mut claimed {
        // The last of the four is allowed, and waited for.
        client.send(&frame(0x80 | PING, b""));
    }
    for (n, client) in claimed.iter_mut().enumerate().filter(|(n, _)| n % 4 != 3) {
        client.read_to_close([1002, 1009, 1009, 0][n % 4]);
    }
    let grown = process.resident().saturating_sub(before);
    // 50 legal claims of 64 KiB alone would be 3 MiB.
    assert!(grown < 2 << 20, "{grown} bytes more");
    connect().close();
}

#[test]
fn more_commands_than_allowed_are_closed_with_1008() {
    let settings = Settings { commands_burst: 20, commands_per_second: 1, ..shards(2) };
    serve(settings, |server| {
        for command in [frame(0x81, b"ping"), frame(0x89, b""), frame(0x8a, b""), frame(0x81, b"no command")]
        {
            let mut client = server.client(&["cats"]);
            client.send(&command.repeat(20));
            // The others are for seconds that pass meanwhile.
            client.send(&command.repeat(20));
            client.read_to_close(1008);
        }
        assert_eq!(server.total().closed_policy, 4);
        let mut client = server.client(&["cats"]);
        (0..20).for_each(|_| client.ping_once());
        server.http().publish("cats", "x");
        client.expect_text("x");
    });
}

#[test]
fn fragments_count_as_commands() {
    let settings = Settings { commands_burst: 20, commands_per_second: 1, ..shards(2) };
    serve(settings, |server| {
        // "ping" after so many empty fragments.
        let ping = |fragments: u32| {
            let empty = frame(0x00, b"").repeat(fragments as usize - 2);
            [frame(0x01, b""), empty, frame(0x80, b"ping")].concat()
        };
        let each = limits::FRAGMENTS_PER_COMMAND;
        let mut client = server.client(&["cats"]);
        client.send(&ping(10 * each));
        client.expect_text("pong");
        (0..9).for_each(|_| client.ping_once());
        client.send(&frame(0x89, b"").repeat(20));
        client.read_to_close(1008);
        let mut client = server.client(&["cats"]);
        for _ in 0..20 {
            client.send(&ping(each - 1));
            client.expect_text("pong");
        }
        client.send(&ping(2).repeat(20));
        client.read_to_close(1008);
    });
}

#[test]
fn changes_of_topics_count_as_commands() {
    let settings = Settings { commands_burst: 20, commands_per_second: 1, ..shards(2) };
    serve(settings, |server| {
        let mut client = server.client(&[]);
        for n in 0..40 {
            client.send_topics(&[&n.to_string()]);
        }
        client.read_to_close(1008);
    });
}

#[test]
fn bytes_behind_a_close_are_thrown_away_and_a_flood_of_them_is_cut() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        client.send(&[frame(0x88, b"\x03\xe8"), frame(0x81, b"ping"), vec![0xff; 1_000]].concat());
        assert_eq!(client.read_to_close(1000), []);
        drop(client);

        let mut flooder = server.client(&["cats"]);
        flooder.send(b"\x81\x00");
        let piece = vec![0; 16 << 10];
        let mut sent = 0;
        while flooder.wire().try_write(&piece).is_ok() {
            sent += piece.len();
            assert!(sent < 256 << 20, "it is read without end");
        }
        eventually("it is forgotten", || server.total().subscribers == 0);
    });
}

#[test]
fn random_bytes_never_stop_the_server() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut state: u64 = seed;
    let mut random = move || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    serve(shards(2), |server| {
        for round in 0..100 {
            let mut bytes: Vec<u8> = (0..64).flat_map(|_| random().to_le_bytes()).collect();
            if round % 2 == 0 {
                let mut client = server.client(&["cats"]);
                // A first byte that lets it come further.
                bytes[0] = [0x81, 0x01, 0x82, 0x89][round / 2 % 4];
                bytes[1] |= 0x80;
                client.send(&bytes);
                drop(client);
            } else {
                let mut http = server.http();
                http.send(&bytes);
                http.wire().shut_write();
                http.drain();
            }
        }
        server.wait_until_empty();
        expect_sound(server);
    });
}

impl WebSocket {
    /// One command, and its answer.
    fn ping_once(&mut self) {
        self.send_text("ping");
        self.expect_text("pong");
    }
}
