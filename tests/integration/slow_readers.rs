//! Clients that do not read, or not for a while: what they cost themselves, and that they cost nobody else.

use std::time::Duration;

use fanfare::{limits, settings::Settings};

use crate::support::{Http, Running, WebSocket, eventually, serve, shards};

/// Settings with which little fits into a connection that is not read.
fn narrow(shards_: usize) -> Settings {
    Settings { socket_unsent: 4_096, ..shards(shards_) }
}

/// A client that has the topic and does not read, over a connection that holds little.
fn stalled(server: &Running, topic: &str) -> WebSocket {
    WebSocket::connect_narrow(server.address(), &server.register(&[topic]))
}

/// Publishes `count` messages of `size` bytes, numbered from `first` on, and has every client read them at once.
fn publish_and_read(
    http: &mut Http,
    clients: &mut [WebSocket],
    topic: &str,
    (first, count): (usize, usize),
    size: usize,
) {
    let messages: Vec<_> = (first..first + count).map(|n| numbered(n, size)).collect();
    messages.iter().for_each(|message| http.publish(topic, message));
    for client in clients {
        messages.iter().for_each(|message| client.expect_text(message));
    }
}

fn numbered(n: usize, size: usize) -> String {
    format!("{n:0>size$}")
}

#[test]
fn client_that_never_reads_is_closed_while_its_neighbours_miss_nothing() {
    serve(narrow(2), |server| {
        let stalled: Vec<_> = (0..4).map(|_| stalled(server, "cats")).collect();
        let mut neighbours: Vec<_> = (0..4).map(|_| server.client(&["cats"])).collect();
        assert!(server.subscribers().iter().all(|&subscribers| subscribers >= 2), "on both shards");
        let mut http = server.http();
        for round in 0..20 {
            publish_and_read(&mut http, &mut neighbours, "cats", (round * 60, 60), 4_000);
        }
        eventually("the stalled are closed", || server.total().closed_slow == 4);
        let total = server.total();
        assert!(total.dropped_bound > 0, "{total:?}");
        // What a closed one had begun to get is lost when the time to read the rest of it is over.
        assert!(total.dropped_closed <= 4, "{total:?}");
        assert_eq!(total.dropped(), total.dropped_bound + total.dropped_closed, "{total:?}");
        publish_and_read(&mut http, &mut neighbours, "cats", (0, 10), 4_000);
        drop(stalled);
        eventually("only they are gone", || server.total().subscribers == 4);
    });
}

#[test]
fn client_closed_as_slow_that_reads_on_gets_whole_messages_in_order_and_the_reason() {
    let settings = Settings { outbox_bytes: 256 << 10, ..narrow(1) };
    serve(settings, |server| {
        let mut stalled = stalled(server, "cats");
        let mut http = server.http();
        // No longer than until it is closed: from then on it has five seconds to read the rest.
        let published = (0..200)
            .take_while(|_| server.total().closed_slow == 0)
            .map(|n| http.publish("cats", &numbered(n, 4_000)))
            .count();
        eventually("it is closed", || server.total().closed_slow == 1);
        let before = stalled.read_to_close(1013);
        assert!(before.len() < published);
        for (n, frame) in before.iter().enumerate() {
            assert_eq!(
                frame.payload,
                numbered(n, 4_000).into_bytes(),
                "no message is cut or left out before"
            );
        }
    });
}

#[test]
fn client_that_reads_in_time_gets_everything_though_its_queue_was_in_many_pieces() {
    serve(narrow(1), |server| {
        let mut stalled = stalled(server, "mine");
        let mut neighbours = [server.client(&["other"])];
        let mut http = server.http();
        let count = 3 * limits::OUTBOX_RANGES;
        for n in 0..count {
            http.publish("mine", &numbered(n, 300));
            publish_and_read(&mut http, &mut neighbours, "other", (n, 1), 10);
        }
        eventually("it is blocked", || server.total().blocked == 1);
        (0..count).for_each(|n| stalled.expect_text(&numbered(n, 300)));
        assert_eq!(server.total().closed_slow, 0);
    });
}

#[test]
fn messages_that_wait_for_too_long_close_their_client() {
    let settings = Settings { outbox_age: Duration::from_secs(1), ..narrow(2) };
    serve(settings, |server| {
        let _stalled = stalled(server, "cats");
        let mut neighbours = [server.client(&["cats"]), server.client(&["cats"])];
        let mut http = server.http();
        publish_and_read(&mut http, &mut neighbours, "cats", (0, 60), 4_000);
        // Each value is told by itself: a close may be seen before what it lost.
        eventually("the stalled is closed and its loss counted", || {
            let total = server.total();
            total.closed_slow == 1 && total.dropped() > 0
        });
        let total = server.total();
        assert!(total.dropped_age > 0 && total.dropped() == total.dropped_age, "{total:?}");
        publish_and_read(&mut http, &mut neighbours, "cats", (60, 60), 4_000);
    });
}

#[test]
fn logs_over_their_bound_close_who_holds_the_oldest() {
    let settings = Settings { log_bytes: 1 << 20, outbox_bytes: 8 << 20, ..narrow(2) };
    serve(settings, |server| {
        let _stalled = stalled(server, "cats");
        let mut neighbours = [server.client(&["cats"]), server.client(&["cats"])];
        let mut http = server.http();
        let mut round = 0;
        while server.total().closed_slow == 0 {
            assert!(round < 100, "24 MB are far over the bound");
            publish_and_read(&mut http, &mut neighbours, "cats", (round * 60, 60), 4_000);
            round += 1;
        }
        let total = server.total();
        assert_eq!((total.closed_slow, total.dropped()), (1, total.dropped_memory), "{total:?}");
        publish_and_read(&mut http, &mut neighbours, "cats", (0, 60), 4_000);
    });
}

#[test]
fn stalled_client_of_a_rare_topic_does_not_keep_what_others_have_read() {
    let settings = Settings { log_bytes: 1 << 20, ..narrow(1) };
    serve(settings, |server| {
        let mut stalled = stalled(server, "rare");
        let mut neighbours = [server.client(&["often"])];
        let mut http = server.http();
        // Enough to fill its connection, then one now and then.
        (0..100).for_each(|n| http.publish("rare", &numbered(n, 1_000)));
        eventually("it is blocked", || server.total().blocked == 1);
        let mut n = 100;
        while server.total().compactions < 3 {
            assert!(n < 2_000, "the logs are over their bound by far");
            http.publish("rare", &numbered(n, 1_000));
            publish_and_read(&mut http, &mut neighbours, "often", (0, 12), 4_000);
            n += 1;
        }
        (0..n).for_each(|n| stalled.expect_text(&numbered(n, 1_000)));
        let total = server.total();
        assert_eq!((total.closed_slow, total.dropped()), (0, 0), "{total:?}");
    });
}

#[test]
fn clients_stalled_on_one_topic_share_one_backlog() {
    serve(narrow(1), |server| {
        let stalled: Vec<_> = (0..16).map(|_| stalled(server, "cats")).collect();
        let mut http = server.http();
        (0..100).for_each(|n| http.publish("cats", &numbered(n, 4_000)));
        eventually("all are blocked", || server.total().blocked == 16);
        let held = server.total().log_bytes;
        assert!(held < 1 << 20, "{held} bytes for 16 times 400,000");
        drop(stalled);
    });
}

#[test]
fn what_the_kernel_takes_for_a_client_that_does_not_read_is_set_by_two_options() {
    const MESSAGES: usize = 64;
    let written = |socket_unsent, socket_send_buffer| {
        let mut written = 0;
        serve(Settings { socket_unsent, socket_send_buffer, ..shards(1) }, |server| {
            let stalled = stalled(server, "cats");
            let mut http = server.http();
            (0..MESSAGES).for_each(|n| http.publish("cats", &numbered(n, 1_000)));
            eventually("the kernel has all, or no more is taken", || {
                let total = server.total();
                total.matched == MESSAGES as u64 && (total.written == total.matched || total.blocked == 1)
            });
            written = server.total().written as usize;
            drop(stalled);
        });
        written
    };
    let plenty = 64 << 20;
    assert_eq!(written(plenty, 0), MESSAGES, "it fits");
    assert!(written(4_096, 0) < MESSAGES / 2, "no more than 4 KiB may be unsent");
    assert!(written(plenty, 4_096) < MESSAGES / 2, "the buffer has room for 8 KiB");
}

#[test]
fn thousand_messages_at_once_arrive_whole_and_in_order() {
    serve(shards(3), |server| {
        let mut clients: Vec<_> = (0..6).map(|_| server.client(&["cats"])).collect();
        let mut http = server.http();
        let bodies = (0..1_000).map(|n| format!(r#"{{"topic":"cats","message":"{n}"}}"#));
        let requests: Vec<u8> =
            bodies.flat_map(|body| http.encode("POST", "/publish", &[], body.as_bytes())).collect();
        http.send(&requests);
        (0..1_000).for_each(|_| assert_eq!(http.answer().status, 200));
        for client in &mut clients {
            (0..1_000).for_each(|n| client.expect_text(&n.to_string()));
        }
    });
}
