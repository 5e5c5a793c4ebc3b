//! Rounds against one or two servers, as most scenarios have them: medians, ratio, the tables that show them, and what
//! is to be said about them. A scenario embeds [`Rounds`] in its result and lets it fill the page.

use serde::Serialize;

use super::plots::{latency, over_time};
use super::{Axis, Dot, Dots, Lines, Page, Table, Unit, audit, supply, unknown};
use crate::figures::{Limit, Medians, Ratio, Round, median_curve};
use crate::units;
use crate::verdict::Verdict;

/// All rounds, their medians, and the ratio to what the target is compared with.
#[derive(Debug, Serialize)]
pub(crate) struct Rounds {
    pub(crate) rounds: Vec<Round>,
    pub(crate) target: Option<Medians>,
    /// What the target is compared with, such as the floor.
    pub(crate) reference_name: Option<&'static str>,
    pub(crate) reference: Option<Medians>,
    pub(crate) ratio: Option<Ratio>,
}

impl Rounds {
    /// Adds medians and, if both sides were measured, the ratio.
    pub(crate) fn new(rounds: Vec<Round>) -> Self {
        let side = |name: &str| rounds.iter().filter(|round| round.server == name).collect::<Vec<_>>();
        let reference_name = rounds.iter().map(|round| round.server).find(|&name| name != "target");
        let (targets, others) = (side("target"), side(reference_name.unwrap_or_default()));
        let pairs: Vec<_> = targets.iter().copied().zip(others.iter().copied()).collect();
        let (target, reference, ratio) = (Medians::of(&targets), Medians::of(&others), Ratio::of(&pairs));
        Self { rounds, target, reference_name, reference, ratio }
    }

    /// Whether every reading client of every round got everything.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.rounds.iter().all(Round::is_faultless) {
            true => Verdict::Faultless,
            false => Verdict::Faulty,
        }
    }

    /// Adds all tables and plots, and concludes. `under_way` says what bounds the publications under way, such as `a
    /// window of 32`.
    pub(crate) fn fill(&self, page: &mut Page, under_way: &str) {
        self.headlines(page);
        self.fill_tables(page, "");
        page.section("Latency").plot(self.latency_plot());
        let over_time = page.section("Over time");
        for plot in self.over_time_plots() {
            over_time.plot(plot);
        }
        page.conclude(self.verdict(), self.remarks(under_way));
    }

    /// Adds the tables, their headings beginning with `prefix`.
    pub(crate) fn fill_tables(&self, page: &mut Page, prefix: &str) {
        let speed = page.section(heading(prefix, "Speed"));
        speed.is_printed = !prefix.is_empty();
        speed.table(self.speed_table());
        if let Some(ratio) = self.ratio {
            speed.text(self.ratio_text(ratio));
        }
        if self.rounds.len() > 2 {
            speed.plot(self.spread_plot("Throughput", "deliveries/s", Unit::PerSecond, |round| {
                Some(round.deliveries_per_second)
            }));
            speed.plot(self.spread_plot(
                "CPU time",
                "CPU time of a delivery",
                Unit::PlainNanoseconds,
                |round| Some(round.cpu?.ns_per_delivery()),
            ));
        }
        let care = page.section(heading(prefix, "Deliveries and memory"));
        care.table(self.care_table());
        if let Some(table) = audit::table(&self.rounds) {
            care.table(table);
        }
    }

    /// What a reader wants to know first.
    fn headlines(&self, page: &mut Page) {
        if let Some(ratio) = self.ratio {
            let name = self.reference_name.unwrap_or_default();
            page.headline(format!("{:.3} ×", ratio.deliveries_per_second), format!("deliveries/s of {name}"));
            if let Some(cpu) = ratio.ns_per_delivery {
                page.headline(format!("{cpu:.3} ×"), format!("CPU time per delivery of {name}"));
            }
        }
        if let Some(medians) = self.target.or(self.reference) {
            page.headline(units::whole(medians.deliveries_per_second), "deliveries/s");
            if let Some(ns) = medians.ns_per_delivery {
                page.headline(format!("{} ns", units::whole(ns)), "CPU time per delivery");
            }
            page.headline(units::latency(medians.p99_ns as u64), "99th percentile of latency");
        }
    }

    /// The median of each side with its smallest and largest round.
    fn spread_plot(&self, title: &str, label: &str, unit: Unit, figure: fn(&Round) -> Option<f64>) -> Dots {
        let dots =
            Dots::new(title, Axis::new(label, unit)).note("Median, smallest and largest of the rounds.");
        self.sides().into_iter().fold(dots, |dots, (name, rounds)| {
            let figures: Vec<f64> = rounds.iter().filter_map(|round| figure(round)).collect();
            match Dot::of(name, &figures) {
                Some(dot) => dots.row(Dot { highlighted: name == "target", ..dot }),
                None => dots,
            }
        })
    }

    /// How much was delivered, and what it cost.
    pub(crate) fn speed_table(&self) -> Table {
        let mut table = Table::new(
            "Throughput, CPU time and latency of each round",
            &[
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
            ],
        );
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
        let name = self.reference_name.unwrap_or_default();
        for (name, medians) in [("target", self.target), (name, self.reference)] {
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
            table.total(row);
        }
        table
    }

    /// Publications a second, from intended to accepted, and latencies from the intended time.
    pub(crate) fn supply_table(&self) -> Table {
        supply::table(&self.rounds)
    }

    /// The rounds of each side, the target's first; a side may have none.
    fn sides(&self) -> [(&'static str, Vec<&Round>); 2] {
        ["target", self.reference_name.unwrap_or_default()]
            .map(|name| (name, self.rounds.iter().filter(|round| round.server == name).collect()))
    }

    /// Latency by percentile, the median of each side's rounds.
    pub(crate) fn latency_plot(&self) -> Lines {
        let curves = self.sides().map(|(name, rounds)| {
            let curves = rounds.iter().map(|round| &round.latency_curve_ns[..]);
            (name.to_owned(), median_curve(curves))
        });
        latency(curves.into())
    }

    /// The course of one round of each side: the one in the middle by throughput.
    pub(crate) fn over_time_plots(&self) -> Vec<Lines> {
        let middle = self.sides().map(|(name, mut rounds)| {
            rounds.sort_by(|a, b| a.deliveries_per_second.total_cmp(&b.deliveries_per_second));
            let round = rounds.get(rounds.len().saturating_sub(1) / 2)?;
            Some((format!("{name} {}", round.round), &round.timeline))
        });
        over_time(&middle.into_iter().flatten().collect::<Vec<_>>())
    }

    /// Whether everything arrived, and what it took besides CPU time.
    pub(crate) fn care_table(&self) -> Table {
        let mut table = Table::new(
            "What each round published and lost, and the server's memory",
            &[
                "round",
                "published",
                "refused",
                "lost",
                "duplicated",
                "reordered",
                "garbled",
                "misdelivered",
                "closed",
                "RSS before",
                "connected",
                "end",
                "B/connection",
                "connects/s",
            ],
        );
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
                    faults.misdelivered,
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
        table
    }

    /// The ratio in words: with the interval of its median, or with its range if there are too few rounds for one.
    pub(crate) fn ratio_text(&self, ratio: Ratio) -> String {
        let (low, high) = ratio.deliveries_span();
        let cpu = ratio.ns_per_delivery.map_or_else(unknown, |cpu| format!("{cpu:.3}"));
        let interval =
            ratio.ns_interval.map(|interval| format!(" ({:.3} to {:.3})", interval.low, interval.high));
        let brackets = match ratio.deliveries_interval {
            Some(interval) => format!("{:.1} % interval of the median", interval.confidence * 100.0),
            None => "smallest to largest".to_owned(),
        };
        format!(
            "target / {}, median of paired rounds:  deliveries/s {:.3} ({low:.3} to {high:.3}),  CPU ns/delivery {cpu}{},  \
             latency p50 {:.2}, p99 {:.2}  [in brackets: {brackets}]",
            self.reference_name.unwrap_or_default(),
            ratio.deliveries_per_second,
            interval.unwrap_or_default(),
            ratio.p50,
            ratio.p99,
        )
    }

    /// What a reader of the tables must not overlook.
    pub(crate) fn remarks(&self, under_way: &str) -> Vec<String> {
        let mut remarks = Vec::new();
        for round in &self.rounds {
            let name = format!("{} {}", round.server, round.round);
            remarks.extend(limit_remark(&name, round, under_way));
            if round.stuck {
                remarks.push(format!("{name}: GIVEN UP, publications stopped reaching everybody"));
            }
            for (code, count) in &round.closed {
                remarks.push(format!("{name}: the server closed {count} reading clients ({code})"));
            }
            remarks.extend(supply::remark(&name, round));
            remarks.extend(audit::told(&name, round));
            remarks.extend(audit::remark(&name, round));
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
fn limit_remark(name: &str, round: &Round, under_way: &str) -> Option<String> {
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
            "the server was not the limit: it used {used} of a core; {under_way} over {} clients keeps \
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

fn heading(prefix: &str, text: &str) -> String {
    match prefix {
        "" => text.to_owned(),
        prefix => format!("{prefix}{}", text.to_lowercase()),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn unknown_cpu() -> [String; 3] {
    [unknown(), unknown(), unknown()]
}

fn nanoseconds(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { units::whole(value) }
}
