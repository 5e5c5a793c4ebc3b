//! Whether somebody may have a topic, or publish to it: decided here and nowhere else.
//!
//! What is needed the class of the topic says, what somebody has proved its connection or its request. `http` and `connection`
//! ask, each for its callers, and only say the decision in their words; what a client has already is theirs to know.

use serde::Deserialize;

use super::Grant;
use crate::topic::Topic;

/// What somebody must prove to have, or to publish to, a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Needs {
    /// Nothing, beyond what is needed to connect or call at all.
    Public,
    /// A token that names the topic, or a key.
    Token,
    /// An API key: clients on their sockets have none, but may be registered with the topic by whoever has one.
    Key,
}

/// What somebody has proved.
#[derive(Clone, Copy, Debug)]
pub enum Proved<'a> {
    /// Nothing.
    Nothing,
    /// Whose client it is, by a token that grants this.
    Token(&'a Grant),
    /// That it holds an API key; or nothing is configured by which one could prove anything.
    Key,
}

/// Whether it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It may.
    Allowed,
    /// It would need a token that names the topic, or a key, and has neither.
    NeedsToken,
    /// It would need a key, whatever else it has.
    NeedsKey,
    /// It has a token, and that does not grant the topic.
    NotGranted,
}

impl Needs {
    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Token => "token",
            Self::Key => "key",
        }
    }
}

impl Proved<'_> {
    /// Whether it may have a topic, or look at it. What is needed is looked up only if it matters.
    pub fn may_have(self, topic: &Topic, needs: impl FnOnce() -> Needs) -> Decision {
        self.decide(needs, |grant, asks_for_token| grant.may_have(topic, asks_for_token))
    }

    /// Whether it may publish to a topic; of a key that it is for publishing is known by then.
    pub fn may_publish(self, topic: &Topic, needs: impl FnOnce() -> Needs) -> Decision {
        self.decide(needs, |grant, asks_for_token| grant.may_publish(topic, asks_for_token))
    }

    fn decide(self, needs: impl FnOnce() -> Needs, grants: impl FnOnce(&Grant, bool) -> bool) -> Decision {
        if let Self::Key = self {
            return Decision::Allowed;
        }
        match (needs(), self) {
            (_, Self::Key) | (Needs::Public, Self::Nothing) => Decision::Allowed,
            (Needs::Key, _) => Decision::NeedsKey,
            (Needs::Token, Self::Nothing) => Decision::NeedsToken,
            (needs, Self::Token(grant)) => match grants(grant, needs == Needs::Token) {
                true => Decision::Allowed,
                false => Decision::NotGranted,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Decision::{Allowed, NeedsKey, NeedsToken, NotGranted},
        *,
    };
    use crate::{auth::tokens::TopicGrants, identity::User};

    #[test]
    fn everybody_may_what_the_class_asks_for_and_the_token_says() {
        let topic = Topic::parse("a").expect("it is a topic");
        let grants = |list: &[&str]| TopicGrants::new(list.iter().map(|text| (*text).to_owned()).collect());
        let silent = Grant { user: User::number(7), expires: 0, subscribe: None, publish: None };
        // One of the two is said each time, and says nothing of the other.
        let have =
            |list: &[&str]| Grant { subscribe: grants(list), publish: grants(&["x"]), ..silent.clone() };
        let publish =
            |list: &[&str]| Grant { subscribe: grants(&["x"]), publish: grants(list), ..silent.clone() };
        let (named, others) = ([have(&["a"]), publish(&["a"])], [have(&["b"]), publish(&["b"])]);
        let all = [Needs::Public, Needs::Token, Needs::Key];
        for (who, expected) in [
            ([Proved::Key; 2], [Allowed; 3]),
            ([Proved::Nothing; 2], [Allowed, NeedsToken, NeedsKey]),
            ([Proved::Token(&silent); 2], [Allowed, NotGranted, NeedsKey]),
            (named.each_ref().map(Proved::Token), [Allowed, Allowed, NeedsKey]),
            (others.each_ref().map(Proved::Token), [NotGranted, NotGranted, NeedsKey]),
        ] {
            let [to_have, to_publish] = who;
            assert_eq!(all.map(|needs| to_have.may_have(&topic, || needs)), expected, "{to_have:?}");
            assert_eq!(all.map(|needs| to_publish.may_publish(&topic, || needs)), expected, "{to_publish:?}");
        }
    }

    #[test]
    fn who_has_a_key_pays_for_no_rules() {
        let topic = Topic::parse("a").expect("it is a topic");
        let looked_up = || panic!("it does not matter what is needed");
        assert_eq!(Proved::Key.may_publish(&topic, looked_up), Allowed);
        assert_eq!(Proved::Key.may_have(&topic, looked_up), Allowed);
    }
}
