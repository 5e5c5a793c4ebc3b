//! Many topics, each client on some of them, and publications that go from topic to topic. The worst case for a server
//! that coalesces is `--interleave`: neighbouring publications are never on one topic. How much that costs is the
//! ratio to one topic with as many deliveries for each publication.

use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::alternation::{self, Contestant};
use super::{Stage, Verdict, fresh_topic};
use crate::args::{TargetArgs, WindowedArgs};
use crate::error::{Error, Result};
use crate::generator::{Order, Plan, Spread, Streams, Supply};
use crate::message::Message;
use crate::report::rounds::Rounds;
use crate::report::{Environment, Page};
use crate::server::Server;
use crate::units;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest topics --topics 1000 --per-client 10 --clients 5000 --server target/release/fanfare --pin
  loadtest topics --topics 100 --per-client 100 --interleave --server target/release/fanfare --pin --against one-topic
  loadtest topics --topics 1000 --per-client 20 --zipf 1.1 --window 256")]
pub(crate) struct TopicsArgs {
    #[command(flatten)]
    windowed: WindowedArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Topics there are
    #[arg(long, value_name = "M", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    topics: u32,
    /// Topics each client is on
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    per_client: u32,
    /// Topic number n is chosen with weight 1/n^S, by clients and by publishers [default: all alike]
    #[arg(long, value_name = "S", conflicts_with = "interleave", value_parser = exponent)]
    zipf: Option<f64>,
    /// Publish to one topic after the other, instead of drawing lots
    #[arg(long)]
    interleave: bool,
    /// Connections to publish over, each with topics of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    publishers: u16,
    /// Alternate with rounds of this on the same server, and give the ratio
    #[arg(long)]
    against: Option<AgainstTopics>,
}

/// What many topics can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum AgainstTopics {
    /// One topic, on it as many clients as a publication has on average; the others are connected and get nothing
    OneTopic,
}

/// What is found.
#[derive(Debug, Serialize)]
struct Topics {
    payload_bytes: usize,
    window: u64,
    topics: u32,
    topics_per_client: u32,
    zipf: Option<f64>,
    interleaved: bool,
    publishers: u16,
    /// On average, over the publications.
    deliveries_per_publication: f64,
    #[serde(flatten)]
    rounds: Rounds,
}

/// `loadtest topics`.
pub(crate) fn run(args: &TopicsArgs) -> Result<Verdict> {
    let WindowedArgs { load, window } = &args.windowed;
    alternation::check(load)?;
    if args.per_client > args.topics {
        let text =
            format!("--per-client {} is more than the {} topics there are", args.per_client, args.topics);
        return Err(Error::Usage(text));
    }
    let stage = Stage::set(&load.crowd)?;
    let message = Message::new(load.payload, Instant::now());
    let publishers = usize::from(args.publishers);
    let plan = |server: &Server, streams: Streams| Plan {
        address: server.address,
        dialect: server.dialect,
        streams: Arc::new(streams),
        split: stage.split,
        busy_poll: stage.busy_poll,
        message: message.clone(),
        supply: Some(Supply { publishers, ..Supply::window(*window) }),
        stalled: 0.0,
        patience: load.patience,
    };
    let audience = args.streams(load.crowd.clients()).mean_audience(load.crowd.clients());
    let many = |server: &Server| plan(server, args.streams(load.crowd.clients()));
    let one = |server: &Server| {
        let audience = (audience.round() as usize).max(1);
        plan(server, Streams::one_topic_of_some(fresh_topic(), load.crowd.clients(), audience, publishers))
    };
    let mut contestants =
        vec![Contestant { name: "target", side: stage.target(&args.target), plan: Box::new(many) }];
    if args.against.is_some() {
        let side = stage.target(&args.target);
        contestants.push(Contestant { name: "one topic", side, plan: Box::new(one) });
    }
    let environment = Environment::describe(load.crowd.pin, &alternation::sides(&contestants));
    let mut page = page(&stage, args, audience);
    load.output.begin(&page, &environment)?;
    let rounds = Rounds::new(alternation::alternate(&stage, load, &contestants)?);
    let result = Topics {
        payload_bytes: load.payload,
        window: *window,
        topics: args.topics,
        topics_per_client: args.per_client,
        zipf: args.zipf,
        interleaved: args.interleave,
        publishers: args.publishers,
        deliveries_per_publication: audience,
        rounds,
    };
    result.rounds.fill(&mut page, &format!("a window of {window}"));
    load.output.end(&page, &environment, &result)?;
    Ok(result.rounds.verdict())
}

impl TopicsArgs {
    fn streams(&self, clients: usize) -> Streams {
        let spread = Spread {
            topics: self.topics as usize,
            per_client: self.per_client as usize,
            zipf: self.zipf.unwrap_or(0.0),
            order: if self.interleave { Order::InTurn } else { Order::Drawn },
        };
        Streams::many_topics(&fresh_topic(), clients, &spread, self.publishers.into())
    }
}

fn page(stage: &Stage, args: &TopicsArgs, audience: f64) -> Page {
    let WindowedArgs { load, window } = &args.windowed;
    let order = match (args.interleave, args.zipf) {
        (true, _) => "in turn".to_owned(),
        (false, None) => "by lot, all alike".to_owned(),
        (false, Some(exponent)) => format!("by lot, Zipf {exponent}"),
    };
    let mut page =
        Page::new("topics", "Many topics, each client on some, at most a window of publications undelivered");
    page.fact("clients", units::grouped(load.crowd.clients() as u64))
        .fact("threads", stage.split.simulators())
        .fact("message", units::bytes(load.payload as u64))
        .fact("window", window.to_string())
        .fact("topics", units::grouped(args.topics.into()))
        .fact("per client", args.per_client.to_string())
        .fact("published to", order)
        .fact("deliveries per publication", format!("{audience:.1}"))
        .fact("measured", format!("{:?}", load.duration));
    page
}

fn exponent(text: &str) -> std::result::Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.0..=10.0).contains(&number) {
        Ok(number)
    } else {
        Err(format!("`{text}` must lie between 0 and 10"))
    }
}
