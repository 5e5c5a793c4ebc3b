//! Command line and file together: what goes before what, what is allowed, and what is printed.

use std::sync::Arc;

use super::*;
use crate::{
    classes::{Class, Classes},
    limits,
    settings::AdminSettings,
};

/// What flags and the text of a file come to, or what is said about them.
fn config(flags: &[&str], file: &str) -> Result<Config, String> {
    let cli = Cli::try_parse_from([&["fanfare"], flags].concat()).map_err(|error| error.to_string())?;
    let file = File::parse("f.toml".into(), file.to_owned()).map_err(|error| error.to_string())?;
    Config::checked(cli, Some(file)).map_err(|error| error.to_string())
}

fn settings(flags: &[&str]) -> Result<Settings, String> {
    config(flags, "").map(|config| config.settings)
}

/// What is in force, without where it came from.
fn values(config: &Config) -> String {
    let text = config.to_string();
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim_end());
    lines.filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

/// The default settings, with the node's bounds written out in the default class.
fn default_settings() -> Settings {
    let settings = Settings::default();
    let default = Class::default_with(settings.outbox_bytes, settings.outbox_age);
    Settings { classes: Arc::new(Classes::only(default)), admin: Some(AdminSettings::default()), ..settings }
}

#[test]
fn without_anything_it_is_the_default_settings() {
    let config = Config::read(&Cli::try_parse_from(["fanfare"]).unwrap()).unwrap();
    assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 8000)));
    assert_eq!(format!("{:?}", config.settings), format!("{:?}", default_settings()));
    assert_eq!(config.log, LogOptions { format: LogFormat::Text, filter: "info".into() });
}

#[test]
fn every_option_can_be_given_in_the_file() {
    let file = r#"
        [server]
        listen = "[::1]:9000"
        shards = 3
        public_url = "wss://a.example"
        drain_delay = "10s"
        drain_duration = "20s"
        trusted_proxies = ["10.0.0.0/8", "2001:db8::1"]
        proxy_protocol = true
        tls_cert = ""
        tls_key = ""
        [clients]
        default_topics = ["a", "b"]
        max_topics_per_client = 7
        registration_ttl = "1h"
        registration_grace = "2h"
        ping_interval = "3s"
        pong_timeout = "2s"
        max_connection_age = "4h"
        [messages]
        max_message = "2KiB"
        max_body = "2MiB"
        outbox_bytes = "3MiB"
        outbox_age = "4s"
        memory = "2GiB"
        publish_wait = "0"
        [limits]
        max_connections = 5000
        max_connections_per_ip = 20
        handshakes_per_second = 400
        handshakes_per_second_per_ip = 3
        commands_per_second = 11
        commands_burst = 22
        max_registrations = 33
        max_topics = 44
        [sockets]
        socket_unsent = "5KiB"
        socket_send_buffer = "6KiB"
        [access]
        anonymous = "refuse"
        jwks = "JWKS"
        token_issuer = "https://id.example"
        token_audience = "us"
        token_leeway = "7s"
        origins = ["https://a.example", "http://b:1"]
        insecure_open = true
        [admin]
        admin_listen = "[::1]:9001"
        admin_key_file = ""
        admin_host = ["a.example", "b"]
        [log]
        log = "json"
        log_level = "debug"
    "#;
    let jwks = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokens/jwks.json");
    let file = &file.replace("JWKS", jwks);
    let described = cli::described();
    let given = config(&[], file).unwrap();
    for option in &described {
        let origin = given.origins.of(&option.id);
        assert!(matches!(origin, origins::Origin::File(_)), "{} was given as {origin:?}", option.id);
    }
    // Every value arrives, and in its own place.
    let trimmed: String =
        file.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
    assert!(values(&given).starts_with(&trimmed), "{}", values(&given));
}

#[test]
fn flags_go_before_the_file_and_the_file_before_the_defaults() {
    let file = "[server]\nshards = 3\n[messages]\noutbox_bytes = '2MiB'";
    let config = config(&["--shards=5"], file).unwrap();
    assert_eq!(config.settings.shards, 5);
    assert_eq!(config.settings.outbox_bytes, 2 << 20);
    assert_eq!(config.settings.max_message, limits::MESSAGE_BYTES);
    let text = config.to_string();
    for (option, origin) in
        [("shards = 5", "--shards"), ("outbox_bytes = \"2MiB\"", "line 4"), ("max_message", "default")]
    {
        let line = text.lines().find(|line| line.starts_with(option)).expect(option);
        assert!(line.ends_with(&format!("# {origin}")), "{line}");
    }
}

#[test]
fn a_flag_may_mend_what_the_file_says() {
    let file = "[server]\nshards = 99";
    assert_eq!(config(&["--shards=5"], file).unwrap().settings.shards, 5);
    let error = config(&[], file).unwrap_err();
    assert_eq!(error, "f.toml:2: server.shards: invalid value '99': 1 to 64 is allowed");
}

#[test]
fn a_complaint_names_what_can_be_changed() {
    let error = config(&["--max-message=1MiB"], "[messages]\n\nmax_body = '2MiB'").unwrap_err();
    assert!(error.starts_with("f.toml:3: messages.max_body: invalid value '2MiB': 6148KiB to"), "{error}");
    let error = config(&[], "[messages]\nmax_message = '1MiB'").unwrap_err();
    assert!(error.starts_with("invalid value '1MiB' for '--max-body'"), "{error}");
    assert!(error.ends_with("the value is the default"), "{error}");
}

#[test]
fn the_default_file_changes_nothing() {
    let config = config(&[], &default_file()).unwrap();
    assert_eq!(config.listen, LISTEN);
    assert_eq!(format!("{:?}", config.settings), format!("{:?}", default_settings()));
    assert_eq!(config.log, LogOptions::default());
}

#[test]
fn the_default_file_names_every_option_and_all_of_it_may_be_taken() {
    let text = default_file();
    let taken: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|letter: char| letter != ' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = config(&[], &taken).unwrap();
    for option in cli::described() {
        assert!(
            matches!(config.origins.of(&option.id), origins::Origin::File(_)),
            "{} is missing",
            option.id
        );
    }
    let classes = &config.settings.classes;
    assert_eq!((classes.iter().count(), classes.rule_count()), (2, 2));
    assert!(classes.iter().all(|class| class.name.contains("ticker") || class.history.is_some()));
    assert!(text.lines().all(|line| line.len() <= 116), "no line is too long");
}

#[test]
fn what_is_in_force_can_be_read_back() {
    let file = "
        [server]
        public_url = 'wss://a.example/'
        [clients]
        default_topics = ['a,b', 'it''s \"x\" # no comment']
        [classes.ticker]
        policy = 'conflate'
        outbox_bytes = '256KiB'
        outbox_age = '30s'
        publishers = 'public'
        history = { messages = 7, bytes = '100KiB', ttl = '10m' }
        [[topics]]
        name = 'a\"b\\c'
        class = 'ticker'
        [[topics]]
        prefix = 'x.'
        class = 'ticker'
        [[keys]]
        name = 'ops'
        scopes = ['admin', 'publish']
        hash = 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    "
    .replace("it''s", "its");
    let first = config(&["--shards=3", "--log-level=info,fanfare=debug"], &file).unwrap();
    let second = config(&[], &first.to_string()).unwrap();
    assert_eq!(values(&first), values(&second));
    let classes = (&first.settings.classes, &second.settings.classes);
    assert!(classes.0.iter().eq(classes.1.iter()));
    assert_eq!(classes.0.rules(), classes.1.rules());
    assert_eq!(first.settings.default_topics, second.settings.default_topics);
    assert_eq!(first.settings.keys, second.settings.keys);
}

#[test]
fn topics_are_a_list_or_none() {
    let topics = |text: &str| {
        let settings = settings(&["--default-topics", text])?;
        Ok::<_, String>(
            settings.default_topics.iter().map(|topic| topic.as_str().to_owned()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(topics("a, b,a").unwrap(), ["a", "b"]);
    assert_eq!(topics("").unwrap(), Vec::<String>::new());
    assert!(topics("a,,b").unwrap_err().contains("topic 2 of the list"));
    assert!(
        settings(&["--default-topics=a,b", "--max-topics-per-client=1"]).unwrap_err().contains("at most 1")
    );
    let none = config(&[], "[clients]\ndefault_topics = []").unwrap();
    assert!(none.settings.default_topics.is_empty());
}

#[test]
fn values_out_of_range_are_told_with_flag_value_and_what_is_allowed() {
    for (args, parts) in [
        (&["--shards=0"][..], &["--shards", "'0'", "1 to 64"][..]),
        (&["--shards=65"], &["--shards", "'65'", "1 to 64"]),
        (&["--shards=x"], &["--shards", "'x'", "whole number"]),
        (&["--listen=localhost"], &["--listen", "'localhost'", "127.0.0.1:8000"]),
        (&["--trusted-proxies=10.0.0.1/8"], &["--trusted-proxies", "'10.0.0.1/8'", "behind its prefix"]),
        (&["--trusted-proxies=::1,proxy"], &["--trusted-proxies", "'proxy'", "2001:db8::/32"]),
        (&["--proxy-protocol"], &["--proxy-protocol", "there are none"]),
        (&["--max-topics-per-client=1025"], &["--max-topics-per-client", "1 to 1024"]),
        (&["--registration-ttl=60"], &["--registration-ttl", "'60'", "25s"]),
        (&["--registration-ttl=0"], &["--registration-ttl", "1ms to 168h"]),
        (&["--registration-grace=200h"], &["--registration-grace", "0 to 168h"]),
        (&["--max-message=64k"], &["--max-message", "'64k'", "64KiB"]),
        (&["--max-message=100"], &["--max-message", "'100'", "1KiB to 8MiB"]),
        (&["--max-message=256KiB"], &["--max-body", "'1MiB'", "1540KiB", "6 x --max-message"]),
        (&["--max-body=64KiB"], &["--max-body", "'64KiB'", "388KiB to 64MiB"]),
        (&["--outbox-bytes=32KiB"], &["--outbox-bytes", "'32KiB'", "131092 to"]),
        (&["--outbox-bytes=1GiB"], &["--outbox-bytes", "'1GiB'"]),
        (&["--outbox-age=999ms"], &["--outbox-age", "'999ms'", "1s to 1h"]),
        (&["--outbox-age=3600001ms"], &["--outbox-age", "1s to 1h"]),
        (&["--publish-wait=61s"], &["--publish-wait", "0 to 1m"]),
        (&["--max-connections=x"], &["--max-connections", "'x'", "whole number"]),
        (&["--max-connections-per-ip=100000001"], &["--max-connections-per-ip", "0 to 100000000"]),
        (&["--handshakes-per-second=1000001"], &["--handshakes-per-second", "0 to 1000000"]),
        (&["--handshakes-per-second-per-ip=1000001"], &["--handshakes-per-second-per-ip", "0 to 1000000"]),
        (&["--commands-per-second=0"], &["--commands-per-second", "1 to 1000000"]),
        (&["--commands-burst=1000001"], &["--commands-burst", "1 to 1000000"]),
        (&["--max-registrations=0"], &["--max-registrations", "1 to 10000000"]),
        (&["--max-topics=0"], &["--max-topics", "1 to 100000000"]),
        (&["--socket-unsent=1KiB"], &["--socket-unsent", "4KiB to 64MiB"]),
        (&["--socket-send-buffer=1KiB"], &["--socket-send-buffer", "4KiB to 64MiB", "or 0"]),
        (&["--ping-interval=50ms"], &["--ping-interval", "100ms to 1h", "0 for no pings"]),
        (&["--ping-interval=2h"], &["--ping-interval", "'2h'"]),
        (&["--pong-timeout=25s"], &["--pong-timeout", "'25s'", "10ms to 24999ms", "--ping-interval"]),
        (&["--admin-listen=localhost"], &["--admin-listen", "'localhost'", "127.0.0.1:8001, or off"]),
        (&["--admin-host=a:1"], &["--admin-host", "'a:1'", "without a port"]),
        (&["--admin-host=a,,b"], &["--admin-host", "'a,,b'"]),
        (
            &["--admin-key-file=/nowhere/key"],
            &["--admin-key-file", "for '--admin-key-file'", "cannot be read"],
        ),
        (&["--admin-key-file=Cargo.toml"], &["--admin-key-file", "16 to 512 visible"]),
        (&["--admin-listen=0.0.0.0:1"], &["--admin-listen", "needs a key", "openssl", "--admin-key-file"]),
        (&["--admin-listen=[::]:1", "--admin-host=a"], &["--admin-listen", "needs a key"]),
        (&["--log-level=inof"], &["--log-level", "'inof'", "info,fanfare=debug"]),
        (&["--log=xml"], &["--log", "'xml'", "text", "json"]),
    ] {
        let error = settings(args).expect_err(&format!("{args:?} is not allowed"));
        assert!(parts.iter().all(|part| error.contains(part)), "{args:?} says only: {error}");
    }
}

#[test]
fn relations_between_values_are_kept() {
    let small = settings(&["--outbox-bytes=256KiB"]).unwrap();
    assert_eq!(small.outbox_bytes, 256 << 10);
    let large = settings(&["--max-message=256KiB", "--max-body=2MiB", "--outbox-bytes=4MiB"]).unwrap();
    assert_eq!(large.max_message, 256 << 10);
    let silent = settings(&["--ping-interval=0", "--pong-timeout=10s"]).unwrap();
    assert!(silent.ping_interval.is_zero());
    let longest = ["--max-message=8MiB", "--max-body=64MiB", "--outbox-bytes=31MiB"];
    assert!(settings(&longest).is_ok(), "the largest message can be allowed at all");
    assert!(settings(&["--outbox-age=1h"]).is_ok_and(|settings| settings.outbox_age.as_secs() == 3_600));
}

#[test]
fn admin_listener_is_required_only_if_somebody_asked_for_it() {
    let admin = |flags: &[&str]| settings(flags).unwrap().admin;
    assert!(admin(&["--admin-listen=off"]).is_none());
    let default = admin(&[]).expect("there is one");
    assert_eq!((default.listen, default.required), (AdminSettings::LISTEN, false));
    let asked =
        admin(&["--admin-listen=127.0.0.1:8001", "--admin-host=Ops.Example,b"]).expect("there is one");
    assert_eq!((asked.listen, asked.required), (AdminSettings::LISTEN, true));
    assert_eq!(*asked.hosts, ["ops.example", "b"]);
    assert!(admin(&["--admin-listen=127.9.9.9:1"]).is_some(), "all of 127.0.0.0/8 is loopback");
    let off = config(&[], "[admin]\nadmin_listen = 'off'").unwrap();
    assert!(off.settings.admin.is_none() && off.to_string().contains("admin_listen = \"off\""));
}

#[test]
fn public_url_is_a_websocket_url_without_the_rest() {
    let url = |text: &str| settings(&["--public-url", text]).map(|settings| settings.public_url);
    assert_eq!(url("wss://a.example").unwrap().as_deref(), Some("wss://a.example"));
    assert_eq!(url("ws://a.example:81/live//").unwrap().as_deref(), Some("ws://a.example:81/live"));
    assert_eq!(url("").unwrap(), None);
    for bad in
        ["a.example", "http://a", "wss://", "wss:///x", "wss://a?x=1", "wss://a/#x", "wss://u@a", "wss://a b"]
    {
        assert!(url(bad).unwrap_err().contains("--public-url"), "{bad}");
    }
}

#[test]
fn examples_in_the_docs_are_right() {
    let (readme, limits) = (include_str!("../../README.md"), include_str!("../../docs/LIMITS.md"));
    let examples = |text: &'static str| -> Vec<_> {
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
    };
    let (readme, limits) = (examples(readme), examples(limits));
    assert_eq!((readme.len(), limits.len()), (2, 2));
    for example in readme.into_iter().chain(limits) {
        config(&[], example).unwrap_or_else(|error| panic!("{error} in\n{example}"));
    }
}
