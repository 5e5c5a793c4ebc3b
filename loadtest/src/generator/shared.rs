//! What the threads of a generator and the thread that directs them know of each other: a phase, flags, and
//! counters. Each value has one writer, nobody waits for anybody, and no value guards other memory, so Relaxed
//! is enough throughout; wake-ups go through the pollers.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

use mio::Waker;

/// What a generator does now. Only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Written by the publishing thread: how many numbers have been given out, before they are sent.
    published: AtomicU64,
    /// Written by the publishing thread: nothing has reached everybody for too long.
    stuck: AtomicBool,
    /// Written by the publishing thread: everything published has reached everybody and been answered.
    settled: AtomicBool,
    pub(crate) threads: Box<[Progress]>,
    /// One for each thread; the publishing thread's is the first.
    wakers: Box<[Waker]>,
}

/// Written by one generator thread, read by others: on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Progress {
    pub(crate) open: AtomicU64,
    pub(crate) closed: AtomicU64,
    pub(crate) deliveries: AtomicU64,
    pub(crate) reads: AtomicU64,
    /// Pings of the server that were answered.
    pub(crate) pongs: AtomicU64,
    /// Every number below it has reached every client of the thread that is still waited for.
    pub(crate) frontier: AtomicU64,
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
}

impl Shared {
    pub(crate) fn new(wakers: Vec<Waker>) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Connect as u8),
            stall: AtomicBool::new(false),
            published: AtomicU64::new(0),
            stuck: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            threads: wakers.iter().map(|_| Progress::default()).collect(),
            wakers: wakers.into_boxed_slice(),
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

    pub(crate) fn set_published(&self, published: u64) {
        self.published.store(published, Relaxed);
    }

    pub(crate) fn set_stuck(&self) {
        self.stuck.store(true, Relaxed);
    }

    pub(crate) fn set_settled(&self, settled: bool) {
        self.settled.store(settled, Relaxed);
    }

    /// Tells the publishing thread that there may be room. A failure cannot be helped here: the thread looks
    /// again by itself a little later.
    pub(crate) fn wake_publisher(&self) {
        if let Some(waker) = self.wakers.first() {
            let _ = waker.wake();
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

    pub(crate) fn published(&self) -> u64 {
        self.published.load(Relaxed)
    }

    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.load(Relaxed)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Relaxed)
    }

    /// The frontier of all threads but `except`.
    pub(crate) fn frontier_of_others(&self, except: usize) -> u64 {
        let others = self.threads.iter().enumerate().filter(|&(index, _)| index != except);
        others.map(|(_, thread)| thread.frontier.load(Relaxed)).min().unwrap_or(u64::MAX)
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals { published: self.published(), ..Totals::default() };
        for thread in &self.threads {
            totals.open += thread.open.load(Relaxed);
            totals.closed += thread.closed.load(Relaxed);
            totals.deliveries += thread.deliveries.load(Relaxed);
            totals.reads += thread.reads.load(Relaxed);
            totals.pongs += thread.pongs.load(Relaxed);
        }
        totals
    }

    fn wake_all(&self) {
        for waker in &self.wakers {
            let _ = waker.wake();
        }
    }
}
