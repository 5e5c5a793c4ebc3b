//! Clients that are connected and get nothing but pings: what a connection costs in memory, and what all of them
//! cost in CPU time at rest. Rounds alternate between the target and a bare epoll loop that pings the same number of
//! clients at the same interval; the pongs are counted on this side, so that both are known to have done the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{Stage, Verdict, fresh_topic};
use crate::args::{CrowdArgs, TargetArgs};
use crate::error::{Error, Result};
use crate::figures::median;
use crate::generator::{Plan, Streams};
use crate::interval::Interval;
use crate::message::{MESSAGE_MIN, Message};
use crate::report::plots::over_time;
use crate::report::{Axis, Dot, Dots, Environment, OutputArgs, Page, Table, Unit, unknown};
use crate::round::Audience;
use crate::server::{Server, Side};
use crate::timeline::Timeline;
use crate::units::{self, parse_duration};

const ROUNDS_ALONE: u16 = 1;
const ROUNDS_AGAINST: u16 = 5;
/// By how much the pongs of two servers may differ before their CPU times are not comparable.
const PONGS_APART: f64 = 0.05;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest idle --clients 15000 --server target/release/fanfare --pin --against floor
  loadtest idle --clients 1000 --ping-every 0s --target 127.0.0.1:8000")]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    crowd: CrowdArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Alternate with rounds against this, pinging at the same interval, and give the ratio
    #[arg(long)]
    against: Option<AgainstIdle>,
    /// Speak TLS; a server started here is given a certificate
    #[arg(long)]
    tls: bool,
    /// How often servers started here are to ping each client; 0s: no pings
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    ping_every: Duration,
    /// Added to --server-args, to tell it so; {every} becomes that time, {half} half of it
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "--ping-interval {every} --pong-timeout {half}",
        allow_hyphen_values = true
    )]
    ping_args: String,
    /// Wait this long with all connected before looking at memory
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    settle: Duration,
    /// Then watch the server's CPU time for this long; best a multiple of --ping-every
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Rounds against each server [default: 5 with --against, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: Option<u16>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a server at rest can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AgainstIdle {
    /// The bare send loop
    Floor,
    /// The same server and clients, without TLS
    PlainTcp,
}

/// All rounds, and the ratio if two servers were measured.
#[derive(Debug, Serialize)]
struct Idle {
    clients: usize,
    ping_every_seconds: f64,
    tls: bool,
    rounds: Vec<Round>,
    /// What the target is compared with.
    #[serde(skip)]
    reference: Option<&'static str>,
    ratio: Option<Ratio>,
    /// A pair of rounds answered numbers of pings that differ by more than a twentieth.
    incomparable: bool,
}

/// What is found in one round; all about the server.
#[derive(Debug, Serialize)]
struct Round {
    server: &'static str,
    round: usize,
    connects_per_second: f64,
    before_bytes: Option<u64>,
    connected_bytes: Option<u64>,
    per_connection_bytes: Option<f64>,
    seconds: f64,
    /// Share of one core, from the run time of the server's threads.
    cpu_share: Option<f64>,
    /// Pings that were answered.
    pongs: u64,
    /// Connections the server ended meanwhile.
    closed: u64,
    /// Frames that should not have come.
    garbled: u64,
    /// The round, moment by moment.
    timeline: Timeline,
}

/// CPU time of the target over that of the floor, in pairs of neighbouring rounds.
#[derive(Debug, Serialize)]
struct Ratio {
    cpu: f64,
    low: f64,
    high: f64,
    /// Where the median lies; from nine pairs on.
    interval: Option<Interval>,
}

/// `loadtest idle`.
pub(crate) fn run(args: &IdleArgs) -> Result<Verdict> {
    if args.duration.is_zero() {
        return Err(Error::Usage("--duration must be longer than nothing".to_owned()));
    }
    let stage = Stage::set(&args.crowd)?;
    let core = stage.server_core;
    let target = || args.pinging(stage.target(&args.target));
    let mut sides = vec![("target", target().with_tls(args.tls))];
    match args.against {
        None => {}
        Some(AgainstIdle::PlainTcp) if !args.tls || args.target.server.is_none() => {
            return Err(Error::Usage("--against plain-tcp needs --tls and --server".to_owned()));
        }
        Some(AgainstIdle::PlainTcp) => sides.push(("plain TCP", target())),
        Some(AgainstIdle::Floor) if args.ping_every.is_zero() => sides.push(("floor", Side::Floor { core })),
        Some(AgainstIdle::Floor) => {
            sides.push(("floor", Side::PingingFloor { core, every: args.ping_every }));
        }
    }
    let opened: Vec<Side> = sides.iter().map(|(_, side)| side.clone()).collect();
    let environment = Environment::describe(args.crowd.pin, &opened);
    let mut page = Page::new("idle", "Connected clients, pings and nothing else: what they cost at rest");
    page.fact("clients", units::grouped(args.crowd.clients() as u64))
        .fact("pinged every", format!("{:?}", args.ping_every))
        .fact("watched", format!("{:?}", args.duration));
    args.output.begin(&page, &environment)?;
    let default = if sides.len() > 1 { ROUNDS_AGAINST } else { ROUNDS_ALONE };
    let mut rounds = Vec::new();
    let count = usize::from(args.rounds.unwrap_or(default));
    for number in 1..=count {
        for &(name, ref side) in &sides {
            stage.interrupt.check()?;
            stage.interrupt.progress.round(name, number, count);
            rounds.push(rest(args, &stage, &side.open()?, (name, number))?);
        }
    }
    let result = Idle::new(args, rounds);
    let faultless = result.rounds.iter().all(Round::is_faultless);
    let verdict = if faultless { Verdict::Faultless } else { Verdict::Faulty };
    result.fill(&mut page);
    page.conclude(verdict, result.remarks());
    args.output.end(&page, &environment, &result)?;
    Ok(verdict)
}

/// One round against `server`.
fn rest(args: &IdleArgs, stage: &Stage, server: &Server, label: (&'static str, usize)) -> Result<Round> {
    let plan = Plan {
        address: server.address,
        dialect: server.dialect,
        streams: Arc::new(Streams::one_topic(fresh_topic(), 1)),
        split: stage.split,
        busy_poll: stage.busy_poll,
        message: Message::new(MESSAGE_MIN, Instant::now()),
        supply: None,
        stalled: 0.0,
        patience: args.duration,
    };
    let audience = Audience::gather(&plan, server, args.settle, &stage.interrupt)?;
    let window = audience.rest(args.duration)?;
    let (before_bytes, connected_bytes) = (audience.before_bytes, audience.connected_bytes);
    let connects_per_second = audience.connects_per_second;
    let timeline = audience.timeline();
    let outcome = audience.finish()?;
    let per_connection =
        |before: u64, connected: u64| (connected as f64 - before as f64) / args.crowd.clients() as f64;
    Ok(Round {
        server: label.0,
        round: label.1,
        connects_per_second,
        before_bytes,
        connected_bytes,
        per_connection_bytes: before_bytes
            .zip(connected_bytes)
            .map(|(before, after)| per_connection(before, after)),
        seconds: window.seconds,
        cpu_share: window.server_share(),
        pongs: window.pongs,
        closed: outcome.closed.values().sum(),
        garbled: outcome.faults.garbled,
        timeline,
    })
}

impl IdleArgs {
    /// The same side, told to ping.
    fn pinging(&self, mut side: Side) -> Side {
        if let Side::Started { arguments, .. } = &mut side
            && !self.ping_every.is_zero()
        {
            let text = self
                .ping_args
                .replace("{every}", &units::milliseconds(self.ping_every))
                .replace("{half}", &units::milliseconds(self.ping_every / 2));
            arguments.extend(text.split_whitespace().map(str::to_owned));
        }
        side
    }
}

impl Round {
    fn is_faultless(&self) -> bool {
        self.closed == 0 && self.garbled == 0
    }
}

impl Idle {
    fn new(args: &IdleArgs, rounds: Vec<Round>) -> Self {
        let side = |name: &'static str| rounds.iter().filter(move |round| round.server == name);
        let reference = rounds.iter().map(|round| round.server).find(|&name| name != "target");
        let pairs: Vec<(&Round, &Round)> = side("target").zip(side(reference.unwrap_or_default())).collect();
        let incomparable = pairs.iter().any(|(target, other)| {
            target.pongs.abs_diff(other.pongs) as f64 > other.pongs as f64 * PONGS_APART
        });
        let ratios: Option<Vec<f64>> = pairs
            .iter()
            .map(|(target, other)| Some(target.cpu_share? / other.cpu_share.filter(|&share| share > 0.0)?))
            .collect();
        let ratio = ratios.and_then(|ratios| {
            Some(Ratio {
                cpu: median(ratios.iter().copied())?,
                low: ratios.iter().copied().reduce(f64::min)?,
                high: ratios.iter().copied().reduce(f64::max)?,
                interval: Interval::of_median(ratios.iter().copied()),
            })
        });
        Self {
            clients: args.crowd.clients(),
            ping_every_seconds: args.ping_every.as_secs_f64(),
            tls: args.tls,
            reference,
            ratio,
            incomparable,
            rounds,
        }
    }

    /// Adds everything that is shown.
    fn fill(&self, page: &mut Page) {
        let of = |name: &'static str, figure: fn(&Round) -> Option<f64>| -> Vec<f64> {
            self.rounds.iter().filter(|round| round.server == name).filter_map(figure).collect()
        };
        let spread = |title: &str, axis: Axis, figure: fn(&Round) -> Option<f64>| {
            let dots = Dots::new(title, axis).note("Median, smallest and largest of the rounds.");
            self.names().fold(dots, |dots, name| match Dot::of(name, &of(name, figure)) {
                Some(dot) => dots.row(Dot { highlighted: name == "target", ..dot }),
                None => dots,
            })
        };
        if let Some(bytes) = median(of("target", |round| round.per_connection_bytes).into_iter()) {
            page.headline(format!("{bytes:.0} B"), "of memory per connection");
        }
        if let Some(share) = median(of("target", |round| round.cpu_share).into_iter()) {
            page.headline(format!("{:.2} %", share * 100.0), "of a core at rest");
        }
        if let Some(ratio) = &self.ratio {
            let other = self.reference.unwrap_or_default();
            page.headline(format!("{:.3} ×", ratio.cpu), format!("CPU time of {other}"));
        }
        page.section("Memory and CPU time")
            .table(self.table())
            .plot(spread("Memory per connection", Axis::new("bytes", Unit::Count), |round| {
                round.per_connection_bytes
            }))
            .plot(spread("CPU time at rest", Axis::new("share of one core", Unit::Share), |round| {
                round.cpu_share
            }));
        let first = |name: &str| {
            let round = self.rounds.iter().find(|round| round.server == name)?;
            Some((format!("{name} {}", round.round), &round.timeline))
        };
        let over_time_of: Vec<_> = self.names().filter_map(first).collect();
        let section = page.section("Over time");
        for plot in over_time(&over_time_of) {
            section.plot(plot);
        }
    }

    /// The sides, the target first.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once("target").chain(self.reference)
    }

    fn table(&self) -> Table {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(unknown, units::bytes);
        let mut table = Table::new(
            "The server's memory and CPU time with all clients connected",
            &[
                "round",
                "RSS before",
                "connected",
                "B/connection",
                "idle CPU",
                "pongs/s",
                "connects/s",
                "closed",
            ],
        );
        for round in &self.rounds {
            table.row(vec![
                format!("{} {}", round.server, round.round),
                bytes(round.before_bytes),
                bytes(round.connected_bytes),
                round.per_connection_bytes.map_or_else(unknown, |bytes| format!("{bytes:.0}")),
                round.cpu_share.map_or_else(unknown, |share| format!("{:.2} %", share * 100.0)),
                units::whole(round.pongs as f64 / round.seconds),
                units::whole(round.connects_per_second),
                units::grouped(round.closed),
            ]);
        }
        table
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(Ratio { cpu, low, high, interval }) = self.ratio {
            let brackets = match interval {
                Some(Interval { low, high, confidence }) => {
                    format!("{:.1} % interval of the median: {low:.3} to {high:.3}", confidence * 100.0)
                }
                None => format!("{low:.3} to {high:.3}"),
            };
            let other = self.reference.unwrap_or_default();
            remarks.push(format!("target / {other}, median of paired rounds: CPU {cpu:.3} ({brackets})"));
        }
        if self.incomparable {
            remarks.push(
                "NOT COMPARABLE: the two servers pinged differently often; see --ping-every, --ping-args"
                    .to_owned(),
            );
        }
        if self.rounds.iter().any(|round| round.cpu_share.is_none()) {
            remarks.push("no CPU and memory figures: the server's process is not known (--pid)".to_owned());
        }
        let closed: u64 = self.rounds.iter().map(|round| round.closed).sum();
        let garbled: u64 = self.rounds.iter().map(|round| round.garbled).sum();
        remarks.push(match (closed, garbled) {
            (0, 0) => "Every client stayed connected and got nothing but pings.".to_owned(),
            _ => format!("FAULTY: the server ended {closed} connections and sent {garbled} frames too many"),
        });
        remarks
    }
}
