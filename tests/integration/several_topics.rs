//! Publications to several topics: each client once, whatever it joins and leaves meanwhile.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use fanfare::{limits, settings::Settings};
use serde_json::{Value, json};

use crate::support::{OnPanic, Running, WebSocket, serve, shards};

fn publish(server: &Running, topics: &[&str], message: &str) -> Value {
    let body = json!({"topics": topics, "message": message}).to_string();
    let answer = server.http().post("/publish", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[test]
fn every_topic_has_a_result_and_every_client_the_message_once() {
    serve(shards(3), |server| {
        let mut clients: Vec<_> = [&["a"][..], &["b"], &["a", "b"], &["c", "b", "a"], &["c"], &["d"]]
            .iter()
            .flat_map(|topics| [server.client(topics), server.client(topics)])
            .collect();
        for n in 1..=20 {
            let results = publish(server, &["b", "c", "a"], &n.to_string());
            let results = results["results"].as_array().expect("a list");
            for (result, topic) in results.iter().zip(["b", "c", "a"]) {
                assert_eq!((&result["topic"], &result["offset"]), (&topic.into(), &n.into()));
                assert!(result["epoch"].is_string() && result.get("matched").is_none());
            }
        }
        publish(server, &["d"], "end");
        let mut http = server.http();
        ["a", "b", "c"].iter().for_each(|topic| http.publish(topic, "end"));
        for client in &mut clients[..10] {
            (1..=20).for_each(|n| client.expect_text(&n.to_string()));
            client.expect_text("end");
        }
        clients[10..].iter_mut().for_each(|client| client.expect_text("end"));
        // Twenty to ten clients, and an end for each topic of each client.
        assert_eq!(server.total().matched, 200 + 18);
    });
}

#[test]
fn list_is_answered_as_a_list_however_long_it_is() {
    serve(shards(2), |server| {
        let answer = publish(server, &["a"], "x");
        assert_eq!(answer["results"][0]["topic"], "a");
        assert_eq!(answer["results"].as_array().map(Vec::len), Some(1));
        let mut http = server.http();
        let topics: Vec<_> = (0..=limits::PUBLISH_TOPICS_MAX).map(|n| format!("topic {n}")).collect();
        for bad in [json!([]), json!(topics), json!("a"), json!([""]), json!(null)] {
            let body = json!({"topics": bad, "message": "x"}).to_string();
            http.post("/publish", &body).expect_error(400, "bad_request");
        }
        let both = json!({"topic": "a", "topics": ["b"], "message": "x"}).to_string();
        http.post("/publish", &both).expect_error(400, "bad_request");
        assert_eq!(publish(server, &["a", "b", "a"], "x")["results"].as_array().map(Vec::len), Some(2));
        let most = &topics[1..].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(publish(server, most, "x")["results"].as_array().map(Vec::len), Some(most.len()));
    });
}

#[test]
fn topic_that_cannot_be_kept_is_an_error_of_its_own() {
    let settings = Settings { topics_max: 2, ..shards(2) };
    serve(settings, |server| {
        let mut client = server.client(&["a", "b"]);
        let answer = publish(server, &["new", "b", "newer", "a"], "once");
        let results = answer["results"].as_array().expect("a list");
        let codes: Vec<_> = results.iter().map(|result| result["error"]["code"].as_str()).collect();
        assert_eq!(codes, [Some("full"), None, Some("full"), None]);
        assert_eq!((&results[1]["topic"], &results[0]["topic"]), (&"b".into(), &"new".into()));
        client.expect_text("once");
        let body = r#"{"topics":["new","newer"],"message":"x"}"#;
        server.http().post("/publish", body).expect_error(503, "full");
        server.http().publish("a", "end");
        client.expect_text("end");
    });
}

#[test]
fn credits_for_all_topics_are_taken_at_once_and_nobody_waits_for_ever() {
    let settings = Settings { inflight_publications: 4, inflight_bytes: 4_096, ..shards(3) };
    serve(settings, |server| {
        let mut client = server.client(&["a", "b", "c", "d"]);
        let going = AtomicUsize::new(0);
        thread::scope(|scope| {
            for topics in
                [["a", "b", "c", "d"], ["d", "c", "b", "a"], ["b", "d", "a", "c"], ["c", "a", "d", "b"]]
            {
                let going = &going;
                scope.spawn(move || {
                    for _ in 0..50 {
                        publish(server, &topics, "x");
                        going.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            (0..200).for_each(|_| client.expect_text("x"));
        });
        let body = r#"{"topics":["a","b","c","d","e"],"message":"x"}"#;
        server.http().post("/publish", body).expect_error(400, "bad_request");
    });
}

#[test]
fn clients_that_join_and_leave_meanwhile_get_each_message_once() {
    for nodes in [2, 4] {
        let most = limits::COMMANDS_MAX as u32;
        let settings = Settings { commands_burst: most, commands_per_second: most, ..shards(nodes) };
        serve(settings, |server| {
            let going = AtomicBool::new(true);
            let published = AtomicUsize::new(0);
            thread::scope(|scope| {
                let _end = OnPanic(|| going.store(false, Ordering::Relaxed));
                let churners: Vec<_> = (0..6)
                    .map(|n| {
                        let (going, published) = (&going, &published);
                        scope.spawn(move || churn(server, n, going, published))
                    })
                    .collect();
                let publisher = scope.spawn(|| {
                    let orders = [["a", "b", "c"], ["c", "a", "b"], ["b", "c", "a"]];
                    for n in 0..600 {
                        publish(server, &orders[n % 3], &n.to_string());
                        published.store(n + 1, Ordering::Relaxed);
                    }
                });
                publisher.join().expect("every publication is taken");
                going.store(false, Ordering::Relaxed);
                let counts: Vec<_> =
                    churners.into_iter().map(|churner| churner.join().expect("each once")).collect();
                assert!(counts.iter().all(|&count| count > 100), "{counts:?}");
            });
        });
    }
}

/// Changes its topics all the time, but keeps one; each message must come once. How many came.
fn churn(server: &Running, n: usize, going: &AtomicBool, published: &AtomicUsize) -> usize {
    let keeps = ["a", "b", "c"][n % 3];
    let mut client: WebSocket = server.client(&[keeps]);
    let since = published.load(Ordering::Relaxed);
    let sets: Vec<Vec<&str>> =
        vec![vec![keeps, "a", "b", "c"], vec![keeps], vec![keeps, "c"], vec!["a", keeps]];
    let mut came = BTreeMap::new();
    for round in 0.. {
        let mut topics = sets[(round + n) % sets.len()].clone();
        topics.sort_unstable();
        topics.dedup();
        let is_last = !going.load(Ordering::Relaxed);
        client.send_topics(&topics);
        client.send_text("ping");
        loop {
            let text = client.text();
            if text == "pong" {
                break;
            }
            *came.entry(text.parse::<usize>().expect("a number")).or_insert(0) += 1;
        }
        if is_last {
            break;
        }
    }
    // The last pong is behind everything that was published before its ping.
    assert!(came.values().all(|&times| times == 1), "some came twice: {came:?}");
    let all = published.load(Ordering::Relaxed);
    let missing: Vec<_> = (since + 1..all).filter(|number| !came.contains_key(number)).collect();
    assert!(missing.is_empty(), "{missing:?} are missing");
    came.len()
}
