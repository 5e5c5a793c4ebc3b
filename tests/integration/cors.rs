//! CORS: a page of any origin may call and read the answer, and none with credentials.

use crate::support::{Answer, serve, shards};

/// What a browser sends along with a call of a page.
const ORIGIN: (&str, &str) = ("Origin", "https://example.com");

#[test]
fn every_answer_may_be_read_by_any_page() {
    serve(shards(2), |server| {
        let mut http = server.http();
        let json = ("Content-Type", "application/json");
        for (method, path, body, status) in [
            ("GET", "/health", "", 200),
            ("HEAD", "/health", "", 200),
            ("POST", "/register", r#"{"user_id":1}"#, 200),
            ("DELETE", "/register/0123456789abcdef0123456789abcdef", "", 200),
            ("POST", "/publish", r#"{"topic":"cats","message":"x"}"#, 200),
            ("POST", "/publish", "x", 400),
            ("POST", "/register", "x", 400),
            ("POST", "/publish/cats", "{}", 415),
            ("GET", "/publish", "", 405),
            ("GET", "/nothing", "", 404),
            ("GET", "/ws/x", "", 426),
        ] {
            let answer = http.request(method, path, &[ORIGIN, json], body.as_bytes());
            assert_eq!(answer.status, status, "{method} {path}");
            assert_open(&answer);
        }
    });
}

#[test]
fn preflight_of_every_call_is_answered() {
    serve(shards(2), |server| {
        let mut http = server.http();
        for (path, methods) in ROUTES {
            let asked = [
                ORIGIN,
                ("Access-Control-Request-Method", "POST"),
                ("Access-Control-Request-Headers", "content-type,authorization,x-else"),
            ];
            let answer = http.request("OPTIONS", path, &asked, b"");
            assert_eq!((answer.status, answer.body.len()), (204, 0), "{path}");
            assert_open(&answer);
            assert_eq!(answer.header("access-control-allow-methods"), Some(methods), "{path}");
            let headers = answer.header("access-control-allow-headers").expect("some headers are allowed");
            for needed in ["*", "Authorization", "Content-Type"] {
                assert!(headers.split(", ").any(|header| header == needed), "{headers}");
            }
            assert!(answer.header("access-control-max-age").is_some());
        }
    });
}

#[test]
fn options_of_no_page_name_the_methods() {
    serve(shards(2), |server| {
        let mut http = server.http();
        for (path, methods) in ROUTES {
            let answer = http.request("OPTIONS", path, &[], b"");
            assert_eq!((answer.status, answer.header("allow")), (204, Some(methods)), "{path}");
            assert_eq!(answer.header("access-control-allow-methods"), None, "{path}");
        }
        assert_eq!(http.request("OPTIONS", "*", &[], b"").status, 204);
        http.request("OPTIONS", "/nothing", &[], b"").expect_error(404, "not_found");
    });
}

const ROUTES: [(&str, &str); 6] = [
    ("/health", "GET, HEAD, OPTIONS"),
    ("/register", "POST, OPTIONS"),
    ("/register/0123456789abcdef0123456789abcdef", "DELETE, OPTIONS"),
    ("/publish", "POST, OPTIONS"),
    ("/publish/a/b", "POST, OPTIONS"),
    ("/ws/0123456789abcdef0123456789abcdef", "GET, OPTIONS"),
];

fn assert_open(answer: &Answer) {
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
    assert_eq!(answer.header("access-control-allow-credentials"), None, "{answer:?}");
}
