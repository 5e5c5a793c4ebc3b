//! From the numbers of an axis to places in a drawing: the range shown, its ticks, and how they are written.

use crate::report::plot::{Axis, Scale, Unit};
use crate::units;

/// The smallest value of a logarithmic axis; what is below is not shown.
const LOG_MIN: f64 = 1e-9;
/// Nines that a percentile axis shows at most: 99.999 %.
const NINES_MAX: f64 = 5.0;

/// One axis, laid out.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    scale: Scale,
    unit: Unit,
    /// What is shown, after the scale was applied.
    low: f64,
    high: f64,
    /// Where these two are drawn.
    from: f64,
    to: f64,
    /// Ticks that were asked for.
    asked: Vec<f64>,
}

/// What the range of an axis begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// Zero, unless there are negative values: lengths are compared.
    Zero,
    /// The smallest value.
    Smallest,
    /// Somewhat below the smallest value, and it ends somewhat above the largest.
    Below,
}

/// A value with its label.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

impl Mapping {
    /// An axis that shows `values`, drawn between `from` and `to`. Values that its scale cannot show are left out.
    pub(super) fn new(
        axis: &Axis,
        begin: Begin,
        values: impl Iterator<Item = f64>,
        (from, to): (f64, f64),
    ) -> Self {
        let scaled = values.filter_map(|value| apply(axis.scale, value));
        let (low, high) = scaled
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let (low, high) = match (axis.scale, begin) {
            (Scale::Percentile, _) => (0.0, high.max(1.0)),
            (Scale::Log, _) if high - low < 1e-9 => (low - 0.5, high + 0.5),
            (Scale::Log, _) => (low, high),
            (Scale::Linear, Begin::Zero) => (low.min(0.0), if high > 0.0 { high * 1.06 } else { 1.0 }),
            (Scale::Linear, _) if high == low => {
                (low - low.abs().max(1.0) * 0.1, high + high.abs().max(1.0) * 0.1)
            }
            (Scale::Linear, Begin::Smallest) => (low, high),
            (Scale::Linear, Begin::Below) => (low - (high - low) * 0.25, high + (high - low) * 0.25),
        };
        Self { scale: axis.scale, unit: axis.unit, low, high, from, to, asked: axis.ticks.clone() }
    }

    /// Where `value` is drawn; `None` if the scale cannot show it or it lies outside.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let scaled = apply(self.scale, value)?;
        let share = (scaled - self.low) / (self.high - self.low);
        (-1e-6..=1.0 + 1e-6).contains(&share).then_some(self.from + share * (self.to - self.from))
    }

    /// Where `value` is drawn, moved to the nearer end if it lies outside.
    pub(super) fn clamped(&self, value: f64) -> f64 {
        let share =
            apply(self.scale, value).map_or(0.0, |scaled| (scaled - self.low) / (self.high - self.low));
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Ticks at sensible values, their labels at least `gap` apart.
    pub(super) fn ticks(&self, gap: f64) -> Vec<Tick> {
        let most = ((self.to - self.from).abs() / gap).floor().max(2.0);
        if !self.asked.is_empty() {
            let asked = self.asked.iter().map(|&at| Tick { at, label: written(self.unit, at) });
            return asked.collect();
        }
        match self.scale {
            Scale::Linear => self.linear_ticks(most),
            Scale::Log => self.log_ticks(most),
            Scale::Percentile => percentile_ticks(self.high),
        }
    }

    fn linear_ticks(&self, most: f64) -> Vec<Tick> {
        let (divisor, suffix) = magnitude(self.unit, self.low.abs().max(self.high.abs()));
        let step = nice_step((self.high - self.low) / divisor / most, self.unit);
        let decimals = (0..6).find(|&places| is_whole(step * 10_f64.powi(places))).unwrap_or(6) as usize;
        let first = (self.low / divisor / step - 1e-6).ceil();
        let count = ((self.high / divisor / step + 1e-6).floor() - first).clamp(0.0, 50.0) as usize;
        (0..=count)
            .map(|index| {
                let number = (first + index as f64) * step;
                // Without it zero may come out as -0.
                let number = if number.abs() < step / 2.0 { 0.0 } else { number };
                Tick { at: number * divisor, label: format!("{}{suffix}", decimal(number, decimals)) }
            })
            .collect()
    }

    /// Powers of ten; with two and five times them if there are few.
    fn log_ticks(&self, most: f64) -> Vec<Tick> {
        let decades = (self.low.floor() as i32)..=(self.high.ceil() as i32);
        let candidates = |factors: &'static [f64]| {
            let all = decades
                .clone()
                .flat_map(move |power| factors.iter().map(move |factor| factor * 10_f64.powi(power)));
            let shown = all.filter(|&value| self.place(value).is_some());
            shown.collect::<Vec<_>>()
        };
        let fine = [&[1.0, 1.5, 2.0, 3.0, 5.0, 7.0][..], &[1.0, 2.0, 5.0], &[1.0, 3.0]].map(candidates);
        let chosen = fine.into_iter().find(|ticks| ticks.len() as f64 <= most);
        let chosen = chosen.unwrap_or_else(|| {
            let powers = candidates(&[1.0]);
            let every = (powers.len() as f64 / most).ceil().max(1.0) as usize;
            powers.into_iter().step_by(every).collect()
        });
        chosen.into_iter().map(|at| Tick { at, label: written(self.unit, at) }).collect()
    }
}

fn apply(scale: Scale, value: f64) -> Option<f64> {
    let scaled = match scale {
        Scale::Linear => value,
        Scale::Log if value >= LOG_MIN => value.log10(),
        Scale::Percentile if (0.0..1.0).contains(&value) => (-(1.0 - value).log10()).min(NINES_MAX),
        Scale::Log | Scale::Percentile => return None,
    };
    scaled.is_finite().then_some(scaled)
}

fn percentile_ticks(high: f64) -> Vec<Tick> {
    let ticks =
        [(0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99"), (0.99999, "99.999")];
    let shown =
        ticks.into_iter().filter(|&(at, _)| apply(Scale::Percentile, at).is_some_and(|at| at <= high + 1e-6));
    shown.map(|(at, label)| Tick { at, label: label.to_owned() }).collect()
}

/// What the numbers of an axis that reaches up to `largest` are divided by, and what is written behind them.
fn magnitude(unit: Unit, largest: f64) -> (f64, &'static str) {
    let pick = |steps: &[(f64, &'static str)]| {
        let fitting = steps.iter().rev().find(|(least, _)| largest >= *least);
        *fitting.unwrap_or(&steps[0])
    };
    const KIB: f64 = 1024.0;
    match unit {
        Unit::Count | Unit::PerSecond if largest < 20_000.0 => (1.0, ""),
        Unit::Count | Unit::PerSecond => pick(&[(1.0, ""), (1e3, " k"), (1e6, " M"), (1e9, " G")]),
        Unit::Bytes => pick(&[(1.0, " B"), (KIB, " KiB"), (KIB * KIB, " MiB"), (KIB * KIB * KIB, " GiB")]),
        Unit::Nanoseconds => pick(&[(1.0, " ns"), (1e3, " us"), (1e6, " ms"), (1e9, " s")]),
        Unit::PlainNanoseconds => (1.0, " ns"),
        Unit::Share => (0.01, " %"),
        Unit::Ratio => (1.0, ""),
        Unit::Seconds => (1.0, " s"),
    }
}

/// `value` as a tooltip and a logarithmic axis write it.
pub(super) fn written(unit: Unit, value: f64) -> String {
    let (divisor, suffix) = magnitude(unit, value.abs());
    let number = value / divisor;
    let decimals = match unit {
        Unit::Ratio => 3,
        Unit::Count | Unit::PlainNanoseconds if divisor == 1.0 && number.abs() >= 100.0 => 0,
        _ if number.abs() >= 100.0 => 0,
        _ if number.abs() >= 10.0 => 1,
        _ => 2,
    };
    // 10.00 is 10; the decimals of a ratio are kept, as they are compared.
    let text = decimal(number, decimals);
    let text = match unit {
        Unit::Ratio => &text,
        _ if text.contains('.') => text.trim_end_matches('0').trim_end_matches('.'),
        _ => &text,
    };
    format!("{text}{suffix}")
}

/// With thousands separators.
fn decimal(number: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", number.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), units::grouped);
    let sign = if number < 0.0 { "−" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `least`; whole where only whole things count.
fn nice_step(least: f64, unit: Unit) -> f64 {
    if !(least.is_finite() && least > 0.0) {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
    let step = steps.into_iter().find(|&step| step >= least * (1.0 - 1e-9)).unwrap_or(10.0 * power);
    if unit == Unit::Count && step < 1.0 { 1.0 } else { step }
}

fn is_whole(number: f64) -> bool {
    (number - number.round()).abs() < 1e-6 * number.abs().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(unit: Unit, scale: Scale, begin: Begin, values: &[f64], length: f64) -> Vec<String> {
        let axis = Axis::new("", unit).scale(scale);
        let mapping = Mapping::new(&axis, begin, values.iter().copied(), (0.0, length));
        mapping.ticks(50.0).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn linear_ticks_are_round_and_share_a_unit() {
        let linear = |unit, begin, values: &[f64]| ticks(unit, Scale::Linear, begin, values, 250.0);
        assert_eq!(linear(Unit::PerSecond, Begin::Zero, &[1.9e6, 3.1e6]), ["0 M", "1 M", "2 M", "3 M"]);
        assert_eq!(linear(Unit::Bytes, Begin::Zero, &[5.0 * 1_048_576.0]), ["0 MiB", "2 MiB", "4 MiB"]);
        assert_eq!(linear(Unit::Share, Begin::Zero, &[0.97]), ["0 %", "25 %", "50 %", "75 %", "100 %"]);
        assert_eq!(linear(Unit::Ratio, Begin::Below, &[1.38, 1.42]), ["1.38", "1.40", "1.42"]);
        assert_eq!(linear(Unit::Seconds, Begin::Smallest, &[-3.0, 10.0]), ["0 s", "5 s", "10 s"]);
        assert_eq!(linear(Unit::Count, Begin::Zero, &[0.0]), ["0", "1"]);
    }

    #[test]
    fn log_ticks_get_finer_where_there_is_room() {
        let log = |values: &[f64]| ticks(Unit::Nanoseconds, Scale::Log, Begin::Smallest, values, 300.0);
        assert_eq!(log(&[1e5, 1e6]), ["100 us", "200 us", "500 us", "1 ms"]);
        assert_eq!(log(&[1e5, 1e10]), ["100 us", "1 ms", "10 ms", "100 ms", "1 s", "10 s"]);
    }

    #[test]
    fn each_nine_takes_the_same_room() {
        let axis = Axis::new("", Unit::Share).scale(Scale::Percentile);
        let mapping = Mapping::new(&axis, Begin::Smallest, [0.0, 0.99999].into_iter(), (0.0, 500.0));
        let at = |quantile| mapping.place(quantile).expect("it is shown").round();
        assert_eq!([at(0.9), at(0.99), at(0.999)], [100.0, 200.0, 300.0]);
        assert_eq!(mapping.place(1.0), None);
        assert_eq!(mapping.ticks(50.0).last().map(|tick| &*tick.label), Some("99.999"));
    }

    #[test]
    fn nothing_and_one_value_have_an_axis_too() {
        for (scale, values) in
            [(Scale::Linear, &[][..]), (Scale::Log, &[]), (Scale::Log, &[5.0]), (Scale::Linear, &[-3.0])]
        {
            for begin in [Begin::Zero, Begin::Smallest, Begin::Below] {
                assert!(
                    !ticks(Unit::PerSecond, scale, begin, values, 300.0).is_empty(),
                    "{scale:?} {values:?}"
                );
            }
        }
    }

    #[test]
    fn figures_are_written_short() {
        assert_eq!(written(Unit::PerSecond, 1_234_567.0), "1.23 M");
        assert_eq!(written(Unit::Nanoseconds, 10e6), "10 ms");
        assert_eq!(written(Unit::Share, 0.985), "98.5 %");
        assert_eq!(written(Unit::Ratio, 1.4), "1.400");
        assert_eq!(written(Unit::PlainNanoseconds, 8_270.0), "8,270 ns");
        assert_eq!(written(Unit::Seconds, -2.5), "−2.5 s");
    }
}
