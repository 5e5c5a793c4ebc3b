//! The command line. Every option is documented here once, for `--help`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::message::MESSAGE_MIN;
use crate::peers::PeersArgs;
use crate::report::OutputArgs;
use crate::scenario::churn::ChurnArgs;
use crate::scenario::compare::CompareArgs;
use crate::scenario::idle::IdleArgs;
use crate::scenario::ingest::IngestArgs;
use crate::scenario::overload::OverloadArgs;
use crate::scenario::rate::RateArgs;
use crate::scenario::slow::SlowArgs;
use crate::scenario::soak::SoakArgs;
use crate::scenario::storm::StormArgs;
use crate::scenario::topics::TopicsArgs;
use crate::scenario::users::UsersArgs;
use crate::server::floor::FloorArgs;
use crate::server::hyper::HyperArgs;
use crate::server::launch::LaunchArgs;
use crate::server::loopback;
use crate::units::{parse_duration, parse_share, parse_size};

/// Load a WebSocket broadcast server and check every delivery.
///
/// Thousands of real sockets on this machine register, connect and read; each message is checked by its sequence
/// number. Exit code 0: all was delivered once and in order. 1: something was lost, duplicated, reordered, or a
/// reading client was closed. 2: it could not be measured.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One topic, everybody on it, at most a window of publications undelivered
    #[command(args_override_self = true)]
    Fanout(FanoutArgs),
    /// The same against the floor: a bare send loop, the least any server can do
    #[command(args_override_self = true)]
    Floor(WindowedArgs),
    /// A fixed rate of publications: latency counted from when each was to leave
    #[command(args_override_self = true)]
    Rate(RateArgs),
    /// Many topics, each client on some of them, at most a window of publications undelivered
    #[command(args_override_self = true)]
    Topics(TopicsArgs),
    /// More than the server can deliver: who is refused, and whether anybody who reads is harmed
    #[command(args_override_self = true, mut_arg("payload", |arg| arg.default_value("64KiB")))]
    Overload(OverloadArgs),
    /// Publishing alone, to a topic without clients: requests a second, and CPU time for each
    #[command(args_override_self = true)]
    Ingest(IngestArgs),
    /// Messages for one user each: all of that user's clients get them, and nobody else
    #[command(args_override_self = true)]
    Users(UsersArgs),
    /// Connected clients, pings and nothing else: memory per connection, and CPU time at rest
    #[command(args_override_self = true)]
    Idle(IdleArgs),
    /// Rounds against several servers in turn: medians, and ratios to the first and to the floor
    #[command(args_override_self = true)]
    Compare(CompareArgs),
    /// The other servers there are adapters for
    Peers(PeersArgs),
    /// Clients vanish all at once and come back: how soon they are served, and what those who stayed see of it
    #[command(args_override_self = true)]
    Storm(StormArgs),
    /// Some clients stall or read slowly: what the others see of it, and who is closed for it
    #[command(args_override_self = true)]
    Slow(SlowArgs),
    /// Clients replace their topics all the time while everybody is published to
    #[command(args_override_self = true)]
    Churn(ChurnArgs),
    /// All of these at once for long, with a verdict on whether the server's memory goes on growing
    #[command(args_override_self = true)]
    Soak(SoakArgs),
    #[command(hide = true)]
    ServeFloor(FloorArgs),
    #[command(hide = true)]
    ServeHyper(HyperArgs),
    #[command(hide = true)]
    Launch(LaunchArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest fanout --clients 5000 --window 32
  loadtest fanout --server target/release/fanfare --pin --against floor --rounds 5
  loadtest fanout --clients 2000 --window 256 --stalled 1% --json run.json")]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    pub(crate) windowed: WindowedArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Alternate with rounds against this, and give the ratio
    #[arg(long)]
    pub(crate) against: Option<Against>,
    /// Stop reading, for good, at this share of the clients
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = parse_share)]
    pub(crate) stalled: f64,
    /// When they stop, counted from the beginning of the measured window
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pub(crate) stall_after: Duration,
}

/// What a server can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Against {
    /// The bare send loop
    Floor,
}

/// A load with a window of publications.
#[derive(Debug, Args)]
pub(crate) struct WindowedArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Publications that may be undelivered at any time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=32_768))]
    pub(crate) window: u64,
}

/// Clients, messages, and how long each part of a round takes.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) crowd: CrowdArgs,
    /// Bytes of each message, digits included (at least 32)
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = payload)]
    pub(crate) payload: usize,
    /// Length of the measured window
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// Publish this long before measuring
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub(crate) warm_up: Duration,
    /// Wait this long with all connected before publishing
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub(crate) settle: Duration,
    /// Give up when nothing reached everybody for this long; what is missing then is lost
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub(crate) patience: Duration,
    /// Rounds against each server [default: 3 with --against, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) rounds: Option<u16>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How many clients, and who simulates them.
#[derive(Debug, Args)]
pub(crate) struct CrowdArgs {
    /// Connected clients; `fanout` takes a list such as 1000,5000,15000 and measures with each
    #[arg(
        long = "clients",
        short = 'n',
        value_name = "N",
        default_value = "1000",
        value_delimiter = ',',
        action = clap::ArgAction::Set,
        value_parser = clients
    )]
    pub(crate) counts: Vec<usize>,
    /// Threads that simulate them [default: the cores the server leaves, at least 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
    /// Pin servers started here to the first core and the clients to the others
    #[arg(long)]
    pub(crate) pin: bool,
}

impl CrowdArgs {
    /// The number of clients; of a list the largest, which is what the machine has to be prepared for.
    pub(crate) fn clients(&self) -> usize {
        self.counts.iter().copied().max().unwrap_or(1)
    }
}

/// Which server is measured.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// A server that runs already; 127.0.0.0/8 only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000", value_parser = loopback)]
    pub(crate) target: SocketAddr,
    /// Its process, for CPU time and memory [default: whoever listens on the port]
    #[arg(long, conflicts_with = "server")]
    pub(crate) pid: Option<u32>,
    /// Start this server for each round, and end it afterwards
    #[arg(long, value_name = "PATH", conflicts_with = "target")]
    pub(crate) server: Option<PathBuf>,
    /// Its arguments, split at spaces; {listen} becomes the address to listen on
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "--listen {listen} --shards 1",
        allow_hyphen_values = true
    )]
    pub(crate) server_args: String,
}

pub(crate) fn payload(text: &str) -> Result<usize, String> {
    const MAX: usize = 4 << 20;
    let size = parse_size(text)?;
    if !(MESSAGE_MIN..=MAX).contains(&size) {
        return Err(format!(
            "a message has {MESSAGE_MIN} bytes to 4 MiB: its sequence number and time need {MESSAGE_MIN}"
        ));
    }
    Ok(size)
}

fn clients(text: &str) -> Result<usize, String> {
    let number: usize = text.replace('_', "").parse().map_err(|_| format!("`{text}` is not a number"))?;
    if number == 0 { Err("at least one client".to_owned()) } else { Ok(number) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_and_counts_are_checked() {
        assert!(payload("31").is_err());
        assert_eq!(payload("4KiB"), Ok(4096));
        assert_eq!(clients("10_000"), Ok(10_000));
        assert!(clients("0").is_err());
    }
}
