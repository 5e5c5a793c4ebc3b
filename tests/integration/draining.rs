//! Draining: what a node still does that is to end, and how its clients are sent away.

use std::{net::TcpStream, thread, time::Duration};

use fanfare::{node::Phase, settings::Settings};
use rustix::process::Signal;

use crate::support::{
    Http, OnPanic, Running, WebSocket, eventually,
    process::Process,
    shards,
    websocket::{self, CLOSE},
};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3_600);

#[test]
fn draining_node_is_not_ready_and_serves_on_as_before_until_its_delay_is_over() {
    let server = Running::start(Settings { drain_delay: LONG, ..shards(2) });
    assert!(server.node().phase().is_ready());
    let mut before = server.client(&["cats"]);
    server.node().begin_draining();
    assert_eq!(server.node().phase(), Phase::Draining);
    assert!(!server.node().phase().is_ready());
    let health = server.http().get("/health");
    assert_eq!((health.status, &health.json()["status"]), (200, &"draining".into()));
    let mut after = server.client(&["cats"]);
    server.http().publish("cats", "purr");
    before.expect_text("purr");
    after.expect_text("purr");
    server.begin_stopping();
    before.expect_close(1012, "restart");
    after.expect_close(1012, "restart");
    server.wait();
}

#[test]
fn closing_node_takes_nobody_new_and_publishes_to_those_who_are_left() {
    let server = Running::start(Settings { drain_duration: LONG, ..shards(2) });
    let address = server.address();
    let mut client = server.client(&["cats"]);
    let id = server.register(&["cats"]);
    let mut kept = server.http();
    assert_eq!(kept.get("/health").status, 200);
    server.node().begin_draining();
    eventually("it closes its clients", || server.node().phase() == Phase::Closing);
    eventually("it listens no more", || TcpStream::connect(address).is_err());
    kept.post("/register", r#"{"user_id":1}"#).expect_error(503, "stopping");
    kept.send(websocket::handshake(address, &id));
    kept.answer().expect_error(503, "stopping");
    assert_eq!(kept.get("/health").json()["status"], "closing");
    kept.publish("cats", "the last");
    client.expect_text("the last");
    assert_eq!(server.total().closed_stopping, 0, "its turn has not come");
    server.begin_stopping();
    client.expect_close(1012, "restart");
    drop(kept);
    server.wait();
}

#[test]
fn clients_go_one_after_another_and_no_publisher_is_refused_before_the_last() {
    const CLIENTS: usize = 20;
    let server = Running::start(Settings { drain_duration: Duration::from_secs(2), ..shards(2) });
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.client(&["cats"])).collect();
    let mut http = server.http();
    http.publish("cats", "0");
    let heard: Vec<_> = thread::scope(|scope| {
        let _end = OnPanic(|| server.begin_stopping());
        let readers: Vec<_> =
            clients.iter_mut().map(|client| scope.spawn(|| count_to_close(client))).collect();
        server.node().begin_draining();
        for n in 1.. {
            let request = http.encode("POST", "/publish/cats", &[], n.to_string().as_bytes());
            if http.wire().try_write(&request).is_err() {
                break;
            }
            let Some(answer) = http.try_answer_to("POST") else { break };
            if answer.status != 200 {
                answer.expect_error(503, "stopping");
                break;
            }
        }
        assert_eq!(server.node().phase(), Phase::Stopping);
        assert_eq!(server.total().closed_stopping, CLIENTS as u64, "all had been told to go before");
        readers.into_iter().map(|reader| reader.join().expect("in order, then 1012")).collect()
    });
    let (least, most) = (heard.iter().min(), heard.iter().max());
    assert!(least < most, "they went together: {heard:?}");
    drop((clients, http));
    server.wait();
}

/// Reads numbers, none of which may be missing, up to the close: how many there were.
fn count_to_close(client: &mut WebSocket) -> u64 {
    for next in 0.. {
        let frame = client.next().expect("a close before the end");
        if frame.opcode == CLOSE {
            assert_eq!(frame.close(), (1012, "restart".into()));
            return next;
        }
        assert_eq!(frame.payload, next.to_string().as_bytes());
    }
    unreachable!("the range has no end")
}

#[test]
fn node_without_clients_does_not_wait_for_any() {
    let server = Running::start(Settings { drain_duration: LONG, ..shards(2) });
    server.client(&["cats"]).close();
    server.wait_until_empty();
    server.node().begin_draining();
    server.wait();
}

#[test]
fn client_that_takes_nothing_does_not_hold_the_drain_up() {
    let server = Running::start(Settings {
        drain_duration: Duration::from_millis(200),
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
    server.node().begin_draining();
    reader.expect_close(1012, "restart");
    drop(reader);
    let node = server.node().clone();
    server.wait();
    let total = node.metrics().total();
    assert!(total.dropped_closed > 0, "what it did not take is counted: {total:?}");
    drop(stalled);
}

#[test]
fn sigterm_drains_says_how_far_it_is_and_exits_with_0() {
    let mut process = Process::start(&["--shards=2", "--drain-delay=100ms", "--drain-duration=500ms"]);
    let mut clients: Vec<_> = (0..4).map(|_| connect(&mut process)).collect();
    process.signal(Signal::TERM);
    clients.iter_mut().for_each(|client| client.expect_close(1012, "restart"));
    drop(clients);
    assert_eq!(process.wait().code(), Some(0));
    for part in ["not ready any more", "closing clients, one after another clients=4", "stopping", "stopped"]
    {
        process.line_with(part);
    }
}

#[test]
fn both_listeners_say_alike_that_a_node_drains_and_the_log_says_it_once() {
    let arguments = ["--shards=1", "--drain-delay=1h", "--admin-listen=127.0.0.1:0", "--log-level=debug"];
    let mut process = Process::start(&arguments);
    let admin = process.admin_address();
    let asked = [process.address(), admin].map(|address| move || Http::connect(address).get("/ready"));
    let answers = || asked.map(|ask| ask()).map(|answer| (answer.status, answer.text().to_owned()));
    let serving = (200, r#"{"status":"serving"}"#.to_owned());
    assert_eq!(answers(), [serving.clone(), serving]);
    process.signal(Signal::TERM);
    process.line_with("not ready any more");
    let draining = (503, r#"{"status":"draining"}"#.to_owned());
    (0..3).for_each(|_| assert_eq!(answers(), [draining.clone(), draining.clone()]));
    let line = process.line_with("route=\"ready\"");
    assert!(line.contains("DEBUG") && line.contains("status=503"), "{line}");
    process.signal(Signal::INT);
    process.wait();
    let is_warning = |line: &&String| line.contains("WARN") && line.contains("ready");
    assert_eq!(process.whole_log().iter().find(is_warning), None);
}

#[test]
fn sigint_asks_for_no_patience() {
    let mut process = Process::start(&["--shards=1", "--drain-delay=1h", "--drain-duration=1h"]);
    let mut client = connect(&mut process);
    process.signal(Signal::INT);
    client.expect_close(1012, "restart");
    drop(client);
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn second_signal_ends_a_drain_at_once() {
    let mut process = Process::start(&["--shards=1", "--drain-delay=1h"]);
    let address = process.address();
    process.signal(Signal::TERM);
    process.line_with("not ready any more");
    assert_eq!(Http::connect(address).get("/health").status, 200);
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(1));
}

fn connect(process: &mut Process) -> WebSocket {
    let address = process.address();
    let id = Http::connect(address).register(r#"{"user_id":1,"topics":["cats"]}"#);
    WebSocket::connect(address, &id).expect("the upgrade is taken")
}
