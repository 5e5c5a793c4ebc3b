//! The `fanfare` server: reads its options, sets up its log and its descriptor limit, and runs a node.
//!
//! Exit codes: 0 when it was told to stop and did, 1 when it could not run (an address in use), 2 for an option that
//! is not allowed.

use std::{io::IsTerminal, net::SocketAddr, process::ExitCode};

use clap::{CommandFactory, Parser, error::ErrorKind};
use fanfare::{
    config::{Cli, LogFormat, LogOptions},
    limits,
    settings::Settings,
    units::{Size, Span},
};
use tracing::{info, warn};

fn main() -> ExitCode {
    let (listen, settings, log) = match Cli::parse().into_settings() {
        Ok(checked) => checked,
        Err(error) => Cli::command().error(ErrorKind::ValueValidation, error).exit(),
    };
    start_log(&log);
    tell(listen, &settings, raise_descriptor_limit());
    match fanfare::server::run(listen, settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanfare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Sends the log to standard error; what the server prints besides stays readable by programs.
fn start_log(options: &LogOptions) {
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        // A log that nobody reads any more must not take the server with it: to complain would be to panic.
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(&options.filter);
    match options.format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
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
fn tell(listen: SocketAddr, settings: &Settings, descriptors: Option<u64>) {
    let topics: Vec<_> = settings.default_topics.iter().map(|topic| topic.as_str()).collect();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        %listen,
        shards = settings.shards,
        public_url = settings.public_url.as_deref().unwrap_or("the Host of each request"),
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
        "messages"
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
