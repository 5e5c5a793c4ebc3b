//! Fan-out: everybody on one topic, and a publisher that keeps at most a window of publications undelivered.
//! With a window of one nothing can be coalesced; with more, what is waiting can. Rounds alternate between the
//! target and the floor, since a figure on a shared machine means something only beside another of the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::scaling::{Scaling, Step};
use super::{Stage, Verdict, fresh_topic};
use crate::args::{Against, LoadArgs, TargetArgs, WindowedArgs};
use crate::error::{Error, Result};
use crate::generator::{Plan, Streams, Supply};
use crate::message::Message;
use crate::report::rounds::Rounds;
use crate::report::{Environment, Page};
use crate::round::{self, Timing};
use crate::server::Side;
use crate::units::{self, parse_duration, parse_share};

const ROUNDS_ALONE: u16 = 1;
const ROUNDS_AGAINST: u16 = 3;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest fanout --clients 5000 --window 32
  loadtest fanout --server target/release/fanfare --pin --against floor --rounds 5
  loadtest fanout --clients 2000 --window 256 --stalled 1% --json run.json")]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    windowed: WindowedArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Alternate with rounds against this, and give the ratio
    #[arg(long)]
    against: Option<Against>,
    /// Stop reading, for good, at this share of the clients
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = parse_share)]
    stalled: f64,
    /// When they stop, counted from the beginning of the measured window
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    stall_after: Duration,
}

/// What is found: for one number of clients all rounds, for a list the rounds of each.
#[derive(Debug, Serialize)]
struct FanOut {
    payload_bytes: usize,
    window: u64,
    #[serde(flatten)]
    found: Found,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Found {
    One(Box<Rounds>),
    Each(Scaling),
}

/// `loadtest fanout`.
pub(crate) fn run(args: &FanoutArgs) -> Result<Verdict> {
    let stage = Stage::set_for_list(&args.windowed.load.crowd)?;
    let mut sides = vec![stage.target(&args.target)];
    if args.against.is_some() {
        sides.push(Side::Floor { core: stage.server_core });
    }
    run_against(&stage, &args.windowed, &sides, args.stalled, timing(&args.windowed.load, args.stall_after))
}

/// `loadtest floor`.
pub(crate) fn run_floor(args: &WindowedArgs) -> Result<Verdict> {
    let stage = Stage::set_for_list(&args.load.crowd)?;
    let sides = [Side::Floor { core: stage.server_core }];
    run_against(&stage, args, &sides, 0.0, timing(&args.load, std::time::Duration::ZERO))
}

fn timing(load: &LoadArgs, stall_after: std::time::Duration) -> Timing {
    Timing {
        settle: load.settle,
        warm_up: load.warm_up,
        duration: load.duration,
        stall_after,
        patience: load.patience,
    }
}

fn run_against(
    stage: &Stage,
    windowed: &WindowedArgs,
    sides: &[Side],
    stalled: f64,
    timing: Timing,
) -> Result<Verdict> {
    let WindowedArgs { load, window } = windowed;
    if load.duration.is_zero() {
        return Err(Error::Usage("--duration must be longer than nothing".to_owned()));
    }
    let environment = Environment::describe(load.crowd.pin, sides);
    let mut page = page(stage, windowed, stalled);
    load.output.begin(&page, &environment)?;
    let under_way = format!("a window of {window}");
    let mut steps = Vec::new();
    for &clients in &load.crowd.counts {
        let rounds = alternate(stage, windowed, sides, (clients, stalled), timing)?;
        steps.push(Step { clients, rounds });
    }
    let (found, verdict) = match <[Step; 1]>::try_from(steps) {
        Ok([Step { rounds, .. }]) => {
            rounds.fill(&mut page, &under_way);
            let verdict = rounds.verdict();
            (Found::One(Box::new(rounds)), verdict)
        }
        Err(steps) => {
            let scaling = Scaling::new(steps);
            let verdict = scaling.fill(&mut page, &under_way);
            (Found::Each(scaling), verdict)
        }
    };
    let result = FanOut { payload_bytes: load.payload, window: *window, found };
    load.output.end(&page, &environment, &result)?;
    Ok(verdict)
}

/// All rounds with so many clients and so large a share of them stalling.
fn alternate(
    stage: &Stage,
    WindowedArgs { load, window }: &WindowedArgs,
    sides: &[Side],
    (clients, stalled): (usize, f64),
    timing: Timing,
) -> Result<Rounds> {
    let message = Message::new(load.payload, Instant::now());
    let default = if sides.len() > 1 { ROUNDS_AGAINST } else { ROUNDS_ALONE };
    let mut rounds = Vec::new();
    let count = usize::from(load.rounds.unwrap_or(default));
    for number in 1..=count {
        for side in sides {
            stage.interrupt.check()?;
            stage.interrupt.progress.round(side.name(), number, count);
            let server = side.open()?;
            let plan = Plan {
                address: server.address,
                dialect: server.dialect,
                streams: Arc::new(Streams::one_topic(fresh_topic(), 1)),
                split: stage.split.with_clients(clients),
                busy_poll: stage.busy_poll,
                message: message.clone(),
                supply: Some(Supply::window(*window)),
                stalled,
                patience: load.patience,
            };
            rounds.push(round::fan_out(&plan, timing, &server, (side.name(), number), &stage.interrupt)?);
        }
    }
    Ok(Rounds::new(rounds))
}

fn page(stage: &Stage, windowed: &WindowedArgs, stalled: f64) -> Page {
    let WindowedArgs { load, window } = windowed;
    let mut page =
        Page::new("fanout", "One topic, everybody on it, at most a window of publications undelivered");
    let counts: Vec<String> = load.crowd.counts.iter().map(|&count| units::grouped(count as u64)).collect();
    page.fact("clients", counts.join(" / "))
        .fact("threads", stage.split.simulators())
        .fact("message", units::bytes(load.payload as u64))
        .fact("window", window.to_string())
        .fact("measured", format!("{:?}", load.duration));
    if stalled > 0.0 {
        page.fact("stalled", format!("{} %", stalled * 100.0));
    }
    page
}
