//! Coming back to several topics, and to topics that a client has from its registration.

use std::{
    collections::{BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use serde_json::{Value, json};

use crate::support::{
    OnPanic, Running, WebSocket, serve, shards,
    v1::{classes, client, connect, say},
};

fn publish(server: &Running, topics: &[&str], message: &str) {
    let body = json!({ "topics": topics, "message": message }).to_string();
    assert_eq!(server.http().post("/publish", &body).status, 200);
}

/// The epochs of topics, as a client is told when it connects to them.
fn epochs(server: &Running, topics: &[&str]) -> Vec<Value> {
    let mut client = connect(server, &format!("/ws?topics={}", topics.join(",")));
    client.json();
    let ok = client.json();
    topics.iter().map(|topic| ok["positions"][topic]["epoch"].clone()).collect()
}

/// The next messages, so many, and that nothing else comes before a pong.
fn messages(client: &mut WebSocket, count: usize) -> Vec<Value> {
    let messages = (0..count).map(|_| client.json()).collect();
    assert_eq!(say(client, &json!({ "ping": 0 })), json!({ "pong": 0 }));
    messages
}

#[test]
fn message_to_several_topics_is_replayed_once_with_the_names_of_the_others() {
    serve(classes(shards(3)), |server| {
        let topics = ["h1", "h2", "h3"];
        let mut first = client(server, "h1,h2,h3");
        (1..=3).for_each(|n| publish(server, &topics, &n.to_string()));
        let live = messages(&mut first, 3);
        assert!(live.iter().all(|message| message["also"] == json!(["h2", "h3"])), "{live:?}");
        first.close();
        (4..=6).for_each(|n| publish(server, &["h3", "h1"], &n.to_string()));
        publish(server, &["h2"], "7");
        let epochs = epochs(server, &topics);
        // Of two topics it saw no message: theirs came by the first.
        let since: serde_json::Map<_, _> = topics
            .iter()
            .zip(&epochs)
            .zip([3, 0, 0])
            .map(|((topic, epoch), offset)| {
                ((*topic).to_owned(), json!({ "epoch": epoch, "offset": offset }))
            })
            .collect();
        let mut back = client(server, "");
        let ok = say(&mut back, &json!({ "subscribe": topics, "id": 1, "since": since }));
        assert!(topics.iter().all(|topic| ok["positions"][topic]["recovered"] == true), "{ok}");
        let came = messages(&mut back, 4);
        let mut texts: Vec<_> =
            came.iter().map(|message| message["message"].as_str().expect("a text")).collect();
        texts.sort_unstable();
        assert_eq!(texts, ["4", "5", "6", "7"], "{came:?}");
        for message in came.iter().filter(|message| message["message"] != "7") {
            let also = if message["topic"] == "h1" { "h3" } else { "h1" };
            assert_eq!(message["also"], json!([also]), "{message}");
        }
        let history = server.http().get("/topics/h2/history").json();
        assert_eq!(history["messages"][0]["also"], json!(["h1", "h3"]), "{history}");
    });
}

#[test]
fn topic_of_the_registration_is_replayed_when_it_is_subscribed_to_with_a_position() {
    serve(classes(shards(2)), |server| {
        let mut http = server.http();
        let id = server.register(&["h1", "a"]);
        let mut first = connect(server, &format!("/ws/{id}"));
        first.json();
        let ok = first.json();
        let epoch = |topic: &str| ok["positions"][topic]["epoch"].clone();
        http.publish("h1", "1");
        http.publish("a", "1");
        messages(&mut first, 2);
        first.close();
        (2..=4).for_each(|n: u32| http.publish("h1", &n.to_string()));
        http.publish("a", "2");

        let mut back = connect(server, &format!("/ws/{id}"));
        back.json();
        assert_eq!(back.json()["positions"]["h1"]["offset"], 4);
        http.publish("h1", "5");
        assert_eq!(messages(&mut back, 1)[0]["offset"], 5);
        let since = json!({ "h1": { "epoch": epoch("h1"), "offset": 1 } });
        let ok = say(&mut back, &json!({ "subscribe": ["h1"], "id": 1, "since": since }));
        let position = json!({ "epoch": epoch("h1"), "offset": 5, "recovered": true });
        assert_eq!(ok, json!({ "ok": 1, "positions": { "h1": position } }));
        let came: Vec<_> = messages(&mut back, 4).iter().map(|message| message["offset"].clone()).collect();
        assert_eq!(came, [2, 3, 4, 5], "what was missed, and what came since, in its order");

        // What is not kept is not passed over in silence.
        let since = json!({ "a": { "epoch": epoch("a"), "offset": 1 } });
        let ok = say(&mut back, &json!({ "topics": ["a", "h1"], "id": 2, "since": since }));
        assert_eq!((&ok["ok"], &ok["positions"]["a"]["recovered"]), (&json!(2), &json!(false)), "{ok}");
        assert_eq!(ok["positions"]["h1"].get("recovered"), None, "nothing was asked of it");
        let gap = json!({ "gap": {
            "topic": "a", "from": 2, "to": 2, "reason": "history", "conflated": 0, "dropped": 1
        }});
        assert_eq!(messages(&mut back, 1), [gap]);
        http.publish("a", "3");
        http.publish("h1", "6");
        assert_eq!(messages(&mut back, 2).len(), 2, "both are live as before");
    });
}

#[test]
fn gap_of_a_reset_is_empty_where_everything_of_the_new_epoch_is_there() {
    serve(classes(shards(2)), |server| {
        let since = |epoch: &Value| json!({ "h1": { "epoch": epoch, "offset": 17 } });
        let resume = |since: Value| {
            let mut client = client(server, "");
            let ok = say(&mut client, &json!({ "subscribe": ["h1"], "since": since }));
            assert_eq!(ok["positions"]["h1"]["recovered"], false, "{ok}");
            let gap = client.json();
            assert_eq!(
                gap,
                json!({ "gap": {
                    "topic": "h1", "from": 1, "to": 0, "reason": "reset", "conflated": 0, "dropped": 0,
                } })
            );
            (client, ok["positions"]["h1"]["offset"].clone())
        };
        // Of the epoch before the process was started anew, in which no message has come yet.
        let (mut early, offset) = resume(since(&json!("another")));
        assert_eq!(offset, 0);
        publish(server, &["h1"], "first");
        publish(server, &["h1"], "second");
        let first = messages(&mut early, 2);
        // Now there is a past, and it is whole.
        let (mut late, offset) = resume(since(&json!("another")));
        assert_eq!(offset, 2);
        assert_eq!(messages(&mut late, 2), first);
        // Beyond the head of this epoch is a reset too.
        let epoch = epochs(server, &["h1"]).remove(0);
        let (mut beyond, _) = resume(since(&epoch));
        assert_eq!(messages(&mut beyond, 2), first);
    });
}

#[test]
fn resuming_the_topics_of_a_registration_while_others_publish_loses_nothing() {
    let topics = ["h1", "h2", "h3"];
    serve(classes(shards(3)), |server| {
        let id = server.register(&topics);
        let going = AtomicBool::new(true);
        thread::scope(|scope| {
            let _end = OnPanic(|| going.store(false, Relaxed));
            for topic in topics {
                let going = &going;
                scope.spawn(move || {
                    let mut http = server.http();
                    while going.load(Relaxed) {
                        http.publish(topic, "m");
                    }
                });
            }
            let mut first = connect(server, &format!("/ws/{id}"));
            first.json();
            let mut last = first.json()["positions"].clone();
            drop(first);
            for _ in 0..30 {
                let mut back = connect(server, &format!("/ws/{id}"));
                (0..2).for_each(|_| drop(back.json()));
                back.send_text(&json!({ "subscribe": topics, "id": 1, "since": last }).to_string());
                let mut known: HashMap<String, BTreeSet<u64>> = HashMap::new();
                let mut head = None;
                // All that is replayed, and a little of what is live behind it.
                while topics.iter().any(|topic| {
                    let end = known.get(*topic).and_then(|known| known.last().copied());
                    head.as_ref()
                        .is_none_or(|head: &Value| end < head[topic]["offset"].as_u64().map(|at| at + 3))
                }) {
                    let told = back.json();
                    if told.get("ok").is_some() {
                        head = Some(told["positions"].clone());
                        continue;
                    }
                    let (topic, offsets) = offsets(&told);
                    known.entry(topic).or_default().extend(offsets);
                }
                for topic in topics {
                    let (since, known) = (last[topic]["offset"].as_u64().expect("an offset"), &known[topic]);
                    let end = *known.last().expect("some came");
                    let missing: Vec<_> =
                        (since + 1..=end).filter(|offset| !known.contains(offset)).collect();
                    assert!(missing.is_empty(), "{missing:?} of {topic} neither came nor were told");
                    last[topic]["offset"] = json!(end);
                }
                back.reset();
            }
            going.store(false, Relaxed);
        });
    });
}

/// What a message or a gap tells of.
fn offsets(told: &Value) -> (String, RangeInclusive<u64>) {
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{told}"));
    let (of, offsets) = match told.get("gap") {
        Some(gap) => (gap, number(&gap["from"])..=number(&gap["to"])),
        None => (told, number(&told["offset"])..=number(&told["offset"])),
    };
    (of["topic"].as_str().expect("a topic").to_owned(), offsets)
}
