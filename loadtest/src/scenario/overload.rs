//! More than a server can deliver. First its capacity is measured with a window; then a multiple of that is offered,
//! whatever it answers: a publication is due at its time, and if everything its publishers may have under way is
//! unanswered, it is held back for good. So the whole of what is offered is accounted for: accepted, refused with 503,
//! or held back by a server that does not answer. Clients that read must not notice: they get everything that was
//! accepted, and none is closed.
//!
//! That is a promise about a server that is too slow for its publishers, not about an audience that is too slow for
//! its server. Where both share few cores, `--contend` leaves the server a part of its own, so that it is the limit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::alternation;
use super::{Stage, Verdict, fresh_topic, rate};
use crate::args::{LoadArgs, TargetArgs};
use crate::error::{Error, Result};
use crate::figures::Round;
use crate::generator::{Pace, Plan, Streams, Supply};
use crate::message::Message;
use crate::report::rounds::Rounds;
use crate::report::{Environment, Page, unknown};
use crate::round::{self, Timing};
use crate::server::Server;
use crate::server::contention::Contention;
use crate::units;

/// Publications undelivered at any time while the capacity is measured, and their bytes: fewer than a server may keep
/// for one client, so that nobody is slow.
const CAPACITY_WINDOW: usize = 32;
const CAPACITY_BYTES: usize = 512 * 1024;
/// How long that takes.
const CAPACITY_TIME: Duration = Duration::from_secs(3);
/// How much longer a server may take to deliver what it has accepted than it would at the rate of the window.
const DRAIN_SPARE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest overload --clients 200 --pin --contend 1 --server target/release/fanfare \\
    --server-args \"--listen {listen} --shards 1 --publish-wait 100ms\"
  loadtest overload --clients 200 --factor 10 --duration 30s --json run.json
  loadtest overload --clients 1000 --rate 500 --publishers 100 --ignore-retry-after false")]
pub(crate) struct OverloadArgs {
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Offer this many times what the server delivers with a small window
    #[arg(long, value_name = "X", default_value_t = 3.0, value_parser = factor)]
    factor: f64,
    /// Offer so many publications a second instead
    #[arg(long, value_name = "N", value_parser = rate::rate)]
    rate: Option<f64>,
    /// Connections to publish over
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    publishers: u16,
    /// Requests under way on each of them
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    under_way: u16,
    /// Go on offering at once after a 503, whatever the server asks for
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    ignore_retry_after: bool,
    /// Processes that compute on the server's core, so that it and not its audience is the limit; with --pin
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=16))]
    contend: u16,
}

/// What is found.
#[derive(Debug, Serialize)]
struct Overload {
    payload_bytes: usize,
    publishers: u16,
    under_way_each: u16,
    ignores_retry_after: bool,
    /// Processes that shared the server's core.
    contenders: u16,
    /// Publications a second with a window; one for each round, `None` if the rate was given.
    capacity_per_second: Vec<Option<f64>>,
    #[serde(flatten)]
    rounds: Rounds,
}

/// `loadtest overload`.
pub(crate) fn run(args: &OverloadArgs) -> Result<Verdict> {
    let load = &args.load;
    alternation::check(load)?;
    let stage = Stage::set(&load.crowd)?;
    let contention = match stage.server_core {
        Some(core) => Contention::start(core, args.contend)?,
        None if args.contend == 0 => Contention::default(),
        None => return Err(Error::Usage("--contend needs --pin: the server has to have a core".to_owned())),
    };
    let side = stage.target(&args.target);
    let environment = Environment::describe(load.crowd.pin, std::slice::from_ref(&side));
    let mut page = page(&stage, args);
    load.output.begin(&page, &environment)?;
    let (mut rounds, mut capacities) = (Vec::new(), Vec::new());
    for number in 1..=usize::from(load.rounds.unwrap_or(1)) {
        stage.interrupt.check()?;
        let server = side.open()?;
        let capacity = match args.rate {
            Some(_) => None,
            None => Some(args.capacity(&stage, &server)?),
        };
        rounds.push(args.overload(&stage, &server, capacity, number)?);
        capacities.push(capacity);
    }
    drop(contention);
    let result = Overload {
        payload_bytes: load.payload,
        publishers: args.publishers,
        under_way_each: args.under_way,
        ignores_retry_after: args.ignore_retry_after,
        contenders: args.contend,
        capacity_per_second: capacities,
        rounds: Rounds::new(rounds),
    };
    result.show(&mut page);
    load.output.end(&page, &environment, &result)?;
    Ok(result.rounds.verdict())
}

impl OverloadArgs {
    /// Publications a second that the server delivers to all clients.
    fn capacity(&self, stage: &Stage, server: &Server) -> Result<f64> {
        let streams = Streams::one_topic(fresh_topic(), 1);
        let window = (CAPACITY_BYTES / self.load.payload).clamp(1, CAPACITY_WINDOW);
        let plan = self.plan(stage, server, streams, Supply::window(window as u64));
        let timing = Timing { duration: CAPACITY_TIME, ..self.timing() };
        let round = round::fan_out(&plan, timing, server, ("capacity", 1), &stage.interrupt)?;
        if !round.is_faultless() {
            let Round { faults, closed, stuck, .. } = round;
            let text = format!("closed {closed:?}, given up {stuck}, {faults:?}");
            return Err(Error::Failed(format!("the server is faulty without any overload: {text}")));
        }
        let per_second = round.deliveries_per_second / self.load.crowd.clients() as f64;
        if per_second > 0.0 {
            return Ok(per_second);
        }
        Err(Error::Failed(format!("the server delivered no publication within {CAPACITY_TIME:?}")))
    }

    fn overload(
        &self,
        stage: &Stage,
        server: &Server,
        capacity: Option<f64>,
        number: usize,
    ) -> Result<Round> {
        let offered = self.rate.or_else(|| capacity.map(|capacity| capacity * self.factor));
        let (publishers, under_way) = (usize::from(self.publishers), usize::from(self.under_way));
        let supply =
            Supply { pace: Pace::Open(offered), publishers, obeys_retry_after: !self.ignore_retry_after };
        let streams = Streams::side_by_side(fresh_topic(), publishers, under_way);
        let plan = self.plan(stage, server, streams, supply);
        round::fan_out(&plan, self.timing(), server, ("target", number), &stage.interrupt)
    }

    fn plan(&self, stage: &Stage, server: &Server, streams: Streams, supply: Supply) -> Plan {
        Plan {
            address: server.address,
            dialect: server.dialect,
            streams: Arc::new(streams),
            split: stage.split,
            busy_poll: stage.busy_poll,
            message: Message::new(self.load.payload, Instant::now()),
            supply: Some(supply),
            stalled: 0.0,
            patience: self.load.patience,
        }
    }

    fn timing(&self) -> Timing {
        Timing {
            settle: self.load.settle,
            warm_up: self.load.warm_up,
            duration: self.load.duration,
            stall_after: Duration::ZERO,
            patience: DRAIN_SPARE,
        }
    }
}

impl Overload {
    fn show(&self, page: &mut Page) {
        let section = page.section("Overload");
        section.table(self.rounds.supply_table());
        for (round, capacity) in self.rounds.rounds.iter().zip(&self.capacity_per_second) {
            section.text(describe(round, *capacity));
        }
        self.rounds.fill(page, "what is offered");
    }
}

/// A round in words.
fn describe(round: &Round, capacity: Option<f64>) -> String {
    let Some(supply) = round.supply else { return String::new() };
    let per_second = |figure: f64| format!("{figure:.1}");
    let due = supply.intended_per_second.map_or_else(unknown, per_second);
    let times = capacity.map_or_else(String::new, |capacity| {
        let factor = supply.intended_per_second.unwrap_or_default() / capacity;
        format!(", {factor:.1} times the {capacity:.1} it delivers with a window")
    });
    let delivered = round.deliveries_per_second / round.clients as f64;
    let beyond = match delivered > 0.0 {
        true => format!("{:.1} times", supply.offered_per_second / delivered),
        false => unknown(),
    };
    let peak = round.memory.and_then(|memory| memory.peak_bytes).map_or_else(unknown, units::bytes);
    let all = match round.closed.is_empty() && !round.stuck && round.faults.is_clean() {
        true => "Every client got all it accepted",
        false => "NOT EVERY CLIENT got all it accepted",
    };
    let refusals = match supply.refused_per_second > 0.0 {
        true => "",
        false => " It refused nothing: what it had not delivered was under way; offer more, or for longer.",
    };
    format!(
        "{} {}: {due} publications a second were due{times}. {:.1} were offered, {beyond} the {delivered:.1} it \
         delivered to everybody meanwhile; {:.1} accepted, {:.1} refused with 503, {:.1} held back, as everything under way \
         was unanswered.{refusals} {all}, the last {:.1} s after the window. Its RSS was {peak} at most.",
        round.server,
        round.round,
        supply.offered_per_second,
        supply.accepted_per_second,
        supply.refused_per_second,
        supply.held_per_second,
        round.drain_seconds,
    )
}

fn page(stage: &Stage, args: &OverloadArgs) -> Page {
    let offered = match args.rate {
        Some(rate) => format!("{rate}/s"),
        None => format!("{} × capacity", args.factor),
    };
    let mut page =
        Page::new("overload", "More than the server can deliver, and what becomes of those who read");
    page.fact("clients", units::grouped(args.load.crowd.clients() as u64))
        .fact("threads", stage.split.simulators())
        .fact("message", units::bytes(args.load.payload as u64))
        .fact("offered", offered)
        .fact("publishers", format!("{} × {}", args.publishers, args.under_way))
        .fact("contending for the server's core", args.contend.to_string())
        .fact("Retry-After", if args.ignore_retry_after { "ignored" } else { "honoured" })
        .fact("measured", format!("{:?}", args.load.duration));
    page
}

fn factor(text: &str) -> std::result::Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.1..=1_000.0).contains(&number) {
        Ok(number)
    } else {
        Err(format!("`{text}` must lie between 0.1 and 1000"))
    }
}
