//! How a run with slow readers is shown: two tables, latency by percentile, and the course of the first pair of rounds.

use super::Slow;
use crate::figures::median_curve;
use crate::report::plots::{latency, over_time};
use crate::report::{Page, Table, unknown};
use crate::units;

impl Slow {
    pub(super) fn show(&self, page: &mut Page) {
        let curve = |is_slow: bool| {
            let rounds = self.rounds.iter().filter(|round| (round.slow > 0) == is_slow);
            median_curve(rounds.map(|round| &round.latency_curve_ns[..]))
        };
        page.section("The others").table(self.others()).plot(latency(vec![
            ("without slow readers".to_owned(), curve(false)),
            ("with them".to_owned(), curve(true)),
        ]));
        page.section("The slow ones, and memory").table(self.slow_ones());
        // The first pair, those with slow readers first: their events are shown.
        let named: Vec<_> =
            self.rounds.iter().take(2).rev().map(|round| (round.name(), &round.timeline)).collect();
        page.section("Over time").plots(over_time(&named));
    }

    fn others(&self) -> Table {
        let mut table = Table::new(
            "Latency of all who read as fast as they can, and faults of everybody",
            &[
                "round",
                "p50",
                "p99",
                "p99.9",
                "max",
                "server CPU",
                "published",
                "refused",
                "lost",
                "duplicated",
                "reordered",
                "garbled",
                "closed",
            ],
        );
        for round in &self.rounds {
            let (latency, faults) = (round.latency, round.faults);
            let mut row = vec![round.name()];
            row.extend([latency.p50_ns, latency.p99_ns, latency.p999_ns, latency.max_ns].map(units::latency));
            row.push(round.server_share.map_or_else(unknown, |share| format!("{:.0} %", share * 100.0)));
            row.extend(
                [
                    round.published,
                    round.refused,
                    faults.lost,
                    faults.duplicated,
                    faults.reordered,
                    faults.garbled,
                    round.closed.values().sum(),
                ]
                .map(units::grouped),
            );
            table.row(row);
        }
        table
    }

    fn slow_ones(&self) -> Table {
        let mut table = Table::new(
            "What the slow ones got, who of them was closed, and what the backlog took",
            &[
                "round",
                "slow",
                "closed",
                "by the ledger",
                "missed",
                "told: dropped",
                "conflated",
                "ledger: dropped",
                "conflated",
                "got",
                "age p50",
                "age p99",
                "RSS connected",
                "peak",
                "kernel TCP before",
                "peak",
            ],
        );
        let bytes = |bytes: Option<u64>| bytes.map_or_else(unknown, units::bytes);
        for round in &self.rounds {
            let closed: u64 = round.closed_slow.values().map(|closed| closed.count).sum();
            let mut row = vec![round.name()];
            row.extend([round.slow as u64, closed].map(units::grouped));
            let ledger = round.audit.as_ref().map(|audit| audit.ledger.closed);
            row.push(ledger.map_or_else(unknown, |closed| units::grouped(closed.slow)));
            row.push(units::grouped(round.lost_by_policy));
            let both = |both: Option<[u64; 2]>| match both {
                Some(both) => both.map(units::grouped),
                None => [unknown(), unknown()],
            };
            row.extend(both(round.told.map(|told| [told.dropped, told.conflated])));
            let books = round.audit.as_ref().map(|audit| audit.ledger);
            row.extend(both(books.map(|ledger| [ledger.dropped.total(), ledger.conflated])));
            row.push(units::grouped(round.slow_deliveries));
            row.extend([round.age.p50_ns, round.age.p99_ns].map(|ns| match round.age.samples {
                0 => "-".to_owned(),
                _ => units::latency(ns),
            }));
            row.extend([
                bytes(round.connected_bytes),
                bytes(round.peak_bytes),
                bytes(round.kernel_before_bytes),
                bytes(round.kernel_peak_bytes),
            ]);
            table.row(row);
        }
        table
    }
}
