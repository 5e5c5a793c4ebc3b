//! Reloading: SIGHUP reads the configuration again and puts in force what can be changed while the node runs.
//!
//! The signal thread calls it, one reload after another. Everything is read and checked before anything is changed: the file,
//! the files it names, with the flags and variables the process was started with. What is wrong changes nothing. Nothing is
//! plugged in here: what is read from the configuration stands in [`Settings`], the node hands out
//! those in force, and [`Settings::changed_to`](crate::settings::Settings::changed_to) says what stays as it is until a restart.

use std::sync::Arc;

use crate::{
    config::{Change, Cli, Config, ConfigError, LogOptions, changes},
    logging::LogFilter,
    node::Node,
    settings::Settings,
};

/// What is needed to read the configuration again.
pub(super) struct Reloader {
    cli: Cli,
    /// What is in force.
    config: Config,
    log: LogFilter,
    node: Arc<Node>,
}

/// What a reload came to.
struct Outcome {
    in_force: Vec<Change>,
    /// What only a restart brings.
    later: Vec<Change>,
}

impl Reloader {
    /// Of a node that runs with `config`, which was read with `cli`.
    pub(super) fn new(cli: Cli, config: Config, log: LogFilter, node: Arc<Node>) -> Self {
        Self { cli, config, log, node }
    }

    /// Reads the configuration again, puts it in force as far as that can be, and says in the log what came of it.
    pub(super) fn reload(&mut self) {
        match self.try_reload() {
            Err(error) => tracing::error!(%error, "nothing is reloaded: the configuration is not right"),
            Ok(Outcome { in_force, later }) => {
                for Change { name, before, after } in &in_force {
                    tracing::info!(option = %name, %before, %after, "changed");
                }
                for Change { name, before, after } in &later {
                    tracing::warn!(option = %name, in_force = %before, wanted = %after, "needs a restart");
                }
                tracing::info!(changed = in_force.len(), need_restart = later.len(), "reloaded");
            }
        }
    }

    fn try_reload(&mut self) -> Result<Outcome, ConfigError> {
        let wanted = Config::read(&self.cli)?;
        // The configuration has asked the settings already.
        self.node.reconfigure(wanted.settings.clone()).expect("they are allowed");
        let mut log = self.config.log.clone();
        if log.filter != wanted.log.filter && self.log.set(&wanted.log.filter).is_ok() {
            log = LogOptions { filter: wanted.log.filter.clone(), ..log };
        }
        let mut now = wanted.clone();
        (now.listen, now.settings, now.log) =
            (self.config.listen, Settings::clone(&self.node.settings()), log);
        let outcome = Outcome { in_force: changes(&self.config, &now), later: changes(&now, &wanted) };
        self.config = now;
        Ok(outcome)
    }
}
