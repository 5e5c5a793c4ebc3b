//! Publishes in a window: at most W publications that have not reached every client. It lives in a generator
//! thread's own loop, so that no hand-over between threads lies between a delivery and the publication it makes
//! room for; whatever became free since the last turn leaves in one write.
//!
//! A window that has run empty is filled in two halves, the second one turn later. Filled at once it would reach
//! the server in one read, be delivered in one pass, run empty again, and so stay in step for ever: a server
//! would always have exactly W publications to coalesce, and none while it works. Publishers in the world are
//! not in step with a server's passes; in halves something always arrives while a pass is running, which also
//! keeps the server busy.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use super::census::SPAN;
use super::pipeline::Pipeline;
use crate::dialect::{Envelope, Publishing};
use crate::message::Message;

/// Publications sent and not yet answered, beyond the window: a server may answer after it delivers.
const UNANSWERED_SPARE: u64 = 1_024;
/// The longest pause after a refusal, whatever the server asks for: the window is what holds us back.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The one publisher of a run.
#[derive(Debug)]
pub(crate) struct Publisher {
    pipeline: Pipeline,
    /// What each message is put in.
    envelope: Envelope,
    message: Message,
    window: u64,
    /// Numbers given out so far, and so the next number.
    published: u64,
    /// Numbers whose answer has come; answers come in the order of requests.
    answered: u64,
    /// Numbers the server refused. Nothing was taken, so no client waits for them; what is published instead
    /// has a number of its own, and so the order of numbers stays the order of acceptance.
    refused: BTreeSet<u64>,
    /// The part of `refused` that the frontier has not passed.
    refused_ahead: VecDeque<u64>,
    paused_until: Option<Instant>,
}

impl Publisher {
    pub(crate) fn connect(
        address: SocketAddr,
        publishing: Publishing,
        topic: &str,
        message: Message,
        window: u64,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        Ok(Self {
            pipeline: Pipeline::connect(address, registry, token)?,
            envelope: publishing.envelope(address, topic, message.size()),
            message,
            window,
            published: 0,
            answered: 0,
            refused: BTreeSet::new(),
            refused_ahead: VecDeque::new(),
            paused_until: None,
        })
    }

    /// Writes as many publications as the window has room for, to be sent by [`Self::flush`]. `frontier` is the
    /// number below which everything has reached everybody.
    pub(crate) fn prepare(&mut self, frontier: u64, now: Instant) {
        if self.paused_until.is_some_and(|until| now < until) {
            return;
        }
        self.paused_until = None;
        let sent_ns = self.message.clock(now);
        for _ in 0..self.room(frontier) {
            let requests = self.pipeline.requests();
            requests.extend_from_slice(&self.envelope.head);
            self.message.write(self.published, sent_ns, requests);
            requests.extend_from_slice(self.envelope.tail);
            self.published += 1;
        }
    }

    /// Sends what has been prepared, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.pipeline.flush()
    }

    /// Writes on what the socket did not take, and reads the answers that have come.
    pub(crate) fn attend(&mut self, now: Instant) -> io::Result<()> {
        self.pipeline.flush()?;
        self.pipeline.fill()?;
        while let Some(answer) = self.pipeline.answer()? {
            let number = self.answered;
            self.answered += 1;
            match answer.status {
                200..=299 => {}
                503 => {
                    let pause = answer.retry_after.unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
                    self.paused_until = Some(now + pause);
                    self.refused.insert(number);
                    self.refused_ahead.push_back(number);
                }
                status => {
                    let body = String::from_utf8_lossy(answer.body);
                    let text = format!("a publication was answered with {status} {}", body.trim());
                    return Err(io::Error::new(ErrorKind::InvalidData, text));
                }
            }
        }
        Ok(())
    }

    /// Publications that are due and have not reached everybody.
    pub(crate) fn undelivered(&mut self, frontier: u64) -> u64 {
        while self.refused_ahead.front().is_some_and(|&number| number < frontier) {
            self.refused_ahead.pop_front();
        }
        self.published.saturating_sub(frontier).saturating_sub(self.refused_ahead.len() as u64)
    }

    /// Whether every publication has been answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered == self.published
    }

    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    /// The numbers the server did not take.
    pub(crate) fn into_refused(self) -> BTreeSet<u64> {
        self.refused
    }

    fn room(&mut self, frontier: u64) -> u64 {
        let in_window = match self.undelivered(frontier) {
            0 => self.window.div_ceil(2),
            undelivered => self.window.saturating_sub(undelivered),
        };
        let in_census = (SPAN - 1).saturating_sub(self.published.saturating_sub(frontier));
        let unanswered = (self.window + UNANSWERED_SPARE).saturating_sub(self.published - self.answered);
        in_window.min(in_census).min(unanswered)
    }
}
