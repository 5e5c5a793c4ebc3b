//! Publishing alone: connections that publish to a topic nobody is on, with one request under way each or several.
//! What is measured is the way in: parsing, checking, sequencing, answering. Beside it a bare hyper server that reads
//! the same bodies and gives answers of the same length.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{Stage, Verdict, fresh_topic};
use crate::args::{CrowdArgs, TargetArgs, payload};
use crate::error::{Context, Error, Result};
use crate::figures::{BUSY_SHARE, CpuFigures, median};
use crate::generator::{Pace, Plan, Streams, Supply};
use crate::http;
use crate::message::Message;
use crate::report::plots::over_time;
use crate::report::{Environment, OutputArgs, Page, Table, unknown};
use crate::round::{Audience, Timing};
use crate::server::{Server, Side};
use crate::split::Split;
use crate::timeline::Timeline;
use crate::units::{self, parse_duration};

const ROUNDS_ALONE: u16 = 1;
const ROUNDS_AGAINST: u16 = 5;
/// How long the first answer may take.
const PROBE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest ingest --server target/release/fanfare --pin --against hyper
  loadtest ingest --publishers 64 --pipeline 16 --server target/release/fanfare --pin --against hyper")]
pub(crate) struct IngestArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Alternate with rounds against this, and give the ratio
    #[arg(long)]
    against: Option<AgainstIngest>,
    /// Connections to publish over
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    publishers: u16,
    /// Requests under way on each of them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pipeline: u16,
    /// Bytes of each message, digits included (at least 32)
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = payload)]
    payload: usize,
    /// Length of the measured window
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
    /// Publish this long before measuring
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    warm_up: Duration,
    /// Rounds against each server [default: 5 with --against, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: Option<u16>,
    /// Threads that publish [default: the cores the server leaves, at least 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Pin servers started here to the first core and the publishers to the others
    #[arg(long)]
    pin: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What publishing can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum AgainstIngest {
    /// A bare hyper server that answers 200
    Hyper,
}

/// What is found.
#[derive(Debug, Serialize)]
struct Ingest {
    payload_bytes: usize,
    publishers: u16,
    pipeline: u16,
    rounds: Vec<Round>,
    ratio: Option<Ratio>,
}

/// One round against one server.
#[derive(Debug, Serialize)]
struct Round {
    server: &'static str,
    round: usize,
    seconds: f64,
    requests: u64,
    requests_per_second: f64,
    /// Over the measured window, by request.
    cpu: Option<CpuFigures>,
    generator_share: Option<f64>,
    /// Requests of the whole round that were answered with 503.
    refused: u64,
    /// Not every request was answered.
    stuck: bool,
    /// The round, moment by moment.
    timeline: Timeline,
}

/// Requests a second of the target over those of the other, in pairs of neighbouring rounds.
#[derive(Debug, Serialize)]
struct Ratio {
    requests_per_second: f64,
    low: f64,
    high: f64,
    ns_per_request: Option<f64>,
}

/// `loadtest ingest`.
pub(crate) fn run(args: &IngestArgs) -> Result<Verdict> {
    if args.duration.is_zero() {
        return Err(Error::Usage("--duration must be longer than nothing".to_owned()));
    }
    let clients = args.publishers.into();
    let stage = Stage::set(&CrowdArgs {
        counts: vec![clients],
        threads: args.threads,
        processes: 1,
        pin: args.pin,
        busy_poll: false,
    })?;
    let mut sides = vec![stage.target(&args.target)];
    if args.against.is_some() {
        let answer_bytes = answer_bytes(sides[0].open()?.address, args.payload)?;
        sides.push(Side::Hyper { core: stage.server_core, answer_bytes });
    }
    let environment = Environment::describe(args.pin, &sides);
    let mut page = Page::new("ingest", "Publishing alone, to a topic without clients");
    page.fact("publishers", args.publishers.to_string())
        .fact("under way on each", args.pipeline.to_string())
        .fact("threads", stage.split.simulators())
        .fact("message", units::bytes(args.payload as u64))
        .fact("measured", format!("{:?}", args.duration));
    args.output.begin(&page, &environment)?;
    let default = if sides.len() > 1 { ROUNDS_AGAINST } else { ROUNDS_ALONE };
    let mut rounds = Vec::new();
    for number in 1..=usize::from(args.rounds.unwrap_or(default)) {
        for side in &sides {
            stage.interrupt.check()?;
            rounds.push(round(args, &stage, &side.open()?, (side.name(), number))?);
        }
    }
    let result = Ingest::new(args, rounds);
    let faultless = result.rounds.iter().all(Round::is_faultless);
    let verdict = if faultless { Verdict::Faultless } else { Verdict::Faulty };
    let section = page.section("Requests");
    section.table(result.table());
    if let Some(ratio) = &result.ratio {
        section.text(ratio.text());
    }
    // The first round of each server.
    let mut shown: Vec<&Round> = Vec::new();
    for round in &result.rounds {
        if shown.iter().all(|known| known.server != round.server) {
            shown.push(round);
        }
    }
    let named = shown.iter().map(|round| (format!("{} {}", round.server, round.round), &round.timeline));
    let section = page.section("Over time");
    for plot in over_time(&named.collect::<Vec<_>>()) {
        section.plot(plot);
    }
    page.conclude(verdict, result.remarks());
    args.output.end(&page, &environment, &result)?;
    Ok(verdict)
}

fn round(args: &IngestArgs, stage: &Stage, server: &Server, label: (&'static str, usize)) -> Result<Round> {
    let (publishers, under_way) = (usize::from(args.publishers), usize::from(args.pipeline));
    let plan = Plan {
        address: server.address,
        dialect: server.dialect,
        streams: Arc::new(Streams::side_by_side(fresh_topic(), publishers, under_way)),
        split: Split { clients: 0, ..stage.split },
        busy_poll: stage.busy_poll,
        message: Message::new(args.payload, Instant::now()),
        supply: Some(Supply { pace: Pace::Open(None), publishers, obeys_retry_after: false }),
        stalled: 0.0,
        patience: PROBE_MAX,
    };
    let timing = Timing {
        settle: Duration::ZERO,
        warm_up: args.warm_up,
        duration: args.duration,
        stall_after: Duration::ZERO,
        patience: PROBE_MAX,
    };
    let audience = Audience::gather(&plan, server, timing.settle, &stage.interrupt)?;
    let (window, smooth) = audience.publish(timing)?;
    let refused = audience.refused();
    let timeline = audience.timeline();
    audience.finish()?;
    Ok(Round {
        server: label.0,
        round: label.1,
        seconds: window.seconds,
        requests: window.accepted,
        requests_per_second: window.accepted as f64 / window.seconds,
        cpu: window.server_cpu_per(window.accepted),
        generator_share: window.harness_share(),
        refused,
        stuck: !smooth,
        timeline,
    })
}

/// The length of the body of the answer to one publication of `size` bytes.
fn answer_bytes(address: SocketAddr, size: usize) -> Result<usize> {
    let (topic, body) = (fresh_topic(), "x".repeat(size));
    let ask = || -> std::io::Result<Option<usize>> {
        let mut stream = TcpStream::connect_timeout(&address, PROBE_MAX)?;
        stream.set_read_timeout(Some(PROBE_MAX))?;
        write!(
            stream,
            "POST /publish/{topic} HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain\r\nContent-Length: \
             {size}\r\n\r\n{body}"
        )?;
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        loop {
            match http::response(&bytes) {
                Ok(Some(answer)) => return Ok((answer.status == 200).then_some(answer.body.len())),
                Ok(None) => {}
                Err(_) => return Ok(None),
            }
            match stream.read(&mut part)? {
                0 => return Ok(None),
                read => bytes.extend_from_slice(&part[..read]),
            }
        }
    };
    let answer = ask().context(|| format!("cannot publish to {address}"))?;
    answer.ok_or_else(|| Error::Failed(format!("{address} does not take publications")))
}

impl Round {
    fn is_faultless(&self) -> bool {
        self.refused == 0 && !self.stuck && self.requests > 0
    }
}

impl Ingest {
    fn new(args: &IngestArgs, rounds: Vec<Round>) -> Self {
        let (targets, others): (Vec<&Round>, Vec<&Round>) =
            rounds.iter().partition(|round| round.server == "target");
        let pairs: Vec<(&Round, &Round)> = targets.into_iter().zip(others).collect();
        let ratio = Ratio::of(&pairs);
        Self {
            payload_bytes: args.payload,
            publishers: args.publishers,
            pipeline: args.pipeline,
            rounds,
            ratio,
        }
    }

    fn table(&self) -> Table {
        let head =
            ["round", "requests/s", "server CPU", "generator CPU", "CPU ns/request", "user", "system", "503"];
        let mut table = Table::new("Requests a second of each round, and the server's CPU time", &head);
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        for round in &self.rounds {
            let mut row =
                vec![format!("{} {}", round.server, round.round), units::whole(round.requests_per_second)];
            row.push(round.cpu.map_or_else(unknown, |cpu| percent(cpu.share)));
            row.push(round.generator_share.map_or_else(unknown, percent));
            let cpu = round.cpu.map(|cpu| {
                [cpu.ns_per_delivery(), cpu.user_ns_per_delivery, cpu.system_ns_per_delivery]
                    .map(units::whole)
            });
            row.extend(cpu.unwrap_or_else(|| [unknown(), unknown(), unknown()]));
            row.push(units::grouped(round.refused));
            table.row(row);
        }
        table
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for round in &self.rounds {
            let name = format!("{} {}", round.server, round.round);
            if let Some(cpu) = round.cpu.filter(|cpu| cpu.share < BUSY_SHARE) {
                remarks.push(format!(
                    "{name}: the server was not the limit: it used {:.0} % of a core; compare CPU ns/request, or have \
                     more under way",
                    cpu.share * 100.0
                ));
            }
            if round.stuck {
                remarks.push(format!("{name}: GIVEN UP, requests were not answered"));
            }
            if round.refused > 0 {
                remarks.push(format!(
                    "{name}: {} requests were refused with 503",
                    units::grouped(round.refused)
                ));
            }
        }
        let faulty = self.rounds.iter().filter(|round| !round.is_faultless()).count();
        remarks.push(match faulty {
            0 => "Every request was taken.".to_owned(),
            _ => format!("FAULTY: {faulty} of {} rounds", self.rounds.len()),
        });
        remarks
    }
}

impl Ratio {
    /// `None` without a pair.
    fn of(pairs: &[(&Round, &Round)]) -> Option<Self> {
        let requests: Vec<f64> = pairs
            .iter()
            .map(|(target, other)| target.requests_per_second / other.requests_per_second.max(1e-9))
            .collect();
        let cpu: Option<Vec<f64>> = pairs
            .iter()
            .map(|(target, other)| Some(target.cpu?.ns_per_delivery() / other.cpu?.ns_per_delivery()))
            .collect();
        Some(Self {
            low: requests.iter().copied().reduce(f64::min)?,
            high: requests.iter().copied().reduce(f64::max)?,
            requests_per_second: median(requests.into_iter())?,
            ns_per_request: cpu.and_then(|cpu| median(cpu.into_iter())),
        })
    }

    fn text(&self) -> String {
        let cpu = self.ns_per_request.map_or_else(unknown, |cpu| format!("{cpu:.3}"));
        format!(
            "target / hyper, median of paired rounds:  requests/s {:.3} ({:.3} to {:.3}),  CPU ns/request {cpu}",
            self.requests_per_second, self.low, self.high
        )
    }
}
