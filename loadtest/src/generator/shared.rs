//! What the threads of a generator and the thread that directs them know of each other: a phase, flags, and
//! counters. Each value has one writer, nobody waits for anybody, and no value guards other memory, so Relaxed
//! is enough throughout; wake-ups go through the pollers.
//!
//! Threads of other processes have their places here too. In the directing process the first thread fills them with
//! what the others report (see [`super::holders`]), and whoever reads a counter need not know where it comes from.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

use mio::Waker;
use serde::{Deserialize, Serialize};

use super::board::Board;
use crate::place::Place;

/// What a generator does now. Only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Connect, then hold the connections and answer pings.
    Connect,
    /// Publish, unmeasured.
    WarmUp,
    /// Publish and record latencies.
    Measure,
    /// Publish no more; wait for what is under way.
    Drain,
    /// End, and give back what was found.
    Stop,
}

/// Shared by all threads of one generator.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Written by the directing thread.
    phase: AtomicU8,
    /// Written by the directing thread: the chosen clients stop reading.
    stall: AtomicBool,
    published: Published,
    pub(crate) threads: Box<[Progress]>,
    /// One for each thread of this process: the first so many.
    wakers: Box<[Waker]>,
    /// Threads that publish: the first so many.
    publishing: usize,
}

/// For each stream: how many numbers have been given out.
#[derive(Debug)]
pub(crate) enum Published {
    /// Written by the thread that publishes it, before they are sent, and posted for other processes if there are any.
    Here { counts: Box<[AtomicU64]>, board: Option<Board> },
    /// Posted by the process that publishes.
    Elsewhere(Board),
}

/// What one thread's clients have done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) open: u64,
    pub(crate) closed: u64,
    pub(crate) deliveries: u64,
    pub(crate) reads: u64,
    /// Pings of the server that were answered.
    pub(crate) pongs: u64,
}

/// Written by one generator thread, read by others: on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Progress {
    open: AtomicU64,
    closed: AtomicU64,
    deliveries: AtomicU64,
    reads: AtomicU64,
    pongs: AtomicU64,
    /// Numbers given out by the thread's publishers.
    pub(crate) published: AtomicU64,
    /// Publications offered to the server (some more than once), taken by it, and refused with 503.
    pub(crate) offered: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Publications that were due while no stream of their publisher was free.
    pub(crate) held: AtomicU64,
    /// For too long nothing the thread published has reached everybody.
    stuck: AtomicBool,
    /// Everything the thread published has reached everybody and been answered.
    settled: AtomicBool,
    /// For each stream: every number below has reached every client of the thread that is still waited for.
    frontiers: Box<[AtomicU64]>,
}

/// The sum over all threads.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) open: u64,
    pub(crate) closed: u64,
    pub(crate) deliveries: u64,
    pub(crate) reads: u64,
    pub(crate) pongs: u64,
    pub(crate) published: u64,
    pub(crate) offered: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) held: u64,
}

impl Published {
    /// None yet of any of `streams` streams, all of them published here.
    pub(crate) fn here(streams: usize, board: Option<Board>) -> Self {
        Self::Here { counts: (0..streams).map(|_| AtomicU64::new(0)).collect(), board }
    }

    fn streams(&self) -> usize {
        match self {
            Self::Here { counts, .. } => counts.len(),
            Self::Elsewhere(board) => board.streams(),
        }
    }
}

impl Shared {
    /// For `threads` threads, those of other processes included; the first have a waker each, and the first
    /// `publishing` publish.
    pub(crate) fn new(threads: usize, wakers: Vec<Waker>, publishing: usize, published: Published) -> Self {
        // Nobody is waited for who has not come yet.
        let frontiers = || (0..published.streams()).map(|_| AtomicU64::new(u64::MAX)).collect();
        let progress = || Progress { frontiers: frontiers(), ..Progress::default() };
        Self {
            phase: AtomicU8::new(Phase::Connect as u8),
            stall: AtomicBool::new(false),
            threads: (0..threads).map(|_| progress()).collect(),
            published,
            wakers: wakers.into_boxed_slice(),
            publishing,
        }
    }

    /// Goes to `phase` and tells every thread.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.wake_all();
    }

    /// Lets the chosen clients stop reading.
    pub(crate) fn stall(&self) {
        self.stall.store(true, Relaxed);
        self.wake_all();
    }

    /// So many numbers of `stream` have been given out; called before the last of them is sent.
    pub(crate) fn set_published(&self, stream: u32, published: u64) {
        if let Published::Here { counts, board } = &self.published {
            counts[stream as usize].store(published, Relaxed);
            if let Some(board) = board {
                board.post(stream, published);
            }
        }
    }

    pub(crate) fn set_counters(&self, thread: usize, counters: Counters) {
        let progress = &self.threads[thread];
        progress.open.store(counters.open, Relaxed);
        progress.closed.store(counters.closed, Relaxed);
        progress.deliveries.store(counters.deliveries, Relaxed);
        progress.reads.store(counters.reads, Relaxed);
        progress.pongs.store(counters.pongs, Relaxed);
    }

    pub(crate) fn set_stuck(&self, thread: usize) {
        self.threads[thread].stuck.store(true, Relaxed);
    }

    pub(crate) fn set_settled(&self, thread: usize, settled: bool) {
        self.threads[thread].settled.store(settled, Relaxed);
    }

    /// Gives whether the frontier was another before.
    pub(crate) fn set_frontier(&self, thread: usize, stream: u32, frontier: u64) -> bool {
        let known = &self.threads[thread].frontiers[stream as usize];
        if known.load(Relaxed) == frontier {
            return false;
        }
        known.store(frontier, Relaxed);
        true
    }

    /// Tells the publishing threads but `except` that there may be room. A failure cannot be helped here: a thread
    /// looks again by itself a little later.
    pub(crate) fn wake_publishers(&self, except: usize) {
        for (index, waker) in self.wakers.iter().take(self.publishing).enumerate() {
            if index != except {
                let _ = waker.wake();
            }
        }
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        const PHASES: [Phase; 5] = [Phase::Connect, Phase::WarmUp, Phase::Measure, Phase::Drain, Phase::Stop];
        PHASES[usize::from(self.phase.load(Relaxed))]
    }

    #[inline]
    pub(crate) fn is_measuring(&self) -> bool {
        self.phase() == Phase::Measure
    }

    pub(crate) fn is_stalling(&self) -> bool {
        self.stall.load(Relaxed)
    }

    /// How many numbers of `stream`, which is one of the run's, have been given out.
    pub(crate) fn published(&self, stream: u32) -> u64 {
        match &self.published {
            Published::Here { counts, .. } => counts[stream as usize].load(Relaxed),
            Published::Elsewhere(board) => board.read(stream),
        }
    }

    /// Whether this number has been given out.
    pub(crate) fn is_published(&self, place: Place) -> bool {
        (place.stream() as usize) < self.published.streams()
            && place.number() < self.published(place.stream())
    }

    pub(crate) fn is_stuck(&self) -> bool {
        self.threads.iter().any(|thread| thread.stuck.load(Relaxed))
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.threads.iter().take(self.publishing).all(|thread| thread.settled.load(Relaxed))
    }

    /// The number of `stream` below which everything has reached everybody; `u64::MAX` if nobody is waited for.
    #[inline]
    pub(crate) fn frontier(&self, stream: u32) -> u64 {
        let frontiers = self.threads.iter().map(|thread| thread.frontiers[stream as usize].load(Relaxed));
        frontiers.min().unwrap_or(u64::MAX)
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for thread in &self.threads {
            totals.open += thread.open.load(Relaxed);
            totals.closed += thread.closed.load(Relaxed);
            totals.deliveries += thread.deliveries.load(Relaxed);
            totals.reads += thread.reads.load(Relaxed);
            totals.pongs += thread.pongs.load(Relaxed);
            totals.published += thread.published.load(Relaxed);
            totals.offered += thread.offered.load(Relaxed);
            totals.accepted += thread.accepted.load(Relaxed);
            totals.refused += thread.refused.load(Relaxed);
            totals.held += thread.held.load(Relaxed);
        }
        totals
    }

    fn wake_all(&self) {
        for waker in &self.wakers {
            let _ = waker.wake();
        }
    }
}
