//! Draws plots as inline SVG. Each is drawn twice, wide and narrow, with letters of the same size: the page shows the
//! one that fits its window, so that nothing is scaled until it cannot be read. Colours, dashes and letters are
//! classes, defined once in the page's style. No script: what a place shows in figures is a `<title>` tooltip.

mod dots;
mod lines;
mod mapping;

use super::escape::escape;
use super::plot::Plot;

/// Colours, dashes and marks that are told apart; further series begin again with the first.
pub(super) const SLOTS: usize = 6;

/// How much room a drawing has, in units that are pixels when it is shown at its natural size.
#[derive(Debug, Clone, Copy)]
struct Canvas {
    class: &'static str,
    width: f64,
    height: f64,
    /// Labels along an axis at most this close to each other.
    tick_gap: (f64, f64),
}

const WIDE: Canvas = Canvas { class: "wide", width: 640.0, height: 320.0, tick_gap: (78.0, 44.0) };
const NARROW: Canvas = Canvas { class: "narrow", width: 360.0, height: 270.0, tick_gap: (62.0, 40.0) };
/// Room for a character of a label at the size the style gives it; wider than most.
const CHARACTER: f64 = 7.4;
/// From the upper edge to where the axis label ends and the drawing may begin.
const HEADROOM: f64 = 26.0;
/// From the lower end of the drawing to the edge: tick labels, and the axis label.
const FOOTROOM: f64 = 42.0;
/// From the right end of the drawing to the edge.
const MARGIN: f64 = 14.0;

/// The plot with its title, note and legend.
pub(super) fn figure(plot: &Plot) -> String {
    let legend = match plot {
        Plot::Lines(lines) => lines::legend(lines),
        Plot::Dots(_) => String::new(),
    };
    let drawings: String = [WIDE, NARROW]
        .map(|canvas| match plot {
            Plot::Lines(lines) => lines::draw(lines, canvas),
            Plot::Dots(dots) => dots::draw(dots, canvas),
        })
        .concat();
    let note = match plot.note() {
        "" => String::new(),
        note => format!("<span class=\"note\">{}</span>", escape(note)),
    };
    let title = escape(plot.title());
    format!(
        "<figure><figcaption><span class=\"title\">{title}</span>{note}</figcaption>{legend}\n{drawings}</figure>\n"
    )
}

/// The outermost element, with `inside` drawn.
fn frame(canvas: Canvas, height: f64, title: &str, inside: &str) -> String {
    format!(
        "<svg class=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{inside}</svg>\n",
        canvas.class,
        place(canvas.width),
        place(height),
        escape(title)
    )
}

/// One text; `class` also says how it is anchored.
fn text(x: f64, y: f64, class: &str, shown: &str) -> String {
    format!("<text x=\"{}\" y=\"{}\" class=\"{class}\">{}</text>\n", place(x), place(y), escape(shown))
}

/// A straight line.
fn stroke(from: (f64, f64), to: (f64, f64), class: &str) -> String {
    let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(place);
    format!("<path class=\"{class}\" d=\"M{x1} {y1}L{x2} {y2}\"/>\n")
}

/// A coordinate, to a tenth.
fn place(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// About how wide `shown` will be.
fn width_of(shown: &str) -> f64 {
    shown.chars().count() as f64 * CHARACTER
}

/// The mark of a slot, so that series are told apart without their colours too.
fn mark(slot: usize, x: f64, y: f64) -> String {
    let path = match slot % SLOTS {
        0 => return format!("<circle class=\"mark m0\" cx=\"{}\" cy=\"{}\" r=\"4\"/>\n", place(x), place(y)),
        1 => "m-3.5 -3.5h7v7h-7z",
        2 => "m0 -5l5 5l-5 5l-5 -5z",
        3 => "m0 -4.5l4.5 8h-9z",
        4 => "m0 4.5l4.5 -8h-9z",
        _ => "m-4.5 -1.5h3v-3h3v3h3v3h-3v3h-3v-3h-3z",
    };
    // A path may begin with one move and go on with another.
    format!("<path class=\"mark m{}\" d=\"M{} {}{path}\"/>\n", slot % SLOTS, place(x), place(y))
}
