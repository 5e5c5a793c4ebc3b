//! Reloading: SIGHUP reads the configuration again and puts in force what can be changed while the node runs.
//!
//! The signal thread calls it, one reload after another. Everything is read and checked before anything is changed: the file,
//! the files it names, with the flags and variables the process was started with, and then what would be in force with it
//! ([`Config::changed_to`]): what only a restart changes must go with the rest. What is wrong changes nothing. Nothing is
//! plugged in here: what is read from the configuration stands in [`Settings`], the node hands out
//! those in force, and [`Settings::changed_to`](crate::settings::Settings::changed_to) says what stays as it is until a restart.

use std::sync::Arc;

use crate::{
    config::{Change, Changes, Cli, Config, ConfigError, changes},
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
    in_force: Changes,
    /// What only a restart brings.
    later: Changes,
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
                for Change { name, before, after } in &in_force.listed {
                    tracing::info!(option = %name, %before, %after, "changed");
                }
                if in_force.more > 0 {
                    tracing::info!(more = in_force.more, "changed, and not listed");
                }
                for Change { name, before, after } in &later.listed {
                    tracing::warn!(option = %name, in_force = %before, wanted = %after, "needs a restart");
                }
                if later.more > 0 {
                    tracing::warn!(more = later.more, "needs a restart, and not listed");
                }
                tracing::info!(changed = in_force.count(), need_restart = later.count(), "reloaded");
            }
        }
    }

    fn try_reload(&mut self) -> Result<Outcome, ConfigError> {
        let wanted = Config::read(&self.cli)?;
        let mut now = self.config.changed_to(&wanted)?;
        self.node.reconfigure(wanted.settings.clone()).expect("what will be in force was checked");
        now.settings = Settings::clone(&self.node.settings());
        // Operators may have set another since, which a reload that says nothing new of it leaves alone.
        let is_new = self.config.log.filter != now.log.filter;
        if is_new && self.log.set(&now.log.filter).is_err() {
            now.log.filter.clone_from(&self.config.log.filter);
        }
        let outcome = Outcome { in_force: changes(&self.config, &now), later: changes(&now, &wanted) };
        self.config = now;
        Ok(outcome)
    }
}
