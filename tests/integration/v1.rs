//! The protocol `fanfare.v1`: greeting, commands and their answers, messages with positions, gaps.

use std::thread;

use fanfare::settings::Settings;
use serde_json::{Value, json};

use crate::support::{
    Running, WebSocket, eventually, serve, shards,
    v1::{V1, classes, client, connect, say},
    websocket::BINARY,
};

#[test]
fn greeting_comes_first_and_says_who_and_where() {
    serve(shards(2), |server| {
        let id = server.register(&["cats"]);
        server.http().publish("cats", "before");
        let mut client = connect(server, &format!("/ws/{id}"));
        let hello = client.json();
        let node = server.node().name();
        let expected = json!({ "hello": {
            "node": node, "client": id, "ping_s": 25, "max_message": 65536, "user": 1
        }});
        assert_eq!(hello, expected);
        let ok = client.json();
        assert_eq!(ok["positions"]["cats"]["offset"], 1, "{ok}");
        assert!(ok["positions"]["cats"]["epoch"].as_str().is_some_and(|epoch| epoch.starts_with(node)));
        server.http().publish("cats", "after");
        assert_eq!(client.json(), json!({ "topic": "cats", "offset": 2, "message": "after" }));
    });
}

#[test]
fn subprotocol_is_selected_only_where_it_is_offered() {
    serve(shards(1), |server| {
        let mut plain = WebSocket::speak(server.address(), "/ws?topics=cats", "chat", None).expect("plain");
        server.http().publish("cats", "just this");
        plain.expect_text("just this");
        let refused = WebSocket::speak(server.address(), "/ws?topic=cats", V1, Some(V1));
        refused.expect_err("a misspelt parameter").expect_error(400, "bad_request");
    });
}

#[test]
fn topics_are_subscribed_unsubscribed_and_replaced_with_answers_in_order() {
    serve(shards(3), |server| {
        let mut client = client(server, "");
        let mut http = server.http();
        let ok = say(&mut client, &json!({ "subscribe": ["a", "b", "c"], "id": 1 }));
        assert_eq!(ok["ok"], 1);
        assert_eq!(ok["positions"].as_object().map(serde_json::Map::len), Some(3), "{ok}");
        for topic in ["a", "b", "c"] {
            http.publish(topic, topic);
            assert_eq!(client.json(), json!({ "topic": topic, "offset": 1, "message": topic }));
        }
        assert_eq!(
            say(&mut client, &json!({ "unsubscribe": ["b", "x"], "id": "two" })),
            json!({ "ok": "two" })
        );
        http.publish("b", "not any more");
        let ok = say(&mut client, &json!({ "subscribe": ["c", "d"], "id": 3 }));
        assert_eq!(
            (&ok["positions"]["c"]["offset"], &ok["positions"]["d"]["offset"]),
            (&json!(1), &json!(0))
        );
        http.publish("a", "still");
        assert_eq!(client.json()["topic"], "a");
        let ok = say(&mut client, &json!({ "topics": ["b"], "id": 4 }));
        assert_eq!(ok["positions"]["b"]["offset"], 2, "{ok}");
        http.publish("a", "not any more");
        http.publish("b", "again");
        assert_eq!(client.json(), json!({ "topic": "b", "offset": 3, "message": "again" }));
        assert_eq!(say(&mut client, &json!({ "ping": 1.50 })), json!({ "pong": 1.5 }));
        assert_eq!(say(&mut client, &json!({ "topics": [], "id": 5 }))["ok"], 5);
    });
}

#[test]
fn registration_keeps_the_topics_of_its_last_connection() {
    serve(shards(2), |server| {
        let id = server.register(&["a"]);
        let mut first = connect(server, &format!("/ws/{id}"));
        (0..2).for_each(|_| drop(first.json()));
        assert_eq!(say(&mut first, &json!({ "subscribe": ["b"], "id": 1 }))["ok"], 1);
        assert_eq!(say(&mut first, &json!({ "unsubscribe": ["a"], "id": 2 }))["ok"], 2);
        first.close();
        let mut second = connect(server, &format!("/ws/{id}"));
        second.json();
        assert_eq!(second.json()["positions"].as_object().map(serde_json::Map::len), Some(1));
        server.http().publish("b", "kept");
        assert_eq!(second.json()["message"], "kept");
    });
}

#[test]
fn what_is_no_command_is_answered_with_an_error_and_its_id() {
    serve(Settings { max_topics_per_client: 2, ..shards(1) }, |server| {
        let mut client = client(server, "a");
        for (command, id) in [
            (r#"{"subscribe":["b","c","d"],"id":1}"#, json!(1)),
            (r#"{"subscribe":["b","c"],"id":2}"#, json!(2)),
            (r#"{"subscribe":["\u0000"],"id":3}"#, json!(3)),
            (r#"{"fly":true,"id":4}"#, json!(4)),
            ("ping", Value::Null),
            ("[]", Value::Null),
        ] {
            client.send_text(command);
            let error = client.json();
            assert_eq!(error["error"]["code"], "bad_request", "{command}: {error}");
            assert_eq!(error["error"].get("id").unwrap_or(&Value::Null), &id, "{command}: {error}");
        }
        client.send(&crate::support::websocket::frame(0x80 | BINARY, b"{}"));
        assert_eq!(client.json()["error"]["code"], "bad_request");
        server.http().publish("a", "nothing has changed");
        assert_eq!(client.json()["message"], "nothing has changed");
    });
}

#[test]
fn data_and_binary_come_with_their_positions() {
    serve(shards(2), |server| {
        let (mut told, mut plain) = (client(server, "a"), server.client(&["a"]));
        let mut http = server.http();
        http.post("/publish", r#"{"topic":"a","data":{"n": 1.10, "x":[ ]}}"#);
        http.post_as("/publish/a", Some("application/octet-stream"), &[0, 255]);
        told.expect_text(r#"{"topic":"a","offset":1,"data":{"n": 1.10, "x":[ ]}}"#);
        told.expect_text(r#"{"topic":"a","offset":2,"base64":"AP8="}"#);
        plain.expect_text(r#"{"n": 1.10, "x":[ ]}"#);
        assert_eq!(plain.next().expect("a frame").payload, [0, 255]);
    });
}

#[test]
fn clients_publish_where_the_class_lets_them() {
    serve(classes(shards(2)), |server| {
        let (mut one, mut other) = (client(server, ""), client(server, "p1"));
        let ok = say(&mut one, &json!({ "publish": { "topic": "p1", "message": "hi" }, "id": 1 }));
        assert_eq!((&ok["ok"], &ok["position"]["offset"]), (&json!(1), &json!(1)), "{ok}");
        assert_eq!(other.json(), json!({ "topic": "p1", "offset": 1, "message": "hi" }));
        let refused = say(&mut one, &json!({ "publish": { "topic": "a", "message": "hi" }, "id": 2 }));
        assert_eq!((&refused["error"]["code"], &refused["error"]["id"]), (&json!("forbidden"), &json!(2)));
        // Commands behind a publication wait for its answer, and take effect in order.
        for n in 3..40 {
            one.send_text(
                &json!({ "publish": { "topic": "p1", "message": n.to_string() }, "id": n }).to_string(),
            );
        }
        one.send_text(r#"{"ping":1}"#);
        for n in 3..40 {
            assert_eq!(one.json()["ok"], n);
            assert_eq!(other.json()["message"], n.to_string());
        }
        assert_eq!(one.json(), json!({ "pong": 1 }));
    });
}

#[test]
fn slow_client_is_told_exactly_what_it_missed() {
    let settings =
        Settings { max_message: 16 << 10, outbox_bytes: 64 * 1024, socket_send_buffer: 4096, ..shards(1) };
    serve(classes(settings), |server| {
        let mut slow = client(server, "o");
        let mut http = server.http();
        let text = "x".repeat(4_000);
        for _ in 0..2_000 {
            http.publish("o", &text);
        }
        eventually("something is dropped", || server.total().dropped_bound > 0);
        http.publish("o", "end");
        let (mut got, mut missing, mut last) = (0, 0, 0);
        loop {
            let message = slow.json();
            if let Some(gap) = message.get("gap") {
                let number = |name: &str| gap[name].as_u64().expect("a number");
                assert_eq!((gap["topic"].as_str(), gap["reason"].as_str()), (Some("o"), Some("slow")));
                assert!(number("from") > last, "where the missing would have been: {gap} behind {last}");
                missing += number("dropped") + number("conflated");
                continue;
            }
            let offset = message["offset"].as_u64().expect("an offset");
            assert!(offset > last, "in order");
            last = offset;
            got += 1;
            if message["message"] == "end" {
                break;
            }
        }
        assert_eq!((got + missing, last), (2_001, 2_001));
        assert_eq!(server.total().dropped_bound, missing);
    });
}

#[test]
fn conflated_client_has_the_last_of_each_key() {
    let settings =
        Settings { max_message: 16 << 10, outbox_bytes: 64 * 1024, socket_send_buffer: 4096, ..shards(1) };
    serve(classes(settings), |server| {
        let mut slow = client(server, "c");
        let mut http = server.http();
        let padding = "x".repeat(4_000);
        for n in 0..2_000 {
            let body =
                json!({ "topic": "c", "data": { "n": n, "padding": padding }, "key": (n % 5).to_string() });
            http.post("/publish", &body.to_string());
        }
        http.post("/publish", r#"{"topic":"c","message":"end"}"#);
        let (mut got, mut missing, mut last) = (0, 0, [0; 5]);
        loop {
            let message = slow.json();
            if let Some(gap) = message.get("gap") {
                assert_eq!(gap["dropped"], 0);
                missing += gap["conflated"].as_u64().expect("a number");
                continue;
            }
            got += 1;
            if message["message"] == "end" {
                break;
            }
            let n = message["data"]["n"].as_u64().expect("a number") as usize;
            assert_eq!(message["key"], (n % 5).to_string());
            last[n % 5] = n;
        }
        assert_eq!(got + missing, 2_001);
        assert_eq!(last, [1_995, 1_996, 1_997, 1_998, 1_999]);
        assert_eq!((server.total().conflated, server.total().closed_slow), (missing, 0));
        let ledger = server.total();
        assert!(ledger.conflated > 100, "{ledger:?}");
    });
}

#[test]
fn stopping_says_goodbye_and_when_to_come_back() {
    let server = Running::start(shards(2));
    let mut client = client(&server, "cats");
    server.http().publish("cats", "last");
    server.begin_stopping();
    assert_eq!(client.json()["message"], "last");
    let bye = json!({ "bye": { "code": 1012, "reason": "restart", "retry_ms": [500, 5_500] } });
    assert_eq!(client.json(), bye);
    client.expect_close(1012, "restart");
    server.wait();
}

#[test]
fn burst_of_commands_is_bounded() {
    serve(shards(1), |server| {
        let mut client = client(server, "");
        let ping = crate::support::websocket::frame(0x81, br#"{"ping":1}"#);
        client.send(&ping.repeat(10_000));
        let frames = client.read_to_close(1008);
        // Some answers may have been thrown away with the close.
        assert!(frames.len() > 1 && frames.len() < 2_000, "{} answers", frames.len());
    });
}

#[test]
fn topic_that_cannot_be_kept_is_refused_and_the_others_stay() {
    let settings = Settings { topics_max: 2, ..shards(1) };
    serve(settings, |server| {
        let mut client = client(server, "a");
        let refused = say(&mut client, &json!({ "subscribe": ["b", "c"], "id": 9 }));
        assert_eq!((&refused["error"]["code"], &refused["error"]["id"]), (&json!("full"), &json!(9)));
        server.http().publish("a", "still here");
        assert_eq!(client.json()["message"], "still here");
    });
}

#[test]
fn client_that_comes_back_gets_what_it_missed_or_is_told() {
    serve(classes(shards(2)), |server| {
        let mut http = server.http();
        let mut first = client(server, "h1");
        http.publish("h1", "1");
        let message = first.json();
        assert_eq!(message["offset"], 1);
        let epoch =
            say(&mut first, &json!({ "subscribe": ["h1"], "id": 1 }))["positions"]["h1"]["epoch"].clone();
        first.close();
        (2..=5).for_each(|n: u32| http.publish("h1", &n.to_string()));
        let since = |epoch: &Value, offset: u32| json!({ "h1": { "epoch": epoch, "offset": offset } });
        let mut back = client(server, "");
        let ok = say(&mut back, &json!({ "subscribe": ["h1"], "id": 2, "since": since(&epoch, 1) }));
        let position = json!({ "epoch": epoch, "offset": 5, "recovered": true });
        assert_eq!(ok, json!({ "ok": 2, "positions": { "h1": position } }));
        for n in 2..=5 {
            assert_eq!(back.json(), json!({ "topic": "h1", "offset": n, "message": n.to_string() }));
        }
        http.publish("h1", "6");
        assert_eq!(back.json()["offset"], 6);
        (7..=30).for_each(|n: u32| http.publish("h1", &n.to_string()));
        // The history of ten reaches back to 21.
        let mut late = client(server, "");
        let ok = say(&mut late, &json!({ "subscribe": ["h1"], "id": 3, "since": since(&epoch, 5) }));
        assert_eq!(ok["positions"]["h1"]["recovered"], false);
        let gap = json!({ "gap": {
            "topic": "h1", "from": 6, "to": 20, "reason": "history", "conflated": 0, "dropped": 15
        }});
        assert_eq!(late.json(), gap);
        (21..=30).for_each(|n| assert_eq!(late.json()["offset"], n));
        for (epoch, offset) in [(json!("x"), 3), (epoch.clone(), 31)] {
            let mut other = client(server, "");
            let ok =
                say(&mut other, &json!({ "subscribe": ["h1"], "id": 4, "since": since(&epoch, offset) }));
            assert_eq!(ok["positions"]["h1"]["recovered"], false);
            assert_eq!(other.json()["gap"]["reason"], "reset", "{epoch} {offset}");
        }
        let mut last = client(server, "");
        say(&mut last, &json!({ "subscribe": ["h1"], "id": 5, "last": 2 }));
        assert_eq!((last.json()["offset"].clone(), last.json()["offset"].clone()), (json!(29), json!(30)));
        assert_eq!(say(&mut last, &json!({ "ping": 1 })), json!({ "pong": 1 }));
    });
}

#[test]
fn resuming_while_others_publish_leaves_neither_gap_nor_duplicate() {
    serve(classes(shards(3)), |server| {
        let mut first = client(server, "h2");
        server.http().publish("h2", "x");
        first.json();
        let ok = say(&mut first, &json!({ "subscribe": ["h2"], "id": 1 }));
        let epoch = ok["positions"]["h2"]["epoch"].clone();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut http = server.http();
                    (0..400).for_each(|_| http.publish("h2", "y"));
                });
            }
            let mut last = 1;
            while last < 1_201 {
                let mut back = client(server, "");
                let since = json!({ "h2": { "epoch": epoch, "offset": last } });
                let ok = say(&mut back, &json!({ "subscribe": ["h2"], "id": 2, "since": since }));
                let head = ok["positions"]["h2"]["offset"].as_u64().expect("an offset");
                // All of the replay, and a little of what is live.
                while last < 1_201.min(head + 5) {
                    let message = back.json();
                    if let Some(gap) = message.get("gap") {
                        assert_eq!(gap["from"].as_u64(), Some(last + 1));
                        let (to, dropped) = (gap["to"].as_u64(), gap["dropped"].as_u64());
                        assert_eq!(to, dropped.map(|dropped| last + dropped));
                        last = to.expect("a number");
                        continue;
                    }
                    assert_eq!(message["offset"].as_u64(), Some(last + 1), "{message}");
                    last += 1;
                }
                back.reset();
            }
        });
    });
}
