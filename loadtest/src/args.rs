//! Arguments that several scenarios have in common. Those of one scenario stand in its file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::dialect::Framing;
use crate::message::MESSAGE_MIN;
use crate::report::OutputArgs;
use crate::server::loopback;
use crate::split::PROCESSES_MAX;
use crate::units::{parse_duration, parse_size};

/// What a server can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Against {
    /// The bare send loop
    Floor,
}

/// What clients speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// A frame holds a message and nothing else
    #[default]
    Plain,
    /// The subprotocol `fanfare.v1`: messages with offsets, and gaps that say what is missing
    V1,
}

impl Protocol {
    pub(crate) fn framing(self) -> Framing {
        match self {
            Self::Plain => Framing::Plain,
            Self::V1 => Framing::V1,
        }
    }

    /// As it stands in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::V1 => "fanfare.v1",
        }
    }
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
    /// Threads that simulate them, as many in each process [default: the cores the server leaves, at least 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
    /// Processes that hold them: each may open as many sockets as `ulimit -n` says, from 127.0.N.x addresses of its own
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(PROCESSES_MAX))
    )]
    pub(crate) processes: u16,
    /// Pin servers started here to the first core and the clients to the others
    #[arg(long)]
    pub(crate) pin: bool,
    /// Have the clients' threads look for work all the time instead of sleeping: on loopback whoever sends to a
    /// sleeping thread pays for waking it, which no network asks of a server
    #[arg(long)]
    pub(crate) busy_poll: bool,
}

impl CrowdArgs {
    /// The number of clients; of a list the largest, which is what the machine has to be prepared for.
    pub(crate) fn clients(&self) -> usize {
        self.counts.iter().copied().max().unwrap_or(1)
    }
}

/// Which server is measured.
#[derive(Debug, Clone, Args)]
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
    use super::*;

    #[test]
    fn sizes_and_counts_are_checked() {
        assert!(payload("31").is_err());
        assert_eq!(payload("4KiB"), Ok(4096));
        assert_eq!(clients("10_000"), Ok(10_000));
        assert!(clients("0").is_err());
    }
}
