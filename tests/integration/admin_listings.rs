//! Listings of topics and clients, and dismissing a client, over real sockets.

use std::time::Duration;

use fanfare::settings::Settings;

use crate::{
    admin::{admin, expect_refusal, with_admin},
    support::{Http, Running, WebSocket, eventually, serve},
};

const CHANGING: [(&str, &str); 1] = [("X-Fanfare-Admin", "1")];

/// What is listed under a path.
fn listed(http: &mut Http, path: &str) -> serde_json::Value {
    let answer = http.get(path);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn dismiss(server: &Running, id: &str) -> crate::support::Answer {
    admin(server).request("DELETE", &format!("/clients/{id}"), &CHANGING, b"")
}

#[test]
fn topics_are_listed_by_what_they_have_most_of_over_all_shards() {
    serve(with_admin(), |server| {
        let mut clients: Vec<_> = (0..4).map(|_| server.client(&["large"])).collect();
        clients.extend((0..2).map(|_| server.client(&["small", "busy"])));
        let mut http = server.http();
        (0..5).for_each(|_| http.publish("busy", "b"));
        (0..3).for_each(|_| http.publish("large", "l"));
        (0..9).for_each(|_| http.publish("nobody", "n"));
        clients.iter_mut().take(4).for_each(|client| (0..3).for_each(|_| client.expect_text("l")));
        let mut admin = admin(server);
        let names = |listed: &serde_json::Value| {
            let topics = listed["topics"].as_array().expect("a list").iter();
            topics.map(|topic| topic["topic"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
        };
        let by_subscribers = listed(&mut admin, "/topics");
        assert_eq!(by_subscribers["by"], "subscribers");
        assert_eq!(names(&by_subscribers)[0], "large");
        assert_eq!(names(&by_subscribers).len(), 3, "nobody has the other one: {by_subscribers}");
        let expected = serde_json::json!({
            "topic": "large", "class": "default", "subscribers": 4, "publications": 3, "deliveries": 12,
            "conflated": 0, "dropped": 0,
        });
        assert_eq!(by_subscribers["topics"][0], expected);
        let by_publications = listed(&mut admin, "/topics?by=publications&top=2");
        assert_eq!(names(&by_publications), ["nobody", "busy"]);
        assert_eq!(by_publications["topics"][0]["subscribers"], 0);
        let by_deliveries = listed(&mut admin, "/topics?by=deliveries&top=1");
        assert_eq!(names(&by_deliveries), ["large"]);
        for bad in ["/topics?top=0", "/topics?top=101", "/topics?by=size", "/clients?top=1"] {
            expect_refusal(&admin.get(bad), 400, "bad_request");
        }
    });
}

/// A client that reads nothing, and the settings under which it has something queued.
fn slow_settings() -> Settings {
    Settings {
        socket_unsent: 4 * 1024,
        socket_send_buffer: 4 * 1024,
        ping_interval: Duration::ZERO,
        ..with_admin()
    }
}

#[test]
fn slow_clients_are_listed_and_can_be_dismissed_by_the_name_they_have_there() {
    serve(slow_settings(), |server| {
        let id = server.register(&["cats"]);
        let slow = WebSocket::connect_narrow(server.address(), &id);
        let mut quick = server.client(&["dogs"]);
        let mut http = server.http();
        let large = "x".repeat(32 * 1024);
        let mut admin = admin(server);
        let mut row = serde_json::Value::Null;
        eventually("something is queued", || {
            http.publish("cats", &large);
            let clients = listed(&mut admin, "/clients?slowest=5");
            assert_eq!(clients["connected"], 2);
            row = clients["clients"][0].clone();
            row["queued_bytes"].as_u64().unwrap_or(0) > 64 * 1024 && row["oldest_ms"].as_u64() > Some(1)
        });
        assert_eq!(row["user"], 1);
        assert_eq!(
            (&row["state"], &row["protocol"], &row["topics"]),
            (&"blocked".into(), &"plain".into(), &1.into())
        );
        assert!(row["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{row}");
        let by_age = listed(&mut admin, "/clients?by=age");
        assert_eq!((&by_age["by"], &by_age["clients"][0]["id"]), (&"age".into(), &row["id"]));
        assert!(!by_age.to_string().contains(&id), "the secret is not told");
        let name = row["id"].as_str().expect("it has one");
        let answer = dismiss(server, name);
        assert_eq!((answer.status, answer.text()), (200, r#"{"dismissed":true}"#));
        eventually("it is closed", || server.total().closed_unregistered == 1);
        drop(slow);
        eventually("it is gone", || server.total().subscribers == 1);
        expect_refusal(&dismiss(server, name), 404, "not_found");
        assert!(WebSocket::connect(server.address(), &id).is_err(), "its registration is gone");
        http.publish("dogs", "bark");
        quick.expect_text("bark");
    });
}

#[test]
fn clients_are_dismissed_by_their_registration_too_and_unknown_ones_are_not_found() {
    serve(with_admin(), |server| {
        let (waiting, connected) = (server.register(&[]), server.register(&[]));
        let mut client = server.connect(&connected);
        assert_eq!(dismiss(server, &connected).status, 200);
        client.expect_close(1000, "unregistered");
        assert_eq!(dismiss(server, &waiting).status, 200);
        for unknown in [&*connected, &waiting, "0-0-9", "9-0-0", "0-77-0", "x", "..", "0-0", &"0".repeat(32)]
        {
            expect_refusal(&dismiss(server, unknown), 404, "not_found");
        }
        let without = admin(server).request("DELETE", "/clients/0-0-0", &[], b"");
        expect_refusal(&without, 403, "forbidden");
        drop(client);
    });
}

#[test]
fn client_that_never_registered_is_dismissed_by_the_name_of_its_connection() {
    serve(with_admin(), |server| {
        let connected = WebSocket::speak(server.address(), "/ws?topics=cats", "chat", None);
        let mut client = connected.expect("anybody may");
        let names = (0..2).map(|shard| format!("{shard}-0-0"));
        let dismissed = names.filter(|name| dismiss(server, name).status == 200).count();
        assert_eq!(dismissed, 1);
        client.expect_close(1000, "unregistered");
    });
}
