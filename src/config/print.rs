//! The configuration as a file: the defaults with what they mean, and what is in force with where it came from.
//!
//! Both are made from [`Settings`] and clap's descriptions, so neither can say anything else than the server does. Both
//! can be read back.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
};

use toml::{Table, Value};

use super::{
    Config, LISTEN, LogOptions,
    cli::{self, Described},
    options::Options,
};
use crate::{
    auth::{ApiKey, Keys},
    classes::{Class, Classes, Which},
    settings::{AdminSettings, Settings},
    units::{Size, Span},
};

/// The option whose default is of the machine, not of Fanfare.
const SHARDS: &str = "shards";
/// The option whose default is only tried: the server goes on without, but not without what it is told.
const ADMIN_LISTEN: &str = "admin_listen";
/// Longest line of a comment.
const WIDTH: usize = 110;
/// Where comments behind a value begin.
const BEHIND: usize = 40;

const HEAD: &str = "\
# Every option of Fanfare with its default. A line is the same as the flag of that name with - for _, or the
# environment variable of that name in capitals behind FANFARE_. Flags go before the environment, and both before
# this file.
#
#   fanfare check-config FILE   says whether a file is right, and what is in force
#   fanfare --config FILE       serves with it
#
# Times are written \"500ms\", \"25s\", \"2m\" or \"1h\"; sizes \"65536\", \"64KiB\", \"1MiB\" or \"64kB\". A key that there is
# not is an error. Lines that begin with # and no space behind it may be taken as they are.
";

const CLASSES: &str = r#"
# Topic classes. A topic is of the class of the rule with its name; without one, of the rule with the longest prefix
# it begins with; without one, of class default. What a class does not say is as the options above are.
[classes.default]

# What becomes of a client that has outbox_bytes waiting when a message of this class comes. disconnect: it is
# closed (1013). drop-newest: this message is dropped. drop-oldest: the oldest of such classes are dropped.
# conflate: of those with one topic and key only the youngest is kept
policy = "disconnect"

# What may wait for one client; at least 2 messages, at most outbox_bytes of [messages]
#outbox_bytes = "1MiB"

# How old it may become; at most outbox_age of [messages]
#outbox_age = "1m"

# What is needed to have a topic, and to publish to it. public: nothing beyond what is needed to connect or call at
# all. token: a token that names the topic, or a key. key: an API key, if there are keys; so clients do not publish,
# and have topics with which they were registered and no others
subscribers = "public"
publishers = "key"

# What is kept of each topic for those who come later: most messages, most bytes (at most half of outbox_bytes), and
# for how long. Without it nothing is
#history = { messages = 1000, bytes = "256KiB", ttl = "10m" }

#[classes.ticker]
#policy = "conflate"
#outbox_bytes = "256KiB"
#outbox_age = "30s"

#[[topics]]
#prefix = "prices."
#class = "ticker"

#[[topics]]
#name = "prices.daily"
#class = "default"

# API keys. With any, whoever registers clients (register), publishes (publish), or looks at everything and
# operates the node (admin) sends one, as Authorization: Bearer KEY or X-Api-Key: KEY. `fanfare key` makes a key
# and its hash; instead of the hash, key_file may name a file that holds the key.
#[[keys]]
#name = "backend"
#scopes = ["register", "publish"]
#hash = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
"#;

/// A file of all defaults, commented, that changes nothing when it is read.
pub fn default_file() -> String {
    let values = defaults();
    let mut text = HEAD.to_owned();
    each_option(|option, starts_table| {
        if starts_table {
            put(&mut text, format_args!("\n[{}]\n", option.table));
        }
        text.push('\n');
        put_comment(&mut text, &option.help);
        let mark = if [SHARDS, ADMIN_LISTEN].contains(&&*option.id) { "#" } else { "" };
        put(&mut text, format_args!("{mark}{} = {}\n", option.id, value(&values, option)));
    });
    text.push_str(CLASSES);
    text
}

/// How the help shows the default of each option that has one, by id.
pub(super) fn defaults_in_help() -> HashMap<String, String> {
    let values = defaults();
    let shown = |option: Described| {
        let text = match value(&values, &option) {
            _ if option.id == SHARDS => "the cores there are".to_owned(),
            Value::String(text) => text,
            Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            other => other.to_string(),
        };
        (!text.is_empty()).then_some((option.id, text))
    };
    cli::described().into_iter().filter_map(shown).collect()
}

/// What is in force, as a file: each option with where it came from, then the classes and rules.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => writeln!(f, "# In force with {}:", file.display())?,
            None => writeln!(f, "# In force without a file:")?,
        }
        let values = values(self);
        let mut result = Ok(());
        each_option(|option, starts_table| {
            let line = format!("{} = {}", option.id, value(&values, option));
            let origin = self.origins.of(&option.id);
            let origin = origin.of_option(&option.id);
            let table = if starts_table { format!("\n[{}]\n", option.table) } else { String::new() };
            result = result.and_then(|()| writeln!(f, "{table}{line:<BEHIND$} # {origin}"));
        });
        result?;
        write_classes(f, &self.settings.classes)?;
        write_keys(f, &self.settings.keys)
    }
}

fn write_classes(f: &mut fmt::Formatter<'_>, classes: &Classes) -> fmt::Result {
    for class in classes.iter() {
        write_class(f, class)?;
    }
    for (which, class) in classes.rules() {
        let (key, text) = match which {
            Which::Exact(topic) => ("name", topic.as_str().to_owned()),
            Which::Prefix(prefix) => ("prefix", prefix.into()),
        };
        let class = Value::from(&*classes.get(class).name);
        write!(f, "\n[[topics]]\n{key} = {}\nclass = {class}\n", Value::from(text))?;
    }
    Ok(())
}

fn write_class(f: &mut fmt::Formatter<'_>, class: &Class) -> fmt::Result {
    let Class { name, policy, outbox_bytes, outbox_age, history, subscribers, publishers } = class;
    write!(f, "\n[classes.{name}]\npolicy = \"{}\"\n", policy.as_str())?;
    writeln!(f, "outbox_bytes = \"{}\"", Size(*outbox_bytes))?;
    writeln!(f, "outbox_age = \"{}\"", Span(*outbox_age))?;
    writeln!(f, "subscribers = \"{}\"", subscribers.as_str())?;
    writeln!(f, "publishers = \"{}\"", publishers.as_str())?;
    if let Some(history) = history {
        let (messages, bytes, ttl) = (history.messages, Size(history.bytes), Span(history.ttl));
        writeln!(f, "history = {{ messages = {messages}, bytes = \"{bytes}\", ttl = \"{ttl}\" }}")?;
    }
    Ok(())
}

/// Writes the keys as their hashes, or where they are: never what they are.
fn write_keys(f: &mut fmt::Formatter<'_>, keys: &Keys) -> fmt::Result {
    for ApiKey { name, scopes, hash, file } in keys.iter() {
        let scopes: Vec<_> = scopes.iter().map(|scope| format!("\"{}\"", scope.as_str())).collect();
        write!(f, "\n[[keys]]\nname = \"{name}\"\nscopes = [{}]\n", scopes.join(", "))?;
        match file {
            Some(file) => writeln!(f, "key_file = {}", Value::from(file.to_string_lossy().as_ref()))?,
            None => writeln!(f, "hash = \"{hash}\"")?,
        }
    }
    Ok(())
}

/// Calls for each option, and says whether it is the first of its table.
fn each_option(mut call: impl FnMut(&Described, bool)) {
    let mut table = String::new();
    for option in cli::described() {
        call(&option, option.table != table);
        table = option.table;
    }
}

fn defaults() -> Table {
    let settings = Settings { admin: Some(AdminSettings::default()), ..Settings::default() };
    table(&Options::of(LISTEN, &settings, &LogOptions::default()))
}

/// What the options of a configuration come to, by table and key.
pub(super) fn values(config: &Config) -> Table {
    table(&Options::of(config.listen, &config.settings, &config.log))
}

fn table(options: &Options) -> Table {
    Table::try_from(options).expect("strings, numbers and lists of strings can be written")
}

/// The value of an option, by its table and key.
pub(super) fn value(values: &Table, option: &Described) -> Value {
    let value = values.get(&option.table).and_then(|table| table.get(&option.id));
    value.expect("what clap describes is a field of its options").clone()
}

/// Writes a comment, at most [`WIDTH`] wide.
fn put_comment(text: &mut String, comment: &str) {
    let mut line = String::from("#");
    for word in comment.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            put(text, format_args!("{line}\n"));
            line.truncate(1);
        }
        put(&mut line, format_args!(" {word}"));
    }
    put(text, format_args!("{line}\n"));
}

fn put(text: &mut String, what: fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}
