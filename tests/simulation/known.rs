//! What the simulation does not hold against the engine yet: each line is a claim of the architecture that the engine is
//! known not to keep, switched off here and nowhere else. Turn a line to `true` together with the change that keeps it.

/// I10: nothing of a topic that is left while homes answer a change one after the other follows the answer.
pub(crate) const NOTHING_LEFT_FOLLOWS_ITS_ANSWER: bool = true;
