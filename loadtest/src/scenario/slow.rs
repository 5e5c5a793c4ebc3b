//! Slow readers: a share of the clients stall, or read a few bytes a second, while everybody is published to at a
//! fixed rate. Rounds without and with them alternate, so that what they cost the others is a ratio. A server may
//! close a client that is too slow (1013 or 4408; one that does not read may see only a reset); what it must not do is
//! to let a client miss anything and go on, or close one that reads. Where it keeps a ledger, that has to agree.
//!
//! To a topic whose class drops or conflates instead of closing, slow clients may lose: then what the server counted as
//! lost, what they miss and, in `fanfare.v1`, what their gaps told each of them have to be the same.

mod remarks;
mod shown;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{Stage, Verdict, fresh_topic};
use crate::args::{CrowdArgs, Protocol, TargetArgs, payload};
use crate::dialect::v1::Gaps;
use crate::error::{Error, Result};
use crate::figures::{LatencyFigures, latency_curve, median};
use crate::generator::Faults;
use crate::generator::lives::{Closing, Crowd, Outcome, Plan, Speech};
use crate::interval::Interval;
use crate::message::Message;
use crate::procfs::{self, CpuTime};
use crate::report::{Environment, OutputArgs, Page};
use crate::server::ledger::{Audit, Ends, Seen, ServerLedger};
use crate::server::{Server, TopicClass};
use crate::timeline::Timeline;
use crate::units::{self, parse_duration, parse_rate, parse_share, parse_size};

/// The part of a round whose latencies are reported.
const MEASURED: usize = 1;
/// How often the server's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Below this share of a core there is little that slow readers could disturb.
const IDLE_SHARE: f64 = 0.1;
/// What a server may close a slow client with: try again later, no pong, and nothing that was still read.
const ALLOWED: [Option<u16>; 3] = [Some(1013), Some(4408), None];

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest slow --clients 2000 --slow 1% --server target/release/fanfare --pin --rounds 5
  loadtest slow --clients 500 --slow 10% --read-rate 64KiB --rate 100 --payload 4KiB
  loadtest slow --clients 2000 --slow 1% --rounds 9 --json slow.json --report slow.html
  loadtest slow --protocol v1 --policy conflate --server target/release/fanfare
  loadtest slow --clients 2000 --slow 50% --policy drop-oldest --server target/release/fanfare

How to choose the rate: the server has to be busy and not overloaded, or the ratio says little: an idle server has time
for everything, an overloaded one makes everybody wait. Take half of what it can do: `loadtest fanout --window 32` with
the same --clients and --payload gives its deliveries/s; --rate is half of that divided by the number of clients. Each
round tells the server's share of a core, and a remark says when it was above 90 % or below 10 %. A stalled client is
closed only when its queue and what the kernel holds for it are full: rate x payload x duration has to exceed that,
some MiB.

With 1,000 clients that stall on one topic the last remark says what they cost: how much more the server grew than in the
round without them, beside the size of one copy of everything that was published meanwhile.

From 9 pairs on the ratio has a 95 % interval; with less, the range of the pairs is told. Exit code 0: who reads got
everything, and the server's own count of clients it closed as slow (GET /health) is what they saw, as is its count of
what it dropped and conflated where --policy lets it, and what gaps told. 1: a fault, or it is not. 2: it could not be
measured.")]
pub(crate) struct SlowArgs {
    #[command(flatten)]
    crowd: CrowdArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// What clients speak
    #[arg(long, value_enum, default_value_t)]
    protocol: Protocol,
    /// What becomes of messages to a slow client at its bound. A server started here is told by --config; one that runs
    /// has to have classes of these names for topics that begin with them and a dot
    #[arg(long, value_enum, default_value_t)]
    policy: Policy,
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

/// What a server may do about a slow client at its bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// Close it
    #[default]
    Disconnect,
    /// Drop the oldest messages that wait for it
    DropOldest,
    /// Drop what comes
    DropNewest,
    /// Keep the youngest message of each of 16 keys
    Conflate,
}

impl Policy {
    /// `None` is the default class.
    fn class(self) -> Option<TopicClass> {
        match self {
            Self::Disconnect => None,
            Self::DropOldest => Some(TopicClass::DropOldest),
            Self::DropNewest => Some(TopicClass::DropNewest),
            Self::Conflate => Some(TopicClass::Conflate),
        }
    }

    fn name(self) -> &'static str {
        self.class().map_or("disconnect", TopicClass::name)
    }
}

/// All rounds, and what the slow readers cost the others.
#[derive(Debug, Serialize)]
struct Slow {
    clients: usize,
    slow: usize,
    read_bytes_per_second: usize,
    protocol: &'static str,
    policy: &'static str,
    rate: f64,
    payload_bytes: usize,
    rounds: Vec<Round>,
    /// With slow readers over without, of the others' latency; medians of the pairs.
    p50_ratio: Option<f64>,
    p99_ratio: Option<f64>,
    p999_ratio: Option<f64>,
    /// The smallest and the largest.
    p99_ratio_range: Option<(f64, f64)>,
    /// Where the median lies; from nine pairs on.
    p99_ratio_interval: Option<Interval>,
    /// Growth of RSS with slow readers beyond that without, for each; the median of the pairs.
    bytes_per_slow_client: Option<f64>,
    /// The same for all of them together, and bytes published while they were slow; medians too.
    backlog_bytes: Option<f64>,
    published_while_slow_bytes: f64,
}

/// One round.
#[derive(Debug, Serialize)]
struct Round {
    round: usize,
    /// Clients that read slowly.
    slow: usize,
    /// Of all others, from the intended send time.
    latency: LatencyFigures,
    latency_curve_ns: Vec<(f64, u64)>,
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
    /// CPU time of the server over the measured window, as a share of one core.
    server_share: Option<f64>,
    connected_bytes: Option<u64>,
    /// The largest seen while publishing.
    peak_bytes: Option<u64>,
    /// What the kernel held for all TCP sockets of the machine, both sides: before publishing, and the most.
    kernel_before_bytes: Option<u64>,
    kernel_peak_bytes: Option<u64>,
    faults: Faults,
    /// The part of what was lost that the policy allows: that of slow clients.
    lost_by_policy: u64,
    /// What clients were told they miss; `None` if their protocol does not say.
    told: Option<Gaps>,
    /// How far what each client missed is from what it was told, over all.
    untold: u64,
    /// Bytes of messages published in the measured window, once.
    published_bytes: u64,
    allowed: bool,
    /// The server's own books; `None` if it keeps none.
    audit: Option<Audit>,
    /// The round, moment by moment.
    timeline: Timeline,
}

/// Closings with one code.
#[derive(Debug, Serialize)]
struct Closed {
    count: u64,
    /// Seconds after they became slow at which the clients saw it; who reads nothing sees it when it catches up in the
    /// end.
    first_seconds: f64,
    last_seconds: f64,
}

/// `loadtest slow`.
pub(crate) fn run(args: &SlowArgs) -> Result<Verdict> {
    if args.duration.is_zero() {
        return Err(Error::Usage("--duration must be longer than nothing".to_owned()));
    }
    let stage = Stage::set(&args.crowd)?;
    let side = match args.policy.class() {
        Some(_) => stage.target(&args.target).with_classes(),
        None => stage.target(&args.target),
    };
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
    result.show(&mut page);
    page.conclude(verdict, result.remarks());
    args.output.end(&page, &environment, &result)?;
    Ok(verdict)
}

fn round(args: &SlowArgs, stage: &Stage, server: &Server, label: (usize, bool)) -> Result<Round> {
    let plan = args.plan(stage, server);
    let books = ServerLedger::read(server);
    let crowd = Crowd::gather(&plan, server.pid, &stage.interrupt)?;
    let resident = || server.pid.and_then(procfs::resident_bytes);
    let (connected_bytes, kernel_before_bytes) = (resident(), procfs::tcp_bytes());
    crowd.run();
    crowd.wait("warming up", args.warm_up)?;
    crowd.begin_segment(MEASURED);
    let used = || server.pid.and_then(CpuTime::of);
    let (slow_from, used_before) = (Instant::now(), used());
    if label.1 {
        crowd.event(if args.read_rate == 0 { "stalled" } else { "slow" });
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
    let seconds = slow_from.elapsed().as_secs_f64();
    let server_share =
        used().zip(used_before).map(|(now, before)| now.since(before).total_ns() as f64 / 1e9 / seconds);
    let outcome = crowd.finish(args.patience)?;
    let audit = books.and_then(|before| audit(server, before, &outcome));
    let slow = if label.1 { plan.slow_clients() } else { 0 };
    Ok(Round {
        round: label.0,
        slow,
        latency: LatencyFigures::new(&outcome.latencies[MEASURED]),
        latency_curve_ns: latency_curve(&outcome.latencies[MEASURED]),
        age: LatencyFigures::new(&outcome.ages),
        slow_deliveries: outcome.slow_deliveries,
        closed_slow: closed_slow(&outcome, slow_from),
        closed: outcome.closed_readers(),
        published: outcome.published,
        refused: outcome.refused,
        deliveries: outcome.deliveries,
        server_share,
        generator_late_max_ns: outcome.late_max.max(outcome.turn_max).as_nanos() as u64,
        connected_bytes,
        peak_bytes,
        kernel_before_bytes,
        kernel_peak_bytes,
        faults: outcome.faults,
        lost_by_policy: args.policy.class().map_or(0, |_| outcome.lost_by_slow),
        told: outcome.told,
        untold: outcome.untold,
        published_bytes: (args.rate * seconds * args.payload as f64) as u64,
        allowed: outcome.closings.iter().all(|closing| closing.was_slow && ALLOWED.contains(&closing.code)),
        audit,
        timeline: outcome.timeline,
    })
}

/// Holds the server's books against what the clients saw.
fn audit(server: &Server, before: ServerLedger, outcome: &Outcome) -> Option<Audit> {
    let seen = Seen {
        received: outcome.deliveries,
        lost: outcome.faults.lost,
        told: outcome.told,
        // Who was closed has not read everything that was written.
        is_everything: outcome.closings.is_empty(),
    };
    let mut ends = Ends::default();
    for closing in &outcome.closings {
        match closing.code {
            Some(1013) => ends.slow += 1,
            Some(4408) => ends.no_pong += 1,
            None => ends.silent += 1,
            // For another reason, which is a fault already and not in the books.
            Some(_) => {}
        }
    }
    Audit::of_ends(server, before, seen, ends)
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
        let class = self.policy.class();
        let topic = class.map_or_else(fresh_topic, |class| class.topic(&fresh_topic()));
        Plan {
            speech: match self.protocol {
                Protocol::Plain => Speech::Plain,
                Protocol::V1 => Speech::V1,
            },
            keyed: class.is_some_and(TopicClass::is_keyed),
            slow: self.slow,
            read_rate: self.read_rate as f64,
            receive_buffer: Some(self.receive_buffer),
            ..Plan::listening(
                server.address,
                topic,
                self.crowd.clients(),
                stage.split.threads,
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
            .fact("protocol", self.protocol.name())
            .fact("policy", self.policy.name())
            .fact("publications/s", self.rate.to_string())
            .fact("message", units::bytes(self.payload as u64))
            .fact("measured", format!("{:?}", self.duration));
        page
    }
}

impl Round {
    fn is_faultless(&self) -> bool {
        let agrees = self.audit.as_ref().is_none_or(|audit| audit.disagreement.is_none());
        let beyond = Faults { lost: self.faults.lost - self.lost_by_policy, ..self.faults };
        beyond.is_clean() && self.untold == 0 && self.closed.is_empty() && self.allowed && agrees
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
        let backlogs: Vec<f64> =
            pairs.iter().filter_map(|(without, with)| Some(with.growth()? - without.growth()?)).collect();
        let published = pairs.iter().map(|(_, with)| with.published_bytes as f64);
        Self {
            clients: args.crowd.clients(),
            slow: pairs.first().map_or(0, |(_, with)| with.slow),
            read_bytes_per_second: args.read_rate,
            protocol: args.protocol.name(),
            policy: args.policy.name(),
            rate: args.rate,
            payload_bytes: args.payload,
            p50_ratio: middle(|latency| latency.p50_ns),
            p99_ratio: median(p99.iter().copied()),
            p999_ratio: middle(|latency| latency.p999_ns),
            p99_ratio_range: p99.iter().copied().reduce(f64::min).zip(p99.iter().copied().reduce(f64::max)),
            p99_ratio_interval: Interval::of_median(p99.iter().copied()),
            backlog_bytes: median(backlogs.into_iter()),
            published_while_slow_bytes: median(published).unwrap_or_default(),
            bytes_per_slow_client: each.and_then(|each| median(each.into_iter())),
            rounds,
        }
    }
}
