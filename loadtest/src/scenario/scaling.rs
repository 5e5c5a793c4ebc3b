//! The same fan-out with more and more clients: what a delivery costs should not depend on how many there are. Only the
//! ratio to the floor at the same number says so, since the kernel's own cost grows with the number of sockets.

use serde::Serialize;

use super::Verdict;
use crate::figures::{Medians, Ratio};
use crate::report::rounds::Rounds;
use crate::report::{Axis, Lines, Page, Scale, Series, Table, Unit, unknown};
use crate::units;

/// All rounds with one number of clients.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) clients: usize,
    #[serde(flatten)]
    pub(super) rounds: Rounds,
}

/// The steps in the order in which they were measured.
#[derive(Debug, Serialize)]
pub(super) struct Scaling {
    pub(super) steps: Vec<Step>,
    /// The largest ratio of deliveries over the smallest; 1 is perfectly flat. `None` without the floor.
    flatness: Option<f64>,
    /// The same for the ratio of CPU time per delivery.
    ns_flatness: Option<f64>,
}

impl Scaling {
    pub(super) fn new(steps: Vec<Step>) -> Self {
        let ratios = || steps.iter().map(|step| step.rounds.ratio);
        let flatness = spread(ratios().map(|ratio| Some(ratio?.deliveries_per_second)));
        let ns_flatness = spread(ratios().map(|ratio| ratio?.ns_per_delivery));
        Self { steps, flatness, ns_flatness }
    }

    /// Adds the summary and below it the tables of each step, and concludes. `under_way` as in [`Rounds::fill`].
    pub(super) fn fill(&self, page: &mut Page, under_way: &str) -> Verdict {
        if let Some(flatness) = self.flatness {
            page.headline(format!("{flatness:.3}"), "largest ratio to the floor / smallest");
        }
        let section = page.section("Scaling");
        section.table(self.table());
        if let Some(flatness) = self.flatness {
            let cpu = self.ns_flatness.map_or_else(unknown, |flatness| format!("{flatness:.3}"));
            section.text(format!(
                "largest ratio / smallest:  deliveries/s {flatness:.3},  CPU ns/delivery {cpu}  [1 is flat]"
            ));
        }
        section.plot(self.plot("Throughput by clients", "deliveries/s", Unit::PerSecond, |medians| {
            Some(medians.deliveries_per_second)
        }));
        section.plot(self.plot(
            "CPU time by clients",
            "CPU time of a delivery",
            Unit::PlainNanoseconds,
            |medians| medians.ns_per_delivery,
        ));
        section.plot(self.ratio_plot());
        let (mut remarks, mut faulty) = (Vec::new(), 0);
        for Step { clients, rounds } in &self.steps {
            let name = format!("{} clients: ", units::grouped(*clients as u64));
            rounds.fill_tables(page, &name);
            let mut of_step = rounds.remarks(under_way);
            match rounds.verdict() {
                // That all is well is said once, of all steps.
                Verdict::Faultless => drop(of_step.pop()),
                Verdict::Faulty | Verdict::Undecided => faulty += 1,
            }
            remarks.extend(of_step.into_iter().map(|remark| name.clone() + &remark));
        }
        let (verdict, last) = match faulty {
            0 => (
                Verdict::Faultless,
                "Every reading client of every step got every message once and in order.".to_owned(),
            ),
            _ => (Verdict::Faulty, format!("FAULTY: {faulty} of {} steps", self.steps.len())),
        };
        remarks.push(last);
        page.conclude(verdict, remarks);
        verdict
    }

    fn table(&self) -> Table {
        let mut table = Table::new(
            "Medians for each number of clients, and the ratio of paired rounds",
            &[
                "clients",
                "target deliveries/s",
                "floor deliveries/s",
                "ratio",
                "from",
                "to",
                "target CPU ns",
                "floor CPU ns",
                "ratio",
            ],
        );
        for Step { clients, rounds } in &self.steps {
            let sides = [rounds.target, rounds.reference];
            let mut row = vec![units::grouped(*clients as u64)];
            row.extend(
                sides.map(|side| side.map_or_else(nothing, |side| units::whole(side.deliveries_per_second))),
            );
            row.extend(match rounds.ratio {
                Some(ratio) => {
                    let (low, high) = ratio.deliveries_span();
                    [ratio.deliveries_per_second, low, high].map(|ratio| format!("{ratio:.3}"))
                }
                None => [nothing(), nothing(), nothing()],
            });
            let ns = |ns: Option<f64>| ns.map_or_else(nothing, units::whole);
            row.extend(sides.map(|side| ns(side.and_then(|side| side.ns_per_delivery))));
            let ratio = rounds.ratio.and_then(|ratio| ratio.ns_per_delivery);
            row.push(ratio.map_or_else(nothing, |ratio| format!("{ratio:.3}")));
            table.row(row);
        }
        table
    }

    fn plot(&self, title: &str, label: &str, unit: Unit, figure: fn(Medians) -> Option<f64>) -> Lines {
        let points = |side: fn(&Rounds) -> Option<Medians>| {
            let points = self
                .steps
                .iter()
                .filter_map(|step| Some((step.clients as f64, figure(side(&step.rounds)?)?)));
            points.collect()
        };
        Lines::new(title, self.clients_axis(), Axis::new(label, unit))
            .note("Medians over the rounds.")
            .series(Series::new("target", points(|rounds| rounds.target)).dotted())
            .series(Series::new("floor", points(|rounds| rounds.reference)).dotted())
    }

    fn clients_axis(&self) -> Axis {
        let counts = self.steps.iter().map(|step| step.clients as f64);
        Axis::new("clients", Unit::Count).scale(Scale::Log).ticks_at(counts.collect())
    }

    fn ratio_plot(&self) -> Lines {
        let points = |figure: fn(Ratio) -> Option<f64>| {
            let points =
                self.steps.iter().filter_map(|step| Some((step.clients as f64, figure(step.rounds.ratio?)?)));
            points.collect()
        };
        let y = Axis::new("target / floor", Unit::Ratio);
        Lines::new("Ratio to the floor by clients", self.clients_axis(), y)
            .note("Medians of paired rounds. More deliveries and less CPU time are better.")
            .series(Series::new("deliveries/s", points(|ratio| Some(ratio.deliveries_per_second))).dotted())
            .series(Series::new("CPU ns/delivery", points(|ratio| ratio.ns_per_delivery)).dotted())
            .level(1.0, "the floor")
    }
}

/// The largest over the smallest; `None` if one is not known.
fn spread(ratios: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let ratios: Vec<f64> = ratios.collect::<Option<_>>()?;
    let (low, high) = (ratios.iter().copied().reduce(f64::min)?, ratios.iter().copied().reduce(f64::max)?);
    (low > 0.0).then_some(high / low)
}

fn nothing() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flatness_needs_every_ratio() {
        assert_eq!(spread([Some(1.2), Some(1.5), Some(1.25)].into_iter()), Some(1.25));
        assert_eq!(spread([Some(1.2), None].into_iter()), None);
        assert_eq!(spread([].into_iter()), None);
        assert_eq!(spread([Some(0.0), Some(1.0)].into_iter()), None);
    }
}
