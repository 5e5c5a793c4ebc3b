//! What a client of `fanfare.v1` may try: everything is answered with an error, or is within a limit, or ends the connection.

use std::thread;

use fanfare::{limits, settings::Settings};
use serde_json::{Value, json};

use crate::support::{
    WebSocket, eventually, serve, shards,
    v1::{classes, client, say},
    websocket::{CLOSE, frame},
};

fn expect_refused(client: &mut WebSocket, command: &Value, code: &str) {
    let error = say(client, command);
    assert_eq!(
        (&error["error"]["code"], &error["error"]["id"]),
        (&json!(code), &json!("x")),
        "{command}: {error}"
    );
}

#[test]
fn topic_that_is_too_long_is_refused_in_every_command() {
    serve(classes(shards(2)), |server| {
        let mut client = client(server, "a");
        let longest = format!("p{}", "t".repeat(limits::TOPIC_BYTES_MAX - 1));
        for bad in
            [format!("{longest}t"), format!("p{}ä", &longest[2..]), String::new(), "p\u{7f}".to_owned()]
        {
            for command in [
                json!({ "subscribe": [bad], "id": "x" }),
                json!({ "subscribe": ["b", bad], "id": "x", "last": 1 }),
                json!({ "subscribe": ["b"], "id": "x", "since": { (&bad): { "epoch": "e", "offset": 1 } } }),
                json!({ "unsubscribe": ["a", bad], "id": "x" }),
                json!({ "topics": [bad], "id": "x" }),
                json!({ "publish": { "topic": bad, "message": "m" }, "id": "x" }),
                json!({ "publish": { "topics": ["p1", bad], "message": "m" }, "id": "x" }),
            ] {
                expect_refused(&mut client, &command, "bad_request");
            }
        }
        let published = json!({ "publish": { "topics": [longest, "p1"], "message": "m" }, "id": 1 });
        assert_eq!(
            say(&mut client, &published)["results"][1]["offset"],
            1,
            "of the others nothing was taken"
        );
        let ok = say(&mut client, &json!({ "subscribe": [longest], "id": 2 }));
        assert_eq!(ok["positions"][&longest]["offset"], 1, "{ok}");
        server.http().publish("a", "no command that was refused has changed anything");
        assert_eq!(client.json()["topic"], "a");
        assert_eq!(say(&mut client, &json!({ "ping": 1 })), json!({ "pong": 1 }));
    });
}

#[test]
fn position_beyond_the_head_is_a_reset_and_one_that_is_no_number_is_refused() {
    serve(classes(shards(2)), |server| {
        (1..=3).for_each(|n: u32| server.http().publish("h1", &n.to_string()));
        let mut probe = client(server, "");
        let ok = say(&mut probe, &json!({ "subscribe": ["h1"], "id": 1 }));
        let epoch = ok["positions"]["h1"]["epoch"].clone();
        for offset in [4, u64::from(u32::MAX) + 1, u64::MAX - 1, u64::MAX] {
            let mut client = client(server, "");
            let since = json!({ "h1": { "epoch": epoch, "offset": offset } });
            let ok = say(&mut client, &json!({ "subscribe": ["h1"], "id": 1, "since": since }));
            assert_eq!(ok["positions"]["h1"]["recovered"], false, "{offset}: {ok}");
            assert_eq!(client.json()["gap"]["reason"], "reset");
            (1..=3).for_each(|n| assert_eq!(client.json()["offset"], n));
        }
        for offset in ["-1", "1.5", "18446744073709551616", "\"1\"", "null", "[]"] {
            let since = format!(r#"{{"h2":{{"epoch":"e","offset":{offset}}}}}"#);
            probe.send_text(&format!(r#"{{"subscribe":["h2"],"id":"x","since":{since}}}"#));
            let error = probe.json();
            assert_eq!(
                (&error["error"]["code"], &error["error"]["id"]),
                (&json!("bad_request"), &json!("x"))
            );
        }
        for last in [json!(0), json!(limits::LAST_MESSAGES_MAX + 1), json!(-1), json!("1")] {
            let command = json!({ "subscribe": ["h2"], "id": "x", "last": last });
            expect_refused(&mut probe, &command, "bad_request");
        }
    });
}

#[test]
fn key_where_nothing_is_conflated_is_passed_on_and_nothing_more() {
    serve(classes(shards(2)), |server| {
        let (mut publisher, mut audience) = (client(server, ""), client(server, "p1"));
        let longest = "k".repeat(limits::MESSAGE_KEY_BYTES_MAX);
        for n in 1..=20 {
            let body = json!({ "topic": "p1", "message": n.to_string(), "key": longest });
            assert_eq!(say(&mut publisher, &json!({ "publish": body, "id": n }))["ok"], n);
        }
        for n in 1..=20 {
            let expected = json!({ "topic": "p1", "offset": n, "message": n.to_string(), "key": longest });
            assert_eq!(audience.json(), expected);
        }
        assert_eq!(server.total().conflated, 0);
        for key in [json!(""), json!(format!("{longest}k")), json!(1)] {
            let command = json!({ "publish": { "topic": "p1", "message": "m", "key": key }, "id": "x" });
            expect_refused(&mut publisher, &command, "bad_request");
        }
    });
}

#[test]
fn publication_over_a_limit_is_refused_and_the_next_one_taken() {
    let settings = Settings { max_message: 1_024, ..shards(2) };
    serve(classes(settings), |server| {
        let mut client = client(server, "");
        let publish = |body: Value| json!({ "publish": body, "id": "x" });
        let topics: Vec<_> = (0..=limits::PUBLISH_TOPICS_MAX).map(|n| format!("p{n}")).collect();
        let key = "k".repeat(limits::IDEMPOTENCY_KEY_BYTES_MAX + 1);
        for (body, code) in [
            (json!({ "topic": "p1", "message": "x".repeat(1_025) }), "message_too_large"),
            (json!({ "topic": "p1", "data": "x".repeat(1_023) }), "message_too_large"),
            (json!({ "topics": topics, "message": "m" }), "bad_request"),
            (json!({ "topics": [], "message": "m" }), "bad_request"),
            (json!({ "topic": "p1", "topics": ["p2"], "message": "m" }), "bad_request"),
            (json!({ "topic": "p1", "message": "m", "data": 1 }), "bad_request"),
            (json!({ "topic": "p1" }), "bad_request"),
            (json!({ "topic": "p1", "message": "m", "idempotency_key": key }), "bad_request"),
            (json!({ "topic": "p1", "message": "m", "receipt": 1 }), "bad_request"),
            (json!([{ "topic": "p1", "message": "m" }]), "bad_request"),
            // One topic that clients may not publish to is one too many.
            (json!({ "topics": ["p1", "a"], "message": "m" }), "forbidden"),
        ] {
            expect_refused(&mut client, &publish(body), code);
        }
        let most = publish(json!({ "topics": topics[1..], "message": "x".repeat(1_024) }));
        let ok = say(&mut client, &most);
        let results = ok["results"].as_array().expect("a list");
        assert!(results.iter().all(|result| result["offset"] == 1), "of the others nothing was taken: {ok}");
    });
}

#[test]
fn burst_of_publications_is_cut_and_what_was_taken_is_a_beginning_of_it() {
    serve(classes(shards(2)), |server| {
        let (mut hostile, mut audience) = (client(server, ""), client(server, "p1"));
        let burst: Vec<u8> = (1..=10_000)
            .flat_map(|n| {
                let command = json!({ "publish": { "topic": "p1", "message": n.to_string() }, "id": n });
                frame(0x81, command.to_string().as_bytes())
            })
            .collect();
        let mut sending = hostile.wire().for_writing();
        let frames = thread::scope(|scope| {
            // It may end when the server has read enough behind its close.
            scope.spawn(move || drop(sending.try_write(&burst)));
            hostile.read_to_end()
        });
        if let Some(close) = frames.last().filter(|frame| frame.opcode == CLOSE) {
            assert_eq!(close.close(), (1008, "too many commands".to_owned()));
        }
        eventually("it is closed", || server.total().subscribers == 1);
        assert_eq!(server.total().closed_policy, 1);
        // Commands that it may still have had in work are taken or not; either way the answer to the ping is behind what was.
        audience.send_text(&json!({ "ping": 1 }).to_string());
        let mut taken = 0;
        loop {
            let said = audience.json();
            if said == json!({ "pong": 1 }) {
                break;
            }
            taken += 1;
            assert_eq!(said, json!({ "topic": "p1", "offset": taken, "message": taken.to_string() }));
        }
        assert!((1..10_000).contains(&taken), "{taken} were taken");
    });
}
