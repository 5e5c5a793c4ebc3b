//! Soak: everything at once for long. Publishing at a fixed rate over several topics, clients that change their topics,
//! vanish and come back, and a few that stall and are closed, again and again; with the server's memory looked at all
//! the while. Memory that goes on growing after the warm-up is a leak.
//!
//! Growth is the Theil-Sen slope, the median of the slopes between all pairs of samples, times the length of the
//! window: a burst or a late allocation of pools does not move it, as long as it stays below about a quarter of the
//! samples. It is looked at over the whole window and over its second half: what grew only in the first was still finding
//! its size. A window so short that a leak worth finding would stay within the allowance gives no verdict that there is
//! none.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::{Stage, Verdict, fresh_topic};
use crate::args::{CrowdArgs, TargetArgs, payload};
use crate::error::{Error, Result};
use crate::figures::{LatencyFigures, latency_curve, median, median_curve};
use crate::generator::Faults;
use crate::generator::lives::{Crowd, Outcome, Plan};
use crate::message::Message;
use crate::procfs;
use crate::report::plots::{latency, over_time};
use crate::report::{Axis, Environment, Lines, OutputArgs, Page, Series, Table, Unit, unknown};
use crate::server::Server;
use crate::timeline::Timeline;
use crate::units::{self, parse_duration, parse_rate, parse_share, parse_size};

const MEASURED: usize = 1;
/// Without `--warm-up`: this part of the window, and at most so long.
const WARM_UP_PART: u32 = 4;
const WARM_UP_MAX: Duration = Duration::from_secs(60);
/// A window that lets a leak of more than this an hour stay within the allowance says nothing about leaks.
const UNSEEN_PER_HOUR_MAX: f64 = 64.0 * 1024.0 * 1024.0;
/// The least number of samples for a verdict.
const SAMPLES_MIN: usize = 20;
/// Samples of a run, so that the pairs of them stay countable.
const SAMPLES: u32 = 1_000;
/// The least time between two samples.
const SAMPLE_EVERY_MIN: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest soak --clients 2000 --server target/release/fanfare
  loadtest soak --clients 200 --duration 1m --warm-up 15s --allowance 512KiB --report soak.html

A leak shows as growth beyond the allowance, so that a window of length T cannot tell a leak of less than
allowance / T from none. Where that is more than 64 MiB an hour (with 4 MiB: below 3 min 45 s) there is no verdict
that memory does not leak: watch for longer, or allow less.

Exit code 0: nobody missed anything, and memory does not grow beyond the allowance. 1: a fault, or a leak. 2: no
verdict on memory (the window was too short, memory was still settling, or the server's process is unknown), or it
could not be measured.")]
pub(crate) struct SoakArgs {
    #[command(flatten)]
    crowd: CrowdArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Length of the watched window
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_duration)]
    duration: Duration,
    /// Do the same this long before watching: pools and tables find their size [default: a quarter of the window, at
    /// most 1m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    warm_up: Option<Duration>,
    /// What the server's memory may grow by over the watched window
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = parse_size)]
    allowance: usize,
    /// Topics in all, of which each client has two (one, if there is only one)
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    topics: u16,
    /// Publications a second, topic after topic
    #[arg(long, value_name = "N", default_value = "50", value_parser = parse_rate)]
    rate: f64,
    /// Bytes of each message, digits included (at least 32)
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = payload)]
    payload: usize,
    /// Changes of topics a second, of all clients together
    #[arg(long, value_name = "N", default_value = "20", value_parser = parse_rate)]
    changes: f64,
    /// Clients a second that vanish and come back half a second later
    #[arg(long, value_name = "N", default_value = "10", value_parser = parse_rate)]
    cycles: f64,
    /// Share of the clients that stall; each comes back two seconds after it was closed, and stalls again
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = parse_share)]
    stalled: f64,
    /// How long what is under way in the end may take; what is missing then is lost
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_duration)]
    patience: Duration,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is found.
#[derive(Debug, Serialize)]
struct Soak {
    clients: usize,
    seconds: f64,
    published: u64,
    refused: u64,
    deliveries: u64,
    changes: u64,
    unanswered: u64,
    vanished: u64,
    back: u64,
    never_back: u64,
    retries: BTreeMap<String, u64>,
    /// Stalled clients the server closed; each time counts.
    closed_stalled: BTreeMap<String, u64>,
    /// Clients it closed though they read.
    closed: BTreeMap<String, u64>,
    latency: LatencyFigures,
    latency_curve_ns: Vec<(f64, u64)>,
    change: LatencyFigures,
    faults: Faults,
    memory: Option<Memory>,
    /// Seconds since watching began, and the server's resident bytes.
    samples: Vec<(f64, u64)>,
    /// The whole run, moment by moment.
    timeline: Timeline,
}

/// The verdict on memory.
#[derive(Debug, Serialize)]
struct Memory {
    samples: usize,
    first_bytes: u64,
    last_bytes: u64,
    /// The slope, that of the second half of the window, and what the first makes over the whole window.
    growth_bytes_per_hour: f64,
    late_growth_bytes_per_hour: f64,
    growth_bytes: f64,
    allowance_bytes: usize,
    /// A leak of less than this stays within the allowance.
    unseen_bytes_per_hour: f64,
    verdict: MemoryVerdict,
    leaks: bool,
}

/// What can be said about the growth of memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum MemoryVerdict {
    /// It does not grow beyond the allowance, and the window was long enough for that to mean something.
    Steady,
    /// It grows beyond the allowance, to the end.
    Leaks,
    /// It grew beyond the allowance, and no longer does at the end.
    Settling,
    /// It did not, but a leak worth finding would not have either.
    TooShort,
}

/// `loadtest soak`.
pub(crate) fn run(args: &SoakArgs) -> Result<Verdict> {
    if args.duration.is_zero() {
        return Err(Error::Usage("--duration must be longer than nothing".to_owned()));
    }
    let stage = Stage::set(&args.crowd)?;
    let side = stage.target(&args.target);
    let environment = Environment::describe(args.crowd.pin, std::slice::from_ref(&side));
    let mut page = args.page();
    args.output.begin(&page, &environment)?;
    let server = side.open()?;
    let crowd = Crowd::gather(&args.plan(&stage, &server), server.pid, &stage.interrupt)?;
    crowd.run();
    crowd.slow_down();
    crowd.wait("warming up", args.warm_up())?;
    crowd.begin_segment(MEASURED);
    let samples = watch(args, &server, &crowd)?;
    crowd.begin_segment(0);
    let outcome = crowd.finish(args.patience)?;
    let result = Soak::new(args, outcome, samples);
    let verdict = result.verdict();
    let megabytes = |&(at, bytes): &(f64, u64)| (at, bytes as f64);
    page.section("Memory").table(result.memory_table()).plot(
        Lines::new(
            "The server's resident memory",
            Axis::new("time", Unit::Seconds),
            Axis::new("RSS", Unit::Bytes),
        )
        .series(Series::new("RSS", result.samples.iter().map(megabytes).collect())),
    );
    page.section("What happened").table(result.table()).plot(latency(vec![(
        "deliveries".to_owned(),
        median_curve([&result.latency_curve_ns[..]].into_iter()),
    )]));
    page.section("Over time").plots(over_time(&[("server".to_owned(), &result.timeline)]));
    page.conclude(verdict, result.remarks());
    args.output.end(&page, &environment, &result)?;
    Ok(verdict)
}

fn watch(args: &SoakArgs, server: &Server, crowd: &Crowd) -> Result<Vec<(f64, u64)>> {
    let every = (args.duration / SAMPLES).max(SAMPLE_EVERY_MIN);
    let begun = Instant::now();
    let mut samples: Vec<(f64, u64)> = Vec::new();
    crowd.wait_until("measuring", args.duration, |_| {
        if begun.elapsed() >= every * samples.len() as u32
            && let Some(bytes) = server.pid.and_then(procfs::resident_bytes)
        {
            samples.push((begun.elapsed().as_secs_f64(), bytes));
        }
        false
    })?;
    Ok(samples)
}

/// The median of the slopes between all pairs of points; `None` with less than two.
fn slope(points: &[(f64, u64)]) -> Option<f64> {
    let slopes = points.iter().enumerate().flat_map(|(index, &(later, high))| {
        points[..index]
            .iter()
            .map(move |&(earlier, low)| (high as f64 - low as f64) / (later - earlier).max(1e-9))
    });
    median(slopes)
}

impl SoakArgs {
    fn warm_up(&self) -> Duration {
        self.warm_up.unwrap_or_else(|| (self.duration / WARM_UP_PART).min(WARM_UP_MAX))
    }

    fn plan(&self, stage: &Stage, server: &Server) -> Plan {
        let topic = fresh_topic();
        Plan {
            topics: (0..self.topics).map(|index| format!("{topic}-{index}")).collect(),
            topics_each: usize::from(self.topics.min(2)),
            changes_per_second: self.changes,
            cycles_per_second: self.cycles,
            vanishing: 0.25,
            away: Duration::from_millis(500),
            slow: self.stalled,
            receive_buffer: Some(16 * 1024),
            slow_back_after: Some(Duration::from_secs(2)),
            ..Plan::listening(
                server.address,
                topic.clone(),
                self.crowd.clients(),
                stage.split.threads,
                Message::new(self.payload, Instant::now()),
                self.rate,
            )
        }
    }

    fn page(&self) -> Page {
        let mut page = Page::new("soak", "Everything at once for long, and whether memory goes on growing");
        page.fact("clients", units::grouped(self.crowd.clients() as u64))
            .fact("topics", self.topics.to_string())
            .fact("publications/s", self.rate.to_string())
            .fact("changes/s", self.changes.to_string())
            .fact("cycles/s", self.cycles.to_string())
            .fact("stalled", format!("{} %", self.stalled * 100.0))
            .fact("message", units::bytes(self.payload as u64))
            .fact("watched", format!("{:?}", self.duration));
        page
    }
}

impl Soak {
    fn new(args: &SoakArgs, outcome: Outcome, samples: Vec<(f64, u64)>) -> Self {
        let mut closed_stalled = BTreeMap::new();
        for closing in outcome.closings.iter().filter(|closing| closing.was_slow) {
            *closed_stalled.entry(closing.name()).or_default() += 1;
        }
        let memory = Memory::judge(&samples, args.duration, args.allowance);
        Self {
            clients: args.crowd.clients(),
            seconds: args.duration.as_secs_f64(),
            published: outcome.published,
            refused: outcome.refused,
            deliveries: outcome.deliveries,
            changes: outcome.commands_sent,
            unanswered: outcome.commands_unanswered,
            vanished: outcome.vanished,
            back: outcome.back,
            never_back: outcome.never_back,
            retries: outcome.retries.clone(),
            closed_stalled,
            closed: outcome.closed_readers(),
            latency: LatencyFigures::new(&outcome.latencies[MEASURED]),
            latency_curve_ns: latency_curve(&outcome.latencies[MEASURED]),
            change: LatencyFigures::new(&outcome.commands),
            faults: outcome.faults,
            memory,
            samples,
            timeline: outcome.timeline,
        }
    }

    /// Everybody got what was due; memory is another matter.
    fn is_faultless(&self) -> bool {
        self.faults.is_clean() && self.closed.is_empty() && self.unanswered == 0 && self.never_back == 0
    }

    fn verdict(&self) -> Verdict {
        let memory = self.memory.as_ref().map(|memory| memory.verdict);
        match (self.is_faultless(), memory) {
            (false, _) | (true, Some(MemoryVerdict::Leaks)) => Verdict::Faulty,
            (true, Some(MemoryVerdict::Steady)) => Verdict::Faultless,
            (true, None | Some(MemoryVerdict::Settling | MemoryVerdict::TooShort)) => Verdict::Undecided,
        }
    }

    fn memory_table(&self) -> Table {
        let mut table = Table::new(
            "The server's resident memory over the watched window",
            &["", "samples", "first", "last", "growth/h", "in the second half", "over the window", "allowed"],
        );
        table.row(match &self.memory {
            Some(memory) => vec![
                "RSS".to_owned(),
                units::grouped(memory.samples as u64),
                units::bytes(memory.first_bytes),
                units::bytes(memory.last_bytes),
                signed(memory.growth_bytes_per_hour),
                signed(memory.late_growth_bytes_per_hour),
                signed(memory.growth_bytes),
                units::bytes(memory.allowance_bytes as u64),
            ],
            None => std::iter::once("RSS".to_owned()).chain((0..7).map(|_| unknown())).collect(),
        });
        table
    }

    fn table(&self) -> Table {
        let mut table = Table::new("Counted over the whole run, the warm-up included", &["what", "count"]);
        let faults = self.faults;
        for (what, count) in [
            ("published", self.published),
            ("refused", self.refused),
            ("deliveries", self.deliveries),
            ("changes of topics", self.changes),
            ("vanished", self.vanished),
            ("came back", self.back),
            ("stalled and closed", self.closed_stalled.values().sum()),
            ("lost", faults.lost),
            ("duplicated", faults.duplicated),
            ("reordered", faults.reordered),
            ("garbled", faults.garbled),
            ("of left topics", faults.misdelivered),
            ("never back", self.never_back),
            ("changes without a pong", self.unanswered),
            ("closed though they read", self.closed.values().sum()),
        ] {
            table.row(vec![what.to_owned(), units::grouped(count)]);
        }
        for (what, ns) in [
            ("delivery p50", self.latency.p50_ns),
            ("delivery p99", self.latency.p99_ns),
            ("delivery p99.9", self.latency.p999_ns),
            ("change p50", self.change.p50_ns),
            ("change p99", self.change.p99_ns),
        ] {
            table.row(vec![what.to_owned(), units::latency(ns)]);
        }
        table
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for (reason, count) in &self.retries {
            remarks.push(format!("{count} upgrades were tried again: {reason}"));
        }
        for (code, count) in &self.closed {
            remarks.push(format!("the server closed {count} clients that read ({code})"));
        }
        remarks.push(match &self.memory {
            None => "NO VERDICT ON MEMORY: the server's process is not known (--pid), or the window was too short for two \
                     samples"
                .to_owned(),
            Some(memory) => memory.text(),
        });
        remarks.push(match (self.is_faultless(), self.verdict()) {
            (false, _) => "FAULTY: not everybody got what was due.".to_owned(),
            (true, Verdict::Faulty) => "FAULTY: everybody got what was due, and memory leaks.".to_owned(),
            (true, Verdict::Undecided) => {
                "UNDECIDED: everybody got what was due, and it is open whether memory leaks.".to_owned()
            }
            (true, Verdict::Faultless) => "Everybody got what was due, once and in order.".to_owned(),
        });
        remarks
    }
}

impl Memory {
    /// `None` with less than two samples.
    fn judge(samples: &[(f64, u64)], window: Duration, allowance_bytes: usize) -> Option<Self> {
        let seconds = window.as_secs_f64();
        let per_second = slope(samples)?;
        let middle = samples.partition_point(|&(at, _)| at < seconds / 2.0);
        let late_per_second = slope(&samples[middle..]).unwrap_or(per_second);
        let allowance = allowance_bytes as f64;
        let unseen_bytes_per_hour = allowance / seconds * 3_600.0;
        let grows = per_second * seconds > allowance;
        let verdict = if grows && late_per_second * seconds > allowance {
            MemoryVerdict::Leaks
        } else if grows {
            MemoryVerdict::Settling
        } else if unseen_bytes_per_hour > UNSEEN_PER_HOUR_MAX || samples.len() < SAMPLES_MIN {
            MemoryVerdict::TooShort
        } else {
            MemoryVerdict::Steady
        };
        Some(Self {
            samples: samples.len(),
            first_bytes: samples.first()?.1,
            last_bytes: samples.last()?.1,
            growth_bytes_per_hour: per_second * 3_600.0,
            late_growth_bytes_per_hour: late_per_second * 3_600.0,
            growth_bytes: per_second * seconds,
            allowance_bytes,
            unseen_bytes_per_hour,
            verdict,
            leaks: verdict == MemoryVerdict::Leaks,
        })
    }

    /// The verdict in words, with the slope and the allowance.
    fn text(&self) -> String {
        let slope = format!(
            "its slope is {} an hour, in the second half of the window {}; that is {} over the window, and {} are \
             allowed",
            signed(self.growth_bytes_per_hour),
            signed(self.late_growth_bytes_per_hour),
            signed(self.growth_bytes),
            units::bytes(self.allowance_bytes as u64)
        );
        let unseen = units::bytes(self.unseen_bytes_per_hour as u64);
        match self.verdict {
            MemoryVerdict::Steady => format!(
                "Memory does not grow beyond what is allowed: {slope}. A leak of less than {unseen} an hour would not be \
                 seen."
            ),
            MemoryVerdict::Leaks => format!("LEAK: memory grows to the end: {slope}"),
            MemoryVerdict::Settling => format!(
                "NO VERDICT ON MEMORY: it grew beyond what is allowed, and no longer does: {slope}. A longer warm-up tells."
            ),
            MemoryVerdict::TooShort => format!(
                "TOO SHORT FOR A VERDICT ON MEMORY ({} samples): {slope}. A leak of up to {unseen} an hour would not be \
                 seen; watch for longer, or allow less.",
                self.samples
            ),
        }
    }
}

/// Bytes that may be fewer than none.
fn signed(bytes: f64) -> String {
    let text = units::bytes(bytes.abs() as u64);
    if bytes < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_not_moved_by_a_burst() {
        let steady: Vec<(f64, u64)> = (0..100).map(|at| (f64::from(at), 1_000 + 5 * at as u64)).collect();
        let slope_of = |points: &[(f64, u64)]| slope(points).expect("enough points");
        assert!((slope_of(&steady) - 5.0).abs() < 1e-9);
        let mut burst: Vec<(f64, u64)> = (0..100).map(|at| (f64::from(at), 1_000)).collect();
        burst[40..50].iter_mut().for_each(|point| point.1 = 900_000);
        assert!(slope_of(&burst).abs() < 1e-9);
        assert_eq!(slope(&steady[..1]), None);
    }

    const MIB: u64 = 1 << 20;

    fn verdict(seconds: u64, allowance: u64, bytes: impl Fn(f64) -> f64) -> MemoryVerdict {
        let at = |index: u64| (seconds * index) as f64 / 100.0;
        let samples: Vec<(f64, u64)> = (0..100).map(|index| (at(index), bytes(at(index)) as u64)).collect();
        let memory = Memory::judge(&samples, Duration::from_secs(seconds), allowance as usize);
        memory.expect("enough samples").verdict
    }

    #[test]
    fn a_short_window_acquits_nobody_and_a_long_one_does() {
        let still = |_: f64| 5e6;
        assert_eq!(verdict(20, 4 * MIB, still), MemoryVerdict::TooShort);
        assert_eq!(verdict(20, MIB / 4, still), MemoryVerdict::Steady);
        assert_eq!(verdict(1_800, 4 * MIB, still), MemoryVerdict::Steady);
        let few: Vec<(f64, u64)> = (0..10).map(|at| (f64::from(at) * 180.0, 5)).collect();
        let memory = Memory::judge(&few, Duration::from_secs(1_800), 1 << 22).expect("enough samples");
        assert_eq!(memory.verdict, MemoryVerdict::TooShort);
        assert!(memory.text().contains("TOO SHORT"));
    }

    #[test]
    fn growth_to_the_end_is_a_leak_and_growth_that_ends_is_not() {
        let leak = |at: f64| 5e6 + at * 1e6;
        assert_eq!(verdict(20, 4 * MIB, leak), MemoryVerdict::Leaks);
        assert_eq!(verdict(1_800, 4 * MIB, leak), MemoryVerdict::Leaks);
        // Settles in the middle: the median of all slopes still sees it, that of the second half does not.
        let settles = |at: f64| 5e6 + at.min(900.0) * 1e5;
        assert_eq!(verdict(1_800, 4 * MIB, settles), MemoryVerdict::Settling);
    }
}
