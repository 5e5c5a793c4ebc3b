//! TLS as clients see it: handshakes, everything that plain connections can do, certificates that change.

use std::{net::SocketAddr, sync::Arc};

use fanfare::settings::Settings;
use rustix::process::Signal;
use rustls::{ClientConfig, ProtocolVersion};

use crate::support::{
    Http, Running, WebSocket,
    certificate::{Certificate, Insists, TlsStream},
    eventually,
    process::{self, Ended, Process},
    serve,
    wire::Wire,
};

/// A server with a certificate, for the time of a test.
fn serve_tls(shards: usize, test: impl FnOnce(&Running, &Certificate)) {
    let certificate = Certificate::new();
    serve(certificate.settings(shards), |running| test(running, &certificate));
}

fn http(running: &Running, certificate: &Certificate) -> Http {
    Http::over(certificate.connect(running.address()), running.address())
}

/// A client that is registered and connected.
fn client(running: &Running, certificate: &Certificate, topics: &[&str]) -> WebSocket {
    let topics = serde_json::to_string(topics).expect("texts are JSON");
    let body = format!(r#"{{"user_id":1,"topics":{topics}}}"#);
    let id = http(running, certificate).register(&body);
    upgrade(certificate.connect(running.address()), running.address(), &id)
}

fn upgrade(wire: Wire, address: SocketAddr, id: &str) -> WebSocket {
    WebSocket::upgrade(Http::over(wire, address), address, id, b"").expect("the upgrade is taken")
}

fn connect(running: &Running, config: Arc<ClientConfig>) -> std::io::Result<TlsStream> {
    TlsStream::connect(running.address(), config)
}

#[test]
fn what_is_published_reaches_subscribers_and_urls_begin_with_wss() {
    serve_tls(2, |running, certificate| {
        let mut http = http(running, certificate);
        let answer = http.post("/register", r#"{"user_id":1,"topics":["a"]}"#);
        let url = answer.json()["url"].as_str().expect("a URL").to_owned();
        assert!(url.starts_with(&format!("wss://{}/ws/", running.address())), "{url}");
        let mut clients: Vec<_> = (0..4).map(|_| client(running, certificate, &["a"])).collect();
        http.publish("a", "purr");
        for client in &mut clients {
            client.expect_text("purr");
            client.set_topics(&["b"]);
        }
        http.publish("a", "not for them");
        http.publish("b", "hiss");
        for mut client in clients {
            client.expect_text("hiss");
            client.close();
        }
        running.wait_until_empty();
        let total = running.total();
        assert_eq!(total.tls_handshakes, 9, "{total:?}");
    });
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    serve_tls(1, |running, certificate| {
        for (version, name) in [
            (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
            (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
        ] {
            let config = certificate.client(Insists::on(version));
            let stream = connect(running, config).expect("a handshake");
            assert_eq!(stream.version(), Some(name));
            let mut http = Http::over(Wire::secure(stream), running.address());
            assert_eq!(http.get("/health").status, 200);
            let id = http.register(r#"{"user_id":1}"#);
            let mut client = upgrade(http.into_wire(), running.address(), &id);
            client.set_topics(&["x"]);
            client.close();
        }
    });
}

#[test]
fn http_1_1_is_agreed_on_and_who_offers_only_something_else_is_refused_by_an_alert() {
    serve_tls(1, |running, certificate| {
        let both: &[&[u8]] = &[b"h2", b"http/1.1"];
        let config = certificate.client(Insists { alpn: both, ..Insists::default() });
        let stream = connect(running, config).expect("a handshake");
        assert_eq!(stream.0.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let config = certificate.client(Insists { alpn: &[b"h2"], ..Insists::default() });
        let error = connect(running, config).expect_err("there is no HTTP/2").to_string();
        assert!(error.contains("NoApplicationProtocol"), "{error}");
        eventually("it is counted", || running.total().tls_failed_protocol == 1);
    });
}

#[test]
fn client_that_comes_back_resumes_its_session_in_either_version() {
    serve_tls(2, |running, certificate| {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let config = certificate.client(Insists::on(version));
            let before = running.total().tls_resumed;
            for round in 0..3 {
                let stream = connect(running, config.clone()).expect("a handshake");
                assert_eq!(stream.is_resumed(), round > 0);
                // The ticket comes with the answer.
                let mut http = Http::over(Wire::secure(stream), running.address());
                assert_eq!(http.get("/health").status, 200);
            }
            assert_eq!(running.total().tls_resumed, before + 2);
        }
    });
}

#[test]
fn messages_of_every_size_arrive_whole_and_in_order() {
    let certificate = Certificate::new();
    let settings = Settings { max_message: 256 << 10, max_body: 2 << 20, ..certificate.settings(2) };
    serve(settings, |running| {
        let mut clients: Vec<_> = (0..3).map(|_| client(running, &certificate, &["a"])).collect();
        let mut http = http(running, &certificate);
        let sizes = [0, 1, 125, 126, 16_000, 16_383, 16_384, 16_385, 65_535, 65_536, 100_000, 262_144];
        let messages: Vec<String> = sizes
            .iter()
            .enumerate()
            .map(|(n, &size)| char::from(b'a' + n as u8).to_string().repeat(size))
            .collect();
        for message in &messages {
            let answer = http.post_as("/publish/a", Some("text/plain"), message.as_bytes());
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        for client in &mut clients {
            messages.iter().for_each(|message| client.expect_text(message));
        }
    });
}

#[test]
fn commands_of_a_client_may_come_in_pieces_of_any_size() {
    serve_tls(1, |running, certificate| {
        let mut client = client(running, certificate, &[]);
        let topics: Vec<String> = (0..128).map(|n| format!("{n:0>200}")).collect();
        let command = serde_json::json!({ "topics": topics }).to_string();
        let frame =
            crate::support::websocket::frame(0x80 | crate::support::websocket::TEXT, command.as_bytes());
        for size in [frame.len(), 10_000, 1_000] {
            frame.chunks(size).for_each(|piece| client.send(piece));
            client.send_text("ping");
            client.expect_text("pong");
        }
    });
}

#[test]
fn slow_reader_gets_everything_in_order_when_it_reads_at_last() {
    let certificate = Certificate::new();
    let settings =
        Settings { socket_send_buffer: 8 << 10, socket_unsent: 4 << 10, ..certificate.settings(1) };
    serve(settings, |running| {
        let id = http(running, &certificate).register(r#"{"user_id":1,"topics":["a"]}"#);
        let narrow = Wire::narrow_socket(running.address());
        let stream = TlsStream::over(narrow, certificate.client(Insists::default())).expect("a handshake");
        let mut slow = upgrade(Wire::secure(stream), running.address(), &id);
        let mut fast = client(running, &certificate, &["a"]);
        let mut http = http(running, &certificate);
        let message = |n: usize| format!("{n} {}", "x".repeat(n * 97 % 5_000));
        let count = 200;
        for n in 0..count {
            http.publish("a", &message(n));
            fast.expect_text(&message(n));
        }
        assert!(running.total().blocked >= 1, "it is behind");
        (0..count).for_each(|n| slow.expect_text(&message(n)));
        eventually("it is behind no longer", || running.total().blocked == 0);
        http.publish("a", "next");
        slow.expect_text("next");
        slow.close();
    });
}

#[test]
fn all_subscribers_see_one_order() {
    serve_tls(2, |running, certificate| {
        let mut clients: Vec<_> = (0..12).map(|_| client(running, certificate, &["a"])).collect();
        let publishers = 4;
        std::thread::scope(|scope| {
            for publisher in 0..publishers {
                scope.spawn(move || {
                    let mut http = http(running, certificate);
                    (0..50).for_each(|n| http.publish("a", &format!("{publisher} {n}")));
                });
            }
        });
        let orders: Vec<Vec<String>> =
            clients.iter_mut().map(|client| (0..publishers * 50).map(|_| client.text()).collect()).collect();
        assert!(orders.iter().all(|order| *order == orders[0]));
    });
}

#[test]
fn certificate_is_renewed_under_open_connections() {
    let mut certificate = Certificate::new();
    serve(certificate.settings(2), |running| {
        let mut old = client(running, &certificate, &["a"]);
        let shown = |certificate: &Certificate| {
            let stream = connect(running, certificate.client(Insists::default())).expect("a handshake");
            stream.server_certificate()
        };
        let first = shown(&certificate);
        certificate.renew();
        assert_eq!(shown(&certificate), first, "nobody has said that there is another");
        running.node().reconfigure(certificate.settings(2)).expect("they are allowed");
        assert_ne!(shown(&certificate), first);
        let mut new = client(running, &certificate, &["a"]);
        http(running, &certificate).publish("a", "purr");
        old.expect_text("purr");
        new.expect_text("purr");
        old.close();
        new.close();
    });
}

#[test]
fn every_close_code_arrives_and_the_end_is_said() {
    let certificate = Certificate::new();
    let settings = Settings { commands_burst: 3, commands_per_second: 1, ..certificate.settings(1) };
    let running = Running::start(settings);
    let register = || http(&running, &certificate).register(r#"{"user_id":1}"#);
    let connect = |id: &str| upgrade(certificate.connect(running.address()), running.address(), id);

    let id = register();
    let mut replaced = connect(&id);
    let mut unregistered = connect(&id);
    replaced.expect_close(4409, "replaced");
    assert_eq!(http(&running, &certificate).delete(&id).status, 200);
    unregistered.expect_close(1000, "unregistered");

    let mut hasty = connect(&register());
    (0..4).for_each(|_| hasty.send_text("ping"));
    hasty.read_to_close(1008);

    let mut wrong = connect(&register());
    wrong.send(&[0xff, 0x80, 0, 0, 0, 0]);
    wrong.read_to_close(1002);

    let mut left = connect(&register());
    running.begin_stopping();
    left.read_to_close(1012);
    running.wait();
}

#[test]
fn certificates_that_no_client_would_accept_are_refused_with_the_name_of_the_file() {
    let mut certificate = Certificate::new();
    let (cert, key) = (certificate.cert(), certificate.key());
    let (cert, key) = (cert.to_str().expect("it is UTF-8"), key.to_str().expect("it is UTF-8"));
    let check = |cert: &str, key: &str| process::run(&["check-config", "--tls-cert", cert, "--tls-key", key]);
    let refused = |cert: &str, key: &str, parts: &[&str]| {
        let Ended { code, stderr, .. } = check(cert, key);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(parts.iter().all(|part| stderr.contains(part)), "{parts:?} in {stderr}");
    };
    let checked = check(cert, key);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(checked.stdout.contains(&format!("tls_cert = \"{cert}\"")), "{}", checked.stdout);

    refused(cert, "", &["'--tls-cert'", "goes with its key, --tls-key"]);
    refused("", key, &["'--tls-key'", "goes with its certificate, --tls-cert"]);
    refused("/no/such/file", key, &["'--tls-cert'", "/no/such/file cannot be read: No such file"]);
    refused(cert, "/no/such/file", &["'--tls-key'", "the file cannot be read: No such file"]);
    refused("/", key, &["'--tls-cert'", "/ cannot be read"]);
    refused(key, key, &["'--tls-cert'", "key.pem holds no certificate"]);
    refused(cert, cert, &["cert.pem holds no private key"]);
    let other = Certificate::new();
    let other_key = other.key();
    refused(
        cert,
        other_key.to_str().expect("it is UTF-8"),
        &["is not that of the first certificate in", cert],
    );
    certificate.renew_between(2001, 2002);
    refused(cert, key, &["cert.pem holds a certificate that expired at 2002-01-01 00:00:00 UTC"]);
    certificate.renew_between(2900, 2901);
    refused(cert, key, &["cert.pem holds a certificate that is not valid before 2900-01-01"]);
}

#[test]
fn certificate_is_read_again_on_sighup_and_one_that_is_wrong_changes_nothing() {
    let mut certificate = Certificate::new();
    let (cert, key) = (certificate.cert(), certificate.key());
    let (cert, key) = (cert.to_str().expect("it is UTF-8"), key.to_str().expect("it is UTF-8"));
    let mut process = Process::start(&["--shards", "1", "--tls-cert", cert, "--tls-key", key]);
    let address = process.address();
    let shown = |certificate: &Certificate| {
        let config = certificate.client(Insists::default());
        TlsStream::connect(address, config).expect("a handshake").server_certificate()
    };
    let mut http = Http::over(certificate.connect(address), address);
    let id = http.register(r#"{"user_id":1,"topics":["a"]}"#);
    let mut client = upgrade(certificate.connect(address), address, &id);
    let first = shown(&certificate);
    certificate.renew();
    process.signal(Signal::HUP);
    let line = process.line_with("option=certificate");
    assert!(line.contains("cert.pem, valid until "), "{line}");
    process.line_with("reloaded changed=1 need_restart=0");
    let second = shown(&certificate);
    assert_ne!(first, second);

    for (content, what) in [
        (&b""[..], "holds no private key"),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "encrypted"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "cannot be used"),
    ] {
        std::fs::write(key, content).expect("it can be written");
        process.signal(Signal::HUP);
        let line = process.line_with(what);
        assert!(line.contains("nothing is reloaded") && line.contains("--tls-key"), "{line}");
    }
    assert_eq!(shown(&certificate), second);
    http.publish("a", "purr");
    client.expect_text("purr");
    client.close();
}

#[test]
fn sessions_are_resumed_after_a_renewal_too() {
    let mut certificate = Certificate::new();
    serve(certificate.settings(1), |running| {
        let config = certificate.client(Insists::default());
        let get = || {
            let stream = connect(running, config.clone()).expect("a handshake");
            let is_resumed = stream.is_resumed();
            assert_eq!(Http::over(Wire::secure(stream), running.address()).get("/health").status, 200);
            is_resumed
        };
        assert!(!get());
        certificate.renew();
        running.node().reconfigure(certificate.settings(1)).expect("they are allowed");
        assert!(get());
    });
}
