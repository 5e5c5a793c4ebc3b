//! How often something is due when it is to happen at a fixed rate. Time is an argument.

use std::time::{Duration, Instant};

/// What is owed for a pause at most: a worker that was held up does not make up for minutes at once.
const OWED_MAX: Duration = Duration::from_millis(200);

/// A rate, and what has been taken of it.
#[derive(Debug)]
pub(super) struct Rhythm {
    per_second: f64,
    owed: f64,
    last: Option<Instant>,
}

impl Rhythm {
    pub(super) fn new(per_second: f64) -> Self {
        Self { per_second, owed: 0.0, last: None }
    }

    /// How many are due since it was asked last; the first time none.
    pub(super) fn due(&mut self, now: Instant) -> usize {
        let passed = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last = Some(now);
        self.owed += passed.min(OWED_MAX).as_secs_f64() * self.per_second;
        let due = self.owed.floor();
        self.owed -= due;
        due as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_however_often_it_is_asked() {
        let begun = Instant::now();
        let mut rhythm = Rhythm::new(30.0);
        let due: usize = (0..=1_000).map(|ms| rhythm.due(begun + Duration::from_millis(ms))).sum();
        assert!((29..=30).contains(&due), "{due}");
        assert!(rhythm.due(begun + Duration::from_secs(60)) <= 6);
        assert_eq!(Rhythm::new(0.0).due(begun), 0);
    }
}
