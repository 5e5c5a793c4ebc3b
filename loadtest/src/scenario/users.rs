//! Messages for one user each. Everybody is on one topic, several clients belong to each user, and every publication
//! names one user: all clients of that user have to get it, and a client of anybody else that does is a fault.

use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::alternation::{self, Contestant};
use super::{Stage, Verdict, fresh_topic};
use crate::args::{TargetArgs, WindowedArgs};
use crate::dialect::{Dialect, Publishing};
use crate::error::{Error, Result};
use crate::generator::{Plan, Streams, Supply};
use crate::message::Message;
use crate::report::rounds::Rounds;
use crate::report::{Environment, Page};
use crate::server::Server;
use crate::units;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  loadtest users --clients 5000 --per-user 5 --server target/release/fanfare --pin
  loadtest users --clients 1000 --per-user 1 --window 256 --body json")]
pub(crate) struct UsersArgs {
    #[command(flatten)]
    windowed: WindowedArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Clients of each user
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    per_user: u32,
    /// How the user is named to the server
    #[arg(long, value_enum, default_value_t = Body::Raw)]
    body: Body,
    /// Connections to publish over, each with users of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    publishers: u16,
}

/// The form of a publish call.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Body {
    /// POST /publish/{topic}?user_id=, and the body is the message
    Raw,
    /// POST /publish, and the body is an object
    Json,
}

/// What is found.
#[derive(Debug, Serialize)]
struct Users {
    payload_bytes: usize,
    window: u64,
    users: usize,
    clients_per_user: u32,
    body: Body,
    publishers: u16,
    #[serde(flatten)]
    rounds: Rounds,
}

/// `loadtest users`.
pub(crate) fn run(args: &UsersArgs) -> Result<Verdict> {
    let WindowedArgs { load, window } = &args.windowed;
    alternation::check(load)?;
    let (clients, per_user) = (load.crowd.clients(), args.per_user as usize);
    if per_user > clients {
        return Err(Error::Usage(format!(
            "--per-user {per_user} is more than the {clients} clients there are"
        )));
    }
    let stage = Stage::set(&load.crowd)?;
    let message = Message::new(load.payload, Instant::now());
    let publishers = usize::from(args.publishers);
    let plan = |server: &Server| Plan {
        address: server.address,
        dialect: match args.body {
            Body::Raw => server.dialect,
            Body::Json => Dialect { publishing: Publishing::JsonPost, ..server.dialect },
        },
        streams: Arc::new(Streams::users(fresh_topic(), clients, per_user, publishers)),
        split: stage.split,
        busy_poll: stage.busy_poll,
        message: message.clone(),
        supply: Some(Supply { publishers, ..Supply::window(*window) }),
        stalled: 0.0,
        patience: load.patience,
    };
    let contestants = [Contestant { name: "target", side: stage.target(&args.target), plan: Box::new(plan) }];
    let environment = Environment::describe(load.crowd.pin, &alternation::sides(&contestants));
    let users = clients.div_ceil(per_user);
    let mut page = Page::new("users", "Messages for one user each, checked at everybody");
    page.fact("clients", units::grouped(clients as u64))
        .fact("users", units::grouped(users as u64))
        .fact("threads", stage.split.simulators())
        .fact("message", units::bytes(load.payload as u64))
        .fact("window", window.to_string())
        .fact("measured", format!("{:?}", load.duration));
    load.output.begin(&page, &environment)?;
    let rounds = Rounds::new(alternation::alternate(&stage, load, &contestants)?);
    let result = Users {
        payload_bytes: load.payload,
        window: *window,
        users,
        clients_per_user: args.per_user,
        body: args.body,
        publishers: args.publishers,
        rounds,
    };
    result.rounds.fill(&mut page, &format!("a window of {window}"));
    load.output.end(&page, &environment, &result)?;
    Ok(result.rounds.verdict())
}
