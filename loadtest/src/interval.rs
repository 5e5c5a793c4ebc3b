//! How far the median of what was measured may be from the median of what is. The interval is exact and assumes nothing
//! about how the values are spread, only that the rounds are independent: between the k-th smallest and the k-th largest
//! of n values lies the median unless fewer than k fall to one side of it, and that has the probability of fewer than
//! k heads in n throws of a coin (order-statistic or sign-test interval; Conover, Practical Nonparametric Statistics,
//! section 3.2).

use serde::Serialize;

/// Fewer rounds than this give an interval that says next to nothing; then the range is told instead.
const VALUES_MIN: usize = 9;
/// The interval misses the median at most this often.
const MISSES_MAX: f64 = 0.05;

/// Where the median lies, at least 95 times in a hundred.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// How often an interval made like this holds the median; at least 0.95, since only whole values can be its ends.
    pub(crate) confidence: f64,
}

impl Interval {
    /// `None` for fewer than nine values, or if one is not a number.
    pub(crate) fn of_median(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        if values.len() < VALUES_MIN || values.iter().any(|value| value.is_nan()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let (outside, misses) = outside(values.len());
        Some(Self {
            low: values[outside],
            high: values[values.len() - 1 - outside],
            confidence: 1.0 - misses,
        })
    }
}

/// How many values may be left out on either side, and how often the median then lies outside.
fn outside(count: usize) -> (usize, f64) {
    // The probability of exactly so many heads, by its logarithm: 0.5 to the power of a large count is no number.
    let mut log_exactly = -(count as f64) * std::f64::consts::LN_2;
    let (mut outside, mut misses, mut below) = (0, 0.0, 0.0);
    for heads in 0..count / 2 {
        below += log_exactly.exp();
        if 2.0 * below > MISSES_MAX {
            break;
        }
        (outside, misses) = (heads, 2.0 * below);
        log_exactly += ((count - heads) as f64 / (heads + 1) as f64).ln();
    }
    (outside, misses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_those_of_the_published_table() {
        // Ranks (counted from 1) of the lower end for 95 %, as printed in tables of the sign-test interval.
        for (count, rank) in
            [(9, 2), (10, 2), (11, 2), (12, 3), (15, 4), (20, 6), (25, 8), (50, 18), (100, 40)]
        {
            let interval = Interval::of_median((1..=count).map(f64::from)).expect("there are enough");
            assert_eq!(interval.low, f64::from(rank), "{count} values");
            assert_eq!(interval.high, f64::from(count + 1 - rank), "{count} values");
            assert!((0.95..1.0).contains(&interval.confidence), "{count} values: {}", interval.confidence);
        }
    }

    #[test]
    fn the_confidence_is_exact() {
        let interval = Interval::of_median((0..9).map(f64::from)).expect("there are enough");
        assert!((interval.confidence - (1.0 - 20.0 / 512.0)).abs() < 1e-12);
    }

    #[test]
    fn few_values_have_no_interval_and_many_do() {
        assert_eq!(Interval::of_median((0..8).map(f64::from)), None);
        assert_eq!(Interval::of_median([f64::NAN; 9]), None);
        assert!(Interval::of_median((0..5_000).map(f64::from)).is_some_and(|it| it.confidence >= 0.95));
    }
}
