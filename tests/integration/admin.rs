//! The admin listener over real sockets: who gets through, readiness, health, and what it costs nobody else.

use std::net::{SocketAddr, TcpListener};

use fanfare::{
    limits,
    settings::{AdminKey, AdminSettings, Settings},
};
use rustix::process::Signal;

use crate::support::{
    Answer, Http, Running, WebSocket,
    file::TempFile,
    openmetrics::Exposition,
    process::{self, Process},
    serve, shards,
};

const KEY: &str = "fedcba9876543210";

/// The settings of a server of two shards with an admin listener.
pub(crate) fn with_admin() -> Settings {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    Settings { admin: Some(AdminSettings::at(any_port)), ..shards(2) }
}

fn with_key() -> Settings {
    let mut settings = with_admin();
    let admin = settings.admin.as_mut().expect("it has one");
    admin.key = AdminKey::parse(KEY);
    admin.hosts = ["ops.example".to_owned()].into();
    settings
}

/// A connection to a server's admin listener.
pub(crate) fn admin(server: &Running) -> Http {
    Http::connect(server.admin_address())
}

/// What no answer of this listener may be without, or have.
#[track_caller]
fn expect_plain(answer: &Answer) {
    let cors = answer.headers.iter().find(|(name, _)| name.starts_with("access-control-"));
    assert_eq!(cors, None, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
}

/// A refusal of this listener.
#[track_caller]
pub(crate) fn expect_refusal(answer: &Answer, status: u16, code: &str) {
    expect_plain(answer);
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (status, Some(code)), "{answer:?}");
    assert!(answer.json()["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
}

#[test]
fn pages_in_a_browser_get_nothing_whatever_they_call() {
    serve(with_admin(), |server| {
        let mut http = admin(server);
        for header in
            [("Origin", "http://127.0.0.1:8001"), ("Origin", "null"), ("Sec-Fetch-Site", "same-origin")]
        {
            for (method, path) in
                [("GET", "/metrics"), ("GET", "/ready"), ("POST", "/drain"), ("OPTIONS", "/drain")]
            {
                let answer = http.request(method, path, &[header, ("X-Fanfare-Admin", "1")], b"");
                expect_refusal(&answer, 403, "forbidden");
            }
        }
        for host in ["rebound.example", "localhost.example:8001", ""] {
            http.send(format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            expect_refusal(&http.answer(), 403, "forbidden");
        }
        http.send("GET /metrics HTTP/1.1\r\n\r\n");
        expect_refusal(&http.answer(), 400, "bad_request");
        assert!(server.node().phase().is_ready(), "nothing of that had an effect");
        let answer = http.request("GET", "/ready", &[("Sec-Fetch-Site", "none")], b"");
        expect_plain(&answer);
        assert_eq!((answer.status, answer.text()), (200, r#"{"status":"serving"}"#));
    });
}

#[test]
fn what_changes_something_needs_its_header_and_paths_and_methods_are_exact() {
    serve(with_admin(), |server| {
        let mut http = admin(server);
        for headers in
            [&[][..], &[("X-Fanfare-Admin", "0")], &[("X-Fanfare-Admin", "1"), ("X-Fanfare-Admin", "1")]]
        {
            expect_refusal(&http.request("POST", "/drain", headers, b""), 403, "forbidden");
        }
        let changing = [("X-Fanfare-Admin", "1")];
        let answer = http.request("PUT", "/metrics", &changing, b"");
        expect_refusal(&answer, 405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
        let answer = http.get("/drain");
        expect_refusal(&answer, 405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some("POST"));
        expect_refusal(&http.request("OPTIONS", "/metrics", &changing, b""), 405, "method_not_allowed");
        for path in ["/", "/register", "/publish/a", "/Ready", "/ready/"] {
            expect_refusal(&http.get(path), 404, "not_found");
        }
        let head = http.request("HEAD", "/ready", &[], b"");
        assert_eq!((head.status, &head.body[..]), (200, &b""[..]));
        assert!(server.node().phase().is_ready());
        // And the public side has nothing of all this but whether it is ready.
        for path in ["/metrics", "/clients", "/drain"] {
            assert_eq!(server.http().get(path).status, 404, "{path}");
        }
    });
}

#[test]
fn with_a_key_only_ready_is_answered_without_it() {
    serve(with_key(), |server| {
        let mut http = admin(server);
        assert_eq!(http.get("/ready").status, 200);
        for path in ["/metrics", "/health", "/nothing"] {
            let answer = http.get(path);
            expect_refusal(&answer, 401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            let wrong = [("Authorization", "Bearer fedcba987654321f")];
            expect_refusal(&http.request("GET", path, &wrong, b""), 401, "unauthorized");
        }
        let key = ("Authorization", &*format!("Bearer {KEY}"));
        for path in ["/metrics", "/health"] {
            let answer = http.request("GET", path, &[key], b"");
            expect_plain(&answer);
            assert_eq!(answer.status, 200);
        }
        expect_refusal(&http.request("POST", "/drain", &[key], b""), 403, "forbidden");
        expect_refusal(
            &http.request("POST", "/drain", &[("X-Fanfare-Admin", "1")], b""),
            401,
            "unauthorized",
        );
        http.send(format!(
            "GET /health HTTP/1.1\r\nHost: Ops.Example:1\r\nAuthorization: Bearer {KEY}\r\n\r\n"
        ));
        assert_eq!(http.answer().status, 200, "a configured name");
        assert!(server.node().phase().is_ready());
    });
}

#[test]
fn health_says_what_the_public_one_says() {
    serve(with_admin(), |server| {
        let public = server.http().get("/health").json();
        assert_eq!(admin(server).get("/health").json(), public);
    });
}

#[test]
fn drain_ends_readiness_at_once_and_the_node_in_order() {
    let server = Running::start(with_admin());
    let mut client = server.client(&["cats"]);
    let mut http = admin(&server);
    let mut other = admin(&server);
    assert_eq!(other.get("/ready").status, 200);
    let answer = http.request("POST", "/drain", &[("X-Fanfare-Admin", "1")], b"");
    expect_plain(&answer);
    assert_eq!(answer.status, 202);
    let ready = other.get("/ready");
    assert_eq!((ready.status, ready.json()["status"] != "serving"), (503, true), "{ready:?}");
    client.expect_close(1012, "restart");
    drop(client);
    server.wait();
    other.expect_end();
}

#[test]
fn silent_and_greedy_clients_give_their_places_back() {
    serve(with_admin(), |server| {
        // All places, and some that wait for one.
        let silent: Vec<_> = (0..limits::ADMIN_CONNECTIONS + 3).map(|_| admin(server)).collect();
        assert_eq!(admin(server).get("/ready").status, 200, "once the silent ones are cut");
        drop(silent);
        let mut http = admin(server);
        let large = "x".repeat(limits::HTTP_HEAD_BYTES);
        http.send(format!("GET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {large}\r\n\r\n"));
        assert_eq!(http.answer().status, 431);
    });
}

#[test]
fn address_that_is_taken_is_an_error_only_for_who_asked_for_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let ended = process::run(&["--listen=127.0.0.1:0", "--admin-listen", &address]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("for admin calls") && ended.stderr.contains(&address), "{}", ended.stderr);

    let mut off = Process::start(&["--shards=1", "--admin-listen=off"]);
    assert_eq!(Http::connect(off.address()).get("/health").status, 200);

    // Whoever has the default port, one of these two goes on without it.
    let mut servers = [Process::start(&["--shards=1"]), Process::start(&["--shards=1"])];
    for server in &mut servers {
        assert_eq!(Http::connect(server.address()).get("/health").status, 200);
    }
    let [first, second] = servers.each_mut().map(|server| server.line_with("admin listener"));
    let goes_without = |line: &str| line.contains("WARN") && line.contains("--admin-listen");
    assert!(goes_without(&first) || goes_without(&second), "{first}\n{second}");
}

#[test]
fn anything_but_loopback_needs_a_key() {
    let ended = process::run(&["--admin-listen=0.0.0.0:0"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for part in ["--admin-listen", "needs a key", "--admin-key-file"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
}

#[test]
fn key_is_read_from_its_file_again_when_it_is_told_to_and_never_logged() {
    let file = TempFile::new(format!("{KEY}\n"));
    let mut process = Process::start(&[
        "--admin-listen=0.0.0.0:0",
        "--admin-key-file",
        file.path(),
        "--log-level=trace",
        "--shards=1",
    ]);
    let address = process.admin_address();
    let with = |key: &str| {
        let header = ("Authorization", &*format!("Bearer {key}"));
        Http::connect(address).request("GET", "/metrics", &[header], b"").status
    };
    assert_eq!((Http::connect(address).get("/metrics").status, with(KEY)), (401, 200));
    let other = "another-key-0123456789";
    file.write(other);
    process.signal(Signal::HUP);
    process.line_with("reloaded");
    assert_eq!((with(KEY), with(other)), (401, 200));
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    assert!(process.rest_of_log().iter().all(|line| !line.contains(KEY) && !line.contains(other)));
}

#[test]
fn it_answers_while_clients_have_all_the_descriptors() {
    let mut command = std::process::Command::new("sh");
    let run = format!("ulimit -n 100; exec {} \"$@\"", env!("CARGO_BIN_EXE_fanfare"));
    command.args(["-c", &run, "sh", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--shards=1"]);
    let mut process = Process::spawn(&mut command);
    let (address, admin) = (process.address(), process.admin_address());
    let mut clients = Vec::new();
    let refused = loop {
        match WebSocket::speak(address, "/ws?topics=cats", "fanfare.v1", Some("fanfare.v1")) {
            Ok(client) => clients.push(client),
            Err(refused) => break refused,
        }
    };
    refused.expect_error(503, "full");
    // Silent ones besides, more than there is room for.
    let pending: Vec<_> = (0..120).map(|_| std::net::TcpStream::connect(address)).collect();
    let mut http = Http::connect(admin);
    for _ in 0..3 {
        assert_eq!(http.get("/ready").status, 200);
        let metrics = Exposition::parse(http.get("/metrics").text());
        assert!(metrics.value("process_open_fds") > 50.0);
        assert_eq!(metrics.value("process_max_fds"), 100.0);
    }
    drop((clients, pending));
}

#[test]
fn description_of_the_admin_calls_names_every_path_with_the_methods_it_has() {
    serve(with_admin(), |server| {
        let mut http = admin(server);
        let described = http.get("/openapi.json").json();
        let paths = described["paths"].as_object().expect("it has paths");
        assert_eq!(paths.len(), 9, "all there are");
        for (path, methods) in paths {
            let path = path.replace(['{', '}'], "");
            let answer = http.request("PATCH", &path, &[("X-Fanfare-Admin", "1")], b"");
            expect_refusal(&answer, 405, "method_not_allowed");
            let methods = methods.as_object().expect("it has methods").keys();
            let described: Vec<_> = methods.map(|method| method.to_uppercase()).collect();
            let allowed = answer.header("allow").expect("a 405 has it").split(", ");
            assert!(allowed.filter(|method| *method != "HEAD").eq(described), "{path}: {answer:?}");
        }
    });
}
