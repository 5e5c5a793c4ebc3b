//! A fixed rate of publications. Each has a time at which it is to leave, fixed beforehand, which travels in the
//! message: whatever makes it wait, in the publisher too, is part of its latency, and a server that stops for a second
//! is charged for all that should have been published in that second.

use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::alternation::{self, Contestant};
use super::{Stage, Verdict, fresh_topic};
use crate::args::{Against, LoadArgs, TargetArgs};
use crate::error::Result;
use crate::generator::{Pace, Plan, Streams, Supply};
use crate::message::Message;
use crate::report::rounds::Rounds;
use crate::report::{Environment, Page};
use crate::server::{Server, Side};
use crate::units;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest rate --rate 100 --clients 5000 --server target/release/fanfare --pin
  loadtest rate --rate 200 --server target/release/fanfare --pin --against floor --rounds 5
  loadtest rate --rate 5000 --publishers 4 --clients 100 --duration 30s --json run.json")]
pub(crate) struct RateArgs {
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Publications a second, of all publishers together
    #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = rate)]
    rate: f64,
    /// Connections to publish over, taking turns; the order is checked for each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    publishers: u16,
    /// Alternate with rounds against this, and give the ratio
    #[arg(long)]
    against: Option<Against>,
}

/// What is found.
#[derive(Debug, Serialize)]
struct Rate {
    payload_bytes: usize,
    rate_per_second: f64,
    publishers: u16,
    #[serde(flatten)]
    rounds: Rounds,
}

/// `loadtest rate`.
pub(crate) fn run(args: &RateArgs) -> Result<Verdict> {
    let load = &args.load;
    alternation::check(load)?;
    let stage = Stage::set(&load.crowd)?;
    let message = Message::new(load.payload, Instant::now());
    let plan = |server: &Server| Plan {
        address: server.address,
        dialect: server.dialect,
        streams: Arc::new(Streams::one_topic(fresh_topic(), args.publishers.into())),
        split: stage.split,
        busy_poll: stage.busy_poll,
        message: message.clone(),
        supply: Some(Supply {
            pace: Pace::Rate(args.rate),
            publishers: args.publishers.into(),
            obeys_retry_after: true,
        }),
        stalled: 0.0,
        patience: load.patience,
    };
    let mut contestants =
        vec![Contestant { name: "target", side: stage.target(&args.target), plan: Box::new(plan) }];
    if args.against.is_some() {
        let side = Side::Floor { core: stage.server_core };
        contestants.push(Contestant { name: "floor", side, plan: Box::new(plan) });
    }
    let environment = Environment::describe(load.crowd.pin, &alternation::sides(&contestants));
    let mut page = page(&stage, args);
    load.output.begin(&page, &environment)?;
    let rounds = Rounds::new(alternation::alternate(&stage, load, &contestants)?);
    let result =
        Rate { payload_bytes: load.payload, rate_per_second: args.rate, publishers: args.publishers, rounds };
    page.section("Publishing").table(result.rounds.supply_table());
    result.rounds.fill(&mut page, &format!("a rate of {} a second", args.rate));
    load.output.end(&page, &environment, &result)?;
    Ok(result.rounds.verdict())
}

fn page(stage: &Stage, args: &RateArgs) -> Page {
    let mut page = Page::new("rate", "A fixed rate of publications, latency from when each was to leave");
    page.fact("clients", units::grouped(args.load.crowd.clients() as u64))
        .fact("threads", stage.split.simulators())
        .fact("message", units::bytes(args.load.payload as u64))
        .fact("rate", format!("{}/s", args.rate))
        .fact("publishers", args.publishers.to_string())
        .fact("measured", format!("{:?}", args.load.duration));
    page
}

/// Reads a rate: more than nothing, at most a million a second.
pub(super) fn rate(text: &str) -> std::result::Result<f64, String> {
    let number: f64 =
        text.replace(['_', ','], "").parse().map_err(|_| format!("`{text}` is not a number"))?;
    if !(0.1..=1e6).contains(&number) {
        return Err(format!("`{text}` must lie between 0.1 and 1,000,000 a second"));
    }
    Ok(number)
}
