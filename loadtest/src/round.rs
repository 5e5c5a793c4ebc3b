//! One measured round: connect, settle, warm up, measure, drain. It directs a generator from a thread of its own
//! that sleeps almost all the time, and reads the server's CPU time at the same moments as the generator's
//! counters.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::dialect::Framing;
use crate::error::{Context, Error, Result};
use crate::figures::{
    self, CpuFigures, DescriptorFigures, LatencyFigures, MemoryFigures, Round, SupplyFigures,
};
use crate::generator::{Generator, Outcome, Pace, Phase, Plan, Supply, Totals};
use crate::machine::Cores;
use crate::procfs::{self, CpuTime};
use crate::progress::Progress;
use crate::server::Server;
use crate::server::ledger::{Audit, Seen, ServerLedger};
use crate::timeline::{Recorder, Timeline};

/// How often the directing thread looks at things while it waits.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long no further client may get connected before the run is given up.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);

/// Below this share of the intended rate the publishers have fallen behind.
const KEPT_UP_SHARE: f64 = 0.99;
/// Publications that may be under way when the window ends without anybody having fallen behind.
const UNDER_WAY_SPARE: u64 = 5;

/// The longest that is granted for what is under way when the window ends.
const UNDER_WAY_MAX: Duration = Duration::from_secs(300);

/// How long each part of a round takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// From the last client's upgrade to the look at the server's memory.
    pub(crate) settle: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    /// From the beginning of the measured window to when the chosen clients stop reading.
    pub(crate) stall_after: Duration,
    /// How long draining may take, beyond what is under way takes at the measured rate.
    pub(crate) patience: Duration,
}

impl Timing {
    /// How long draining may take after `window`, with so many deliveries under way.
    fn drain_max(&self, window: &Window, under_way: f64) -> Duration {
        let per_second = (window.deliveries as f64 / window.seconds).max(1.0);
        let seconds = (under_way.max(0.0) / per_second).min(UNDER_WAY_MAX.as_secs_f64());
        self.patience + Duration::from_secs_f64(seconds)
    }
}

/// Whoever watches the run: Ctrl-C or a termination signal ends it, once; a second one ends the process at once.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    flag: Arc<AtomicBool>,
    pub(crate) progress: Progress,
}

impl Interrupt {
    /// Takes over both signals for the rest of the process.
    pub(crate) fn watch() -> Result<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first arms the second.
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
                .context(|| "cannot watch for signals".to_owned())?;
        }
        Ok(Self { flag, progress: Progress::new() })
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.flag.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// All clients of a plan, connected to a server, with nothing published yet.
pub(crate) struct Audience<'a> {
    server: &'a Server,
    interrupt: &'a Interrupt,
    generator: Generator,
    /// The processes that simulate clients.
    pids: Vec<u32>,
    recorder: RefCell<Recorder>,
    pub(crate) connects_per_second: f64,
    pub(crate) before_bytes: Option<u64>,
    pub(crate) connected_bytes: Option<u64>,
    clients: usize,
}

/// The counters at one moment.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    totals: Totals,
    server: Option<CpuTime>,
    server_wait_ns: Option<u64>,
    server_used_ns: Option<u64>,
    harness: Option<CpuTime>,
    harness_wait_ns: Option<u64>,
}

/// What two samples say about the time between them.
pub(crate) struct Window {
    pub(crate) seconds: f64,
    pub(crate) deliveries: u64,
    pub(crate) reads: u64,
    pub(crate) pongs: u64,
    offered: u64,
    pub(crate) accepted: u64,
    refused: u64,
    held: u64,
    /// Run time of the server's threads, exact where `server` is counted in ticks.
    server_used_ns: Option<u64>,
    server: Option<CpuTime>,
    server_wait_ns: Option<u64>,
    harness: Option<CpuTime>,
    harness_wait_ns: Option<u64>,
}

impl<'a> Audience<'a> {
    /// Connects everybody and lets the server settle for `settle`.
    pub(crate) fn gather(
        plan: &Plan,
        server: &'a Server,
        settle: Duration,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let before_bytes = server.pid.and_then(procfs::resident_bytes);
        let started = Instant::now();
        let generator = Generator::start(plan)?;
        let pids = generator.pids();
        let mut audience = Self {
            server,
            interrupt,
            generator,
            recorder: RefCell::new(Recorder::new(server.pid, pids.clone())),
            pids,
            connects_per_second: 0.0,
            before_bytes,
            connected_bytes: None,
            clients: plan.split.clients,
        };
        if !audience.connect()? {
            return Err(audience.why_it_failed());
        }
        audience.connects_per_second = plan.split.clients as f64 / started.elapsed().as_secs_f64();
        audience.wait("settling", settle)?;
        audience.connected_bytes = server.pid.and_then(procfs::resident_bytes);
        Ok(audience)
    }

    /// Warms up, measures and drains; gives the measured window, and whether all went on to the end.
    pub(crate) fn publish(&self, timing: Timing) -> Result<(Window, bool)> {
        self.generator.enter(Phase::WarmUp);
        let mut smooth = self.wait("warming up", timing.warm_up)?;
        self.generator.enter(Phase::Measure);
        let begin = self.sample();
        if smooth {
            smooth = self.wait("measuring", timing.duration)?;
        }
        let window = begin.until(&self.sample());
        self.generator.enter(Phase::Drain);
        self.wait_until("draining", timing.patience, || self.generator.is_settled())?;
        Ok((window, smooth && self.generator.is_settled()))
    }

    /// Publications that were answered with 503 so far.
    pub(crate) fn refused(&self) -> u64 {
        self.generator.totals().refused
    }

    /// Publishes nothing and measures for `duration`. A generator that ends meanwhile says why when it is finished.
    pub(crate) fn rest(&self, duration: Duration) -> Result<Window> {
        let before = self.sample();
        self.wait("resting", duration)?;
        Ok(before.until(&self.sample()))
    }

    /// `false` if the generator ended by itself. Each client that gets through renews the patience, and there
    /// are finitely many.
    fn connect(&self) -> Result<bool> {
        let started = Instant::now();
        let (mut seen, mut moved) = (0, started);
        loop {
            let open = self.generator.totals().open;
            if open == self.clients as u64 {
                return Ok(true);
            }
            if self.generator.has_failed() {
                return Ok(false);
            }
            if open != seen {
                (seen, moved) = (open, Instant::now());
            }
            if moved.elapsed() > CONNECT_PATIENCE {
                return Err(Error::Failed(format!(
                    "only {open} of {} clients are connected, and none was added for {CONNECT_PATIENCE:?}",
                    self.clients
                )));
            }
            self.interrupt.check()?;
            self.record("connecting");
            let per_second = open as f64 / started.elapsed().as_secs_f64();
            self.interrupt.progress.clients("connecting", open, self.clients as u64, per_second);
            sleep(LOOK_EVERY);
        }
    }

    /// Waits; `false` if the generator ended or got stuck before the time was over.
    fn wait(&self, doing: &'static str, duration: Duration) -> Result<bool> {
        self.wait_until(doing, duration, || false)?;
        Ok(!self.generator.has_failed() && !self.generator.is_stuck())
    }

    fn wait_until(&self, doing: &'static str, at_most: Duration, done: impl Fn() -> bool) -> Result<()> {
        let started = Instant::now();
        while !done() && !self.generator.has_failed() && !self.generator.is_stuck() {
            self.interrupt.check()?;
            let left = at_most.saturating_sub(started.elapsed());
            if left.is_zero() {
                break;
            }
            let rate = self.record(doing);
            self.interrupt.progress.time(doing, started.elapsed(), at_most, rate);
            sleep(LOOK_EVERY.min(left));
        }
        Ok(())
    }

    /// Takes a sample if it is time, and gives the deliveries per second of late.
    fn record(&self, phase: &'static str) -> f64 {
        let mut recorder = self.recorder.borrow_mut();
        recorder.phase(phase);
        recorder.look(|| self.generator.totals());
        recorder.deliveries_per_second()
    }

    /// Something happens now that a reader of the plots should see.
    pub(crate) fn event(&self, name: impl Into<String>) {
        self.recorder.borrow_mut().event(name);
    }

    /// The round so far, moment by moment.
    pub(crate) fn timeline(&self) -> Timeline {
        self.recorder.borrow_mut().timeline(self.generator.totals())
    }

    fn sample(&self) -> Sample {
        Sample {
            at: Instant::now(),
            totals: self.generator.totals(),
            server: self.server.pid.and_then(CpuTime::of),
            server_wait_ns: self.server.pid.and_then(procfs::core_wait_ns),
            server_used_ns: self.server.pid.and_then(procfs::core_used_ns),
            harness: CpuTime::of_all(&self.pids),
            harness_wait_ns: procfs::core_wait_ns_of_all(&self.pids),
        }
    }

    fn memory(&self) -> Option<MemoryFigures> {
        let (before_bytes, connected_bytes) = (self.before_bytes?, self.connected_bytes?);
        Some(MemoryFigures {
            before_bytes,
            connected_bytes,
            end_bytes: self.server.pid.and_then(procfs::resident_bytes)?,
            peak_bytes: self.server.pid.and_then(procfs::peak_resident_bytes),
            per_connection_bytes: (connected_bytes as f64 - before_bytes as f64) / self.clients as f64,
        })
    }

    /// Ends the clients and gives what they found.
    pub(crate) fn finish(self) -> Result<Outcome> {
        self.interrupt.progress.clear();
        self.generator.finish()
    }

    /// The error of the thread that ended early.
    fn why_it_failed(self) -> Error {
        match self.finish() {
            Err(error) => error,
            Ok(_) => Error::Failed("the generator ended early".to_owned()),
        }
    }
}

impl Sample {
    fn until(&self, later: &Self) -> Window {
        let used = |earlier: Option<CpuTime>, later: Option<CpuTime>| Some(later?.since(earlier?));
        let waited = |earlier: Option<u64>, later: Option<u64>| Some(later?.saturating_sub(earlier?));
        Window {
            seconds: later.at.duration_since(self.at).as_secs_f64().max(1e-9),
            deliveries: later.totals.deliveries - self.totals.deliveries,
            reads: later.totals.reads - self.totals.reads,
            pongs: later.totals.pongs - self.totals.pongs,
            offered: later.totals.offered - self.totals.offered,
            accepted: later.totals.accepted - self.totals.accepted,
            refused: later.totals.refused - self.totals.refused,
            held: later.totals.held - self.totals.held,
            server_used_ns: waited(self.server_used_ns, later.server_used_ns),
            server: used(self.server, later.server),
            server_wait_ns: waited(self.server_wait_ns, later.server_wait_ns),
            harness: used(self.harness, later.harness),
            harness_wait_ns: waited(self.harness_wait_ns, later.harness_wait_ns),
        }
    }
}

impl Window {
    pub(crate) fn server_cpu(&self) -> Option<CpuFigures> {
        self.server.map(|used| CpuFigures::new(used, self.seconds, self.deliveries))
    }

    /// The server's CPU time, spread over `count` of whatever it did.
    pub(crate) fn server_cpu_per(&self, count: u64) -> Option<CpuFigures> {
        self.server.map(|used| CpuFigures::new(used, self.seconds, count))
    }

    /// The server's CPU time as a share of one core, exact for a server at rest too.
    pub(crate) fn server_share(&self) -> Option<f64> {
        Some(self.server_used_ns? as f64 / (self.seconds * 1e9))
    }

    /// What the publishers did. `lag` is how late they were, in nanoseconds.
    fn supply(&self, supply: Supply, lag: &Histogram<u64>) -> SupplyFigures {
        let per_second = |count: u64| count as f64 / self.seconds;
        let (intended, done) = match supply.pace {
            Pace::Rate(rate) => (Some(rate), self.offered.min(self.accepted + self.refused)),
            // What is beyond the server's capacity is not answered in time, and need not be.
            Pace::Open(Some(rate)) => (Some(rate), self.offered + self.held),
            Pace::Window(_) | Pace::Open(None) => (None, 0),
        };
        SupplyFigures {
            intended_per_second: intended,
            kept_up: intended
                .is_none_or(|rate| (done + UNDER_WAY_SPARE) as f64 >= KEPT_UP_SHARE * rate * self.seconds),
            offered_per_second: per_second(self.offered),
            accepted_per_second: per_second(self.accepted),
            refused_per_second: per_second(self.refused),
            held_per_second: per_second(self.held),
            lag_p99_ns: lag.value_at_quantile(0.99),
            lag_max_ns: lag.max(),
        }
    }

    /// Shares of the window for which server and harness waited for a core.
    fn wait_shares(&self) -> [Option<f64>; 2] {
        [self.server_wait_ns, self.harness_wait_ns].map(|ns| Some(ns? as f64 / (self.seconds * 1e9)))
    }

    pub(crate) fn harness_share(&self) -> Option<f64> {
        self.harness.map(|used| used.total_ns() as f64 / (self.seconds * 1e9))
    }
}

/// Carries out one round of fan-out and gives its figures.
pub(crate) fn fan_out(
    plan: &Plan,
    timing: Timing,
    server: &Server,
    label: (&'static str, usize),
    interrupt: &Interrupt,
) -> Result<Round> {
    let audience = Audience::gather(plan, server, timing.settle, interrupt)?;
    let books = ServerLedger::read(server);
    let descriptors = server.pid.and_then(procfs::open_descriptors);
    audience.generator.enter(Phase::WarmUp);
    let mut smooth = audience.wait("warming up", timing.warm_up)?;

    audience.generator.enter(Phase::Measure);
    let begin = audience.sample();
    if plan.stalling() > 0 && smooth {
        let before_stall = timing.stall_after.min(timing.duration);
        smooth = audience.wait("measuring", before_stall)?;
        audience.generator.stall();
        audience.event(format!("{} clients stop reading", plan.stalling()));
    }
    if smooth {
        smooth = audience.wait("measuring", timing.duration.saturating_sub(begin.at.elapsed()))?;
    }
    let window = begin.until(&audience.sample());

    audience.generator.enter(Phase::Drain);
    let Totals { published, deliveries, .. } = audience.generator.totals();
    let under_way = published as f64 * plan.streams.mean_audience(plan.split.clients) - deliveries as f64;
    let drain_max = timing.drain_max(&window, under_way);
    audience.wait_until("draining", drain_max, || audience.generator.is_settled())?;
    let drain_seconds = begin.at.elapsed().as_secs_f64() - window.seconds;
    let stuck = !smooth || !audience.generator.is_settled();
    let memory = audience.memory();
    let descriptors = descriptors.and_then(|connected| {
        Some(DescriptorFigures { connected, end: server.pid.and_then(procfs::open_descriptors)? })
    });
    let Totals { published, .. } = audience.generator.totals();
    let connects_per_second = audience.connects_per_second;
    let timeline = audience.timeline();
    let [core_wait_share, generator_wait_share] = window.wait_shares();
    let Outcome { faults, latency, closed, refused, lag, received, gaps } = audience.finish()?;
    let told = (plan.dialect.framing == Framing::V1).then_some(gaps);
    let is_everything = closed.is_empty() && plan.stalling() == 0 && !stuck;
    let seen = Seen { received, lost: faults.lost, told, is_everything };
    Ok(Round {
        server: label.0,
        round: label.1,
        clients: plan.split.clients,
        connects_per_second,
        seconds: window.seconds,
        published,
        refused,
        supply: plan.supply.map(|supply| window.supply(supply, &lag)),
        deliveries: window.deliveries,
        deliveries_per_second: window.deliveries as f64 / window.seconds,
        drain_seconds,
        messages_per_read: window.deliveries as f64 / window.reads.max(1) as f64,
        cpu: window.server_cpu(),
        core_wait_share,
        generator_wait_share,
        generator_share: window.harness_share(),
        generator_threads: plan.split.threads,
        generator_processes: plan.split.processes,
        generator_cores: plan.split.threads.min(Cores::count()?),
        latency: LatencyFigures::new(&latency),
        latency_curve_ns: figures::latency_curve(&latency),
        faults,
        told,
        closed: closed.into_iter().map(|(code, count)| (close_name(code), count)).collect(),
        stalled: plan.stalling(),
        stuck,
        memory,
        audit: books.and_then(|before| Audit::of(server, before, seen)),
        descriptors,
        timeline,
    })
}

fn close_name(code: Option<u16>) -> String {
    code.map_or_else(|| "no close frame".to_owned(), |code| code.to_string())
}
