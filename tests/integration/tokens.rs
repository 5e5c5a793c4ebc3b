//! Tokens of clients: where they come in, whom they say the client is, and what becomes of it when they end.

use fanfare::settings::Settings;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Answer, Running, WebSocket,
    file::TempFile,
    process::{self, Process},
    serve, shards,
    token::{jwks, now, ruled, sign, taking_tokens, token},
    v1::{V1, say},
};

const OFFER: (&str, &str) = ("Sec-WebSocket-Protocol", V1);

fn settings() -> Settings {
    taking_tokens(shards(2))
}

fn open(server: &Running, query: &str, headers: &[(&str, &str)]) -> Result<WebSocket, Answer> {
    WebSocket::open(server.address(), &format!("/ws{query}"), headers)
}

/// A client of fanfare.v1 behind its greeting, and what that said of its user.
fn greeted(server: &Running, query: &str, headers: &[(&str, &str)]) -> (WebSocket, Value) {
    let mut client = open(server, query, &[headers, &[OFFER]].concat()).expect("it is let in");
    let hello = client.json();
    let user = hello["hello"]["user"].clone();
    if query.contains("topics=") {
        client.json();
    }
    (client, user)
}

/// Publishes to the clients of user 7 alone, in the process of the server: whatever the calls ask for.
fn publish_to_user(server: &Running, topic: &str, text: &str) {
    use fanfare::{
        identity::User,
        publication::{Audience, Content, Message},
        topic::Topic,
    };
    let audience = Audience { user: Some(User::number(7)), ..Audience::default() };
    let content = Content { message: Message::text(text), audience, key: None };
    let publish = server.node().publish(Topic::parse(topic).expect("it is a topic"), content);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(publish).expect("it is taken");
}

#[test]
fn a_token_in_the_query_or_in_a_header_says_whose_client_it_is() {
    serve(settings(), |server| {
        let token = token("7", &[], &[]);
        let bearer = format!("Bearer {token}");
        let mut plain = open(server, &format!("?topics=cats&token={token}"), &[]).expect("it is let in");
        let (mut v1, user) = greeted(server, "?topics=cats", &[("Authorization", &bearer)]);
        assert_eq!(user, 7);
        publish_to_user(server, "cats", "for seven");
        plain.expect_text("for seven");
        assert_eq!(v1.json()["message"], "for seven");
        // It chooses its topics as any client does.
        plain.set_topics(&["dogs"]);
        publish_to_user(server, "dogs", "still seven");
        plain.expect_text("still seven");
    });
}

#[test]
fn what_is_no_good_is_refused_behind_all_other_faults_and_not_looked_at_where_it_is_not_needed() {
    serve(settings(), |server| {
        let expired = sign(&json!({"sub": "7", "exp": now() - 1}));
        for bad in [&*expired, "x", "a.b.c", ""] {
            let refused = open(server, &format!("?token={bad}"), &[]).unwrap_err();
            refused.expect_error(401, "unauthorized");
            let challenge = refused.header("www-authenticate").expect("how to do it");
            assert!(challenge.contains("invalid_token"), "{challenge}");
            open(server, &format!("?topics=%00&token={bad}"), &[])
                .unwrap_err()
                .expect_error(400, "bad_request");
        }
        open(server, "", &[("Authorization", &format!("Bearer {expired}"))])
            .unwrap_err()
            .expect_error(401, "unauthorized");
        let good = token("7", &[], &[]);
        let both = open(server, &format!("?token={good}"), &[("Authorization", &format!("Bearer {good}"))]);
        both.unwrap_err().expect_error(400, "bad_request");
        open(server, "", &[]).unwrap_err().expect_error(401, "unauthorized");
        let answer = server.http().get(&format!("/ws?token={expired}"));
        answer.expect_error(426, "upgrade_required");
    });
    // A registered client is who it was registered as.
    let with_key = crate::keys::keyed(settings());
    serve(with_key, |server| {
        let id = crate::keys::register(server, r#"{"user_id":1,"topics":["cats"]}"#);
        let path = format!("/ws/{id}?token=x");
        assert!(WebSocket::open(server.address(), &path, &[("Authorization", "Bearer x")]).is_ok());
    });
    // And where nothing is asked for nobody looks.
    serve(shards(1), |server| assert!(open(server, "?token=x", &[]).is_ok()));
}

#[test]
fn a_client_whose_token_ends_is_closed() {
    serve(settings(), |server| {
        // Time enough for a handshake on a machine that is busy.
        let soon = || sign(&json!({"sub": "7", "exp": now() + 5}));
        let mut plain = open(server, &format!("?token={}", soon()), &[]).expect("it is let in");
        let (mut v1, _) = greeted(server, &format!("?token={}", soon()), &[]);
        let (mut longer, _) = greeted(server, &format!("?token={}", token("7", &[], &[])), &[]);
        plain.expect_close(1008, "auth expired");
        v1.read_to_close(1008);
        assert_eq!(say(&mut longer, &json!({"ping": 1})), json!({"pong": 1}), "nobody else is");
        assert_eq!(server.total().closed_policy, 2);
    });
}

#[test]
fn a_token_is_refreshed_on_the_socket_for_the_same_user_only() {
    serve(settings(), |server| {
        let soon = || format!("?token={}", sign(&json!({"sub": "7", "exp": now() + 5})));
        let (mut client, _) = greeted(server, &soon(), &[]);
        let refresh = json!({"auth": token("7", &[], &[]), "id": "r"});
        assert_eq!(say(&mut client, &refresh), json!({"ok": "r"}));
        let (mut other, _) = greeted(server, &soon(), &[]);
        let refused = say(&mut other, &json!({"auth": token("8", &[], &[]), "id": 1}));
        assert_eq!((&refused["error"]["code"], &refused["error"]["id"]), (&json!("forbidden"), &json!(1)));
        let refused = say(&mut other, &json!({"auth": "no.such.token"}));
        assert_eq!(refused["error"]["code"], "unauthorized");
        // The one that was not refreshed is closed, and the other is still there then.
        other.read_to_close(1008);
        assert_eq!(say(&mut client, &json!({"ping": 1})), json!({"pong": 1}));
    });
}

#[test]
fn a_client_may_send_its_token_on_the_socket_and_may_do_nothing_before() {
    serve(settings(), |server| {
        let (mut client, user) = greeted(server, "", &[]);
        assert_eq!(user, Value::Null);
        for command in [
            json!({"subscribe": ["cats"], "id": 1}),
            json!({"topics": ["cats"], "id": 1}),
            json!({"publish": {"topic": "cats", "message": "x"}, "id": 1}),
        ] {
            let refused = say(&mut client, &command);
            assert_eq!(refused["error"]["code"], "unauthorized", "{command}");
            assert_eq!(refused["error"]["id"], 1, "{command}");
        }
        assert_eq!(say(&mut client, &json!({"ping": 1})), json!({"pong": 1}));
        assert_eq!(say(&mut client, &json!({"auth": token("7", &[], &[]), "id": 2})), json!({"ok": 2}));
        assert_eq!(say(&mut client, &json!({"subscribe": ["cats"], "id": 3}))["ok"], 3);
        publish_to_user(server, "cats", "for seven");
        assert_eq!(client.json()["message"], "for seven");
        // Whoever cannot send one, or wants topics at once, has to prove it at once.
        open(server, "", &[]).unwrap_err().expect_error(401, "unauthorized");
        open(server, "?topics=cats", &[OFFER]).unwrap_err().expect_error(401, "unauthorized");
    });
}

#[test]
fn a_client_that_sends_no_token_in_time_is_closed() {
    let auth_wait = std::time::Duration::from_millis(50);
    serve(Settings { auth_wait, ..settings() }, |server| {
        let (mut client, _) = greeted(server, "", &[]);
        client.read_to_close(4401);
    });
}

#[test]
fn a_registered_client_takes_no_token_and_neither_does_a_server_without_keys_for_them() {
    serve(crate::keys::keyed(settings()), |server| {
        let id = crate::keys::register(server, r#"{"user_id":1}"#);
        let mut client =
            WebSocket::open(server.address(), &format!("/ws/{id}"), &[OFFER]).expect("it is known");
        assert!(client.json()["hello"].is_object() && client.json()["positions"].is_object());
        let refused = say(&mut client, &json!({"auth": token("1", &[], &[])}));
        assert_eq!(refused["error"]["code"], "forbidden");
    });
    serve(shards(1), |server| {
        let (mut client, _) = greeted(server, "", &[]);
        assert_eq!(say(&mut client, &json!({"auth": "x"}))["error"]["code"], "unsupported");
    });
}

#[test]
fn tokens_publish_what_they_grant_over_http_too_and_register_nobody() {
    serve(ruled(settings()), |server| {
        let bearer = format!("Bearer {}", token("7", &[], &["pt.mine", "pt.room.*", "pp.x"]));
        let auth = ("Authorization", &*bearer);
        let mut http = server.http();
        let mut post = |path: &str, body: &str| {
            http.request("POST", path, &[auth, ("Content-Type", "application/json")], body.as_bytes())
        };
        let object = |topic: &str| json!({"topic": topic, "message": "x"}).to_string();
        for (topic, status) in [
            ("pt.mine", 200),
            ("pt.room.1", 200),
            ("pp.x", 200),
            ("pp.other", 403),
            ("pt.other", 403),
            ("pk.x", 403),
            ("other", 403),
        ] {
            assert_eq!(post("/publish", &object(topic)).status, status, "{topic}");
        }
        let several = json!({"topics": ["pt.mine", "pt.other"], "message": "x"}).to_string();
        post("/publish", &several).expect_error(403, "forbidden");
        let batch = format!("[{},{}]", object("pt.mine"), object("pt.other"));
        let results = post("/batch", &batch).json();
        assert_eq!(results["results"][0]["offset"], 2, "{results}");
        assert_eq!(results["results"][1]["error"]["code"], "forbidden", "{results}");
        post("/register", r#"{"user_id":7}"#).expect_error(403, "forbidden");
    });
}

#[test]
fn a_key_set_is_rotated_by_a_reload_and_those_who_are_connected_stay() {
    let set = TempFile::new(jwks());
    let flags = ["--listen=127.0.0.1:0", "--shards=1", "--jwks", set.path()];
    let mut process = Process::spawn(&mut process::command(flags));
    let address = process.address();
    let path = format!("/ws?token={}", token("7", &[], &[]));
    let mut client = WebSocket::open(address, &path, &[]).expect("it is let in");
    // The same name, another secret.
    set.write(jwks().replace(r#""k":""#, r#""k":"AAAA"#));
    process.signal(Signal::HUP);
    process.line_with("reloaded changed=1");
    let line = process.line_with("option=jwks, kid ");
    assert!(line.contains("HS256 key after=another HS256 key"), "{line}");
    WebSocket::open(address, &path, &[]).unwrap_err().expect_error(401, "unauthorized");
    client.set_topics(&["cats"]);
    set.write("{}");
    process.signal(Signal::HUP);
    let line = process.line_with("nothing is reloaded");
    assert!(line.contains("--jwks") && line.contains("no JSON Web Key Set"), "{line}");
}
