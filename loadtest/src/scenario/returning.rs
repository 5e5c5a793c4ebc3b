//! What scenarios have in common whose clients vanish at once, without a word, and come back, while a publisher goes on at
//! a fixed rate: how such a round is carried out, what it finds, and how that is shown.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::Stage;
use crate::args::{CrowdArgs, TargetArgs, payload};
use crate::error::{Error, Result};
use crate::figures::{LatencyFigures, latency_curve, median_curve};
use crate::generator::Faults;
use crate::generator::lives::{Crowd, Outcome, Plan};
use crate::message::Message;
use crate::procfs;
use crate::report::plots::{latency, over_time};
use crate::report::{OutputArgs, Page, Table, unknown};
use crate::server::Server;
use crate::timeline::Timeline;
use crate::units::{self, parse_duration, parse_rate, parse_share};

/// Parts of a round whose latencies are kept apart.
const BEFORE: usize = 1;
const DURING: usize = 2;
const AFTER: usize = 3;

/// A generator that is later than this, and later than what it measures at rest, says so.
const GENERATOR_LATE_NS: u64 = 5_000_000;

#[derive(Debug, Args)]
pub(crate) struct ReturningArgs {
    #[command(flatten)]
    pub(super) crowd: CrowdArgs,
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Share of the clients that vanish, all at once
    #[arg(long, value_name = "SHARE", default_value = "80%", value_parser = parse_share)]
    pub(super) vanish: f64,
    /// How long they stay away
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pub(super) away: Duration,
    /// Sockets that wait for their upgrade at any time while they come back [default: all at once]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) handshakes: Option<u32>,
    /// Publications a second, throughout
    #[arg(long, value_name = "N", default_value = "20", value_parser = parse_rate)]
    pub(super) rate: f64,
    /// Bytes of each message, digits included (at least 32)
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = payload)]
    pub(super) payload: usize,
    /// Publish this long before the storm, and again after it
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub(super) duration: Duration,
    /// Publish this long before measuring
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub(super) warm_up: Duration,
    /// How long it may take until all are served again; who is not by then never came back
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub(super) patience: Duration,
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(super) rounds: u16,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// One round.
#[derive(Debug, Serialize)]
pub(super) struct Return {
    pub(super) round: usize,
    /// From the moment they vanished to the first 101, to the last one, and until each had its first message again,
    /// or, if it resumed, everything that it had missed.
    accepting_again_seconds: Option<f64>,
    all_connected_seconds: Option<f64>,
    pub(super) all_served_seconds: Option<f64>,
    reconnects_per_second: Option<f64>,
    pub(super) vanished: u64,
    pub(super) back: u64,
    never_back: u64,
    /// Upgrades that failed and were tried again, by reason.
    retries: BTreeMap<String, u64>,
    /// What those who stayed saw, from the intended send time.
    before: LatencyFigures,
    during: LatencyFigures,
    after: LatencyFigures,
    before_curve_ns: Vec<(f64, u64)>,
    during_curve_ns: Vec<(f64, u64)>,
    after_curve_ns: Vec<(f64, u64)>,
    /// During the storm over before it.
    pub(super) p99_ratio: f64,
    published: u64,
    refused: u64,
    deliveries: u64,
    /// How late the harness's own publisher and readers were at worst; it is in the latencies.
    publisher_late_max_ns: u64,
    reader_late_max_ns: u64,
    before_bytes: Option<u64>,
    connected_bytes: Option<u64>,
    end_bytes: Option<u64>,
    pub(super) faults: Faults,
    /// Connections the server ended, by close code.
    closed: BTreeMap<String, u64>,
    /// The round, moment by moment.
    timeline: Timeline,
}

impl ReturningArgs {
    /// Refuses what cannot be measured.
    pub(super) fn check(&self) -> Result<()> {
        match self.duration.is_zero() {
            true => Err(Error::Usage("--duration must be longer than nothing".to_owned())),
            false => Ok(()),
        }
    }

    /// Clients on `topic`, of whom some vanish and come back on their URL.
    pub(super) fn plan(&self, stage: &Stage, server: &Server, topic: String) -> Plan {
        let at_once = self.handshakes.map_or(usize::MAX, |handshakes| handshakes as usize);
        Plan {
            vanishing: self.vanish,
            away: self.away,
            under_way_max: at_once.div_ceil(stage.split.threads),
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

    /// Carries out round `number`. `all_back` is what it is called on the plots when all are served again.
    pub(super) fn round(
        &self,
        plan: &Plan,
        stage: &Stage,
        server: &Server,
        (number, all_back): (usize, &'static str),
    ) -> Result<(Return, Outcome)> {
        let resident = || server.pid.and_then(procfs::resident_bytes);
        let before_bytes = resident();
        let crowd = Crowd::gather(plan, server.pid, &stage.interrupt)?;
        let connected_bytes = resident();
        crowd.run();
        crowd.wait("warming up", self.warm_up)?;
        crowd.begin_segment(BEFORE);
        crowd.wait("measuring", self.duration)?;
        crowd.begin_segment(DURING);
        crowd.event("vanished");
        crowd.vanish();
        let vanishing = plan.vanishing_clients() as u64;
        let all_served = |crowd: &Crowd| crowd.served_again() >= vanishing;
        if crowd.wait_until("storm", self.patience + self.away, all_served)? {
            crowd.event(all_back);
        }
        crowd.begin_segment(AFTER);
        crowd.wait("after it", self.duration)?;
        let end_bytes = resident();
        let outcome = crowd.finish(self.patience)?;
        Ok((Return::new(number, &outcome, [before_bytes, connected_bytes, end_bytes]), outcome))
    }

    /// What was asked for.
    pub(super) fn facts(&self, page: &mut Page, come_back: &str) {
        page.fact("clients", units::grouped(self.crowd.clients() as u64))
            .fact("vanish", format!("{} %", self.vanish * 100.0))
            .fact("come back", come_back)
            .fact("away", format!("{} ms", self.away.as_millis()))
            .fact("publications/s", self.rate.to_string())
            .fact("message", units::bytes(self.payload as u64));
    }
}

impl Return {
    fn new(number: usize, outcome: &Outcome, memory: [Option<u64>; 3]) -> Self {
        let since = |at: Option<Instant>| {
            let vanished_at = outcome.vanished_at?;
            Some(at?.saturating_duration_since(vanished_at).as_secs_f64())
        };
        let [before, during, after] =
            [BEFORE, DURING, AFTER].map(|part| LatencyFigures::new(&outcome.latencies[part]));
        let [before_curve_ns, during_curve_ns, after_curve_ns] =
            [BEFORE, DURING, AFTER].map(|part| latency_curve(&outcome.latencies[part]));
        let all_connected_seconds = since(outcome.last_back);
        Self {
            round: number,
            accepting_again_seconds: since(outcome.first_back),
            all_connected_seconds,
            all_served_seconds: since(outcome.last_served),
            reconnects_per_second: all_connected_seconds.map(|time| outcome.back as f64 / time.max(1e-9)),
            vanished: outcome.vanished,
            back: outcome.back,
            never_back: outcome.never_back,
            retries: outcome.retries.clone(),
            before,
            during,
            after,
            before_curve_ns,
            during_curve_ns,
            after_curve_ns,
            p99_ratio: during.p99_ns as f64 / before.p99_ns.max(1) as f64,
            published: outcome.published,
            refused: outcome.refused,
            deliveries: outcome.deliveries,
            publisher_late_max_ns: outcome.late_max.as_nanos() as u64,
            reader_late_max_ns: outcome.turn_max.as_nanos() as u64,
            before_bytes: memory[0],
            connected_bytes: memory[1],
            end_bytes: memory[2],
            faults: outcome.faults,
            closed: outcome.closed_readers(),
            timeline: outcome.timeline.clone(),
        }
    }

    pub(super) fn is_faultless(&self) -> bool {
        self.faults.is_clean() && self.closed.is_empty() && self.never_back == 0
    }

    /// What is to be said about it.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let number = self.round;
        for (reason, count) in &self.retries {
            remarks.push(format!("round {number}: {count} upgrades were tried again: {reason}"));
        }
        for (code, count) in &self.closed {
            remarks.push(format!("round {number}: the server closed {count} clients ({code})"));
        }
        let late = self.publisher_late_max_ns.max(self.reader_late_max_ns);
        if late > self.before.p99_ns.max(GENERATOR_LATE_NS) {
            remarks.push(format!(
                "round {number}: THE GENERATOR WAS LATE ITSELF, by up to {}, which is in the latencies",
                units::latency(late)
            ));
        }
        remarks
    }
}

/// Shows all `rounds`; `all` says in a heading when all are served again.
pub(super) fn show(rounds: &[&Return], all: &'static str, page: &mut Page) {
    let curve = |curve: fn(&Return) -> &[(f64, u64)]| median_curve(rounds.iter().map(|&round| curve(round)));
    page.section("Coming back").table(coming_back(rounds, all));
    page.section("Those who stayed").table(staying(rounds)).plot(latency(vec![
        ("before".to_owned(), curve(|round| &round.before_curve_ns)),
        ("during".to_owned(), curve(|round| &round.during_curve_ns)),
        ("after".to_owned(), curve(|round| &round.after_curve_ns)),
    ]));
    let first = rounds.iter().take(1);
    let named: Vec<_> = first.map(|round| (format!("round {}", round.round), &round.timeline)).collect();
    page.section("Over time").plots(over_time(&named));
}

/// How soon those who vanished were served again; `all` says when that is, for a heading.
fn coming_back(rounds: &[&Return], all: &'static str) -> Table {
    let mut table = Table::new(
        "From the moment they vanished",
        &[
            "round",
            "vanished",
            "accepting again",
            "all connected",
            all,
            "connects/s",
            "retries",
            "never back",
            "RSS before",
            "connected",
            "end",
        ],
    );
    let time =
        |seconds: Option<f64>| seconds.map_or_else(unknown, |seconds| units::latency((seconds * 1e9) as u64));
    for round in rounds {
        let mut row = vec![round.round.to_string(), units::grouped(round.vanished)];
        row.extend(
            [round.accepting_again_seconds, round.all_connected_seconds, round.all_served_seconds].map(time),
        );
        row.push(round.reconnects_per_second.map_or_else(unknown, units::whole));
        row.push(units::grouped(round.retries.values().sum()));
        row.push(units::grouped(round.never_back));
        let memory = [round.before_bytes, round.connected_bytes, round.end_bytes];
        row.extend(memory.map(|bytes| bytes.map_or_else(unknown, units::bytes)));
        table.row(row);
    }
    table
}

/// What those who stayed saw.
fn staying(rounds: &[&Return]) -> Table {
    let mut table = Table::new(
        "Latency from the intended send time, and faults of all clients",
        &[
            "round",
            "before: p50",
            "p99",
            "during: p50",
            "p99",
            "max",
            "after: p50",
            "p99",
            "p99 ratio",
            "published",
            "refused",
            "lost",
            "duplicated",
            "reordered",
            "garbled",
            "closed",
        ],
    );
    for round in rounds {
        let Return { before, during, after, faults, .. } = round;
        let mut row = vec![round.round.to_string()];
        row.extend(
            [
                before.p50_ns,
                before.p99_ns,
                during.p50_ns,
                during.p99_ns,
                during.max_ns,
                after.p50_ns,
                after.p99_ns,
            ]
            .map(units::latency),
        );
        row.push(format!("{:.2}", round.p99_ratio));
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
