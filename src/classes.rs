//! Topic classes: what a topic's subscribers get when they are slow, what is kept of it, and who may publish to it.
//!
//! The configuration names classes and says which topics are of which: by exact name, else by the longest prefix, else the
//! default class. Looked up once, when a shard or a home makes its record of a topic; from then on a topic carries
//! its [`ClassId`]. Checked when it is made, and never again.

use std::{fmt, sync::Arc, time::Duration};

use hashbrown::HashMap;
use serde::Deserialize;

pub use crate::auth::Needs;
use crate::{
    limits::{self, CLASSES_MAX},
    topic::Topic,
};

/// What becomes of the queue of a slow consumer when a frame of this class meets it at its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Policy {
    /// The slow consumer is closed with 1013.
    #[default]
    Disconnect,
    /// The arriving frame is dropped.
    DropNewest,
    /// The oldest queued frames of such classes are dropped.
    DropOldest,
    /// Of the frames with one topic and key only the youngest stays.
    Conflate,
}

/// What is kept of a topic for those who come later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Most messages.
    pub messages: usize,
    /// Most bytes of messages, each counted with [`limits::HISTORY_MESSAGE_OVERHEAD`] and a binary one as base64, so that
    /// the replay of all of it is not longer than that. At most half of the class's `outbox_bytes`.
    pub bytes: usize,
    /// How long a message is kept.
    pub ttl: Duration,
}

/// What topics of one class have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What slow consumers get.
    pub policy: Policy,
    /// Bytes that may be queued for a blocked subscriber when a frame of this class arrives; beyond it `policy` decides.
    /// At most the node's `outbox_bytes`, or `usize::MAX` for as many as that.
    pub outbox_bytes: usize,
    /// Age at which a frame that is queued for a blocked subscriber is dropped or, with [`Policy::Disconnect`], the
    /// subscriber closed. At most the node's `outbox_age`, or `Duration::MAX` for as long as that.
    pub outbox_age: Duration,
    /// What is kept; nothing by default.
    pub history: Option<History>,
    /// What is needed to subscribe.
    pub subscribers: Needs,
    /// What is needed to publish.
    pub publishers: Needs,
}

/// Names one class of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClassId(u16);

const _: () = assert!(CLASSES_MAX <= u16::MAX as usize);

impl ClassId {
    /// The class of topics that no rule names.
    pub const DEFAULT: Self = Self(0);

    /// Its place among the classes, the default one at 0.
    pub(crate) fn index(self) -> usize {
        self.0.into()
    }
}

/// The classes of a node, and which topics are of which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    /// The default class first.
    classes: Vec<Class>,
    exact: HashMap<Topic, ClassId, foldhash::fast::RandomState>,
    /// The longest first, so that the first that fits wins.
    prefixes: Vec<(Box<str>, ClassId)>,
    /// Whether any class asks something of subscribers.
    asks_subscribers: bool,
}

/// Which topics a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// One.
    Exact(Topic),
    /// Those whose name begins so.
    Prefix(Box<str>),
}

/// Why classes do not fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClassError {
    /// More than [`CLASSES_MAX`].
    TooManyClasses,
    /// More than [`limits::CLASS_RULES_MAX`].
    TooManyRules,
    /// Two classes have this name.
    TwoClasses(Arc<str>),
    /// Two rules are about the same topics.
    TwoRules {
        /// Their places in the list.
        rules: [usize; 2],
        /// The topics.
        which: Which,
    },
    /// A rule names a class that is not there.
    Unknown {
        /// Its place in the list.
        rule: usize,
        /// The name.
        class: String,
    },
    /// A history is larger than half of its class's outbox bound, so that its replay would make a slow consumer.
    HistoryTooLarge {
        /// The class.
        class: Arc<str>,
        /// Half of its bound, bytes.
        most: usize,
    },
}

impl Classes {
    /// Puts classes together: the default one, further ones, and for topics the name of their class.
    ///
    /// # Errors
    /// When they do not fit together.
    pub fn new(default: Class, further: Vec<Class>, rules: Vec<(Which, String)>) -> Result<Self, ClassError> {
        if further.len() >= CLASSES_MAX {
            return Err(ClassError::TooManyClasses);
        }
        if rules.len() > limits::CLASS_RULES_MAX {
            return Err(ClassError::TooManyRules);
        }
        let mut classes = vec![default];
        classes.extend(further);
        for (at, class) in classes.iter().enumerate() {
            if classes[..at].iter().any(|other| other.name == class.name) {
                return Err(ClassError::TwoClasses(class.name.clone()));
            }
            let most = class.outbox_bytes / 2;
            if class.history.is_some_and(|history| history.bytes > most) {
                return Err(ClassError::HistoryTooLarge { class: class.name.clone(), most });
            }
        }
        let mut all = Self::of_classes(classes);
        let mut seen = HashMap::<Which, usize, foldhash::fast::RandomState>::default();
        for (rule, (which, name)) in rules.into_iter().enumerate() {
            let Some(at) = all.classes.iter().position(|class| *class.name == *name) else {
                return Err(ClassError::Unknown { rule, class: name });
            };
            if let Some(first) = seen.insert(which.clone(), rule) {
                return Err(ClassError::TwoRules { rules: [first, rule], which });
            }
            let class = ClassId(at as u16);
            match which {
                Which::Prefix(prefix) => all.prefixes.push((prefix, class)),
                Which::Exact(topic) => drop(all.exact.insert(topic, class)),
            }
        }
        all.prefixes.sort_by(|(one, _), (other, _)| other.len().cmp(&one.len()).then(one.cmp(other)));
        Ok(all)
    }

    /// The default class alone.
    pub fn only(default: Class) -> Self {
        Self::of_classes(vec![default])
    }

    /// The same rules for other classes of the same names.
    pub(crate) fn map(&self, change: impl FnMut(&Class) -> Class) -> Self {
        let classes = self.classes.iter().map(change).collect();
        Self { exact: self.exact.clone(), prefixes: self.prefixes.clone(), ..Self::of_classes(classes) }
    }

    fn of_classes(classes: Vec<Class>) -> Self {
        let asks_subscribers = classes.iter().any(|class| class.subscribers != Needs::Public);
        Self { classes, exact: HashMap::default(), prefixes: Vec::new(), asks_subscribers }
    }

    /// The class of a topic. A walk over the prefixes: done once for each record of a topic.
    pub fn of(&self, topic: &Topic) -> ClassId {
        if let Some(class) = self.exact.get(topic) {
            return *class;
        }
        let prefix = self.prefixes.iter().find(|(prefix, _)| topic.as_str().starts_with(&**prefix));
        prefix.map_or(ClassId::DEFAULT, |(_, class)| *class)
    }

    /// What a class says.
    pub fn get(&self, id: ClassId) -> &Class {
        &self.classes[usize::from(id.0)]
    }

    /// What is needed to subscribe to a topic.
    pub fn needs_to_subscribe(&self, topic: &Topic) -> Needs {
        if self.asks_subscribers { self.get(self.of(topic)).subscribers } else { Needs::Public }
    }

    /// What is needed to publish to a topic.
    pub fn needs_to_publish(&self, topic: &Topic) -> Needs {
        self.get(self.of(topic)).publishers
    }

    /// Whether other topics are of the same classes here and there, by the classes' places.
    pub(crate) fn has_rules_of(&self, other: &Self) -> bool {
        let names =
            |classes: &Self| classes.classes.iter().map(|class| class.name.clone()).collect::<Vec<_>>();
        self.exact == other.exact && self.prefixes == other.prefixes && names(self) == names(other)
    }

    /// All classes, the default one first.
    pub fn iter(&self) -> impl Iterator<Item = &Class> {
        self.classes.iter()
    }

    /// How many rules there are.
    pub fn rule_count(&self) -> usize {
        self.exact.len() + self.prefixes.len()
    }

    /// All rules: those for one topic by its name, then those for a prefix, the longest first.
    pub fn rules(&self) -> Vec<(Which, ClassId)> {
        let mut exact: Vec<_> = self.exact.iter().map(|(topic, class)| (topic.clone(), *class)).collect();
        exact.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        let exact = exact.into_iter().map(|(topic, class)| (Which::Exact(topic), class));
        let prefixes = self.prefixes.iter().map(|(prefix, class)| (Which::Prefix(prefix.clone()), *class));
        exact.chain(prefixes).collect()
    }
}

impl Class {
    /// The default class of a node whose outboxes have this bound: slow consumers are disconnected, nothing is kept,
    /// anybody may subscribe, and only who calls with a key, if there are keys, may publish.
    pub fn default_with(outbox_bytes: usize, outbox_age: Duration) -> Self {
        Self {
            name: "default".into(),
            policy: Policy::default(),
            outbox_bytes,
            outbox_age,
            history: None,
            subscribers: Needs::Public,
            publishers: Needs::Key,
        }
    }
}

impl Policy {
    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::DropNewest => "drop-newest",
            Self::DropOldest => "drop-oldest",
            Self::Conflate => "conflate",
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(topic) => write!(f, "the topic {:?}", topic.as_str()),
            Self::Prefix(prefix) => write!(f, "the prefix {prefix:?}"),
        }
    }
}

impl fmt::Display for ClassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyClasses => write!(f, "there are more than {CLASSES_MAX} classes"),
            Self::TooManyRules => write!(f, "there are more than {} rules", limits::CLASS_RULES_MAX),
            Self::TwoClasses(name) => write!(f, "there are two classes named {name:?}"),
            Self::TwoRules { which, .. } => write!(f, "there are two rules for {which}"),
            Self::Unknown { class, .. } => write!(f, "there is no class named {class:?}"),
            Self::HistoryTooLarge { class, most } => {
                write!(
                    f,
                    "the history of class {class:?} may have {most} bytes at most: half of its outbox_bytes"
                )
            }
        }
    }
}

impl std::error::Error for ClassError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str) -> Class {
        Class { name: name.into(), ..Class::default_with(1_000, Duration::from_secs(1)) }
    }

    fn prefix(text: &str) -> Which {
        Which::Prefix(text.into())
    }

    fn topic(text: &str) -> Topic {
        Topic::parse(text).expect("it is a topic")
    }

    #[test]
    fn exact_name_wins_over_the_longest_prefix_and_that_over_shorter_ones() {
        let rules = vec![
            (prefix("a."), "short".to_owned()),
            (prefix("a.b."), "long".to_owned()),
            (Which::Exact(topic("a.b.c")), "exact".to_owned()),
        ];
        let further = vec![class("short"), class("long"), class("exact")];
        let classes = Classes::new(class("default"), further, rules).expect("they fit together");
        for (name, of) in
            [("a.b.c", "exact"), ("a.b.d", "long"), ("a.x", "short"), ("a", "default"), ("b", "default")]
        {
            assert_eq!(&*classes.get(classes.of(&topic(name))).name, of, "{name}");
        }
    }

    #[test]
    fn rules_are_listed_by_name_and_then_by_length() {
        let rules = [prefix("b."), prefix("a.long."), Which::Exact(topic("z")), Which::Exact(topic("y"))];
        let given = rules.clone().map(|which| (which, "a".to_owned())).into();
        let classes = Classes::new(class("default"), vec![class("a")], given).expect("they fit together");
        let [short, long, z, y] = rules;
        assert_eq!(classes.rules(), [y, z, long, short].map(|which| (which, ClassId(1))));
        assert_eq!(classes.rule_count(), 4);
    }

    #[test]
    fn names_shown_are_the_names_read() {
        let policies = [Policy::Disconnect, Policy::DropNewest, Policy::DropOldest, Policy::Conflate];
        for policy in policies {
            assert_eq!(serde_json::from_value::<Policy>(policy.as_str().into()).unwrap(), policy);
        }
        for needs in [Needs::Public, Needs::Token, Needs::Key] {
            assert_eq!(serde_json::from_value::<Needs>(needs.as_str().into()).unwrap(), needs);
        }
    }

    #[test]
    fn classes_that_do_not_fit_together_are_refused() {
        let new = |further: Vec<Class>, rules: Vec<(Which, String)>| {
            Classes::new(class("default"), further, rules).map(|_| ()).unwrap_err()
        };
        assert_eq!(new(vec![class("a"), class("a")], vec![]), ClassError::TwoClasses("a".into()));
        assert_eq!(new(vec![class("default")], vec![]), ClassError::TwoClasses("default".into()));
        let unknown = ClassError::Unknown { rule: 0, class: "a".into() };
        assert_eq!(new(vec![], vec![(prefix("x"), "a".into())]), unknown);
        for which in [prefix("x"), Which::Exact(topic("x"))] {
            let rules = [which.clone(), prefix("y"), Which::Exact(topic("y")), which.clone()];
            let rules = rules.map(|which| (which, "a".to_owned())).into();
            assert_eq!(new(vec![class("a")], rules), ClassError::TwoRules { rules: [0, 3], which });
        }
        let history = History { messages: 1, bytes: 501, ttl: Duration::from_secs(1) };
        let large = Class { history: Some(history), ..class("a") };
        let refused = ClassError::HistoryTooLarge { class: "a".into(), most: 500 };
        assert_eq!(new(vec![large], vec![]), refused);
        let many = (0..CLASSES_MAX).map(|n| class(&n.to_string())).collect();
        assert_eq!(new(many, vec![]), ClassError::TooManyClasses);
        let rules = (0..=limits::CLASS_RULES_MAX).map(|n| (prefix(&n.to_string()), "a".into())).collect();
        assert_eq!(new(vec![class("a")], rules), ClassError::TooManyRules);
    }
}
