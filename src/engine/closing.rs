//! Closing: how a subscriber's end begins, and what it loses by it.
//!
//! Whoever is closed leaves its topics at once and gets a close frame, ahead of everything or behind what is queued; after
//! that nothing is written to it. One that waits for its socket has its close kept until it has one. What is thrown
//! away is counted by reason (I8).

use super::{
    event::Event,
    outbox::Flags,
    retry::Retry,
    shard::Shard,
    subscribers::{Goodbye, Key},
    traffic::Manner,
};
use crate::{
    metrics::Loss,
    protocol::v1::encode,
    websocket::{CloseCode, frame},
};

/// What a client of `fanfare.v1` is told just before a polite close. Only after a restart is it to come back by itself.
fn bye(Goodbye { code, reason }: Goodbye, retry: &Retry) -> Vec<u8> {
    let retry_ms = (code == CloseCode::RESTART).then(|| retry.range());
    let mut text = Vec::with_capacity(96);
    encode::bye(&mut text, code, reason, retry_ms);
    frame::text(&text)
}

impl Shard {
    /// Closes a subscriber: it leaves its topics at once, and its close frame is queued. While it waits for its socket
    /// the close is kept.
    pub fn close(&mut self, key: Key, goodbye: Goodbye, manner: Manner) {
        self.close_counting(key, goodbye, manner, Loss::Closed);
    }

    /// Answers the close of a peer with `frame`: what is queued is thrown away, for the peer reads no more.
    pub fn close_replying(&mut self, key: Key, frame: Vec<u8>) {
        if self.is_open(key) {
            self.begin_closing(key, (frame, None), Manner::Discard, Loss::Closed);
        }
    }

    /// Everybody there is: attaching, open and being closed.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        let keys = (0..self.subscribers.places()).map(|index| self.subscribers.key(index));
        keys.filter(|&key| self.subscribers.lives(key))
    }

    /// Takes stop: says goodbye to every subscriber.
    pub(super) fn close_all(&mut self, goodbye: Goodbye) {
        for index in 0..self.subscribers.places() {
            let key = self.subscribers.key(index);
            if self.subscribers.lives(key) {
                self.close(key, goodbye, Manner::Flush);
            }
        }
        self.tell(Event::Stopped);
    }

    pub(super) fn close_slow(&mut self, key: Key, loss: Loss) {
        let goodbye = Goodbye { code: CloseCode::TRY_AGAIN_LATER, reason: "slow consumer" };
        self.close_counting(key, goodbye, Manner::Discard, loss);
    }

    /// Carries out the closes decided during a pass.
    pub(super) fn close_doomed(&mut self) {
        for (index, loss) in std::mem::take(&mut self.doomed) {
            self.close_slow(self.subscribers.key(index), loss);
        }
    }

    pub(super) fn close_counting(&mut self, key: Key, goodbye: Goodbye, manner: Manner, loss: Loss) {
        if !self.is_open(key) {
            return;
        }
        if self.subscribers.outboxes[key.index as usize].flags.has(Flags::ATTACHING) {
            let waits = self.subscribers.profiles[key.index as usize].pending.is_some();
            self.abandon_topics(key.index);
            if manner == Manner::Discard {
                let lost = self.subscribers.outboxes[key.index as usize].discard(&mut self.log, loss);
                self.metrics().count_loss(loss, lost);
            }
            self.subscribers.keep_close(key, goodbye);
            if waits {
                self.tell(Event::TopicsSet { key, outcome: Ok(()) });
            }
            return;
        }
        self.count_close(goodbye);
        let mut last = Vec::new();
        if manner == Manner::Flush && self.subscribers.profiles[key.index as usize].encoding.tells() {
            last = bye(goodbye, &self.fabric.retry);
        }
        last.extend_from_slice(&frame::close(goodbye.code, goodbye.reason));
        self.begin_closing(key, (last, Some(goodbye.code)), manner, loss);
    }

    fn begin_closing(
        &mut self,
        key: Key,
        (frame, code): (Vec<u8>, Option<CloseCode>),
        manner: Manner,
        loss: Loss,
    ) {
        self.abandon_topics(key.index);
        let outbox = &mut self.subscribers.outboxes[key.index as usize];
        let mut lost = 0;
        match manner {
            Manner::Discard => {
                lost = outbox.discard(&mut self.log, loss);
                outbox.push_ahead(frame);
            }
            Manner::Flush => outbox.push_in_order(frame),
        }
        outbox.flags.set(Flags::CLOSING);
        self.metrics().count_loss(loss, lost);
        self.make_dirty(key.index);
        self.tell(Event::Closing { key, code });
    }

    pub(super) fn abandon_topics(&mut self, index: u32) {
        self.leave_all(index);
        self.give_up_change(index);
    }

    fn count_close(&self, goodbye: Goodbye) {
        let metrics = self.metrics();
        let counter = match goodbye.code {
            CloseCode::TRY_AGAIN_LATER => &metrics.closed_slow,
            CloseCode::PROTOCOL | CloseCode::UNSUPPORTED | CloseCode::NOT_UTF8 | CloseCode::TOO_BIG => {
                &metrics.closed_protocol
            }
            CloseCode::POLICY | CloseCode::UNAUTHORIZED => &metrics.closed_policy,
            CloseCode::NO_PONG => &metrics.closed_no_pong,
            CloseCode::REPLACED => &metrics.closed_replaced,
            CloseCode::NORMAL => &metrics.closed_unregistered,
            CloseCode::RESTART if goodbye == Goodbye::TOO_OLD => &metrics.closed_aged,
            CloseCode::RESTART => &metrics.closed_stopping,
            _ => return,
        };
        counter.add(1);
    }
}
