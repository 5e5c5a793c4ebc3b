//! What all workers of a crowd and its publisher found together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::publisher::Published;
use super::worker::Findings;
use super::{reading, shared};
use crate::dialect::v1::Gaps;
use crate::error::Result;
use crate::generator::Faults;
use crate::timeline::{Recorder, Timeline};

/// A connection the server ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closing {
    /// Its client was reading slowly.
    pub(crate) was_slow: bool,
    /// `None` is without a close frame.
    pub(crate) code: Option<u16>,
    pub(crate) at: Instant,
}

impl Closing {
    /// As it stands in reports.
    pub(crate) fn name(&self) -> String {
        self.code.map_or_else(|| "no close frame".to_owned(), |code| code.to_string())
    }
}

/// What all threads found together.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) faults: Faults,
    /// The part of what was lost that was lost to slow clients.
    pub(crate) lost_by_slow: u64,
    /// What clients were told they miss, if their protocol says so.
    pub(crate) told: Option<Gaps>,
    /// How far what each of them missed is from what it was told, over all that were connected in the end.
    pub(crate) untold: u64,
    /// How often who came back was told that everything it missed follows, and that it does not.
    pub(crate) recovered: u64,
    pub(crate) not_recovered: u64,
    /// How often one came back that had never been told where its topic stands, so that it had nothing to recover.
    pub(crate) without_position: u64,
    /// Nanoseconds from the intended send time to reading, by segment, of the steady clients.
    pub(crate) latencies: Vec<Histogram<u64>>,
    /// The same of slow clients while they are slow.
    pub(crate) ages: Histogram<u64>,
    /// Nanoseconds from a command to its pong.
    pub(crate) commands: Histogram<u64>,
    pub(crate) closings: Vec<Closing>,
    /// Upgrades that failed and were tried again, by reason.
    pub(crate) retries: BTreeMap<String, u64>,
    pub(crate) published: u64,
    pub(crate) refused: u64,
    pub(crate) deliveries: u64,
    pub(crate) slow_deliveries: u64,
    /// How late the latest publication left the publisher.
    pub(crate) late_max: Duration,
    /// The longest time in which no socket was looked at while publishing.
    pub(crate) turn_max: Duration,
    pub(crate) vanished: u64,
    pub(crate) back: u64,
    pub(crate) never_back: u64,
    pub(crate) commands_sent: u64,
    pub(crate) commands_unanswered: u64,
    pub(crate) vanished_at: Option<Instant>,
    pub(crate) first_back: Option<Instant>,
    pub(crate) last_back: Option<Instant>,
    pub(crate) last_served: Option<Instant>,
    /// The run up to when nothing was due any more, moment by moment.
    pub(crate) timeline: Timeline,
}

impl Outcome {
    /// Clients the server closed though they read, by code.
    pub(crate) fn closed_readers(&self) -> BTreeMap<String, u64> {
        let mut closed = BTreeMap::new();
        for closing in self.closings.iter().filter(|closing| !closing.was_slow) {
            *closed.entry(closing.name()).or_default() += 1;
        }
        closed
    }

    /// Marks when the first slow client was closed, and the last.
    pub(super) fn mark_ends(&self, recorder: &mut Recorder) {
        let ends = || self.closings.iter().filter(|closing| closing.was_slow).map(|closing| closing.at);
        let (Some(first), Some(last)) = (ends().min(), ends().max()) else { return };
        recorder.event_at(first, "first slow one saw its end");
        if last > first {
            recorder.event_at(last, "last slow one saw its end");
        }
    }

    pub(super) fn of(found: Vec<Findings>, published: &Published, count: u64) -> Result<Self> {
        let mut outcome = Self {
            faults: Faults::default(),
            lost_by_slow: 0,
            told: None,
            untold: 0,
            recovered: 0,
            not_recovered: 0,
            without_position: 0,
            latencies: (0..shared::SEGMENTS).map(|_| reading::histogram()).collect::<Result<_>>()?,
            ages: reading::histogram()?,
            commands: reading::histogram()?,
            closings: Vec::new(),
            retries: BTreeMap::new(),
            published: count,
            refused: published.refused.len() as u64,
            deliveries: 0,
            slow_deliveries: 0,
            late_max: published.late_max,
            turn_max: Duration::ZERO,
            vanished: 0,
            back: 0,
            never_back: 0,
            commands_sent: 0,
            commands_unanswered: 0,
            vanished_at: None,
            first_back: None,
            last_back: None,
            last_served: None,
            timeline: Timeline::default(),
        };
        for findings in found {
            outcome.add(findings, published);
        }
        Ok(outcome)
    }

    fn add(&mut self, found: Findings, published: &Published) {
        let reading = found.reading;
        self.faults.add(reading.ledger.settle(&published.refused));
        let lost = reading.ledger.lost_by_client(&published.refused);
        for fate in found.fates {
            let lost = lost.get(&fate.number).copied().unwrap_or(0);
            self.lost_by_slow += if fate.is_slow { lost } else { 0 };
            if let Some(told) = fate.told {
                self.told.get_or_insert_default().add(told);
                self.untold += if fate.is_open { lost.abs_diff(told.missing()) } else { 0 };
            }
        }
        self.recovered += reading.recovered;
        self.not_recovered += reading.not_recovered;
        self.without_position += reading.without_position;
        for (all, one) in self.latencies.iter_mut().zip(&reading.latencies) {
            // All histograms have the same bounds, so that adding cannot fail.
            let _ = all.add(one);
        }
        let _ = self.ages.add(&reading.ages);
        let _ = self.commands.add(&reading.commands);
        self.closings.extend(found.closings);
        for (reason, count) in found.retries {
            *self.retries.entry(reason).or_default() += count;
        }
        self.deliveries += reading.deliveries;
        self.slow_deliveries += reading.slow_deliveries;
        self.turn_max = self.turn_max.max(found.turn_max);
        self.vanished += found.vanished;
        self.back += found.back;
        self.never_back += found.never_back;
        self.commands_sent += found.commands_sent;
        self.commands_unanswered += found.unanswered;
        self.vanished_at = earliest(self.vanished_at, found.vanished_at);
        self.first_back = earliest(self.first_back, found.first_back);
        self.last_back = self.last_back.max(found.last_back);
        self.last_served = self.last_served.max(reading.last_served);
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
