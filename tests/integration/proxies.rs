//! Clients behind proxies: whom the server takes them for, by `X-Forwarded-*` and by the PROXY protocol, and that nobody but a
//! trusted proxy has a say in that.
//!
//! 127.0.0.2 is the proxy that is trusted, 127.0.0.3 anybody.

use std::net::IpAddr;

use fanfare::{
    metrics::Refused,
    peer::Networks,
    settings::{GateSettings, Settings},
};

use crate::support::{Answer, Http, Running, eventually, serve, shards, websocket::handshake};

const PROXY: u8 = 2;
const ANYBODY: u8 = 3;
const UNKNOWN: &str = "0123456789abcdef0123456789abcdef";

/// A server that trusts the proxy, with this gate.
fn behind(gate: GateSettings) -> Settings {
    let trusted_proxies = Networks::new(vec!["127.0.0.2".parse().expect("it is an address")]);
    Settings { gate: GateSettings { trusted_proxies, ..gate }, ..shards(2) }
}

fn from(server: &Running, last: u8) -> Http {
    Http::connect_from(IpAddr::from([127, 0, 0, last]), server.address()).expect("it is accepted")
}

/// Whether anybody's connection is reset, perhaps before it knows that there is one.
fn is_turned_away(server: &Running) -> bool {
    let http = Http::connect_from(IpAddr::from([127, 0, 0, ANYBODY]), server.address());
    !http.is_ok_and(|mut http| {
        // The header of a proxy, where one is wanted, is none of anybody's.
        let wants_header = server.node().gate().settings().proxy_protocol;
        (!wants_header || http.wire().try_write(&binary([192, 0, 2, 7], &[])).is_ok()) && http.try_health()
    })
}

/// What a handshake from there with these header lines is answered with; the connection stays as long as this.
fn upgrade(mut http: Http, server: &Running, id: &str, lines: &str) -> (Answer, Http) {
    http.send(handshake(server.address(), id).replace("\r\n\r\n", &format!("\r\n{lines}\r\n")));
    (http.answer(), http)
}

fn refused(server: &Running, reason: Refused) -> u64 {
    server.node().metrics().refused(reason)
}

/// The URL that a registration is given.
fn url(http: &mut Http, lines: &[(&str, &str)]) -> String {
    let answer = http.request("POST", "/register", lines, br#"{"user_id":1}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    let url = answer.json()["url"].as_str().expect("there is a URL").to_owned();
    url.rsplit_once("/ws/").expect("it is a socket's").0.to_owned()
}

#[test]
fn clients_behind_a_trusted_proxy_are_counted_by_the_address_it_tells() {
    serve(behind(GateSettings { max_connections_per_ip: 1, ..GateSettings::default() }), |server| {
        let ask = |lines| {
            // By the proxy: it is not counted.
            let id = from(server, PROXY).register(r#"{"user_id":1}"#);
            upgrade(from(server, PROXY), server, &id, lines)
        };
        let (answer, first) = ask("X-Forwarded-For: 192.0.2.7\r\n");
        assert_eq!(answer.status, 101);
        let (answer, refused) = ask("X-Forwarded-For: 198.51.100.1, 192.0.2.7\r\n");
        answer.expect_error(429, "too_many_requests");
        assert_eq!(answer.header("retry-after"), Some("1"));
        let (answer, _other) = ask("X-Forwarded-For: 192.0.2.8\r\n");
        assert_eq!(answer.status, 101);
        let (answer, _own) = ask("");
        assert_eq!(answer.status, 101, "without the header it is the proxy itself");
        ask("X-Forwarded-For: unknown\r\n").0.expect_error(429, "too_many_requests");
        drop(first);
        drop(refused);
        eventually("it made room", || ask("X-Forwarded-For: 192.0.2.7\r\n").0.status == 101);
    });
}

#[test]
fn upgrade_that_fails_leaves_nothing_counted_for_its_client() {
    serve(behind(GateSettings { max_connections_per_ip: 1, ..GateSettings::default() }), |server| {
        let mut http = from(server, PROXY);
        for _ in 0..5 {
            let (answer, same) = upgrade(http, server, UNKNOWN, "X-Forwarded-For: 192.0.2.7\r\n");
            answer.expect_error(404, "not_found");
            http = same;
        }
    });
}

#[test]
fn handshakes_behind_a_proxy_are_rated_by_client() {
    let gate = GateSettings { handshakes_per_second_per_ip: 1, ..GateSettings::default() };
    serve(behind(gate), |server| {
        eventually("they come too fast", || {
            let (answer, _) = upgrade(from(server, PROXY), server, UNKNOWN, "X-Forwarded-For: 192.0.2.7\r\n");
            [404, 429].into_iter().find(|status| *status == answer.status).expect("one or the other") == 429
        });
        let (answer, _) = upgrade(from(server, PROXY), server, UNKNOWN, "X-Forwarded-For: 192.0.2.8\r\n");
        answer.expect_error(404, "not_found");
        for _ in 0..100 {
            assert!(from(server, PROXY).try_health(), "other calls of the proxy are not counted");
        }
    });
}

#[test]
fn what_anybody_else_says_of_itself_is_not_believed() {
    serve(behind(GateSettings { max_connections_per_ip: 2, ..GateSettings::default() }), |server| {
        let id = server.register(&["cats"]);
        let (answer, _first) = upgrade(from(server, ANYBODY), server, &id, "X-Forwarded-For: 192.0.2.7\r\n");
        assert_eq!(answer.status, 101);
        let mut second = from(server, ANYBODY);
        let lines = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "a.example")];
        assert_eq!(url(&mut second, &lines), format!("ws://{}", server.address()));
        assert!(is_turned_away(server), "they are two, whatever they say");
        assert_eq!(refused(server, Refused::ConnectionsOfAddress), 1);
    });
}

#[test]
fn url_is_that_by_which_the_client_reached_the_proxy() {
    serve(behind(GateSettings::default()), |server| {
        let mut http = from(server, PROXY);
        let own = server.address().to_string();
        for (lines, expected) in [
            (&[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "a.example")][..], "wss://a.example"),
            (
                &[("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "b.example, a.example:81")],
                "ws://a.example:81",
            ),
            (&[("X-Forwarded-Proto", "https")], &*format!("wss://{own}")),
            (&[], &*format!("ws://{own}")),
        ] {
            assert_eq!(url(&mut http, lines), expected);
        }
        let lines = [("X-Forwarded-Host", "a b")];
        http.request("POST", "/register", &lines, br#"{"user_id":1}"#).expect_error(400, "bad_request");
    });
}

#[test]
fn configured_url_goes_before_what_a_proxy_says() {
    let settings = behind(GateSettings::default());
    serve(Settings { public_url: Some("wss://public.example".into()), ..settings }, |server| {
        let lines = [("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "a.example")];
        assert_eq!(url(&mut from(server, PROXY), &lines), "wss://public.example");
    });
}

/// A gate that wants PROXY headers.
fn headers_first() -> GateSettings {
    GateSettings { proxy_protocol: true, ..GateSettings::default() }
}

/// A header of version 2 for a client at this address, with TLVs.
fn binary(client: [u8; 4], tlvs: &[u8]) -> Vec<u8> {
    let length = u8::try_from(12 + tlvs.len()).expect("it is short");
    let addresses = [&client[..], &[198, 51, 100, 1], &[0x12, 0x67], &443_u16.to_be_bytes()].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", &[length][..], &addresses, tlvs].concat()
}

/// A connection of the proxy that begins so.
fn begun(server: &Running, header: &[u8]) -> Http {
    let mut http = from(server, PROXY);
    http.send(header);
    http
}

#[test]
fn proxy_header_says_whom_a_connection_is_for() {
    let gate = GateSettings { max_connections_per_ip: 1, ..headers_first() };
    serve(behind(gate), |server| {
        let line = |client: &str| format!("PROXY TCP4 {client} 198.51.100.1 4711 443\r\n").into_bytes();
        let mut first = begun(server, &line("192.0.2.7"));
        assert!(first.try_health());
        assert!(!begun(server, &binary([192, 0, 2, 7], &[])).try_health(), "it is there already");
        assert_eq!(refused(server, Refused::ConnectionsOfAddress), 1);
        let mut other = begun(server, &binary([192, 0, 2, 8], &[]));
        let id = other.register(r#"{"user_id":1}"#);
        let (answer, other) = upgrade(other, server, &id, "X-Forwarded-For: 192.0.2.9\r\n");
        assert_eq!(answer.status, 101);
        assert!(
            !begun(server, &line("192.0.2.8")).try_health(),
            "its client counts, whatever it says of itself"
        );
        drop((first, other));
        for client in ["192.0.2.7", "192.0.2.8"] {
            eventually("it made room", || begun(server, &line(client)).try_health());
        }
    });
}

#[test]
fn header_that_comes_in_pieces_and_with_the_request_is_taken_exactly() {
    serve(behind(headers_first()), |server| {
        let request = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
        for header in
            [b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n".to_vec(), binary([192, 0, 2, 7], &[4, 0, 0])]
        {
            let all = [&header[..], request].concat();
            for cut in [1, 5, 12, 15, 16, header.len() - 1, header.len(), header.len() + 1] {
                let mut http = begun(server, &all[..cut]);
                http.send(&all[cut..]);
                assert_eq!(http.answer().status, 200, "cut at {cut}");
                assert_eq!(http.get("/health").status, 200, "the connection goes on");
            }
        }
    });
}

#[test]
fn proxy_may_speak_for_itself_and_tell_of_tls() {
    serve(behind(headers_first()), |server| {
        assert!(begun(server, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").try_health());
        assert!(begun(server, b"PROXY UNKNOWN\r\n").try_health());
        let own = server.address();
        let lines = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "a.example")];
        for unnamed in
            [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"]
        {
            let said = url(&mut begun(server, unnamed), &lines);
            assert_eq!(said, format!("ws://{own}"), "nobody says whose word that is");
        }
        let tls = [0x20, 0, 5, 1, 0, 0, 0, 0];
        assert_eq!(url(&mut begun(server, &binary([192, 0, 2, 7], &tls)), &[]), format!("wss://{own}"));
        assert_eq!(url(&mut begun(server, &binary([192, 0, 2, 7], &[])), &[]), format!("ws://{own}"));
        let mut old = begun(server, &binary([192, 0, 2, 7], &[]));
        old.send("POST /register HTTP/1.0\r\nContent-Length: 13\r\n\r\n{\"user_id\":1}");
        let url = old.answer().json()["url"].as_str().expect("there is a URL").to_owned();
        assert!(url.starts_with("ws://198.51.100.1:443/ws/"), "{url}");
    });
}

#[test]
fn what_is_no_header_is_closed_and_counted() {
    serve(behind(headers_first()), |server| {
        let too_long = format!("PROXY UNKNOWN {}", "x".repeat(200));
        let claims = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
        let odd = [&b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"PROXY TCP4 x y 1 2\r\n", claims];
        for (n, header) in odd.into_iter().chain([too_long.as_bytes()]).enumerate() {
            begun(server, header).drain();
            assert_eq!(refused(server, Refused::ProxyHeader), n as u64 + 1, "{header:?}");
        }
        // Nothing at all, for as long as is waited.
        from(server, PROXY).expect_end();
        assert_eq!(refused(server, Refused::ProxyHeader), 5);
    });
}

#[test]
fn nobody_but_proxies_is_let_in_where_headers_are_wanted() {
    serve(behind(headers_first()), |server| {
        for _ in 0..3 {
            assert!(is_turned_away(server), "whatever it says");
        }
        assert_eq!(refused(server, Refused::NoProxy), 3);
    });
}
