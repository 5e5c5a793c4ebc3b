//! When publications leave: in a window, at a rate, or as fast as they are taken. Pure arithmetic; time is an
//! argument.

use std::time::{Duration, Instant};

/// How a run publishes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Supply {
    pub(crate) pace: Pace,
    /// Connections to publish over, spread over the threads.
    pub(crate) publishers: usize,
    /// Whether a publisher that was refused waits as long as the server asks.
    pub(crate) obeys_retry_after: bool,
}

/// What decides when a publication leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// At most so many of all publishers' publications are undelivered at any time.
    Window(u64),
    /// So many publications a second of all publishers together, each at a time fixed beforehand. A publisher that
    /// falls behind sends what is overdue as soon as it can, under the time that was intended.
    Rate(f64),
    /// As many as the connections take, each with at most one publication of every stream of its own under way. With
    /// a rate, so many a second are offered, and one that finds no stream free is held back for good. A publication
    /// that is refused is offered again.
    Open(Option<f64>),
}

impl Supply {
    /// One publisher that keeps at most `window` publications undelivered.
    pub(crate) fn window(window: u64) -> Self {
        Self { pace: Pace::Window(window), publishers: 1, obeys_retry_after: true }
    }

    /// The share of publisher `number` in the window: all together have the whole of it, and each at least one.
    pub(super) fn share_of_window(&self, window: u64, number: usize) -> u64 {
        let publishers = self.publishers as u64;
        (window / publishers + u64::from((number as u64) < window % publishers)).max(1)
    }
}

/// The intended times of one publisher, evenly spaced, and offset against those of the others.
#[derive(Debug)]
pub(super) struct Timetable {
    step_ns: f64,
    lead_ns: f64,
    /// When the first was asked for.
    begin: Option<Instant>,
    /// Times that have been used.
    used: u64,
}

impl Timetable {
    /// Of publisher `number` of `publishers`, that together publish `per_second`.
    pub(super) fn new(per_second: f64, number: usize, publishers: usize) -> Self {
        let between_ns = 1e9 / per_second;
        let (step_ns, lead_ns) = (between_ns * publishers as f64, between_ns * number as f64);
        Self { step_ns, lead_ns, begin: None, used: 0 }
    }

    /// The next intended time; the timetable begins with the first call.
    pub(super) fn next(&mut self, now: Instant) -> Instant {
        let begin = *self.begin.get_or_insert(now);
        // Computed from the beginning, so that no rounding adds up.
        begin + Duration::from_nanos((self.lead_ns + self.step_ns * self.used as f64) as u64)
    }

    /// The next intended time if it has come; it is used then.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next(now);
        (due <= now).then(|| {
            self.used += 1;
            due
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_take_turns_and_keep_the_rate() {
        let start = Instant::now();
        let mut tables: Vec<Timetable> = (0..4).map(|number| Timetable::new(1_000.0, number, 4)).collect();
        for table in &mut tables {
            assert!(table.next(start) >= start);
        }
        let second = start + Duration::from_secs(1);
        let mut times: Vec<Instant> = Vec::new();
        for table in &mut tables {
            times.extend(std::iter::from_fn(|| table.take_due(second)));
        }
        times.sort();
        assert_eq!(times.len(), 1_001, "the first is due at once");
        for (index, time) in times.iter().enumerate() {
            assert_eq!(time.duration_since(start).as_millis(), index as u128);
        }
    }

    #[test]
    fn what_is_overdue_keeps_its_time() {
        let start = Instant::now();
        let mut table = Timetable::new(10.0, 0, 1);
        assert_eq!(table.take_due(start), Some(start));
        let late = start + Duration::from_millis(350);
        let due: Vec<Duration> = std::iter::from_fn(|| table.take_due(late)).map(|due| due - start).collect();
        assert_eq!(due, [100, 200, 300].map(Duration::from_millis));
        assert_eq!(table.next(late), start + Duration::from_millis(400));
    }

    #[test]
    fn a_window_is_shared_out_whole() {
        let supply = Supply { publishers: 3, ..Supply::window(32) };
        let shares = [0, 1, 2].map(|number| supply.share_of_window(32, number));
        assert_eq!(shares.iter().sum::<u64>(), 32);
        assert_eq!(supply.share_of_window(1, 2), 1);
    }
}
