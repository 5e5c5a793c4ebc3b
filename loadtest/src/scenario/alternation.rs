//! Rounds that alternate between what is compared: a figure on a shared machine means something only beside another
//! of the same time.

use std::time::Duration;

use super::Stage;
use crate::args::LoadArgs;
use crate::error::{Error, Result};
use crate::figures::Round;
use crate::generator::Plan;
use crate::round::{self, Timing};
use crate::server::{Server, Side};

const ROUNDS_ALONE: u16 = 1;
const ROUNDS_AGAINST: u16 = 3;

/// One of those compared.
pub(super) struct Contestant<'a> {
    /// What its rounds are called; the first is `target`.
    pub(super) name: &'static str,
    pub(super) side: Side,
    /// What is done with its server.
    pub(super) plan: Box<dyn Fn(&Server) -> Plan + 'a>,
}

/// A round of each, and again.
pub(super) fn alternate(
    stage: &Stage,
    load: &LoadArgs,
    contestants: &[Contestant<'_>],
) -> Result<Vec<Round>> {
    alternate_timed(stage, load.rounds, timing(load), contestants)
}

/// The same with a timing of its own, and so many rounds of each if it is said.
pub(super) fn alternate_timed(
    stage: &Stage,
    rounds: Option<u16>,
    timing: Timing,
    contestants: &[Contestant<'_>],
) -> Result<Vec<Round>> {
    let default = if contestants.len() > 1 { ROUNDS_AGAINST } else { ROUNDS_ALONE };
    let count = usize::from(rounds.unwrap_or(default));
    let mut rounds = Vec::new();
    for number in 1..=count {
        for Contestant { name, side, plan } in contestants {
            stage.interrupt.check()?;
            stage.interrupt.progress.round(name, number, count);
            let server = side.open()?;
            rounds.push(round::fan_out(&plan(&server), timing, &server, (name, number), &stage.interrupt)?);
        }
    }
    Ok(rounds)
}

/// Refuses what cannot be measured.
pub(super) fn check(load: &LoadArgs) -> Result<()> {
    match load.duration.is_zero() {
        true => Err(Error::Usage("--duration must be longer than nothing".to_owned())),
        false => Ok(()),
    }
}

/// The sides of `contestants`, for the report.
pub(super) fn sides(contestants: &[Contestant<'_>]) -> Vec<Side> {
    contestants.iter().map(|contestant| contestant.side.clone()).collect()
}

pub(super) fn timing(load: &LoadArgs) -> Timing {
    Timing {
        settle: load.settle,
        warm_up: load.warm_up,
        duration: load.duration,
        stall_after: Duration::ZERO,
        patience: load.patience,
    }
}
