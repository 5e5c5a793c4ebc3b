//! Command line, environment and configuration file, and how they become checked [`Settings`].
//!
//! The binary parses a [`Cli`] and reads its [`Config`] once. What a flag says goes before what the environment says, that
//! before what the file says, and that before the default. Whatever is misspelt, out of range or does not fit
//! together is found here and told with where it stands, its name, its value and what is allowed. Nothing below
//! checks an option again.
//!
//! ```text
//!  Cli (cli.rs) ──────► Options (options.rs) ─► checks.rs ─► Settings, LogOptions
//!  File (file.rs) ─┬──► Options                                 ▲
//!                  ├──► ClassTables (topic_classes.rs) ─► Classes
//!                  └──► KeyTables (keys.rs) ─► Keys
//! ```

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::settings::Settings;
use checks::Refused;
use file::File;
use origins::Origins;

pub use changes::{CHANGES_LISTED, Change, Changes, changes};
pub use clap_complete::Shell;
pub use cli::{Cli, Task};
pub use error::ConfigError;
pub use manual::{completions, manual};
pub use print::default_file;
pub use variables::{UnknownVariable, VARIABLES_LISTED, unknown_variables};

mod access;
mod admin;
mod changes;
mod checks;
mod cli;
mod error;
mod file;
mod keys;
mod limit_options;
mod manual;
mod names;
mod options;
mod origins;
mod print;
mod topic_classes;
mod variables;

/// Where the server listens when it is told nothing.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8000);

/// What a node is to run with, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// What the node is to be.
    pub settings: Settings,
    /// What the log is to be.
    pub log: LogOptions,
    /// The file that was read, if one was named.
    pub file: Option<PathBuf>,
    /// Where each option came from.
    origins: Origins,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// How lines look.
    pub format: LogFormat,
    /// Directives of `tracing_subscriber::EnvFilter`, checked.
    pub filter: String,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

impl Config {
    /// Reads the file, if one is named, puts the options of `cli` before it, and checks everything.
    ///
    /// # Errors
    /// When the file cannot be read or understood, and for the first value that is not allowed.
    pub fn read(cli: &Cli) -> Result<Self, ConfigError> {
        let file = cli.file.clone().map(File::read).transpose()?;
        Self::checked(cli.clone(), file)
    }

    fn checked(cli: Cli, file: Option<File>) -> Result<Self, ConfigError> {
        let origins = Origins::new(cli.given, file.as_ref());
        let mut in_file = file.as_ref().map(|file| file.options.clone()).unwrap_or_default();
        if let (Some(file), Some(jwks)) = (&file, &mut in_file.access.jwks)
            && !jwks.is_empty()
        {
            *jwks = keys::beside(&file.path, jwks).to_string_lossy().into();
        }
        let checked = checks::checked(cli.options.or(in_file)).map_err(|refused| origins.tell(refused))?;
        let (listen, mut settings, log) = checked;
        if let Some(file) = &file {
            settings.classes = Arc::new(topic_classes::checked(file, &settings)?);
            settings.keys = Arc::new(keys::checked(file)?);
        }
        let config = Self { listen, settings, log, file: file.map(|file| file.path), origins };
        config.check_together().map_err(|refused| config.origins.tell(refused))?;
        Ok(config)
    }

    /// What is in force after a reload that wants `wanted`, where this is: from it what can be changed while a node runs.
    ///
    /// # Errors
    /// When that would not be allowed, though `wanted` is: what needs a restart stays, and may not go with the rest.
    pub fn changed_to(&self, wanted: &Self) -> Result<Self, ConfigError> {
        let now = Self {
            listen: self.listen,
            settings: self.settings.changed_to(wanted.settings.clone()),
            log: LogOptions { format: self.log.format, ..wanted.log.clone() },
            ..wanted.clone()
        };
        now.check_together()
            .map_err(|Refused { option, value, allowed }| ConfigError::NotBesideWhatStays {
                option: origins::flag(option),
                value,
                allowed,
            })
            .map(|()| now)
    }

    /// What options must be together. By this, and nothing else, both what a node starts with and what a reload puts in force is
    /// judged: what is in force is as it could have been started.
    fn check_together(&self) -> Result<(), Refused> {
        access::check_open(self.listen, &self.settings)?;
        admin::check_open(&self.settings)?;
        Ok(self.settings.check()?)
    }
}

#[cfg(test)]
mod tests;
