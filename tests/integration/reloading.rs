//! SIGHUP: the real binary reads its configuration again.

use rustix::process::Signal;

use crate::support::{
    Http, WebSocket, eventually,
    file::TempFile,
    process::{self, Process},
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
    assert!(reloaded.contains("changed=4 need_restart=1"), "{reloaded}");
    let line = process.line_with("option=default_topics");
    assert!(line.contains(r#"changed option=default_topics before=["before"] after=["after"]"#), "{line}");
    assert!(process.line_with("option=max_topics_per_client").contains("before=128 after=2"));
    assert!(process.line_with("option=log_level").contains(r#"after="info,fanfare=debug""#));
    let line = process.line_with("option=shards");
    assert!(line.contains("WARN") && line.contains("needs a restart"), "{line}");
    assert!(line.contains("in_force=1 wanted=2"), "{line}");
    assert!(process.line_with("option=classes").contains("after=2 classes, 0 rules"));

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
    reload(&mut process, "reloaded changed=1");
    eventually("the shards follow", || history(&mut http, "a.x") == 2);
    http.publish("a.x", "still there");
    client.expect_text("still there");
    let mut late = WebSocket::open(address, "/ws", &[]).expect("it is let in");
    late.send_text(r#"{"topics":["a.x"]}"#);
    late.expect_error("forbidden");

    // Another rule: the topic is of the default class now, which keeps nothing.
    file.write(class(&kept(5)).replace("'a.'", "'b.'"));
    reload(&mut process, "reloaded changed=1 need_restart=0");
    eventually("what was kept goes", || history(&mut http, "a.x") == 0);
    assert_eq!(http.get("/topics/a.x").json()["class"], "default");
    http.publish("b.x", "kept");
    assert_eq!(history(&mut http, "b.x"), 1);
    late.set_topics(&["a.x"]);
    http.publish("a.x", "to both");
    client.expect_text("to both");
    late.expect_text("to both");
}
