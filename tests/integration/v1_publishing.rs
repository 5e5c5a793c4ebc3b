//! Publishing from clients that speak `fanfare.v1`, with all that may be asked for.

use serde_json::{Value, json};

use crate::support::{
    WebSocket, serve, shards,
    v1::{classes, client, say},
};

/// matched, written, queued, dropped, conflated.
fn counts(told: &Value) -> [u64; 5] {
    ["matched", "written", "queued", "dropped", "conflated"]
        .map(|name| told[name].as_u64().unwrap_or_else(|| panic!("no {name} in {told}")))
}

#[test]
fn receipt_on_a_socket_says_what_became_of_the_publication_in_each_topic() {
    serve(classes(shards(3)), |server| {
        let mut publisher = client(server, "");
        let mut audience: Vec<WebSocket> = (0..4).map(|_| client(server, "p1,p2")).collect();
        audience.extend((0..3).map(|_| client(server, "p2")));
        let one = json!({ "publish": { "topic": "p1", "message": "m", "receipt": true }, "id": 4 });
        let told = say(&mut publisher, &one);
        let position = &told["position"];
        assert_eq!((&told["ok"], counts(position)), (&json!(4), [4, 4, 0, 0, 0]), "{told}");
        assert_eq!((&position["topic"], &position["offset"]), (&json!("p1"), &json!(1)));
        assert!(position["epoch"].is_string() && position.get("partial").is_none(), "{told}");

        let topics = ["p2", "p1", "p nobody"];
        let several = json!({ "publish": { "topics": topics, "message": "m", "receipt": true }, "id": 5 });
        let told = say(&mut publisher, &several);
        let results = told["results"].as_array().expect("a list");
        let all: Vec<_> = results.iter().map(counts).collect();
        assert_eq!(all, [[7, 7, 0, 0, 0], [0; 5], [0; 5]], "each client once: {told}");
        let offsets: Vec<_> = results.iter().map(|result| (&result["topic"], &result["offset"])).collect();
        let expected = [("p2", 1), ("p1", 2), ("p nobody", 1)].map(|(topic, at)| (json!(topic), json!(at)));
        assert_eq!(offsets, expected.each_ref().map(|(topic, at)| (topic, at)));

        let list = json!({ "publish": { "topics": ["p1"], "message": "m", "receipt": true }, "id": 6 });
        assert_eq!(counts(&say(&mut publisher, &list)["results"][0]), [4, 4, 0, 0, 0]);
        let without = json!({ "publish": { "topic": "p1", "message": "m", "receipt": false }, "id": 7 });
        assert_eq!(say(&mut publisher, &without)["position"].get("matched"), None);
        let refused = json!({ "publish": { "topic": "a", "message": "m", "receipt": true }, "id": 8 });
        assert_eq!(
            say(&mut publisher, &refused)["error"],
            json!({
                "code": "forbidden", "message": "this client may not publish to this topic", "id": 8
            })
        );
    });
}

#[test]
fn commands_behind_one_that_waits_for_its_receipt_take_effect_in_order() {
    serve(classes(shards(2)), |server| {
        let mut client = client(server, "p1");
        for round in 0..20 {
            let publish = |topic: &str, id: u32| {
                json!({ "publish": { "topic": topic, "message": "m", "receipt": true }, "id": id })
                    .to_string()
            };
            client.send_text(&publish("p1", 1));
            client.send_text(&publish("p2", 2));
            client.send_text(&json!({ "subscribe": ["p2"], "id": 3 }).to_string());
            client.send_text(&publish("p2", 4));
            client.send_text(&json!({ "unsubscribe": ["p2"], "id": 5 }).to_string());
            client.send_text(r#"{"ping":6}"#);
            assert_eq!(client.json()["offset"], round + 1, "it is offered to everyone, then that is told");
            let told = client.json();
            assert_eq!((&told["ok"], counts(&told["position"])), (&json!(1), [1, 1, 0, 0, 0]), "{told}");
            let told = client.json();
            assert_eq!((&told["ok"], counts(&told["position"])), (&json!(2), [0; 5]), "not subscribed yet");
            assert_eq!(client.json()["ok"], 3);
            assert_eq!(client.json()["topic"], "p2");
            let told = client.json();
            assert_eq!((&told["ok"], counts(&told["position"])), (&json!(4), [1, 1, 0, 0, 0]), "{told}");
            assert_eq!(client.json(), json!({ "ok": 5 }));
            assert_eq!(client.json(), json!({ "pong": 6 }));
        }
    });
}

#[test]
fn receipt_with_an_idempotency_key_is_told_again() {
    serve(classes(shards(2)), |server| {
        let (mut publisher, mut audience) = (client(server, ""), client(server, "p1"));
        let publish = |message: &str| {
            let body = json!({ "topic": "p1", "message": message, "idempotency_key": "k", "receipt": true });
            json!({ "publish": body, "id": 1 })
        };
        let told = say(&mut publisher, &publish("m"));
        assert_eq!(counts(&told["position"]), [1, 1, 0, 0, 0]);
        assert_eq!(say(&mut publisher, &publish("m")), told);
        assert_eq!(say(&mut publisher, &publish("other"))["error"]["code"], "conflict");
        assert_eq!(audience.json()["message"], "m");
        assert_eq!(say(&mut audience, &json!({ "ping": 1 })), json!({ "pong": 1 }), "it came once");
    });
}
