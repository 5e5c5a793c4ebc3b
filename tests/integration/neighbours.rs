//! Many clients of one shard who get the same bytes: whatever becomes of one of them in the middle of a pass, those
//! before and behind it get theirs.

use fanfare::{limits, settings::Settings};

use crate::support::{WebSocket, eventually, serve, shards};

/// Clients of a test who read what they get.
const CLIENTS: usize = 20;

/// Settings with which little fits into a connection that is not read.
fn narrow() -> Settings {
    Settings { socket_unsent: 4_096, outbox_bytes: 256 << 10, ..shards(1) }
}

fn numbered(n: usize, size: usize) -> String {
    format!("{n:0>size$}")
}

#[test]
fn stalled_among_many_are_closed_with_whole_messages_and_the_others_miss_nothing() {
    serve(narrow(), |server| {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.client(&["cats"])).collect();
        let mut stalled: Vec<_> = (0..3)
            .map(|_| WebSocket::connect_narrow(server.address(), &server.register(&["cats"])))
            .collect();
        let mut http = server.http();
        // No longer than until they are closed: from then on they have five seconds to read the rest.
        for n in (0..200).take_while(|_| server.total().closed_slow < 3) {
            http.publish("cats", &numbered(n, 4_000));
            clients.iter_mut().for_each(|client| client.expect_text(&numbered(n, 4_000)));
        }
        eventually("the stalled are closed", || server.total().closed_slow == 3);
        assert!(server.total().would_block >= 3, "{:?}", server.total());
        for client in &mut stalled {
            for (n, frame) in client.read_to_close(1013).iter().enumerate() {
                assert_eq!(frame.payload, numbered(n, 4_000).into_bytes(), "none is cut or left out before");
            }
        }
    });
}

#[test]
fn one_that_reads_late_among_many_gets_everything_in_order() {
    let settings = Settings { outbox_bytes: limits::OUTBOX_BYTES, ..narrow() };
    serve(settings, |server| {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.client(&["cats"])).collect();
        let mut late = WebSocket::connect_narrow(server.address(), &server.register(&["cats"]));
        let mut http = server.http();
        for n in 0..100 {
            http.publish("cats", &numbered(n, 4_000));
            clients.iter_mut().for_each(|client| client.expect_text(&numbered(n, 4_000)));
        }
        eventually("it is blocked", || server.total().blocked == 1);
        (0..100).for_each(|n| late.expect_text(&numbered(n, 4_000)));
        assert_eq!(server.total().closed_slow, 0);
    });
}

#[test]
fn reset_of_one_in_the_middle_costs_the_others_nothing() {
    serve(shards(1), |server| {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.client(&["cats"])).collect();
        let mut http = server.http();
        for n in 0..8 {
            // One in the middle, so that there are others on both sides of it.
            clients.remove(clients.len() / 2).reset();
            http.publish("cats", &numbered(n, 100));
            clients.iter_mut().for_each(|client| client.expect_text(&numbered(n, 100)));
        }
        eventually("only they are gone", || server.total().subscribers == clients.len() as u64);
    });
}

#[test]
fn messages_of_every_size_arrive_whole_and_in_order() {
    let sizes = [1, 125, 126, 4_000, limits::LARGE_FRAME_BYTES, limits::MESSAGE_BYTES / 2];
    serve(shards(1), |server| {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.client(&["cats"])).collect();
        let mut http = server.http();
        for round in 0..4 {
            sizes.iter().for_each(|&size| http.publish("cats", &numbered(round, size)));
        }
        for client in &mut clients {
            for round in 0..4 {
                sizes.iter().for_each(|&size| client.expect_text(&numbered(round, size)));
            }
        }
    });
}
