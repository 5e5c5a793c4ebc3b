//! When memory is short: the end of clients whose connections hold records of TLS that they do not read.
//!
//! What a connection holds was written for the engine, which has forgotten it; so its bounds do not see it, and a client
//! with nothing else queued would hold it as long as it likes. The node's budget counts it, and where it is a good part of
//! what is to go, those go who have not taken a byte of it since they were looked at last. The driver calls this in each turn.

use super::{local::State, socket::Flags};
use crate::{
    engine::Key,
    limits::{MEMORY_LOOKED_THROUGH, STALLED_MS, UNFLUSHED_LOOKED_THROUGH},
};

/// How far the look at all sockets has come.
#[derive(Debug, Default)]
pub(super) struct UnflushedLook {
    /// The place it goes on at.
    from: u32,
    /// When the next may begin, milliseconds: so long after the end of the one before, whether that was whole or not, that
    /// whoever was seen in it had the time to take something.
    next: u64,
}

/// Whether the look is under way, so that a turn would go on with it.
pub(super) fn is_looking(state: &State) -> bool {
    state.unflushed_look.from > 0 && state.shard.wants_unflushed_back()
}

/// Goes on with the look, and ends a few of those that stall, if the shard wants what they hold.
pub(super) fn end_some(state: &mut State, now: u64) {
    let next = now + u64::from(STALLED_MS);
    if !state.shard.wants_unflushed_back() {
        if state.unflushed_look.from > 0 {
            state.unflushed_look = UnflushedLook { from: 0, next };
        }
        return;
    }
    if state.unflushed_look.from == 0 && now < state.unflushed_look.next {
        return;
    }
    let places = state.sockets.places();
    let end = places.min(state.unflushed_look.from + UNFLUSHED_LOOKED_THROUGH);
    let mut ended = 0;
    while state.unflushed_look.from < end && ended < MEMORY_LOOKED_THROUGH {
        let index = state.unflushed_look.from;
        state.unflushed_look.from += 1;
        let Some(socket) = state.sockets.at(index) else { continue };
        if !socket.is_unflushed() {
            continue;
        }
        if socket.has(Flags::SEEN_UNFLUSHED) {
            let key = Key { index, generation: socket.generation };
            state.shard.end_unflushed(key);
            ended += 1;
        } else {
            socket.set(Flags::SEEN_UNFLUSHED);
        }
    }
    if state.unflushed_look.from >= places {
        state.unflushed_look = UnflushedLook { from: 0, next };
    }
}
