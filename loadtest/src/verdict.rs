//! How a measurement ended: what every scenario answers with, and what a page says first.

/// Whether every delivery was as the scenario allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    Faultless,
    Faulty,
    /// No fault was found, and what was asked could not be told.
    Undecided,
}
