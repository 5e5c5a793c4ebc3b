//! SIGHUP: the real binary reads its configuration again.

use std::collections::BTreeSet;

use fanfare::config::{Changes, Cli, Config, changes, default_file};
use rustix::process::Signal;

use crate::support::{
    Http, WebSocket,
    certificate::Certificate,
    eventually,
    file::TempFile,
    process::{self, Process},
    token::jwks,
};

/// Serves on a free port with this file and these flags.
fn start(file: &TempFile, flags: &[&str]) -> Process {
    let listen = ["--listen", "127.0.0.1:0", "--config", file.path()];
    Process::spawn(&mut process::command(listen.iter().chain(flags)))
}

/// Asks for a reload, and waits until it is over: there is a line with `text` in it.
fn reload(process: &mut Process, text: &str) -> String {
    process.signal(Signal::HUP);
    process.line_with(text)
}

#[test]
fn what_can_change_changes_and_the_log_says_what_and_what_needs_a_restart() {
    let file = TempFile::new(
        "[server]\nshards = 1\n[clients]\ndefault_topics = ['before']\n[messages]\nmax_message = '2KiB'\n",
    );
    let mut process = start(&file, &[]);
    let address = process.address();
    let before = Http::connect(address).register(r#"{"user_id":1}"#);
    file.write(
        "[server]\nshards = 2\n[clients]\ndefault_topics = ['after']\nmax_topics_per_client = 2\n\
         [messages]\nmax_message = '2KiB'\n[log]\nlog_level = 'info,fanfare=debug'\n[classes.a]\n",
    );
    let reloaded = reload(&mut process, "reloaded changed=");
    assert!(reloaded.contains("changed=9 need_restart=1"), "{reloaded}");
    let line = process.line_with("option=default_topics");
    assert!(line.contains(r#"changed option=default_topics before=["before"] after=["after"]"#), "{line}");
    assert!(process.line_with("option=max_topics_per_client").contains("before=128 after=2"));
    assert!(process.line_with("option=log_level").contains(r#"after="info,fanfare=debug""#));
    let line = process.line_with("option=shards");
    assert!(line.contains("WARN") && line.contains("needs a restart"), "{line}");
    assert!(line.contains("in_force=1 wanted=2"), "{line}");
    let line = process.line_with("option=classes.a.policy");
    assert!(line.contains("before=none after=disconnect"), "{line}");

    let mut http = Http::connect(address);
    let after = http.register(r#"{"user_id":1}"#);
    for (id, topic) in [(before, "before"), (after, "after")] {
        let mut client = WebSocket::connect(address, &id).expect("it is registered");
        http.publish(topic, "heard");
        client.expect_text("heard");
        // A new bound holds for those who are connected too.
        client.send_text(r#"{"topics":["1","2","3"]}"#);
        assert!(client.text().contains("at most 2"), "one more than it may");
    }
}

#[test]
fn a_file_that_is_not_right_changes_nothing_and_says_where_and_the_next_one_is_taken() {
    let file = TempFile::new("[clients]\ndefault_topics = ['kept']\n");
    let mut process = start(&file, &["--shards=1"]);
    let address = process.address();
    file.write("[clients]\ndefault_topics = ['new']\nping_interval = '25'\n");
    let line = reload(&mut process, "nothing is reloaded");
    assert!(
        line.contains("ERROR") && line.contains(":3: clients.ping_interval: invalid value '25'"),
        "{line}"
    );
    let mut http = Http::connect(address);
    let id = http.register(r#"{"user_id":1}"#);
    let mut client = WebSocket::connect(address, &id).expect("it is registered");
    http.publish("kept", "still here");
    client.expect_text("still here");
    file.write("[clients]\ndefault_topics = ['new']\n");
    assert!(reload(&mut process, "reloaded changed=").contains("changed=1 need_restart=0"));
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn flags_go_before_what_the_file_says_now_and_without_a_file_nothing_changes() {
    let file = TempFile::new("[clients]\nmax_topics_per_client = 5\n");
    let mut process = start(&file, &["--shards=1", "--max-topics-per-client=7"]);
    process.address();
    file.write("[clients]\nmax_topics_per_client = 6\n");
    assert!(reload(&mut process, "reloaded changed=").contains("changed=0 need_restart=0"));
    let mut process = Process::start(&["--shards=1"]);
    process.address();
    assert!(reload(&mut process, "reloaded changed=").contains("changed=0 need_restart=0"));
}

#[test]
fn classes_change_for_topics_there_are_and_whoever_has_a_topic_keeps_it() {
    let class = |lines: &str| format!("[classes.a]\n{lines}\n[[topics]]\nprefix = 'a.'\nclass = 'a'\n");
    let kept =
        |messages: usize| format!("history = {{ messages = {messages}, bytes = '64KiB', ttl = '10m' }}");
    let file = TempFile::new(class(&kept(5)));
    let mut process = start(&file, &["--shards=2"]);
    let address = process.address();
    let mut http = Http::connect(address);
    let id = http.register(r#"{"user_id":1,"topics":["a.x"]}"#);
    let mut client = WebSocket::connect(address, &id).expect("it is registered");
    let history = |http: &mut Http, topic: &str| {
        let page = http.get(&format!("/topics/{topic}/history")).json();
        page["messages"].as_array().expect("a list").len()
    };
    (1..=6).for_each(|n| http.publish("a.x", &n.to_string()));
    assert_eq!(history(&mut http, "a.x"), 5);
    (1..=6).for_each(|n| client.expect_text(&n.to_string()));

    // It keeps less, and nobody may join by itself any more.
    file.write(class(&format!("subscribers = 'key'\n{}", kept(2))));
    reload(&mut process, "reloaded changed=2");
    eventually("the shards follow", || history(&mut http, "a.x") == 2);
    http.publish("a.x", "still there");
    client.expect_text("still there");
    let mut late = WebSocket::open(address, "/ws", &[]).expect("it is let in");
    late.send_text(r#"{"topics":["a.x"]}"#);
    late.expect_error("forbidden");

    // Another rule: the topic is of the default class now, which keeps nothing.
    file.write(class(&kept(5)).replace("'a.'", "'b.'"));
    reload(&mut process, "reloaded changed=4 need_restart=0");
    eventually("what was kept goes", || history(&mut http, "a.x") == 0);
    assert_eq!(http.get("/topics/a.x").json()["class"], "default");
    http.publish("b.x", "kept");
    assert_eq!(history(&mut http, "b.x"), 1);
    late.set_topics(&["a.x"]);
    http.publish("a.x", "to both");
    client.expect_text("to both");
    late.expect_text("to both");
}

/// Keys, each of all scopes.
fn key_table(name: &str, key: &str) -> String {
    let hash = fanfare::auth::KeyHash::of(key.as_bytes());
    format!("[[keys]]\nname = '{name}'\nscopes = ['register', 'publish', 'admin']\nhash = '{hash}'\n")
}

#[test]
fn a_reload_does_not_open_listeners_that_stay_where_others_reach_them() {
    let at = |ip: &str| format!("[server]\nlisten = '{ip}:0'\n[admin]\nadmin_listen = '{ip}:0'\n");
    let keys = key_table("all", "ffk_a-key-of-this-test");
    let file = TempFile::new(at("0.0.0.0") + &keys);
    let mut process = Process::spawn(&mut process::command(["--shards=1", "--config", file.path()]));
    let port = process.address().port();
    let (mut public, mut admin) =
        (Http::connect(([127, 0, 0, 1], port).into()), Http::connect(process.admin_address()));
    let key = [("X-Api-Key", "ffk_a-key-of-this-test")];
    let mut assert_closed = || {
        let publish = |http: &mut Http, headers: &[(&str, &str)]| {
            let headers = [headers, &[("Content-Type", "text/plain")]].concat();
            http.request("POST", "/publish/a", &headers, b"x").status
        };
        assert_eq!([publish(&mut public, &[]), publish(&mut public, &key)], [401, 200]);
        let metrics = |admin: &mut Http, headers: &[_]| admin.request("GET", "/metrics", headers, b"").status;
        assert_eq!([metrics(&mut admin, &[]), metrics(&mut admin, &key)], [401, 200]);
        let drain = admin.request("POST", "/drain", &[("X-Fanfare-Admin", "1")], b"");
        assert_eq!(drain.status, 401);
    };
    assert_closed();
    // All right for a start, and not where it listens now: for both listeners, and for each.
    file.write(at("127.0.0.1"));
    let line = reload(&mut process, "nothing is reloaded");
    assert!(line.contains("'0.0.0.0:0' of '--listen'") && line.contains("until a restart"), "{line}");
    assert_closed();
    let admin_key = TempFile::new("a-key-of-the-admin-listener");
    file.write(format!("{}admin_key_file = '{}'\n", at("127.0.0.1"), admin_key.path()));
    process.signal(Signal::HUP);
    let line = process.next_line_with("nothing is reloaded");
    assert!(line.contains("'0.0.0.0:0' of '--listen'"), "{line}");
    assert_closed();
    file.write(format!("{}[access]\ninsecure_open = true\n", at("127.0.0.1")));
    process.signal(Signal::HUP);
    let line = process.next_line_with("nothing is reloaded");
    assert!(line.contains("'0.0.0.0:0' of '--admin-listen'"), "{line}");
    assert_closed();
    // Another key is taken, whatever else waits for a restart.
    file.write(at("127.0.0.1") + &keys + &key_table("other", "ffk_another-key-of-this-test"));
    let line = reload(&mut process, "reloaded changed=");
    assert!(line.contains("changed=2 need_restart=2"), "{line}");
    assert_closed();
}

#[test]
fn the_key_of_the_admin_listener_is_judged_by_where_it_is_and_changes_wherever_it_is_to_go() {
    let [one, other] = ["one-key-of-the-admin", "other-key-of-the-admin"].map(TempFile::new);
    let at = |ip: &str, key: &str| format!("[admin]\nadmin_listen = '{ip}:0'\nadmin_key_file = '{key}'\n");
    let file = TempFile::new(at("0.0.0.0", one.path()));
    let mut process = start(&file, &["--shards=1"]);
    let mut admin = Http::connect(process.admin_address());
    let mut status = |key: &str| {
        let bearer = format!("Bearer {key}");
        admin.request("GET", "/metrics", &[("Authorization", &bearer)], b"").status
    };
    file.write(at("127.0.0.1", ""));
    assert!(reload(&mut process, "nothing is reloaded").contains("--admin-listen"));
    assert_eq!([status("one-key-of-the-admin"), status("other-key-of-the-admin")], [200, 401]);
    file.write(at("127.0.0.1", other.path()));
    reload(&mut process, "reloaded changed=2 need_restart=1");
    assert!(process.line_with("option=admin key").contains("before=key after=another key"));
    assert_eq!([status("one-key-of-the-admin"), status("other-key-of-the-admin")], [401, 200]);
}

#[test]
fn a_reload_does_not_break_what_a_start_would_have_refused() {
    let messages =
        |max: &str, body: &str| format!("[messages]\nmax_message = '{max}'\nmax_body = '{body}'\n");
    let file = TempFile::new(messages("64KiB", "1MiB"));
    let mut process = start(&file, &["--shards=1"]);
    process.address();
    file.write(messages("1KiB", "16KiB"));
    let line = reload(&mut process, "nothing is reloaded");
    assert!(line.contains("'16KiB' of '--max-body'") && line.contains("6 x --max-message"), "{line}");
    file.write(messages("1KiB", "512KiB"));
    assert!(reload(&mut process, "reloaded changed=").contains("changed=1 need_restart=1"));
}

#[test]
fn classes_change_beside_bounds_that_need_a_restart_as_far_as_those_in_force_allow() {
    let file = TempFile::new("[classes.a]\n[classes.b]\n[[topics]]\nprefix = 'a.'\nclass = 'a'\n");
    let mut process = start(&file, &["--shards=1"]);
    let address = process.address();
    let id = Http::connect(address).register(r#"{"user_id":1,"topics":["a.x"]}"#);
    let mut client = WebSocket::connect(address, &id).expect("it is registered");
    file.write(
        "[messages]\noutbox_bytes = '4MiB'\nmax_message = '32KiB'\n[classes.a]\nsubscribers = 'key'\n\
         [classes.b]\noutbox_bytes = '3MiB'\npolicy = 'conflate'\n\
         history = { messages = 5, bytes = '1MiB', ttl = '1m' }\n\
         [[topics]]\nprefix = 'a.'\nclass = 'a'\n[[topics]]\nprefix = 'b.'\nclass = 'b'\n",
    );
    reload(&mut process, "reloaded changed=");
    for (option, told) in [
        ("classes.a.subscribers", "before=public after=key"),
        ("classes.b.policy", "before=disconnect after=conflate"),
        ("classes.b.history", "before=none after=5 messages, 512KiB, 1m"),
        ("topics.prefix \"b.\"", "before=none after=b"),
    ] {
        let line = process.line_with(&format!(" changed option={option}"));
        assert!(line.contains(told), "{line}");
    }
    for (option, told) in [
        ("max_message", "in_force=\"64KiB\" wanted=\"32KiB\""),
        ("outbox_bytes", "in_force=\"1MiB\" wanted=\"4MiB\""),
        ("classes.a.outbox_bytes", "in_force=1MiB wanted=4MiB"),
        ("classes.b.outbox_bytes", "in_force=1MiB wanted=3MiB"),
        ("classes.b.history", "in_force=5 messages, 512KiB, 1m wanted=5 messages, 1MiB, 1m"),
    ] {
        let line = process.line_with(&format!("needs a restart option={option} "));
        assert!(line.contains("WARN") && line.contains(told), "{line}");
    }
    client.send_text(r#"{"topics":["a.y"]}"#);
    client.expect_error("forbidden");
}

/// Every option with a value that none has at first; `FILE` is another file of the same content.
const OTHERS: &str = "\
    --listen=127.0.0.1:1 --shards=1 --public-url=wss://a --drain-delay=1s --drain-duration=1s \
    --trusted-proxies=10.0.0.0/9 --proxy-protocol=true --tls-cert=FILE --tls-key=FILE --default-topics=a \
    --max-topics-per-client=5 --registration-ttl=31s --registration-grace=31s --ping-interval=20s --pong-timeout=9s \
    --max-connection-age=1h --max-message=32KiB --max-body=2MiB --outbox-bytes=2MiB --outbox-age=30s --memory=100MiB \
    --publish-wait=1s --max-connections=5 --max-connections-per-ip=5 --handshakes-per-second=5 \
    --handshakes-per-second-per-ip=5 --commands-per-second=5 --commands-burst=5 --max-registrations=5 --max-topics=9 \
    --socket-unsent=64KiB --socket-send-buffer=64KiB --anonymous=refuse --jwks=FILE --token-issuer=a \
    --token-audience=a --token-leeway=1s --origins=https://a.example --insecure-open=true --admin-listen=127.0.0.1:2 \
    --admin-key-file=FILE --admin-host=a --log=json --log-level=debug";

#[test]
fn the_documentation_says_of_every_option_whether_a_reload_changes_it() {
    let certificate = Certificate::new();
    let read = |path: std::path::PathBuf| std::fs::read(path).expect("it was written");
    let contents = [
        ("--tls-cert", read(certificate.cert())),
        ("--tls-key", read(certificate.key())),
        ("--jwks", jwks().into()),
        ("--admin-key-file", b"a-key-of-the-admin".to_vec()),
    ];
    let pairs = contents.map(|(flag, content)| (flag, TempFile::new(&content), TempFile::new(&content)));
    let mut first = vec!["fanfare".to_owned(), "--shards=2".into(), "--trusted-proxies=10.0.0.0/8".into()];
    first.extend(pairs.iter().map(|(flag, file, _)| format!("{flag}={}", file.path())));
    let config = |arguments: Vec<String>| {
        let said = format!("{arguments:?}");
        Config::read(&Cli::try_parse_from(arguments).expect(&said)).expect(&said)
    };
    let (mut at_once, mut by_restart) = (BTreeSet::new(), BTreeSet::new());
    let before = config(first.clone());
    for said in OTHERS.split_whitespace() {
        let (flag, _) = said.split_once('=').expect("it has a value");
        let other = pairs.iter().find(|(of, ..)| *of == flag).map(|(.., other)| other.path());
        let mut arguments: Vec<_> =
            first.iter().filter(|first| !first.starts_with(&format!("{flag}="))).cloned().collect();
        arguments.push(said.replace("FILE", other.unwrap_or("FILE")));
        let wanted = config(arguments);
        let now = before.changed_to(&wanted).expect("it is right beside the rest");
        let names = |changes: Changes| {
            changes.listed.iter().any(|change| format!("--{}", change.name.replace('_', "-")) == flag)
        };
        match (names(changes(&before, &now)), names(changes(&now, &wanted))) {
            (true, false) => at_once.insert(flag.to_owned()),
            (false, true) => by_restart.insert(flag.to_owned()),
            both => panic!("{flag} changes at once, and later: {both:?}"),
        };
    }

    let text = default_file();
    let options = text.split("# Topic classes").next().expect("there is a first part");
    let keys =
        options.lines().filter(|line| !line.starts_with("# ")).filter_map(|line| line.split_once(" = "));
    let all: BTreeSet<_> =
        keys.map(|(key, _)| format!("--{}", key.trim_start_matches('#').replace('_', "-"))).collect();
    assert_eq!(at_once.union(&by_restart).cloned().collect::<BTreeSet<_>>(), all, "each is tried");

    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OPERATING.md"));
    let page = page.expect("it is there");
    let listed = |row: &str| -> BTreeSet<String> {
        let row = page.lines().find(|line| line.starts_with(row)).expect("there is such a row");
        row.split('`').filter(|part| part.starts_with("--")).map(str::to_owned).collect()
    };
    assert_eq!(listed("| at once |"), at_once);
    assert_eq!(listed("| by a restart |"), by_restart);
}
