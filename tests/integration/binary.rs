//! The binary: its options, what it prints, its signals and its exit codes.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use rustix::process::Signal;

use crate::support::{
    Http, OnPanic, WebSocket, eventually,
    process::{self, Process},
    websocket::{CLOSE, TEXT},
};

#[test]
fn start_up_prints_the_effective_settings() {
    let mut process = Process::start(&[
        "--shards=3",
        "--default-topics=a,b",
        "--registration-ttl=61s",
        "--registration-grace=0",
        "--public-url=wss://live.example/",
        "--outbox-bytes=2MiB",
        "--max-message=32KiB",
        "--max-body=2MiB",
        "--max-topics-per-client=7",
        "--ping-interval=11s",
        "--pong-timeout=500ms",
    ]);
    for told in [
        "shards=3",
        "listen=127.0.0.1:0",
        "wss://live.example",
        "default_topics=\"a,b\"",
        "max_topics_per_client=7",
        "registration_ttl=61s",
        "registration_grace=0",
        "ping_interval=11s",
        "pong_timeout=500ms",
        "max_message=32KiB",
        "max_body=2MiB",
        "outbox_bytes=2MiB",
        "file descriptors limit=",
    ] {
        process.line_with(told);
    }
    let mut http = Http::connect(process.address());
    let answer = http.post("/register", r#"{"user_id":1}"#);
    assert!(answer.text().starts_with(r#"{"url":"wss://live.example/ws/"#), "{}", answer.text());
}

#[test]
fn options_stand_in_the_environment_too_and_flags_win() {
    let mut command = process::command(["--listen=127.0.0.1:0", "--shards=1"]);
    command.env("FANFARE_SHARDS", "2").env("FANFARE_DEFAULT_TOPICS", "dogs").env("FANFARE_LOG", "json");
    let mut process = Process::spawn(&mut command);
    let line = process.line_with("fanfare starts");
    let line: serde_json::Value = serde_json::from_str(&line).expect("each line is a JSON object");
    assert_eq!(line["shards"], 1, "{line}");
    assert!(process.line_with("default_topics").contains("dogs"));
}

#[test]
fn sigterm_and_sigint_close_the_clients_and_exit_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Process::start(&["--shards=2"]);
        let mut clients = [connect(&mut process), connect(&mut process)];
        process.signal(signal);
        clients.iter_mut().for_each(|client| client.expect_close(1012, "restart"));
        drop(clients);
        assert_eq!(process.wait().code(), Some(0), "{signal:?}");
        process.line_with("stopped");
    }
}

#[test]
fn log_that_nobody_reads_any_more_does_not_keep_it_from_serving_and_stopping() {
    let mut command = process::command(["--listen=127.0.0.1:0", "--shards=1"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it was built");
    let pid = rustix::process::Pid::from_child(&child);
    let _end = OnPanic(|| {
        // It may have ended.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    });
    let mut log = BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let line = log.find(|line| line.contains("listening address=")).expect("it listens");
    let (_, address) = line.rsplit_once('=').expect("the address is in the line");
    drop(log);
    let mut client = connect_to(address.trim().parse().expect("it is an address"));
    rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
    client.expect_close(1012, "restart");
    drop(client);
    assert_eq!(process::wait(&mut child).code(), Some(0));
}

#[test]
fn sigterm_under_load_loses_nothing_that_was_answered_200() {
    let mut process = Process::start(&["--shards=2"]);
    let mut clients: Vec<_> = (0..4).map(|_| connect(&mut process)).collect();
    let address = process.address();
    let taken = AtomicU64::new(0);
    thread::scope(|scope| {
        let _end = OnPanic(|| process.signal(Signal::KILL));
        let publishers: Vec<_> = (0..3)
            .map(|_| {
                let taken = &taken;
                scope.spawn(move || {
                    let mut http = Http::connect(address);
                    loop {
                        let request = http.encode("POST", "/publish/cats", &[], b"x");
                        if http.wire().try_write(&request).is_err() {
                            return 1;
                        }
                        match http.try_answer_to("POST") {
                            Some(answer) if answer.status == 200 => {
                                taken.fetch_add(1, Ordering::Relaxed);
                            }
                            Some(answer) => {
                                answer.expect_error(503, "stopping");
                                return 0;
                            }
                            None => return 1,
                        }
                    }
                })
            })
            .collect();
        eventually("the load is on", || taken.load(Ordering::Relaxed) > 300);
        process.signal(Signal::TERM);
        let unknown: u64 =
            publishers.into_iter().map(|publisher| publisher.join().expect("200, or stopping")).sum();
        let taken = taken.load(Ordering::Relaxed);
        for client in &mut clients {
            let frames = client.read_to_close(1012);
            assert!(frames.iter().all(|frame| frame.opcode == TEXT && frame.payload == b"x"));
            let read = frames.len() as u64;
            assert!((taken..=taken + unknown).contains(&read), "{read} of {taken} and perhaps {unknown}");
        }
    });
    drop(clients);
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn second_signal_exits_at_once() {
    let mut process = Process::start(&["--shards=1"]);
    // It never closes its side, so stopping would take its time.
    let mut stubborn = connect(&mut process);
    process.signal(Signal::TERM);
    let close = stubborn.next().expect("a close");
    assert_eq!((close.opcode, close.close().0), (CLOSE, 1012));
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(1));
    process.line_with("second signal");
}

#[test]
fn option_that_is_not_allowed_exits_with_2_and_says_what_is() {
    for (arguments, parts) in [
        (&["--shards=0"][..], &["--shards", "'0'", "1 to 64"][..]),
        (&["--listen=nowhere"], &["--listen", "nowhere", "127.0.0.1:8000"]),
        (&["--max-message=1MiB"], &["--max-body", "6 x --max-message"]),
        (&["--ping-interval=1s", "--pong-timeout=2s"], &["--pong-timeout", "--ping-interval"]),
        (&["--default-topics=a,,b"], &["--default-topics"]),
        (&["--public-url=http://a"], &["--public-url", "ws://"]),
        (&["--log-level=loud"], &["--log-level"]),
        (&["--no-such-flag"], &["--no-such-flag"]),
    ] {
        let ended = process::run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
        assert!(parts.iter().all(|part| ended.stderr.contains(part)), "{arguments:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn address_in_use_exits_with_1_and_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let ended = process::run(&["--listen", &address]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("cannot listen on {address}")), "{}", ended.stderr);
}

#[test]
fn help_and_version_exit_with_0() {
    let help = process::run(&["--help"]);
    assert_eq!(help.code, Some(0));
    for part in ["--listen", "--max-topics-per-client", "FANFARE_PING_INTERVAL", "[default: 64KiB]"] {
        assert!(help.stdout.contains(part), "{part} is missing in\n{}", help.stdout);
    }
    let version = process::run(&["--version"]);
    assert_eq!(
        (version.code, version.stdout.trim()),
        (Some(0), concat!("fanfare ", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn without_descriptors_for_its_shards_it_exits_with_1() {
    let mut process = Process::spawn(&mut process::with_descriptors(16));
    assert_eq!(process.wait().code(), Some(1));
    process.line_with("fanfare: Too many open files");
}

#[test]
fn more_connections_than_descriptors_are_all_answered() {
    const LIMIT: usize = 64;
    let mut process = Process::spawn(&mut process::with_descriptors(LIMIT));
    process.line_with("few file descriptors");
    let address = process.address();
    // They connect, all of them, but not all are accepted.
    let mut waiting: Vec<_> = (0..2 * LIMIT).map(|_| Http::connect(address)).collect();
    let request = waiting[0].encode("GET", "/health", &[], b"");
    let asks = |http: &mut Http| http.wire().try_write(&request).is_ok();
    let asking: Vec<_> = waiting.iter_mut().map(asks).collect();
    // Whoever is served makes room for the others, down to the last.
    for (mut http, asks) in waiting.into_iter().zip(asking) {
        // One that was slow to ask was closed; its client comes again.
        let answer = if asks { http.try_answer_to("GET") } else { None };
        let answer = answer.unwrap_or_else(|| Http::connect(address).get("/health"));
        assert_eq!(answer.status, 200);
    }
}

/// A client of the default topic.
fn connect(process: &mut Process) -> WebSocket {
    connect_to(process.address())
}

fn connect_to(address: SocketAddr) -> WebSocket {
    let id = Http::connect(address).register(r#"{"user_id":1}"#);
    WebSocket::connect(address, &id).expect("the upgrade is taken")
}
