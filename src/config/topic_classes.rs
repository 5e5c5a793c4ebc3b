//! The tables `[classes.NAME]` and `[[topics]]`, and how they become [`Classes`].
//!
//! Whatever a class does not say is as the node's options are, not as `[classes.default]` is: a class can be read without
//! another. [`Settings`] say whether a class fits into the node, and [`Classes::new`] whether all fits together; here a
//! complaint gets its line.

use std::{ops::Range, sync::Arc};

use serde::Deserialize;
use toml::Spanned;

use super::{
    ConfigError,
    checks::{Refused, set},
    error::Place,
    file::File,
};
use crate::{
    classes::{Class, ClassError, Classes, History, Needs, Policy, Which},
    limits,
    settings::Settings,
    topic::Topic,
    units::{Count, Size, Span},
};

/// The class of topics that no rule names.
const DEFAULT: &str = "default";

/// `[classes.NAME]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct ClassTable {
    policy: Policy,
    outbox_bytes: Option<Spanned<Size>>,
    outbox_age: Option<Spanned<Span>>,
    history: Option<HistoryTable>,
    subscribers: Option<Spanned<Needs>>,
    publishers: Option<Spanned<Needs>>,
}

/// `history` of a class. All of it must be said: what a topic may keep of the node's memory nobody can guess.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with messages, bytes and ttl")]
struct HistoryTable {
    messages: Spanned<Count>,
    bytes: Spanned<Size>,
    ttl: Spanned<Span>,
}

impl ClassTable {
    /// Where a field of the class is said, if it is.
    fn span_of(&self, field: &str) -> Option<Range<usize>> {
        match field {
            "outbox_bytes" => self.outbox_bytes.as_ref().map(Spanned::span),
            "outbox_age" => self.outbox_age.as_ref().map(Spanned::span),
            "history.messages" => self.history.as_ref().map(|history| history.messages.span()),
            "history.bytes" => self.history.as_ref().map(|history| history.bytes.span()),
            "history.ttl" => self.history.as_ref().map(|history| history.ttl.span()),
            "subscribers" => self.subscribers.as_ref().map(Spanned::span),
            "publishers" => self.publishers.as_ref().map(Spanned::span),
            _ => None,
        }
    }
}

impl HistoryTable {
    fn history(&self) -> History {
        let Self { messages, bytes, ttl } = self;
        History { messages: messages.get_ref().0, bytes: bytes.get_ref().0, ttl: ttl.get_ref().0 }
    }
}

/// `[[topics]]`: which class a topic, or those with a prefix, are of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with name or prefix, and class")]
pub(super) struct Rule {
    name: Option<Spanned<String>>,
    prefix: Option<Spanned<String>>,
    class: Spanned<String>,
}

/// The classes of a file, for a node with these settings.
pub(super) fn checked(file: &File, settings: &Settings) -> Result<Classes, ConfigError> {
    let mut default = Class::default_with(settings.outbox_bytes, settings.outbox_age);
    let mut further = Vec::new();
    for (name, table) in &file.classes {
        let class = Checked { file, name, settings }.class(table)?;
        if **name.get_ref() == *DEFAULT {
            default = class;
        } else {
            further.push(class);
        }
    }
    let mut rules = Vec::new();
    for rule in &file.topics {
        rules.push((checked_rule(file, rule)?, rule.get_ref().class.get_ref().clone()));
    }
    Classes::new(default, further, rules).map_err(|error| told(file, error))
}

/// One class of a file, being checked.
struct Checked<'a> {
    file: &'a File,
    name: &'a Spanned<String>,
    settings: &'a Settings,
}

impl Checked<'_> {
    fn class(&self, table: &ClassTable) -> Result<Class, ConfigError> {
        let name = self.class_name()?;
        let mut class = Class {
            name,
            policy: table.policy,
            history: table.history.as_ref().map(HistoryTable::history),
            ..Class::default_with(self.settings.outbox_bytes, self.settings.outbox_age)
        };
        let ClassTable { policy: _, outbox_bytes, outbox_age, history: _, subscribers, publishers } = table;
        set(&mut class.outbox_bytes, outbox_bytes.as_ref().map(|bytes| bytes.get_ref().0));
        set(&mut class.outbox_age, outbox_age.as_ref().map(|age| age.get_ref().0));
        set(&mut class.subscribers, subscribers.as_ref().map(|needs| *needs.get_ref()));
        set(&mut class.publishers, publishers.as_ref().map(|needs| *needs.get_ref()));
        self.settings.check_class(&class).map_err(|error| {
            let (key, span) = (error.field, table.span_of(error.field));
            let span = span.unwrap_or_else(|| self.name.span());
            self.file.tell(span, format!("classes.{}.{key}", self.name.get_ref()), error.into())
        })?;
        Ok(class)
    }

    fn class_name(&self) -> Result<Arc<str>, ConfigError> {
        let name = self.name.get_ref();
        let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        if (1..=limits::CLASS_NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_allowed) {
            return Ok(Arc::from(&**name));
        }
        let most = limits::CLASS_NAME_BYTES_MAX;
        let allowed = format!("the name of a class is 1 to {most} of a-z, A-Z, 0-9, - and _");
        Err(self.file.tell(self.name.span(), "classes".to_owned(), Refused::new("classes", name, allowed)))
    }
}

/// Which topics a rule is about.
fn checked_rule(file: &File, rule: &Spanned<Rule>) -> Result<Which, ConfigError> {
    let refuse = |at: &Spanned<String>, key: &'static str, allowed: String| {
        file.tell(at.span(), format!("topics.{key}"), Refused::new(key, at.get_ref(), allowed))
    };
    match (&rule.get_ref().name, &rule.get_ref().prefix) {
        (Some(name), None) => match Topic::parse(name.get_ref()) {
            Ok(topic) => Ok(Which::Exact(topic)),
            Err(why) => Err(refuse(name, "name", why.to_string())),
        },
        (None, Some(prefix)) if prefix.get_ref().is_empty() => {
            let allowed = "it is not empty; what holds for all other topics stands in [classes.default]";
            Err(refuse(prefix, "prefix", allowed.to_owned()))
        }
        (None, Some(prefix)) => match Topic::parse(prefix.get_ref()) {
            Ok(_) => Ok(Which::Prefix(Box::from(&**prefix.get_ref()))),
            Err(why) => Err(refuse(prefix, "prefix", format!("a topic begins so: {why}"))),
        },
        (Some(_), Some(_)) => {
            Err(malformed(file, rule, "it has both name and prefix; one of them is allowed"))
        }
        (None, None) => Err(malformed(file, rule, "it has neither name nor prefix; one of them is needed")),
    }
}

fn malformed(file: &File, rule: &Spanned<Rule>, what: &str) -> ConfigError {
    ConfigError::Malformed { place: file.place(rule.span()), what: format!("[[topics]]: {what}") }
}

/// Says where classes stand that do not fit together.
fn told(file: &File, error: ClassError) -> ConfigError {
    let class_of = |rule: usize| &file.topics[rule].get_ref().class;
    match &error {
        ClassError::Unknown { rule, class } => {
            let allowed = format!("there is no [classes.{class}] in this file");
            file.tell(
                class_of(*rule).span(),
                "topics.class".to_owned(),
                Refused::new("class", class, allowed),
            )
        }
        ClassError::TwoRules { rules: [first, second], which } => {
            let (rule, other) = (&file.topics[*second], file.place(file.topics[*first].span()).line);
            malformed(file, rule, &format!("there is a rule for {which} already, in line {other}"))
        }
        ClassError::TooManyRules => {
            malformed(file, &file.topics[limits::CLASS_RULES_MAX], &error.to_string())
        }
        ClassError::TooManyClasses | ClassError::TwoClasses(_) | ClassError::HistoryTooLarge { .. } => {
            let place = Place { file: file.path.clone(), line: 0 };
            ConfigError::Malformed { place, what: format!("[classes]: {error}") }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The classes of a text, for a node with the default settings.
    fn classes(text: &str) -> Result<Classes, String> {
        let file = File::parse("f.toml".into(), text.to_owned()).map_err(|error| error.to_string())?;
        checked(&file, &Settings::default()).map_err(|error| error.to_string())
    }

    /// Class `a`, with these lines in it.
    fn class(lines: &str) -> Result<Class, String> {
        classes(&format!("[classes.a]\n{lines}"))
            .map(|classes| classes.iter().nth(1).expect("it is there").clone())
    }

    fn history(messages: usize, bytes: &str, ttl: &str) -> Result<Option<History>, String> {
        let history = format!("history = {{ messages = {messages}, bytes = '{bytes}', ttl = '{ttl}' }}");
        class(&history).map(|class| class.history)
    }

    #[test]
    fn what_a_class_does_not_say_is_the_nodes() {
        let settings =
            Settings { outbox_bytes: 300 << 10, outbox_age: Duration::from_secs(7), ..Settings::default() };
        let text = "[classes.default]\npolicy = 'drop-newest'\noutbox_age = '2s'\n[classes.a]\npublishers = 'public'";
        let file = File::parse("f.toml".into(), text.to_owned()).expect("it is right");
        let classes = checked(&file, &settings).expect("it is right");
        let node = Class::default_with(settings.outbox_bytes, settings.outbox_age);
        let default =
            Class { policy: Policy::DropNewest, outbox_age: Duration::from_secs(2), ..node.clone() };
        let a = Class { name: "a".into(), publishers: Needs::Public, ..node };
        assert_eq!(classes.iter().cloned().collect::<Vec<_>>(), [default, a]);
    }

    #[test]
    fn everything_a_class_says_is_kept() {
        let text = "policy = 'conflate'\noutbox_bytes = '256KiB'\noutbox_age = '30s'\npublishers = 'public'\n\
                    subscribers = 'key'\nhistory = { messages = 1000, bytes = '128KiB', ttl = '10m' }";
        let ttl = Duration::from_secs(600);
        let expected = Class {
            name: "a".into(),
            policy: Policy::Conflate,
            outbox_bytes: 256 << 10,
            outbox_age: Duration::from_secs(30),
            history: Some(History { messages: 1_000, bytes: 128 << 10, ttl }),
            subscribers: Needs::Key,
            publishers: Needs::Public,
        };
        assert_eq!(class(text), Ok(expected));
    }

    #[test]
    fn a_class_asks_for_tokens_only_where_there_can_be_some() {
        for key in ["subscribers", "publishers"] {
            let error = class(&format!("{key} = 'token'")).unwrap_err();
            let told = format!("f.toml:2: classes.a.{key}: invalid value 'token': nobody has a token");
            assert!(error.starts_with(&told), "{error}");
        }
    }

    #[test]
    fn bounds_of_a_class_lie_within_the_nodes() {
        assert_eq!(class("outbox_bytes = '131092'").unwrap().outbox_bytes, 131_092);
        assert_eq!(class("outbox_bytes = '1MiB'").unwrap().outbox_bytes, limits::OUTBOX_BYTES);
        for bad in ["131091", "1048577"] {
            let error = class(&format!("outbox_bytes = '{bad}'")).unwrap_err();
            let said =
                format!("f.toml:2: classes.a.outbox_bytes: invalid value '{bad}': 131092 to 1MiB is allowed");
            assert!(error.starts_with(&said) && error.contains("--outbox-bytes is the most"), "{error}");
        }
        assert_eq!(class("outbox_age = '1s'").unwrap().outbox_age, Duration::from_secs(1));
        assert_eq!(class("outbox_age = '60s'").unwrap().outbox_age, Duration::from_secs(60));
        for bad in ["999ms", "60001ms"] {
            let error = class(&format!("outbox_age = '{bad}'")).unwrap_err();
            let said = format!("f.toml:2: classes.a.outbox_age: invalid value '{bad}': 1s to 1m is allowed");
            assert!(error.starts_with(&said) && error.contains("--outbox-age is the most"), "{error}");
        }
    }

    #[test]
    fn history_is_bounded_in_messages_bytes_and_time() {
        let least = History {
            messages: 1,
            bytes: limits::HISTORY_BYTES_MIN,
            ttl: Duration::from_millis(limits::HISTORY_TTL_MS_MIN),
        };
        assert_eq!(history(1, "1KiB", "1s"), Ok(Some(least)));
        let most = History {
            messages: limits::HISTORY_MESSAGES_MAX,
            bytes: limits::OUTBOX_BYTES / 2,
            ttl: Duration::from_millis(limits::HISTORY_TTL_MS_MAX),
        };
        assert_eq!(history(100_000, "512KiB", "168h"), Ok(Some(most)));
        for ((messages, bytes, ttl), said) in [
            ((0, "1KiB", "1s"), "classes.a.history.messages: invalid value '0': 1 to 100000 is allowed"),
            ((100_001, "1KiB", "1s"), "classes.a.history.messages: invalid value '100001'"),
            ((1, "1023", "1s"), "classes.a.history.bytes: invalid value '1023': 1KiB to 512KiB is allowed"),
            (
                (1, "524289", "1s"),
                "classes.a.history.bytes: invalid value '524289': 1KiB to 512KiB is allowed (half",
            ),
            ((1, "1KiB", "999ms"), "classes.a.history.ttl: invalid value '999ms': 1s to 168h is allowed"),
            ((1, "1KiB", "169h"), "classes.a.history.ttl: invalid value '169h'"),
        ] {
            let error = history(messages, bytes, ttl).unwrap_err();
            assert!(error.starts_with(&format!("f.toml:2: {said}")), "{error}");
        }
        let text = "outbox_bytes = '256KiB'\nhistory = { messages = 1, bytes = '256KiB', ttl = '1s' }";
        assert!(
            class(text).unwrap_err().contains("1KiB to 128KiB is allowed (half of outbox_bytes is the most)")
        );
    }

    #[test]
    fn names_of_classes_are_short_and_plain() {
        let longest = "x".repeat(limits::CLASS_NAME_BYTES_MAX);
        for good in ["a", "A-1_b", &longest] {
            assert!(classes(&format!("[classes.{good}]")).is_ok(), "{good}");
        }
        for bad in ["", "a b", "ä", "a.b", &format!("{longest}x")] {
            let error = classes(&format!("\n[classes.\"{bad}\"]")).unwrap_err();
            let said = format!("f.toml:2: classes: invalid value '{bad}': the name of a class is 1 to 64 of");
            assert!(error.starts_with(&said), "{error}");
        }
    }

    #[test]
    fn rules_decide_which_topic_is_of_which_class() {
        let text = "[classes.a]\n[classes.b]\n[[topics]]\nprefix = 'x.'\nclass = 'a'\n\
                    [[topics]]\nprefix = 'x.y.'\nclass = 'b'\n[[topics]]\nname = 'x.y.z'\nclass = 'default'";
        let classes = classes(text).expect("it is right");
        for (topic, class) in [("x.1", "a"), ("x.y.1", "b"), ("x.y.z", "default"), ("z", "default")] {
            let topic = Topic::parse(topic).expect("it is a topic");
            assert_eq!(&*classes.get(classes.of(&topic)).name, class, "{topic:?}");
        }
    }

    #[test]
    fn rules_that_are_not_right_are_told_with_their_line() {
        let long = "x".repeat(limits::TOPIC_BYTES_MAX + 1);
        for (rule, said) in [
            (
                "name = 'x'\nprefix = 'y'",
                "f.toml:2: [[topics]]: it has both name and prefix; one of them is allowed",
            ),
            ("", "f.toml:2: [[topics]]: it has neither name nor prefix; one of them is needed"),
            ("name = ''", "f.toml:4: topics.name: invalid value '': a topic must not be empty"),
            (
                "prefix = ''",
                "f.toml:4: topics.prefix: invalid value '': it is not empty; what holds for all other",
            ),
            (&format!("prefix = '{long}'"), "a topic begins so: a topic has at most 200 bytes"),
            ("name = \"a\\u0007\"", "a topic has no control characters"),
        ] {
            let error = classes(&format!("[classes.a]\n[[topics]]\nclass = 'a'\n{rule}")).unwrap_err();
            assert!(error.contains(said), "{rule:?} says only: {error}");
        }
        let error = classes("[classes.a]\n[[topics]]\nname = 'x'\nclass = 'b'").unwrap_err();
        assert_eq!(error, "f.toml:4: topics.class: invalid value 'b': there is no [classes.b] in this file");
        let rule = "[[topics]]\nprefix = 'x.'\nclass = 'a'\n";
        let error = classes(&format!("[classes.a]\n{rule}{rule}")).unwrap_err();
        assert_eq!(error, "f.toml:5: [[topics]]: there is a rule for the prefix \"x.\" already, in line 2");
    }

    #[test]
    fn classes_and_rules_are_bounded() {
        let names = |count: usize| (1..count).map(|n| format!("[classes.c{n}]\n")).collect::<String>();
        assert_eq!(classes(&names(limits::CLASSES_MAX)).expect("they are allowed").iter().count(), 256);
        let error = classes(&names(limits::CLASSES_MAX + 1)).unwrap_err();
        assert_eq!(error, "f.toml: [classes]: there are more than 256 classes");
        let rules = |count: usize| {
            let rules = (0..count).map(|n| format!("[[topics]]\nname = 't{n}'\nclass = 'default'\n"));
            rules.collect::<String>()
        };
        let most = classes(&rules(limits::CLASS_RULES_MAX)).expect("they are allowed");
        assert_eq!(most.rule_count(), 4_096);
        let error = classes(&rules(limits::CLASS_RULES_MAX + 1)).unwrap_err();
        assert_eq!(error, "f.toml:12289: [[topics]]: there are more than 4096 rules");
    }
}
