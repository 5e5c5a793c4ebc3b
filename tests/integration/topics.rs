//! What the HTTP calls say of a topic and of its history, on a server of several shards.

use std::{sync::Arc, time::Duration};

use fanfare::{
    classes::{Class, Classes, History, Which},
    settings::Settings,
};
use serde_json::{Value, json};

use crate::support::{Http, eventually, serve, shards};

/// Topics that begin with `kept.` have a history of so many messages.
fn keeping(messages: usize, ttl: Duration) -> Settings {
    let settings = shards(3);
    let class = Class::default_with(settings.outbox_bytes, settings.outbox_age);
    let history = Some(History { messages, bytes: 64 * 1024, ttl });
    let kept = Class { name: "kept".into(), history, ..class.clone() };
    let rules = vec![(Which::Prefix("kept.".into()), "kept".to_owned())];
    let classes = Classes::new(class, vec![kept], rules).expect("they fit together");
    Settings { classes: Arc::new(classes), ..settings }
}

fn get(http: &mut Http, path: &str) -> Value {
    let answer = http.get(path);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

fn messages(page: &Value) -> Vec<(u64, &str)> {
    let messages = page["messages"].as_array().expect("a list").iter();
    let said = messages.map(|one| (one["offset"].as_u64(), one["message"].as_str()));
    said.map(|(offset, message)| (offset.expect("a number"), message.expect("a text"))).collect()
}

#[test]
fn history_has_the_last_messages_and_those_behind_an_offset() {
    serve(keeping(5, Duration::from_secs(600)), |server| {
        let mut http = server.http();
        (1..=8).for_each(|n| http.publish("kept.a", &format!("m{n}")));
        let page = get(&mut http, "/topics/kept.a/history");
        let all = [(4, "m4"), (5, "m5"), (6, "m6"), (7, "m7"), (8, "m8")];
        assert_eq!(messages(&page), all);
        assert_eq!((&page["topic"], &page["offset"]), (&json!("kept.a"), &json!(8)));
        assert!(page["epoch"].is_string(), "{page}");
        assert_eq!((&page["reaches"], &page["more"]), (&json!(false), &json!(false)));
        let page = get(&mut http, "/topics/kept.a/history?limit=2");
        assert_eq!(messages(&page), all[3..]);
        let page = get(&mut http, "/topics/kept.a/history?since=4&limit=2");
        assert_eq!(messages(&page), all[1..3]);
        assert_eq!((&page["reaches"], &page["more"]), (&json!(true), &json!(true)));
        let page = get(&mut http, "/topics/kept.a/history?since=2");
        assert_eq!((messages(&page).len(), &page["reaches"]), (5, &json!(false)), "3 is gone");
        let page = get(&mut http, "/topics/kept.a/history?since=8");
        assert_eq!((messages(&page).len(), &page["reaches"]), (0, &json!(true)));
        let page = get(&mut http, "/topics/kept.a/history?since=9");
        assert_eq!((messages(&page).len(), &page["reaches"]), (0, &json!(false)), "it is beyond the head");
    });
}

#[test]
fn history_hides_what_is_for_one_user() {
    serve(keeping(50, Duration::from_secs(600)), |server| {
        let mut http = server.http();
        http.publish("kept.a", "for all");
        http.post("/publish", r#"{"topic":"kept.a","message":"secret","user_id":7}"#);
        http.publish("kept.a", "for all too");
        let page = get(&mut http, "/topics/kept.a/history");
        assert_eq!(messages(&page), [(1, "for all"), (3, "for all too")]);
        assert_eq!((&page["offset"], &page["reaches"]), (&json!(3), &json!(true)));
    });
}

#[test]
fn history_ends_with_its_time() {
    serve(keeping(50, Duration::from_secs(1)), |server| {
        let mut http = server.http();
        http.publish("kept.a", "soon gone");
        eventually("the message is gone", || {
            let page = get(&mut http, "/topics/kept.a/history");
            assert_eq!(page["offset"], 1, "the topic stands where it stood");
            messages(&page).is_empty() && page["reaches"] == false
        });
        eventually("its bytes are given back", || server.total().history_bytes == 0);
    });
}

#[test]
fn history_of_a_topic_that_keeps_nothing_or_was_never_used_is_empty() {
    serve(keeping(50, Duration::from_secs(600)), |server| {
        let mut http = server.http();
        let never = json!({"topic": "kept.b", "offset": 0, "reaches": true, "more": false, "messages": []});
        assert_eq!(get(&mut http, "/topics/kept.b/history"), never);
        http.publish("other", "x");
        let page = get(&mut http, "/topics/other/history");
        assert_eq!((messages(&page).len(), &page["offset"], &page["reaches"]), (0, &json!(1), &json!(false)));
        assert_eq!(get(&mut http, "/topics/other/history?since=1")["reaches"], true);
    });
}

#[test]
fn page_of_a_history_has_a_limit() {
    serve(keeping(50, Duration::from_secs(600)), |server| {
        let mut http = server.http();
        for bad in
            ["limit=0", "limit=1001", "limit=-1", "limit=many", "since=x", "limit=1&limit=1", "until=3"]
        {
            http.get(&format!("/topics/kept.a/history?{bad}")).expect_error(400, "bad_request");
        }
        assert_eq!(http.get("/topics/kept.a/history?limit=1000").status, 200);
        http.get("/topics/kept.a?limit=1").expect_error(400, "bad_request");
        http.get("/topics//history").expect_error(400, "bad_request");
        http.get("/topics/a%zz/history").expect_error(400, "bad_request");
        http.post("/topics/kept.a/history", "{}").expect_error(405, "method_not_allowed");
    });
}

#[test]
fn topic_says_who_has_it_and_what_became_of_its_frames() {
    serve(keeping(50, Duration::from_secs(600)), |server| {
        let mut http = server.http();
        let unused = get(&mut http, "/topics/kept.a");
        assert_eq!(
            (&unused["offset"], &unused["class"], unused.get("epoch")),
            (&json!(0), &json!("kept"), None)
        );
        let mut clients: Vec<_> = (0..5).map(|_| server.client(&["kept.a", "x/history"])).collect();
        (0..4).for_each(|_| http.publish("kept.a", "purr"));
        for client in &mut clients {
            (0..4).for_each(|_| client.expect_text("purr"));
        }
        let state = get(&mut http, "/topics/kept.a");
        assert_eq!(
            (&state["offset"], &state["kept"], &state["subscribers"]),
            (&json!(4), &json!(4), &json!(5))
        );
        let by_shard = state["subscribers_by_shard"].as_array().expect("a list");
        let sum: u64 = by_shard.iter().map(|n| n.as_u64().expect("a number")).sum();
        assert_eq!((by_shard.len(), sum), (3, 5));
        let dropped = json!({"bound": 0, "age": 0, "memory": 0, "closed": 0});
        assert_eq!(state["frames"], json!({"matched": 20, "conflated": 0, "dropped": dropped}));
        http.publish("x/history", "one");
        let state = get(&mut http, "/topics/x%2Fhistory");
        assert_eq!(
            (&state["class"], &state["offset"], &state["kept"]),
            (&json!("default"), &json!(1), &json!(0))
        );
    });
}
