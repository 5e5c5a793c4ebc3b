//! More than the server can do, and clients that come and go or flood: nobody who reads loses anything.

use std::{
    collections::BTreeSet,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fanfare::settings::Settings;

use crate::support::{
    DEADLINE, OnPanic, Running, WebSocket, eventually, serve, shards,
    websocket::{CLOSE, frame},
};

/// Connections that publish at the same time, each as fast as it is answered.
const PUBLISHERS: usize = 24;
/// How long their messages are, bytes.
const MESSAGE: usize = 64 * 1024;

#[test]
fn overload_is_refused_to_publishers_and_closes_no_client_that_reads() {
    overload(Duration::from_millis(1));
}

#[test]
fn publishers_who_are_not_to_wait_are_served_or_refused_and_no_client_that_reads_is_closed() {
    overload(Duration::ZERO);
}

/// Publishes more than a narrow node takes, until enough was taken and refused.
fn overload(publish_wait: Duration) {
    let settings = Settings {
        inflight_publications: 4,
        inflight_bytes: 256 << 10,
        publish_wait,
        shard_lag: 64 << 10,
        ..shards(2)
    };
    serve(settings, |server| {
        let mut clients: Vec<_> = (0..4).map(|_| server.client(&["cats"])).collect();
        let (taken, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        let published = thread::scope(|scope| {
            let _end = OnPanic(|| server.begin_stopping());
            let readers: Vec<_> =
                clients.iter_mut().map(|client| scope.spawn(|| read_to_end(client))).collect();
            let publishers: Vec<_> = (0..PUBLISHERS)
                .map(|number| {
                    scope.spawn({
                        let (taken, refused) = (&taken, &refused);
                        move || publish_until_refused(server, number, taken, refused)
                    })
                })
                .collect();
            let mut published = BTreeSet::new();
            for publisher in publishers {
                published.extend(publisher.join().expect("it is answered 200 or 503"));
            }
            server.http().publish("cats", "end");
            for reader in readers {
                assert_eq!(
                    reader.join().expect("it is not closed"),
                    published,
                    "all that was taken, and no more"
                );
            }
            published
        });
        assert_eq!(published.len() as u64, taken.load(Ordering::Relaxed));
        let total = server.total();
        assert_eq!((total.closed_slow, total.dropped()), (0, 0), "{total:?}");
    });
}

/// Publishes messages of 64 KiB, one after another, until enough were taken and refused by all together. Those
/// taken.
fn publish_until_refused(
    server: &Running,
    number: usize,
    taken: &AtomicU64,
    refused: &AtomicU64,
) -> Vec<String> {
    const TAKEN: u64 = 400;
    const REFUSED: u64 = 50;
    let mut http = server.http();
    let mut mine = Vec::new();
    let (mut before, mut end) = (0, Instant::now() + DEADLINE);
    for n in 0.. {
        let so_far = taken.load(Ordering::Relaxed).min(TAKEN) + refused.load(Ordering::Relaxed).min(REFUSED);
        if so_far == TAKEN + REFUSED {
            break;
        }
        // A busy machine may take long for all of them, but not for each.
        if so_far > before {
            (before, end) = (so_far, Instant::now() + DEADLINE);
        }
        assert!(Instant::now() < end, "{taken:?} taken, {refused:?} refused, and no more in {DEADLINE:?}");
        let name = format!("{number}/{n}");
        let body = name.clone() + &".".repeat(MESSAGE - name.len());
        let answer = http.post_as("/publish/cats", None, body.as_bytes());
        if answer.status == 200 {
            taken.fetch_add(1, Ordering::Relaxed);
            mine.push(name);
        } else {
            answer.expect_error(503, "overloaded");
            refused.fetch_add(1, Ordering::Relaxed);
        }
    }
    mine
}

/// Reads messages up to the text `end`: their names, each of which must come once, and those of one publisher in
/// order.
fn read_to_end(client: &mut WebSocket) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut next = [0; PUBLISHERS];
    loop {
        let text = client.text();
        if text == "end" {
            return names;
        }
        assert_eq!(text.len(), MESSAGE);
        let (name, _) = text.split_once('.').expect("the name is filled up with dots");
        let name = name.to_owned();
        let (number, n) = name.split_once('/').expect("a number of both");
        let (number, n): (usize, u64) = (number.parse().expect("a number"), n.parse().expect("a number"));
        assert!(n >= next[number], "{name} comes late or again");
        next[number] = n + 1;
        names.insert(name);
    }
}

#[test]
fn clients_that_come_and_go_cost_those_that_stay_nothing() {
    serve(shards(3), |server| {
        let mut stable: Vec<_> = (0..4).map(|_| server.client(&["cats", "dogs"])).collect();
        let going = AtomicBool::new(true);
        thread::scope(|scope| {
            let _end = OnPanic(|| going.store(false, Ordering::Relaxed));
            let churners = [0, 1].map(|seed| scope.spawn(move || churn(server, seed)));
            let publisher = scope.spawn(|| {
                let mut http = server.http();
                let mut published = 0;
                while going.load(Ordering::Relaxed) {
                    http.publish(if published % 3 == 0 { "dogs" } else { "cats" }, &published.to_string());
                    published += 1;
                }
                http.publish("cats", "end");
                published
            });
            let readers: Vec<_> =
                stable.iter_mut().map(|client| scope.spawn(|| count_numbers(client))).collect();
            churners.into_iter().for_each(|churner| churner.join().expect("each client is served"));
            going.store(false, Ordering::Relaxed);
            let published = publisher.join().expect("every publish is taken");
            for reader in readers {
                assert_eq!(reader.join().expect("neither gap nor duplicate"), published);
            }
        });
    });
}

/// Reads 0, 1, … up to the text `end`; how many there were.
fn count_numbers(client: &mut WebSocket) -> u64 {
    for n in 0.. {
        let text = client.text();
        if text == "end" {
            return n;
        }
        assert_eq!(text, n.to_string());
    }
    unreachable!("the range has no end")
}

/// Connects clients and ends them, each time in another way.
fn churn(server: &Running, seed: usize) {
    let mut http = server.http();
    for round in seed..seed + 120 {
        let id = http.register(r#"{"user_id":1,"topics":["cats","dogs"]}"#);
        let mut client = server.connect(&id);
        match round % 6 {
            0 => client.close(),
            1 => client.reset(),
            2 => {
                assert_eq!(http.delete(&id).status, 200);
                client.read_to_close(1000);
            }
            3 => {
                client.send_topics(&["birds"]);
                client.send_topics(&["cats"]);
            }
            4 => {
                let _second = server.connect(&id);
                client.read_to_close(4409);
            }
            _ => drop(client.text()),
        }
    }
}

/// What a flooding client sends without end, and never reads the answers to.
fn flood(client: &mut WebSocket, frame: &[u8], going: &AtomicBool) {
    let batch = frame.repeat(32 * 1024 / frame.len());
    while going.load(Ordering::Relaxed) && client.wire().try_write(&batch).is_ok() {}
}

/// Publishes numbers which the neighbour must get at once, until `done`; at least so many.
fn keep_publishing(server: &Running, neighbour: &mut WebSocket, least: u64, mut done: impl FnMut() -> bool) {
    let mut http = server.http();
    let end = Instant::now() + DEADLINE;
    for n in 0.. {
        if n >= least && done() {
            return;
        }
        assert!(Instant::now() < end, "the flood has no end");
        http.publish("cats", &n.to_string());
        neighbour.expect_text(&n.to_string());
    }
}

#[test]
fn client_that_floods_with_commands_is_closed_and_its_neighbours_go_on() {
    serve(shards(1), |server| {
        let mut flooder = server.client(&["dogs"]);
        let mut neighbour = server.client(&["cats"]);
        let going = AtomicBool::new(true);
        thread::scope(|scope| {
            let _end = OnPanic(|| going.store(false, Ordering::Relaxed));
            scope.spawn(|| flood(&mut flooder, &frame(0x81, b"ping"), &going));
            keep_publishing(server, &mut neighbour, 200, || server.total().closed_policy == 1);
        });
        eventually("the flooder is forgotten", || server.total().subscribers == 1);
        assert_eq!(server.total().closed_policy, 1);
    });
}

#[test]
fn client_that_does_not_read_its_answers_is_closed_as_slow_and_its_neighbours_go_on() {
    let settings = Settings {
        commands_burst: 1_000_000,
        commands_per_second: 1_000_000,
        outbox_bytes: 256 << 10,
        ..shards(1)
    };
    serve(settings, |server| {
        let mut flooder = server.client(&["dogs"]);
        let mut neighbour = server.client(&["cats"]);
        let going = AtomicBool::new(true);
        thread::scope(|scope| {
            let _end = OnPanic(|| going.store(false, Ordering::Relaxed));
            scope.spawn(|| flood(&mut flooder, &frame(0x81, b"no command"), &going));
            keep_publishing(server, &mut neighbour, 200, || server.total().closed_slow == 1);
        });
        drop(flooder);
        eventually("the flooder is forgotten", || server.total().subscribers == 1);
    });
}

#[test]
fn pings_at_line_rate_hold_no_memory_and_do_not_stop_the_neighbours() {
    let settings = Settings {
        commands_burst: 1_000_000,
        commands_per_second: 1_000_000,
        outbox_bytes: 256 << 10,
        ..shards(1)
    };
    serve(settings, |server| {
        let mut flooder = server.client(&["cats"]);
        let mut neighbour = server.client(&["cats"]);
        let going = AtomicBool::new(true);
        thread::scope(|scope| {
            let _end = OnPanic(|| going.store(false, Ordering::Relaxed));
            scope.spawn(|| flood(&mut flooder, &frame(0x89, b"ping"), &going));
            keep_publishing(server, &mut neighbour, 300, || server.total().commands > 50_000);
            going.store(false, Ordering::Relaxed);
        });
        assert_eq!(server.total().closed_slow, 0, "unread pongs take the place of one another");
    });
}

#[test]
fn publishers_of_many_topics_at_once_lose_nothing_for_anyone() {
    serve(shards(3), |server| {
        let names: Vec<_> = (0..8).map(|n| format!("topic {n}")).collect();
        let topics: Vec<_> = names.iter().map(String::as_str).collect();
        let mut clients: Vec<_> = (0..3).map(|_| server.client(&topics)).collect();
        let together = Barrier::new(names.len());
        thread::scope(|scope| {
            for name in &names {
                let together = &together;
                scope.spawn(move || {
                    let mut http = server.http();
                    together.wait();
                    (0..100).for_each(|n| http.publish(name, &format!("{name}/{n}")));
                });
            }
        });
        for client in &mut clients {
            let mut next = [0; 8];
            for _ in 0..800 {
                let text = client.text();
                let (name, n) = text.split_once('/').expect("a topic and a number");
                let topic = names.iter().position(|other| other == name).expect("it is one of them");
                assert_eq!(n.parse(), Ok(next[topic]), "{text}");
                next[topic] += 1;
            }
        }
    });
}

#[test]
fn subscribers_of_one_topic_on_all_shards_see_one_order() {
    serve(shards(3), |server| {
        let mut clients: Vec<_> = (0..6).map(|_| server.client(&["cats"])).collect();
        thread::scope(|scope| {
            for publisher in 0..6 {
                scope.spawn(move || {
                    let mut http = server.http();
                    (0..60).for_each(|n| http.publish("cats", &format!("{publisher}/{n}")));
                });
            }
        });
        let seen: Vec<Vec<String>> =
            clients.iter_mut().map(|client| (0..360).map(|_| client.text()).collect()).collect();
        assert!(seen.iter().all(|order| *order == seen[0]), "all see the same order");
        let each: BTreeSet<_> = seen[0].iter().collect();
        assert_eq!(each.len(), 360, "each message comes once");
    });
}

#[test]
fn client_that_is_closed_gets_no_message_behind_its_close() {
    serve(shards(2), |server| {
        let mut http = server.http();
        for _ in 0..50 {
            let id = server.register(&["cats"]);
            let mut client = server.connect(&id);
            let mut unregisters = server.http();
            let request = unregisters.encode("DELETE", &format!("/register/{id}"), &[], b"");
            unregisters.send(&request);
            (0..5).for_each(|n| http.publish("cats", &n.to_string()));
            for (n, frame) in client.read_to_close(1000).iter().enumerate() {
                assert_ne!(frame.opcode, CLOSE);
                assert_eq!(frame.payload, n.to_string().into_bytes(), "no gap before the close");
            }
            assert_eq!(unregisters.answer().status, 200);
        }
    });
}
