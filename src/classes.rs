//! Topic classes: what a topic's subscribers get when they are slow, what is kept of it, and who may publish to it.
//!
//! The configuration names classes and says which topics are of which: by exact name, else by the longest prefix, else the
//! default class. Looked up once, when a shard or a home makes its record of a topic; from then on a topic carries
//! its [`ClassId`]. Checked when it is made, and never again.

use std::{fmt, sync::Arc, time::Duration};

use hashbrown::HashMap;

use crate::{
    limits::{self, CLASSES_MAX},
    topic::Topic,
};

/// What becomes of the queue of a slow consumer when a frame of this class meets it at its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Most bytes of messages.
    pub bytes: usize,
    /// How long a message is kept.
    pub ttl: Duration,
}

/// Who may publish to a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publishers {
    /// Whoever may use the HTTP calls.
    #[default]
    Http,
    /// Connected clients too, on their sockets.
    Clients,
}

/// What topics of one class have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What slow consumers get.
    pub policy: Policy,
    /// Bytes that may be queued for a blocked subscriber when a frame of this class arrives; beyond it `policy` decides.
    /// At most the node's `outbox_bytes`.
    pub outbox_bytes: usize,
    /// Age at which a frame that is queued for a blocked subscriber is dropped or, with [`Policy::Disconnect`], the
    /// subscriber closed.
    pub outbox_age: Duration,
    /// What is kept; nothing by default.
    pub history: Option<History>,
    /// Who may publish.
    pub publishers: Publishers,
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
#[derive(Clone, Debug)]
pub struct Classes {
    /// The default class first.
    classes: Vec<Class>,
    exact: HashMap<Topic, ClassId, foldhash::fast::RandomState>,
    /// The longest first, so that the first that fits wins.
    prefixes: Vec<(Box<str>, ClassId)>,
}

/// Which topics a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// One.
    Exact(Topic),
    /// Those whose name begins so.
    Prefix(Box<str>),
}

/// Why classes do not fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassError {
    /// More than [`CLASSES_MAX`].
    TooManyClasses,
    /// More than [`limits::CLASS_RULES_MAX`].
    TooManyRules,
    /// Two classes have this name.
    TwoClasses(Arc<str>),
    /// Two rules are about the same topics.
    TwoRules(String),
    /// A rule names a class that is not there.
    Unknown(String),
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
        let mut all = Self { classes, exact: HashMap::default(), prefixes: Vec::new() };
        for (which, name) in rules {
            all.add_rule(which, name)?;
        }
        all.prefixes.sort_by(|(one, _), (other, _)| other.len().cmp(&one.len()).then(one.cmp(other)));
        if let Some(twice) = all.prefixes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(ClassError::TwoRules(format!("the prefix {:?}", twice[0].0)));
        }
        Ok(all)
    }

    /// The default class alone.
    pub fn only(default: Class) -> Self {
        Self { classes: vec![default], exact: HashMap::default(), prefixes: Vec::new() }
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

    /// All classes, the default one first.
    pub fn iter(&self) -> impl Iterator<Item = &Class> {
        self.classes.iter()
    }

    fn add_rule(&mut self, which: Which, name: String) -> Result<(), ClassError> {
        let Some(at) = self.classes.iter().position(|class| *class.name == *name) else {
            return Err(ClassError::Unknown(name));
        };
        let class = ClassId(at as u16);
        match which {
            Which::Prefix(prefix) => self.prefixes.push((prefix, class)),
            Which::Exact(topic) => {
                let said = format!("the topic {:?}", topic.as_str());
                if self.exact.insert(topic, class).is_some() {
                    return Err(ClassError::TwoRules(said));
                }
            }
        }
        Ok(())
    }
}

impl Class {
    /// The default class of a node whose outboxes have this bound: slow consumers are disconnected, nothing is kept,
    /// and only HTTP calls publish.
    pub fn default_with(outbox_bytes: usize, outbox_age: Duration) -> Self {
        Self {
            name: "default".into(),
            policy: Policy::default(),
            outbox_bytes,
            outbox_age,
            history: None,
            publishers: Publishers::default(),
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

impl fmt::Display for ClassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyClasses => write!(f, "there are more than {CLASSES_MAX} classes"),
            Self::TooManyRules => write!(f, "there are more than {} rules", limits::CLASS_RULES_MAX),
            Self::TwoClasses(name) => write!(f, "there are two classes named {name:?}"),
            Self::TwoRules(which) => write!(f, "there are two rules for {which}"),
            Self::Unknown(name) => write!(f, "there is no class named {name:?}"),
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
    fn classes_that_do_not_fit_together_are_refused() {
        let new = |further: Vec<Class>, rules: Vec<(Which, String)>| {
            Classes::new(class("default"), further, rules).map(|_| ()).unwrap_err()
        };
        assert_eq!(new(vec![class("a"), class("a")], vec![]), ClassError::TwoClasses("a".into()));
        assert_eq!(new(vec![class("default")], vec![]), ClassError::TwoClasses("default".into()));
        assert_eq!(new(vec![], vec![(prefix("x"), "a".into())]), ClassError::Unknown("a".into()));
        let twice = || vec![(prefix("x"), "a".into()), (prefix("y"), "a".into()), (prefix("x"), "a".into())];
        assert!(matches!(new(vec![class("a")], twice()), ClassError::TwoRules(_)));
        let twice = || vec![(Which::Exact(topic("x")), "a".into()), (Which::Exact(topic("x")), "a".into())];
        assert!(matches!(new(vec![class("a")], twice()), ClassError::TwoRules(_)));
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
