//! Receipts: what a publisher is told of what became of its publication.

use fanfare::settings::Settings;
use serde_json::{Value, json};

use crate::support::{Http, Running, WebSocket, serve, shards};

/// matched, written, queued, dropped, conflated; which add up.
fn counts(told: &Value) -> [u64; 5] {
    let counts = ["matched", "written", "queued", "dropped", "conflated"]
        .map(|name| told[name].as_u64().unwrap_or_else(|| panic!("no {name} in {told}")));
    assert_eq!(counts[0], counts[1..].iter().sum::<u64>(), "{told}");
    counts
}

fn publish(http: &mut Http, topics: &[&str], message: &str) -> Value {
    let body = json!({"topics": topics, "message": message, "receipt": true}).to_string();
    let answer = http.post("/publish", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["results"].clone()
}

fn stalled(server: &Running, topic: &str) -> WebSocket {
    WebSocket::connect_narrow(server.address(), &server.register(&[topic]))
}

fn narrow(nodes: usize) -> Settings {
    Settings { socket_unsent: 4_096, socket_send_buffer: 16 << 10, outbox_bytes: 256 << 10, ..shards(nodes) }
}

#[test]
fn receipt_sums_all_shards_and_each_topic_has_its_own() {
    serve(shards(3), |server| {
        let _clients: Vec<_> = (0..6).map(|_| server.client(&["a"])).collect();
        let _more: Vec<_> = (0..3).map(|_| server.client(&["a", "b"])).collect();
        let mut http = server.http();
        let told = publish(&mut http, &["b", "a", "nobody"], "x");
        assert_eq!(counts(&told[0]), [3, 3, 0, 0, 0]);
        assert_eq!(counts(&told[1]), [6, 6, 0, 0, 0]);
        assert_eq!(counts(&told[2]), [0; 5]);
        let answer = http.post_as("/publish/a?receipt=true", None, b"y").json();
        assert_eq!((counts(&answer), answer.get("partial")), ([9, 9, 0, 0, 0], None));
        assert_eq!(answer["topic"], "a");
        let answer = http.post_as("/publish/a?receipt=false", None, b"y").json();
        assert_eq!(answer.get("matched"), None);
        let answer = http.post_as("/publish/b?receipt=true&user_id=2", None, b"y").json();
        assert_eq!(counts(&answer), [0; 5], "they belong to user 1");
    });
}

#[test]
fn receipt_says_what_a_stalled_client_has_queued_and_then_lost() {
    serve(narrow(2), |server| {
        let mut clients = [server.client(&["a"]), server.client(&["a"])];
        let stalled = [stalled(server, "a"), stalled(server, "a")];
        let mut http = server.http();
        let message = "x".repeat(4_000);
        let mut kinds = Vec::new();
        for _ in 0..1_000 {
            let told = publish(&mut http, &["a"], &message);
            let [matched, written, queued, dropped, conflated] = counts(&told[0]);
            assert!(written >= 2 && conflated == 0, "those that read have it: {told}");
            clients.iter_mut().for_each(|client| client.expect_text(&message));
            let kind = (written - 2, queued, dropped);
            if kinds.last() != Some(&kind) {
                kinds.push(kind);
            }
            if matched == 2 {
                break;
            }
        }
        assert_eq!(kinds.first(), Some(&(2, 0, 0)), "what fits is written: {kinds:?}");
        assert!(kinds.iter().any(|&(_, queued, _)| queued == 2), "then it is queued: {kinds:?}");
        assert!(kinds.iter().any(|&(_, _, dropped)| dropped > 0), "then they are closed: {kinds:?}");
        assert_eq!(kinds.last(), Some(&(0, 0, 0)), "and are gone: {kinds:?}");
        drop(stalled);
    });
}
