//! The configuration file: read under a limit, and parsed so that a key that there is not is an error.
//!
//! A misspelt option that is silently ignored is found only when it is needed, on the worst day; so there is no table
//! here that does not deny unknown keys. What is wrong is told with its line, and by name.

use std::{collections::BTreeMap, ops::Range, path::PathBuf};

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    ConfigError,
    checks::Refused,
    error::Place,
    keys::KeyTable,
    limit_options::LimitOptions,
    options::{
        AccessOptions, AdminOptions, ClientOptions, LogLines, MessageOptions, Options, ServerOptions,
        SocketOptions,
    },
    topic_classes::{ClassTable, Rule},
};
use crate::{bounded_file, limits};

/// A file that was understood; its values are not checked yet.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    text: String,
    pub(super) options: Options,
    /// Topic classes, by name.
    pub(super) classes: BTreeMap<Spanned<String>, ClassTable>,
    /// Which topics are of which class.
    pub(super) topics: Vec<Spanned<Rule>>,
    /// API keys.
    pub(super) keys: Vec<Spanned<KeyTable>>,
}

/// What a file may have.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Content {
    server: ServerOptions,
    clients: ClientOptions,
    messages: MessageOptions,
    limits: LimitOptions,
    sockets: SocketOptions,
    access: AccessOptions,
    admin: AdminOptions,
    log: LogLines,
    classes: BTreeMap<Spanned<String>, ClassTable>,
    topics: Vec<Spanned<Rule>>,
    keys: Vec<Spanned<KeyTable>>,
}

impl File {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// When it cannot be read, is too long, or is not as a configuration is written.
    pub(super) fn read(path: PathBuf) -> Result<Self, ConfigError> {
        match bounded_file::read_text(&path, limits::CONFIG_FILE_BYTES) {
            Ok(text) => Self::parse(path, text),
            Err(why) => Err(ConfigError::Unreadable { file: path, why }),
        }
    }

    /// Parses what was read from `path`.
    ///
    /// # Errors
    /// When it is not as a configuration is written.
    pub(super) fn parse(path: PathBuf, text: String) -> Result<Self, ConfigError> {
        match toml::from_str(&text) {
            Ok(Content {
                server,
                clients,
                messages,
                limits,
                sockets,
                access,
                admin,
                log,
                classes,
                topics,
                keys,
            }) => {
                let options = Options { server, clients, messages, limits, sockets, access, admin, log };
                Ok(Self { path, text, options, classes, topics, keys })
            }
            Err(error) => {
                let line = error.span().map_or(0, |span| line_of(&text, span.start));
                let keys = error.span().and_then(|span| keys_at(&text, &span));
                let what = match keys {
                    Some(keys) => format!("{}: {}", keys.join("."), error.message()),
                    None => error.message().to_owned(),
                };
                Err(ConfigError::Malformed { place: Place { file: path, line }, what })
            }
        }
    }

    /// Where the value of a key stands, its tables first.
    pub(super) fn place_of(&self, keys: &[&str]) -> Option<Place> {
        let root = DeTable::parse(&self.text).ok()?.into_inner();
        let (last, tables) = keys.split_last()?;
        let mut table = &root;
        for name in tables {
            table = table.get(*name)?.get_ref().as_table()?;
        }
        let (key, _) = table.get_key_value(*last)?;
        Some(self.place(key.span()))
    }

    /// The place of a span.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        Place { file: self.path.clone(), line: line_of(&self.text, span.start) }
    }

    /// Says of a value that is not allowed where it stands and what it is called.
    pub(super) fn tell(&self, span: Range<usize>, name: String, refused: Refused) -> ConfigError {
        let Refused { value, allowed, .. } = refused;
        ConfigError::NotAllowed { place: Some(self.place(span)), name, value, allowed }
    }
}

/// The line of a byte, from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
}

/// The keys that lead to what stands at `span`, outermost first: a key, or a value. None for a text that is no TOML.
fn keys_at(text: &str, span: &Range<usize>) -> Option<Vec<String>> {
    let table = DeTable::parse(text).ok()?;
    let mut keys = Vec::new();
    let found = walk(table.get_ref(), span, &mut keys);
    found.then_some(keys)
}

fn walk(table: &DeTable<'_>, span: &Range<usize>, keys: &mut Vec<String>) -> bool {
    for (key, value) in table {
        keys.push(key.get_ref().to_string());
        if key.span() == *span || is_in(value, span, keys) {
            return true;
        }
        keys.pop();
    }
    false
}

fn is_in(value: &Spanned<DeValue<'_>>, span: &Range<usize>, keys: &mut Vec<String>) -> bool {
    value.span() == *span
        || match value.get_ref() {
            DeValue::Table(table) => walk(table, span, keys),
            DeValue::Array(values) => values.iter().any(|value| is_in(value, span, keys)),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<File, String> {
        File::parse("f.toml".into(), text.to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_as_a_configuration_is_written_is_told_with_line_and_name() {
        for (text, part) in [
            ("[srver]\n", "f.toml:1: srver: unknown field `srver`, expected one of `server`, `clients`"),
            ("\nlisten = 1", "f.toml:2: listen: unknown field `listen`, expected one of `server`"),
            (
                "[server]\n\nlsten = 'x'",
                "f.toml:3: server.lsten: unknown field `lsten`, expected one of `listen`",
            ),
            (
                "[clients]\nping-interval = '1s'",
                "f.toml:2: clients.ping-interval: unknown field `ping-interval`",
            ),
            ("[clients]\nping_interval = 25", "f.toml:2: clients.ping_interval: invalid type: integer `25`"),
            (
                "[clients]\nping_interval = '25'",
                "f.toml:2: clients.ping_interval: invalid value '25': a time is",
            ),
            ("[clients]\ndefault_topics = 'a,b'", "f.toml:2: clients.default_topics: invalid type: string"),
            ("[messages]\nmax_body = '1M'", "f.toml:2: messages.max_body: invalid value '1M': a size is"),
            ("[sockets]\nsocket_unsent = ''", "f.toml:2: sockets.socket_unsent: invalid value ''"),
            (
                "[server]\nshards = -1",
                "f.toml:2: server.shards: invalid value: integer `-1`, expected a whole",
            ),
            (
                "[server]\nlisten = 'here'",
                "f.toml:2: server.listen: invalid value 'here': an IP address and a port",
            ),
            ("[log]\nlog = 'xml'", "f.toml:2: log.log: unknown variant `xml`, expected `text` or `json`"),
            ("log = 'json'", "f.toml:1: log: invalid type: string \"json\", expected a table"),
            ("[classes.a]\nx = 1", "f.toml:2: classes.a.x: unknown field `x`, expected one of `policy`"),
            ("[classes]\na = 1", "f.toml:2: classes.a: invalid type: integer `1`, expected a table"),
            (
                "[classes.a]\npolicy = 'drop'",
                "f.toml:2: classes.a.policy: unknown variant `drop`, expected one of",
            ),
            (
                "[classes.a]\npublishers = 'all'",
                "f.toml:2: classes.a.publishers: unknown variant `all`, expected",
            ),
            ("[classes.a]\nhistory = {messages = 1}", "f.toml:2: classes.a.history: missing field `bytes`"),
            ("[classes.a.history]\nmessages = '1'", "f.toml:2: classes.a.history.messages: invalid type"),
            ("[[topics]]\nname = 'a'", "f.toml:1: topics: missing field `class`"),
            ("[[topics]]\nname = 'a'\nclas = 'b'", "f.toml:3: topics.clas: unknown field `clas`"),
            ("topics = 1", "f.toml:1: topics: invalid type: integer `1`, expected a sequence"),
            ("[server]\n[log]\n[server]\n", "f.toml:3: duplicate key"),
            ("[classes.a]\n[classes.a]\n", "f.toml:2: duplicate key"),
            ("[server]\nlisten", "f.toml:2: "),
            ("[server\n", "f.toml:1: "),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text:?} says only: {error}");
        }
    }

    #[test]
    fn places_are_those_of_keys() {
        let text = "[server]\nlisten = '[::1]:1'\n\n[log]\n\nlog_level = \"\"\"\ninfo\"\"\"\n";
        let file = parse(text).expect("it is right");
        let line = |keys: &[&str]| file.place_of(keys).map(|place| place.line);
        assert_eq!(line(&["server", "listen"]), Some(2));
        assert_eq!(line(&["log", "log_level"]), Some(6));
        assert_eq!([line(&["server", "shards"]), line(&["clients", "x"]), line(&["x"])], [None; 3]);
    }

    #[test]
    fn an_empty_file_says_nothing() {
        let file = parse("# nothing\n").expect("it is right");
        assert!(file.classes.is_empty() && file.topics.is_empty());
        assert_eq!(format!("{:?}", file.options), format!("{:?}", Options::default()));
    }
}
