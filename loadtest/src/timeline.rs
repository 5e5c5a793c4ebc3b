//! What went on during a round, moment by moment: counters of the generator and what the kernel says about server and
//! harness, sampled by the directing thread. Samples keep running totals, so that a long round can be thinned out
//! without losing anything between two of them; memory is bounded.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::generator::Totals;
use crate::procfs::{self, CpuTime};

/// The distance of samples to begin with.
const INTERVAL: Duration = Duration::from_millis(200);
/// Samples kept; at this number every second is dropped, and the distance doubles.
const SAMPLES_MAX: usize = 480;
/// Phases and events kept; more than a reader could tell apart.
const MARKS_MAX: usize = 64;

/// A stretch of the round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Stretch {
    pub(crate) name: &'static str,
    /// From the beginning of the round, as all times here.
    pub(crate) from_seconds: f64,
    pub(crate) to_seconds: f64,
}

/// Something that happened at one moment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Happening {
    pub(crate) at_seconds: f64,
    pub(crate) name: String,
}

/// A round, moment by moment. All lists but the first two are of one length; a figure is the mean since the sample
/// before.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Timeline {
    pub(crate) phases: Vec<Stretch>,
    pub(crate) events: Vec<Happening>,
    pub(crate) seconds: Vec<f64>,
    pub(crate) deliveries_per_second: Vec<f64>,
    pub(crate) published_per_second: Vec<f64>,
    pub(crate) refused_per_second: Vec<f64>,
    pub(crate) open_connections: Vec<u64>,
    /// Shares of one core.
    pub(crate) server_user_share: Vec<Option<f64>>,
    pub(crate) server_system_share: Vec<Option<f64>>,
    pub(crate) generator_share: Vec<Option<f64>>,
    /// By the kernel's running estimate, which may be some dozen pages off.
    pub(crate) server_resident_bytes: Vec<Option<u64>>,
}

impl Timeline {
    /// When a phase began.
    pub(crate) fn begin_of(&self, name: &str) -> Option<f64> {
        self.phases.iter().find(|phase| phase.name == name).map(|phase| phase.from_seconds)
    }
}

/// Everything so far, at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    totals: Totals,
    server: Option<CpuTime>,
    generator: Option<CpuTime>,
    resident_bytes: Option<u64>,
}

/// Records a [`Timeline`].
#[derive(Debug)]
pub(crate) struct Recorder {
    began: Instant,
    server: Option<u32>,
    /// The processes that simulate clients.
    generator: Vec<u32>,
    interval: Duration,
    samples: Vec<Sample>,
    /// When each began; it ends where the next does.
    phases: Vec<(Instant, &'static str)>,
    events: Vec<(Instant, String)>,
}

impl Recorder {
    /// `server` is the process to be watched, and `generator` are those that simulate its clients.
    pub(crate) fn new(server: Option<u32>, generator: Vec<u32>) -> Self {
        Self {
            began: Instant::now(),
            server,
            generator,
            interval: INTERVAL,
            samples: Vec::with_capacity(SAMPLES_MAX),
            phases: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A stretch of the round begins. Calling it again with the name of the current one changes nothing.
    pub(crate) fn phase(&mut self, name: &'static str) {
        if self.phases.len() < MARKS_MAX && self.phases.last().is_none_or(|(_, current)| *current != name) {
            self.phases.push((Instant::now(), name));
        }
    }

    /// Something happened that a reader of a plot should see.
    pub(crate) fn event(&mut self, name: impl Into<String>) {
        self.event_at(Instant::now(), name);
    }

    /// Something happened then, which became known later.
    pub(crate) fn event_at(&mut self, at: Instant, name: impl Into<String>) {
        if self.events.len() < MARKS_MAX {
            self.events.push((at, name.into()));
        }
    }

    /// Takes a sample if it is time; cheap otherwise.
    pub(crate) fn look(&mut self, totals: impl FnOnce() -> Totals) {
        if self.samples.last().is_none_or(|last| last.at.elapsed() >= self.interval) {
            self.sample(totals());
        }
    }

    fn sample(&mut self, totals: Totals) {
        if self.samples.len() >= SAMPLES_MAX {
            let mut is_kept = false;
            self.samples.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
            self.interval *= 2;
        }
        self.samples.push(Sample {
            at: Instant::now(),
            totals,
            server: self.server.and_then(CpuTime::of),
            generator: CpuTime::of_all(&self.generator),
            resident_bytes: self.server.and_then(procfs::resident_estimate),
        });
    }

    /// Between the two latest samples.
    pub(crate) fn deliveries_per_second(&self) -> f64 {
        let [.., before, now] = &self.samples[..] else { return 0.0 };
        let passed = now.at.duration_since(before.at).as_secs_f64().max(1e-9);
        now.totals.deliveries.saturating_sub(before.totals.deliveries) as f64 / passed
    }

    /// What was recorded, with `totals` as its end.
    pub(crate) fn timeline(&mut self, totals: Totals) -> Timeline {
        self.sample(totals);
        let seconds = |at: Instant| at.duration_since(self.began).as_secs_f64();
        let end = Instant::now();
        let mut timeline = Timeline::default();
        for (index, &(from, name)) in self.phases.iter().enumerate() {
            let to = self.phases.get(index + 1).map_or(end, |(next, _)| *next);
            timeline.phases.push(Stretch { name, from_seconds: seconds(from), to_seconds: seconds(to) });
        }
        for (at, name) in &self.events {
            timeline.events.push(Happening { at_seconds: seconds(*at), name: name.clone() });
        }
        for pair in self.samples.windows(2) {
            timeline.add(&pair[0], &pair[1], seconds(pair[1].at));
        }
        timeline
    }
}

impl Timeline {
    fn add(&mut self, before: &Sample, now: &Sample, seconds: f64) {
        let passed = now.at.duration_since(before.at).as_secs_f64().max(1e-9);
        let rate = |before: u64, now: u64| rounded(now.saturating_sub(before) as f64 / passed, 1.0);
        let share = |ns: u64| rounded(ns as f64 / (passed * 1e9), 1e4);
        let used = |before: Option<CpuTime>, now: Option<CpuTime>| Some(now?.since(before?));
        let server = used(before.server, now.server);
        self.seconds.push(rounded(seconds, 1e3));
        self.deliveries_per_second.push(rate(before.totals.deliveries, now.totals.deliveries));
        self.published_per_second.push(rate(before.totals.published, now.totals.published));
        self.refused_per_second.push(rate(before.totals.refused, now.totals.refused));
        self.open_connections.push(now.totals.open);
        self.server_user_share.push(server.map(|used| share(used.user_ns)));
        self.server_system_share.push(server.map(|used| share(used.system_ns)));
        self.generator_share.push(used(before.generator, now.generator).map(|used| share(used.total_ns())));
        self.server_resident_bytes.push(now.resident_bytes);
    }
}

/// To what is worth storing.
fn rounded(value: f64, scale: f64) -> f64 {
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_round_is_thinned_out_and_loses_no_delivery() {
        let mut recorder = Recorder::new(None, Vec::new());
        let began = Instant::now();
        for number in 0..3_000_u64 {
            recorder.sample(Totals { deliveries: number * 10, ..Totals::default() });
            // A clock of the test's own: ten milliseconds between samples.
            let last = recorder.samples.last_mut().expect("one was just taken");
            last.at = began + Duration::from_millis(10 * number);
            assert!(recorder.samples.len() <= SAMPLES_MAX);
        }
        assert!(recorder.interval > INTERVAL);
        let kept = recorder.samples.clone();
        let spacing = |pair: &[Sample]| pair[1].at.duration_since(pair[0].at);
        // Those kept before and after the last thinning lie differently far apart; none is out of order.
        assert!(kept.windows(2).all(|pair| spacing(pair) > Duration::ZERO));
        let mut timeline = Timeline::default();
        kept.windows(2).for_each(|pair| timeline.add(&pair[0], &pair[1], 0.0));
        assert!(timeline.deliveries_per_second.iter().all(|&rate| (rate - 1_000.0).abs() < 1.0));
    }

    #[test]
    fn phases_follow_each_other_without_a_gap() {
        let mut recorder = Recorder::new(Some(std::process::id()), vec![std::process::id()]);
        recorder.look(Totals::default);
        for name in ["connect", "connect", "settle", "measure"] {
            recorder.phase(name);
        }
        recorder.event("stalled");
        let timeline = recorder.timeline(Totals { open: 3, ..Totals::default() });
        let names: Vec<_> = timeline.phases.iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["connect", "settle", "measure"]);
        assert!(timeline.phases.windows(2).all(|pair| pair[0].to_seconds == pair[1].from_seconds));
        assert_eq!(timeline.begin_of("settle"), Some(timeline.phases[1].from_seconds));
        assert_eq!(timeline.events[0].name, "stalled");
        assert_eq!(timeline.open_connections, [3]);
        assert!(timeline.server_resident_bytes[0].is_some_and(|bytes| bytes > 100_000));
    }
}
