//! What the threads of a crowd know of each other: a phase, switches and counters. Each value has one writer and
//! nobody waits for anybody. Orders and counters are Relaxed; only [`Shared::sent`] has to be seen in order, since what
//! is due to a client hangs on it.

use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use crate::generator::Totals;

/// Parts of a run whose latencies are kept apart.
pub(super) const SEGMENTS: usize = 4;

/// What a crowd does now. Only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Phase {
    Connect,
    /// Publish, and let the clients live.
    Run,
    /// Publish no more; everybody reads as fast as it can, until nothing is due.
    Drain,
    Stop,
}

/// Shared by the workers, the publisher and the directing thread.
#[derive(Debug)]
pub(super) struct Shared {
    /// Written by the directing thread, as the next four.
    phase: AtomicU8,
    segment: AtomicU8,
    vanish: AtomicBool,
    slow: AtomicBool,
    /// Written by the publisher *before* it sends: how many numbers each topic has given out. A worker that has read
    /// the answer which lets a client in loads it afterwards: whatever is not counted then is sent later, and due.
    sent: Box<[AtomicU64]>,
    /// Written by the publisher: it has stopped, and everything it sent has been answered.
    pub(super) published_all: AtomicBool,
    /// Written by the publisher: publications given out, and those the server answered with 503.
    pub(super) published: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) workers: Box<[Progress]>,
}

/// Written by one worker, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Progress {
    pub(super) open: AtomicU64,
    /// Messages that came in their turn.
    pub(super) deliveries: AtomicU64,
    /// How often a client that had vanished got its first message again.
    pub(super) served_again: AtomicU64,
    /// Nothing is due to any of its clients.
    pub(super) settled: AtomicBool,
}

impl Shared {
    pub(super) fn new(topics: usize, workers: usize) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Connect as u8),
            segment: AtomicU8::new(0),
            vanish: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            sent: (0..topics).map(|_| AtomicU64::new(0)).collect(),
            published_all: AtomicBool::new(false),
            published: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            workers: (0..workers).map(|_| Progress::default()).collect(),
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        const PHASES: [Phase; 4] = [Phase::Connect, Phase::Run, Phase::Drain, Phase::Stop];
        PHASES[usize::from(self.phase.load(Relaxed))]
    }

    /// Latencies count for part `segment` from now on; 0 is kept and not reported.
    pub(super) fn set_segment(&self, segment: usize) {
        self.segment.store((segment % SEGMENTS) as u8, Relaxed);
    }

    pub(super) fn segment(&self) -> usize {
        usize::from(self.segment.load(Relaxed))
    }

    pub(super) fn order_vanish(&self) {
        self.vanish.store(true, Relaxed);
    }

    pub(super) fn is_vanishing(&self) -> bool {
        self.vanish.load(Relaxed)
    }

    pub(super) fn order_slow(&self) {
        self.slow.store(true, Relaxed);
    }

    pub(super) fn is_slow(&self) -> bool {
        self.slow.load(Relaxed)
    }

    /// One more number of `topic` is about to be sent.
    pub(super) fn give_out(&self, topic: usize) -> u64 {
        self.sent[topic].fetch_add(1, SeqCst)
    }

    pub(super) fn sent(&self, topic: usize) -> u64 {
        self.sent[topic].load(SeqCst)
    }

    /// What has happened so far, as far as a crowd counts it.
    pub(super) fn totals(&self) -> Totals {
        Totals {
            open: self.sum(|worker| &worker.open),
            deliveries: self.sum(|worker| &worker.deliveries),
            published: self.published.load(Relaxed),
            refused: self.refused.load(Relaxed),
            ..Totals::default()
        }
    }

    pub(super) fn sum(&self, counter: fn(&Progress) -> &AtomicU64) -> u64 {
        self.workers.iter().map(|worker| counter(worker).load(Relaxed)).sum()
    }
}
