//! How figures are shown: a table for people, JSON for everything else.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::error::{Context, Error, Result};
use crate::figures::{Limit, Medians, Ratio, Round};
use crate::machine::Machine;
use crate::units;

/// Text in columns: the first aligned to the left, all others to the right.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn print(&self) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
}

/// Everything a published figure has to keep: what was run, where, and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Document<R: Serialize> {
    harness: &'static str,
    version: &'static str,
    command: Vec<String>,
    unix_seconds: u64,
    machine: Machine,
    pub(crate) result: R,
}

impl<R: Serialize> Document<R> {
    pub(crate) fn new(machine: Machine, result: R) -> Self {
        Self {
            harness: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            command: std::env::args().collect(),
            unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            machine,
            result,
        }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::Failed(error.to_string()))?;
        std::fs::write(path, text + "\n").context(|| format!("cannot write {}", path.display()))
    }
}

/// All rounds of a fan-out, their medians and the ratio to the floor.
#[derive(Debug, Serialize)]
pub(crate) struct FanOut {
    pub(crate) payload_bytes: usize,
    pub(crate) window: u64,
    pub(crate) rounds: Vec<Round>,
    pub(crate) target: Option<Medians>,
    pub(crate) floor: Option<Medians>,
    pub(crate) ratio: Option<Ratio>,
}

impl FanOut {
    /// Adds medians and, if both sides were measured, the ratio.
    pub(crate) fn new(payload_bytes: usize, window: u64, rounds: Vec<Round>) -> Self {
        let side = |name: &str| rounds.iter().filter(|round| round.server == name).collect::<Vec<_>>();
        let (targets, floors) = (side("target"), side("floor"));
        let pairs: Vec<_> = targets.iter().copied().zip(floors.iter().copied()).collect();
        let (target, floor, ratio) = (Medians::of(&targets), Medians::of(&floors), Ratio::of(&pairs));
        Self { payload_bytes, window, rounds, target, floor, ratio }
    }

    /// Prints the table and what is to be said about it.
    pub(crate) fn print(&self) {
        self.print_speed();
        println!();
        self.print_care();
        if let Some(ratio) = self.ratio {
            self.print_ratio(ratio);
        }
        println!();
        self.remarks().iter().for_each(|remark| println!("{remark}"));
    }

    fn print_speed(&self) {
        let mut table = Table::new(&[
            "round",
            "deliveries/s",
            "server CPU",
            "generator CPU",
            "CPU ns/delivery",
            "user",
            "system",
            "msgs/read",
            "p50",
            "p99",
            "p99.9",
            "max",
        ]);
        for round in &self.rounds {
            let mut row =
                vec![format!("{} {}", round.server, round.round), units::whole(round.deliveries_per_second)];
            row.push(round.cpu.map_or_else(unknown, |cpu| percent(cpu.share)));
            row.push(round.generator_share.map_or_else(unknown, percent));
            row.extend(round.cpu.map_or_else(unknown_cpu, |cpu| {
                [cpu.ns_per_delivery(), cpu.user_ns_per_delivery, cpu.system_ns_per_delivery].map(nanoseconds)
            }));
            row.push(format!("{:.1}", round.messages_per_read));
            let latency = round.latency;
            row.extend([latency.p50_ns, latency.p99_ns, latency.p999_ns, latency.max_ns].map(units::latency));
            table.row(row);
        }
        for (name, medians) in [("target", self.target), ("floor", self.floor)] {
            let Some(medians) = medians.filter(|medians| medians.rounds > 1) else { continue };
            let mut row = vec![format!("{name}, median"), units::whole(medians.deliveries_per_second)];
            row.push(medians.cpu.map_or_else(unknown, |cpu| percent(cpu.share)));
            row.push(String::new());
            row.extend(medians.cpu.map_or_else(unknown_cpu, |cpu| {
                let total = medians.ns_per_delivery.unwrap_or_default();
                [total, cpu.user_ns_per_delivery, cpu.system_ns_per_delivery].map(nanoseconds)
            }));
            row.push(format!("{:.1}", medians.messages_per_read));
            row.extend([medians.p50_ns, medians.p99_ns, medians.p999_ns].map(|ns| units::latency(ns as u64)));
            table.row(row);
        }
        table.print();
    }

    /// The second table: whether everything arrived, and what it took besides CPU time.
    fn print_care(&self) {
        let mut table = Table::new(&[
            "round",
            "published",
            "refused",
            "lost",
            "duplicated",
            "reordered",
            "garbled",
            "closed",
            "RSS before",
            "connected",
            "end",
            "B/connection",
            "connects/s",
        ]);
        for round in &self.rounds {
            let faults = round.faults;
            let closed: u64 = round.closed.values().sum();
            let mut row = vec![format!("{} {}", round.server, round.round)];
            row.extend(
                [
                    round.published,
                    round.refused,
                    faults.lost,
                    faults.duplicated,
                    faults.reordered,
                    faults.garbled,
                    closed,
                ]
                .map(units::grouped),
            );
            row.extend(match round.memory {
                Some(memory) => [
                    units::bytes(memory.before_bytes),
                    units::bytes(memory.connected_bytes),
                    units::bytes(memory.end_bytes),
                    format!("{:.0}", memory.per_connection_bytes),
                ],
                None => [unknown(), unknown(), unknown(), unknown()],
            });
            row.push(units::whole(round.connects_per_second));
            table.row(row);
        }
        table.print();
    }

    fn print_ratio(&self, ratio: Ratio) {
        let (low, high) = ratio.deliveries_range;
        let cpu = ratio.ns_per_delivery.map_or_else(unknown, |cpu| format!("{cpu:.3}"));
        println!();
        println!(
            "target / floor, median of paired rounds:  deliveries/s {:.3} ({low:.3} to {high:.3}),  CPU ns/delivery {cpu}",
            ratio.deliveries_per_second
        );
    }

    /// What a reader of the tables must not overlook.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for round in &self.rounds {
            let name = format!("{} {}", round.server, round.round);
            remarks.extend(limit_remark(&name, round, self.window));
            if round.stuck {
                remarks.push(format!("{name}: GIVEN UP, publications stopped reaching everybody"));
            }
            for (code, count) in &round.closed {
                remarks.push(format!("{name}: the server closed {count} reading clients ({code})"));
            }
            if round.stalled > 0 {
                remarks.push(stalled_remark(&name, round));
            }
        }
        let faulty = self.rounds.iter().filter(|round| !round.is_faultless()).count();
        remarks.push(match faulty {
            0 => "Every reading client got every message once and in order.".to_owned(),
            _ => format!("FAULTY: {faulty} of {} rounds", self.rounds.len()),
        });
        remarks
    }
}

/// Says when the throughput is not the server's own.
fn limit_remark(name: &str, round: &Round, window: u64) -> Option<String> {
    let used = round.cpu.map_or_else(unknown, |cpu| percent(cpu.share));
    let text = match round.limit() {
        None => "no CPU figures, the server's process is not known (--pid)".to_owned(),
        Some(Limit::Server) => return None,
        Some(Limit::Machine) => {
            let [server, generator] = [round.core_wait_share, round.generator_wait_share]
                .map(|share| share.map_or_else(unknown, percent));
            format!(
                "THE MACHINE WAS THE LIMIT: the server got {used} of a core; it waited {server} of the time for one, \
                 and the generator {generator}"
            )
        }
        Some(Limit::Generator) => {
            format!("THE GENERATOR WAS THE LIMIT, not the server, which used {used} of a core")
        }
        Some(Limit::Window) => format!(
            "the server was not the limit: it used {used} of a core; a window of {window} over {} clients keeps \
             neither side busy",
            round.clients
        ),
    };
    Some(format!("{name}: {text}"))
}

fn stalled_remark(name: &str, round: &Round) -> String {
    let mut text = format!("{name}: {} clients stopped reading", round.stalled);
    if let Some(memory) = round.memory {
        let grown = memory.end_bytes.saturating_sub(memory.connected_bytes);
        text += &format!("; the server's RSS grew by {} since all were connected", units::bytes(grown));
    }
    if let Some(descriptors) = round.descriptors {
        let closed = descriptors.connected.saturating_sub(descriptors.end);
        text += &format!("; it closed {closed} connections");
    }
    text
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

pub(crate) fn unknown() -> String {
    "?".to_owned()
}

fn unknown_cpu() -> [String; 3] {
    [unknown(), unknown(), unknown()]
}

fn nanoseconds(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { units::whole(value) }
}
