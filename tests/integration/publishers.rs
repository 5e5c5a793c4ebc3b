//! Whose an idempotency key is: publishers that choose the same one neither hinder nor answer each other, and a publisher is
//! the same one whichever way it comes.

use std::sync::Arc;

use fanfare::{
    auth::{Anonymous, ApiKey, KeyHash, Keys, Scope},
    node::Wishes,
    publication::{IdempotencyKey, Message, Publisher},
    settings::Settings,
    topic::Topic,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Answer, Http, WebSocket,
    file::TempFile,
    process::{self, Process},
    serve, shards,
    token::{now, ruled, sign, taking_tokens, token},
    v1,
};

const REGISTER: &str = "a-secret-with-which-one-registers";
const SECRETS: [&str; 2] = ["a-secret-of-the-first-publisher", "a-secret-of-the-other-publisher"];
/// A topic to which anybody may publish.
const TOPIC: &str = "pp.x";

/// Settings of a server that knows two publishers by their keys and users by their tokens, and lets in everybody else.
fn settings() -> Settings {
    let key = |name: &str, secret: &str, scope| ApiKey {
        name: name.into(),
        scopes: [scope].into_iter().collect(),
        hash: KeyHash::of(secret.as_bytes()),
        file: None,
    };
    let keys = vec![
        key("front", REGISTER, Scope::Register),
        key("one", SECRETS[0], Scope::Publish),
        key("other", SECRETS[1], Scope::Publish),
    ];
    let settings = taking_tokens(ruled(shards(2)));
    Settings { keys: Arc::new(Keys::new(keys)), anonymous: Anonymous::Allow, ..settings }
}

fn object(message: &str) -> Value {
    json!({"topic": TOPIC, "message": message, "idempotency_key": "k"})
}

/// Publishes with a header that says who does, or with none.
fn post(http: &mut Http, who: Option<&(&str, String)>, path: &str, body: &str) -> Answer {
    let who = who.map(|(name, value)| (*name, &**value));
    let content_type = if path.starts_with("/publish/") { "text/plain" } else { "application/json" };
    let headers: Vec<_> = [("Content-Type", content_type)].into_iter().chain(who).collect();
    http.request("POST", path, &headers, body.as_bytes())
}

/// Publishes on a socket; where it stands.
fn say(client: &mut WebSocket, message: &str) -> Value {
    v1::say(client, &json!({"publish": object(message), "id": 1}))["position"]["offset"].clone()
}

#[test]
fn publishers_with_the_same_key_all_publish_and_each_is_answered_for_its_own() {
    serve(settings(), |server| {
        let mut http = server.http();
        let registering = Some(("X-Api-Key", REGISTER.to_owned()));
        let mut register = |body: &str| post(&mut http, registering.as_ref(), "/register", body).id();
        let mut audience = server.connect(&register(&json!({"user_id": 1, "topics": [TOPIC]}).to_string()));
        let of_user_8 = register(r#"{"user_id":8,"topics":[]}"#);

        let bearer = |value: &str| ("Authorization", format!("Bearer {value}"));
        let publishers = [
            Some(("X-Api-Key", SECRETS[0].to_owned())),
            Some(bearer(SECRETS[1])),
            Some(bearer(&token("7", &[], &[]))),
            Some(bearer(&token("8", &[], &[]))),
            None,
        ];
        let messages = ["m1", "m2", "m3", "m4", "m5"];
        for ((publisher, message), at) in publishers.iter().zip(messages).zip(1..) {
            let answer = post(&mut http, publisher.as_ref(), "/publish", &object(message).to_string());
            assert_eq!(answer.json()["offset"], at, "{message}");
            audience.expect_text(message);
        }
        for ((publisher, message), at) in publishers.iter().zip(messages).zip(1..) {
            let mut again = |path: &str, body: &str| post(&mut http, publisher.as_ref(), path, body);
            assert_eq!(again("/publish", &object(message).to_string()).json()["offset"], at, "{message}");
            let raw = again(&format!("/publish/{TOPIC}?idempotency_key=k"), message);
            assert_eq!(raw.json()["offset"], at, "{message}");
            let batch = again("/batch", &format!("[{}]", object(message)));
            assert_eq!(batch.json()["results"][0]["offset"], at, "{message}");
            again("/publish", &object("another").to_string()).expect_error(409, "conflict");
        }
        // A user is the same one with the next token, and on a socket.
        let next = sign(&json!({"sub": "7", "exp": now() + 1_800}));
        let answer = post(&mut http, Some(&bearer(&next)), "/publish", &object("m3").to_string());
        assert_eq!(answer.json()["offset"], 3);
        let socket = |path: &str| {
            let mut client = v1::connect(server, path);
            assert!(client.json()["hello"].is_object());
            client
        };
        assert_eq!(say(&mut socket(&format!("/ws?token={next}")), "m3"), 3);
        assert_eq!(say(&mut socket(&format!("/ws/{of_user_8}")), "m4"), 4);
        // Who says on its socket who it is has been nobody before.
        let mut late = socket("/ws");
        assert_eq!(say(&mut late, "m5"), 5);
        assert_eq!(v1::say(&mut late, &json!({"auth": next, "id": 2})), json!({"ok": 2}));
        assert_eq!(say(&mut late, "m3"), 3);
        assert_eq!(post(&mut http, None, &format!("/publish/{TOPIC}"), "end").status, 200);
        audience.expect_text("end");
    });
}

#[test]
fn a_publisher_whose_key_is_changed_by_a_reload_is_still_the_same() {
    let table = |name: &str, secret: &str| {
        let hash = KeyHash::of(secret.as_bytes());
        format!("[[keys]]\nname = '{name}'\nscopes = ['publish']\nhash = '{hash}'\n")
    };
    let file = TempFile::new(table("backend", SECRETS[0]));
    let mut process =
        Process::spawn(&mut process::command(["--listen=127.0.0.1:0", "--config", file.path()]));
    let mut http = Http::connect(process.address());
    let mut publish = |secret: &str| {
        post(&mut http, Some(&("X-Api-Key", secret.to_owned())), "/publish", &object("m").to_string())
    };
    let first = publish(SECRETS[0]).json();
    file.write(table("backend", SECRETS[1]) + &table("another", SECRETS[0]));
    process.signal(Signal::HUP);
    process.line_with("reloaded changed=");
    assert_eq!(publish(SECRETS[1]).json(), first, "it has the name of the first");
    assert_eq!(publish(SECRETS[0]).json()["offset"], 2, "what was its key is another's now");
}

#[test]
fn the_program_of_a_node_is_a_publisher_of_its_own_and_may_publish_for_others() {
    serve(shards(2), |server| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let program = |message: &str, publisher: Publisher| {
            let idempotency_key = Some(IdempotencyKey::parse("k").expect("a key"));
            let wishes = Wishes { idempotency_key, publisher, ..Wishes::default() };
            let topic = Topic::parse(TOPIC).expect("a topic");
            let published = server.node().publish_to([topic], Message::text(message), wishes);
            let published = runtime.block_on(published).expect("it is taken");
            published[0].outcome.expect("there is room").position.offset
        };
        let mut http = server.http();
        assert_eq!(
            post(&mut http, None, "/publish", &object("of a stranger").to_string()).json()["offset"],
            1
        );
        assert_eq!(program("of the program", Publisher::default()), 2);
        assert_eq!(program("of the program", Publisher::Program), 2);
        assert_eq!(program("of a stranger", Publisher::Anonymous), 1);
    });
}
