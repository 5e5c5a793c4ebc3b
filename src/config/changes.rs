//! What two configurations say differently, in words for a log.
//!
//! A reload compares with this what was in force, what is wanted and what is in force now. An option is compared as it would
//! be written, so there is nothing to do here for a new one. What the file or files it names say beside the options (classes and the
//! like) is a [`Part`]: whoever adds such a thing to [`Settings`] adds a line to [`PARTS`].

use super::{Config, cli, print};
use crate::{auth::ApiKey, settings::Settings};

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

/// A part of a configuration that is no option.
struct Part {
    name: &'static str,
    is_same: fn(&Settings, &Settings) -> bool,
    /// In a few words. Nothing secret.
    shown: fn(&Settings) -> String,
}

const PARTS: &[Part] = &[
    Part {
        name: "classes",
        is_same: |one, other| one.classes == other.classes,
        shown: |settings| {
            let Settings { classes, .. } = settings;
            format!("{} classes, {} rules", classes.iter().count(), classes.rule_count())
        },
    },
    Part {
        name: "keys of tokens",
        is_same: |one, other| {
            let keys = |settings: &Settings| settings.tokens.as_ref().map(|tokens| tokens.keys.clone());
            keys(one) == keys(other)
        },
        shown: |settings| {
            let count = settings.tokens.as_ref().map_or(0, |tokens| tokens.keys.len());
            format!("{count} keys")
        },
    },
    Part {
        name: "keys",
        is_same: |one, other| one.keys == other.keys,
        shown: |settings| {
            let key = |key: &ApiKey| format!("{} ({})", key.name, key.scopes);
            settings.keys.iter().map(key).collect::<Vec<_>>().join(", ")
        },
    },
    Part {
        name: "certificate",
        is_same: |one, other| match (&one.tls, &other.tls) {
            (Some(one), Some(other)) => one.is_same(other),
            (one, other) => one.is_none() == other.is_none(),
        },
        shown: |settings| settings.tls.as_ref().map_or("none".to_owned(), ToString::to_string),
    },
];

/// What `after` says differently than `before`.
pub fn changes(before: &Config, after: &Config) -> Vec<Change> {
    let (old, new) = (print::values(before), print::values(after));
    let of_option = |option: cli::Described| {
        let (before, after) = (print::value(&old, &option), print::value(&new, &option));
        let name = option.id;
        (before != after).then(|| Change { name, before: before.to_string(), after: after.to_string() })
    };
    let (old, new) = (&before.settings, &after.settings);
    let of_part = |part: &Part| {
        let (name, before, after) = (part.name.to_owned(), (part.shown)(old), (part.shown)(new));
        (!(part.is_same)(old, new)).then_some(Change { name, before, after })
    };
    let options = cli::described().into_iter().filter_map(of_option);
    options.chain(PARTS.iter().filter_map(of_part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Cli;

    fn config(arguments: &[&str]) -> Config {
        let cli = Cli::try_parse_from([&["fanfare"], arguments].concat()).expect("it is understood");
        Config::read(&cli).expect("it is right")
    }

    #[test]
    fn options_are_compared_as_they_would_be_written() {
        assert_eq!(changes(&config(&[]), &config(&["--max-message=64KiB", "--log-level=info"])), []);
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
        assert_eq!(changes(&config(&[]), &others), expected);
    }
}
