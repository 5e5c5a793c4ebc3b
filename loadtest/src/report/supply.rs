//! How the publishing side of rounds is shown: what was offered, what of it was taken, and how late.

use super::{Table, unknown};
use crate::figures::Round;
use crate::units;

/// Publications a second, from intended to accepted, and latencies from the intended time.
pub(super) fn table(rounds: &[Round]) -> Table {
    let mut table = Table::new(
        "What the publishers offered, and latency from when each publication was to leave",
        &[
            "round",
            "intended/s",
            "offered/s",
            "accepted/s",
            "503/s",
            "held/s",
            "late p99",
            "late max",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
        ],
    );
    for round in rounds {
        let Some(supply) = round.supply else { continue };
        let mut row = vec![format!("{} {}", round.server, round.round)];
        row.push(supply.intended_per_second.map_or_else(unknown, units::whole));
        row.extend(
            [
                supply.offered_per_second,
                supply.accepted_per_second,
                supply.refused_per_second,
                supply.held_per_second,
            ]
            .map(units::whole),
        );
        let latency = round.latency;
        row.extend(
            [
                supply.lag_p99_ns,
                supply.lag_max_ns,
                latency.p50_ns,
                latency.p90_ns,
                latency.p99_ns,
                latency.p999_ns,
                latency.max_ns,
            ]
            .map(units::latency),
        );
        table.row(row);
    }
    table
}

/// Says when the publishers did not do what they were asked to.
pub(super) fn remark(name: &str, round: &Round) -> Option<String> {
    let supply = round.supply.filter(|supply| !supply.kept_up)?;
    let [sent, answered, intended] = [
        supply.offered_per_second,
        supply.accepted_per_second + supply.refused_per_second,
        supply.intended_per_second.unwrap_or_default(),
    ]
    .map(units::whole);
    Some(format!(
        "{name}: THE PUBLISHERS FELL BEHIND: of {intended} publications a second {sent} were sent and {answered} answered; latencies count from the \
         intended times all the same"
    ))
}
