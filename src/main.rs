//! The `fanfare` server: reads its options, sets up its log and its descriptor limit, and runs a node. Beside that it
//! checks a configuration, prints one of all defaults, and makes API keys.
//!
//! Exit codes: 0 when it was told to stop and did, 1 when it could not run (an address in use) or a server it was to ask is
//! not well, 2 for a command line, a
//! configuration file or an option that is not allowed.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use fanfare::{
    auth::{KeyHash, keys},
    config::{self, Cli, Config, LogFormat, Task},
    limits, logging,
    probe::Target,
    settings::Settings,
    units::{Size, Span},
};
use tracing::{info, warn};

/// The exit code for what is not allowed; clap has the same.
const NOT_ALLOWED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::try_parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let task = cli.task().clone();
    match task {
        Task::DefaultConfig => return print(&config::default_file()),
        Task::Key => return new_key(),
        Task::Completions(shell) => return print(&config::completions(shell)),
        Task::Man => return print(&config::manual()),
        Task::Health { target: Some(target), within } => return ask(&target, within),
        Task::Health { .. } | Task::CheckConfig | Task::Serve => {}
    }
    let config = match Config::read(&cli) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}\n\nFor more information, try 'fanfare --help'.");
            return ExitCode::from(NOT_ALLOWED);
        }
    };
    match task {
        Task::CheckConfig => {
            for unknown in unknown_variables() {
                eprintln!("warning: {unknown}");
            }
            return print(&config.to_string());
        }
        Task::Health { within, .. } => {
            return match health_target(&config) {
                Ok(target) => ask(&target, within),
                Err(why) => {
                    eprintln!("fanfare: {why}");
                    ExitCode::FAILURE
                }
            };
        }
        _ => {}
    }
    let json = config.log.format == LogFormat::Json;
    let log = logging::start(json, &config.log.filter).expect("the configuration has checked the filter");
    tell(&config, raise_descriptor_limit());
    for unknown in unknown_variables() {
        warn!("{unknown}");
    }
    let ran = fanfare::server::run(cli, config, log);
    if let Err(error) = &ran {
        // On the way of the log: beside it the process would wait here for ever where nobody reads.
        logging::say(&format!("fanfare: {error}"));
    }
    logging::flush();
    if ran.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Makes an API key. The key alone goes to standard output and what a configuration file says of it to standard error, so that
/// each can be sent where it belongs and the secret stands in nothing else. An error is a comment there: it may end up behind a
/// configuration that is in use.
fn new_key() -> ExitCode {
    let Some(key) = keys::generate() else {
        eprintln!("# fanfare: the system gives no randomness");
        return ExitCode::FAILURE;
    };
    let hash = KeyHash::of(key.as_bytes());
    let table = format!(
        "# The key went to standard output, for whoever calls, and is shown only there. This is for the configuration file:\n\
         [[keys]]\nname = \"change-me\"\nscopes = [\"register\", \"publish\"]\nhash = \"{hash}\"\n"
    );
    let mut stdout = io::stdout();
    let printed = writeln!(stdout, "{key}").and_then(|()| stdout.flush());
    match printed.and_then(|()| io::stderr().write_all(table.as_bytes())) {
        Ok(()) => ExitCode::SUCCESS,
        // Not even to a pipe that was closed: a key that nobody has is no key.
        Err(error) => {
            let _ = writeln!(io::stderr(), "# fanfare: cannot print the key: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Who tells whether the server of this configuration is well: itself, or, where its clients have to speak TLS or a PROXY header,
/// its admin listener, of which `/ready` needs no key.
fn health_target(config: &Config) -> Result<Target, &'static str> {
    let Settings { tls, gate, admin, .. } = &config.settings;
    match (tls, gate.proxy_protocol, admin) {
        (None, false, _) => Ok(Target::listening_on(config.listen)),
        (_, _, Some(admin)) => Ok(Target::ready_at(admin.listen)),
        (Some(tls), false, None) => Ok(Target::listening_on(config.listen).over_tls(tls)),
        (_, true, None) => {
            Err("it cannot be asked: its port takes connections from proxies only (--proxy-protocol), and \
                                there is no admin listener; give it one (--admin-listen)")
        }
    }
}

/// What is said in the environment that looks like an option and is none.
fn unknown_variables() -> Vec<config::UnknownVariable> {
    config::unknown_variables(std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()))
}

/// Asks a server whether it is well.
fn ask(target: &Target, within: Duration) -> ExitCode {
    match target.ask(within) {
        Ok(()) => ExitCode::SUCCESS,
        Err(unwell) => {
            eprintln!("fanfare: {target}: {unwell}");
            ExitCode::FAILURE
        }
    }
}

/// Prints to standard output. Whoever has read enough may close it.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanfare: cannot print: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Raises the limit of open descriptors as far as it goes; the limit in force, if there is one.
fn raise_descriptor_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => before.current,
    }
}

/// Says what is in force.
fn tell(config: &Config, descriptors: Option<u64>) {
    let settings = &config.settings;
    let topics: Vec<_> = settings.default_topics.iter().map(|topic| topic.as_str()).collect();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %config.listen,
        admin = settings.admin.as_ref().map_or("off".into(), |admin| admin.listen.to_string()),
        config = config.file.as_ref().map_or("none".into(), |file| file.to_string_lossy()).as_ref(),
        shards = settings.shards,
        public_url = settings.public_url.as_deref().unwrap_or("the Host of each request"),
        tls = settings.tls.is_some(),
        "fanfare starts"
    );
    info!(
        default_topics = topics.join(","),
        max_topics_per_client = settings.max_topics_per_client,
        registration_ttl = %Span(settings.registration_ttl),
        registration_grace = %Span(settings.registration_grace),
        ping_interval = %Span(settings.ping_interval),
        pong_timeout = %Span(settings.pong_timeout),
        "clients"
    );
    info!(
        max_message = %Size(settings.max_message),
        max_body = %Size(settings.max_body),
        outbox_bytes = %Size(settings.outbox_bytes),
        outbox_age = %Span(settings.outbox_age),
        "messages"
    );
    info!(classes = settings.classes.iter().count(), rules = settings.classes.rule_count(), "topic classes");
    let origins: Vec<_> = settings.origins.iter().collect();
    info!(
        keys = settings.keys.iter().count(),
        token_keys = settings.tokens.as_ref().map_or(0, |tokens| tokens.keys.len()),
        anonymous = settings.lets_anonymous_in(),
        origins = if origins.is_empty() { "any".to_owned() } else { origins.join(",") },
        "access"
    );
    match descriptors {
        Some(limit) if limit < limits::DESCRIPTORS_LOW => warn!(
            limit,
            "few file descriptors: each client needs one; raise the hard limit (ulimit -Hn, LimitNOFILE=)"
        ),
        Some(limit) => info!(limit, "file descriptors"),
        None => info!("file descriptors are not limited"),
    }
}
