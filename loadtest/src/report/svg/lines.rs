//! Lines over a common axis: spans and events behind them, legend above, a tooltip for each place.

use super::mapping::{Begin, Mapping, written};
use super::{Canvas, FOOTROOM, HEADROOM, MARGIN, SLOTS, frame, mark, place, stroke, text, width_of};
use crate::report::escape::escape;
use crate::report::plot::{Lines, Scale, Series, Unit};

/// Stretches of the x axis that have a tooltip of their own, at most.
const TOOLTIPS_MAX: usize = 100;
/// Points of a series that are drawn, at most: more than there are pixels show nothing more.
const POINTS_MAX: usize = 1_000;
/// The row in which spans are named.
const SPAN_ROW: f64 = 18.0;

/// The rows in which events are named, above the spans' names so that no line runs through them.
const EVENT_ROW: f64 = 15.0;
const EVENT_ROWS_MAX: usize = 3;

/// What the series are called; nothing for a single one, which the title names.
pub(super) fn legend(lines: &Lines) -> String {
    let shown = || shown(lines);
    if shown().count() < 2 {
        return String::new();
    }
    let items = shown().map(|(slot, series)| {
        let sample = match series.dotted {
            true => mark(slot, 14.0, 6.0),
            false => String::new(),
        };
        format!(
            "<li><svg class=\"swatch\" viewBox=\"0 0 28 12\" aria-hidden=\"true\"><path class=\"line c{}\" d=\"M1 6H27\"/>\
             {sample}</svg>{}</li>",
            slot % SLOTS,
            escape(&series.name)
        )
    });
    format!("<ul class=\"legend\">{}</ul>\n", items.collect::<String>())
}

/// The series that have points, with their colours.
fn shown(lines: &Lines) -> impl Iterator<Item = (usize, &Series)> {
    lines.series.iter().enumerate().filter(|(_, series)| !series.points.is_empty())
}

/// Both axes, laid out.
struct Axes {
    x: Mapping,
    y: Mapping,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

pub(super) fn draw(lines: &Lines, canvas: Canvas) -> String {
    let axes = lay_out(lines, canvas);
    let mut inside = spans(lines, &axes);
    inside += &grid(lines, &axes, canvas);
    if let Some((value, name)) = &lines.level
        && let Some(y) = axes.y.place(*value)
    {
        inside += &stroke((axes.left, y), (axes.right, y), "level");
        inside += &text(axes.right - 4.0, y - 6.0, "small end halo", name);
    }
    for (slot, series) in shown(lines) {
        inside += &line(slot, series, &axes);
    }
    inside += &events(lines, &axes);
    inside += &tooltips(lines, &axes);
    frame(canvas, canvas.height, &description(lines), &inside)
}

fn lay_out(lines: &Lines, canvas: Canvas) -> Axes {
    let points = || lines.series.iter().flat_map(|series| &series.points);
    let level = lines.level.iter().map(|(value, _)| *value);
    let spans = lines.spans.iter().flat_map(|(from, to, _)| [*from, *to]);
    let begin = if lines.y.unit == Unit::Ratio { Begin::Below } else { Begin::Zero };
    let events = lines.events.len().min(EVENT_ROWS_MAX) as f64 * EVENT_ROW;
    let top = HEADROOM + if lines.spans.is_empty() { 0.0 } else { SPAN_ROW } + events;
    let bottom = canvas.height - FOOTROOM;
    let y = Mapping::new(&lines.y, begin, points().map(|point| point.1).chain(level), (bottom, top));
    let labels = y.ticks(canvas.tick_gap.1);
    let widest = labels.iter().map(|tick| width_of(&tick.label)).fold(0.0, f64::max);
    let (left, right) = (widest + 12.0, canvas.width - MARGIN);
    let x =
        Mapping::new(&lines.x, Begin::Smallest, points().map(|point| point.0).chain(spans), (left, right));
    Axes { x, y, left, right, top, bottom }
}

fn grid(lines: &Lines, axes: &Axes, canvas: Canvas) -> String {
    let mut drawn = String::new();
    for tick in axes.y.ticks(canvas.tick_gap.1) {
        let Some(y) = axes.y.place(tick.at) else { continue };
        drawn += &stroke((axes.left, y), (axes.right, y), "grid");
        drawn += &text(axes.left - 8.0, y + 4.0, "tick end", &tick.label);
    }
    let mut free_from = f64::NEG_INFINITY;
    for tick in axes.x.ticks(canvas.tick_gap.0) {
        let Some(x) = axes.x.place(tick.at) else { continue };
        drawn += &stroke((x, axes.bottom), (x, axes.bottom + 5.0), "axis");
        // A label may not run into its neighbour nor over the edge.
        let half = width_of(&tick.label) / 2.0;
        let centre = x.min(canvas.width - half).max(half);
        if centre - half >= free_from {
            drawn += &text(centre, axes.bottom + 19.0, "tick middle", &tick.label);
            free_from = centre + half + 4.0;
        }
    }
    drawn += &stroke((axes.left, axes.bottom), (axes.right, axes.bottom), "axis");
    drawn += &text(0.0, 14.0, "label", &lines.y.label);
    drawn += &text(axes.right, axes.bottom + 37.0, "label end", &lines.x.label);
    drawn
}

/// Every other stretch is shaded; its name stands above it if there is room.
fn spans(lines: &Lines, axes: &Axes) -> String {
    let mut drawn = String::new();
    for (number, (from, to, name)) in lines.spans.iter().enumerate() {
        let (from, to) = (axes.x.clamped(*from), axes.x.clamped(*to));
        let [x, y, width, height] =
            [from, axes.top - SPAN_ROW, to - from, axes.bottom - axes.top + SPAN_ROW].map(place);
        drawn += &format!(
            "<rect class=\"span{}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"><title>{}</title></rect>\n",
            number % 2,
            escape(name)
        );
        if width_of(name) <= to - from {
            drawn += &text((from + to) / 2.0, axes.top - 5.0, "small middle", name);
        }
    }
    drawn
}

/// Names are set in rows in turn, since moments may be close.
fn events(lines: &Lines, axes: &Axes) -> String {
    let mut drawn = String::new();
    let shown = lines.events.iter().filter_map(|(at, name)| Some((axes.x.place(*at)?, name)));
    let spans = if lines.spans.is_empty() { 0.0 } else { SPAN_ROW };
    for (number, (x, name)) in shown.enumerate() {
        let y = axes.top - spans - 4.0 - (number % EVENT_ROWS_MAX) as f64 * EVENT_ROW;
        // With a gap for the row of the spans' names.
        drawn += &stroke((x, y - 9.0), (x, axes.top - spans), "event");
        drawn += &stroke((x, axes.top), (x, axes.bottom), "event");
        drawn += &match x + 6.0 + width_of(name) <= axes.right {
            true => text(x + 5.0, y, "small halo", name),
            false => text(x - 5.0, y, "small end halo", name),
        };
    }
    drawn
}

fn line(slot: usize, series: &Series, axes: &Axes) -> String {
    let every = series.points.len().div_ceil(POINTS_MAX).max(1);
    let (mut path, mut marks, mut pen_down) = (String::new(), String::new(), false);
    for &(x, y) in series.points.iter().step_by(every) {
        let (Some(x), Some(y)) = (axes.x.place(x), axes.y.place(y)) else {
            pen_down = false;
            continue;
        };
        path += &format!("{}{} {}", if pen_down { 'L' } else { 'M' }, place(x), place(y));
        pen_down = true;
        if series.dotted {
            marks += &mark(slot, x, y);
        }
    }
    format!("<path class=\"line c{}\" d=\"{path}\"/>\n{marks}", slot % SLOTS)
}

/// Invisible stretches side by side, each with the figures of all series there.
fn tooltips(lines: &Lines, axes: &Axes) -> String {
    let mut places: Vec<f64> =
        shown(lines).flat_map(|(_, series)| series.points.iter().map(|point| point.0)).collect();
    places.retain(|&x| axes.x.place(x).is_some());
    places.sort_by(f64::total_cmp);
    places.dedup();
    let every = places.len().div_ceil(TOOLTIPS_MAX).max(1);
    let places: Vec<(f64, f64)> =
        places.into_iter().step_by(every).filter_map(|value| Some((value, axes.x.place(value)?))).collect();
    let mut drawn = String::new();
    for (index, &(value, x)) in places.iter().enumerate() {
        let from = index.checked_sub(1).map_or(axes.left, |before| (places[before].1 + x) / 2.0);
        let to = places.get(index + 1).map_or(axes.right, |after| (after.1 + x) / 2.0);
        let figures = shown(lines).filter_map(|(_, series)| {
            let y = nearest(series, value)?;
            Some(format!("\n{}: {}", series.name, written(lines.y.unit, y)))
        });
        let figures: String = figures.collect();
        let [from, top, width, height] = [from, axes.top, to - from, axes.bottom - axes.top].map(place);
        drawn += &format!(
            "<rect class=\"spot\" x=\"{from}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"><title>{}{}</title></rect>\n",
            escape(&at(lines, value)),
            escape(&figures)
        );
    }
    drawn
}

/// How a place on the x axis is written.
fn at(lines: &Lines, value: f64) -> String {
    match lines.x.scale {
        Scale::Percentile => {
            let percent = format!("{:.4}", value * 100.0);
            format!("{} %", percent.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => format!("{}: {}", lines.x.label, written(lines.x.unit, value)),
    }
}

fn nearest(series: &Series, x: f64) -> Option<f64> {
    let known = series.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
    known.min_by(|a, b| (a.0 - x).abs().total_cmp(&(b.0 - x).abs())).map(|point| point.1)
}

/// For whoever cannot see it: title, and from where to where each series goes.
fn description(lines: &Lines) -> String {
    let mut text = lines.title.clone();
    for (_, series) in shown(lines) {
        let values = || series.points.iter().map(|point| point.1).filter(|y| y.is_finite());
        let (low, high) =
            (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        if low <= high {
            let [low, high] = [low, high].map(|value| written(lines.y.unit, value));
            text += &format!("; {}: {low} to {high}", series.name);
        }
    }
    text
}
