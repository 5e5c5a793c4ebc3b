//! Slow readers: a share of the clients stall, or read a few bytes a second, while everybody is published to at a
//! fixed rate. Rounds without and with them alternate, so that what they cost the others is a ratio. A server may
//! close a client that is too slow (1013 or 4408; one that does not read may see only a reset); what it must not do is
//! to let a client miss anything and go on, or close one that reads.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::{Stage, Verdict, fresh_topic};
use crate::args::{CrowdArgs, TargetArgs, payload};
use crate::error::{Error, Result};
use crate::figures::{LatencyFigures, median};
use crate::generator::Faults;
use crate::generator::lives::{Closing, Crowd, Outcome, Plan};
use crate::message::Message;
use crate::procfs;
use crate::report::{Environment, OutputArgs, Page, Table, unknown};
use crate::server::Server;
use crate::units::{self, parse_duration, parse_rate, parse_share, parse_size};

/// The part of a round whose latencies are reported.
const MEASURED: usize = 1;
/// How often the server's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What a server may close a slow client with: try again later, no pong, and nothing that was still read.
const ALLOWED: [Option<u16>; 3] = [Some(1013), Some(4408), None];

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest slow --clients 2000 --slow 1% --server target/release/fanfare --pin --rounds 5
  loadtest slow --clients 500 --slow 10% --read-rate 64KiB --rate 100 --payload 4KiB")]
pub(crate) struct SlowArgs {
    #[command(flatten)]
    crowd: CrowdArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Share of the clients that read slowly
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = parse_share)]
    slow: f64,
    /// What each of them reads per second; 0: nothing
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_size)]
    read_rate: usize,
    /// What the kernel holds for each of them, about twice as much with its own bookkeeping
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse_size)]
    receive_buffer: usize,
    /// Publications a second
    #[arg(long, value_name = "N", default_value = "100", value_parser = parse_rate)]
    rate: f64,
    /// Bytes of each message, digits included (at least 32)
    #[arg(long, value_name = "SIZE", default_value = "4KiB", value_parser = payload)]
    payload: usize,
    /// Length of the measured window; they are slow from its beginning
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Publish this long before measuring
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    warm_up: Duration,
    /// How long what is under way in the end may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    patience: Duration,
    /// Pairs of rounds, without and with slow readers
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    #[command(flatten)]
    output: OutputArgs,
}

/// All rounds, and what the slow readers cost the others.
#[derive(Debug, Serialize)]
struct Slow {
    clients: usize,
    slow: usize,
    read_bytes_per_second: usize,
    rate: f64,
    payload_bytes: usize,
    rounds: Vec<Round>,
    /// With slow readers over without, of the others' latency; medians of the pairs.
    p50_ratio: Option<f64>,
    p99_ratio: Option<f64>,
    p999_ratio: Option<f64>,
    /// The smallest and the largest.
    p99_ratio_range: Option<(f64, f64)>,
    /// Growth of RSS with slow readers beyond that without, for each; the median of the pairs.
    bytes_per_slow_client: Option<f64>,
}

/// One round.
#[derive(Debug, Serialize)]
struct Round {
    round: usize,
    /// Clients that read slowly.
    slow: usize,
    /// Of all others, from the intended send time.
    latency: LatencyFigures,
    /// Of what the slow ones read while they were slow: how old it was by then.
    age: LatencyFigures,
    slow_deliveries: u64,
    /// Slow clients the server closed, by code.
    closed_slow: BTreeMap<String, Closed>,
    /// Clients it closed though they read, by code.
    closed: BTreeMap<String, u64>,
    published: u64,
    refused: u64,
    deliveries: u64,
    generator_late_max_ns: u64,
    connected_bytes: Option<u64>,
    /// The largest seen while publishing.
    peak_bytes: Option<u64>,
    /// What the kernel held for all TCP sockets of the machine, both sides: before publishing, and the most.
    kernel_before_bytes: Option<u64>,
    kernel_peak_bytes: Option<u64>,
    faults: Faults,
    allowed: bool,
}

/// Closings with one code.
#[derive(Debug, Serialize)]
struct Closed {
    count: u64,
    /// Seconds after they became slow.
    first_seconds: f64,
    last_seconds: f64,
}

/// `loadtest slow`.
pub(crate) fn run(args: &SlowArgs) -> Result<Verdict> {
    if args.duration.is_zero() {
        return Err(Error::Usage("--duration must be longer than nothing".to_owned()));
    }
    let stage = Stage::set(&args.crowd)?;
    let side = stage.target(&args.target);
    let environment = Environment::describe(args.crowd.pin, std::slice::from_ref(&side));
    let mut page = args.page();
    args.output.begin(&page, &environment)?;
    let mut rounds = Vec::new();
    for number in 1..=usize::from(args.rounds) {
        for is_slow in [false, true] {
            stage.interrupt.check()?;
            rounds.push(round(args, &stage, &side.open()?, (number, is_slow))?);
        }
    }
    let result = Slow::new(args, rounds);
    let faultless = result.rounds.iter().all(Round::is_faultless);
    let verdict = if faultless { Verdict::Faultless } else { Verdict::Faulty };
    page.section("The others").table(result.others());
    page.section("The slow ones, and memory").table(result.slow_ones());
    page.conclude(verdict, result.remarks());
    args.output.end(&page, &environment, &result)?;
    Ok(verdict)
}

fn round(args: &SlowArgs, stage: &Stage, server: &Server, label: (usize, bool)) -> Result<Round> {
    let plan = args.plan(stage, server);
    let crowd = Crowd::gather(&plan, server.pid, &stage.interrupt)?;
    let resident = || server.pid.and_then(procfs::resident_bytes);
    let (connected_bytes, kernel_before_bytes) = (resident(), procfs::tcp_bytes());
    crowd.run();
    crowd.wait("warming up", args.warm_up)?;
    crowd.begin_segment(MEASURED);
    let slow_from = Instant::now();
    if label.1 {
        crowd.slow_down();
    }
    let (mut peak_bytes, mut kernel_peak_bytes, mut looked) = (resident(), kernel_before_bytes, slow_from);
    crowd.wait_until("measuring", args.duration, |_| {
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            peak_bytes = peak_bytes.max(resident());
            kernel_peak_bytes = kernel_peak_bytes.max(procfs::tcp_bytes());
        }
        false
    })?;
    crowd.begin_segment(0);
    let outcome = crowd.finish(args.patience)?;
    let slow = if label.1 { plan.slow_clients() } else { 0 };
    Ok(Round {
        round: label.0,
        slow,
        latency: LatencyFigures::new(&outcome.latencies[MEASURED]),
        age: LatencyFigures::new(&outcome.ages),
        slow_deliveries: outcome.slow_deliveries,
        closed_slow: closed_slow(&outcome, slow_from),
        closed: outcome.closed_readers(),
        published: outcome.published,
        refused: outcome.refused,
        deliveries: outcome.deliveries,
        generator_late_max_ns: outcome.late_max.max(outcome.turn_max).as_nanos() as u64,
        connected_bytes,
        peak_bytes,
        kernel_before_bytes,
        kernel_peak_bytes,
        faults: outcome.faults,
        allowed: outcome.closings.iter().all(|closing| closing.was_slow && ALLOWED.contains(&closing.code)),
    })
}

fn closed_slow(outcome: &Outcome, slow_from: Instant) -> BTreeMap<String, Closed> {
    let mut closed = BTreeMap::new();
    for closing in outcome.closings.iter().filter(|closing| closing.was_slow) {
        let at = closing.at.saturating_duration_since(slow_from).as_secs_f64();
        let entry = closed.entry(Closing::name(closing)).or_insert(Closed {
            count: 0,
            first_seconds: at,
            last_seconds: at,
        });
        entry.count += 1;
        entry.first_seconds = entry.first_seconds.min(at);
        entry.last_seconds = entry.last_seconds.max(at);
    }
    closed
}

impl SlowArgs {
    fn plan(&self, stage: &Stage, server: &Server) -> Plan {
        Plan {
            slow: self.slow,
            read_rate: self.read_rate as f64,
            receive_buffer: Some(self.receive_buffer),
            ..Plan::listening(
                server.address,
                fresh_topic(),
                self.crowd.clients(),
                stage.threads,
                Message::new(self.payload, Instant::now()),
                self.rate,
            )
        }
    }

    fn page(&self) -> Page {
        let mut page = Page::new("slow", "Some clients stall or read slowly: what the others see of it");
        page.fact("clients", units::grouped(self.crowd.clients() as u64))
            .fact("slow", format!("{} %", self.slow * 100.0))
            .fact(
                "they read",
                match self.read_rate {
                    0 => "nothing".to_owned(),
                    rate => format!("{}/s", units::bytes(rate as u64)),
                },
            )
            .fact("publications/s", self.rate.to_string())
            .fact("message", units::bytes(self.payload as u64))
            .fact("measured", format!("{:?}", self.duration));
        page
    }
}

impl Round {
    fn is_faultless(&self) -> bool {
        self.faults.is_clean() && self.closed.is_empty() && self.allowed
    }

    fn growth(&self) -> Option<f64> {
        Some(self.peak_bytes? as f64 - self.connected_bytes? as f64)
    }
}

impl Slow {
    fn new(args: &SlowArgs, rounds: Vec<Round>) -> Self {
        let pairs: Vec<(&Round, &Round)> = rounds.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect();
        let ratios = |figure: fn(&LatencyFigures) -> u64| -> Vec<f64> {
            let ratio = |(without, with): &(&Round, &Round)| {
                figure(&with.latency) as f64 / figure(&without.latency).max(1) as f64
            };
            pairs.iter().map(ratio).collect()
        };
        let middle = |figure| median(ratios(figure).into_iter());
        let p99 = ratios(|latency| latency.p99_ns);
        let each: Option<Vec<f64>> = pairs
            .iter()
            .map(|(without, with)| Some((with.growth()? - without.growth()?) / with.slow.max(1) as f64))
            .collect();
        Self {
            clients: args.crowd.clients(),
            slow: pairs.first().map_or(0, |(_, with)| with.slow),
            read_bytes_per_second: args.read_rate,
            rate: args.rate,
            payload_bytes: args.payload,
            p50_ratio: middle(|latency| latency.p50_ns),
            p99_ratio: median(p99.iter().copied()),
            p999_ratio: middle(|latency| latency.p999_ns),
            p99_ratio_range: p99.iter().copied().reduce(f64::min).zip(p99.iter().copied().reduce(f64::max)),
            bytes_per_slow_client: each.and_then(|each| median(each.into_iter())),
            rounds,
        }
    }

    fn others(&self) -> Table {
        let mut table = Table::new(
            "Latency of all who read as fast as they can, and faults of everybody",
            &[
                "round",
                "p50",
                "p99",
                "p99.9",
                "max",
                "published",
                "refused",
                "lost",
                "duplicated",
                "reordered",
                "garbled",
                "closed",
            ],
        );
        for round in &self.rounds {
            let (latency, faults) = (round.latency, round.faults);
            let mut row = vec![round.name()];
            row.extend([latency.p50_ns, latency.p99_ns, latency.p999_ns, latency.max_ns].map(units::latency));
            row.extend(
                [
                    round.published,
                    round.refused,
                    faults.lost,
                    faults.duplicated,
                    faults.reordered,
                    faults.garbled,
                    round.closed.values().sum(),
                ]
                .map(units::grouped),
            );
            table.row(row);
        }
        table
    }

    fn slow_ones(&self) -> Table {
        let mut table = Table::new(
            "What the slow ones got, who of them was closed, and what the backlog took",
            &[
                "round",
                "slow",
                "closed",
                "got",
                "age p50",
                "age p99",
                "RSS connected",
                "peak",
                "kernel TCP before",
                "peak",
            ],
        );
        let bytes = |bytes: Option<u64>| bytes.map_or_else(unknown, units::bytes);
        for round in &self.rounds {
            let closed: u64 = round.closed_slow.values().map(|closed| closed.count).sum();
            let mut row = vec![round.name()];
            row.extend([round.slow as u64, closed, round.slow_deliveries].map(units::grouped));
            row.extend([round.age.p50_ns, round.age.p99_ns].map(|ns| match round.age.samples {
                0 => "-".to_owned(),
                _ => units::latency(ns),
            }));
            row.extend([
                bytes(round.connected_bytes),
                bytes(round.peak_bytes),
                bytes(round.kernel_before_bytes),
                bytes(round.kernel_peak_bytes),
            ]);
            table.row(row);
        }
        table
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for round in &self.rounds {
            let name = round.name();
            for (code, closed) in &round.closed_slow {
                remarks.push(format!(
                    "{name}: {} slow clients closed ({code}), {:.1} s to {:.1} s after they became slow",
                    closed.count, closed.first_seconds, closed.last_seconds
                ));
            }
            for (code, count) in &round.closed {
                remarks.push(format!("{name}: the server closed {count} clients that read ({code})"));
            }
            if round.generator_late_max_ns > round.latency.p999_ns.max(5_000_000) {
                remarks.push(format!(
                    "{name}: THE GENERATOR WAS LATE ITSELF, by up to {}, which is in the latencies",
                    units::latency(round.generator_late_max_ns)
                ));
            }
        }
        if let (Some(p50), Some(p99), Some(p999), Some((low, high))) =
            (self.p50_ratio, self.p99_ratio, self.p999_ratio, self.p99_ratio_range)
        {
            remarks.push(format!(
                "the others, with / without slow readers, median of pairs: p50 {p50:.2}, p99 {p99:.2} ({low:.2} to \
                 {high:.2}), p99.9 {p999:.2}"
            ));
        }
        if let Some(each) = self.bytes_per_slow_client {
            remarks.push(format!("RSS beyond that of the rounds without, for each slow client: {each:.0} B"));
        }
        let faulty = self.rounds.iter().filter(|round| !round.is_faultless()).count();
        remarks.push(match faulty {
            0 => "Who read got everything; who was slow got everything too, or was closed for it.".to_owned(),
            _ => format!("FAULTY: {faulty} of {} rounds", self.rounds.len()),
        });
        remarks
    }
}

impl Round {
    fn name(&self) -> String {
        format!("{} {}", self.round, if self.slow == 0 { "without" } else { "with" })
    }
}
