//! HTTP itself: health, paths and methods, keep-alive, pipelining, and what is no HTTP.

use std::fmt::Write as _;

use fanfare::limits;
use serde_json::json;

use crate::support::{eventually, serve, shards};

#[test]
fn health_tells_what_became_of_every_frame() {
    serve(shards(2), |server| {
        let mut clients: Vec<_> = (0..3).map(|_| server.client(&["cats"])).collect();
        server.http().publish("cats", "purr");
        clients.iter_mut().for_each(|client| client.expect_text("purr"));
        eventually("three were matched and written", || {
            let health = server.http().get("/health");
            let health: serde_json::Value = serde_json::from_str(health.text()).expect("it is JSON");
            let ledger = &health["ledger"];
            ledger["matched"] == 3 && ledger["written"] == 3 && ledger["queued"] == 0
        });
    });
}

#[test]
fn health_is_ok_and_head_is_health_without_a_body() {
    serve(shards(2), |server| {
        let mut http = server.http();
        let get = http.get("/health");
        assert_eq!(get.status, 200);
        assert!(get.text().starts_with(r#"{"status":"ok","ledger":{"matched":0,"#), "{}", get.text());
        let head = http.request("HEAD", "/health", &[], b"");
        let without_date = |headers: &[(String, String)]| {
            headers.iter().filter(|(name, _)| name != "date").cloned().collect::<Vec<_>>()
        };
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(without_date(&head.headers), without_date(&get.headers));
        assert_eq!(http.get("/health?x=1").status, 200, "nothing came behind the headers");
    });
}

#[test]
fn description_names_every_path_with_the_methods_it_has() {
    serve(shards(1), |server| {
        let mut http = server.http();
        let described: serde_json::Value =
            serde_json::from_str(http.get("/openapi.json").text()).expect("it is JSON");
        let paths = described["paths"].as_object().expect("it has paths");
        for (path, methods) in paths {
            let path = path.replace(['{', '}'], "");
            let methods = methods.as_object().expect("it has methods").keys();
            let allowed =
                http.request("OPTIONS", &path, &[], b"").header("allow").expect("it is there").to_owned();
            for method in methods {
                assert!(allowed.contains(&method.to_uppercase()), "{method} {path}: {allowed}");
            }
        }
        for path in [
            "/health",
            "/register",
            "/publish",
            "/batch",
            "/topics/{topic}",
            "/topics/{topic}/history",
            "/ws",
            "/ws/{id}",
        ] {
            assert!(paths.contains_key(path), "{path}");
        }
    });
}

#[test]
fn path_there_is_not_is_404() {
    serve(shards(2), |server| {
        let mut http = server.http();
        for path in ["/", "/healthy", "/health/", "/Health", "/registers", "/wss", "/publishx/a", "//publish"]
        {
            for method in ["GET", "POST", "DELETE"] {
                http.request(method, path, &[], b"").expect_error(404, "not_found");
            }
        }
    });
}

#[test]
fn method_a_path_has_not_is_405_with_those_it_has() {
    serve(shards(2), |server| {
        let mut http = server.http();
        for (path, allowed) in [
            ("/health", "GET, HEAD, OPTIONS"),
            ("/register", "POST, OPTIONS"),
            ("/register/0123456789abcdef0123456789abcdef", "DELETE, OPTIONS"),
            ("/publish", "POST, OPTIONS"),
            ("/publish/cats", "POST, OPTIONS"),
            ("/batch", "POST, OPTIONS"),
            ("/ws/0123456789abcdef0123456789abcdef", "GET, OPTIONS"),
        ] {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"] {
                if allowed.split(", ").any(|name| name == method) {
                    continue;
                }
                let answer = http.request(method, path, &[], b"");
                answer.expect_error(405, "method_not_allowed");
                assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
            }
            let head = http.request("HEAD", path, &[], b"");
            assert_eq!(head.status, if path == "/health" { 200 } else { 405 }, "HEAD {path}");
        }
    });
}

#[test]
fn connection_is_kept_for_further_requests_until_someone_closes_it() {
    serve(shards(2), |server| {
        let mut http = server.http();
        for n in 0..50 {
            assert_eq!(http.get("/health").status, 200);
            http.publish("cats", &n.to_string());
            assert_eq!(http.get("/nothing").status, 404);
        }
        assert_eq!(http.request("GET", "/health", &[("Connection", "close")], b"").status, 200);
        http.expect_end();

        let mut http = server.http();
        http.send("GET /health HTTP/1.0\r\n\r\n");
        assert_eq!(http.answer().status, 200);
        http.expect_end();

        let mut http = server.http();
        http.send("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(http.answer().header("connection"), Some("keep-alive"));
        assert_eq!(http.get("/health").status, 200);
    });
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    serve(shards(3), |server| {
        let mut client = server.client(&["cats", "dogs"]);
        let mut http = server.http();
        let mut requests = Vec::new();
        for n in 0..200 {
            let topic = if n % 2 == 0 { "cats" } else { "dogs" };
            let body = json!({"topic": topic, "message": n.to_string()}).to_string();
            requests.extend(http.encode("POST", "/publish", &[], body.as_bytes()));
            requests.extend(http.encode("GET", &format!("/nothing/{n}"), &[], b""));
        }
        requests.extend(http.encode("HEAD", "/health", &[], b""));
        requests.extend(http.encode("GET", "/health", &[], b""));
        http.send(&requests);
        for n in 0..200 {
            let published = http.answer();
            assert_eq!(published.json()["topic"], if n % 2 == 0 { "cats" } else { "dogs" });
            http.answer().expect_error(404, "not_found");
        }
        assert_eq!(http.answer_to("HEAD").status, 200);
        assert!(http.answer().text().starts_with(r#"{"status":"ok","#));
        (0..200).for_each(|n| client.expect_text(&n.to_string()));
    });
}

#[test]
fn client_that_has_shut_its_side_down_still_gets_its_answers() {
    serve(shards(2), |server| {
        let mut http = server.http();
        let request = http.encode("GET", "/health", &[], b"");
        http.send([&request[..], &request].concat());
        http.wire().shut_write();
        assert_eq!(http.answer().status, 200);
        assert_eq!(http.answer().status, 200);
        http.expect_end();
    });
}

#[test]
fn request_may_come_byte_by_byte() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        let mut http = server.http();
        let body = json!({"topic": "cats", "message": "slowly"}).to_string();
        for byte in http.encode("POST", "/publish", &[], body.as_bytes()) {
            http.send([byte]);
        }
        assert_eq!(http.answer().status, 200);
        client.expect_text("slowly");
    });
}

#[test]
fn what_is_no_http_is_refused_and_the_connection_closed() {
    serve(shards(2), |server| {
        for bad in [
            "hello\r\n\r\n",
            "GET /health HTTP/9.9\r\n\r\n",
            "GET /health HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET /he alth HTTP/1.1\r\n\r\n",
            "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
            "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab",
            "\u{16}\u{3}\u{1}\r\n\r\n",
        ] {
            let mut http = server.http();
            http.send(bad);
            assert_eq!(http.answer().status, 400, "{bad:?}");
            http.drain();
        }
        assert_eq!(server.http().get("/health").status, 200);
    });
}

#[test]
fn body_that_is_not_chunked_as_it_says_is_refused_and_the_connection_closed() {
    serve(shards(2), |server| {
        let mut http = server.http();
        http.send("POST /publish HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n");
        http.answer().expect_error(400, "bad_request");
        http.drain();
    });
}

#[test]
fn head_too_large_or_of_too_many_lines_is_431() {
    serve(shards(2), |server| {
        let mut lines = String::new();
        (0..limits::HTTP_HEADERS_MAX - 1).for_each(|n| write!(lines, "X-{n}: y\r\n").expect("it takes it"));
        let mut http = server.http();
        http.send(format!("GET /health HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        assert_eq!(http.answer().status, 200);
        http.send(format!("GET /health HTTP/1.1\r\nHost: a\r\n{lines}One: more\r\n\r\n"));
        assert_eq!(http.answer().status, 431);
        http.drain();

        let mut http = server.http();
        let long = "y".repeat(limits::HTTP_HEAD_BYTES);
        http.send(format!("GET /health HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"));
        assert_eq!(http.answer().status, 431);
        http.drain();
    });
}
