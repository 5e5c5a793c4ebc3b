//! Who is let in: origins of pages, who proves nothing, and where a server listens that asks nothing.

use std::sync::Arc;

use fanfare::{
    auth::{Anonymous, ApiKey, KeyHash, Keys, PageOrigins, Scope},
    settings::Settings,
};

use crate::{
    keys::{keyed, register},
    support::{
        Running, WebSocket,
        file::TempFile,
        process, serve, shards,
        token::{ruled, taking_tokens, token},
        v1::{V1, say},
    },
};
use serde_json::json;

const PAGE: (&str, &str) = ("Origin", "https://app.example.com");
const OTHER: (&str, &str) = ("Origin", "https://evil.example");

fn with_origins(settings: Settings) -> Settings {
    let origins = PageOrigins::parse(["https://app.example.com"].into_iter()).expect("it is one");
    Settings { origins, ..settings }
}

fn with_key(settings: Settings) -> Settings {
    let hash = KeyHash::of(b"a-key-that-nobody-has");
    let key = ApiKey { name: "a".into(), scopes: Scope::ALL.into_iter().collect(), hash, file: None };
    Settings { keys: Arc::new(Keys::new(vec![key])), ..settings }
}

#[test]
fn pages_of_other_origins_open_no_socket_and_whoever_is_no_browser_does() {
    serve(with_origins(shards(2)), |server| {
        let id = server.register(&["cats"]);
        for path in [format!("/ws/{id}"), "/ws".to_owned()] {
            let open = |headers: &[(&str, &str)]| WebSocket::open(server.address(), &path, headers);
            assert!(open(&[]).is_ok(), "{path}: nobody says which page");
            assert!(open(&[PAGE]).is_ok(), "{path}");
            open(&[OTHER]).unwrap_err().expect_error(403, "forbidden");
            open(&[("Origin", "null")]).unwrap_err().expect_error(403, "forbidden");
        }
        // Not before what is wrong with the rest of the request.
        let unknown = "/ws/0123456789abcdef0123456789abcdef";
        WebSocket::open(server.address(), unknown, &[OTHER]).unwrap_err().expect_error(404, "not_found");
        WebSocket::open(server.address(), "/ws?topics=%0a", &[OTHER])
            .unwrap_err()
            .expect_error(400, "bad_request");
        // The calls are for any page, as without a list: they carry nothing by themselves.
        let answer = server.http().request("POST", "/register", &[OTHER], br#"{"user_id":1}"#);
        assert_eq!(answer.status, 200);
    });
}

#[test]
fn with_keys_nobody_connects_without_registering_unless_it_is_allowed() {
    let open = |server: &Running| WebSocket::open(server.address(), "/ws?topics=cats", &[]);
    serve(with_key(shards(1)), |server| open(server).unwrap_err().expect_error(401, "unauthorized"));
    serve(Settings { anonymous: Anonymous::Allow, ..with_key(shards(1)) }, |server| {
        assert!(open(server).is_ok());
    });
    serve(shards(1), |server| {
        assert!(open(server).is_ok());
    });
    serve(Settings { anonymous: Anonymous::Refuse, ..shards(1) }, |server| {
        assert!(open(server).is_ok());
    });
}

#[test]
fn a_server_that_asks_nothing_does_not_listen_where_others_reach_it() {
    let key = "[[keys]]\nname='a'\nscopes=['admin']\n\
               hash='sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'";
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let refused = process::run(&["--listen", listen]);
        assert_eq!((refused.code, &*refused.stdout), (Some(2), ""));
        let what_to_do = ["[[keys]]", "fanfare key", "127.0.0.1", "--insecure-open", "for '--listen'"];
        for part in what_to_do {
            assert!(refused.stderr.contains(part), "no {part} in {}", refused.stderr);
        }
        let check =
            |flags: &[&str]| process::run(&[&["check-config", "--listen", listen], flags].concat()).code;
        assert_eq!(check(&["--insecure-open"]), Some(0));
        assert_eq!(check(&["--insecure-open=false"]), Some(2));
        let file = TempFile::new(key);
        assert_eq!(check(&["--config", file.path()]), Some(0));
    }
    for listen in ["127.0.0.1:0", "[::1]:0", "127.9.9.9:1"] {
        assert_eq!(process::run(&["check-config", "--listen", listen]).code, Some(0));
    }
}

/// A client of fanfare.v1 without topics, behind its greeting.
fn client(server: &Running, path: &str) -> WebSocket {
    let offer = ("Sec-WebSocket-Protocol", V1);
    let mut client = WebSocket::open(server.address(), path, &[offer]).expect("it is let in");
    assert!(client.json()["hello"].is_object());
    client
}

/// What a command comes to: `ok`, or the code of the error.
fn outcome(client: &mut WebSocket, command: &serde_json::Value) -> String {
    let answer = say(client, command);
    answer["error"]["code"].as_str().unwrap_or("ok").to_owned()
}

#[test]
fn topics_are_had_by_whom_their_class_lets_have_them() {
    let settings = Settings { anonymous: Anonymous::Allow, ..keyed(taking_tokens(ruled(shards(2)))) };
    serve(settings, |server| {
        let granted = token("7", &["tk.mine", "pk.x"], &[]);
        let id = register(server, r#"{"user_id":1,"topics":["tk.named","kk.named"]}"#);
        let mut anonymous = client(server, "/ws");
        let mut by_token = client(server, &format!("/ws?token={granted}"));
        let mut registered = client(server, &format!("/ws/{id}"));
        assert!(registered.json()["positions"]["kk.named"].is_object(), "who has the key gave it");
        for (topic, expected) in [
            ("pk.x", ["ok", "ok", "ok"]),
            // What a token says of topics holds for those too that ask for none.
            ("pk.y", ["ok", "forbidden", "ok"]),
            ("tk.mine", ["forbidden", "ok", "forbidden"]),
            ("tk.other", ["forbidden", "forbidden", "forbidden"]),
            ("kk.x", ["forbidden", "forbidden", "forbidden"]),
        ] {
            for (client, expected) in
                [&mut anonymous, &mut by_token, &mut registered].into_iter().zip(expected)
            {
                assert_eq!(outcome(client, &json!({"subscribe": [topic]})), expected, "{topic}");
            }
        }
        // What it has it may keep, and what it gave up is not its own to take again.
        assert_eq!(outcome(&mut registered, &json!({"topics": ["kk.named", "pk.x"]})), "ok");
        assert_eq!(outcome(&mut registered, &json!({"topics": ["tk.named"]})), "forbidden");
        assert_eq!(outcome(&mut registered, &json!({"unsubscribe": ["kk.named"]})), "ok");
        assert_eq!(outcome(&mut registered, &json!({"subscribe": ["kk.named"]})), "forbidden");
        // At the handshake, and in the plain protocol.
        for (topic, query, status) in [
            ("tk.mine", String::new(), 401),
            ("tk.mine", format!("&token={granted}"), 101),
            ("tk.other", format!("&token={granted}"), 403),
            ("kk.x", format!("&token={granted}"), 403),
            ("pk.x", String::new(), 101),
        ] {
            let path = format!("/ws?topics={topic}{query}");
            let came =
                WebSocket::open(server.address(), &path, &[]).map_or_else(|answer| answer.status, |_| 101);
            assert_eq!(came, status, "{path}");
        }
        let mut plain =
            WebSocket::open(server.address(), &format!("/ws?token={granted}"), &[]).expect("let in");
        plain.set_topics(&["tk.mine", "pk.x"]);
        plain.send_text(r#"{"topics":["tk.other"]}"#);
        plain.expect_error("forbidden");
    });
}

#[test]
fn topics_are_published_to_by_whom_their_class_lets_publish() {
    let settings = Settings { anonymous: Anonymous::Allow, ..keyed(taking_tokens(ruled(shards(2)))) };
    serve(settings, |server| {
        let id = register(server, r#"{"user_id":1,"topics":[]}"#);
        let mut anonymous = client(server, "/ws");
        let mut by_token = client(server, &format!("/ws?token={}", token("7", &[], &["pt.mine", "pp.x"])));
        let mut registered = client(server, &format!("/ws/{id}"));
        for (topic, expected) in [
            ("pp.x", ["ok", "ok", "ok"]),
            ("pp.y", ["ok", "forbidden", "ok"]),
            ("pt.mine", ["forbidden", "ok", "forbidden"]),
            ("pt.other", ["forbidden", "forbidden", "forbidden"]),
            ("pk.x", ["forbidden", "forbidden", "forbidden"]),
        ] {
            for (client, expected) in
                [&mut anonymous, &mut by_token, &mut registered].into_iter().zip(expected)
            {
                let publish = json!({"publish": {"topic": topic, "message": "x"}});
                assert_eq!(outcome(client, &publish), expected, "{topic}");
            }
        }
        // Over HTTP somebody who proves nothing may publish what is open to everyone, where such are let in.
        let mut http = server.http();
        let publish = |http: &mut crate::support::Http, topic: &str| {
            http.post("/publish", &json!({"topic": topic, "message": "x"}).to_string())
        };
        assert_eq!(publish(&mut http, "pp.x").status, 200);
        publish(&mut http, "pt.mine").expect_error(401, "unauthorized");
        publish(&mut http, "pk.x").expect_error(401, "unauthorized");
        // What may be had may be looked at.
        assert_eq!(http.get("/topics/pk.x/history").status, 200);
        http.get("/topics/tk.x/history").expect_error(401, "unauthorized");
        http.get("/topics/tk.x").expect_error(401, "unauthorized");
    });
}
