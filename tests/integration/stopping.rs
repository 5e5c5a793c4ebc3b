//! The four steps of stopping, in this process.

use std::{
    net::TcpStream,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use fanfare::settings::Settings;

use crate::support::{
    Ended, OnPanic, Running, WebSocket, eventually, shards,
    websocket::{CLOSE, TEXT},
};

#[test]
fn stopping_says_restart_to_every_client_and_listens_no_more() {
    let server = Running::start(shards(3));
    let mut clients: Vec<_> = (0..6).map(|_| server.client(&["cats"])).collect();
    let mut idle = server.http();
    assert_eq!(idle.get("/health").status, 200);
    let address = server.address();
    server.begin_stopping();
    clients.iter_mut().for_each(|client| client.expect_close(1012, "restart"));
    idle.expect_end();
    let node = server.node().clone();
    drop((clients, idle));
    server.wait();
    assert_eq!(node.metrics().total().closed_stopping, 6);
    assert!(TcpStream::connect(address).is_err());
}

/// Publishers that go on until they are refused.
const PUBLISHERS: usize = 4;

#[test]
fn what_was_answered_200_before_stopping_arrives_before_the_close() {
    for _ in 0..4 {
        let server = Running::start(shards(3));
        let mut clients: Vec<_> = (0..6).map(|_| server.client(&["a", "b"])).collect();
        let taken = AtomicU64::new(0);
        thread::scope(|scope| {
            let _end = OnPanic(|| server.begin_stopping());
            let readers: Vec<_> =
                clients.iter_mut().map(|client| scope.spawn(|| count_to_close(client))).collect();
            let publishers: Vec<_> = (0..PUBLISHERS)
                .map(|number| {
                    scope.spawn({
                        let (server, taken) = (&server, &taken);
                        move || publish_until_stopped(server, number, taken)
                    })
                })
                .collect();
            eventually("the load is on", || taken.load(Ordering::Relaxed) > 200);
            server.begin_stopping();
            let published: Vec<_> =
                publishers.into_iter().map(|publisher| publisher.join().expect("200, or stopping")).collect();
            for reader in readers {
                let read = reader.join().expect("whole and in order, then 1012");
                for (number, published) in published.iter().enumerate() {
                    let most = published.taken + published.unknown;
                    let read = read[number];
                    assert!((published.taken..=most).contains(&read), "{read} of {published:?}");
                }
            }
        });
        drop(clients);
        server.wait();
    }
}

/// What became of one publisher's publications, all of which were numbered.
#[derive(Debug)]
struct Published {
    /// Answered with 200.
    taken: u64,
    /// One at most, when the connection ended instead of an answer.
    unknown: u64,
}

fn publish_until_stopped(server: &Running, number: usize, taken: &AtomicU64) -> Published {
    let mut http = server.http();
    for n in 0.. {
        let path = if n % 2 == 0 { "/publish/a" } else { "/publish/b" };
        let request = http.encode("POST", path, &[], format!("{number}/{n}").as_bytes());
        if http.wire().try_write(&request).is_err() {
            return Published { taken: n, unknown: 1 };
        }
        match http.try_answer_to("POST") {
            Some(answer) if answer.status == 200 => {
                taken.fetch_add(1, Ordering::Relaxed);
            }
            Some(answer) => {
                answer.expect_error(503, "stopping");
                return Published { taken: n, unknown: 0 };
            }
            None => return Published { taken: n, unknown: 1 },
        }
    }
    unreachable!("the range has no end")
}

/// Reads numbered messages up to the close, which must be 1012: how many of each publisher, none of which may be
/// missing or twice.
fn count_to_close(client: &mut WebSocket) -> [u64; PUBLISHERS] {
    let mut next = [0; PUBLISHERS];
    loop {
        let frame = client.next().expect("a close before the end");
        if frame.opcode == CLOSE {
            assert_eq!(frame.close(), (1012, "restart".into()));
            assert_eq!(client.receive(), Err(Ended::InOrder));
            return next;
        }
        assert_eq!(frame.opcode, TEXT);
        let text = String::from_utf8(frame.payload).expect("it is text");
        let (number, n) = text.split_once('/').expect("a number of both");
        let number: usize = number.parse().expect("a number");
        assert_eq!(n.parse(), Ok(next[number]), "{text}");
        next[number] += 1;
    }
}

#[test]
fn what_comes_while_stopping_is_refused_and_nothing_of_it_taken() {
    let server = Running::start(shards(2));
    let id = server.register(&["cats"]);
    // Requests whose bodies are not whole yet: in work, so their connections outlive the beginning of the end.
    let mut publish = server.http();
    publish.send("POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n{\"topic\":\"cats\",");
    let mut raw = server.http();
    raw.send("POST /publish/cats HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nhalf of");
    eventually("both are in work", || (0..2).map(|shard| server.node().load(shard)).sum::<usize>() >= 2);
    let mut health = server.http();
    assert_eq!(health.get("/health").status, 200);
    let mut client = server.connect(&id);
    server.begin_stopping();
    client.expect_close(1012, "restart");
    publish.send("\"message\":\"x\"}");
    raw.send(" a message of thirty...");
    for http in [&mut publish, &mut raw] {
        let answer = http.try_answer_to("POST");
        answer.expect("it is answered").expect_error(503, "stopping");
        http.expect_end();
    }
    let node = server.node().clone();
    drop((publish, raw, health, client));
    server.wait();
    assert_eq!(node.metrics().total().sequenced, 0);
}

#[test]
fn client_that_takes_nothing_does_not_hold_the_end_up_for_ever() {
    let server = Running::start(Settings {
        stop_deadline: Duration::from_millis(700),
        socket_unsent: 4_096,
        ..shards(2)
    });
    let stalled = WebSocket::connect_narrow(server.address(), &server.register(&["cats"]));
    let mut reader = server.client(&["cats"]);
    let mut http = server.http();
    let message = "x".repeat(4_000);
    (0..100).for_each(|_| http.publish("cats", &message));
    drop(http);
    (0..100).for_each(|_| reader.expect_text(&message));
    eventually("it is blocked", || server.total().blocked == 1);
    server.begin_stopping();
    reader.expect_close(1012, "restart");
    drop(reader);
    let node = server.node().clone();
    server.wait();
    let total = node.metrics().total();
    assert!(total.dropped_closed > 0, "{total:?}");
    drop(stalled);
}

#[test]
fn publications_of_an_embedding_program_are_taken_and_refused_alike() {
    use fanfare::{node::PublishError, publication::Message, topic::Topic};
    let server = Running::start(shards(2));
    let mut client = server.client(&["cats"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let publish = |text: &'static str| {
        let topic = Topic::parse("cats").expect("a topic");
        runtime.block_on(server.node().publish(topic, Message::text(text)))
    };
    publish("from within").expect("it is taken");
    client.expect_text("from within");
    server.begin_stopping();
    client.expect_close(1012, "restart");
    assert_eq!(publish("too late"), Err(PublishError::Stopping));
    drop(client);
    server.wait();
}
