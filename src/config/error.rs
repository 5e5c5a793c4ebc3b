//! `ConfigError`: what is wrong with the configuration, where it stands, and what would be right.

use std::{fmt, io, path::PathBuf};

use crate::auth::keys;

/// Why there is nothing to run with.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        why: io::Error,
    },
    /// The file is no TOML, has a key that there is not, or a value of another kind.
    Malformed {
        /// Where.
        place: Place,
        /// What is wrong there, as a sentence.
        what: String,
    },
    /// A value that is not allowed, alone or beside the others.
    NotAllowed {
        /// Where, if it is in a file.
        place: Option<Place>,
        /// The flag, the variable, or the key in the file with its tables.
        name: String,
        /// As it was written; `None` where somebody may have written a secret by mistake.
        value: Option<String>,
        /// What is allowed instead.
        allowed: String,
    },
    /// A reload would leave a value that is not allowed beside what only a restart changes.
    NotBesideWhatStays {
        /// The flag of the option.
        option: String,
        /// What would be in force, unless it may be secret.
        value: Option<String>,
        /// What is allowed instead.
        allowed: String,
    },
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 is the file as a whole.
    pub line: usize,
}

impl fmt::Display for ConfigError {
    /// What stands in a wrong place may be a key, whatever the place is: what can be recognised as one is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&keys::without_keys(&self.text()))
    }
}

impl ConfigError {
    fn text(&self) -> String {
        match self {
            Self::Unreadable { file, why } => format!("cannot read {}: {why}", file.display()),
            Self::Malformed { place, what } => format!("{place}: {what}"),
            Self::NotAllowed { place: Some(place), name, value: Some(value), allowed } => {
                format!("{place}: {name}: invalid value '{value}': {allowed}")
            }
            Self::NotAllowed { place: Some(place), name, value: None, allowed } => {
                format!("{place}: {name}: {allowed}")
            }
            Self::NotAllowed { place: None, name, value: Some(value), allowed } => {
                format!("invalid value '{value}' for '{name}': {allowed}")
            }
            Self::NotAllowed { place: None, name, value: None, allowed } => {
                format!("invalid value for '{name}': {allowed}")
            }
            Self::NotBesideWhatStays { option, value, allowed } => {
                let value = value.as_ref().map_or(String::new(), |value| format!("'{value}' of "));
                format!(
                    "{value}'{option}' would not be allowed beside what stays as it is until a restart: {allowed}. \
                     Restart to change all of it, or change the rest alone"
                )
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { why, .. } => Some(why),
            Self::Malformed { .. } | Self::NotAllowed { .. } | Self::NotBesideWhatStays { .. } => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}
