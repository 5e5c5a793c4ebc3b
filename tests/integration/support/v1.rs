//! Clients that speak `fanfare.v1`, and topics of each class.

use std::{sync::Arc, time::Duration};

use fanfare::{
    classes::{Class, Classes, History, Needs, Policy, Which},
    settings::Settings,
};
use serde_json::Value;

use super::{Running, WebSocket};

/// The subprotocol.
pub(crate) const V1: &str = "fanfare.v1";
/// What is kept of a topic whose class keeps something.
pub(crate) const HISTORY: History = History { messages: 10, bytes: 16 * 1024, ttl: Duration::from_secs(600) };

/// A client that did not register, with these topics in its query, behind its greeting.
pub(crate) fn client(server: &Running, topics: &str) -> WebSocket {
    let mut client = connect(server, &format!("/ws?topics={topics}"));
    let hello = client.json();
    assert!(hello["hello"]["client"].as_str().is_some_and(|id| id.len() == 32), "{hello}");
    if !topics.is_empty() {
        let ok = client.json();
        assert_eq!(ok["ok"], Value::Null, "{ok}");
        assert!(ok["positions"].is_object(), "{ok}");
    }
    client
}

/// Upgrades at a path, before its greeting.
pub(crate) fn connect(server: &Running, path: &str) -> WebSocket {
    let offered = "chat, fanfare.v1";
    WebSocket::speak(server.address(), path, offered, Some(V1)).expect("the upgrade is taken")
}

/// Sends a command; what comes next.
pub(crate) fn say(client: &mut WebSocket, command: &Value) -> Value {
    client.send_text(&command.to_string());
    client.json()
}

/// Settings of a node whose topics have classes; the first letter of a topic names its class.
pub(crate) fn classes(settings: Settings) -> Settings {
    let class = |name: &str| Class {
        name: name.into(),
        ..Class::default_with(settings.outbox_bytes, settings.outbox_age)
    };
    let further = vec![
        Class { policy: Policy::DropOldest, ..class("o") },
        Class { policy: Policy::Conflate, ..class("c") },
        Class { publishers: Needs::Public, ..class("p") },
        Class { history: Some(HISTORY), ..class("h") },
    ];
    let rules = ["o", "c", "p", "h"].map(|name| (Which::Prefix(name.into()), name.to_owned()));
    let classes = Classes::new(class("default"), further, rules.into()).expect("they fit together");
    Settings { classes: Arc::new(classes), ..settings }
}
