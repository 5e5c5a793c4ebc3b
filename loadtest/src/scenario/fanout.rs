//! Fan-out: everybody on one topic, and a publisher that keeps at most a window of publications undelivered.
//! With a window of one nothing can be coalesced; with more, what is waiting can. Rounds alternate between the
//! target and what it is compared with, since a figure on a shared machine means something only beside another of the
//! same time: the floor, or the same server with less to do for each message.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::alternation::{self, Contestant};
use super::scaling::{Scaling, Step};
use super::{Stage, Verdict, fresh_topic};
use crate::args::{Protocol, TargetArgs, WindowedArgs};
use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::generator::{Plan, Streams, Supply};
use crate::message::Message;
use crate::report::rounds::Rounds;
use crate::report::{Environment, Page};
use crate::round::Timing;
use crate::server::{Server, Side, TopicClass};
use crate::units::{self, parse_duration, parse_share};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest fanout --clients 5000 --window 32
  loadtest fanout --server target/release/fanfare --pin --against floor --rounds 5
  loadtest fanout --server target/release/fanfare --pin --protocol v1 --against plain-protocol
  loadtest fanout --server target/release/fanfare --pin --class history --against plain-class
  loadtest fanout --server target/release/fanfare --pin --tls --against plain-tcp
  loadtest fanout --clients 2000 --window 256 --stalled 1% --json run.json")]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    windowed: WindowedArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// What clients speak; they register all the same
    #[arg(long, value_enum, default_value_t)]
    protocol: Protocol,
    /// Class of the topic. A server started here is told of it by --config; one that runs has to have given it to topics
    /// that begin with the class's name and a dot
    #[arg(long)]
    class: Option<TopicClass>,
    /// Speak TLS; a server started here is given a certificate
    #[arg(long)]
    tls: bool,
    /// Alternate with rounds against this, and give the ratio
    #[arg(long)]
    against: Option<AgainstFanout>,
    /// Alternate with rounds against this other build of the server, given the same, and give the ratio
    #[arg(long, value_name = "PATH", requires = "server", conflicts_with = "against")]
    against_build: Option<PathBuf>,
    /// Stop reading, for good, at this share of the clients
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = parse_share)]
    stalled: f64,
    /// When they stop, counted from the beginning of the measured window
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    stall_after: Duration,
}

/// What fan-out can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AgainstFanout {
    /// The bare send loop
    Floor,
    /// The same server and topic, with clients that speak the plain protocol
    PlainProtocol,
    /// The same server and clients, with a topic of the default class, without keys
    PlainClass,
    /// The same server and clients, without TLS
    PlainTcp,
}

/// What clients and topic are, on one side.
#[derive(Debug, Clone, Copy, Default)]
struct Kind {
    protocol: Protocol,
    class: Option<TopicClass>,
}

/// What is found: for one number of clients all rounds, for a list the rounds of each.
#[derive(Debug, Serialize)]
struct FanOut {
    payload_bytes: usize,
    window: u64,
    protocol: &'static str,
    class: Option<&'static str>,
    tls: bool,
    #[serde(flatten)]
    found: Found,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Found {
    One(Box<Rounds>),
    Each(Scaling),
}

/// `loadtest fanout`.
pub(crate) fn run(args: &FanoutArgs) -> Result<Verdict> {
    let kind = Kind { protocol: args.protocol, class: args.class };
    let stage = Stage::set_for_list(&args.windowed.load.crowd)?;
    let started = |target: &TargetArgs| match kind.class {
        Some(_) => stage.target(target).with_tls(args.tls).with_classes(),
        None => stage.target(target).with_tls(args.tls),
    };
    let target = || started(&args.target);
    let mut sides = vec![("target", target(), kind)];
    match args.against {
        None => {}
        Some(AgainstFanout::Floor) => {
            sides.push(("floor", Side::Floor { core: stage.server_core }, Kind::default()));
        }
        Some(AgainstFanout::PlainProtocol) if kind.protocol == Protocol::Plain => {
            return Err(Error::Usage("--against plain-protocol needs another --protocol".to_owned()));
        }
        Some(AgainstFanout::PlainProtocol) => {
            sides.push(("plain protocol", target(), Kind { protocol: Protocol::Plain, ..kind }));
        }
        Some(AgainstFanout::PlainClass) if kind.class.is_none() => {
            return Err(Error::Usage("--against plain-class needs a --class".to_owned()));
        }
        Some(AgainstFanout::PlainClass) => {
            sides.push(("plain class", target(), Kind { class: None, ..kind }));
        }
        Some(AgainstFanout::PlainTcp) if !args.tls || args.target.server.is_none() => {
            return Err(Error::Usage("--against plain-tcp needs --tls and --server".to_owned()));
        }
        Some(AgainstFanout::PlainTcp) => sides.push(("plain TCP", target().with_tls(false), kind)),
    }
    if let Some(build) = &args.against_build {
        let other = TargetArgs { server: Some(build.clone()), ..args.target.clone() };
        sides.push(("other build", started(&other), kind));
    }
    let timing = Timing { stall_after: args.stall_after, ..alternation::timing(&args.windowed.load) };
    run_against(&stage, &args.windowed, &sides, args.stalled, timing)
}

/// `loadtest floor`.
pub(crate) fn run_floor(args: &WindowedArgs) -> Result<Verdict> {
    let stage = Stage::set_for_list(&args.load.crowd)?;
    let sides = [("floor", Side::Floor { core: stage.server_core }, Kind::default())];
    run_against(&stage, args, &sides, 0.0, alternation::timing(&args.load))
}

/// Rounds of each of `sides`, which have a name, the first of them what is measured.
fn run_against(
    stage: &Stage,
    windowed: &WindowedArgs,
    sides: &[(&'static str, Side, Kind)],
    stalled: f64,
    timing: Timing,
) -> Result<Verdict> {
    let WindowedArgs { load, window } = windowed;
    alternation::check(load)?;
    let kind = sides.first().map_or_else(Kind::default, |&(_, _, kind)| kind);
    let opened: Vec<Side> = sides.iter().map(|(_, side, _)| side.clone()).collect();
    let environment = Environment::describe(load.crowd.pin, &opened);
    let mut page = page(stage, windowed, kind, stalled);
    if opened.first().is_some_and(Side::speaks_tls) {
        page.fact("speaks", "TLS 1.3".to_owned());
    }
    load.output.begin(&page, &environment)?;
    let under_way = format!("a window of {window}");
    let message = Message::new(load.payload, Instant::now());
    let mut steps = Vec::new();
    for &clients in &load.crowd.counts {
        let contestants: Vec<Contestant<'_>> = sides
            .iter()
            .map(|&(name, ref side, kind)| {
                let message = &message;
                let plan = move |server: &Server| Plan {
                    address: server.address,
                    dialect: kind.dialect(server),
                    streams: Arc::new(Streams::one_topic(kind.topic(), 1)),
                    split: stage.split.with_clients(clients),
                    busy_poll: stage.busy_poll,
                    message: message.clone(),
                    supply: Some(Supply::window(*window)),
                    stalled,
                    patience: load.patience,
                };
                Contestant { name, side: side.clone(), plan: Box::new(plan) }
            })
            .collect();
        let rounds = alternation::alternate_timed(stage, load.rounds, timing, &contestants)?;
        steps.push(Step { clients, rounds: Rounds::new(rounds) });
    }
    let (found, verdict) = match <[Step; 1]>::try_from(steps) {
        Ok([Step { rounds, .. }]) => {
            rounds.fill(&mut page, &under_way);
            let verdict = rounds.verdict();
            (Found::One(Box::new(rounds)), verdict)
        }
        Err(steps) => {
            let scaling = Scaling::new(steps);
            let verdict = scaling.fill(&mut page, &under_way);
            (Found::Each(scaling), verdict)
        }
    };
    let result = FanOut {
        payload_bytes: load.payload,
        window: *window,
        protocol: kind.protocol.name(),
        class: kind.class.map(TopicClass::name),
        tls: sides.first().is_some_and(|(_, side, _)| side.speaks_tls()),
        found,
    };
    load.output.end(&page, &environment, &result)?;
    Ok(verdict)
}

impl Kind {
    fn topic(self) -> String {
        self.class.map_or_else(fresh_topic, |class| class.topic(&fresh_topic()))
    }

    fn dialect(self, server: &Server) -> Dialect {
        let keyed = self.class.is_some_and(TopicClass::is_keyed);
        Dialect { framing: self.protocol.framing(), keyed, ..server.dialect }
    }
}

fn page(stage: &Stage, windowed: &WindowedArgs, kind: Kind, stalled: f64) -> Page {
    let WindowedArgs { load, window } = windowed;
    let mut page =
        Page::new("fanout", "One topic, everybody on it, at most a window of publications undelivered");
    let counts: Vec<String> = load.crowd.counts.iter().map(|&count| units::grouped(count as u64)).collect();
    page.fact("clients", counts.join(" / "))
        .fact("threads", stage.split.simulators())
        .fact("message", units::bytes(load.payload as u64))
        .fact("window", window.to_string())
        .fact("protocol", kind.protocol.name())
        .fact("class of the topic", kind.class.map_or("default", TopicClass::name))
        .fact("measured", format!("{:?}", load.duration));
    if stalled > 0.0 {
        page.fact("stalled", format!("{} %", stalled * 100.0));
    }
    page
}
