//! Batches as JSON arrays: each publication has its own result, in order.

use std::fmt::Write as _;

use fanfare::{limits, settings::Settings};
use serde_json::{Value, json};

use crate::support::{Http, serve, shards};

fn batch(http: &mut Http, query: &str, items: &Value) -> Vec<Value> {
    let answer = http.post(&format!("/batch{query}"), &items.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["results"].as_array().expect("a list").clone()
}

#[test]
fn every_publication_has_its_result_and_one_that_is_wrong_stops_no_other() {
    serve(shards(3), |server| {
        let mut client = server.client(&["a", "b"]);
        let mut http = server.http();
        let items = json!([
            {"topic": "a", "message": "1"},
            {"topic": "", "message": "x"},
            {"topics": ["b", "a"], "data": {"n": [2]}},
            7,
            {"topic": "b", "message": "3", "user_id": 1, "receipt": true},
            {"topic": "a", "message": "x".repeat(limits::MESSAGE_BYTES + 1)},
            {"topic": "b", "message": "4", "idempotency_key": "k"},
            {"topic": "b", "message": "4", "idempotency_key": "k"},
            {"topic": "b", "message": "5", "idempotency_key": "k"},
        ]);
        for query in ["", "?ordered=false", "?ordered=true"] {
            let results = batch(&mut http, query, &items);
            let codes: Vec<_> = results.iter().map(|result| result["error"]["code"].as_str()).collect();
            let (bad, large, conflict) = (Some("bad_request"), Some("message_too_large"), Some("conflict"));
            assert_eq!(codes, [None, bad, None, bad, None, large, None, None, conflict]);
            assert_eq!(results[2]["results"].as_array().map(Vec::len), Some(2));
            assert_eq!((&results[4]["matched"], &results[4]["written"]), (&1.into(), &1.into()));
            assert_eq!(results[6], results[7]);
            let mut expected = vec!["1", r#"{"n":[2]}"#, "3"];
            // Once for its key.
            expected.extend(query.is_empty().then_some("4"));
            let mut got: Vec<String> = expected.iter().map(|_| client.text()).collect();
            if query != "?ordered=true" {
                // Across topics any order will do.
                got.sort_unstable();
                expected.sort_unstable();
            }
            assert_eq!(got, expected, "{query}");
        }
        assert!(batch(&mut http, "", &json!([])).is_empty());
    });
}

#[test]
fn order_holds_in_each_topic_and_across_them_when_asked_for() {
    serve(shards(4), |server| {
        let topics: Vec<_> = (0..8).map(|n| format!("topic {n}")).collect();
        let names: Vec<_> = topics.iter().map(String::as_str).collect();
        let mut all: Vec<_> = (0..4).map(|_| server.client(&names)).collect();
        let mut one: Vec<_> = topics.iter().map(|topic| server.client(&[topic])).collect();
        let mut http = server.http();
        let items: Vec<_> = (0..limits::BATCH_ITEMS_MAX)
            .map(|n| match n % 5 {
                4 => json!({"topics": [names[n % 8], names[(n + 3) % 8]], "message": n.to_string()}),
                _ => json!({"topic": names[n % 8], "message": n.to_string()}),
            })
            .collect();
        let has = |n: usize, topic: usize| n % 8 == topic || n % 5 == 4 && (n + 3) % 8 == topic;
        for query in ["?ordered=true", ""] {
            let results = batch(&mut http, query, &json!(items));
            assert!(results.iter().all(|result| result.get("error").is_none()));
            for (topic, client) in one.iter_mut().enumerate() {
                let of_topic = (0..items.len()).filter(|&n| has(n, topic));
                of_topic.for_each(|n| client.expect_text(&n.to_string()));
            }
            for client in &mut all {
                if query.is_empty() {
                    (0..items.len()).for_each(|_| drop(client.text()));
                } else {
                    (0..items.len()).for_each(|n| client.expect_text(&n.to_string()));
                }
            }
        }
    });
}

#[test]
fn what_is_no_batch_is_refused_as_a_whole() {
    serve(shards(2), |server| {
        let mut client = server.client(&["a"]);
        let mut http = server.http();
        let item = r#"{"topic":"a","message":"x"}"#;
        let mut many = String::from("[");
        for _ in 0..limits::BATCH_ITEMS_MAX {
            write!(many, "{item},").expect("a String takes it");
        }
        many += &format!("{item}]");
        for bad in
            ["", item, "null", "[", &format!("[{item}"), &format!("[{item},]"), &format!("[{item}]x"), &many]
        {
            http.post("/batch", bad).expect_error(400, "bad_request");
        }
        for query in ["?ordered=1", "?order=true", "?ordered=true&ordered=true"] {
            http.post(&format!("/batch{query}"), "[]").expect_error(400, "bad_request");
        }
        for bad in ["text/plain", "application/octet-stream", "application/x-www-form-urlencoded"] {
            http.post_as("/batch", Some(bad), b"[]").expect_error(415, "unsupported_media_type");
        }
        http.publish("a", "end");
        client.expect_text("end");
    });
}

#[test]
fn array_is_as_long_as_a_body_may_be() {
    let settings = Settings { max_message: 1_024, max_body: 10_240, ..shards(1) };
    serve(settings, |server| {
        let mut http = server.http();
        let items = |count| json!(vec![json!({"topic": "a", "message": "x".repeat(1_000)}); count]);
        assert_eq!(batch(&mut http, "", &items(9)).len(), 9);
        http.post("/batch", &items(11).to_string()).expect_error(413, "body_too_large");
    });
}
