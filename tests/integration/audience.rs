//! For whom a publication is: users and their clients, and the client it leaves out, over several shards.

use serde_json::json;

use crate::support::{WebSocket, serve, shards};

#[test]
fn two_users_with_two_clients_each_on_different_shards_get_what_is_meant_for_them() {
    serve(shards(2), |server| {
        let mut http = server.http();
        let mut connect = |user: u64| {
            let id = http.register(&json!({"user_id": user, "topics": ["cats"]}).to_string());
            let (websocket, shard) = server.connect_noting_shard(&id);
            (id, websocket, shard)
        };
        let [mut a, mut b] = [1, 2].map(|user| [connect(user), connect(user)]);
        for [one, two] in [&a, &b] {
            assert_ne!(one.2, two.2, "the clients of one user are on different shards");
        }
        assert_eq!(server.subscribers(), [2, 2]);
        for n in 0..50 {
            http.publish("cats", &format!("all {n}"));
            publish_for(server, json!({"user_id": 1}), &format!("one {n}"));
            publish_for(server, json!({"user_id": "2"}), &format!("two {n}"));
            publish_for(server, json!({"user_id": 3}), "nobody");
            publish_for(server, json!({"user_id": 1, "exclude": a[0].0}), &format!("second {n}"));
            publish_for(server, json!({"exclude": b[1].0}), &format!("but one {n}"));
        }
        let expect = |websocket: &mut WebSocket, kinds: &[&str]| {
            for n in 0..50 {
                kinds.iter().for_each(|kind| websocket.expect_text(&format!("{kind} {n}")));
            }
        };
        expect(&mut a[0].1, &["all", "one", "but one"]);
        expect(&mut a[1].1, &["all", "one", "second", "but one"]);
        expect(&mut b[0].1, &["all", "two", "but one"]);
        expect(&mut b[1].1, &["all", "two"]);
        // Nothing was left over for anyone.
        http.publish("cats", "end");
        for client in a.iter_mut().chain(&mut b) {
            client.1.expect_text("end");
        }
    });
}

#[test]
fn number_and_text_of_it_are_the_same_user() {
    serve(shards(3), |server| {
        let mut http = server.http();
        let users = [json!(7), json!("7"), json!("07"), json!("+7"), json!("7 ")];
        let mut clients = users.map(|user| {
            server.connect(&http.register(&json!({"user_id": user, "topics": ["cats"]}).to_string()))
        });
        publish_for(server, json!({"user_id": 7}), "number");
        publish_for(server, json!({"user_id": "7"}), "text");
        publish_for(server, json!({"user_id": "07"}), "other");
        http.publish("cats", "end");
        for client in &mut clients[..2] {
            client.expect_text("number");
            client.expect_text("text");
        }
        clients[2].expect_text("other");
        clients.iter_mut().for_each(|client| client.expect_text("end"));
    });
}

#[test]
fn largest_number_and_longest_text_are_users() {
    serve(shards(2), |server| {
        let mut http = server.http();
        for user in [json!(u64::MAX), json!(0), json!("u".repeat(128)), json!("größe \u{0}\"")] {
            let id = http.register(&json!({"user_id": user, "topics": ["cats"]}).to_string());
            let mut client = server.connect(&id);
            publish_for(server, json!({"user_id": user}), "for you");
            client.expect_text("for you");
        }
    });
}

#[test]
fn user_does_not_get_a_topic_it_is_not_subscribed_to() {
    serve(shards(2), |server| {
        let mut client = server.client(&["dogs"]);
        publish_for(server, json!({"user_id": 1}), "of cats");
        server.http().publish("dogs", "of dogs");
        client.expect_text("of dogs");
    });
}

#[test]
fn excluding_a_client_nobody_is_leaves_nobody_out() {
    serve(shards(2), |server| {
        let mut client = server.client(&["cats"]);
        publish_for(server, json!({"exclude": "0123456789abcdef0123456789abcdef"}), "x");
        client.expect_text("x");
    });
}

/// Publishes to `cats` with these fields besides.
fn publish_for(server: &crate::support::Running, fields: serde_json::Value, message: &str) {
    let mut body = json!({"topic": "cats", "message": message});
    let fields = fields.as_object().expect("fields are an object").clone();
    body.as_object_mut().expect("it is an object").extend(fields);
    assert_eq!(server.http().post("/publish", &body.to_string()).status, 200, "{body}");
}
