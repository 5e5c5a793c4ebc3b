//! What is to be said about a run with slow readers, below its tables.

use super::{IDLE_SHARE, Round, Slow};
use crate::dialect::v1::Gaps;
use crate::figures::BUSY_SHARE;
use crate::units;

impl Slow {
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for round in &self.rounds {
            let name = round.name();
            for (code, closed) in &round.closed_slow {
                remarks.push(format!(
                    "{name}: {} slow clients were closed ({code}), and saw it {:.1} s to {:.1} s after they became slow",
                    closed.count, closed.first_seconds, closed.last_seconds
                ));
            }
            for (code, count) in &round.closed {
                remarks.push(format!("{name}: the server closed {count} clients that read ({code})"));
            }
            if let Some(disagreement) = round.audit.as_ref().and_then(|audit| audit.disagreement.as_ref()) {
                remarks
                    .push(format!("{name}: THE SERVER'S LEDGER DISAGREES with its clients: {disagreement}"));
            }
            remarks.extend(round.losses());
            remarks.extend(round.how_busy());
            if round.generator_late_max_ns > round.latency.p999_ns.max(5_000_000) {
                remarks.push(format!(
                    "{name}: THE GENERATOR WAS LATE ITSELF, by up to {}, which is in the latencies",
                    units::latency(round.generator_late_max_ns)
                ));
            }
        }
        if let (Some(p50), Some(p99), Some(p999), Some((low, high))) =
            (self.p50_ratio, self.p99_ratio, self.p999_ratio, self.p99_ratio_range)
        {
            let span = match self.p99_ratio_interval {
                Some(interval) => format!("95 % interval {:.2} to {:.2}", interval.low, interval.high),
                None => format!("range {low:.2} to {high:.2}"),
            };
            remarks.push(format!(
                "the others, with / without slow readers, median of {} pairs: p50 {p50:.2}, p99 {p99:.2} ({span}), \
                 p99.9 {p999:.2}",
                self.rounds.len() / 2
            ));
        }
        if let Some(each) = self.bytes_per_slow_client {
            remarks.push(format!("RSS beyond that of the rounds without, for each slow client: {each:.0} B"));
        }
        if let Some(backlog) = self.backlog_bytes {
            remarks.push(format!(
                "RSS beyond that of the rounds without, for all {} together: {}; one copy of what was published meanwhile: {}",
                units::grouped(self.slow as u64),
                units::bytes(backlog.max(0.0) as u64),
                units::bytes(self.published_while_slow_bytes as u64)
            ));
        }
        let faulty = self.rounds.iter().filter(|round| !round.is_faultless()).count();
        remarks.push(match faulty {
            0 if self.rounds.iter().any(|round| round.lost_by_policy > 0) => {
                "Who read got everything; what the slow ones lost is what the policy allows, and accounted for.".to_owned()
            }
            0 => "Who read got everything; who was slow got everything too, or was closed for it.".to_owned(),
            _ => format!("FAULTY: {faulty} of {} rounds", self.rounds.len()),
        });
        remarks
    }
}

impl Round {
    /// A remark if the server had too much to do, or next to nothing.
    fn how_busy(&self) -> Option<String> {
        let (name, share) = (self.name(), self.server_share?);
        let percent = share * 100.0;
        if share >= BUSY_SHARE {
            Some(format!(
                "{name}: the server used {percent:.0} % of a core: near overload everybody waits; lower --rate"
            ))
        } else if share < IDLE_SHARE {
            Some(format!(
                "{name}: the server used {percent:.0} % of a core: it was next to idle; raise --rate"
            ))
        } else {
            None
        }
    }

    /// Remarks on what was lost, and on what clients were told of it.
    fn losses(&self) -> Vec<String> {
        let (name, grouped) = (self.name(), units::grouped);
        let mut remarks = Vec::new();
        if self.lost_by_policy > 0 {
            let told = match self.told {
                Some(Gaps { gaps, conflated, dropped }) => format!(
                    ", and were told of {} dropped and {} conflated in {} gaps",
                    grouped(dropped),
                    grouped(conflated),
                    grouped(gaps)
                ),
                None => String::new(),
            };
            remarks
                .push(format!("{name}: slow clients miss {} messages{told}", grouped(self.lost_by_policy)));
        }
        if self.untold > 0 {
            remarks.push(format!(
                "{name}: WHAT CLIENTS WERE TOLD THEY MISS IS NOT WHAT THEY MISS, by {} messages",
                grouped(self.untold)
            ));
        }
        remarks
    }

    pub(super) fn name(&self) -> String {
        format!("{} {}", self.round, if self.slow == 0 { "without" } else { "with" })
    }
}
