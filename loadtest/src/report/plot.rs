//! What a plot shows, as data: axes with units, series, marks. How it is drawn is the business of `svg`.

use crate::figures::median;

/// What the numbers of an axis are, and so how its ticks are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Things: clients, messages, publications.
    Count,
    /// Things per second.
    PerSecond,
    Bytes,
    /// Written as us, ms or s.
    Nanoseconds,
    /// Always written as ns: CPU time of one delivery.
    PlainNanoseconds,
    /// 1 is 100 %.
    Share,
    /// One figure over another.
    Ratio,
    Seconds,
}

/// How the numbers of an axis are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero if all numbers are positive.
    Linear,
    /// Powers of ten at equal distances; for positive numbers only, others are left out.
    Log,
    /// For quantiles below 1: each further nine takes the same room.
    Percentile,
}

/// One axis.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) unit: Unit,
    pub(crate) scale: Scale,
    /// Where ticks are; empty leaves it to the drawing.
    pub(crate) ticks: Vec<f64>,
}

impl Axis {
    pub(crate) fn new(label: impl Into<String>, unit: Unit) -> Self {
        Self { label: label.into(), unit, scale: Scale::Linear, ticks: Vec::new() }
    }

    pub(crate) fn scale(mut self, scale: Scale) -> Self {
        self.scale = scale;
        self
    }

    /// Puts ticks at these values, for few that were chosen.
    pub(crate) fn ticks_at(mut self, values: Vec<f64>) -> Self {
        self.ticks = values;
        self
    }
}

/// Named points, joined by a line in the order in which they are given.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// (x, y); what is not finite interrupts the line.
    pub(crate) points: Vec<(f64, f64)>,
    /// Show each point: for few points that are measurements of their own.
    pub(crate) dotted: bool,
}

impl Series {
    pub(crate) fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, dotted: false }
    }

    pub(crate) fn dotted(mut self) -> Self {
        self.dotted = true;
        self
    }
}

/// Series over a common x axis. The colour of a series is given by its place; at most six are told apart.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    pub(crate) title: String,
    /// A sentence below the title: what is shown, of which rounds.
    pub(crate) note: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    /// Stretches of the x axis with a name: from, to, name.
    pub(crate) spans: Vec<(f64, f64, String)>,
    /// Moments on the x axis with a name.
    pub(crate) events: Vec<(f64, String)>,
    /// A level on the y axis with a name, such as a goal.
    pub(crate) level: Option<(f64, String)>,
}

impl Lines {
    pub(crate) fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self {
            title: title.into(),
            note: String::new(),
            x,
            y,
            series: Vec::new(),
            spans: Vec::new(),
            events: Vec::new(),
            level: None,
        }
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// A series without points keeps its colour and is not shown.
    pub(crate) fn series(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    pub(crate) fn level(mut self, y: f64, name: impl Into<String>) -> Self {
        self.level = Some((y, name.into()));
        self
    }
}

/// One row of [`Dots`].
#[derive(Debug, Clone)]
pub(crate) struct Dot {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// The smallest and the largest, or the ends of an interval.
    pub(crate) range: Option<(f64, f64)>,
    /// Shown in another colour than the rest.
    pub(crate) highlighted: bool,
}

impl Dot {
    /// The median of `figures`, with the smallest and the largest; `None` without any.
    pub(crate) fn of(name: &str, figures: &[f64]) -> Option<Self> {
        let value = median(figures.iter().copied())?;
        let low = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let high = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Self { name: name.to_owned(), value, range: Some((low, high)), highlighted: false })
    }
}

/// Named figures below each other, each a dot with its range, over one axis.
#[derive(Debug, Clone)]
pub(crate) struct Dots {
    pub(crate) title: String,
    pub(crate) note: String,
    pub(crate) axis: Axis,
    pub(crate) rows: Vec<Dot>,
    /// A value with a name that all are to be compared with.
    pub(crate) level: Option<(f64, String)>,
}

impl Dots {
    pub(crate) fn new(title: impl Into<String>, axis: Axis) -> Self {
        Self { title: title.into(), note: String::new(), axis, rows: Vec::new(), level: None }
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    pub(crate) fn row(mut self, row: Dot) -> Self {
        self.rows.push(row);
        self
    }

    pub(crate) fn level(mut self, value: f64, name: impl Into<String>) -> Self {
        self.level = Some((value, name.into()));
        self
    }
}

/// Anything that can be drawn.
#[derive(Debug, Clone)]
pub(crate) enum Plot {
    Lines(Lines),
    Dots(Dots),
}

impl Plot {
    /// Whether there is nothing to be drawn.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Lines(lines) => {
                lines.series.iter().all(|series| !series.points.iter().any(|&(x, y)| (x + y).is_finite()))
            }
            Self::Dots(dots) => !dots.rows.iter().any(|row| row.value.is_finite()),
        }
    }

    pub(super) fn title(&self) -> &str {
        match self {
            Self::Lines(lines) => &lines.title,
            Self::Dots(dots) => &dots.title,
        }
    }

    pub(super) fn note(&self) -> &str {
        match self {
            Self::Lines(lines) => &lines.note,
            Self::Dots(dots) => &dots.note,
        }
    }
}

impl From<Lines> for Plot {
    fn from(lines: Lines) -> Self {
        Self::Lines(lines)
    }
}

impl From<Dots> for Plot {
    fn from(dots: Dots) -> Self {
        Self::Dots(dots)
    }
}
