//! `POST /publish/{topic}`: the body is the message.

use fanfare::limits;

use crate::support::{
    Frame, WebSocket, serve, shards,
    websocket::{BINARY, TEXT},
};

#[test]
fn body_is_the_message_and_the_answer_that_of_publish() {
    serve(shards(3), |server| {
        let mut client = server.client(&["cats"]);
        let mut http = server.http();
        let message = r#"{"not":"read"} größe"#;
        let mut offsets = Vec::new();
        for content_type in [None, Some("text/plain"), Some("text/plain; charset=utf-8")] {
            let said = http.post_as("/publish/cats", content_type, message.as_bytes()).json();
            assert_eq!(said["topic"], "cats");
            assert!(said["epoch"].is_string());
            offsets.push(said["offset"].as_u64().expect("an integer"));
            client.expect_text(message);
        }
        assert_eq!(offsets, [offsets[0], offsets[0] + 1, offsets[0] + 2]);
        let object = http.post("/publish", r#"{"topic":"cats","message":"x"}"#).json();
        assert_eq!(object["offset"], offsets[0] + 3, "both calls count together");
    });
}

#[test]
fn bytes_arrive_in_binary_frames_whatever_they_are() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        let mut http = server.http();
        let all: Vec<u8> = (0..=255).collect();
        for message in [&all[..], b"", b"text", &[0xff; limits::MESSAGE_BYTES]] {
            assert_eq!(http.post_as("/publish/cats", Some("application/octet-stream"), message).status, 200);
            assert_eq!(client.next(), Ok(Frame { opcode: BINARY, payload: message.to_vec() }));
        }
    });
}

#[test]
fn text_is_checked_to_be_utf8_and_may_be_empty() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        let mut http = server.http();
        for content_type in [None, Some("text/plain")] {
            for bad in [&b"\xff"[..], b"a\xc3", b"\xed\xa0\x80"] {
                http.post_as("/publish/cats", content_type, bad).expect_error(400, "bad_request");
            }
        }
        assert_eq!(http.post_as("/publish/cats", None, b"").status, 200);
        assert_eq!(client.next(), Ok(Frame { opcode: TEXT, payload: Vec::new() }));
    });
}

#[test]
fn topic_is_the_rest_of_the_path_percent_decoded() {
    serve(shards(2), |server| {
        let topics = ["a/b", "a b", "a+b", "größe", "50%", "a/", "?", "publish", "/"];
        let mut client = server.client(&topics);
        let mut http = server.http();
        for (path, topic) in [
            ("a/b", "a/b"),
            ("a%2Fb", "a/b"),
            ("a%20b", "a b"),
            ("a+b", "a+b"),
            ("a%2bb", "a+b"),
            ("gr%C3%B6%c3%9fe", "größe"),
            ("50%25", "50%"),
            ("a/", "a/"),
            ("%3F", "?"),
            ("publish?", "publish"),
            ("/", "/"),
        ] {
            let answer = http.post_as(&format!("/publish/{path}"), None, path.as_bytes());
            assert_eq!((answer.status, answer.json()["topic"].as_str()), (200, Some(topic)), "{path}");
            client.expect_text(path);
        }
    });
}

#[test]
fn path_that_is_no_topic_is_refused() {
    serve(shards(2), |server| {
        let mut http = server.http();
        let longest = "t".repeat(limits::TOPIC_BYTES_MAX);
        assert_eq!(http.post_as(&format!("/publish/{longest}"), None, b"x").status, 200);
        for bad in ["", "?user_id=1", "%", "%2", "%zz", "%ff", "%c3", "%00", "a%0ab", &(longest + "t")] {
            http.post_as(&format!("/publish/{bad}"), None, b"x").expect_error(400, "bad_request");
        }
    });
}

#[test]
fn query_says_for_whom_it_is() {
    serve(shards(3), |server| {
        let mut http = server.http();
        let ids = ["1", "1", r#""a b""#]
            .map(|user| http.register(&format!(r#"{{"user_id":{user},"topics":["cats"]}}"#)));
        let mut clients = [&ids[0], &ids[1], &ids[2]].map(|id| server.connect(id));
        let mut publish = |query: String, expected: &[usize]| {
            let message = format!("{query} end");
            let answer = http.post_as(&format!("/publish/cats?{query}"), None, message.as_bytes());
            assert_eq!(answer.status, 200, "{query}");
            expected.iter().for_each(|&at| clients[at].expect_text(&message));
        };
        publish("user_id=1".into(), &[0, 1]);
        publish("user_id=a+b".into(), &[2]);
        publish("user_id=a%20b".into(), &[2]);
        publish("user_id=2".into(), &[]);
        publish(format!("exclude={}", ids[0]), &[1, 2]);
        publish(format!("user_id=1&exclude={}", ids[1].to_uppercase()), &[0]);
        publish(String::new(), &[0, 1, 2]);
    });
}

#[test]
fn query_with_anything_else_is_refused_and_published_to_nobody() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        let mut http = server.http();
        let mut refused = |query: &str, code: &str| {
            http.post_as(&format!("/publish/cats?{query}"), None, b"x").expect_error(400, code);
        };
        for query in ["key=", "idempotency_key=", "receipt=yes", "receipt=true&receipt=true"] {
            refused(query, "bad_request");
        }
        for query in [
            "user=1",
            "user_id=",
            "user_id",
            "user_id=1&user_id=1",
            "exclude=1",
            "user_id=%zz",
            "user_id=%ff",
        ] {
            refused(query, "bad_request");
        }
        http.publish("cats", "end");
        client.expect_text("end");
    });
}

#[test]
fn body_over_the_largest_message_is_refused_whether_it_says_its_length_or_not() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        let most = vec![b'x'; limits::MESSAGE_BYTES];
        assert_eq!(server.http().post_as("/publish/cats", None, &most).status, 200);
        assert_eq!(client.text().len(), most.len());
        for size in [limits::MESSAGE_BYTES + 1, 2 << 20] {
            let body = vec![b'x'; size];
            let mut http = server.http();
            http.post_as("/publish/cats", None, &body).expect_error(413, "message_too_large");
            http.expect_end();

            let mut http = server.http();
            http.send("POST /publish/cats HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            http.send(format!("{size:x}\r\n"));
            http.send(&body);
            http.send("\r\n0\r\n\r\n");
            http.answer().expect_error(413, "message_too_large");
            http.expect_end();
        }
        server.http().publish("cats", "end");
        client.expect_text("end");
    });
}

#[test]
fn client_that_waits_to_be_told_to_go_on_is_told() {
    serve(shards(2), |server| {
        let mut http = server.http();
        let head = |length: usize| {
            format!(
                "POST /publish/cats HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\
                 Content-Length: {length}\r\n\r\n"
            )
        };
        for _ in 0..3 {
            http.send(head(2));
            assert_eq!(http.answer().status, 100);
            http.send("hi");
            assert_eq!(http.answer().status, 200);
        }
        http.send(head(2 << 20));
        http.answer().expect_error(413, "message_too_large");
        http.expect_end();
    });
}

#[test]
fn body_of_another_type_is_refused() {
    serve(shards(2), |server| {
        let mut http = server.http();
        for bad in [
            "application/json",
            "application/x-www-form-urlencoded",
            "text/html",
            "text/plain; charset=latin1",
        ] {
            http.post_as("/publish/cats", Some(bad), b"x").expect_error(415, "unsupported_media_type");
        }
    });
}

#[test]
fn text_and_binary_messages_keep_their_order() {
    serve(shards(2), |server| {
        let mut clients: Vec<WebSocket> = (0..2).map(|_| server.client(&["cats"])).collect();
        let mut http = server.http();
        for n in 0..100_u8 {
            let content_type = if n % 3 == 0 { "application/octet-stream" } else { "text/plain" };
            assert_eq!(http.post_as("/publish/cats", Some(content_type), &[n]).status, 200);
        }
        for client in &mut clients {
            for n in 0..100 {
                let opcode = if n % 3 == 0 { BINARY } else { TEXT };
                assert_eq!(client.next(), Ok(Frame { opcode, payload: vec![n] }));
            }
        }
    });
}

#[test]
fn coded_body_is_refused_and_reaches_nobody() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        let mut http = server.http();
        for (path, kind, body) in [
            ("/publish/cats", "text/plain", "coded"),
            ("/publish/cats", "application/octet-stream", "coded"),
            ("/publish", "application/json", r#"{"topic":"cats","message":"coded"}"#),
            ("/batch", "application/json", r#"[{"topic":"cats","message":"coded"}]"#),
            ("/batch", "application/x-ndjson", r#"{"topic":"cats","message":"coded"}"#),
            ("/register", "application/json", r#"{"user_id":1}"#),
        ] {
            let headers = [("Content-Type", kind), ("Content-Encoding", "gzip")];
            let answer = http.request("POST", path, &headers, body.as_bytes());
            answer.expect_error(415, "unsupported_media_type");
        }
        let headers = [("Content-Type", "text/plain"), ("Content-Encoding", "identity")];
        assert_eq!(http.request("POST", "/publish/cats", &headers, b"plain").status, 200);
        client.expect_text("plain");
    });
}
