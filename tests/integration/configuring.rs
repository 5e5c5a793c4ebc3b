//! The configuration of the real binary: its file, what goes before what, what it prints, and how it ends when
//! something is not right.

use std::process::Command;

use rustix::process::Signal;

use crate::support::{
    Http,
    file::TempFile,
    process::{self, Ended, Process},
};

/// What `check-config` says to these arguments, with these variables.
fn check(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    process::end_of(process::command(["check-config"]).args(arguments).envs(variables.iter().copied()))
}

#[test]
fn flags_go_before_the_environment_that_before_the_file_and_that_before_the_defaults() {
    let file = TempFile::new(
        "[server]\nlisten = '127.0.0.1:1'\nshards = 1\n[messages]\npublish_wait = '1s'\noutbox_bytes = '2MiB'\n",
    );
    let variables = [
        ("FANFARE_CONFIG", file.path()),
        ("FANFARE_PUBLISH_WAIT", "2s"),
        ("FANFARE_SHARDS", "2"),
        ("FANFARE_LISTEN", "127.0.0.1:2"),
    ];
    let flags = ["--shards=3", "--listen=127.0.0.1:0"];
    let checked = check(&flags, &variables);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    for (option, origin) in [
        ("listen = \"127.0.0.1:0\"", "--listen"),
        ("shards = 3", "--shards"),
        ("publish_wait = \"2s\"", "FANFARE_PUBLISH_WAIT"),
        ("outbox_bytes = \"2MiB\"", "line 6"),
        ("max_message = \"64KiB\"", "default"),
    ] {
        let line = checked.stdout.lines().find(|line| line.starts_with(option));
        let line = line.unwrap_or_else(|| panic!("no {option} in {}", checked.stdout));
        assert!(line.ends_with(&format!(" # {origin}")), "{line}");
    }
    // And so it serves.
    let mut process = Process::spawn(process::command(flags).envs(variables));
    let line = process.line_with("fanfare starts");
    assert!(line.contains("shards=3") && line.contains(file.path()), "{line}");
    assert!(process.line_with("outbox_bytes").contains("outbox_bytes=2MiB"));
    assert_eq!(Http::connect(process.address()).get("/health").status, 200);
}

#[test]
fn a_file_says_everything_a_server_needs() {
    let file = TempFile::new(
        "[server]\nlisten = '127.0.0.1:0'\nshards = 2\npublic_url = 'wss://live.example'\n\
         [log]\nlog = 'json'\n\
         [classes.ticker]\npolicy = 'conflate'\n[classes.chat]\nhistory = { messages = 9, bytes = '9KiB', ttl = '9m' }\n\
         [[topics]]\nprefix = 'prices.'\nclass = 'ticker'\n[[topics]]\nname = 'lobby'\nclass = 'chat'\n\
         [[topics]]\nprefix = 'rooms.'\nclass = 'chat'\n",
    );
    let mut process = Process::spawn(&mut process::command(["--config", file.path()]));
    let line = process.line_with("topic classes");
    let line: serde_json::Value = serde_json::from_str(&line).expect("each line is a JSON object");
    assert_eq!((&line["classes"], &line["rules"]), (&3.into(), &3.into()), "{line}");
    let listens: serde_json::Value =
        serde_json::from_str(&process.line_with("\"listening\"")).expect("each line is a JSON object");
    let address = listens["address"].as_str().and_then(|address| address.parse().ok());
    let mut http = Http::connect(address.expect("it says where it listens"));
    let answer = http.post("/register", r#"{"user_id":1}"#);
    assert!(answer.text().starts_with(r#"{"url":"wss://live.example/ws/"#), "{}", answer.text());
    drop(http);
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn without_a_file_there_is_the_default_class() {
    let mut process = Process::start(&["--shards=1"]);
    let line = process.line_with("topic classes");
    assert!(line.contains("classes=1") && line.contains("rules=0"), "{line}");
}

#[test]
fn what_is_not_right_exits_with_2_and_says_where() {
    for (content, parts) in [
        ("[server]\n\nshrds = 1", &[":3: server.shrds: unknown field `shrds`", "`shards`"][..]),
        ("[servers]\n", &[":1: servers: unknown field `servers`", "`server`"]),
        ("[server]\nshards = 'two'", &[":2: server.shards: ", "a whole number"]),
        ("[server]\nshards = 0", &[":2: server.shards: invalid value '0': 1 to 64 is allowed"]),
        ("[clients]\n\n\nping_interval = '25'", &[":4: clients.ping_interval: invalid value '25'", "25s"]),
        (
            "[[topics]]\nname = 'a'\nclass = 'none'",
            &[":3: topics.class: invalid value 'none'", "[classes.none]"],
        ),
        ("[[topics]]\nclass = 'default'", &[":1: [[topics]]: it has neither name nor prefix"]),
        (
            "[classes.a]\noutbox_bytes = '9MiB'",
            &[":2: classes.a.outbox_bytes: invalid value '9MiB'", "to 1MiB"],
        ),
        ("server = [", &[":1: "]),
    ] {
        let file = TempFile::new(content);
        let started = process::run(&["--config", file.path()]);
        let checked = check(&[file.path()], &[]);
        assert_eq!((started.code, checked.code), (Some(2), Some(2)), "{content:?}");
        assert_eq!(started.stderr, checked.stderr, "both say the same");
        assert_eq!((&*started.stdout, &*checked.stdout), ("", ""));
        assert!(started.stderr.starts_with(&format!("error: {}:", file.path())), "{}", started.stderr);
        for part in parts {
            assert!(started.stderr.contains(part), "{part:?} is missing in {}", started.stderr);
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_exits_with_2_and_is_named() {
    let not_text = TempFile::new(b"[server]\nlisten = '\xff'");
    for (path, why) in [
        ("no/such/file.toml", "No such file"),
        (env!("CARGO_TARGET_TMPDIR"), "directory"),
        (not_text.path(), "not UTF-8"),
        ("/dev/zero", "longer than 4MiB"),
    ] {
        for ended in
            [process::run(&["--config", path]), check(&[path], &[]), check(&[], &[("FANFARE_CONFIG", path)])]
        {
            assert_eq!(ended.code, Some(2), "{path}: {}", ended.stderr);
            assert!(ended.stderr.contains(&format!("cannot read {path}: ")), "{}", ended.stderr);
            assert!(ended.stderr.contains(why), "{}", ended.stderr);
        }
    }
}

#[test]
fn a_variable_that_is_not_right_is_named() {
    let file = TempFile::new("[messages]\nmax_message = '1MiB'\nmax_body = '1MiB'\n");
    let ended = check(&[], &[("FANFARE_SHARDS", "65")]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("invalid value '65' for 'FANFARE_SHARDS': 1 to 64"), "{}", ended.stderr);
    // What does not fit together is said of the one of them that may be changed.
    let ended = check(&[file.path()], &[("FANFARE_MAX_BODY", "2MiB")]);
    assert!(ended.stderr.contains("'2MiB' for 'FANFARE_MAX_BODY': 6148KiB to"), "{}", ended.stderr);
}

#[test]
fn a_variable_that_is_no_option_is_warned_of_by_name_and_never_by_value() {
    let variables = [
        ("FANFARE_MAX_BODDY", "ffk_a-value-that-is-not-shown"),
        ("FANFARE_ORIGIN", "https://a.example"),
        ("FANFARE_SERVICE_HOST", "10.0.0.1"),
        ("FANFARE_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
    ];
    let checked = check(&[], &variables);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let mut command = process::command(["--listen=127.0.0.1:0", "--shards=1", "--admin-listen=off"]);
    let mut process = Process::spawn(command.envs(variables));
    process.address();
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    let log = process.whole_log().join("\n");
    for said in [&checked.stderr, &log] {
        for part in ["FANFARE_MAX_BODDY", "did you mean FANFARE_MAX_BODY?", "did you mean FANFARE_ORIGINS?"] {
            assert!(said.contains(part), "{part} in {said}");
        }
        for part in ["not-shown", "a.example", "SERVICE_HOST", "8000_TCP"] {
            assert!(!said.contains(part), "{part} in {said}");
        }
    }
}

#[test]
fn the_named_file_goes_before_that_of_the_environment() {
    let (named, other) = (TempFile::new("[server]\nshards = 2\n"), TempFile::new("[server]\nshards = 3\n"));
    for arguments in [[named.path()].as_slice(), &["--config", named.path()]] {
        let ended = check(arguments, &[("FANFARE_CONFIG", other.path())]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains("shards = 2"), "{}", ended.stdout);
    }
    let ended = check(&[], &[("FANFARE_CONFIG", "")]);
    assert_eq!(ended.code, Some(0), "an empty variable names no file");
    let ended = check(&["--config", named.path(), other.path()], &[]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("takes one file"), "{}", ended.stderr);
}

#[test]
fn the_default_configuration_is_right_and_changes_nothing() {
    // The environment does not count here: a default is a default.
    let mut command = process::command(["default-config"]);
    let printed = process::end_of(command.env("FANFARE_PUBLISH_WAIT", "1s"));
    assert_eq!((printed.code, &*printed.stderr), (Some(0), ""));
    let file = TempFile::new(&printed.stdout);
    let values = |ended: Ended| {
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let lines = ended.stdout.lines().map(|line| line.split(" #").next().unwrap_or_default().trim_end());
        lines.skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let (with, without) = (values(check(&[file.path()], &[])), values(check(&[], &[])));
    assert!(without.len() > 20, "{without:?}");
    assert_eq!(with, without);
    // What is in force with it is a file too.
    let in_force = TempFile::new(check(&[file.path()], &[]).stdout);
    assert_eq!(values(check(&[in_force.path()], &[])), without);
    let mut process = Process::start(&["--config", file.path()]);
    assert_eq!(Http::connect(process.address()).get("/health").status, 200);
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let mut command = Command::new("sh");
    // The shell's exit code is that of the binary, which finds its output closed.
    command.args(["-c", "{ \"$0\" default-config; echo $? >&2; } | true", env!("CARGO_BIN_EXE_fanfare")]);
    let ended = process::end_of(&mut command);
    assert_eq!(ended.stderr.trim(), "0");
}
