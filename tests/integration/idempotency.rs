//! Publications with an idempotency key: a repeat is answered and not published, whoever sends it and wherever.

use std::{sync::Barrier, thread, time::Duration};

use fanfare::settings::Settings;
use serde_json::json;

use crate::support::{Http, eventually, serve, shards};

fn body(topics: &[&str], message: &str, key: &str) -> String {
    json!({"topics": topics, "message": message, "idempotency_key": key}).to_string()
}

#[test]
fn repeat_is_answered_with_the_first_result_and_delivers_nothing() {
    serve(shards(2), |server| {
        let mut client = server.client(&["a", "b"]);
        let mut http = server.http();
        for topics in [&["a"][..], &["a", "b"]] {
            let key = topics.len().to_string();
            let first = http.post("/publish", &body(topics, "once", &key)).json();
            assert_eq!(server.http().post("/publish", &body(topics, "once", &key)).json(), first);
            http.post("/publish", &body(topics, "other", &key)).expect_error(409, "conflict");
            http.post("/publish", &body(&["a", "c"], "once", &key)).expect_error(409, "conflict");
            client.expect_text("once");
        }
        // The key is the first topic's.
        assert_eq!(http.post("/publish", &body(&["b"], "another", "1")).status, 200);
        client.expect_text("another");
        let raw = |http: &mut Http, path: &str, message: &str| {
            http.post_as(&format!("/publish/{path}"), None, message.as_bytes())
        };
        let first = raw(&mut http, "a?idempotency_key=raw", "raw").json();
        assert_eq!(raw(&mut http, "a?idempotency_key=raw", "raw").json(), first);
        raw(&mut http, "a?idempotency_key=raw&key=k", "raw").expect_error(409, "conflict");
        raw(&mut http, "a?idempotency_key=raw", "Raw").expect_error(409, "conflict");
        client.expect_text("raw");
        http.publish("a", "end");
        client.expect_text("end");
    });
}

#[test]
fn repeats_that_race_on_two_shards_deliver_once() {
    serve(shards(2), |server| {
        let mut clients = [server.client(&["a", "b", "c"]), server.client(&["a", "b", "c"])];
        const ROUNDS: usize = 300;
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            let racers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        // Connections go to the shards in turn.
                        let mut http = server.http();
                        let race = |round: usize| {
                            let topics = [&["a"][..], &["b", "a"], &["c", "b", "a"]][round % 3];
                            barrier.wait();
                            let name = round.to_string();
                            http.post("/publish", &body(topics, &name, &name)).json()
                        };
                        (0..ROUNDS).map(race).collect::<Vec<_>>()
                    })
                })
                .collect();
            let results: Vec<_> = racers.into_iter().map(|racer| racer.join().expect("answered")).collect();
            results.iter().for_each(|of_one| assert_eq!(of_one, &results[0], "all have the first result"));
        });
        server.http().publish("a", "end");
        for client in &mut clients {
            (0..ROUNDS).for_each(|round| client.expect_text(&round.to_string()));
            client.expect_text("end");
        }
    });
}

#[test]
fn what_was_not_taken_is_not_remembered() {
    let settings = Settings { topics_max: 1, ..shards(1) };
    serve(settings, |server| {
        let mut http = server.http();
        let mut client = server.client(&["b"]);
        for topics in [&["a"][..], &["a", "c"]] {
            http.post("/publish", &body(topics, "x", "k")).expect_error(503, "full");
        }
        client.set_topics(&[]);
        eventually("the topic makes room", || http.post("/publish", &body(&["a"], "x", "k")).status == 200);
    });
}

#[test]
fn keys_are_forgotten_in_time_and_the_oldest_at_the_bound() {
    let settings = Settings { idempotency_keys: 3, ..shards(1) };
    serve(settings, |server| {
        let mut http = server.http();
        let mut offset =
            |key: &str| http.post("/publish", &body(&["a"], "x", key)).json()["results"][0]["offset"].clone();
        for (key, is) in
            [("1", 1), ("2", 2), ("3", 3), ("1", 1), ("4", 4), ("2", 2), ("1", 5), ("3", 3), ("2", 6)]
        {
            assert_eq!(offset(key), is, "{key}");
        }
    });
    let settings = Settings { idempotency_ttl: Duration::from_millis(50), ..shards(1) };
    serve(settings, |server| {
        let mut http = server.http();
        let mut publish =
            || http.post("/publish", &body(&["a"], "x", "k")).json()["results"][0]["offset"].clone();
        let first = publish();
        eventually("the key is forgotten", || publish() != first);
    });
}
