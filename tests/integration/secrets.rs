//! Nothing secret is logged: after all calls, good and bad, the log of a server at its most talkative holds no id, no key and no
//! token.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::{
    Http, WebSocket,
    file::TempFile,
    process::{self, Process},
    token::{jwks, now, sign, token},
    v1::V1,
};

const KEY: &str = "ffk_a-key-that-must-not-be-logged";
const WRONG_KEY: &str = "ffk_a-wrong-key-that-must-not-be-logged";

fn configuration(jwks: &TempFile, key: &TempFile) -> String {
    format!(
        "[access]\njwks = '{}'\norigins = ['https://a.example']\n[classes.default]\npublishers = 'token'\n\
         [[keys]]\nname = 'all'\nscopes = ['register', 'publish', 'admin']\nkey_file = '{}'\n",
        jwks.path(),
        key.path()
    )
}

#[test]
fn the_most_talkative_log_holds_no_id_no_key_and_no_token() {
    let (keys, key) = (TempFile::new(jwks()), TempFile::new(KEY));
    let file = TempFile::new(configuration(&keys, &key));
    let flags =
        ["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-level=trace", "--config", file.path()];
    let mut process = Process::spawn(&mut process::command(flags));
    let (address, admin) = (process.address(), process.admin_address());
    let mut http = Http::connect(address);
    let (good, expired) = (token("secretuser", &["*"], &["*"]), sign(&json!({"sub": "x", "exp": now() - 9})));

    let body = br#"{"user_id":"secretuser","topics":["cats"]}"#;
    let register = http.request("POST", "/register", &[("X-Api-Key", KEY)], body);
    let id = register.id();
    let unknown = "0123456789abcdef0123456789abcdef";
    for (key, path, body) in [
        (KEY, "/publish", r#"{"topic":"cats","message":"secretmessage"}"#),
        (WRONG_KEY, "/publish", r#"{"topic":"cats","message":"secretmessage"}"#),
        (KEY, "/publish", "secretmessage"),
        (KEY, "/batch", r#"[{"topic":"cats","message":"secretmessage"}]"#),
        (&expired, "/publish", "{}"),
        (&good, "/publish", r#"{"topic":"cats","message":"secretmessage"}"#),
    ] {
        let bearer = format!("Bearer {key}");
        let headers = [("Authorization", &*bearer), ("Content-Type", "application/json")];
        http.request("POST", path, &headers, body.as_bytes());
    }
    let open = |path: &str, headers: &[(&str, &str)]| WebSocket::open(address, path, headers);
    let offer = ("Sec-WebSocket-Protocol", V1);
    let mut registered = open(&format!("/ws/{id}"), &[]).expect("it is registered");
    let replaced = std::mem::replace(&mut registered, open(&format!("/ws/{id}"), &[offer]).expect("still"));
    drop(replaced);
    registered.send_text(&json!({"auth": good}).to_string());
    let mut by_token = open(&format!("/ws?token={good}&topics=cats"), &[offer]).expect("it is let in");
    by_token.send_text(&json!({"auth": good}).to_string());
    by_token.send_text(&json!({"auth": expired}).to_string());
    by_token.send_text("secretmessage");
    for (path, headers) in [
        (format!("/ws/{unknown}"), &[][..]),
        (format!("/ws/{id}"), &[("Origin", "https://b.example")]),
        (format!("/ws?token={expired}"), &[]),
        (format!("/ws?token={good}x"), &[offer]),
    ] {
        assert!(open(&path, headers).is_err(), "{path}");
    }
    http.delete(unknown);
    operate(admin, &[&id, unknown]);
    assert_eq!(http.delete(&id).status, 200);
    process.signal(rustix::process::Signal::HUP);
    process.line_with("reloaded changed=");
    file.write("[access]\njwks = 'not there'\n");
    process.signal(rustix::process::Signal::HUP);
    process.line_with("nothing is reloaded");
    drop((registered, by_token, http));
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));

    let secrets = [&*id, unknown, &good, signature(&good), &expired, signature(&expired)];
    let secrets =
        secrets.iter().chain(&[KEY, WRONG_KEY, "secretmessage", "secretuser", "a secret of thirty-two"]);
    let log = process.whole_log().join("\n");
    assert!(log.contains("stopped"), "all of it is here: {log}");
    for secret in secrets {
        // Not a part of it either that is long enough to be of use.
        let part = &secret[..secret.len().min(12)];
        assert!(!log.contains(part), "{part} is in the log:\n{log}");
    }
}

/// Calls what operators call, with a good and a wrong key, and closes clients by their ids.
fn operate(admin: SocketAddr, ids: &[&str]) {
    let mut http = Http::connect(admin);
    for key in [KEY, WRONG_KEY] {
        let headers = [("X-Api-Key", key), ("X-Fanfare-Admin", "1")];
        for path in ["/ready", "/metrics", "/topics?top=20", "/clients?slowest=20"] {
            http.request("GET", path, &headers, b"");
        }
        for id in ids {
            http.request("DELETE", &format!("/clients/{id}"), &headers, b"");
        }
    }
}

/// The part of a token that nobody else can make.
fn signature(token: &str) -> &str {
    token.rsplit('.').next().expect("it has three parts")
}

/// What an operator may write where a key does not belong. None of it may come out again, at start or at a reload.
fn misplaced_keys() -> Vec<String> {
    let key = |lines: &str| format!("[[keys]]\nname = 'a'\nscopes = ['admin']\n{lines}\n");
    vec![
        key(&format!("hash = '{KEY}'")),
        key(&format!("hash = 'sha256:{KEY}'")),
        key(&format!("key_file = '{KEY}'")),
        key("hash = 'a-key-without-a-sign-that-it-is-one'"),
        key("key_file = 'a-key-without-a-sign-that-it-is-one'"),
        format!("[[keys]]\nname = '{KEY}'\nscopes = ['admin']\nhash = 'x'\n"),
        format!("[[keys]]\nname = 'a'\nscopes = ['{KEY}']\nhash = 'x'\n"),
        format!("[[keys]]\nname = 'a'\nscopes = '{KEY}'\nhash = 'x'\n"),
        format!("keys = '{KEY}'\n"),
        format!("[admin]\nadmin_listen = '{KEY}'\n"),
        format!("[admin]\nadmin_key_file = '{KEY}'\n"),
        "[admin]\nadmin_key_file = 'a-key-without-a-sign-that-it-is-one'\n".into(),
        "[access]\njwks = '{\"keys\":[{\"kty\":\"oct\",\"k\":\"a-key-without-a-sign-that-it-is-one\"}]}'\n"
            .into(),
        format!("[access]\norigins = ['{KEY}']\n"),
        "[server]\ntls_cert = 'Cargo.toml'\ntls_key = 'a-key-without-a-sign-that-it-is-one'\n".into(),
        "[server]\ntls_key = 'a-key-without-a-sign-that-it-is-one'\n".into(),
    ]
}

fn assert_keeps_secrets(said: &str, written: &str) {
    for secret in ["a-key-that-must", "a-key-without-a-sign"] {
        assert!(!said.contains(secret), "of {written:?} is said: {said}");
    }
}

#[test]
fn a_key_in_a_wrong_place_is_refused_at_the_start_without_being_shown() {
    for text in misplaced_keys() {
        let file = TempFile::new(&text);
        let ended = process::run(&["--listen=127.0.0.1:0", "--config", file.path()]);
        assert_eq!(ended.code, Some(2), "{text:?}");
        assert!(ended.stderr.contains(&format!("{}:", file.path())), "it is told where: {}", ended.stderr);
        assert_keeps_secrets(&ended.stderr, &text);
        assert_keeps_secrets(&ended.stdout, &text);
    }
    for flag in ["admin-key-file", "jwks", "tls-key"] {
        let ended = process::run(&["--listen=127.0.0.1:0", &format!("--{flag}={KEY}")]);
        assert_eq!(ended.code, Some(2), "{flag}");
        assert!(ended.stderr.contains(&format!("--{flag}")), "{}", ended.stderr);
        assert!(ended.stderr.contains("this is a key itself"), "{}", ended.stderr);
        assert_keeps_secrets(&ended.stderr, flag);
    }
}

#[test]
fn a_key_in_a_wrong_place_is_refused_at_a_reload_without_being_logged() {
    let file = TempFile::new("");
    let mut process =
        Process::spawn(&mut process::command(["--listen=127.0.0.1:0", "--config", file.path()]));
    process.address();
    let texts = misplaced_keys();
    for text in &texts {
        file.write(text);
        process.signal(rustix::process::Signal::HUP);
        let line = process.next_line_with("nothing is reloaded");
        assert_keeps_secrets(&line, text);
    }
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    let log = process.whole_log().join("\n");
    assert_eq!(log.matches("nothing is reloaded").count(), texts.len(), "{log}");
    assert_keeps_secrets(&log, "any of it");
}
