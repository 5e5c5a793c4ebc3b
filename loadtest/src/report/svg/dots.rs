//! Named figures below each other, each a dot with its range. In a narrow drawing the names stand above their rows.

use super::mapping::{Begin, Mapping, written};
use super::{Canvas, FOOTROOM, HEADROOM, MARGIN, frame, mark, place, stroke, text, width_of};
use crate::report::escape::escape;
use crate::report::plot::Dots;

/// Room between the axis and the figures at the right.
const GAP: f64 = 16.0;

pub(super) fn draw(dots: &Dots, canvas: Canvas) -> String {
    let is_wide = canvas.class == "wide";
    let rows: Vec<_> = dots.rows.iter().filter(|row| row.value.is_finite()).collect();
    let figures: Vec<String> = rows.iter().map(|row| written(dots.axis.unit, row.value)).collect();
    let widest =
        |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| width_of(text)).fold(0.0, f64::max);
    let names = widest(&mut rows.iter().map(|row| &row.name)).min(canvas.width * 0.4);
    let left = if is_wide { names + 12.0 } else { 8.0 };
    let right = canvas.width - MARGIN - GAP - widest(&mut figures.iter());
    let row_height = if is_wide { 30.0 } else { 42.0 };
    let top = if dots.level.is_some() { HEADROOM } else { 8.0 };
    let bottom = top + rows.len() as f64 * row_height;
    let values = rows.iter().flat_map(|row| {
        let (low, high) = row.range.unwrap_or((row.value, row.value));
        [low, row.value, high]
    });
    let level = dots.level.iter().map(|(value, _)| *value);
    let axis = Mapping::new(&dots.axis, Begin::Zero, values.chain(level), (left, right));

    let mut inside = String::new();
    let mut free_from = f64::NEG_INFINITY;
    for tick in axis.ticks(canvas.tick_gap.0) {
        let Some(x) = axis.place(tick.at) else { continue };
        inside += &stroke((x, top), (x, bottom), "grid");
        let half = width_of(&tick.label) / 2.0;
        let centre = x.max(half);
        if centre - half >= free_from {
            inside += &text(centre, bottom + 19.0, "tick middle", &tick.label);
            free_from = centre + half + 4.0;
        }
    }
    inside += &stroke((left, bottom), (right, bottom), "axis");
    inside += &text(right, bottom + 37.0, "label end", &dots.axis.label);
    if let Some((value, name)) = &dots.level
        && let Some(x) = axis.place(*value)
    {
        inside += &stroke((x, top - 4.0), (x, bottom), "level");
        let room = width_of(name) / 2.0;
        inside += &text(x.min(canvas.width - room).max(room), top - 10.0, "small middle", name);
    }
    for (number, (row, figure)) in rows.iter().zip(&figures).enumerate() {
        let slot = usize::from(!row.highlighted);
        let y = top + number as f64 * row_height + if is_wide { row_height / 2.0 } else { row_height - 13.0 };
        let mut tooltip = format!("{}: {figure}", row.name);
        if let Some((low, high)) = row.range {
            tooltip += &format!(" ({} to {})", written(dots.axis.unit, low), written(dots.axis.unit, high));
            let (low, high) = (axis.clamped(low), axis.clamped(high));
            inside += &stroke((low, y), (high, y), &format!("range c{slot}"));
            for end in [low, high] {
                inside += &stroke((end, y - 5.0), (end, y + 5.0), &format!("range c{slot}"));
            }
        }
        inside += &mark(slot, axis.clamped(row.value), y);
        let weight = if row.highlighted { " strong" } else { "" };
        inside += &match is_wide {
            true => {
                text(left - 12.0, y + 4.0, &format!("tick end{weight}"), &shortened(&row.name, left - 12.0))
            }
            false => text(0.0, y - 14.0, &format!("tick{weight}"), &shortened(&row.name, canvas.width)),
        };
        inside += &text(canvas.width - MARGIN, y + 4.0, &format!("tick end figure{weight}"), figure);
        let [from, width, height] = [y - row_height / 2.0, canvas.width, row_height].map(place);
        inside += &format!(
            "<rect class=\"spot\" x=\"0\" y=\"{from}\" width=\"{width}\" height=\"{height}\"><title>{}</title></rect>\n",
            escape(&tooltip)
        );
    }
    frame(canvas, bottom + FOOTROOM, &description(dots), &inside)
}

/// `name` cut to what fits into `room`.
fn shortened(name: &str, room: f64) -> String {
    if width_of(name) <= room {
        return name.to_owned();
    }
    let kept = (room / super::CHARACTER) as usize;
    name.chars().take(kept.saturating_sub(1)).chain(['…']).collect()
}

fn description(dots: &Dots) -> String {
    let rows = dots.rows.iter().filter(|row| row.value.is_finite());
    let rows = rows.map(|row| format!("; {}: {}", row.name, written(dots.axis.unit, row.value)));
    format!("{}{}", dots.title, rows.collect::<String>())
}
