//! Who is let in: origins of pages, who proves nothing, and where a server listens that asks nothing.

use std::sync::Arc;

use fanfare::{
    auth::{Anonymous, ApiKey, KeyHash, Keys, PageOrigins, Scope},
    settings::Settings,
};

use crate::support::{WebSocket, file::TempFile, process, serve, shards};

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
    let open = |server: &crate::support::Running| WebSocket::open(server.address(), "/ws?topics=cats", &[]);
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
