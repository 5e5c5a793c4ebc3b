//! What is left of a token that was verified: who it is about, until when, and which topics it opens.

use std::fmt;

use crate::{identity::User, limits::TOKEN_TOPICS_MAX, topic::Topic};

/// What a token grants.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// The user whose client it is.
    pub user: User,
    /// When it ends, in seconds since 1970; what the clocks may differ by is in it.
    pub expires: u64,
    /// The topics its client may have and no others; `None` if it says nothing of that.
    pub subscribe: Option<TopicGrants>,
    /// The same for publishing.
    pub publish: Option<TopicGrants>,
}

/// Topics by name and by prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicGrants(Box<[Pattern]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(Box<str>),
    /// Written with a star behind it.
    Prefix(Box<str>),
}

impl TopicGrants {
    /// Those of a list: `news.sport` is one topic, `news.*` is all that begin with `news.`, and `*` is all. `None` for a list
    /// that is too long, or has an empty text in it.
    pub(crate) fn new(list: Vec<String>) -> Option<Self> {
        let pattern = |text: String| match text.strip_suffix('*') {
            Some(prefix) => Some(Pattern::Prefix(prefix.into())),
            None => (!text.is_empty()).then(|| Pattern::Exact(text.into())),
        };
        (list.len() <= TOKEN_TOPICS_MAX).then_some(())?;
        Some(Self(list.into_iter().map(pattern).collect::<Option<_>>()?))
    }

    /// Whether a topic is among them.
    pub fn cover(&self, topic: &Topic) -> bool {
        let topic = topic.as_str();
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exact(name) => **name == *topic,
            Pattern::Prefix(prefix) => topic.starts_with(&**prefix),
        })
    }
}

impl Grant {
    /// Whether its client may have a topic; one that asks for a token must be named.
    pub fn may_have(&self, topic: &Topic, asks_for_token: bool) -> bool {
        within(self.subscribe.as_ref(), topic, asks_for_token)
    }

    /// Whether its client may publish to a topic; one that asks for a token must be named.
    pub fn may_publish(&self, topic: &Topic, asks_for_token: bool) -> bool {
        within(self.publish.as_ref(), topic, asks_for_token)
    }
}

/// What is said holds for all topics; where nothing is, only those are left that ask for nothing.
fn within(granted: Option<&TopicGrants>, topic: &Topic, asks_for_token: bool) -> bool {
    granted.map_or(!asks_for_token, |granted| granted.cover(topic))
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("expires", &self.expires).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(list: &[&str]) -> Option<TopicGrants> {
        TopicGrants::new(list.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn names_are_exact_and_a_star_behind_a_prefix_is_the_rest() {
        let covers = |list: &[&str], topic: &str| {
            grants(list).expect("they are patterns").cover(&Topic::parse(topic).expect("it is a topic"))
        };
        assert!(covers(&["a", "news.*"], "news.sport") && covers(&["news.*"], "news."));
        assert!(
            !covers(&["news.*"], "news")
                && !covers(&["news.*"], "newsroom")
                && !covers(&["news"], "news.sport")
        );
        assert!(covers(&["*"], "anything") && !covers(&[], "anything"));
        // A star elsewhere is a star.
        assert!(covers(&["a*b"], "a*b") && !covers(&["a*b"], "axb"));
    }

    #[test]
    fn lists_are_bounded_and_an_empty_name_is_none() {
        let long = vec!["a"; TOKEN_TOPICS_MAX + 1];
        assert!(grants(&long[1..]).is_some() && grants(&long).is_none() && grants(&["a", ""]).is_none());
    }
}
