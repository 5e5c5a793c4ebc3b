//! Messages of the handshake protocol behind the handshake, under the keys of the connection: in halves, between other records,
//! without end, and that ask to begin anew.

use std::{
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};

use fanfare::{limits, node::Phase, settings::Settings};
use rustls::{ClientConfig, ClientConnection, SupportedProtocolVersion, pki_types::ServerName, version};

use crate::support::{
    Http, Running,
    certificate::{Certificate, Insists, TlsStream},
    eventually,
    records::{ALERT, APPLICATION, HANDSHAKE, Records, SUITES},
    serve,
    websocket::{PING, PONG, frame, handshake},
};

const TEXT: u8 = 1;
/// A type of records that TLS 1.3 passes over.
const CHANGE_CIPHER_SPEC: u8 = 20;
/// A key update that asks for none in return, and one that does (RFC 8446 section 4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const KEY_UPDATE_REQUESTED: [u8; 5] = [24, 0, 0, 1, 1];

fn serve_tls(settings: Settings, test: impl FnOnce(&Running, &Certificate)) {
    let certificate = Certificate::new();
    let tls = certificate.settings(1).tls;
    serve(Settings { tls, shards: 1, ..settings }, |running| test(running, &certificate));
}

fn publish(running: &Running, certificate: &Certificate, message: &str) {
    Http::over(certificate.connect(running.address()), running.address()).publish("a", message);
}

fn config(certificate: &Certificate, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let insists = Insists { suites: SUITES.to_vec(), ..Insists::on(version) };
    Arc::new(Records::config(&certificate.client(insists)))
}

/// A WebSocket, subscribed to `a`, whose records are made by hand from now on.
fn connect(running: &Running, certificate: &Certificate, config: Arc<ClientConfig>) -> Records {
    let mut http = Http::over(certificate.connect(running.address()), running.address());
    let id = http.register(r#"{"user_id":1,"topics":["a"]}"#);
    let mut stream = TlsStream::connect(running.address(), config).expect("a handshake");
    stream.write_all(handshake(running.address(), &id).as_bytes()).expect("it is connected");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("it is answered");
        answer.extend(byte);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    Records::of(stream)
}

/// A frame of the server's, which masks nothing.
fn from_server(opcode: u8, payload: &str) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("it is short");
    [&[0x80 | opcode, length], payload.as_bytes()].concat()
}

/// What comes until the end.
fn rest(records: &mut Records) -> Vec<(u8, Vec<u8>)> {
    std::iter::from_fn(|| records.receive()).collect()
}

#[test]
fn half_a_message_does_not_keep_from_the_client_what_is_published() {
    serve_tls(Settings::default(), |running, certificate| {
        for cut in 1..KEY_UPDATE_REQUESTED.len() {
            let mut client = connect(running, certificate, config(certificate, &version::TLS13));
            client.send(HANDSHAKE, &KEY_UPDATE_REQUESTED[..cut]).expect("it is connected");
            publish(running, certificate, "purr");
            assert_eq!(client.receive(), Some((APPLICATION, from_server(TEXT, "purr"))), "cut at {cut}");
            client.send(HANDSHAKE, &KEY_UPDATE_REQUESTED[cut..]).expect("it is connected");
            // The answer is the last record under the keys that were.
            eventually("it is answered", || {
                publish(running, certificate, "hiss");
                client.receive().expect("it goes on") == (HANDSHAKE, KEY_UPDATE.to_vec())
            });
        }
        assert_eq!(running.total().tls_broken, 0);
    });
}

#[test]
fn records_between_the_halves_of_a_message_end_the_connection_and_are_not_taken() {
    serve_tls(Settings::default(), |running, certificate| {
        for (n, cut) in (1..KEY_UPDATE.len()).enumerate() {
            let mut client = connect(running, certificate, config(certificate, &version::TLS13));
            client.send(HANDSHAKE, &KEY_UPDATE[..cut]).expect("it is connected");
            client.send(APPLICATION, &frame(0x80 | PING, b"between")).expect("it is connected");
            // It may be told why, and nothing besides.
            for (kind, content) in rest(&mut client) {
                assert_eq!((kind, content[0]), (ALERT, 2), "{content:?}");
            }
            eventually("it is counted", || running.total().tls_broken == n as u64 + 1);
            running.wait_until_empty();
        }
    });
}

#[test]
fn client_that_never_ends_its_message_is_silent() {
    let settings = Settings {
        ping_interval: Duration::from_millis(2_500),
        pong_timeout: Duration::from_secs(2),
        ..Settings::default()
    };
    serve_tls(settings, |running, certificate| {
        let mut client = connect(running, certificate, config(certificate, &version::TLS13));
        client.send(HANDSHAKE, &KEY_UPDATE[..2]).expect("it is connected");
        let pinged = rest(&mut client).iter().any(|(_, content)| content[0] == 0x80 | PING);
        assert!(pinged, "it could have answered");
        drop(client);
        eventually("it is closed for that", || running.total().closed_no_pong == 1);
        running.wait_until_empty();
    });
}

#[test]
fn message_without_end_is_cut_at_the_limit_behind_the_handshake_too() {
    serve_tls(Settings::default(), |running, certificate| {
        for version in [&version::TLS13, &version::TLS12] {
            let broken = running.total().tls_broken;
            let mut client = connect(running, certificate, config(certificate, version));
            // It claims 60,000 bytes, and comes in records of one.
            let _ = client.send(HANDSHAKE, &[1, 0, 0xea, 0x60]);
            let sent =
                (0..limits::TLS_UNREAD_BYTES).take_while(|_| client.send(HANDSHAKE, &[0]).is_ok()).count();
            assert!(sent < limits::TLS_UNREAD_BYTES, "it is closed before all of it is taken");
            eventually("it is counted", || running.total().tls_broken == broken + 1);
            running.wait_until_empty();
        }
    });
}

#[test]
fn renegotiation_is_refused_and_whoever_insists_is_closed() {
    serve_tls(Settings::default(), |running, certificate| {
        let config = config(certificate, &version::TLS12);
        let mut client = connect(running, certificate, config.clone());
        let name = ServerName::try_from("localhost").expect("it is a name");
        let mut hello = Vec::new();
        let mut another = ClientConnection::new(config, name).expect("it can be begun");
        another.write_tls(&mut hello).expect("a vector takes it");
        client.send(HANDSHAKE, &hello[5..]).expect("it is connected");
        // A warning (RFC 5246 section 7.2.2): no_renegotiation.
        assert_eq!(client.receive(), Some((ALERT, vec![1, 100])));
        client.send(APPLICATION, &frame(0x80 | PING, b"on")).expect("it is connected");
        assert_eq!(client.receive(), Some((APPLICATION, from_server(PONG, "on"))));
        client.send(HANDSHAKE, &hello[5..]).expect("it is connected");
        assert!(rest(&mut client).iter().all(|(kind, _)| *kind == ALERT));
        eventually("it is counted", || running.total().tls_broken == 1);
        running.wait_until_empty();
    });
}

/// Numbers that look like chance, from a seed (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as usize % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

#[test]
fn whatever_records_come_in_whatever_order_the_server_goes_on() {
    const CONNECTIONS: u64 = 150;
    let kinds = [CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, HANDSHAKE, HANDSHAKE, APPLICATION, APPLICATION, 24, 0];
    let ping = frame(0x80 | PING, b"meow");
    let contents: [&[u8]; 9] =
        [&[], &[1], &[1, 0], &[2, 40], &KEY_UPDATE, &KEY_UPDATE_REQUESTED, &[24, 0, 0], &[1, 0, 1, 0], &ping];
    serve_tls(Settings::default(), |running, certificate| {
        let configs = [&version::TLS13, &version::TLS12].map(|version| config(certificate, version));
        for seed in 0..CONNECTIONS {
            let mut numbers = Numbers(seed);
            let config = configs[numbers.below(configs.len())].clone();
            let mut client = connect(running, certificate, config);
            for _ in 0..=numbers.below(3) {
                let mut records = Vec::new();
                for _ in 0..=numbers.below(4) {
                    let (kind, content) = (numbers.one_of(&kinds), numbers.one_of(&contents));
                    match numbers.below(12) {
                        // In the clear, once the keys are there.
                        0 => records.extend([&[kind, 3, 3, 0, content.len() as u8], content].concat()),
                        1 => records.extend(client.seal(kind, &content[..content.len() / 2])),
                        _ => records.extend(client.seal(kind, content)),
                    }
                }
                records.truncate(records.len() - numbers.one_of(&[0, 0, 0, 1, records.len()]));
                if client.write(&records).is_err() {
                    break;
                }
                if numbers.below(3) == 0 {
                    Http::over(certificate.connect(running.address()), running.address())
                        .publish("a", "purr");
                }
            }
            drop(client);
            eventually("it is forgotten", || running.total().subscribers == 0);
            assert_eq!(running.node().phase(), Phase::Serving, "seed {seed}");
        }
    });
}
