//! Which of its streams a publisher publishes to next.

use serde::{Deserialize, Serialize};

/// How a publisher goes through its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// One after the other: neighbouring publications are never of one stream if there are two.
    InTurn,
    /// By lot, each topic as often as its weight says.
    Drawn,
}

/// Goes through the streams of one publisher for ever.
#[derive(Debug)]
pub(crate) enum Rotation {
    /// One after the other.
    InTurn { count: usize, next: usize },
    /// By lot: the running sum of the weights, and the state of a xorshift generator.
    Drawn { sums: Vec<f64>, state: u64 },
}

impl Rotation {
    /// For one stream per weight. The lots depend on `seed` only, so that a run can be repeated.
    pub(crate) fn new(order: Order, weights: impl Iterator<Item = f64>, seed: u64) -> Self {
        match order {
            Order::InTurn => Self::InTurn { count: weights.count(), next: 0 },
            Order::Drawn => {
                let sums = weights.scan(0.0, |sum, weight| {
                    *sum += weight;
                    Some(*sum)
                });
                Self::Drawn { sums: sums.collect(), state: (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) }
            }
        }
    }

    /// What [`Self::next`] is going to give.
    pub(crate) fn peek(&mut self) -> usize {
        match self {
            Self::InTurn { next, .. } => *next,
            Self::Drawn { sums, state } => lot(sums, &mut state.clone()),
        }
    }

    /// The place of the next stream among the publisher's.
    pub(crate) fn next(&mut self) -> usize {
        match self {
            Self::InTurn { count, next } => {
                let at = *next;
                *next = if at + 1 >= *count { 0 } else { at + 1 };
                at
            }
            Self::Drawn { sums, state } => lot(sums, state),
        }
    }
}

fn lot(sums: &[f64], state: &mut u64) -> usize {
    let lot = draw(state) * sums.last().copied().unwrap_or(0.0);
    sums.partition_point(|&sum| sum <= lot).min(sums.len().saturating_sub(1))
}

/// A number from 0 up to 1 (xorshift64*, Marsaglia 2003 and Vigna 2016).
pub(super) fn draw(state: &mut u64) -> f64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_turn_never_repeats_at_once() {
        let mut rotation = Rotation::new(Order::InTurn, [1.0; 3].into_iter(), 0);
        let order: Vec<usize> = (0..7).map(|_| rotation.next()).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn lots_follow_the_weights() {
        let mut rotation = Rotation::new(Order::Drawn, [3.0, 0.0, 1.0].into_iter(), 7);
        let mut counts = [0; 3];
        (0..40_000).for_each(|_| counts[rotation.next()] += 1);
        assert_eq!(counts[1], 0);
        assert!((29_000..31_000).contains(&counts[0]), "{counts:?}");
    }
}
