//! How servers' own books are shown, beside what clients saw.

use super::Table;
use crate::figures::Round;
use crate::units;

/// What each server says became of its frames; empty if none keeps a ledger.
pub(super) fn table(rounds: &[Round]) -> Option<Table> {
    let mut table = Table::new(
        "What each server says became of the frames of a round, and what clients got",
        &[
            "round",
            "matched",
            "written",
            "received",
            "queued",
            "conflated",
            "dropped",
            "bound",
            "age",
            "memory",
            "closed",
            "slow",
            "no pong",
        ],
    );
    let mut is_empty = true;
    for round in rounds {
        let Some(audit) = &round.audit else { continue };
        is_empty = false;
        let (ledger, dropped) = (audit.ledger, audit.ledger.dropped);
        let mut row = vec![format!("{} {}", round.server, round.round)];
        row.extend(
            [
                ledger.matched,
                ledger.written,
                audit.received,
                ledger.queued,
                ledger.conflated,
                dropped.total(),
                dropped.bound,
                dropped.age,
                dropped.memory,
                dropped.closed,
                ledger.closed.slow,
                ledger.closed.no_pong,
            ]
            .map(units::grouped),
        );
        table.row(row);
    }
    (!is_empty).then_some(table)
}

/// Says what clients were told they miss, if anything.
pub(super) fn told(name: &str, round: &Round) -> Option<String> {
    let gaps = round.told.filter(|gaps| gaps.missing() > 0)?;
    Some(format!(
        "{name}: clients were told in {} gaps that {} messages were dropped and {} conflated",
        units::grouped(gaps.gaps),
        units::grouped(gaps.dropped),
        units::grouped(gaps.conflated)
    ))
}

/// Says what does not agree, or why that cannot be told.
pub(super) fn remark(name: &str, round: &Round) -> Option<String> {
    let audit = round.audit.as_ref()?;
    if audit.served_others {
        let explained = units::grouped(audit.received + round.faults.lost);
        return Some(format!(
            "{name}: the server's ledger is not comparable: the server served others too ({} frames matched, of which this \
             run explains {explained})",
            units::grouped(audit.ledger.matched)
        ));
    }
    let disagreement = audit.disagreement.as_ref()?;
    Some(format!("{name}: THE SERVER'S LEDGER DISAGREES with its clients: {disagreement}"))
}
