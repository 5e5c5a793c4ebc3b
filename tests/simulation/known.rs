//! What the simulation does not hold against the engine yet: each line is a claim of the architecture that the engine is
//! known not to keep, switched off here and nowhere else. Turn a line to `true` together with the change that keeps it.

/// I10: nothing of a topic that is left while homes answer a change one after the other follows the answer.
pub(crate) const NOTHING_LEFT_FOLLOWS_ITS_ANSWER: bool = true;
/// A client of a protocol with a greeting gets that first, also when it is closed while it waits for its socket.
pub(crate) const GREETING_COMES_FIRST: bool = true;
/// A change that was held is not the end of a client whose classes let something go.
pub(crate) const HELD_MAY_LET_GO: bool = true;
/// Whoever waits for an answer between homes does not hold memory for ever.
pub(crate) const HELD_LETS_OTHERS_TAKE: bool = true;
/// A frame that is partly written counts as queued: a client is closed when that is too old.
pub(crate) const PARTLY_WRITTEN_AGES: bool = true;
/// A change that is refused takes nothing with it that was queued before.
pub(crate) const REFUSED_CHANGES_NOTHING: bool = true;
