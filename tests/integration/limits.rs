//! Bounds of what a node keeps and has under way, as they are met over sockets.

use std::time::Duration;

use fanfare::settings::Settings;

use crate::support::{WebSocket, serve, shards};

#[test]
fn more_topics_than_the_node_may_keep_are_refused_everywhere_and_change_nothing() {
    let settings = Settings { topics_max: 3, ..shards(2) };
    serve(settings, |server| {
        let mut client = server.client(&["a", "b", "c"]);
        let mut http = server.http();
        let answer = http.post("/publish", r#"{"topic":"d","message":"x"}"#);
        answer.expect_error(503, "full");
        http.post_as("/publish/d", None, b"x").expect_error(503, "full");
        client.send_topics(&["a", "d"]);
        client.expect_error("full");
        for topic in ["a", "b", "c"] {
            http.publish(topic, topic);
            client.expect_text(topic);
        }
        let id = http.register(r#"{"user_id":1,"topics":["a","e"]}"#);
        let refused = WebSocket::connect(server.address(), &id).expect_err("there is no room for e");
        refused.expect_error(503, "full");
        let id = http.register(r#"{"user_id":1,"topics":["a"]}"#);
        let mut other = server.connect(&id);
        http.publish("a", "both");
        client.expect_text("both");
        other.expect_text("both");
    });
}

#[test]
fn topic_nobody_wants_any_more_makes_room() {
    let settings = Settings { topics_max: 2, ..shards(1) };
    serve(settings, |server| {
        let mut http = server.http();
        let mut client = server.client(&["a"]);
        for n in 0..50 {
            let topic = format!("topic {n}");
            client.set_topics(&[&topic]);
            http.publish(&topic, &topic);
            client.expect_text(&topic);
        }
    });
}

#[test]
fn message_larger_than_the_whole_budget_is_still_published() {
    let settings = Settings {
        inflight_publications: 1,
        inflight_bytes: 1_024,
        publish_wait: Duration::from_secs(20),
        ..shards(3)
    };
    serve(settings, |server| {
        let mut clients: Vec<_> = (0..3).map(|_| server.client(&["cats"])).collect();
        let message = "x".repeat(65_536);
        for _ in 0..5 {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let mut http = server.http();
                        (0..2).for_each(|_| http.publish("cats", &message));
                    });
                }
            });
            for client in &mut clients {
                (0..8).for_each(|_| client.expect_text(&message));
            }
        }
    });
}
