//! The command line and the environment: what is asked for, and the options that were given there.
//!
//! An option that was not given is `None` here; what it is then is decided by the configuration file, and after that by
//! [`crate::settings::Settings`]. The help shows those defaults, but clap does not fill them in: it would no longer
//! be known what was asked for.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind,
    parser::ValueSource,
};

use clap_complete::Shell;

use super::{options::Options, print};
use crate::{limits, probe::Target, units::Span};

const EXAMPLES: &str = "\
Examples:
  fanfare
  fanfare --config fanfare.toml --listen 0.0.0.0:8000 --public-url wss://live.example.com
  FANFARE_LOG=json fanfare --default-topics scores,news --outbox-bytes 4MiB

With a file, which also says which topics are of which class:
  fanfare default-config > fanfare.toml
  fanfare check-config fanfare.toml
  fanfare --config fanfare.toml

Try it:
  curl -d '{\"user_id\":1}' -H 'Content-Type: application/json' http://127.0.0.1:8000/register
  (connect a WebSocket client to the url it answers with)
  curl -d 'are awesome' -H 'Content-Type: text/plain' http://127.0.0.1:8000/publish/cats

Times are written 500ms, 25s, 2m or 1h; sizes 65536, 64KiB, 1MiB or 64kB.";

/// Fanfare, a WebSocket broadcast engine: publish once, and every subscriber of the topic has it.
#[derive(Debug, Parser)]
#[command(name = "fanfare", version, after_help = EXAMPLES, max_term_width = 110)]
struct Arguments {
    /// File of options and topic classes (TOML); flags and the environment go before what it says
    #[arg(long, env = "FANFARE_CONFIG", value_name = "FILE")]
    config: Option<OsString>,

    #[command(flatten)]
    options: Options,

    #[command(subcommand)]
    task: Option<TaskArguments>,
}

#[derive(Debug, Subcommand)]
enum TaskArguments {
    /// Reads file, environment and flags as starting would, and prints what is in force
    CheckConfig(CheckConfig),
    /// Prints a configuration file with every default and what it means
    DefaultConfig,
    /// Makes an API key and prints it; to standard error, the table with its hash that a configuration file holds instead of it
    Key,
    /// Asks a server whether it is well, and exits with 0 if it is and with 1 if not: that of --listen, on this machine
    Health(Health),
    /// Prints what makes a shell complete this command; `fanfare completions bash > FILE`, and have the shell read FILE
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Prints the manual page; `fanfare man | man -l -`
    Man,
}

#[derive(Debug, Args)]
struct Health {
    /// Asks there instead, such as http://127.0.0.1:8001/ready
    #[arg(long, value_name = "URL", value_parser = Target::parse)]
    url: Option<Target>,

    /// How long it waits for the answer
    #[arg(long, value_name = "TIME", default_value_t = Span(Duration::from_millis(limits::PROBE_MS)))]
    timeout: Span,
}

#[derive(Debug, Args)]
struct CheckConfig {
    /// The file, instead of --config
    #[arg(value_name = "FILE")]
    file: Option<OsString>,
}

/// What the binary is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// To serve.
    Serve,
    /// To say what would be in force.
    CheckConfig,
    /// To print a file of the defaults.
    DefaultConfig,
    /// To make an API key.
    Key,
    /// To ask a server whether it is well: this one, or the one that would serve with this configuration.
    Health {
        /// Who is asked, if not that one.
        target: Option<Target>,
        /// How long to wait.
        within: Duration,
    },
    /// To print completions for a shell.
    Completions(Shell),
    /// To print the manual page.
    Man,
}

/// A command line that was understood, with what the environment adds to it.
#[derive(Clone, Debug)]
pub struct Cli {
    pub(super) task: Task,
    /// The configuration file, if one is named.
    pub(super) file: Option<PathBuf>,
    /// The options given as flags or in the environment.
    pub(super) options: Options,
    /// How each of them was given, by its id.
    pub(super) given: Vec<(String, Given)>,
}

/// How an option was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// On the command line.
    Flag,
    /// In the environment.
    Variable,
}

impl Cli {
    /// Reads a command line, the name of the program first, and the environment.
    ///
    /// # Errors
    /// When it is not understood, or asks for help or the version: clap's error prints itself and knows its exit code.
    pub fn try_parse_from<I>(arguments: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item: Into<OsString> + Clone>,
    {
        let matches = command().try_get_matches_from(arguments)?;
        let Arguments { config, options, task } = Arguments::from_arg_matches(&matches)?;
        let given = given(&matches);
        let conflict = |what| command().error(ErrorKind::ArgumentConflict, what);
        let is_named = matches.value_source("config") == Some(ValueSource::CommandLine);
        let (task, file) = match task {
            None => (Task::Serve, config),
            Some(TaskArguments::CheckConfig(CheckConfig { file: Some(_) })) if is_named => {
                return Err(conflict("check-config takes one file: FILE, or that of --config"));
            }
            Some(TaskArguments::CheckConfig(CheckConfig { file })) => (Task::CheckConfig, file.or(config)),
            Some(TaskArguments::Health(Health { url, timeout })) => {
                (Task::Health { target: url, within: timeout.0 }, config)
            }
            Some(_) if is_named || given.iter().any(|(_, how)| *how == Given::Flag) => {
                return Err(conflict("what is asked for is the same with any options, and takes none"));
            }
            Some(TaskArguments::DefaultConfig) => (Task::DefaultConfig, None),
            Some(TaskArguments::Key) => (Task::Key, None),
            Some(TaskArguments::Completions { shell }) => (Task::Completions(shell), None),
            Some(TaskArguments::Man) => (Task::Man, None),
        };
        let file = file.filter(|file| !file.is_empty()).map(PathBuf::from);
        Ok(Self { task, file, options, given })
    }

    /// What is asked for.
    pub fn task(&self) -> &Task {
        &self.task
    }
}

/// The command line as clap knows it: options may stand before and behind a subcommand, and show their defaults.
pub(super) fn command() -> clap::Command {
    let defaults = print::defaults_in_help();
    Arguments::command().mut_args(|argument| {
        let argument = argument.global(true).hide_env_values(true);
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        match defaults.get(argument.get_id().as_str()) {
            Some(default) => argument.help(format!("{help} [default: {default}]")),
            None => argument,
        }
    })
}

/// The options of a node and of its log, as clap describes them: those that have a heading, which is the name of
/// their table in a file.
pub(super) fn described() -> Vec<Described> {
    let command = Arguments::command();
    let described = |argument: &clap::Arg| {
        Some(Described {
            table: argument.get_help_heading()?.to_ascii_lowercase(),
            id: argument.get_id().to_string(),
            help: argument.get_help().map(ToString::to_string).unwrap_or_default(),
        })
    };
    command.get_arguments().filter_map(described).collect()
}

/// One option, as clap describes it.
#[derive(Debug)]
pub(super) struct Described {
    /// Its table in a file.
    pub(super) table: String,
    /// Its key there; with `-` for `_` its flag, in capitals behind `FANFARE_` its variable.
    pub(super) id: String,
    /// What it is.
    pub(super) help: String,
}

/// How each option was given that was.
fn given(matches: &ArgMatches) -> Vec<(String, Given)> {
    let how = |id: String| match matches.value_source(&id)? {
        ValueSource::CommandLine => Some((id, Given::Flag)),
        ValueSource::EnvVariable => Some((id, Given::Variable)),
        _ => None,
    };
    described().into_iter().filter_map(|option| how(option.id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Cli, String> {
        Cli::try_parse_from([&["fanfare"], arguments].concat()).map_err(|error| error.to_string())
    }

    #[test]
    fn command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn every_option_has_its_table_its_variable_and_its_default_in_the_help() {
        let mut command = command();
        for argument in command.get_arguments() {
            let Some(long) = argument.get_long().filter(|long| !["version", "help"].contains(long)) else {
                continue;
            };
            let variable = format!("FANFARE_{}", long.to_ascii_uppercase().replace('-', "_"));
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(&*variable));
            assert_eq!(argument.get_id().as_str(), long.replace('-', "_"));
            assert_eq!(argument.get_help_heading().is_some(), long != "config", "{long} belongs to a table");
        }
        let help = command.render_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "[default: 64KiB]",
            "[default: cats]",
            "[default: the cores there are]",
            "[env: FANFARE_LISTEN]",
            "Server:",
            "Clients:",
            "Messages:",
            "Sockets:",
            "Access:",
            "Admin:",
            "Log:",
            "check-config",
            "default-config",
            "--config <FILE>",
            "curl",
        ] {
            assert!(help.contains(part), "{part} is missing in\n{help}");
        }
    }

    #[test]
    fn options_stand_before_and_behind_a_subcommand() {
        for arguments in [
            &["--shards=3", "check-config", "a.toml"][..],
            &["check-config", "--shards=3", "a.toml"],
            &["check-config", "--config=a.toml", "--shards=3"],
            &["--config=a.toml", "check-config", "--shards=3"],
        ] {
            let cli = parsed(arguments).expect("it is understood");
            assert_eq!(cli.task(), &Task::CheckConfig, "{arguments:?}");
            assert_eq!(cli.file, Some("a.toml".into()), "{arguments:?}");
            assert_eq!(cli.options.server.shards.map(|count| count.0), Some(3), "{arguments:?}");
            assert_eq!(cli.given, [("shards".to_owned(), Given::Flag)], "{arguments:?}");
        }
        assert_eq!(parsed(&[]).unwrap().task(), &Task::Serve);
        assert_eq!(parsed(&["--config="]).unwrap().file, None);
        assert_eq!(parsed(&["default-config"]).unwrap().task(), &Task::DefaultConfig);
        assert_eq!(parsed(&["man"]).unwrap().task(), &Task::Man);
        assert_eq!(parsed(&["completions", "fish"]).unwrap().task(), &Task::Completions(Shell::Fish));
        let within = Duration::from_millis(limits::PROBE_MS);
        assert_eq!(parsed(&["health"]).unwrap().task(), &Task::Health { target: None, within });
        let elsewhere = parsed(&["health", "--url=http://a/ready", "--timeout=5s"]).unwrap();
        let target = Some(Target::parse("http://a/ready").unwrap());
        assert_eq!(elsewhere.task(), &Task::Health { target, within: Duration::from_secs(5) });
    }

    #[test]
    fn a_subcommand_that_would_ignore_something_refuses_it() {
        for (arguments, part) in [
            (&["--config=a", "check-config", "b"][..], "takes one file"),
            (&["check-config", "a", "b"], "unexpected argument 'b'"),
            (&["default-config", "--shards=1"], "takes none"),
            (&["--config=a", "default-config"], "takes none"),
            (&["man", "--shards=1"], "takes none"),
            (&["completions"], "<SHELL>"),
            (&["completions", "cmd"], "'cmd'"),
            (&["health", "--url=a"], "such as http://127.0.0.1:8000/health"),
            (&["serve"], "'serve'"),
        ] {
            let error = parsed(arguments).expect_err("it is refused");
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
}
