//! What is logged, changed while the server runs; ids of requests; and that a flood of one kind is sampled.

use fanfare::limits;
use rustix::process::Signal;

use crate::{
    admin::{admin, expect_refusal, with_admin},
    support::{
        Answer, Http,
        file::TempFile,
        process::{self, Process},
        serve,
    },
};

fn put(http: &mut Http, body: &str) -> Answer {
    let headers = [("X-Fanfare-Admin", "1"), ("Content-Type", "application/json")];
    http.request("PUT", "/log", &headers, body.as_bytes())
}

/// A server with an admin listener, which says this much.
fn start(level: &str) -> Process {
    Process::start(&["--admin-listen=127.0.0.1:0", "--shards=1", "--log-level", level])
}

#[test]
fn what_is_logged_changes_at_once_and_what_is_not_understood_changes_nothing() {
    let mut process = start("info");
    let address = process.address();
    let mut http = Http::connect(process.admin_address());
    assert_eq!(http.get("/log").text(), r#"{"filter":"info"}"#);
    let unknown = |id: &str| {
        let header = [("X-Request-Id", id)];
        let answer = Http::connect(address).request("GET", "/nothing", &header, b"");
        assert_eq!((answer.status, answer.header("x-request-id")), (404, Some(id)));
    };
    unknown("before");
    for bad in [
        r#"{"filter":"inof"}"#,
        r#"{"filter":""}"#,
        r#"{"filter":1}"#,
        "{}",
        "",
        r#"{"filter":"info","x":1}"#,
    ] {
        expect_refusal(&put(&mut http, bad), 400, "bad_request");
    }
    assert_eq!(http.get("/log").text(), r#"{"filter":"info"}"#);
    let answer = put(&mut http, r#"{"filter":"info,fanfare=debug"}"#);
    assert_eq!((answer.status, answer.text()), (200, r#"{"filter":"info,fanfare=debug"}"#));
    unknown("after");
    let line = process.line_with("request=after");
    assert!(
        line.contains("DEBUG") && line.contains("route=\"none\"") && line.contains("client=127.0.0.1"),
        "{line}"
    );
    assert_eq!(put(&mut http, r#"{"filter":"info"}"#).status, 200);
    assert_eq!(http.get("/log").text(), r#"{"filter":"info"}"#);
    unknown("at-the-end");
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    let log = process.rest_of_log();
    assert!(!log.iter().any(|line| line.contains("before") && line.contains("request=")), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("at-the-end")), "{log:#?}");
}

#[test]
fn body_of_a_change_is_json_and_short() {
    let mut process = start("info");
    let mut http = Http::connect(process.admin_address());
    let text = [("X-Fanfare-Admin", "1"), ("Content-Type", "text/plain")];
    expect_refusal(&http.request("PUT", "/log", &text, b"debug"), 415, "unsupported_media_type");
    let long = format!(r#"{{"filter":"{}"}}"#, "x".repeat(limits::ADMIN_BODY_BYTES));
    let mut other = Http::connect(process.admin_address());
    expect_refusal(&put(&mut other, &long), 413, "body_too_large");
    let mut third = Http::connect(process.admin_address());
    expect_refusal(&third.request("PUT", "/log", &text[..0], b"{}"), 403, "forbidden");
}

#[test]
fn program_with_a_log_of_its_own_keeps_it() {
    serve(with_admin(), |server| {
        expect_refusal(&admin(server).get("/log"), 404, "not_found");
    });
}

#[test]
fn request_ids_are_answered_where_they_are_of_use_and_taken_over_only_if_they_are_clean() {
    serve(with_admin(), |server| {
        let mut http = server.http();
        let mut ask = |path: &str, id: Option<&str>| {
            let header = id.map(|id| ("X-Request-Id", id));
            let answer = http.request("GET", path, header.as_slice(), b"");
            answer.header("x-request-id").map(str::to_owned)
        };
        assert_eq!(ask("/health", None), None, "no byte more for what goes well");
        assert_eq!(ask("/health", Some("mine-1")).as_deref(), Some("mine-1"));
        let made = ask("/nothing", None).expect("an error has one");
        let other = ask("/nothing", Some("not mine\\")).expect("an error has one");
        for id in [&made, &other] {
            let (shard, number) = id.split_once('-').expect("shard and number");
            assert!(
                shard.parse::<usize>().is_ok_and(|shard| shard < 2) && number.parse::<u64>().is_ok(),
                "{id}"
            );
        }
        assert_ne!(made, other);
        let mut admin = admin(server);
        assert!(admin.get("/ready").header("x-request-id").is_some_and(|id| id.starts_with("64-")));
        let answer = admin.request("GET", "/nothing", &[("X-Request-Id", "mine-2")], b"");
        assert_eq!(answer.header("x-request-id"), Some("mine-2"));
    });
}

#[test]
fn flood_of_one_kind_is_sampled_and_what_is_left_out_is_counted() {
    let mut process = start("debug");
    let mut http = Http::connect(process.address());
    for _ in 0..500 {
        assert_eq!(http.get("/nothing").status, 404);
    }
    let mut admin = Http::connect(process.admin_address());
    let metrics = crate::support::openmetrics::Exposition::parse(admin.get("/metrics").text());
    let left_out = metrics.value("fanfare_log_lines_left_out_total");
    assert!(left_out > 0.0, "500 requests do not take 100 seconds");
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    let lines = process.rest_of_log().iter().filter(|line| line.contains("a request is refused")).count();
    assert!(lines as f64 + left_out >= 500.0 && lines < 500, "{lines} lines, {left_out} left out");
}

#[test]
fn memory_that_gets_short_is_a_line_of_the_log() {
    let file = TempFile::new(
        "[messages]\nmemory = '4MiB'\n[classes.default]\nhistory = { messages = 1000, bytes = '512KiB', ttl = '1h' }",
    );
    let flags = ["--listen=127.0.0.1:0", "--admin-listen=off", "--shards=1", "--config", file.path()];
    let mut process = Process::spawn(&mut process::command(flags));
    let mut http = Http::connect(process.address());
    let message = "x".repeat(16 * 1024);
    // Three quarters of the budget: the first rung, and not the second.
    (0..190).for_each(|n| http.publish(&format!("topic-{}", n % 8), &message));
    let line = process.line_with("memory is short");
    assert!(
        line.contains("WARN") && line.contains("done=\"conflate\"") && line.contains("budget=4194304"),
        "{line}"
    );
}
