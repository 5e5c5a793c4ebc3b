//! Who comes in: how many there may be, in all and of one address, how fast they may come, and that HTTP is served
//! when there are no descriptors left for clients.
//!
//! Every address of 127.0.0.0/8 is this machine, so clients come from as many addresses as a test likes.

use std::net::{IpAddr, SocketAddr, TcpStream};

use fanfare::{
    limits,
    metrics::Refused,
    settings::{GateSettings, Settings},
};

use rustix::process::Signal;

use crate::support::{
    Http, Running, WebSocket, eventually,
    file::TempFile,
    process::{self, Process, with_descriptors},
    serve, shards,
    websocket::{frame, handshake},
};

/// A server of two shards with this gate.
fn gated(gate: GateSettings) -> Settings {
    Settings { gate, ..shards(2) }
}

fn local(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

/// A connection from 127.0.0.`last` that is served.
fn served(server: &Running, last: u8) -> Option<Http> {
    let mut http = Http::connect_from(local(last), server.address()).ok()?;
    http.try_health().then_some(http)
}

fn refused(server: &Running, reason: Refused) -> u64 {
    server.node().metrics().refused(reason)
}

#[test]
fn connections_of_an_address_beyond_its_limit_are_reset_and_those_of_others_are_not() {
    serve(gated(GateSettings { max_connections_per_ip: 2, ..GateSettings::default() }), |server| {
        let first = served(server, 2).expect("it is the first");
        let second = served(server, 2).expect("it is the second");
        assert!(served(server, 2).is_none());
        assert_eq!(refused(server, Refused::ConnectionsOfAddress), 1);
        assert!(served(server, 3).is_some(), "another address has its own limit");
        drop(first);
        eventually("it made room", || served(server, 2).is_some());
        drop(second);
    });
}

#[test]
fn client_counts_for_its_address_until_it_is_gone() {
    serve(gated(GateSettings { max_connections_per_ip: 1, ..GateSettings::default() }), |server| {
        // On one connection: that of a registration before might still be counted.
        let mut registering = server.http();
        let id = registering.register(r#"{"user_id":1}"#);
        let http = served(server, 2).expect("it is the first");
        let client = WebSocket::upgrade(http, server.address(), &id, b"").expect("it is the same connection");
        assert!(served(server, 2).is_none());
        client.close();
        eventually("it is gone", || served(server, 2).is_some());
        let id = registering.register(r#"{"user_id":1}"#);
        let reset = || {
            let http = served(server, 2)?;
            WebSocket::upgrade(http, server.address(), &id, b"").ok().map(WebSocket::reset)
        };
        for _ in 0..3 {
            eventually("the one before is gone", || reset().is_some());
        }
    });
}

#[test]
fn upgrade_that_is_refused_leaves_its_connection_counted_once() {
    serve(gated(GateSettings { max_connections_per_ip: 1, ..GateSettings::default() }), |server| {
        let mut http = served(server, 2).expect("it is the first");
        http.send(handshake(server.address(), "0123456789abcdef0123456789abcdef"));
        http.answer().expect_error(404, "not_found");
        assert!(served(server, 2).is_none());
        drop(http);
        eventually("it is gone", || served(server, 2).is_some());
    });
}

#[test]
fn address_whose_connections_come_too_fast_is_reset_and_others_are_served() {
    let gate = GateSettings { handshakes_per_second_per_ip: 1, ..GateSettings::default() };
    serve(gated(gate), |server| {
        let burst = limits::HANDSHAKES_BURST_SECONDS;
        (0..burst).for_each(|n| assert!(served(server, 2).is_some(), "{n} of the burst"));
        eventually("it comes faster than it may", || served(server, 2).is_none());
        assert!(served(server, 3).is_some());
        assert!(refused(server, Refused::RateOfAddress) > 0);
        assert_eq!(refused(server, Refused::Rate), 0);
        eventually("it may come again", || served(server, 2).is_some());
    });
}

#[test]
fn connections_that_come_too_fast_over_all_addresses_are_reset() {
    serve(gated(GateSettings { handshakes_per_second: 1, ..GateSettings::default() }), |server| {
        let mut from = (2..=255).cycle();
        eventually("they come faster than they may", || served(server, from.next().expect("many")).is_none());
        assert!(refused(server, Refused::Rate) > 0);
        eventually("one may come again", || served(server, from.next().expect("many")).is_some());
    });
}

#[test]
fn handshakes_on_one_connection_are_counted_like_connections() {
    let gate = GateSettings { handshakes_per_second_per_ip: 1, ..GateSettings::default() };
    serve(gated(gate), |server| {
        let mut http = served(server, 2).expect("it is the first");
        eventually("it is too much", || {
            http.send(handshake(server.address(), "0123456789abcdef0123456789abcdef"));
            let answer = http.answer();
            if answer.status == 429 {
                answer.expect_error(429, "too_many_requests");
                assert_eq!(answer.header("retry-after"), Some("1"));
                return true;
            }
            answer.expect_error(404, "not_found");
            false
        });
        assert!(refused(server, Refused::RateOfAddress) > 0);
        assert!(http.try_health(), "anything else is served on it");
    });
}

#[test]
fn more_clients_than_may_be_are_refused_with_503_and_make_room_when_they_leave() {
    serve(gated(GateSettings { max_connections: 2, ..GateSettings::default() }), |server| {
        let first = server.client(&["cats"]);
        let mut second = server.client(&["cats"]);
        let id = server.register(&["cats"]);
        let answer = WebSocket::connect(server.address(), &id).expect_err("there are two");
        answer.expect_error(503, "full");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(refused(server, Refused::Clients), 1);
        let open = WebSocket::speak(server.address(), "/ws?topics=cats", "fanfare.v1", Some("fanfare.v1"));
        open.expect_err("there are two").expect_error(503, "full");
        server.http().publish("cats", "purr");
        second.expect_text("purr");
        drop(first);
        eventually("there is room", || WebSocket::connect(server.address(), &id).is_ok());
    });
}

#[test]
fn of_clients_that_come_at_once_no_more_are_let_in_than_may_be() {
    const MOST: usize = 5;
    let settings =
        Settings { gate: GateSettings { max_connections: MOST, ..GateSettings::default() }, ..shards(1) };
    serve(settings, |server| {
        for _ in 0..5 {
            let mut asking: Vec<_> = (0..40)
                .map(|_| {
                    let mut http = server.http();
                    let id = http.register(r#"{"user_id":1}"#);
                    http.send(handshake(server.address(), &id));
                    http
                })
                .collect();
            let answers: Vec<_> = asking.iter_mut().map(Http::answer).collect();
            let (let_in, refused): (Vec<_>, Vec<_>) =
                answers.into_iter().partition(|answer| answer.status == 101);
            assert_eq!(let_in.len(), MOST);
            refused.iter().for_each(|answer| answer.expect_error(503, "full"));
            drop(asking);
            server.wait_until_empty();
        }
    });
}

#[test]
fn limits_that_are_replaced_hold_from_then_on() {
    serve(gated(GateSettings::default()), |server| {
        let first = server.client(&["cats"]);
        server.node().gate().replace(GateSettings { max_connections: 1, ..GateSettings::default() });
        let id = server.register(&["cats"]);
        let refused = WebSocket::connect(server.address(), &id).expect_err("there is one");
        refused.expect_error(503, "full");
        server.node().gate().replace(GateSettings::default());
        drop(WebSocket::connect(server.address(), &id).expect("there is no limit any more"));
        drop(first);
    });
}

/// A server with few descriptors, and its clients: as many as it takes. The answer to the next one.
struct Exhausted {
    process: Process,
    address: SocketAddr,
    clients: Vec<WebSocket>,
}

impl Exhausted {
    fn new() -> Self {
        let mut process = Process::spawn(&mut with_descriptors(96));
        let address = process.address();
        let mut clients = Vec::new();
        loop {
            let id = Http::connect(address).register(r#"{"user_id":1}"#);
            match WebSocket::connect(address, &id) {
                Ok(client) => clients.push(client),
                Err(answer) => {
                    answer.expect_error(503, "full");
                    break;
                }
            }
            assert!(clients.len() < 96);
        }
        assert!(clients.len() > 10, "{} clients", clients.len());
        Self { process, address, clients }
    }

    /// Has everything that is no client served, and no client.
    fn expect_http(&mut self) {
        for n in 0..50 {
            let mut http = Http::connect(self.address);
            assert!(http.try_health());
            let id = Http::connect(self.address).register(r#"{"user_id":1}"#);
            let message = n.to_string();
            Http::connect(self.address).publish("cats", &message);
            self.clients.iter_mut().for_each(|client| client.expect_text(&message));
            WebSocket::connect(self.address, &id).expect_err("no more").expect_error(503, "full");
            assert_eq!(Http::connect(self.address).delete(&id).status, 200);
        }
    }
}

#[test]
fn without_descriptors_for_clients_http_is_served_and_clients_are_again_when_some_leave() {
    let mut server = Exhausted::new();
    server.expect_http();
    let leaving = server.clients.len() / 2;
    server.clients.drain(..leaving);
    for _ in 0..leaving {
        let id = Http::connect(server.address).register(r#"{"user_id":1}"#);
        let mut joined = None;
        eventually("there is room", || {
            joined = WebSocket::connect(server.address, &id).ok();
            joined.is_some()
        });
        server.clients.extend(joined);
    }
    Http::connect(server.address).publish("cats", "all");
    server.clients.iter_mut().for_each(|client| client.expect_text("all"));
}

#[test]
fn without_descriptors_for_clients_silent_connections_make_room_for_requests() {
    let mut server = Exhausted::new();
    // More than there are descriptors left, again and again.
    let mut held = Vec::new();
    for round in 0..20 {
        for _ in 0..20 {
            let mut kept = Http::connect(server.address);
            if round % 2 == 0 {
                // They ask, and stay.
                assert!(kept.try_health());
            }
            held.push(kept);
        }
        assert!(Http::connect(server.address).try_health());
    }
    server.expect_http();
    drop(held);
    server.process.line_with("connections are refused");
}

#[test]
fn connection_that_was_there_goes_on_while_silent_ones_take_all_descriptors() {
    let mut process = Process::spawn(&mut with_descriptors(96));
    let address = process.address();
    let id = Http::connect(address).register(r#"{"user_id":1}"#);
    let mut client = WebSocket::connect(address, &id).expect("it is the first");
    let mut publisher = Http::connect(address);
    publisher.publish("cats", "before");
    client.expect_text("before");
    let flood: Vec<_> = (0..300).map(|_| TcpStream::connect(address)).collect();
    for n in 0..100 {
        let message = n.to_string();
        publisher.publish("cats", &message);
        client.expect_text(&message);
    }
    drop(flood);
}

#[test]
fn refusals_are_logged_with_their_reason_and_not_each() {
    let mut process = Process::start(&["--max-connections=1"]);
    let address = process.address();
    let id = Http::connect(address).register(r#"{"user_id":1}"#);
    let _client = WebSocket::connect(address, &id).expect("it is the first");
    for _ in 0..10 {
        let id = Http::connect(address).register(r#"{"user_id":1}"#);
        WebSocket::connect(address, &id).expect_err("there is one").expect_error(503, "full");
    }
    let line = process.line_with("connections are refused");
    assert!(line.contains("reason=\"clients\"") && line.contains("client=127.0.0.1"), "{line}");
    assert!(line.contains("count=1"), "only the first of a while: {line}");
}

#[test]
fn limits_are_read_again_on_sighup() {
    let file = TempFile::new("[limits]\nmax_connections_per_ip = 100\n");
    let flags = ["--listen=127.0.0.1:0", "--shards=1", "--config", file.path()];
    let mut process = Process::spawn(&mut process::command(flags));
    let address = process.address();
    let served = |last| Http::connect_from(local(last), address).is_ok_and(|mut http| http.try_health());
    let first = Http::connect_from(local(2), address).expect("it is accepted");
    assert!(served(2));
    file.write(
        "[server]\ntrusted_proxies = ['127.0.0.9']\n[limits]\nmax_connections_per_ip = 1\n\
         commands_burst = 5\ncommands_per_second = 1\n",
    );
    process.signal(Signal::HUP);
    process.line_with("changed=4 need_restart=0");
    assert!(!served(2), "the one that is there is counted");
    assert!(served(3));
    let mut proxy = Http::connect_from(local(9), address).expect("it is accepted");
    let host = [("X-Forwarded-Host", "a.example")];
    let answer = proxy.request("POST", "/register", &host, br#"{"user_id":1}"#);
    assert!(answer.json()["url"].as_str().expect("there is a URL").starts_with("ws://a.example/ws/"));
    let id = answer.id();
    let mut client = WebSocket::upgrade(proxy, address, &id, b"").expect("it is registered");
    client.send(&frame(0x81, b"ping").repeat(20));
    client.read_to_close(1008);
    drop(first);
    eventually("it made room", || served(2));
}
