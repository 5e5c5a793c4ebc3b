//! Classes of topics that a started Fanfare is told of, so that what a class does, or costs, can be measured. A topic
//! has the class its name begins with; all others have the server's default.

use clap::ValueEnum;

/// What is special about a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TopicClass {
    /// Policy `conflate`, and each publication has one of 16 keys
    Conflate,
    /// Policy `drop-oldest`
    DropOldest,
    /// Policy `drop-newest`
    DropNewest,
    /// The topic's history is kept: 10,000 messages, 512 KiB
    History,
}

/// What a started server reads. The bytes are what a server with its own `outbox_bytes` allows at most.
pub(super) const FILE: &str = r#"[classes.conflate]
policy = "conflate"

[classes.drop-oldest]
policy = "drop-oldest"

[classes.drop-newest]
policy = "drop-newest"

[classes.history]
history = { messages = 10000, bytes = "512KiB", ttl = "10m" }

[[topics]]
prefix = "conflate."
class = "conflate"

[[topics]]
prefix = "drop-oldest."
class = "drop-oldest"

[[topics]]
prefix = "drop-newest."
class = "drop-newest"

[[topics]]
prefix = "history."
class = "history"
"#;

impl TopicClass {
    /// As topics of it begin.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Conflate => "conflate",
            Self::DropOldest => "drop-oldest",
            Self::DropNewest => "drop-newest",
            Self::History => "history",
        }
    }

    /// A topic of this class, called after `topic`.
    pub(crate) fn topic(self, topic: &str) -> String {
        format!("{}.{topic}", self.name())
    }

    /// Whether publications have to have keys.
    pub(crate) fn is_keyed(self) -> bool {
        self == Self::Conflate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_in_the_file() {
        for class in TopicClass::value_variants() {
            assert!(FILE.contains(&format!("[classes.{}]", class.name())));
            let prefix = class.topic("");
            assert!(FILE.contains(&format!("prefix = \"{prefix}\"\nclass = \"{}\"", class.name())));
            assert_eq!(class.topic("a").strip_prefix(&prefix), Some("a"));
        }
    }
}
