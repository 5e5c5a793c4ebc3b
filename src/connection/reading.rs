//! Reading: bounded turns over the sockets that have something to read.
//!
//! Bytes go into the shard's one buffer and are parsed there; a connection keeps bytes only while it holds half a
//! frame, or while a command of its is in flight (it is not read then, so what it keeps is bounded). A socket that
//! has more than its turn allows goes to the tail of the ready list.

use std::sync::Arc;

use super::{
    admitted::may_have,
    halves::note_whole,
    local::{Local, State},
    socket::{Flags, ReadResult, Socket},
};
use crate::{
    engine::{Change, Key, Manner},
    limits::READ_TURN_FRAMES,
    protocol::error::error_json,
    session::{self, Effect},
    topic::Topic,
    websocket::{Input, frame},
};

/// How a connection's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nothing more to read, or it may not be read now.
    Over,
    /// There is more: the tail of the list.
    More,
    /// The connection is gone.
    Gone,
}

impl Local {
    /// Gives the first socket of the ready list its turn. Returns false when there was none.
    pub(super) fn read_one(&self, state: &mut State, now: u64) -> bool {
        let Some(key) = state.ready.pop_front() else { return false };
        let Some(socket) = state.sockets.get_mut(key) else { return true };
        socket.clear(Flags::LISTED);
        match self.read_turn(state, key, now) {
            Turn::Over => {}
            Turn::More => state.list_ready(key),
            Turn::Gone => self.drop_connection(state, key),
        }
        true
    }

    fn read_turn(&self, state: &mut State, key: Key, now: u64) -> Turn {
        let mut scratch = std::mem::take(&mut state.scratch);
        let turn = self.read_into(state, key, now, &mut scratch);
        state.scratch = scratch;
        if turn != Turn::Gone {
            self.note_half(state, key, now);
        }
        turn
    }

    fn read_into(&self, state: &mut State, key: Key, now: u64, scratch: &mut [u8]) -> Turn {
        let Some(socket) = state.sockets.get_mut(key) else { return Turn::Over };
        if socket.has(Flags::CLOSING) {
            return discard(state, key, scratch);
        }
        if socket.has(Flags::PAUSED) {
            return Turn::Over;
        }
        if let Some(mut held) = socket.take_held() {
            let frames = self.parse(state, key, now, &mut held);
            self.charge_for_records(state, key, now, frames);
            return again(state, key);
        }
        if !socket.has(Flags::READABLE) {
            return Turn::Over;
        }
        match state.sockets.read(key, scratch) {
            ReadResult::Nothing => {
                self.charge_for_records(state, key, now, 0);
                again(state, key)
            }
            // One that is being closed, perhaps because it asked for it, is still to get its close frame.
            ReadResult::Ended if !state.shard.is_open(key) => Turn::Over,
            ReadResult::Ended => {
                if state.sockets.get_mut(key).is_some_and(Socket::is_broken) {
                    self.node().metrics().shard(self.shard()).tls_broken.add(1);
                }
                Turn::Gone
            }
            ReadResult::Bytes(n) => {
                state.shard.count_read(n);
                let frames = self.parse(state, key, now, &mut scratch[..n]);
                self.charge_for_records(state, key, now, frames);
                again(state, key)
            }
        }
    }

    /// Has a peer that speaks TLS pay for records that carry next to nothing, when all they carried is parsed.
    fn charge_for_records(&self, state: &mut State, key: Key, now: u64, frames: usize) {
        let State { shard, sockets, .. } = state;
        let Some(socket) = sockets.get_mut(key).filter(|socket| socket.has(Flags::TLS)) else { return };
        socket.pay(frames);
        if socket.holds() {
            return;
        }
        let owed = socket.take_owed();
        if owed > 0 && !socket.session.charge(owed, now, &self.node().settings()) {
            shard.close(key, session::TOO_MANY_RECORDS, Manner::Discard);
        }
    }

    /// Parses bytes and does what they ask for, at most a turn's worth of frames. What is left is held. Returns how many
    /// frames there were.
    fn parse(&self, state: &mut State, key: Key, now: u64, bytes: &mut [u8]) -> usize {
        let settings = self.node().settings();
        let mut input = Input::new(bytes);
        let mut frames = 0;
        while frames < READ_TURN_FRAMES {
            let State { shard, sockets, reader_limits, .. } = &mut *state;
            let Some(socket) = sockets.get_mut(key) else { return frames };
            let incoming = match socket.reader.next(&mut input, reader_limits) {
                Ok(Some(incoming)) => incoming,
                Ok(None) => return frames,
                Err(violation) => {
                    shard.close(key, session::goodbye(violation), Manner::Discard);
                    return frames;
                }
            };
            frames += 1;
            shard.count_command();
            let effect = socket.session.receive(incoming, socket.encoding, now, &settings);
            socket.session.charge_fragments(socket.reader.given_fragments());
            note_whole(state, key);
            let shard = &mut state.shard;
            match effect {
                Effect::None => {}
                Effect::Answer(frame) => shard.answer(key, frame),
                Effect::AnswerAhead(frame) => shard.answer_ahead(key, frame),
                Effect::CloseReply(frame) => shard.close_replying(key, frame),
                Effect::Close(goodbye) => shard.close(key, goodbye, Manner::Discard),
                Effect::SetTopics(topics) => {
                    if let Err((code, message)) = may_have(state, &settings, key, &topics) {
                        state.shard.answer(key, frame::text(error_json(code, message).as_bytes()));
                    } else if self.set_topics(state, key, topics) == Change::Pending {
                        pause(state, key);
                        break;
                    }
                }
                Effect::Change(command) => {
                    if self.change_topics(state, key, *command) == Change::Pending {
                        pause(state, key);
                        break;
                    }
                }
                Effect::Publish(command) => {
                    pause(state, key);
                    self.publish_for(state, key, *command);
                    break;
                }
                Effect::Authenticate(command) => self.authenticate(state, key, *command),
            }
            if !state.shard.is_open(key) {
                return frames;
            }
        }
        if !input.is_empty()
            && let Some(socket) = state.sockets.get_mut(key)
        {
            socket.hold(input.rest());
        }
        frames
    }

    /// Replaces a client's topics. Returns whether that is done, and the next command may be read.
    fn set_topics(&self, state: &mut State, key: Key, topics: Arc<[Topic]>) -> Change {
        let topics = state.shared_topics.share(topics);
        let change = state.shard.set_topics(key, topics.clone());
        match change {
            Change::Done => {
                if let Some(socket) = state.sockets.get_mut(key) {
                    self.keep_topics(socket.session.client(), key, topics);
                }
            }
            Change::Pending => {
                state.changing.insert(key, topics);
            }
        }
        change
    }

    /// Keeps the topics a client has now in its registration.
    pub(super) fn keep_topics(&self, client: crate::identity::ClientId, key: Key, topics: Arc<[Topic]>) {
        // Not ours any more: another connection has the registration, and its own topics.
        let _ours = self.node().clients().replace_topics(client, &self.claim_of(key), topics);
    }
}

/// Has a socket not be read until what it asked for is done.
fn pause(state: &mut State, key: Key) {
    if let Some(socket) = state.sockets.get_mut(key) {
        socket.set(Flags::PAUSED);
    }
}

/// Whether a socket that was just served has more.
fn again(state: &mut State, key: Key) -> Turn {
    match state.sockets.get_mut(key) {
        Some(socket) if socket.has(Flags::PAUSED) => Turn::Over,
        Some(socket) if socket.holds() || socket.has(Flags::READABLE) => Turn::More,
        _ => Turn::Over,
    }
}

/// Reads on while a connection ends.
fn discard(state: &mut State, key: Key, scratch: &mut [u8]) -> Turn {
    let Some(socket) = state.sockets.get_mut(key) else { return Turn::Over };
    if socket.has(Flags::READABLE) {
        socket.discard(scratch);
    }
    if socket.has(Flags::PEER_GONE) {
        // It may have ended its own direction only. When everything is written, or cannot be, the engine says so.
        return if socket.has(Flags::SHUT) { Turn::Gone } else { Turn::Over };
    }
    if socket.discarded_enough() {
        if socket.has(Flags::SHUT) {
            socket.reset_on_drop();
            return Turn::Gone;
        }
        return Turn::Over;
    }
    if socket.has(Flags::READABLE) { Turn::More } else { Turn::Over }
}
