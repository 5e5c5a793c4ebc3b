//! Coming back to several topics, and to topics that a client has from its registration.

use serde_json::{Value, json};

use crate::support::{
    Running, WebSocket, serve, shards,
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
