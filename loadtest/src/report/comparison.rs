//! What a comparison shows: for each server the medians of its rounds, ratios to the first server and to the floor,
//! and what was wrong. The scenario `compare` fills it, setting by setting.

use std::fmt;

use serde::Serialize;

use super::plots;
use super::{Axis, Dot, Dots, Lines, Page, Scale, Table, Unit, unknown};
use crate::figures::{CpuFigures, Limit, Round, median, median_curve};
use crate::interval::Interval;
use crate::units;

/// What all servers of one comparison are put to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Setting {
    /// So many publications may be undelivered.
    Window(u64),
    /// So many publications a second.
    Rate(f64),
    /// Nothing is published.
    Idle,
}

/// How one round against one server ended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    FanOut(Box<Round>),
    Rest(Rest),
    /// It started and then could not be measured.
    Broken(String),
    NotStarted(String),
}

/// Clients at rest.
#[derive(Debug, Serialize)]
pub(crate) struct Rest {
    pub(crate) connects_per_second: f64,
    pub(crate) per_connection_bytes: Option<f64>,
    /// Share of one core.
    pub(crate) cpu_share: Option<f64>,
    /// Connections the server ended.
    pub(crate) closed: u64,
}

/// All rounds of one setting.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    setting: Setting,
    payload_bytes: usize,
    servers: Vec<Entry>,
}

/// One server's rounds.
#[derive(Debug, Serialize)]
struct Entry {
    name: &'static str,
    rounds: Vec<Outcome>,
}

/// A figure of a round that is shown as a median.
struct Figure {
    name: &'static str,
    of: fn(&Outcome) -> Option<f64>,
    shown: fn(f64) -> String,
    /// Ratios of it are shown too.
    compared: bool,
}

const FAN_OUT: [Figure; 9] = [
    Figure { name: "deliveries/s", of: deliveries, shown: units::whole, compared: true },
    Figure {
        name: "CPU ns/delivery",
        of: |it| cpu(it).map(CpuFigures::ns_per_delivery),
        shown: number,
        compared: true,
    },
    Figure {
        name: "user",
        of: |it| cpu(it).map(|cpu| cpu.user_ns_per_delivery),
        shown: number,
        compared: false,
    },
    Figure {
        name: "system",
        of: |it| cpu(it).map(|cpu| cpu.system_ns_per_delivery),
        shown: number,
        compared: false,
    },
    Figure { name: "server CPU", of: |it| cpu(it).map(|cpu| cpu.share), shown: percent, compared: false },
    Figure {
        name: "msgs/read",
        of: |it| round(it).map(|it| it.messages_per_read),
        shown: decimal,
        compared: false,
    },
    Figure {
        name: "p50",
        of: |it| round(it).map(|it| it.latency.p50_ns as f64),
        shown: latency,
        compared: false,
    },
    Figure {
        name: "p99",
        of: |it| round(it).map(|it| it.latency.p99_ns as f64),
        shown: latency,
        compared: false,
    },
    Figure { name: "B/connection", of: per_connection, shown: units::whole, compared: false },
];
const IDLE: [Figure; 3] = [
    Figure { name: "B/connection", of: per_connection, shown: units::whole, compared: true },
    Figure { name: "CPU at rest", of: |it| rest(it)?.cpu_share, shown: fine_percent, compared: false },
    Figure {
        name: "connects/s",
        of: |it| Some(rest(it)?.connects_per_second),
        shown: units::whole,
        compared: false,
    },
];

impl Comparison {
    /// Without a round yet.
    pub(crate) fn new(setting: Setting, payload_bytes: usize, names: &[&'static str]) -> Self {
        let servers = names.iter().map(|&name| Entry { name, rounds: Vec::new() }).collect();
        Self { setting, payload_bytes, servers }
    }

    /// The next round of server `at`.
    pub(crate) fn add(&mut self, at: usize, outcome: Outcome) {
        self.servers[at].rounds.push(outcome);
    }

    /// Adds a section with table and plots.
    pub(crate) fn fill(&self, page: &mut Page) {
        let section = page.section(self.setting.to_string());
        section.is_printed = true;
        section.table(self.table());
        let speed = ("deliveries/s", "Deliveries per second", Unit::PerSecond);
        let cost = ("CPU ns/delivery", "CPU time per delivery", Unit::PlainNanoseconds);
        let wait = ("p99", "99 % of deliveries took at most", Unit::Nanoseconds);
        let room = ("B/connection", "Resident memory per connection", Unit::Bytes);
        let shown = match self.setting {
            Setting::Window(_) => vec![speed, cost, room],
            Setting::Rate(_) => vec![wait, cost],
            Setting::Idle => vec![room],
        };
        for (name, title, unit) in shown {
            if let Some(figure) = self.figures().iter().find(|figure| figure.name == name) {
                section.plot(self.dots(figure, title, Axis::new(name, unit).scale(Scale::Log)));
            }
        }
        section.plot(self.latency_plot());
    }

    fn table(&self) -> Table {
        let compared = || self.figures().iter().filter(|figure| figure.compared);
        let others: Vec<(usize, &str)> = self.measures_of_all().collect();
        let mut head = vec!["server".to_owned()];
        head.extend(self.figures().iter().map(|figure| figure.name.to_owned()));
        for figure in compared() {
            head.extend(others.iter().map(|(_, name)| format!("{} / {name}'s", figure.name)));
        }
        head.extend(["rounds".to_owned(), "faults".to_owned()]);
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        let mut table = Table::new(
            "Medians over rounds; ratios are medians over the rounds in which both were measured, from nine rounds on \
             with their 95 % interval",
            &head,
        );
        for (at, server) in self.servers.iter().enumerate() {
            let mut row = vec![server.name.to_owned()];
            row.extend(
                self.figures()
                    .iter()
                    .map(|figure| server.median(figure).map_or_else(unknown, |value| (figure.shown)(value))),
            );
            for figure in compared() {
                row.extend(others.iter().map(|&(other, _)| self.ratio_text(figure, at, other)));
            }
            row.push(server.measured().to_string());
            row.push(server.troubles());
            table.row(row);
        }
        table
    }

    fn dots(&self, figure: &Figure, title: &str, axis: Axis) -> Dots {
        let mut dots =
            Dots::new(title, axis).note("Dots are medians, lines reach from the least to the most round.");
        for (at, server) in self.servers.iter().enumerate() {
            let Some(value) = server.median(figure) else { continue };
            let values = || server.rounds.iter().filter_map(figure.of);
            let range = values().reduce(f64::min).zip(values().reduce(f64::max));
            dots = dots.row(Dot { name: server.name.to_owned(), value, range, highlighted: at == 0 });
            if server.name == FLOOR {
                dots = dots.level(value, FLOOR);
            }
        }
        dots
    }

    /// What the table alone does not say.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for server in &self.servers {
            let label = format!("{}, {}", self.setting, server.name);
            let rounds = || server.rounds.iter().filter_map(round);
            for (limit, text) in [
                (Limit::Machine, "THE MACHINE WAS THE LIMIT, something else had a core"),
                (Limit::Generator, "THE GENERATOR WAS THE LIMIT"),
                (Limit::Window, "neither side was busy, the window was the limit"),
            ] {
                // A fixed rate is to leave both sides idle.
                if matches!((limit, self.setting), (Limit::Window | Limit::Generator, Setting::Rate(_))) {
                    continue;
                }
                let count = rounds().filter(|round| round.limit() == Some(limit)).count();
                if count > 0 {
                    remarks.push(format!("{label}: {text} in {count} of {} rounds", server.measured()));
                }
            }
            // The same reason once, however many rounds it spoilt.
            let mut reasons: Vec<&str> = server.rounds.iter().filter_map(Outcome::reason).collect();
            reasons.dedup();
            remarks.extend(reasons.iter().map(|reason| format!("{label}: {reason}")));
        }
        let faulty: Vec<&str> = self.faulty().collect();
        remarks.push(match faulty.is_empty() {
            true => format!(
                "{}: every reading client of every server got every message once and in order.",
                self.setting
            ),
            false => format!("{}: FAULTY: {}", self.setting, faulty.join(", ")),
        });
        remarks
    }

    /// Whether server `at` could not be started.
    pub(crate) fn has_not_started(&self, at: usize) -> bool {
        self.servers[at].rounds.iter().any(|outcome| matches!(outcome, Outcome::NotStarted(_)))
    }

    /// The servers with which something was wrong in any round.
    pub(crate) fn faulty(&self) -> impl Iterator<Item = &'static str> {
        let faulty = self.servers.iter().filter(|server| !server.rounds.iter().all(Outcome::is_faultless));
        faulty.map(|server| server.name)
    }

    fn figures(&self) -> &'static [Figure] {
        match self.setting {
            Setting::Window(_) | Setting::Rate(_) => &FAN_OUT,
            Setting::Idle => &IDLE,
        }
    }

    /// Whom all are compared with: the first, and the floor.
    fn measures_of_all(&self) -> impl Iterator<Item = (usize, &'static str)> {
        let servers = self.servers.iter().enumerate().map(|(at, server)| (at, server.name));
        servers.filter(|&(at, name)| at == 0 || name == FLOOR)
    }

    /// Rounds have the same number at the same place, broken ones too.
    fn ratio(&self, figure: &Figure, at: usize, other: usize) -> Option<f64> {
        median(self.ratios(figure, at, other).into_iter())
    }

    fn ratios(&self, figure: &Figure, at: usize, other: usize) -> Vec<f64> {
        let pairs = self.servers[at].rounds.iter().zip(&self.servers[other].rounds);
        pairs.filter_map(|(one, other)| Some((figure.of)(one)? / (figure.of)(other)?)).collect()
    }

    /// The ratio, and from nine rounds on where its median lies.
    fn ratio_text(&self, figure: &Figure, at: usize, other: usize) -> String {
        let Some(ratio) = self.ratio(figure, at, other) else { return unknown() };
        match Interval::of_median(self.ratios(figure, at, other)) {
            Some(interval) if at != other => {
                format!("{ratio:.3} ({:.3}–{:.3})", interval.low, interval.high)
            }
            _ => format!("{ratio:.3}"),
        }
    }

    /// Latency by percentile, the median of each server's rounds.
    fn latency_plot(&self) -> Lines {
        let curves = self.servers.iter().map(|server| {
            let rounds = server.rounds.iter().filter_map(round);
            (server.name.to_owned(), median_curve(rounds.map(|round| &round.latency_curve_ns[..])))
        });
        plots::latency(curves.collect())
    }
}

const FLOOR: &str = "floor";

impl Entry {
    fn median(&self, figure: &Figure) -> Option<f64> {
        median(self.rounds.iter().filter_map(figure.of))
    }

    fn measured(&self) -> usize {
        self.rounds.iter().filter(|outcome| outcome.reason().is_none()).count()
    }

    /// One cell of a table.
    fn troubles(&self) -> String {
        let mut sums = [0; 6];
        let (mut stuck, mut broken) = (0, 0);
        for outcome in &self.rounds {
            match outcome {
                Outcome::FanOut(round) => {
                    let faults = round.faults;
                    let closed = round.closed.values().sum();
                    let all = [
                        faults.lost,
                        faults.duplicated,
                        faults.reordered,
                        faults.garbled,
                        closed,
                        round.refused,
                    ];
                    sums.iter_mut().zip(all).for_each(|(sum, count)| *sum += count);
                    stuck += usize::from(round.stuck);
                }
                Outcome::Rest(rest) => sums[4] += rest.closed,
                Outcome::Broken(_) => broken += 1,
                Outcome::NotStarted(_) => return "did not start".to_owned(),
            }
        }
        let names = ["lost", "duplicated", "reordered", "garbled", "closed", "refused"];
        let counts = names.iter().zip(sums).filter(|&(_, count)| count > 0);
        let mut texts: Vec<String> =
            counts.map(|(name, count)| format!("{name} {}", units::grouped(count))).collect();
        texts.extend((stuck > 0).then(|| format!("given up {stuck}")));
        texts.extend((broken > 0).then(|| format!("broken {broken}")));
        if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
    }
}

impl Outcome {
    fn is_faultless(&self) -> bool {
        match self {
            Self::FanOut(round) => round.is_faultless(),
            Self::Rest(rest) => rest.closed == 0,
            Self::Broken(_) | Self::NotStarted(_) => false,
        }
    }

    /// Why there are no figures.
    fn reason(&self) -> Option<&str> {
        match self {
            Self::Broken(reason) | Self::NotStarted(reason) => Some(reason),
            Self::FanOut(_) | Self::Rest(_) => None,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window(window) => write!(out, "window {window}"),
            Self::Rate(rate) => write!(out, "{rate} a second"),
            Self::Idle => out.write_str("at rest"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FanOut(round) => {
                let faulty = if round.is_faultless() { "" } else { ", FAULTY" };
                write!(out, "{} deliveries/s{faulty}", units::whole(round.deliveries_per_second))
            }
            Self::Rest(rest) => match rest.per_connection_bytes {
                Some(bytes) => write!(out, "{bytes:.0} B per connection"),
                None => out.write_str("memory not known"),
            },
            Self::Broken(reason) => write!(out, "BROKEN: {reason}"),
            Self::NotStarted(reason) => write!(out, "DID NOT START: {reason}"),
        }
    }
}

fn round(outcome: &Outcome) -> Option<&Round> {
    if let Outcome::FanOut(round) = outcome { Some(round) } else { None }
}

fn rest(outcome: &Outcome) -> Option<&Rest> {
    if let Outcome::Rest(rest) = outcome { Some(rest) } else { None }
}

fn deliveries(outcome: &Outcome) -> Option<f64> {
    Some(round(outcome)?.deliveries_per_second)
}

fn cpu(outcome: &Outcome) -> Option<CpuFigures> {
    round(outcome)?.cpu
}

fn per_connection(outcome: &Outcome) -> Option<f64> {
    match outcome {
        Outcome::FanOut(round) => Some(round.memory?.per_connection_bytes),
        Outcome::Rest(rest) => rest.per_connection_bytes,
        Outcome::Broken(_) | Outcome::NotStarted(_) => None,
    }
}

fn number(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { units::whole(value) }
}

fn decimal(value: f64) -> String {
    format!("{value:.1}")
}

fn latency(nanoseconds: f64) -> String {
    units::latency(nanoseconds as u64)
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn fine_percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_rest(bytes: f64) -> Outcome {
        let per_connection_bytes = Some(bytes);
        Outcome::Rest(Rest { connects_per_second: 1.0, per_connection_bytes, cpu_share: None, closed: 0 })
    }

    #[test]
    fn ratios_are_those_of_rounds_that_both_had() {
        let mut comparison = Comparison::new(Setting::Idle, 32, &["one", "two", "three"]);
        for bytes in [100.0, 200.0, 300.0] {
            comparison.add(0, at_rest(bytes));
        }
        comparison.add(1, at_rest(300.0));
        comparison.add(1, Outcome::Broken("it fell over".to_owned()));
        comparison.add(1, at_rest(1_500.0));
        comparison.add(2, Outcome::NotStarted("it is not there".to_owned()));
        assert_eq!(comparison.ratio(&IDLE[0], 1, 0), Some(4.0));
        assert_eq!(comparison.ratio(&IDLE[0], 2, 0), None);
        assert!(comparison.has_not_started(2) && !comparison.has_not_started(1));
        assert_eq!(comparison.faulty().collect::<Vec<_>>(), ["two", "three"]);
        assert_eq!(comparison.servers[1].troubles(), "broken 1");
        assert!(comparison.remarks().iter().any(|remark| remark.contains("it fell over")));
    }
}
