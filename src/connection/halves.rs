//! Messages of clients that have begun and not ended: what they take together, and how long each may take.
//!
//! What a connection keeps is bounded for each, but each may keep a whole command, and strangers may have many connections: so
//! there is a bound for all of a shard, and what they keep counts against the node's memory. Whoever has kept the end back
//! longest goes first at that bound, because it is what tells those who hold memory from those whose message is on its way. A pong
//! or a byte now and then shows that a client lives, not that its message will ever end: so that has a time too.
//!
//! Beside the sockets, as [`super::admitted`]: a connection at rest costs nothing here. The reading notes what it left half;
//! nothing waits with a timer of its own.

use std::collections::{BTreeSet, HashMap};

use super::{
    local::{Local, State},
    socket::Flags,
};
use crate::{
    engine::{Goodbye, Key, Manner},
    limits::HALF_MESSAGE_COST,
    units::milliseconds,
    websocket::CloseCode,
};

/// How a client is told whose message takes too long.
const TOO_LONG: Goodbye = Goodbye { code: CloseCode::POLICY, reason: "message took too long" };
/// How a client is told that has to make room.
const TOO_MUCH: Goodbye = Goodbye { code: CloseCode::TRY_AGAIN_LATER, reason: "unfinished message" };
/// When one that could not be judged is looked at again, milliseconds.
const LOOK_AGAIN_MS: u64 = 1_000;

/// The half messages of one shard.
#[derive(Debug, Default)]
pub(super) struct Halves {
    messages: HashMap<Key, Half>,
    /// The same messages by when their time is over. All have the same time, so the first has taken longest.
    due: BTreeSet<(u64, Key)>,
    /// What they take together.
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Half {
    bytes: usize,
    /// When its time is over, milliseconds of the shard's clock.
    until: u64,
}

impl Halves {
    /// Notes that a message takes so many bytes now. One that begins has until `until`.
    fn note(&mut self, key: Key, bytes: usize, until: u64) {
        let bytes = bytes + HALF_MESSAGE_COST;
        let half = self.messages.entry(key).or_insert(Half { bytes: 0, until });
        self.due.insert((half.until, key));
        self.bytes = self.bytes - half.bytes + bytes;
        half.bytes = bytes;
    }

    /// Forgets a client's message, if it has one here.
    pub(super) fn remove(&mut self, key: Key) {
        if let Some(half) = self.messages.remove(&key) {
            self.due.remove(&(half.until, key));
            self.bytes -= half.bytes;
        }
    }

    /// Gives a message more time.
    fn put_off(&mut self, key: Key, until: u64) {
        if let Some(half) = self.messages.get_mut(&key) {
            self.due.remove(&(half.until, key));
            half.until = until;
            self.due.insert((until, key));
        }
    }

    /// What they take together, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The one that has taken longest.
    fn oldest(&self) -> Option<(u64, Key)> {
        self.due.first().copied()
    }
}

impl Local {
    /// Notes what a client's turn of reading has left half, and makes room for it.
    pub(super) fn note_half(&self, state: &mut State, key: Key, now: u64) {
        let Some(socket) = state.sockets.get_mut(key) else { return };
        let Some(bytes) = socket.half_bytes() else {
            if socket.has(Flags::HALF) {
                socket.clear(Flags::HALF);
                state.halves.remove(key);
            }
            return;
        };
        // One that is being closed is forgotten already, and what it holds is free as soon as that is told.
        if !state.shard.is_open(key) {
            return;
        }
        socket.set(Flags::HALF);
        let until = now.saturating_add(milliseconds(self.node().settings().message_time));
        state.halves.note(key, bytes, until);
        while state.halves.bytes() > state.half_messages_bytes
            && let Some((_, oldest)) = state.halves.oldest()
        {
            self.metrics().half_messages_squeezed.add(1);
            end(state, oldest, TOO_MUCH);
        }
    }

    /// Closes those whose message has taken too long. While we do not read, that is not its client's doing.
    pub(super) fn close_unfinished(&self, state: &mut State, now: u64) {
        while let Some((until, key)) = state.halves.oldest()
            && until <= now
        {
            let unread = Flags::PAUSED.and(Flags::READABLE).and(Flags::LISTED);
            if state.sockets.get_mut(key).is_some_and(|socket| socket.has(unread)) {
                state.halves.put_off(key, now + LOOK_AGAIN_MS);
            } else {
                self.metrics().half_messages_overdue.add(1);
                end(state, key, TOO_LONG);
            }
        }
    }
}

/// Notes that something of a client's has come whole: unless it is amid a message, what is half from now on has begun anew.
pub(super) fn note_whole(state: &mut State, key: Key) {
    if let Some(socket) = state.sockets.get_mut(key)
        && socket.has(Flags::HALF)
        && !socket.reader.is_amid_message()
    {
        socket.clear(Flags::HALF);
        state.halves.remove(key);
    }
}

fn end(state: &mut State, key: Key, goodbye: Goodbye) {
    state.halves.remove(key);
    state.shard.close(key, goodbye, Manner::Discard);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    #[test]
    fn sum_and_order_are_of_those_that_are_half() {
        let mut halves = Halves::default();
        halves.note(key(1), 1_000, 50);
        halves.note(key(2), 10, 60);
        halves.note(key(1), 3_000, 70);
        assert_eq!(halves.bytes(), 3_010 + 2 * HALF_MESSAGE_COST);
        assert_eq!(halves.oldest(), Some((50, key(1))), "its time runs from where it began");
        halves.put_off(key(1), 80);
        assert_eq!(halves.oldest(), Some((60, key(2))));
        halves.remove(key(2));
        halves.remove(key(2));
        assert_eq!((halves.oldest(), halves.bytes()), (Some((80, key(1))), 3_000 + HALF_MESSAGE_COST));
        halves.remove(key(1));
        assert_eq!((halves.oldest(), halves.bytes()), (None, 0));
        // What begins anew has its time anew.
        halves.note(key(1), 0, 90);
        assert_eq!(halves.oldest(), Some((90, key(1))));
    }
}
