//! A load-test harness for WebSocket broadcast servers.
//!
//! It speaks only the wire: it registers clients over HTTP, holds thousands of real sockets, publishes over HTTP
//! and checks every single delivery by its sequence number.
//!
//! ```text
//! cli ─► scenario ─► round ─► generator (epoll threads: connector, publisher, reader) ◄─sockets─► server
//!           │          │         └─► holders (processes of this program: connector, reader) ◄─sockets─┘
//!           │          └────► procfs (the server's CPU time and memory)
//!           └─► figures ─► report (tables, JSON)
//! ```
//!
//! It connects to loopback addresses only, every loop is bounded, and it ends no process but those it started.

mod args;
mod cli;
mod clock;
mod dialect;
mod error;
mod figures;
mod generator;
mod handshake;
mod http;
mod interval;
mod machine;
mod message;
mod peers;
mod place;
mod procfs;
mod progress;
mod report;
mod round;
mod scenario;
mod server;
mod split;
mod stream;
mod timeline;
mod tls;
mod units;
mod verdict;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use verdict::Verdict;

fn main() -> ExitCode {
    let verdict = match Cli::parse().command {
        Command::Fanout(args) => scenario::fanout::run(&args),
        Command::Floor(args) => scenario::fanout::run_floor(&args),
        Command::Rate(args) => scenario::rate::run(&args),
        Command::Topics(args) => scenario::topics::run(&args),
        Command::Overload(args) => scenario::overload::run(&args),
        Command::Ingest(args) => scenario::ingest::run(&args),
        Command::Users(args) => scenario::users::run(&args),
        Command::Compare(args) => scenario::compare::run(&args),
        Command::Peers(args) => peers::run(&args),
        Command::Idle(args) => scenario::idle::run(&args),
        Command::ServeHyper(args) => server::hyper::serve(&args).map(|()| Verdict::Faultless),
        Command::Resume(args) => scenario::resume::run(&args),
        Command::Storm(args) => scenario::storm::run(&args),
        Command::Slow(args) => scenario::slow::run(&args),
        Command::Soak(args) => scenario::soak::run(&args),
        Command::Churn(args) => scenario::churn::run(&args),
        Command::ServeFloor(args) => server::floor::serve(&args).map(|()| Verdict::Faultless),
        Command::Hold => generator::hold(),
        Command::Launch(args) => server::launch::run(args).map(|()| Verdict::Faultless),
    };
    match verdict {
        Ok(Verdict::Faultless) => ExitCode::SUCCESS,
        Ok(Verdict::Faulty) => ExitCode::from(1),
        Ok(Verdict::Undecided) => ExitCode::from(2),
        Err(error) => {
            eprintln!("loadtest: {error}");
            error.exit_code()
        }
    }
}
