//! API keys: which call needs which scope, and what is said to whom has none.

use std::{process::Stdio, sync::Arc};

use fanfare::{
    auth::{ApiKey, KeyHash, Keys, Scope, keys::is_usable},
    settings::Settings,
};
use rustix::process::Signal;

use crate::support::{
    Answer, Http, Running, WebSocket,
    file::TempFile,
    process::{self, Ended, Process},
    serve, shards, v1,
};

const REGISTER: &str = "a-secret-with-which-one-registers";
const PUBLISH: &str = "a-secret-with-which-one-publishes";
const ADMIN: &str = "a-secret-with-which-one-operates";

/// Settings with a key for each scope.
pub(crate) fn keyed(settings: Settings) -> Settings {
    let key = |name: &str, secret: &str, scope| ApiKey {
        name: name.into(),
        scopes: [scope].into_iter().collect(),
        hash: KeyHash::of(secret.as_bytes()),
        file: None,
    };
    let keys = vec![
        key("front", REGISTER, Scope::Register),
        key("back", PUBLISH, Scope::Publish),
        key("ops", ADMIN, Scope::Admin),
    ];
    Settings { keys: Arc::new(Keys::new(keys)), ..settings }
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A call with a key in a header, or with none.
fn call(http: &mut Http, (method, path, body): (&str, &str, &str), key: Option<(&str, &str)>) -> Answer {
    let headers: Vec<_> = [JSON].into_iter().chain(key).collect();
    http.request(method, path, &headers, body.as_bytes())
}

/// Registers a client with the key for it; its id.
pub(crate) fn register(server: &Running, body: &str) -> String {
    call(&mut server.http(), ("POST", "/register", body), Some(("X-Api-Key", REGISTER))).id()
}

#[test]
fn each_call_needs_the_scope_it_needs() {
    serve(keyed(v1::classes(shards(2))), |server| {
        let mut http = server.http();
        let calls = [
            (("POST", "/register", r#"{"user_id":1}"#), &[REGISTER][..]),
            (("POST", "/publish", r#"{"topic":"hats","message":"x"}"#), &[PUBLISH]),
            (("POST", "/batch", r#"[{"topic":"hats","message":"x"}]"#), &[PUBLISH]),
            (("GET", "/topics/hats", ""), &[REGISTER, PUBLISH, ADMIN]),
            (("GET", "/topics/hats/history", ""), &[REGISTER, PUBLISH, ADMIN]),
        ];
        for (what, enough) in calls {
            let answer = call(&mut http, what, None);
            answer.expect_error(401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="fanfare""#));
            let answer = call(&mut http, what, Some(("X-Api-Key", "a-secret-that-is-not-known")));
            answer.expect_error(401, "unauthorized");
            assert!(answer.header("www-authenticate").is_some_and(|value| value.contains("invalid_token")));
            for secret in [REGISTER, PUBLISH, ADMIN] {
                for key in [("X-Api-Key", secret), ("Authorization", &*format!("Bearer {secret}"))] {
                    let answer = call(&mut http, what, Some(key));
                    match enough.contains(&secret) {
                        true => assert_eq!(answer.status, 200, "{what:?} {answer:?}"),
                        false => answer.expect_error(403, "forbidden"),
                    }
                }
            }
        }
        let raw =
            |http: &mut Http, headers: &[(&str, &str)]| http.request("POST", "/publish/hats", headers, b"x");
        raw(&mut http, &[]).expect_error(401, "unauthorized");
        assert_eq!(raw(&mut http, &[("X-Api-Key", PUBLISH)]).status, 200);
        // What needs none: whether it lives, what there is, and to go.
        for path in ["/health", "/openapi.json"] {
            assert_eq!(http.get(path).status, 200, "{path}");
        }
        assert_eq!(http.delete("0123456789abcdef0123456789abcdef").status, 200);
    });
}

#[test]
fn a_registered_client_needs_no_key_and_gets_what_is_published_with_one() {
    serve(keyed(shards(2)), |server| {
        let mut http = server.http();
        let body = r#"{"user_id":1,"topics":["cats"]}"#;
        let id = call(&mut http, ("POST", "/register", body), Some(("X-Api-Key", REGISTER))).id();
        let mut client = server.connect(&id);
        client.set_topics(&["dogs"]);
        let publish = ("POST", "/publish", r#"{"topic":"dogs","message":"woof"}"#);
        assert_eq!(call(&mut http, publish, Some(("X-Api-Key", PUBLISH))).status, 200);
        client.expect_text("woof");
        assert_eq!(http.delete(&id).status, 200, "who knows the id may give it up");
        client.expect_close(1000, "unregistered");
    });
}

#[test]
fn what_is_addressed_to_one_user_is_in_the_history_of_admins_only() {
    serve(keyed(v1::classes(shards(2))), |server| {
        let mut http = server.http();
        for body in [r#"{"topic":"h","message":"all"}"#, r#"{"topic":"h","message":"one","user_id":1}"#] {
            assert_eq!(call(&mut http, ("POST", "/publish", body), Some(("X-Api-Key", PUBLISH))).status, 200);
        }
        let mut shown = |secret| {
            let answer = call(&mut http, ("GET", "/topics/h/history", ""), Some(("X-Api-Key", secret)));
            let messages = answer.json()["messages"].clone();
            messages
                .as_array()
                .expect("a list")
                .iter()
                .map(|kept| kept["message"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(ADMIN), ["all", "one"]);
        assert_eq!(shown(PUBLISH), ["all"]);
    });
}

#[test]
fn new_key_goes_alone_to_standard_output_and_its_table_to_standard_error() {
    let Ended { code, stdout, stderr } = process::run(&["key"]);
    assert_eq!(code, Some(0), "{stderr}");
    let key = stdout.strip_suffix('\n').expect("a line");
    assert!(key.starts_with("ffk_") && is_usable(key), "{stdout}");
    assert!(!stderr.contains(&key["ffk_".len()..]), "{stderr}");
    assert!(stderr.contains(&format!("hash = \"{}\"", KeyHash::of(key.as_bytes()))), "{stderr}");

    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let status =
        process::command(["key"]).stdout(nowhere).stderr(Stdio::null()).status().expect("it was built");
    assert_eq!(status.code(), Some(1), "a key that nobody got");
}

#[test]
fn a_key_is_made_configured_and_rotated_by_a_reload_without_a_connection_noticing() {
    let made = || {
        let ended = process::run(&["key"]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        (ended.stdout.trim_end().to_owned(), ended.stderr)
    };
    let [(first, first_table), (second, second_table)] = [made(), made()];
    assert_ne!(first, second);
    let file = TempFile::new(first_table);
    let mut process =
        Process::spawn(&mut process::command(["--listen=127.0.0.1:0", "--config", file.path()]));
    let address = process.address();
    let mut http = Http::connect(address);
    let register = ("POST", "/register", r#"{"user_id":1,"topics":["cats"]}"#);
    call(&mut http, register, Some(("X-Api-Key", &second))).expect_error(401, "unauthorized");
    let id = call(&mut http, register, Some(("X-Api-Key", &first))).id();
    let mut client = WebSocket::connect(address, &id).expect("it is registered");

    // The second key lies in a file of its own.
    let key_file = TempFile::new(format!("{second}\n"));
    let hash = second_table.lines().find(|line| line.starts_with("hash")).expect("there is one");
    file.write(second_table.replace(hash, &format!("key_file = '{}'", key_file.path())));
    process.signal(Signal::HUP);
    process.line_with("reloaded changed=1");
    let line = process.line_with("option=keys.change-me.key");
    assert!(line.contains("before=hash after=key from a file"), "{line}");
    call(&mut http, register, Some(("X-Api-Key", &first))).expect_error(401, "unauthorized");
    let publish = ("POST", "/publish", r#"{"topic":"cats","message":"purr"}"#);
    assert_eq!(call(&mut http, publish, Some(("X-Api-Key", &second))).status, 200);
    client.expect_text("purr");
}
