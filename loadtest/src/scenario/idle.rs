//! Clients that are connected and get nothing: what a connection costs in memory, and what all of them cost in
//! CPU time at rest.

use std::time::Instant;

use serde::Serialize;

use super::{Stage, Verdict, fresh_topic};
use crate::cli::IdleArgs;
use crate::error::{Error, Result};
use crate::generator::Plan;
use crate::message::{MESSAGE_MIN, Message};
use crate::report::{Environment, Page, Table, unknown};
use crate::round::Audience;
use crate::units;

/// What is found; all about the server.
#[derive(Debug, Serialize)]
struct Idle {
    clients: usize,
    connects_per_second: f64,
    before_bytes: Option<u64>,
    connected_bytes: Option<u64>,
    per_connection_bytes: Option<f64>,
    seconds: f64,
    /// Share of one core.
    cpu_share: Option<f64>,
    /// Connections the server ended meanwhile.
    closed: u64,
}

/// `loadtest idle`.
pub(crate) fn run(args: &IdleArgs) -> Result<Verdict> {
    if args.duration.is_zero() {
        return Err(Error::Usage("--duration must be longer than nothing".to_owned()));
    }
    let stage = Stage::set(&args.crowd)?;
    let side = stage.target(&args.target);
    let environment = Environment::describe(args.crowd.pin, std::slice::from_ref(&side));
    let mut page = Page::new("idle", "Connected clients and nothing published: what they cost at rest");
    page.fact("clients", units::grouped(args.crowd.clients as u64))
        .fact("watched", format!("{:?}", args.duration));
    args.output.begin(&page, &environment)?;
    let server = side.open()?;
    let plan = Plan {
        address: server.address,
        topic: fresh_topic(),
        clients: args.crowd.clients,
        threads: stage.threads,
        message: Message::new(MESSAGE_MIN, Instant::now()),
        window: None,
        stalled: 0.0,
        patience: args.duration,
    };
    let audience = Audience::gather(&plan, &server, args.settle, &stage.interrupt)?;
    let window = audience.rest(args.duration)?;
    let (before_bytes, connected_bytes) = (audience.before_bytes, audience.connected_bytes);
    let connects_per_second = audience.connects_per_second;
    let outcome = audience.finish()?;
    let per_connection =
        |before: u64, connected: u64| (connected as f64 - before as f64) / args.crowd.clients as f64;
    let result = Idle {
        clients: args.crowd.clients,
        connects_per_second,
        before_bytes,
        connected_bytes,
        per_connection_bytes: before_bytes
            .zip(connected_bytes)
            .map(|(before, after)| per_connection(before, after)),
        seconds: window.seconds,
        cpu_share: window.server_cpu().map(|cpu| cpu.share),
        closed: outcome.closed.values().sum(),
    };
    let faultless = result.closed == 0 && outcome.faults.is_clean();
    let verdict = if faultless { Verdict::Faultless } else { Verdict::Faulty };
    page.section("Memory and CPU time").table(result.table());
    page.conclude(verdict, result.remarks());
    args.output.end(&page, &environment, &result)?;
    Ok(verdict)
}

impl Idle {
    fn table(&self) -> Table {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(unknown, units::bytes);
        let mut table = Table::new(
            "The server's memory and CPU time with all clients connected",
            &["clients", "RSS before", "connected", "B/connection", "idle CPU", "connects/s", "closed"],
        );
        table.row(vec![
            units::grouped(self.clients as u64),
            bytes(self.before_bytes),
            bytes(self.connected_bytes),
            self.per_connection_bytes.map_or_else(unknown, |bytes| format!("{bytes:.0}")),
            self.cpu_share.map_or_else(unknown, |share| format!("{:.2} %", share * 100.0)),
            units::whole(self.connects_per_second),
            units::grouped(self.closed),
        ]);
        table
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.cpu_share.is_none() {
            remarks.push("no CPU and memory figures: the server's process is not known (--pid)".to_owned());
        }
        remarks.push(match self.closed {
            0 => "Every client stayed connected and got nothing.".to_owned(),
            closed => format!("FAULTY: the server ended {closed} connections"),
        });
        remarks
    }
}
