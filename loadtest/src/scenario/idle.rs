//! Clients that are connected and get nothing: what a connection costs in memory, and what all of them cost in
//! CPU time at rest.

use std::time::Instant;

use serde::Serialize;

use super::{Stage, Verdict, fresh_topic};
use crate::cli::IdleArgs;
use crate::error::{Error, Result};
use crate::generator::Plan;
use crate::machine::Machine;
use crate::message::{MESSAGE_MIN, Message};
use crate::report::{Document, Table, unknown};
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
    let machine = Machine::describe();
    let server = stage.target(&args.target).open()?;
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
    result.print(&machine);
    if let Some(path) = &args.crowd.json {
        Document::new(machine, result).write(path)?;
    }
    Ok(if faultless { Verdict::Faultless } else { Verdict::Faulty })
}

impl Idle {
    fn print(&self, machine: &Machine) {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(unknown, units::bytes);
        println!("machine: {}\n", machine.line());
        let mut table = Table::new(&[
            "clients",
            "RSS before",
            "connected",
            "B/connection",
            "idle CPU",
            "connects/s",
            "closed",
        ]);
        table.row(vec![
            units::grouped(self.clients as u64),
            bytes(self.before_bytes),
            bytes(self.connected_bytes),
            self.per_connection_bytes.map_or_else(unknown, |bytes| format!("{bytes:.0}")),
            self.cpu_share.map_or_else(unknown, |share| format!("{:.2} %", share * 100.0)),
            units::whole(self.connects_per_second),
            units::grouped(self.closed),
        ]);
        table.print();
        if self.cpu_share.is_none() {
            println!("\nno CPU and memory figures: the server's process is not known (--pid)");
        }
    }
}
