//! `POST /publish`: a publish object in JSON.

use fanfare::{limits, settings::Settings};
use serde_json::json;

use crate::support::{serve, shards};

#[test]
fn publish_answers_topic_offset_and_epoch_and_offsets_count_up() {
    serve(shards(3), |server| {
        let _keeps_the_record = server.client(&["cats", "a\"b"]);
        let mut http = server.http();
        let mut publish = |topic: &str| {
            let answer = http.post("/publish", &json!({"topic": topic, "message": "x"}).to_string());
            assert_eq!(answer.status, 200);
            let said = answer.json();
            assert_eq!(said.as_object().expect("an object").len(), 3, "{said}");
            assert_eq!(said["topic"], topic);
            let epoch = said["epoch"].as_str().expect("a text").to_owned();
            (said["offset"].as_u64().expect("an integer"), epoch)
        };
        let (first, epoch) = publish("cats");
        for n in 1..50 {
            assert_eq!(publish("cats"), (first + n, epoch.clone()));
        }
        let (other, other_epoch) = publish("a\"b");
        assert_eq!(other, first, "each topic counts for itself");
        assert_ne!(other_epoch, epoch);
        assert_eq!(publish("cats").0, first + 50);
    });
}

#[test]
fn every_subscriber_on_every_shard_gets_the_message_and_nothing_around_it() {
    serve(shards(3), |server| {
        let mut clients: Vec<_> = (0..6).map(|_| server.client(&["cats"])).collect();
        assert!(!server.subscribers().contains(&0), "they are spread over the shards");
        let mut stranger = server.client(&["dogs"]);
        let mut http = server.http();
        http.publish("cats", "are awesome");
        http.publish("dogs", "too");
        clients.iter_mut().for_each(|client| client.expect_text("are awesome"));
        stranger.expect_text("too");
    });
}

#[test]
fn publisher_that_waits_for_each_answer_is_seen_in_its_order_across_topics() {
    serve(shards(3), |server| {
        let topics: Vec<_> = (0..8).map(|n| format!("topic {n}")).collect();
        let names: Vec<_> = topics.iter().map(String::as_str).collect();
        let mut clients: Vec<_> = (0..3).map(|_| server.client(&names)).collect();
        let mut http = server.http();
        for n in 0..400 {
            http.publish(&topics[n % 8], &n.to_string());
        }
        for client in &mut clients {
            (0..400).for_each(|n| client.expect_text(&n.to_string()));
        }
    });
}

#[test]
fn topic_nobody_has_is_as_good_as_any() {
    serve(shards(2), |server| {
        let mut http = server.http();
        http.publish("nobody", "x");
        assert_eq!(server.total().matched, 0);
    });
}

#[test]
fn body_that_is_no_publish_object_is_refused_and_published_to_nobody() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        let mut http = server.http();
        let too_long = format!(r#"{{"topic":"{}","message":"x"}}"#, "t".repeat(limits::TOPIC_BYTES_MAX + 1));
        for bad in [
            "",
            "cats",
            "[]",
            r#"{"topic":"cats"}"#,
            r#"{"message":"x"}"#,
            r#"{"topic":"","message":"x"}"#,
            r#"{"topic":"a\u0007","message":"x"}"#,
            r#"{"topic":1,"message":"x"}"#,
            r#"{"topic":"cats","message":1}"#,
            r#"{"topic":"cats","message":null}"#,
            r#"{"topic":"cats","message":"x"}y"#,
            r#"{"topic":"cats","message":"x","message":"x"}"#,
            r#"{"topic":"cats","message":"\ud800"}"#,
            r#"{"topic":"cats","message":"x","user_id":-1}"#,
            r#"{"topic":"cats","message":"x","user_id":""}"#,
            r#"{"topic":"cats","message":"x","exclude":"me"}"#,
            &too_long,
        ] {
            http.post("/publish", bad).expect_error(400, "bad_request");
        }
        let not_utf8 = b"{\"topic\":\"cats\",\"message\":\"\xff\"}";
        http.post_as("/publish", None, not_utf8).expect_error(400, "bad_request");
        http.publish("cats", "end");
        client.expect_text("end");
    });
}

#[test]
fn unknown_field_is_passed_over_as_deep_as_it_may_be() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        let mut http = server.http();
        let nested = |depth: usize| {
            let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            format!(r#"{{"later":{value},"topic":"cats","message":"depth {depth}"}}"#)
        };
        assert_eq!(http.post("/publish", &nested(limits::JSON_DEPTH_MAX)).status, 200);
        http.post("/publish", &nested(limits::JSON_DEPTH_MAX + 1)).expect_error(400, "bad_request");
        http.post("/publish", &nested(100_000)).expect_error(400, "bad_request");
        client.expect_text(&format!("depth {}", limits::JSON_DEPTH_MAX));
        http.publish("cats", "end");
        client.expect_text("end");
    });
}

#[test]
fn escapes_arrive_as_what_they_stand_for() {
    serve(shards(2), |server| {
        let mut client = server.client(&["größe 🐈"]);
        let mut http = server.http();
        let body =
            r#"{"topic":"gr\u00f6\u00dfe \ud83d\udc08","message":"\"\\\/\b\f\n\r\t\u0000\ud83d\ude00ü"}"#;
        assert_eq!(http.post("/publish", body).json()["topic"], "größe 🐈");
        client.expect_text("\"\\/\u{8}\u{c}\n\r\t\0😀ü");
    });
}

#[test]
fn messages_of_every_size_arrive_exactly() {
    serve(shards(2), |server| {
        let mut clients = [server.client(&["cats"]), server.client(&["cats"])];
        let mut http = server.http();
        let large = limits::LARGE_FRAME_BYTES;
        let sizes =
            [0, 1, 125, 126, 4_095, 4_096, large - 5, large - 4, large, 65_535, limits::MESSAGE_BYTES];
        let messages = sizes.map(|size| ('a'..='z').cycle().take(size).collect::<String>());
        for message in &messages {
            http.publish("cats", message);
        }
        for client in &mut clients {
            messages.iter().for_each(|message| client.expect_text(message));
        }
    });
}

#[test]
fn message_is_measured_decoded_and_one_too_large_leaves_the_connection_open() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        let mut http = server.http();
        let body = |message: &str| format!(r#"{{"topic":"cats","message":"{message}"}}"#);
        let most = limits::MESSAGE_BYTES;
        // Six bytes each in the body, one byte each in the message.
        let escaped = r"\u0001".repeat(most);
        assert_eq!(http.post("/publish", &body(&escaped)).status, 200);
        client.expect_text(&"\u{1}".repeat(most));
        let over = http.post("/publish", &body(&"x".repeat(most + 1)));
        over.expect_error(413, "message_too_large");
        http.post("/publish", &body(&format!("{escaped}x"))).expect_error(413, "message_too_large");
        http.publish("cats", "end");
        client.expect_text("end");
    });
}

#[test]
fn max_message_and_max_body_are_what_the_settings_say() {
    let settings = Settings { max_message: 1_024, max_body: 10_240, ..shards(2) };
    serve(settings, |server| {
        let mut http = server.http();
        http.publish("cats", &"x".repeat(1_024));
        let body = json!({"topic": "cats", "message": "x".repeat(1_025)}).to_string();
        http.post("/publish", &body).expect_error(413, "message_too_large");
        let body = format!(r#"{{"topic":"cats","message":"x"{}}}"#, " ".repeat(10_240));
        http.post("/publish", &body).expect_error(413, "body_too_large");
    });
}

#[test]
fn body_of_two_mebibytes_is_refused_whether_it_says_its_length_or_not() {
    serve(shards(2), |server| {
        let body = format!(r#"{{"topic":"cats","message":"{}"}}"#, "x".repeat(2 << 20));
        for path in ["/publish", "/register"] {
            let mut http = server.http();
            let answer = http.post(path, &body);
            answer.expect_error(413, "body_too_large");
            assert_eq!(answer.header("connection"), Some("close"), "the rest of the body is not read");
            http.expect_end();

            let mut http = server.http();
            let host = server.address();
            http.send(format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"));
            for chunk in body.as_bytes().chunks(100_000) {
                http.send(format!("{:x}\r\n", chunk.len()));
                http.send(chunk);
                http.send("\r\n");
            }
            http.send("0\r\n\r\n");
            http.answer().expect_error(413, "body_too_large");
            http.expect_end();
        }
    });
}

#[test]
fn chunked_body_is_a_body() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        let mut http = server.http();
        let head = "POST /publish HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for piece in [head, "10\r\n{\"topic\":\"cats\",\r\n", "f\r\n\"message\":\"hi\"}\r\n", "0\r\n\r\n"] {
            http.send(piece);
        }
        assert_eq!(http.answer().status, 200);
        client.expect_text("hi");
    });
}

#[test]
fn body_is_json_or_says_nothing_of_what_it_is() {
    serve(shards(2), |server| {
        let mut http = server.http();
        let body = br#"{"topic":"cats","message":"x"}"#;
        for good in [None, Some("application/json"), Some("Application/JSON; charset=UTF-8")] {
            assert_eq!(http.post_as("/publish", good, body).status, 200);
        }
        for bad in ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream", "json"] {
            http.post_as("/publish", Some(bad), body).expect_error(415, "unsupported_media_type");
        }
    });
}
