//! Churn: clients replace their topics all the time while everybody is published to. The pong to a `ping` sent behind
//! the new list marks the moment it is in force: from then on nothing comes of a topic that was left, everything of
//! one that was kept, and everything of one that was joined. What is published meanwhile may come or not, but once and
//! in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::{Stage, Verdict, fresh_topic};
use crate::args::{CrowdArgs, TargetArgs, payload};
use crate::error::{Error, Result};
use crate::figures::{LatencyFigures, latency_curve, median_curve};
use crate::generator::Faults;
use crate::generator::lives::{Crowd, Plan};
use crate::message::Message;
use crate::report::plots::{latency, over_time};
use crate::report::{Environment, OutputArgs, Page, Table};
use crate::server::Server;
use crate::timeline::Timeline;
use crate::units::{self, parse_duration, parse_rate};

/// The part of a round whose latencies are reported.
const MEASURED: usize = 1;
/// Topics a run can have: a client's list of them has to fit in one message.
const TOPICS_MAX: i64 = 1_000;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest churn --clients 2000 --changes 500 --server target/release/fanfare --pin
  loadtest churn --clients 200 --topics 64 --topics-each 16 --rate 1000")]
pub(crate) struct ChurnArgs {
    #[command(flatten)]
    crowd: CrowdArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Topics in all
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=TOPICS_MAX))]
    topics: u16,
    /// Topics of each client; a change keeps about half of them
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=TOPICS_MAX))]
    topics_each: u16,
    /// Changes a second, of all clients together
    #[arg(long, value_name = "N", default_value = "100", value_parser = parse_rate)]
    changes: f64,
    /// Publications a second, topic after topic
    #[arg(long, value_name = "N", default_value = "200", value_parser = parse_rate)]
    rate: f64,
    /// Bytes of each message, digits included (at least 32)
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = payload)]
    payload: usize,
    /// Length of the measured window
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Publish and change this long before measuring
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    warm_up: Duration,
    /// How long what is under way in the end may take; what is missing then is lost
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    patience: Duration,
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    #[command(flatten)]
    output: OutputArgs,
}

/// All rounds.
#[derive(Debug, Serialize)]
struct Churn {
    clients: usize,
    topics: u16,
    topics_each: u16,
    changes_per_second: f64,
    rate: f64,
    payload_bytes: usize,
    rounds: Vec<Round>,
}

/// One round.
#[derive(Debug, Serialize)]
struct Round {
    round: usize,
    changes: u64,
    /// Changes whose pong never came.
    unanswered: u64,
    /// From sending the new list to the pong behind it.
    change: LatencyFigures,
    change_curve_ns: Vec<(f64, u64)>,
    /// Of deliveries, from the intended send time.
    latency: LatencyFigures,
    latency_curve_ns: Vec<(f64, u64)>,
    published: u64,
    refused: u64,
    deliveries: u64,
    generator_late_max_ns: u64,
    faults: Faults,
    /// Connections the server ended, by close code.
    closed: BTreeMap<String, u64>,
    /// The round, moment by moment.
    timeline: Timeline,
}

/// `loadtest churn`.
pub(crate) fn run(args: &ChurnArgs) -> Result<Verdict> {
    if args.duration.is_zero() {
        return Err(Error::Usage("--duration must be longer than nothing".to_owned()));
    }
    if args.topics_each > args.topics {
        return Err(Error::Usage("--topics-each must not be more than --topics".to_owned()));
    }
    let stage = Stage::set(&args.crowd)?;
    let side = stage.target(&args.target);
    let environment = Environment::describe(args.crowd.pin, std::slice::from_ref(&side));
    let mut page = args.page();
    args.output.begin(&page, &environment)?;
    let mut rounds = Vec::new();
    for number in 1..=usize::from(args.rounds) {
        stage.interrupt.check()?;
        rounds.push(round(args, &stage, &side.open()?, number)?);
    }
    let result = Churn {
        clients: args.crowd.clients(),
        topics: args.topics,
        topics_each: args.topics_each,
        changes_per_second: args.changes,
        rate: args.rate,
        payload_bytes: args.payload,
        rounds,
    };
    let faultless = result.rounds.iter().all(Round::is_faultless);
    let verdict = if faultless { Verdict::Faultless } else { Verdict::Faulty };
    result.show(&mut page);
    page.conclude(verdict, result.remarks());
    args.output.end(&page, &environment, &result)?;
    Ok(verdict)
}

fn round(args: &ChurnArgs, stage: &Stage, server: &Server, number: usize) -> Result<Round> {
    let topic = fresh_topic();
    let plan = Plan {
        topics: (0..args.topics).map(|index| format!("{topic}-{index}")).collect(),
        topics_each: usize::from(args.topics_each),
        changes_per_second: args.changes,
        seed: number as u64,
        ..Plan::listening(
            server.address,
            topic.clone(),
            args.crowd.clients(),
            stage.split.threads,
            Message::new(args.payload, Instant::now()),
            args.rate,
        )
    };
    let crowd = Crowd::gather(&plan, server.pid, &stage.interrupt)?;
    crowd.run();
    crowd.wait("warming up", args.warm_up)?;
    crowd.begin_segment(MEASURED);
    crowd.wait("measuring", args.duration)?;
    crowd.begin_segment(0);
    let outcome = crowd.finish(args.patience)?;
    Ok(Round {
        round: number,
        changes: outcome.commands_sent,
        unanswered: outcome.commands_unanswered,
        change: LatencyFigures::new(&outcome.commands),
        change_curve_ns: latency_curve(&outcome.commands),
        latency: LatencyFigures::new(&outcome.latencies[MEASURED]),
        latency_curve_ns: latency_curve(&outcome.latencies[MEASURED]),
        published: outcome.published,
        refused: outcome.refused,
        deliveries: outcome.deliveries,
        generator_late_max_ns: outcome.late_max.max(outcome.turn_max).as_nanos() as u64,
        faults: outcome.faults,
        closed: outcome.closed_readers(),
        timeline: outcome.timeline,
    })
}

impl ChurnArgs {
    fn page(&self) -> Page {
        let mut page = Page::new("churn", "Clients replace their topics while everybody is published to");
        page.fact("clients", units::grouped(self.crowd.clients() as u64))
            .fact("topics", format!("{} of {} each", self.topics_each, self.topics))
            .fact("changes/s", self.changes.to_string())
            .fact("publications/s", self.rate.to_string())
            .fact("message", units::bytes(self.payload as u64))
            .fact("measured", format!("{:?}", self.duration));
        page
    }
}

impl Round {
    fn is_faultless(&self) -> bool {
        self.faults.is_clean() && self.closed.is_empty() && self.unanswered == 0
    }
}

impl Churn {
    fn show(&self, page: &mut Page) {
        page.section("Changes and deliveries").table(self.table());
        let deliveries = median_curve(self.rounds.iter().map(|round| &round.latency_curve_ns[..]));
        let changes = median_curve(self.rounds.iter().map(|round| &round.change_curve_ns[..]));
        let mut to_pong = latency(vec![("changes".to_owned(), changes)]);
        to_pong.title = "Time of a change by percentile".to_owned();
        to_pong.y.label = "from a new list to its pong".to_owned();
        page.section("Latency").plot(latency(vec![("deliveries".to_owned(), deliveries)])).plot(to_pong);
        let first = self.rounds.iter().take(1);
        let named: Vec<_> = first.map(|round| (format!("round {}", round.round), &round.timeline)).collect();
        page.section("Over time").plots(over_time(&named));
    }

    fn table(&self) -> Table {
        let mut table = Table::new(
            "Time from a new list to its pong, latency of deliveries, and faults",
            &[
                "round",
                "changes",
                "p50",
                "p99",
                "delivery p50",
                "p99",
                "p99.9",
                "published",
                "refused",
                "deliveries",
                "lost",
                "duplicated",
                "reordered",
                "garbled",
                "of left topics",
                "closed",
            ],
        );
        for round in &self.rounds {
            let (change, latency, faults) = (round.change, round.latency, round.faults);
            let mut row = vec![round.round.to_string(), units::grouped(round.changes)];
            row.extend(
                [change.p50_ns, change.p99_ns, latency.p50_ns, latency.p99_ns, latency.p999_ns]
                    .map(units::latency),
            );
            row.extend(
                [
                    round.published,
                    round.refused,
                    round.deliveries,
                    faults.lost,
                    faults.duplicated,
                    faults.reordered,
                    faults.garbled,
                    faults.misdelivered,
                    round.closed.values().sum(),
                ]
                .map(units::grouped),
            );
            table.row(row);
        }
        table
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for round in &self.rounds {
            let number = round.round;
            for (code, count) in &round.closed {
                remarks.push(format!("round {number}: the server closed {count} clients ({code})"));
            }
            if round.unanswered > 0 {
                remarks.push(format!("round {number}: {} changes got no pong", round.unanswered));
            }
            if round.generator_late_max_ns > round.latency.p999_ns.max(5_000_000) {
                remarks.push(format!(
                    "round {number}: THE GENERATOR WAS LATE ITSELF, by up to {}, which is in the latencies",
                    units::latency(round.generator_late_max_ns)
                ));
            }
        }
        let faulty = self.rounds.iter().filter(|round| !round.is_faultless()).count();
        remarks.push(match faulty {
            0 => "Nothing came of a topic after it was left, and everything of those kept and joined."
                .to_owned(),
            _ => format!("FAULTY: {faulty} of {} rounds", self.rounds.len()),
        });
        remarks
    }
}
