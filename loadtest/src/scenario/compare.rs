//! Several servers in turn: every round has all of them, in an order that rotates, each started afresh on the same
//! core. A peer that loses messages, closes clients or does not start is shown with that and does not end the run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::rate::rate as parse_rate;
use super::{Stage, Verdict, fresh_topic};
use crate::args::{CrowdArgs, payload};
use crate::error::{Error, Result};
use crate::generator::{Pace, Plan, Streams, Supply};
use crate::message::Message;
use crate::peers::{ALL, Home, Peer};
use crate::report::comparison::{Comparison, Outcome, Rest, Setting};
use crate::report::{Environment, OutputArgs, Page};
use crate::round::{self, Audience, Timing};
use crate::server::{Server, Side};
use crate::units::{self, parse_duration};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest peers install axum ws
  loadtest compare --targets fanfare,floor,axum,ws --clients 5000 --window 1,32,256 --pin
  loadtest compare --scenario rate --targets fanfare,bun --clients 5000 --rate 20,50,100 --pin
  loadtest compare --scenario idle --targets fanfare,bun,nginx --clients 15000 --pin

Exit code 1 means that the target fanfare was faulty, or with --strict that any was.")]
pub(crate) struct CompareArgs {
    /// What is measured
    #[arg(long, value_enum, default_value_t = Kind::Fanout)]
    scenario: Kind,
    /// Servers: fanfare, floor and those of `loadtest peers list`; ratios are to the first and to the floor
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "fanfare,floor", value_parser = target)]
    targets: Vec<Target>,
    #[command(flatten)]
    crowd: CrowdArgs,
    /// Bytes of each message, digits included (at least 32)
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = payload)]
    payload: usize,
    /// Publications that may be undelivered at any time; several are measured one after the other
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "32",
        value_parser = clap::value_parser!(u64).range(1..=32_768))]
    window: Vec<u64>,
    /// Publications a second; several are measured one after the other
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "100", value_parser = parse_rate)]
    rate: Vec<f64>,
    /// Length of the measured window of each round
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
    /// Publish this long before measuring
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    warm_up: Duration,
    /// Wait this long with all connected before publishing or looking at memory
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    settle: Duration,
    /// Give a round up when nothing reached everybody for this long; what is missing then is lost
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    patience: Duration,
    /// Rounds against each server
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// The program of the target fanfare [default: fanfare, in this program's folder]
    #[arg(long, value_name = "PATH")]
    fanfare: Option<PathBuf>,
    /// Its arguments, split at spaces; {listen} becomes the address to listen on
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "--listen {listen} --shards 1 --log-level warn",
        allow_hyphen_values = true
    )]
    fanfare_args: String,
    /// Where peers were installed [default: $LOADTEST_PEERS, else loadtest/peers in the user's cache]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Exit with 1 if any target was faulty
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    /// One topic, everybody on it, at most a window of publications undelivered
    Fanout,
    /// A fixed rate of publications, latency from when each was to leave
    Rate,
    /// Connected clients and nothing published: memory per connection, CPU time at rest
    Idle,
}

/// One of those to be compared.
#[derive(Debug, Clone, Copy)]
enum Target {
    Fanfare,
    Floor,
    Peer(&'static Peer),
}

fn target(name: &str) -> std::result::Result<Target, String> {
    match name {
        "fanfare" => Ok(Target::Fanfare),
        "floor" => Ok(Target::Floor),
        name => Peer::find(name).map(Target::Peer).ok_or_else(|| {
            let names = ALL.map(|peer| peer.name).join(", ");
            format!("there is no adapter for `{name}`, only for fanfare, floor, {names}")
        }),
    }
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Fanfare => "fanfare",
            Self::Floor => "floor",
            Self::Peer(peer) => peer.name,
        }
    }
}

/// `loadtest compare`.
pub(crate) fn run(args: &CompareArgs) -> Result<Verdict> {
    if args.duration.is_zero() {
        return Err(Error::Usage("--duration must be longer than nothing".to_owned()));
    }
    if args.crowd.counts.len() > 1 {
        return Err(Error::Usage("compare takes one number of --clients: run it once for each".to_owned()));
    }
    let names: Vec<_> = args.targets.iter().map(|target| target.name()).collect();
    if let Some((_, twice)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(Error::Usage(format!("--targets names {twice} twice")));
    }
    let stage = Stage::set(&args.crowd)?;
    let home = Home::find(args.peers.as_deref())?;
    let sides: Vec<Side> =
        args.targets.iter().map(|&target| args.side(target, &home, &stage)).collect::<Result<_>>()?;
    let environment = Environment::describe(args.crowd.pin, &sides);
    let mut page = args.page(&stage);
    args.output.begin(&page, &environment)?;
    let settings = match args.scenario {
        Kind::Fanout => args.window.iter().map(|&window| Setting::Window(window)).collect(),
        Kind::Rate => args.rate.iter().map(|&rate| Setting::Rate(rate)).collect(),
        Kind::Idle => vec![Setting::Idle],
    };
    let mut comparisons = Vec::new();
    for setting in settings {
        comparisons.push(args.compare(setting, &names, &sides, &stage)?);
    }
    let mut remarks = Vec::new();
    for comparison in &comparisons {
        comparison.fill(&mut page);
        remarks.extend(comparison.remarks());
    }
    let judged = |name: &str| args.strict || name == Target::Fanfare.name();
    let faulty = |comparison: &Comparison| comparison.faulty().any(judged);
    let verdict = if comparisons.iter().any(faulty) { Verdict::Faulty } else { Verdict::Faultless };
    page.conclude(verdict, remarks);
    args.output.end(&page, &environment, &comparisons)?;
    Ok(verdict)
}

impl CompareArgs {
    fn side(&self, target: Target, home: &Home, stage: &Stage) -> Result<Side> {
        let core = stage.server_core;
        Ok(match target {
            Target::Fanfare => Side::Started {
                classes: false,
                secure: false,
                program: self.fanfare_program()?,
                arguments: self.fanfare_args.split_whitespace().map(str::to_owned).collect(),
                core,
            },
            Target::Floor => Side::Floor { core },
            Target::Peer(peer) => Side::Peer { peer, home: home.clone(), core },
        })
    }

    fn fanfare_program(&self) -> Result<PathBuf> {
        let beside = || Some(std::env::current_exe().ok()?.parent()?.join("fanfare"));
        let program = self.fanfare.clone().or_else(beside).filter(|program| program.is_file());
        program.ok_or_else(|| {
            Error::Usage(
                "there is no program fanfare beside this one: say where it is, with --fanfare".to_owned(),
            )
        })
    }

    fn page(&self, stage: &Stage) -> Page {
        let names: Vec<_> = self.targets.iter().map(|target| target.name()).collect();
        let mut page = Page::new("compare", "Several servers in turn, each alone on the same core");
        page.fact("targets", names.join(" "))
            .fact("clients", units::grouped(self.crowd.clients() as u64))
            .fact("threads", stage.split.simulators())
            .fact("rounds", self.rounds.to_string())
            .fact("measured", format!("{:?}", self.duration));
        if self.scenario != Kind::Idle {
            page.fact("message", units::bytes(self.payload as u64));
        }
        page
    }

    /// All rounds of one setting. What does not start is not tried again.
    fn compare(
        &self,
        setting: Setting,
        names: &[&'static str],
        sides: &[Side],
        stage: &Stage,
    ) -> Result<Comparison> {
        let mut comparison = Comparison::new(setting, self.payload, names);
        for number in 0..usize::from(self.rounds) {
            for turn in 0..sides.len() {
                let at = (turn + number) % sides.len();
                if comparison.has_not_started(at) {
                    continue;
                }
                stage.interrupt.check()?;
                stage.interrupt.progress.round(names[at], number + 1, self.rounds.into());
                let outcome = match sides[at].open() {
                    Err(Error::Interrupted) => return Err(Error::Interrupted),
                    Err(error) => Outcome::NotStarted(error.to_string()),
                    Ok(server) => match self.measure(setting, &server, stage, (names[at], number + 1)) {
                        // Nothing that the server did.
                        Err(error @ (Error::Interrupted | Error::Broken(_))) => return Err(error),
                        Err(error) => Outcome::Broken(error.to_string()),
                        Ok(outcome) => outcome,
                    },
                };
                stage.interrupt.progress.clear();
                eprintln!("{setting}, round {}, {}: {outcome}", number + 1, names[at]);
                comparison.add(at, outcome);
            }
        }
        Ok(comparison)
    }

    fn measure(
        &self,
        setting: Setting,
        server: &Server,
        stage: &Stage,
        label: (&'static str, usize),
    ) -> Result<Outcome> {
        let pace = match setting {
            Setting::Window(window) => Some(Pace::Window(window)),
            Setting::Rate(rate) => Some(Pace::Rate(rate)),
            Setting::Idle => None,
        };
        let plan = Plan {
            address: server.address,
            dialect: server.dialect,
            streams: Arc::new(Streams::one_topic(fresh_topic(), 1)),
            split: stage.split,
            busy_poll: stage.busy_poll,
            message: Message::new(self.payload, Instant::now()),
            supply: pace.map(|pace| Supply { pace, publishers: 1, obeys_retry_after: true }),
            stalled: 0.0,
            patience: self.patience,
        };
        if setting == Setting::Idle {
            return self.rest(&plan, server, stage).map(Outcome::Rest);
        }
        let timing = Timing {
            settle: self.settle,
            warm_up: self.warm_up,
            duration: self.duration,
            stall_after: Duration::ZERO,
            patience: self.patience,
        };
        let round = round::fan_out(&plan, timing, server, label, &stage.interrupt)?;
        Ok(Outcome::FanOut(Box::new(round)))
    }

    fn rest(&self, plan: &Plan, server: &Server, stage: &Stage) -> Result<Rest> {
        let audience = Audience::gather(plan, server, self.settle, &stage.interrupt)?;
        let window = audience.rest(self.duration)?;
        let connects_per_second = audience.connects_per_second;
        let memory = audience.before_bytes.zip(audience.connected_bytes);
        let outcome = audience.finish()?;
        Ok(Rest {
            connects_per_second,
            per_connection_bytes: memory
                .map(|(before, connected)| (connected as f64 - before as f64) / plan.split.clients as f64),
            cpu_share: window.server_cpu().map(|cpu| cpu.share),
            closed: outcome.closed.values().sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_known_by_name() {
        for name in ["fanfare", "floor", "ws"] {
            assert_eq!(target(name).expect("known").name(), name);
        }
        assert!(target("nobody").expect_err("unknown").contains("axum"));
    }
}
