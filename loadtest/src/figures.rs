//! The figures of a run, as they are reported and stored. Units are in the names. Medians and ratios are made
//! here; how they look is the report's business.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::dialect::v1::Gaps;
use crate::generator::Faults;
use crate::interval::Interval;
use crate::procfs::CpuTime;
use crate::server::ledger::Audit;
use crate::timeline::Timeline;

/// Below this share of a core the server was waiting, and its throughput says more about the generator.
pub(crate) const BUSY_SHARE: f64 = 0.9;
/// From this share of the time on, waiting for a core is more than the odd kernel thread.
const WAIT_SHARE: f64 = 0.05;

/// CPU time of the server over the measured window.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct CpuFigures {
    /// Share of one core; two busy cores are 2.
    pub(crate) share: f64,
    pub(crate) user_ns_per_delivery: f64,
    pub(crate) system_ns_per_delivery: f64,
}

impl CpuFigures {
    pub(crate) fn new(used: CpuTime, seconds: f64, deliveries: u64) -> Self {
        let per_delivery = |ns: u64| if deliveries == 0 { 0.0 } else { ns as f64 / deliveries as f64 };
        Self {
            share: used.total_ns() as f64 / (seconds * 1e9),
            user_ns_per_delivery: per_delivery(used.user_ns),
            system_ns_per_delivery: per_delivery(used.system_ns),
        }
    }

    pub(crate) fn ns_per_delivery(self) -> f64 {
        self.user_ns_per_delivery + self.system_ns_per_delivery
    }
}

/// From publishing to reading, of every message of the sampled clients.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct LatencyFigures {
    pub(crate) samples: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p90_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    pub(crate) max_ns: u64,
}

impl LatencyFigures {
    pub(crate) fn new(histogram: &Histogram<u64>) -> Self {
        Self {
            samples: histogram.len(),
            p50_ns: histogram.value_at_quantile(0.5),
            p90_ns: histogram.value_at_quantile(0.9),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            max_ns: histogram.max(),
        }
    }
}

/// Points of a latency curve for each nine.
const CURVE_POINTS_A_NINE: i32 = 10;
/// Nines a latency curve goes to: 99.999 %.
const CURVE_NINES: i32 = 5;

/// Latency by quantile, as (quantile, nanoseconds), equally far apart on an axis where each further nine takes the
/// same room. It ends where less than one sample would be left.
pub(crate) fn latency_curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    let quantiles = (0..=CURVE_NINES * CURVE_POINTS_A_NINE)
        .map(|step| 1.0 - 10_f64.powf(-f64::from(step) / f64::from(CURVE_POINTS_A_NINE)));
    let resolved = quantiles.take_while(|quantile| (1.0 - quantile) * histogram.len() as f64 >= 1.0 - 1e-6);
    resolved.map(|quantile| (quantile, histogram.value_at_quantile(quantile))).collect()
}

/// The median of several curves, as far as all of them go.
pub(crate) fn median_curve<'a>(curves: impl Iterator<Item = &'a [(f64, u64)]>) -> Vec<(f64, f64)> {
    let curves: Vec<_> = curves.collect();
    let length = curves.iter().map(|curve| curve.len()).min().unwrap_or(0);
    let points = (0..length).filter_map(|index| {
        let middle = median(curves.iter().map(|curve| curve[index].1 as f64))?;
        Some((curves[0][index].0, middle))
    });
    points.collect()
}

/// What the publishers did within the measured window, by the second.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct SupplyFigures {
    /// What was asked for, if a rate was.
    pub(crate) intended_per_second: Option<f64>,
    /// Requests sent; a publication that is offered again counts again.
    pub(crate) offered_per_second: f64,
    pub(crate) accepted_per_second: f64,
    /// Answered with 503.
    pub(crate) refused_per_second: f64,
    /// Due, and never sent: everything their publisher may have under way was unanswered.
    pub(crate) held_per_second: f64,
    /// From the intended time to the sending; the latency of a delivery counts from the intended time too.
    pub(crate) lag_p99_ns: u64,
    pub(crate) lag_max_ns: u64,
    /// Whether as much was sent and answered, or held back for good, as was intended.
    pub(crate) kept_up: bool,
}

/// Resident memory of the server, in user space; what the kernel holds for its sockets is not in it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct MemoryFigures {
    /// Before the first client.
    pub(crate) before_bytes: u64,
    /// With all clients connected and nothing published.
    pub(crate) connected_bytes: u64,
    /// At the end, before the clients leave.
    pub(crate) end_bytes: u64,
    /// The most since the server started.
    pub(crate) peak_bytes: Option<u64>,
    /// (`connected_bytes` − `before_bytes`) / clients.
    pub(crate) per_connection_bytes: f64,
}

/// The server's open descriptors: how many connections it still holds on to.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct DescriptorFigures {
    pub(crate) connected: u64,
    pub(crate) end: u64,
}

/// One round against one server.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    pub(crate) server: &'static str,
    pub(crate) round: usize,
    pub(crate) clients: usize,
    pub(crate) connects_per_second: f64,
    pub(crate) seconds: f64,
    /// Publications over the whole round, the warm-up included.
    pub(crate) published: u64,
    /// Publications refused with 503 for good, and made up for by others.
    pub(crate) refused: u64,
    /// `None` if nothing was published.
    pub(crate) supply: Option<SupplyFigures>,
    /// Messages received in their turn within the measured window.
    pub(crate) deliveries: u64,
    pub(crate) deliveries_per_second: f64,
    /// From the end of the window to when everything under way had come, or was given up.
    pub(crate) drain_seconds: f64,
    pub(crate) messages_per_read: f64,
    /// The server's, if its process is known.
    pub(crate) cpu: Option<CpuFigures>,
    /// How long the server was ready to run while something else had its core, as a share of the window.
    pub(crate) core_wait_share: Option<f64>,
    /// The harness's, with all its processes, as a share of one core.
    pub(crate) generator_share: Option<f64>,
    /// The same as `core_wait_share`, of the harness.
    pub(crate) generator_wait_share: Option<f64>,
    /// Of all its processes together.
    pub(crate) generator_threads: usize,
    pub(crate) generator_processes: usize,
    /// How many cores the generator could use at once.
    pub(crate) generator_cores: usize,
    pub(crate) latency: LatencyFigures,
    /// Quantiles and their latencies.
    pub(crate) latency_curve_ns: Vec<(f64, u64)>,
    pub(crate) faults: Faults,
    /// What clients were told they miss; `None` if their protocol does not say.
    pub(crate) told: Option<Gaps>,
    /// Connections of reading clients that the server ended, by close code.
    pub(crate) closed: BTreeMap<String, u64>,
    /// Clients that stopped reading on purpose.
    pub(crate) stalled: usize,
    /// The round was given up because nothing reached everybody for too long.
    pub(crate) stuck: bool,
    pub(crate) memory: Option<MemoryFigures>,
    /// `None` if the server keeps no ledger.
    pub(crate) audit: Option<Audit>,
    pub(crate) descriptors: Option<DescriptorFigures>,
    /// The round, moment by moment.
    pub(crate) timeline: Timeline,
}

impl Round {
    /// Every client that was reading got everything, once, in order, stayed connected, and the server's own books agree.
    pub(crate) fn is_faultless(&self) -> bool {
        let agrees = self.audit.as_ref().is_none_or(|audit| audit.disagreement.is_none());
        let is_told_of_none = self.told.is_none_or(|gaps| gaps.missing() == 0);
        self.faults.is_clean() && is_told_of_none && self.closed.is_empty() && !self.stuck && agrees
    }

    /// What held the server back, if anything. `None` without its CPU time.
    pub(crate) fn limit(&self) -> Option<Limit> {
        let generator = self.generator_share.map(|share| share / self.generator_cores as f64);
        Some(Limit::of(self.cpu?.share, self.core_wait_share, generator, self.generator_wait_share))
    }
}

/// What bounded the throughput of a round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    /// The server used all of a core: the figure is its own.
    Server,
    /// Server or generator wanted a core, and something else on the machine had it.
    Machine,
    /// The server was idle now and then, and the generator was not.
    Generator,
    /// Neither was busy: there was too little under way.
    Window,
}

impl Limit {
    /// From how much of a core the server used, and the generator of all that it could; and how long each waited for
    /// one, as a share of the time.
    fn of(
        server: f64,
        server_wait: Option<f64>,
        generator: Option<f64>,
        generator_wait: Option<f64>,
    ) -> Self {
        let waited = |share: Option<f64>| share.is_some_and(|share| share >= WAIT_SHARE);
        if server >= BUSY_SHARE {
            Self::Server
        } else if waited(server_wait) {
            Self::Machine
        } else if generator.is_some_and(|share| share >= BUSY_SHARE) {
            // That its threads waited for a core says nothing then: they may have waited for each other.
            Self::Generator
        } else if waited(generator_wait) {
            Self::Machine
        } else {
            Self::Window
        }
    }
}

/// Medians over the rounds of one server.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Medians {
    pub(crate) rounds: usize,
    pub(crate) deliveries_per_second: f64,
    pub(crate) cpu: Option<CpuFigures>,
    /// Of the sum of user and system; not the sum of their medians.
    pub(crate) ns_per_delivery: Option<f64>,
    pub(crate) messages_per_read: f64,
    pub(crate) p50_ns: f64,
    pub(crate) p99_ns: f64,
    pub(crate) p999_ns: f64,
}

impl Medians {
    /// `None` without a round.
    pub(crate) fn of(rounds: &[&Round]) -> Option<Self> {
        let over = |figure: fn(&Round) -> f64| median(rounds.iter().map(|round| figure(round)));
        let over_cpu = |figure: fn(CpuFigures) -> f64| {
            let figures: Option<Vec<f64>> = rounds.iter().map(|round| round.cpu.map(figure)).collect();
            figures.and_then(|figures| median(figures.into_iter()))
        };
        let cpu = || {
            Some(CpuFigures {
                share: over_cpu(|cpu| cpu.share)?,
                user_ns_per_delivery: over_cpu(|cpu| cpu.user_ns_per_delivery)?,
                system_ns_per_delivery: over_cpu(|cpu| cpu.system_ns_per_delivery)?,
            })
        };
        Some(Self {
            rounds: rounds.len(),
            deliveries_per_second: over(|round| round.deliveries_per_second)?,
            cpu: cpu(),
            ns_per_delivery: over_cpu(CpuFigures::ns_per_delivery),
            messages_per_read: over(|round| round.messages_per_read)?,
            p50_ns: over(|round| round.latency.p50_ns as f64)?,
            p99_ns: over(|round| round.latency.p99_ns as f64)?,
            p999_ns: over(|round| round.latency.p999_ns as f64)?,
        })
    }
}

/// Target over what it is compared with.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Ratio {
    /// Above 1: the target delivers more.
    pub(crate) deliveries_per_second: f64,
    /// Below 1: the target spends less on each.
    pub(crate) ns_per_delivery: Option<f64>,
    /// Below 1: the target is faster.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// The smallest and largest ratio of deliveries among the pairs of neighbouring rounds.
    pub(crate) deliveries_range: (f64, f64),
    /// Where the median of the ratios of deliveries lies; from nine pairs on.
    pub(crate) deliveries_interval: Option<Interval>,
    /// The same of CPU time.
    pub(crate) ns_interval: Option<Interval>,
}

impl Ratio {
    /// The median of the ratios of neighbouring rounds, which were measured under the same conditions as far as
    /// that can be had on a machine shared with others.
    pub(crate) fn of(pairs: &[(&Round, &Round)]) -> Option<Self> {
        let deliveries: Vec<f64> = pairs
            .iter()
            .map(|(target, floor)| target.deliveries_per_second / floor.deliveries_per_second)
            .collect();
        let cpu: Option<Vec<f64>> = pairs
            .iter()
            .map(|(target, floor)| {
                // In a round too short for the kernel's clock there is nothing to divide by.
                let floor_ns = floor.cpu.map(CpuFigures::ns_per_delivery).filter(|&ns| ns > 0.0)?;
                Some(target.cpu?.ns_per_delivery() / floor_ns)
            })
            .collect();
        let latency =
            |figure: fn(LatencyFigures) -> u64| {
                median(pairs.iter().map(|(target, other)| {
                    figure(target.latency) as f64 / figure(other.latency).max(1) as f64
                }))
            };
        let range =
            (deliveries.iter().copied().reduce(f64::min)?, deliveries.iter().copied().reduce(f64::max)?);
        Some(Self {
            deliveries_interval: Interval::of_median(deliveries.iter().copied()),
            ns_interval: cpu.iter().find_map(|cpu| Interval::of_median(cpu.iter().copied())),
            deliveries_per_second: median(deliveries.into_iter())?,
            ns_per_delivery: cpu.and_then(|cpu| median(cpu.into_iter())),
            p50: latency(|latency| latency.p50_ns)?,
            p99: latency(|latency| latency.p99_ns)?,
            deliveries_range: range,
        })
    }

    /// The interval if there are enough rounds for one, else the range.
    pub(crate) fn deliveries_span(&self) -> (f64, f64) {
        self.deliveries_interval.map_or(self.deliveries_range, |interval| (interval.low, interval.high))
    }
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median([].into_iter()), None);
    }

    #[test]
    fn a_latency_curve_goes_as_far_as_there_are_samples() {
        let mut histogram = Histogram::new(3).expect("three digits are allowed");
        (1..=1_000).for_each(|value| histogram.record(value * 1_000).expect("in range"));
        let curve = latency_curve(&histogram);
        let (last, _) = curve[curve.len() - 1];
        assert_eq!(curve.len(), 31);
        assert!((last - 0.999).abs() < 1e-9, "{last}");
        assert!(curve.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        let short = &curve[..3];
        assert_eq!(median_curve([&curve[..], short].into_iter()).len(), 3);
        assert!(latency_curve(&Histogram::new(3).expect("three digits are allowed")).is_empty());
    }

    #[test]
    fn what_was_the_limit_is_told_from_who_was_busy_and_who_waited() {
        assert_eq!(Limit::of(0.95, Some(0.04), Some(1.0), Some(0.5)), Limit::Server);
        assert_eq!(Limit::of(0.6, Some(0.3), Some(0.95), Some(0.0)), Limit::Machine);
        assert_eq!(Limit::of(0.6, Some(0.0), Some(0.95), Some(0.0)), Limit::Generator);
        // Two processes of the generator on one core.
        assert_eq!(Limit::of(0.6, Some(0.0), Some(0.97), Some(0.9)), Limit::Generator);
        assert_eq!(Limit::of(0.6, Some(0.0), Some(0.7), Some(0.2)), Limit::Machine);
        assert_eq!(Limit::of(0.6, None, None, None), Limit::Window);
    }

    #[test]
    fn cpu_time_is_spread_over_deliveries() {
        let used = CpuTime { user_ns: 100_000_000, system_ns: 900_000_000 };
        let cpu = CpuFigures::new(used, 1.0, 1_000_000);
        assert!((cpu.share - 1.0).abs() < 1e-9);
        assert!((cpu.ns_per_delivery() - 1_000.0).abs() < 1e-9);
        assert_eq!(CpuFigures::new(used, 1.0, 0).ns_per_delivery(), 0.0);
    }
}
