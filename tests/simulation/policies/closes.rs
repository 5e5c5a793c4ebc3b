//! Whether a client might be closed.

use fanfare::classes::Policy;

use super::{
    judge::{Cause, Fates},
    world::World,
};

impl World {
    /// A client is closed: it was asked for, or it is slow and nothing else could be done.
    pub(super) fn judge_close(&self, number: usize, fates: &Fates, cause: &Cause, was_blocked: bool) {
        let client = &self.clients[number];
        let has = |policy: &[Policy]| fates.queue.iter().any(|frame| policy.contains(&self.policy_of(frame)));
        // Many small ranges are more than a queue may hold too.
        let is_long = fates.queue.len() > 250;
        match cause {
            Cause::Deliver(arrival) => {
                assert!(was_blocked, "I9: a connection that takes bytes is no slow consumer");
                let closes = [Policy::Disconnect, Policy::Conflate].contains(&self.policy(arrival.class));
                assert!(closes || is_long, "closed, and what arrived could make way");
            }
            Cause::Patience => {
                assert!(
                    was_blocked && has(&[Policy::Disconnect, Policy::Conflate]),
                    "closed, and what is queued could make way"
                );
            }
            // Who waits for an answer of ours holds memory too, and that answer may come by a queue of which nothing is taken
            // before there is some.
            Cause::Turn => {
                assert!(was_blocked || client.is_held, "I9: memory is taken from who does not hold it up");
            }
            Cause::Overdue => {
                assert!(was_blocked, "I9: a connection that takes bytes is no slow consumer");
                assert!(has(&[Policy::Disconnect]), "closed for what is old, and all of that could go");
            }
            Cause::Joined(_) => {
                let closes = has(&[Policy::Disconnect, Policy::Conflate]) || is_long;
                assert!(closes, "closed when its change was answered, and something could go: {client:?}");
            }
            _ => {}
        }
    }
}
