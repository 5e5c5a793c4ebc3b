//! Soak: everything at once for long. Publishing at a fixed rate over several topics, clients that change their topics,
//! vanish and come back, and a few that stall and are closed, again and again; with the server's memory looked at all
//! the while. Memory that goes on growing after the warm-up is a leak.
//!
//! Growth is the Theil-Sen slope, the median of the slopes between all pairs of samples, times the length of the
//! window: a burst or a late allocation of pools does not move it, as long as it stays below about a quarter of the
//! samples.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::{Stage, Verdict, fresh_topic};
use crate::args::{CrowdArgs, TargetArgs, payload};
use crate::error::{Error, Result};
use crate::figures::{LatencyFigures, median};
use crate::generator::Faults;
use crate::generator::lives::{Crowd, Outcome, Plan};
use crate::message::Message;
use crate::procfs;
use crate::report::{Axis, Environment, Lines, OutputArgs, Page, Series, Table, Unit, unknown};
use crate::server::Server;
use crate::units::{self, parse_duration, parse_rate, parse_share, parse_size};

const MEASURED: usize = 1;
/// Samples of a run, so that the pairs of them stay countable.
const SAMPLES: u32 = 1_000;
/// The least time between two samples.
const SAMPLE_EVERY_MIN: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest soak --clients 2000 --server target/release/fanfare
  loadtest soak --clients 200 --duration 1m --warm-up 15s --json soak.json")]
pub(crate) struct SoakArgs {
    #[command(flatten)]
    crowd: CrowdArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Length of the watched window
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_duration)]
    duration: Duration,
    /// Do the same this long before watching: pools and tables find their size
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_duration)]
    warm_up: Duration,
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
    change: LatencyFigures,
    faults: Faults,
    memory: Option<Memory>,
    /// Seconds since watching began, and the server's resident bytes.
    samples: Vec<(f64, u64)>,
}

/// The verdict on memory.
#[derive(Debug, Serialize)]
struct Memory {
    first_bytes: u64,
    last_bytes: u64,
    /// The slope, and what it makes over the whole window.
    growth_bytes_per_hour: f64,
    growth_bytes: f64,
    allowance_bytes: usize,
    leaks: bool,
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
    let crowd = Crowd::gather(&args.plan(&stage, &server), &stage.interrupt)?;
    crowd.run();
    crowd.slow_down();
    crowd.wait_until(args.warm_up, &stage.interrupt, |_| false)?;
    crowd.begin_segment(MEASURED);
    let samples = watch(args, &stage, &server, &crowd)?;
    crowd.begin_segment(0);
    let outcome = crowd.finish(args.patience, &stage.interrupt)?;
    let result = Soak::new(args, &outcome, samples);
    let verdict = if result.is_faultless() { Verdict::Faultless } else { Verdict::Faulty };
    let megabytes = |&(at, bytes): &(f64, u64)| (at, bytes as f64);
    page.section("Memory").table(result.memory_table()).plot(
        Lines::new(
            "The server's resident memory",
            Axis::new("time", Unit::Seconds),
            Axis::new("RSS", Unit::Bytes),
        )
        .series(Series::new("RSS", result.samples.iter().map(megabytes).collect())),
    );
    page.section("What happened").table(result.table());
    page.conclude(verdict, result.remarks());
    args.output.end(&page, &environment, &result)?;
    Ok(verdict)
}

fn watch(args: &SoakArgs, stage: &Stage, server: &Server, crowd: &Crowd) -> Result<Vec<(f64, u64)>> {
    let every = (args.duration / SAMPLES).max(SAMPLE_EVERY_MIN);
    let begun = Instant::now();
    let mut samples: Vec<(f64, u64)> = Vec::new();
    crowd.wait_until(args.duration, &stage.interrupt, |_| {
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
                stage.threads,
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
    fn new(args: &SoakArgs, outcome: &Outcome, samples: Vec<(f64, u64)>) -> Self {
        let mut closed_stalled = BTreeMap::new();
        for closing in outcome.closings.iter().filter(|closing| closing.was_slow) {
            *closed_stalled.entry(closing.name()).or_default() += 1;
        }
        let memory = slope(&samples).and_then(|per_second| {
            let growth_bytes = per_second * args.duration.as_secs_f64();
            Some(Memory {
                first_bytes: samples.first()?.1,
                last_bytes: samples.last()?.1,
                growth_bytes_per_hour: per_second * 3_600.0,
                growth_bytes,
                allowance_bytes: args.allowance,
                leaks: growth_bytes > args.allowance as f64,
            })
        });
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
            change: LatencyFigures::new(&outcome.commands),
            faults: outcome.faults,
            memory,
            samples,
        }
    }

    fn is_faultless(&self) -> bool {
        self.faults.is_clean()
            && self.closed.is_empty()
            && self.unanswered == 0
            && self.never_back == 0
            && self.memory.as_ref().is_none_or(|memory| !memory.leaks)
    }

    fn memory_table(&self) -> Table {
        let mut table = Table::new(
            "The server's resident memory over the watched window",
            &["", "first", "last", "growth/h", "over the window", "allowed"],
        );
        let signed = |bytes: f64| {
            let text = units::bytes(bytes.abs() as u64);
            if bytes < 0.0 { format!("-{text}") } else { text }
        };
        table.row(match &self.memory {
            Some(memory) => vec![
                "RSS".to_owned(),
                units::bytes(memory.first_bytes),
                units::bytes(memory.last_bytes),
                signed(memory.growth_bytes_per_hour),
                signed(memory.growth_bytes),
                units::bytes(memory.allowance_bytes as u64),
            ],
            None => vec!["RSS".to_owned(), unknown(), unknown(), unknown(), unknown(), unknown()],
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
            None => "NO VERDICT ON MEMORY: the server's process is not known (--pid)".to_owned(),
            Some(memory) if memory.leaks => format!(
                "LEAK: memory grows by {} over the window, and {} are allowed",
                units::bytes(memory.growth_bytes as u64),
                units::bytes(memory.allowance_bytes as u64)
            ),
            Some(_) => "Memory does not grow beyond what is allowed.".to_owned(),
        });
        remarks.push(match self.is_faultless() {
            true => "Everybody got what was due, once and in order.".to_owned(),
            false => "FAULTY".to_owned(),
        });
        remarks
    }
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
}
