//! What a server does that is asked of no single part of it.

use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    time::{Duration, Instant},
};

use super::*;
use crate::{identity::User, peer::Networks, settings::GateSettings, tls::Certificates};

const DEADLINE: Duration = Duration::from_secs(10);

fn start(settings: Settings) -> Server {
    Server::start("127.0.0.1:0".parse().expect("it is an address"), settings).expect("a port is free")
}

/// A client that is connected, its handshake answered.
fn connect(server: &Server) -> std::net::TcpStream {
    let id = server.node().register(User::number(1), []).expect("there is room");
    let mut client = std::net::TcpStream::connect(server.address()).expect("it listens");
    client.set_read_timeout(Some(DEADLINE)).expect("it is no zero");
    let handshake = format!(
        "GET /ws/{id} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    client.write_all(handshake.as_bytes()).expect("it is connected");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("the handshake is answered");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    client
}

#[test]
fn close_of_a_peer_that_shuts_its_side_down_with_it_is_answered() {
    let server = start(Settings { shards: 1, ..Settings::default() });
    let mut client = connect(&server);
    // "ping", and a close with 1000, masked with zeros.
    client.write_all(b"\x81\x84\0\0\0\0ping\x88\x82\0\0\0\0\x03\xe8").expect("it is connected");
    client.shutdown(Shutdown::Write).expect("it is connected");
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).expect("it is not reset");
    assert_eq!(answers, b"\x88\x02\x03\xe8", "its close is answered");
    server.stop();
    server.wait().expect("it stops");
}

/// A certificate of its own.
fn certificates() -> Arc<Certificates> {
    let folder = std::env::temp_dir().join(format!("fanfare-{}-server", std::process::id()));
    std::fs::create_dir_all(&folder).expect("there is room");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("it can be signed");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("there is room");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("there is room");
    let certificates = Certificates::load(cert, key).expect("it is right");
    std::fs::remove_dir_all(folder).expect("it is ours");
    Arc::new(certificates)
}

/// Whether the peer has ended a connection, in order or not.
fn has_ended(stream: &mut std::net::TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn whoever_says_nothing_behind_its_proxy_header_makes_room_before_and_in_its_tls_handshake() {
    const ROOM: usize = 4;
    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
    let server = start(Settings {
        shards: 1,
        tls: Some(certificates()),
        // Far longer than the test waits for anything.
        tls_handshake_timeout: Duration::from_secs(3_600),
        gate: GateSettings {
            trusted_proxies: Networks::new(vec!["127.0.0.1".parse().expect("it is an address")]),
            proxy_protocol: true,
            ..GateSettings::default()
        },
        ..Settings::default()
    });
    let begin = |more: &[u8]| {
        let mut stream = std::net::TcpStream::connect(server.address()).expect("it listens");
        stream.write_all(&[HEADER, more].concat()).expect("it is connected");
        stream
    };
    // Once somebody is served the acceptor has found out how much room there is.
    let mut served = begin(b"GET / HTTP/1.1\r\n\r\n");
    let mut answer = String::new();
    served.read_to_string(&mut answer).expect("it is not reset");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    drop(served);
    server.node().gate().set_room(ROOM);
    // Nothing, and the beginning of a record of TLS.
    let says = [&[][..], &[22, 3, 1, 2], &[]];
    let mut silent: Vec<_> = (0..2 * ROOM).map(|n| begin(says[n % says.len()])).collect();
    silent.iter().for_each(|stream| stream.set_nonblocking(true).expect("it is a socket"));
    let end = Instant::now() + 3 * DEADLINE;
    // Those who came before it was crowded may stay.
    while silent.len() >= ROOM {
        assert!(Instant::now() < end, "{} of {ROOM} and more stay", silent.len());
        silent.retain_mut(|stream| !has_ended(stream));
        thread::sleep(Duration::from_millis(1));
    }
    let mut served = begin(b"GET / HTTP/1.1\r\n\r\n");
    let mut answer = String::new();
    served.read_to_string(&mut answer).expect("it is not reset");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    server.stop();
    server.wait().expect("it stops");
}
