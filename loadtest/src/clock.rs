//! The clock that several processes of this machine share. An [`Instant`] is a reading of the kernel's monotonic
//! clock, the same for everybody, but keeps the number to itself; so moments travel as that clock's nanoseconds.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How often both clocks are read to find how far apart they are: between two readings the thread may have lost its
/// core, and the closest pair counts.
const READINGS: usize = 16;

/// `at` in nanoseconds of the monotonic clock.
pub(crate) fn to_ns(at: Instant) -> u64 {
    let (now, now_ns) = now();
    match now.checked_duration_since(at) {
        Some(ago) => now_ns.saturating_sub(ago.as_nanos() as u64),
        None => now_ns + at.duration_since(now).as_nanos() as u64,
    }
}

/// The moment at which the monotonic clock shows, or showed, so many nanoseconds; now, if that was before it began.
pub(crate) fn from_ns(ns: u64) -> Instant {
    let (now, now_ns) = now();
    match now_ns.checked_sub(ns) {
        Some(ago) => now.checked_sub(Duration::from_nanos(ago)).unwrap_or(now),
        None => now + Duration::from_nanos(ns - now_ns),
    }
}

/// One moment by both clocks.
fn now() -> (Instant, u64) {
    let read = || {
        let before = Instant::now();
        let time = clock_gettime(ClockId::Monotonic);
        (before.elapsed(), before, time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    };
    let mut closest = read();
    for _ in 1..READINGS {
        let reading = read();
        if reading.0 < closest.0 {
            closest = reading;
        }
    }
    let (apart, before, ns) = closest;
    (before + apart / 2, ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_the_journey() {
        // Far more than two readings of a clock are apart.
        let close = Duration::from_millis(1);
        let now = Instant::now();
        for at in [now, now - Duration::from_millis(700), now + Duration::from_secs(3)] {
            let back = from_ns(to_ns(at));
            let off = back.checked_duration_since(at).unwrap_or_else(|| at.duration_since(back));
            assert!(off < close, "{off:?}");
        }
        assert!(from_ns(u64::MAX / 2) > now);
    }
}
