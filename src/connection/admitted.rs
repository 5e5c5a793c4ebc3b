//! Clients that are let in by a token, or still have to send one: what each may, and until when.
//!
//! Beside the sockets, so that a client without a token costs nothing for it. When the time of one is over it is closed. One
//! entry for each such client, gone with its connection; nothing waits with a timer of its own.

use std::{
    collections::{BTreeSet, HashMap},
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    commands::say,
    local::{Local, State},
};
use crate::{
    auth::{Decision, Grant, Proved, TokenError},
    engine::{Goodbye, Key, Manner},
    identity::User,
    protocol::{error::Code, v1::encode},
    session::AuthCommand,
    settings::Settings,
    topic::Topic,
    units::milliseconds,
    websocket::CloseCode,
};

/// What a client has proved that connects without having registered.
#[derive(Clone, Debug)]
pub(crate) enum Proof {
    /// Nothing, and need not.
    None,
    /// Who it is, by a token.
    Token(Rc<Grant>),
    /// Nothing yet: it has to send a token on its socket, within `auth_wait`, and may do nothing before.
    Awaited,
}

/// Why a client may not do something: for programs, and for people.
pub(super) type Forbidden = (Code, &'static str);

/// The clients of one shard that were let in by a token, or await one.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    clients: HashMap<Key, Client>,
    /// The same clients by when their time is over.
    due: BTreeSet<(u64, Key)>,
}

#[derive(Debug)]
struct Client {
    /// When its time is over, milliseconds of the shard's clock.
    until: u64,
    /// What its token grants; `None` while one is awaited.
    grant: Option<Rc<Grant>>,
}

impl Proof {
    /// The user that it proves.
    pub(super) fn user(&self) -> Option<&User> {
        match self {
            Self::Token(grant) => Some(&grant.user),
            Self::None | Self::Awaited => None,
        }
    }
}

impl Admitted {
    /// Lets a client stay until a time, with what its token grants if it has sent one. It may be there already.
    fn admit(&mut self, key: Key, until: u64, grant: Option<Rc<Grant>>) {
        self.remove(key);
        self.due.insert((until, key));
        self.clients.insert(key, Client { until, grant });
    }

    /// Forgets a client, if it is one of these.
    pub(super) fn remove(&mut self, key: Key) {
        if let Some(client) = self.clients.remove(&key) {
            self.due.remove(&(client.until, key));
        }
    }

    /// What a client's token grants.
    fn grant(&self, key: Key) -> Option<&Rc<Grant>> {
        self.clients.get(&key)?.grant.as_ref()
    }

    /// What a client has proved. Never that it holds a key, for there is no way to send one on a socket.
    ///
    /// # Errors
    /// When it has to prove something first.
    fn proved(&self, key: Key) -> Result<Proved<'_>, Forbidden> {
        match self.clients.get(&key) {
            None => Ok(Proved::Nothing),
            Some(Client { grant: Some(grant), .. }) => Ok(Proved::Token(grant)),
            Some(Client { grant: None, .. }) => Err(TOKEN_FIRST),
        }
    }

    /// Whether a client may do nothing yet but send a token.
    fn awaits(&self, key: Key) -> bool {
        self.clients.get(&key).is_some_and(|client| client.grant.is_none())
    }

    /// The next client whose time is over at `now`.
    fn next_due(&self, now: u64) -> Option<Key> {
        self.due.first().filter(|(until, _)| *until <= now).map(|(_, key)| *key)
    }
}

impl Local {
    /// Notes what a client has proved that has its socket now.
    pub(super) fn admit(&self, state: &mut State, key: Key, proof: &Proof) {
        match proof {
            Proof::None => {}
            Proof::Token(grant) => state.admitted.admit(key, self.until(grant), Some(grant.clone())),
            Proof::Awaited => {
                let wait = milliseconds(self.node().settings().auth_wait);
                state.admitted.admit(key, self.now().saturating_add(wait), None);
            }
        }
    }

    /// Closes those whose time is over.
    pub(super) fn close_overdue(&self, state: &mut State, now: u64) {
        while let Some(key) = state.admitted.next_due(now) {
            let goodbye = match state.admitted.awaits(key) {
                true => Goodbye { code: CloseCode::UNAUTHORIZED, reason: "not authorised" },
                false => Goodbye { code: CloseCode::POLICY, reason: "auth expired" },
            };
            state.admitted.remove(key);
            state.shard.close(key, goodbye, Manner::Discard);
        }
    }

    /// Takes a token that a client sent on its socket, and answers.
    pub(super) fn authenticate(&self, state: &mut State, key: Key, command: AuthCommand) {
        let AuthCommand { id, token } = command;
        let taken = self.take_token(state, key, token.as_str());
        say(state, key, |text| match taken {
            Ok(()) => encode::ok(text, id.as_ref()),
            Err((code, message)) => encode::error(text, code, message, id.as_ref()),
        });
    }

    fn take_token(&self, state: &mut State, key: Key, token: &str) -> Result<(), Forbidden> {
        let settings = self.node().settings();
        let Some(tokens) = &settings.tokens else {
            return Err((Code::Unsupported, "no tokens are taken here"));
        };
        let Some(socket) = state.sockets.get_mut(key) else { return Ok(()) };
        if self.node().clients().contains(socket.session.client()) {
            return Err((Code::Forbidden, "a registered client is who it was registered as"));
        }
        let unauthorized = |error: TokenError| (Code::Unauthorized, error.as_str());
        let grant = tokens.verify(token.as_bytes(), unix_time().as_secs()).map_err(unauthorized)?;
        match state.admitted.grant(key) {
            Some(before) if before.user != grant.user => {
                return Err((Code::Forbidden, "the token is of another user than the one before"));
            }
            Some(_) => {}
            None => state.shard.set_user(key, grant.user.clone()),
        }
        let until = self.until(&grant);
        state.admitted.admit(key, until, Some(Rc::new(grant)));
        Ok(())
    }

    /// When a grant ends, by the shard's clock.
    fn until(&self, grant: &Grant) -> u64 {
        let left = Duration::from_secs(grant.expires).saturating_sub(unix_time());
        self.now().saturating_add(milliseconds(left))
    }
}

/// Whether a client may have these topics: those it has already, and those that it may have by what it has proved.
pub(super) fn may_have(
    state: &State,
    settings: &Settings,
    key: Key,
    topics: &[Topic],
) -> Result<(), Forbidden> {
    let proved = state.admitted.proved(key)?;
    let mut held = None;
    for topic in topics {
        let why = match proved.may_have(topic, || settings.classes.needs_to_subscribe(topic)) {
            Decision::Allowed => continue,
            Decision::NeedsToken => "one of these topics needs a token that grants it; nothing was changed",
            Decision::NeedsKey => {
                "one of these topics is given by whoever registers the client; nothing was changed"
            }
            Decision::NotGranted => {
                "the client's token does not grant one of these topics; nothing was changed"
            }
        };
        if !held.get_or_insert_with(|| state.shard.topics_of(key)).contains(topic) {
            return Err((Code::Forbidden, why));
        }
    }
    Ok(())
}

/// Whether a client may publish to these topics.
pub(super) fn may_publish(
    state: &State,
    settings: &Settings,
    key: Key,
    topics: &[Topic],
) -> Result<(), Forbidden> {
    let proved = state.admitted.proved(key)?;
    let needs = |topic: &Topic| settings.classes.needs_to_publish(topic);
    match topics.iter().all(|topic| proved.may_publish(topic, || needs(topic)) == Decision::Allowed) {
        true => Ok(()),
        false => Err((Code::Forbidden, "this client may not publish to this topic")),
    }
}

const TOKEN_FIRST: Forbidden = (Code::Unauthorized, r#"send a token first: {"auth":"…"}"#);

/// The time since 1970.
pub(crate) fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        auth::{Needs, tokens::TopicGrants},
        classes::{Class, Classes, Which},
        engine::Encoding,
        node::Node,
    };

    const ALL: [Needs; 3] = [Needs::Public, Needs::Token, Needs::Key];

    /// Settings by which a topic named as a need has that need.
    fn settings() -> Settings {
        let settings = Settings { shards: 1, ..Settings::default() };
        let default = Class::default_with(settings.outbox_bytes, settings.outbox_age);
        let class = |needs: Needs| Class {
            name: needs.as_str().into(),
            subscribers: needs,
            publishers: needs,
            ..default.clone()
        };
        let rules = ALL.map(|needs| (Which::Exact(topic(needs)), needs.as_str().to_owned()));
        let classes = Classes::new(default.clone(), ALL.map(class).into(), rules.into());
        Settings { classes: Arc::new(classes.expect("they fit together")), ..settings }
    }

    fn topic(needs: Needs) -> Topic {
        Topic::parse(needs.as_str()).expect("it is a topic")
    }

    fn grant(topics: &[Needs]) -> Rc<Grant> {
        let named = topics.iter().map(|needs| needs.as_str().to_owned()).collect();
        let grants = TopicGrants::new(named).filter(|_| !topics.is_empty());
        Rc::new(Grant {
            user: User::number(7),
            expires: u64::MAX,
            subscribe: grants.clone(),
            publish: grants,
        })
    }

    #[tokio::test]
    async fn what_a_client_may_is_what_it_has_proved_and_what_it_has_already() {
        let local = Local::new(Node::new(settings()), 0).expect("a descriptor");
        let settings = local.node().settings();
        let state = &mut *local.state();
        for (proof, expected) in [
            (None, ["", "forbidden", "forbidden"]),
            (Some(None), ["unauthorized"; 3]),
            (Some(Some(grant(&[]))), ["", "forbidden", "forbidden"]),
            (Some(Some(grant(&ALL))), ["", "", "forbidden"]),
            (Some(Some(grant(&[Needs::Key]))), ["forbidden"; 3]),
        ] {
            let key = state.shard.add(None, None, Encoding::V1);
            if let Some(grant) = &proof {
                state.admitted.admit(key, u64::MAX, grant.clone());
            }
            let code = |may: Result<(), Forbidden>| may.map_or_else(|(code, _)| code.as_str(), |()| "");
            let asked = |may: fn(&State, &Settings, Key, &[Topic]) -> Result<(), Forbidden>| {
                ALL.map(|needs| code(may(state, &settings, key, &[topic(needs)])))
            };
            assert_eq!(asked(may_have), expected, "{proof:?}");
            assert_eq!(asked(may_publish), expected, "{proof:?}");
            // One that it may not have is one too many; but what it has it may name.
            let both = [topic(Needs::Public), topic(Needs::Key)];
            assert_eq!(code(may_have(state, &settings, key, &both)), expected[2], "{proof:?}");
            state.shard.set_topics(key, [topic(Needs::Key)]);
            state.shard.sequence(usize::MAX);
            state.shard.take(usize::MAX);
            let held = if proof == Some(None) { "unauthorized" } else { "" };
            assert_eq!(code(may_have(state, &settings, key, &[topic(Needs::Key)])), held, "{proof:?}");
            assert_eq!(code(may_have(state, &settings, key, &both)), expected[0], "{proof:?}");
            assert_eq!(code(may_publish(state, &settings, key, &[topic(Needs::Key)])), expected[2]);
        }
    }
}
