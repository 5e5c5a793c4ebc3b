//! Coming back with a position: clients of `fanfare.v1` follow one topic whose history is kept, a share of them vanish at
//! once, without a word, and come back, each asking for everything since the last message it had, while a publisher goes
//! on at a fixed rate. How soon all have what they missed, and what those who stayed notice of it. Everything published
//! is due to everybody, once and in order: what is sent while a client is away comes when it is back.

use clap::Args;
use serde::Serialize;

use super::returning::{self, Return, ReturningArgs};
use super::{Stage, Verdict, fresh_topic};
use crate::dialect::v1::Gaps;
use crate::error::Result;
use crate::figures::median;
use crate::generator::lives::{Outcome, Plan, Speech};
use crate::report::{Environment, Page, Table, unknown};
use crate::server::ledger::{Audit, Seen, ServerLedger};
use crate::server::{Server, TopicClass};
use crate::units;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest resume --server target/release/fanfare --pin --rounds 3
  loadtest resume --clients 2000 --vanish 50% --away 2s --rate 100 --server target/release/fanfare

The topic's history has to reach back to where a client was when it comes back: --rate x --payload x (--away and the time
until all are back) has to fit in 10,000 messages and 512 KiB, which is what a server started here keeps (to which each
message counts with 256 bytes more). One that runs already has to keep the history of topics that begin with `history.`, and to let clients in without registration.

Exit code 0: everybody got every message once and in order over its reconnection, and was told so (recovered). 1: something
was lost, duplicated or reordered, somebody was told of a gap, or did not come back. 2: it could not be measured.")]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    returning: ReturningArgs,
}

/// All rounds, and their medians.
#[derive(Debug, Serialize)]
struct Resume {
    clients: usize,
    vanishing: usize,
    rate: f64,
    payload_bytes: usize,
    rounds: Vec<Round>,
    /// Of those who stayed: during the storm over before it.
    median_p99_ratio: Option<f64>,
    /// From the moment they vanished until each had everything it missed.
    median_all_recovered_seconds: Option<f64>,
}

/// One round.
#[derive(Debug, Serialize)]
struct Round {
    #[serde(flatten)]
    returned: Return,
    /// How often who came back was told that everything it missed follows, and that it does not.
    recovered: u64,
    not_recovered: u64,
    /// How often one came back that had vanished before it was first told where the topic stands: nothing was due to it.
    without_position: u64,
    /// Subscriptions that were never answered.
    unanswered: u64,
    /// What clients were told they miss.
    told: Gaps,
    /// The server's own books; `None` if it keeps none.
    audit: Option<Audit>,
}

/// `loadtest resume`.
pub(crate) fn run(args: &ResumeArgs) -> Result<Verdict> {
    let returning = &args.returning;
    returning.check()?;
    let stage = Stage::set(&returning.crowd)?;
    let side = stage.target(&returning.target).with_classes();
    let environment = Environment::describe(returning.crowd.pin, std::slice::from_ref(&side));
    let mut page = args.page();
    returning.output.begin(&page, &environment)?;
    let mut rounds = Vec::new();
    for number in 1..=usize::from(returning.rounds) {
        stage.interrupt.check()?;
        rounds.push(resume(args, &stage, &side.open()?, number)?);
    }
    let result = Resume::new(args, rounds);
    let faultless = result.rounds.iter().all(Round::is_faultless);
    let verdict = if faultless { Verdict::Faultless } else { Verdict::Faulty };
    let shown: Vec<&Return> = result.rounds.iter().map(|round| &round.returned).collect();
    page.section("Recovery").table(result.recovery());
    returning::show(&shown, "all recovered", &mut page);
    page.conclude(verdict, result.remarks());
    returning.output.end(&page, &environment, &result)?;
    Ok(verdict)
}

fn resume(args: &ResumeArgs, stage: &Stage, server: &Server, number: usize) -> Result<Round> {
    let topic = TopicClass::History.topic(&fresh_topic());
    let plan = Plan { speech: Speech::Resuming, ..args.returning.plan(stage, server, topic) };
    let books = ServerLedger::read(server);
    let (returned, outcome) = args.returning.round(&plan, stage, server, (number, "all recovered"))?;
    Ok(Round {
        returned,
        recovered: outcome.recovered,
        not_recovered: outcome.not_recovered,
        without_position: outcome.without_position,
        unanswered: outcome.commands_unanswered,
        told: outcome.told.unwrap_or_default(),
        audit: books.and_then(|before| audit(server, before, &outcome)),
    })
}

/// Holds the server's books against what the clients saw. Who vanished has not read everything that was written to it.
fn audit(server: &Server, before: ServerLedger, outcome: &Outcome) -> Option<Audit> {
    let Outcome { deliveries, faults, told, .. } = outcome;
    let seen = Seen { received: *deliveries, lost: faults.lost, told: *told, is_everything: false };
    Audit::of(server, before, seen)
}

impl ResumeArgs {
    fn page(&self) -> Page {
        let mut page =
            Page::new("resume", "Clients vanish all at once and come back for everything they missed");
        self.returning.facts(&mut page, "in fanfare.v1, with the position they had");
        page
    }
}

impl Round {
    /// What is to be said about it besides.
    fn remarks(&self) -> Vec<String> {
        let number = self.returned.round;
        let mut remarks = Vec::new();
        if self.without_position > 0 {
            remarks.push(format!(
                "round {number}: {} clients vanished before they were first told where the topic stands; nothing was due to them",
                units::grouped(self.without_position)
            ));
        }
        if self.unanswered > 0 {
            let unanswered = units::grouped(self.unanswered);
            remarks.push(format!("round {number}: {unanswered} SUBSCRIPTIONS WERE NEVER ANSWERED"));
        }
        remarks
    }

    /// Everybody got everything over its reconnection, and everybody was told so.
    fn is_faultless(&self) -> bool {
        let agrees = self.audit.as_ref().is_none_or(|audit| audit.disagreement.is_none());
        let is_recovered = self.recovered + self.without_position == self.returned.back;
        let is_told = self.not_recovered == 0 && self.unanswered == 0 && self.told.missing() == 0;
        self.returned.is_faultless() && is_recovered && is_told && agrees
    }
}

impl Resume {
    fn new(args: &ResumeArgs, rounds: Vec<Round>) -> Self {
        let times: Option<Vec<f64>> = rounds.iter().map(|round| round.returned.all_served_seconds).collect();
        Self {
            clients: args.returning.crowd.clients(),
            vanishing: rounds.first().map_or(0, |round| round.returned.vanished as usize),
            rate: args.returning.rate,
            payload_bytes: args.returning.payload,
            median_p99_ratio: median(rounds.iter().map(|round| round.returned.p99_ratio)),
            median_all_recovered_seconds: times.and_then(|times| median(times.into_iter())),
            rounds,
        }
    }

    fn recovery(&self) -> Table {
        let mut table = Table::new(
            "What those who came back were told, and what everybody got over the whole round",
            &[
                "round",
                "vanished",
                "back",
                "recovered",
                "not recovered",
                "all recovered",
                "gaps",
                "told missing",
                "lost",
                "duplicated",
                "reordered",
                "garbled",
            ],
        );
        for Round { returned, recovered, not_recovered, told, .. } in &self.rounds {
            let faults = returned.faults;
            let mut row = vec![returned.round.to_string()];
            row.extend([returned.vanished, returned.back, *recovered, *not_recovered].map(units::grouped));
            let seconds = returned.all_served_seconds;
            row.push(seconds.map_or_else(unknown, |seconds| units::latency((seconds * 1e9) as u64)));
            row.extend(
                [told.gaps, told.missing(), faults.lost, faults.duplicated, faults.reordered, faults.garbled]
                    .map(units::grouped),
            );
            table.row(row);
        }
        table
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for round in &self.rounds {
            remarks.extend(round.returned.remarks());
            remarks.extend(round.remarks());
            if let Some(disagreement) = round.audit.as_ref().and_then(|audit| audit.disagreement.as_ref()) {
                let number = round.returned.round;
                remarks.push(format!(
                    "round {number}: THE SERVER'S LEDGER DISAGREES with its clients: {disagreement}"
                ));
            }
        }
        if let (Some(ratio), true) = (self.median_p99_ratio, self.rounds.len() > 1) {
            remarks.push(format!("p99 of those who stayed, during / before, median: {ratio:.2}"));
        }
        let faulty = self.rounds.iter().filter(|round| !round.is_faultless()).count();
        remarks.push(match faulty {
            0 => "Everybody got everything, once and in order; who came back, what it had missed too."
                .to_owned(),
            _ => format!("FAULTY: {faulty} of {} rounds", self.rounds.len()),
        });
        remarks
    }
}
