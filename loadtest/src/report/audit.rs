//! How servers' own books are shown, beside what clients saw.

use super::Table;
use crate::figures::Round;
use crate::units;

/// What each server says became of its frames; empty if none keeps a ledger.
pub(super) fn table(rounds: &[Round]) -> Option<Table> {
    let mut table = Table::new(
        "What each server says became of the frames of a round, and what clients got",
        &[
            "round", "matched", "written", "received", "queued", "dropped", "bound", "age", "memory",
            "closed", "slow", "no pong",
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

/// Says what does not agree.
pub(super) fn remark(name: &str, round: &Round) -> Option<String> {
    let disagreement = round.audit.as_ref()?.disagreement.as_ref()?;
    Some(format!("{name}: THE SERVER'S LEDGER DISAGREES with its clients: {disagreement}"))
}
