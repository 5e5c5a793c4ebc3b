//! The plots that most scenarios show: latency by percentile, and the course of rounds over time. Each takes named
//! data of one or several servers and makes plots of it; which rounds stand for a server is the caller's choice.

use super::{Axis, Lines, Scale, Series, Unit};
use crate::timeline::Timeline;

/// Phases that a scenario's measurement is, best first: their beginning is where time is counted from.
const MEASURED: [&str; 2] = ["measuring", "resting"];
/// Up to this many servers, user and system time are told apart.
const SPLIT_CPU_MAX: usize = 2;

/// Latency by percentile: for each server (quantile, nanoseconds). Both axes are logarithmic, that of the percentiles by
/// what is left to 100 %.
pub(crate) fn latency(curves: Vec<(String, Vec<(f64, f64)>)>) -> Lines {
    let x = Axis::new("percentile", Unit::Share).scale(Scale::Percentile);
    let y = Axis::new("from publish to read", Unit::Nanoseconds).scale(Scale::Log);
    let lines = Lines::new("Latency by percentile", x, y)
        .note("Each further nine takes the same room. Median over the rounds.");
    curves.into_iter().fold(lines, |lines, (name, mut points)| {
        // The very fastest message would take half of a logarithmic axis.
        points.retain(|(quantile, _)| *quantile > 0.0);
        lines.series(Series::new(name, points))
    })
}

/// The course of one round for each server. Phases and events are those of the first; the others are moved so that
/// their measured windows begin at the same place. What stays zero all the time is left out.
pub(crate) fn over_time(rounds: &[(String, &Timeline)]) -> Vec<Lines> {
    let refused = |timeline: &Timeline| timeline.refused_per_second.iter().any(|&rate| rate > 0.0);
    let published: &[(&str, Figure)] = match rounds.iter().any(|(_, timeline)| refused(timeline)) {
        true => &[
            ("published", |timeline, index| Some(timeline.published_per_second[index])),
            ("refused", |timeline, index| Some(timeline.refused_per_second[index])),
        ],
        false => &[("", |timeline, index| Some(timeline.published_per_second[index]))],
    };
    let cpu: &[(&str, Figure)] = match rounds.len() {
        0..=SPLIT_CPU_MAX => {
            &[("in all", server_share), ("user", |timeline, index| timeline.server_user_share[index])]
        }
        _ => &[("", server_share)],
    };
    let deliveries: Figure = |timeline, index| Some(timeline.deliveries_per_second[index]);
    let generator: Figure = |timeline, index| timeline.generator_share[index];
    let memory: Figure = |timeline, index| Some(timeline.server_resident_bytes[index]? as f64);
    let open: Figure = |timeline, index| Some(timeline.open_connections[index] as f64);
    let axis = |label: &str, unit: Unit| Axis::new(label, unit);
    let mut plots = vec![
        course(rounds, "Throughput", axis("deliveries/s", Unit::PerSecond), &[("", deliveries)]),
        course(rounds, "Publications", axis("publications/s", Unit::PerSecond), published),
        course(rounds, "CPU of the server", axis("share of one core", Unit::Share), cpu),
        course(rounds, "CPU of the generator", axis("share of one core", Unit::Share), &[("", generator)]),
        course(rounds, "Memory of the server", axis("resident", Unit::Bytes), &[("", memory)]),
        course(rounds, "Open connections", axis("connections", Unit::Count), &[("", open)]),
    ];
    let happens = |lines: &Lines| {
        lines.series.iter().flat_map(|series| &series.points).any(|&(_, y)| y.is_finite() && y != 0.0)
    };
    plots.retain(happens);
    plots
}

/// One figure of a timeline at a place of its lists.
type Figure = fn(&Timeline, usize) -> Option<f64>;

/// Some figures of each round, with what distinguishes their names.
fn course(rounds: &[(String, &Timeline)], title: &str, y: Axis, figures: &[(&str, Figure)]) -> Lines {
    let origin = |timeline: &Timeline| MEASURED.iter().find_map(|name| timeline.begin_of(name));
    let first = rounds.first().map(|(_, timeline)| *timeline);
    let since = match first.and_then(origin) {
        Some(_) => "since measuring began",
        None => "since the round began",
    };
    let mut lines = Lines::new(title, Axis::new(since, Unit::Seconds), y);
    if let Some(first) = first {
        let begin = origin(first).unwrap_or(0.0);
        let phases = first.phases.iter();
        lines.spans = phases
            .map(|phase| (phase.from_seconds - begin, phase.to_seconds - begin, phase.name.to_owned()))
            .collect();
        let events = first.events.iter();
        lines.events = events.map(|event| (event.at_seconds - begin, event.name.clone())).collect();
    }
    for (suffix, figure) in figures {
        for (name, timeline) in rounds {
            let begin = origin(timeline).unwrap_or(0.0);
            let times = timeline.seconds.iter().map(|seconds| seconds - begin);
            let values = (0..timeline.seconds.len()).map(|index| figure(timeline, index).unwrap_or(f64::NAN));
            let name = if suffix.is_empty() { name.clone() } else { format!("{name}, {suffix}") };
            lines = lines.series(Series::new(name, times.zip(values).collect()));
        }
    }
    lines
}

fn server_share(timeline: &Timeline, index: usize) -> Option<f64> {
    Some(timeline.server_user_share[index]? + timeline.server_system_share[index]?)
}
