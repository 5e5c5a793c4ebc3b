//! `ConfigError`: what is wrong with the configuration, where it stands, and what would be right.

use std::{fmt, io, path::PathBuf};

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
        /// As it was written.
        value: String,
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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, why } => write!(f, "cannot read {}: {why}", file.display()),
            Self::Malformed { place, what } => write!(f, "{place}: {what}"),
            Self::NotAllowed { place: Some(place), name, value, allowed } => {
                write!(f, "{place}: {name}: invalid value '{value}': {allowed}")
            }
            Self::NotAllowed { place: None, name, value, allowed } => {
                write!(f, "invalid value '{value}' for '{name}': {allowed}")
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { why, .. } => Some(why),
            Self::Malformed { .. } | Self::NotAllowed { .. } => None,
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
