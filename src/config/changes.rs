//! What two configurations say differently, in words for a log.
//!
//! A reload compares with this what was in force, what is wanted and what is in force now. An option is compared as it would
//! be written, so there is nothing to do here for a new one. What the file or files it names say beside the options (classes and the
//! like) is a [`Part`]: whoever adds such a thing to [`Settings`] adds a line to [`PARTS`]. Of keys it says that they are others,
//! never what they or their hashes are.

use std::{collections::BTreeMap, fmt::Display};

use super::{Config, cli, print};
use crate::{
    auth::ApiKey,
    classes::{Class, Classes, History, Which},
    settings::{AdminKey, Settings},
    units::{Size, Span},
};

/// Changes of one part of a configuration (classes, rules, keys) that are listed; further ones are counted.
pub const CHANGES_LISTED: usize = 20;
/// Characters of the name of such a change; the rest of it is left out.
const CHANGE_NAME_CHARS: usize = 160;

/// Something that two configurations say differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The name of an option as it stands in a file, or of a part of the configuration.
    pub name: String,
    /// What one says, as it would be written; of a part only what may be logged of it.
    pub before: String,
    /// What the other says.
    pub after: String,
}

/// All that two configurations say differently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The options, and of each part [`CHANGES_LISTED`] at most.
    pub listed: Vec<Change>,
    /// How many more there are.
    pub more: usize,
}

impl Changes {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.listed.len() + self.more
    }
}

/// A part of a configuration that is no option: what may be logged of it, by name.
type Part = fn(&Settings) -> Vec<Entry>;

/// One thing in a part.
struct Entry {
    name: String,
    shown: String,
    /// Tells others apart that are shown the same, for they are secret. It is only compared.
    told_apart_by: Vec<u8>,
}

impl Entry {
    fn new(name: impl Display, shown: impl Display) -> Self {
        Self { name: name.to_string(), shown: shown.to_string(), told_apart_by: Vec::new() }
    }
}

const PARTS: &[Part] = &[classes, rules, token_keys, api_keys, admin_key, certificate];

/// What `after` says differently than `before`.
pub fn changes(before: &Config, after: &Config) -> Changes {
    let (old, new) = (print::values(before), print::values(after));
    let of_option = |option: cli::Described| {
        let (before, after) = (print::value(&old, &option), print::value(&new, &option));
        let name = option.id;
        (before != after).then(|| Change { name, before: before.to_string(), after: after.to_string() })
    };
    let mut all = Changes { listed: cli::described().into_iter().filter_map(of_option).collect(), more: 0 };
    for part in PARTS {
        let mut of_part = differences(part(&before.settings), part(&after.settings));
        all.more += of_part.len().saturating_sub(CHANGES_LISTED);
        of_part.truncate(CHANGES_LISTED);
        // Whoever writes a key set chooses how long its names are.
        let short = |name: String| name.chars().take(CHANGE_NAME_CHARS).collect();
        all.listed.extend(of_part.into_iter().map(|change| Change { name: short(change.name), ..change }));
    }
    all
}

/// What came, went, and is another under its name.
fn differences(before: Vec<Entry>, after: Vec<Entry>) -> Vec<Change> {
    let mut after: BTreeMap<String, Entry> =
        after.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
    let mut list = Vec::new();
    let none = || "none".to_owned();
    for Entry { name, shown, told_apart_by } in before {
        match after.remove(&name) {
            None => list.push(Change { name, before: shown, after: none() }),
            Some(new) if new.shown != shown => list.push(Change { name, before: shown, after: new.shown }),
            Some(new) if new.told_apart_by != told_apart_by => {
                list.push(Change { name, before: shown, after: format!("another {}", new.shown) });
            }
            Some(_) => {}
        }
    }
    list.extend(after.into_values().map(|Entry { name, shown, .. }| Change {
        name,
        before: none(),
        after: shown,
    }));
    list
}

/// Each field of each class.
fn classes(settings: &Settings) -> Vec<Entry> {
    let of_class = |class: &Class| {
        let Class { name, policy, outbox_bytes, outbox_age, history, subscribers, publishers } = class;
        let history = history.map_or("none".to_owned(), |History { messages, bytes, ttl }| {
            format!("{messages} messages, {}, {}", Size(bytes), Span(ttl))
        });
        [
            ("policy", policy.as_str().to_owned()),
            ("outbox_bytes", Size(*outbox_bytes).to_string()),
            ("outbox_age", Span(*outbox_age).to_string()),
            ("history", history),
            ("subscribers", subscribers.as_str().to_owned()),
            ("publishers", publishers.as_str().to_owned()),
        ]
        .map(|(field, shown)| Entry::new(format_args!("classes.{name}.{field}"), shown))
    };
    settings.classes.iter().flat_map(of_class).collect()
}

/// Each rule, with its class.
fn rules(settings: &Settings) -> Vec<Entry> {
    let classes: &Classes = &settings.classes;
    let of_rule = |(which, class): (Which, _)| {
        let class = &classes.get(class).name;
        match which {
            Which::Exact(topic) => Entry::new(format_args!("topics.name {:?}", topic.as_str()), class),
            Which::Prefix(prefix) => Entry::new(format_args!("topics.prefix {prefix:?}"), class),
        }
    };
    classes.rules().into_iter().map(of_rule).collect()
}

/// Each key that signs tokens, by its `kid`.
fn token_keys(settings: &Settings) -> Vec<Entry> {
    let keys = settings.tokens.iter().flat_map(|tokens| tokens.keys.iter());
    keys.map(|key| {
        let name = key.kid().map_or("jwks, without kid".to_owned(), |kid| format!("jwks, kid {kid:?}"));
        Entry {
            told_apart_by: key.fingerprint().to_vec(),
            ..Entry::new(name, format_args!("{} key", key.algorithm()))
        }
    })
    .collect()
}

/// What each API key is for, and where it is from.
fn api_keys(settings: &Settings) -> Vec<Entry> {
    let of_key = |ApiKey { name, scopes, hash, file }: &ApiKey| {
        let from = if file.is_some() { "key from a file" } else { "hash" };
        let of_name =
            |field: &str, shown: &dyn Display| Entry::new(format_args!("keys.{name}.{field}"), shown);
        let key = Entry { told_apart_by: hash.bytes().to_vec(), ..of_name("key", &from) };
        [of_name("scopes", scopes), key]
    };
    settings.keys.iter().flat_map(of_key).collect()
}

/// The key of the admin listener.
fn admin_key(settings: &Settings) -> Vec<Entry> {
    let key = settings.admin.iter().filter_map(|admin| admin.key.as_ref());
    key.map(|key: &AdminKey| Entry {
        told_apart_by: key.fingerprint().to_vec(),
        ..Entry::new("admin key", "key")
    })
    .collect()
}

fn certificate(settings: &Settings) -> Vec<Entry> {
    let of_tls = |tls: &crate::tls::Certificates| Entry {
        told_apart_by: tls.chain_bytes(),
        ..Entry::new("certificate", tls)
    };
    settings.tls.as_deref().map(of_tls).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cli, file::File};

    fn config(arguments: &[&str]) -> Config {
        let cli = Cli::try_parse_from([&["fanfare"], arguments].concat()).expect("it is understood");
        Config::read(&cli).expect("it is right")
    }

    #[test]
    fn options_are_compared_as_they_would_be_written() {
        assert_eq!(changes(&config(&[]), &config(&["--max-message=64KiB", "--log-level=info"])).listed, []);
        let change = |name: &str, before: &str, after: &str| Change {
            name: name.into(),
            before: before.into(),
            after: after.into(),
        };
        let others =
            config(&["--listen=127.0.0.1:1", "--default-topics=a,b", "--publish-wait=1s", "--log=json"]);
        let expected = [
            change("listen", "\"127.0.0.1:8000\"", "\"127.0.0.1:1\""),
            change("default_topics", "[\"cats\"]", "[\"a\", \"b\"]"),
            change("publish_wait", "\"5s\"", "\"1s\""),
            change("log", "\"text\"", "\"json\""),
        ];
        assert_eq!(changes(&config(&[]), &others).listed, expected);
    }

    /// A configuration in a file.
    fn of_text(text: &str) -> Config {
        let file = File::parse("f.toml".into(), text.to_owned()).expect("it is right");
        Config::checked(Cli::try_parse_from(["fanfare"]).expect("it is understood"), Some(file))
            .expect("it is right")
    }

    fn told(before: &str, after: &str) -> Vec<String> {
        let Changes { listed, more: 0 } = changes(&of_text(before), &of_text(after)) else {
            panic!("there are few")
        };
        listed
            .into_iter()
            .map(|Change { name, before, after }| format!("{name}: {before} -> {after}"))
            .collect()
    }

    #[test]
    fn classes_and_rules_tell_which_and_what_of_them() {
        let before = "[classes.a]\npolicy='conflate'\n[[topics]]\nprefix='a.'\nclass='a'\n\
                      [[topics]]\nname='x'\nclass='a'";
        let after = "[classes.a]\npolicy='drop-oldest'\nhistory={messages=5,bytes='1KiB',ttl='1m'}\n\
                     [[topics]]\nprefix='b.'\nclass='a'\n[[topics]]\nname='x'\nclass='default'";
        let expected = [
            "classes.a.policy: conflate -> drop-oldest",
            "classes.a.history: none -> 5 messages, 1KiB, 1m",
            "topics.name \"x\": a -> default",
            "topics.prefix \"a.\": a -> none",
            "topics.prefix \"b.\": none -> a",
        ];
        assert_eq!(told(before, after), expected);
        assert_eq!(told(before, before), Vec::<String>::new());
    }

    #[test]
    fn of_keys_it_tells_that_they_are_others_and_nothing_of_what_they_are() {
        let key = |name: &str, scope: &str, digit: u8| {
            format!("[[keys]]\nname='{name}'\nscopes=['{scope}']\nhash='sha256:{digit:064}'\n")
        };
        let before = key("kept", "admin", 1) + &key("changed", "publish", 2) + &key("gone", "register", 3);
        let after = key("kept", "admin", 1) + &key("changed", "publish", 4) + &key("new", "register", 5);
        let expected = [
            "keys.changed.key: hash -> another hash",
            "keys.gone.scopes: register -> none",
            "keys.gone.key: hash -> none",
            "keys.new.key: none -> hash",
            "keys.new.scopes: none -> register",
        ];
        assert_eq!(told(&before, &after), expected);
        assert_eq!(told(&key("a", "admin", 1), &key("a", "publish", 1)), ["keys.a.scopes: admin -> publish"]);
    }

    #[test]
    fn what_is_listed_is_bounded_and_what_is_not_is_counted() {
        let rules = |class: &str| -> String {
            let rule = |n| format!("[[topics]]\nname='t{n}'\nclass='{class}'\n");
            (0..CHANGES_LISTED + 5).map(rule).collect()
        };
        let all = changes(&of_text(""), &of_text(&rules("default")));
        assert_eq!((all.listed.len(), all.more, all.count()), (CHANGES_LISTED, 5, CHANGES_LISTED + 5));
    }
}
