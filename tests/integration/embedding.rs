//! A program that has the node inside: it registers, publishes and unregisters without HTTP.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use fanfare::{
    identity::User,
    node::{PublishError, RegisterError, Wishes},
    publication::{Audience, Content, Json, Message, Text},
    server::Server,
    settings::Settings,
    topic::Topic,
};

use crate::support::{WebSocket, eventually, serve, shards};

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("it is a topic")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}

#[test]
fn client_that_the_program_registers_is_like_any_other() {
    serve(shards(2), |server| {
        let node = server.node();
        let user = User::number(7);
        let id = node.register(user.clone(), ["cats", "dogs", "cats"].map(topic)).expect("there is room");
        let mut client = server.connect(&id.to_string());
        let audience = Audience { user: Some(user), exclude: None };
        let content = Content { audience, ..Message::text("for you").into() };
        block_on(node.publish(topic("dogs"), content)).expect("it is taken");
        client.expect_text("for you");
        let data = Json::parse(" [1] ").expect("it is JSON");
        block_on(node.publish(topic("cats"), Message::Data(data))).expect("it is taken");
        client.expect_text("[1]");
        assert!(block_on(node.unregister(id)), "it was registered");
        client.expect_close(1000, "unregistered");
        assert!(!block_on(node.unregister(id)), "it is gone");
    });
}

#[test]
fn client_that_the_program_registers_and_that_never_connects_expires() {
    let settings = Settings { registration_ttl: Duration::from_millis(50), ..shards(2) };
    serve(settings, |server| {
        let id = server.node().register(User::number(1), [topic("cats")]).expect("there is room");
        eventually("it expires", || server.node().registrations() == 0);
        let refused = WebSocket::connect(server.address(), &id.to_string()).expect_err("it is gone");
        refused.expect_error(404, "not_found");
    });
}

#[test]
fn nobody_is_registered_who_may_not_be() {
    serve(Settings { registrations_max: 1, max_topics_per_client: 1, ..shards(1) }, |server| {
        let register =
            |topics: &[&str]| server.node().register(User::number(1), topics.iter().map(|name| topic(name)));
        assert_eq!(register(&["a", "b"]), Err(RegisterError::TopicCount { max: 1 }));
        assert!(register(&["a"]).is_ok());
        assert_eq!(register(&["a"]), Err(RegisterError::Full));
        server.begin_stopping();
        assert_eq!(register(&["a"]), Err(RegisterError::Stopping));
    });
}

#[test]
fn topic_given_twice_is_published_to_once_as_over_http() {
    serve(shards(2), |server| {
        let node = server.node();
        let mut client = server.connect(&server.register(&["a", "b"]));
        let named = ["a", "b", "a"];
        let published = block_on(node.publish_to(named.map(topic), Message::text("once"), Wishes::default()));
        let published: Vec<_> = published
            .expect("it is taken")
            .iter()
            .map(|published| {
                let position = published.outcome.expect("there is room").position;
                (published.topic.as_str().to_owned(), position.offset)
            })
            .collect();
        assert_eq!(published, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
        let body = serde_json::json!({ "topics": named, "message": "again" }).to_string();
        let answer = server.http().post("/publish", &body).json();
        let results = answer["results"].as_array().expect("a list");
        assert_eq!(results.len(), published.len());
        for (result, (topic, offset)) in results.iter().zip(published) {
            assert_eq!((&result["topic"], &result["offset"]), (&topic.into(), &(offset + 1).into()));
        }
        client.expect_text("once");
        client.expect_text("again");
        server.http().publish("b", "then");
        client.expect_text("then");
    });
}

#[test]
fn no_topic_and_too_many_are_refused() {
    serve(shards(1), |server| {
        for count in [0, 17] {
            let topics: Vec<_> = (0..count).map(|n| topic(&format!("t{n}"))).collect();
            let refused = block_on(server.node().publish_to(topics, Message::text("m"), Wishes::default()));
            assert_eq!(refused, Err(PublishError::TopicCount { max: 16 }));
        }
    });
}

#[test]
fn settings_that_are_nonsense_are_refused_with_the_name_of_the_field() {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let error =
        Server::start(any_port, Settings { outbox_bytes: 0, ..shards(1) }).expect_err("it is nonsense");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().starts_with("settings: outbox_bytes is '0': 131092 to"), "{error}");
    serve(shards(1), |server| {
        let wanted = Settings { max_body: 1, publish_wait: Duration::from_secs(1), ..shards(1) };
        let error = server.node().reconfigure(wanted).expect_err("it is nonsense");
        assert_eq!((error.field, &*error.value), ("max_body", "1"));
        let settings = server.node().settings();
        assert_eq!(settings.publish_wait, Settings::default().publish_wait, "nothing is changed");
    });
}

#[test]
fn bytes_that_are_no_text_cannot_become_a_text_message() {
    assert!(Text::try_from(bytes::Bytes::from_static(b"caf\xc3\xa9")).is_ok());
    for bad in [&b"\xff"[..], b"caf\xc3", b"\xed\xa0\x80"] {
        assert!(Text::try_from(bytes::Bytes::from_static(bad)).is_err(), "{bad:?}");
    }
    for bad in ["", "{", "[1] 2", "1e999", r#""\ud800""#, "nul"] {
        assert!(Json::parse(bad).is_err(), "{bad}");
    }
}
