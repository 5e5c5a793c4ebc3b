//! The command line: one subcommand a scenario, with its purpose for `--help`.

use clap::{Arg, Parser, Subcommand};

use crate::args::WindowedArgs;
use crate::peers::PeersArgs;
use crate::scenario::churn::ChurnArgs;
use crate::scenario::compare::CompareArgs;
use crate::scenario::fanout::FanoutArgs;
use crate::scenario::idle::IdleArgs;
use crate::scenario::ingest::IngestArgs;
use crate::scenario::overload::OverloadArgs;
use crate::scenario::rate::RateArgs;
use crate::scenario::resume::ResumeArgs;
use crate::scenario::slow::SlowArgs;
use crate::scenario::soak::SoakArgs;
use crate::scenario::storm::StormArgs;
use crate::scenario::topics::TopicsArgs;
use crate::scenario::users::UsersArgs;
use crate::server::floor::FloorArgs;
use crate::server::hyper::HyperArgs;
use crate::server::launch::LaunchArgs;

/// Load a WebSocket broadcast server and check every delivery.
///
/// Thousands of real sockets on this machine register, connect and read; each message is checked by its sequence
/// number. Exit code 0: all was delivered once and in order. 1: something was lost, duplicated, reordered, or a
/// reading client was closed. 2: it could not be measured,
/// or not long enough for what was asked.
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
    #[command(args_override_self = true, mut_arg("processes", one_process))]
    Storm(StormArgs),
    /// Clients vanish all at once and come back for what they missed: how soon all have it, and whether all of it
    #[command(
        args_override_self = true,
        mut_arg("processes", one_process),
        mut_arg("counts", |arg| arg.default_value("10000"))
    )]
    Resume(ResumeArgs),
    /// Some clients stall or read slowly: what the others see of it, and who is closed for it
    #[command(args_override_self = true, mut_arg("processes", one_process))]
    Slow(SlowArgs),
    /// Clients replace their topics all the time while everybody is published to
    #[command(args_override_self = true, mut_arg("processes", one_process))]
    Churn(ChurnArgs),
    /// All of these at once for long, with a verdict on whether the server's memory goes on growing
    #[command(args_override_self = true, mut_arg("processes", one_process))]
    Soak(SoakArgs),
    #[command(hide = true)]
    Hold,
    #[command(hide = true)]
    ServeFloor(FloorArgs),
    #[command(hide = true)]
    ServeHyper(HyperArgs),
    #[command(hide = true)]
    Launch(LaunchArgs),
}

/// Of scenarios whose clients come and go: what is due to each is known only where it lives, moment by moment.
fn one_process(arg: Arg) -> Arg {
    let only_one = |text: &str| match text {
        "1" => Ok(1_u16),
        _ => Err("only 1: storm, resume, slow, churn and soak keep all their clients in one process"),
    };
    arg.value_parser(only_one).help("Only 1 here: all clients are kept in one process")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
