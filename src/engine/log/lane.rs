//! The lanes of a log: frames for everyone stay adjacent when frames for some come between.

use crate::engine::encoding::Encoding;

/// Which of the logs a frame goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// For every subscriber of the topic.
    Everyone,
    /// For one user, or excluding someone.
    Addressed,
    /// As [`Self::Everyone`], in [`Encoding::V1`].
    EveryoneV1,
    /// As [`Self::Addressed`], in [`Encoding::V1`].
    AddressedV1,
    /// Replayed, for every subscriber of the topic, in any encoding.
    Replayed,
    /// Replayed, for one user or excluding someone, in any encoding.
    ReplayedAddressed,
}

impl Lane {
    /// Lanes there are.
    pub(crate) const COUNT: usize = 6;

    /// The lane of frames in `encoding`, for `everyone` or not.
    pub(crate) fn of(encoding: Encoding, everyone: bool) -> Self {
        match (encoding, everyone) {
            (Encoding::Plain, true) => Self::Everyone,
            (Encoding::Plain, false) => Self::Addressed,
            (Encoding::V1, true) => Self::EveryoneV1,
            (Encoding::V1, false) => Self::AddressedV1,
        }
    }
}
