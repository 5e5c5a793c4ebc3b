//! The way of the log: lines wait in a bounded queue, and one thread of their own writes them to standard error.
//!
//! A line is put into the queue or lost and counted, at once: a full disk, a stream nobody reads, or one that was closed must
//! never hold up the thread that says something, for that may be a shard. Of lines lost the log itself tells when lines get
//! through again, and [`lines_lost`] at any time. `start` opens it; whoever ends the process calls [`flush`] before.

use std::{
    io::{self, Write},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::MakeWriter;

use crate::limits::{LOG_FLUSH_MS, LOG_LINE_BYTES, LOG_LINES_WAITING};

/// How often [`flush`] looks whether everything is written.
const FLUSH_LOOK: Duration = Duration::from_millis(1);

/// The queue of this process, when there is one.
static QUEUE: OnceLock<LogQueue> = OnceLock::new();

/// The queue of this process, whose lines go to standard error.
pub(super) fn open() -> LogQueue {
    QUEUE.get_or_init(|| LogQueue::into(io::stderr())).clone()
}

/// Lines that were not written since the start: there was no room for them, or standard error did not take them.
pub fn lines_lost() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.counts.lost.load(Ordering::Relaxed))
}

/// Says a line that is no event, behind those said before; it is lost where they are.
pub fn say(line: &str) {
    if let Some(queue) = QUEUE.get() {
        queue.push(format!("{line}\n").as_bytes());
    }
}

/// Waits until what was said before is written, but not for long: who ends must not hang on who does not read.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(Duration::from_millis(LOG_FLUSH_MS));
    }
}

/// The sending side of the queue.
#[derive(Clone, Debug)]
pub(super) struct LogQueue {
    lines: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Lines put into the queue: by who says them, after they are in it.
    queued: AtomicU64,
    /// Lines taken from it that are written, or could not be: by the writing thread.
    done: AtomicU64,
    /// Lines that did not get into the queue, or not out of it: by both.
    lost: AtomicU64,
}

impl LogQueue {
    /// A queue whose lines are written to `sink`, by a thread that ends with the last sender.
    fn into(sink: impl Write + Send + 'static) -> Self {
        let (lines, waiting) = sync_channel(LOG_LINES_WAITING);
        let counts = Arc::new(Counts::default());
        let writer = Writer { sink, cut: false, told: 0, counts: counts.clone() };
        // Without the thread every line is lost. A process that cannot have it has none for its shards either, and ends
        // with an error that says so.
        let _ = thread::Builder::new().name("log".into()).spawn(move || writer.run(&waiting));
        Self { lines, counts }
    }

    fn push(&self, line: &[u8]) {
        if line.len() <= LOG_LINE_BYTES && self.lines.try_send(line.to_vec()).is_ok() {
            self.counts.queued.fetch_add(1, Ordering::Relaxed);
        } else {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self, patience: Duration) {
        let end = Instant::now() + patience;
        let queued = self.counts.queued.load(Ordering::Relaxed);
        // Pairs with the store after the write: what is seen as done is written.
        while self.counts.done.load(Ordering::Acquire) < queued && Instant::now() < end {
            thread::sleep(FLUSH_LOOK);
        }
    }
}

/// Each event is handed over whole, in one call.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogQueue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The writing side.
struct Writer<W> {
    sink: W,
    /// Whether the last line may have been written in part.
    cut: bool,
    /// Lines lost that were told of.
    told: u64,
    counts: Arc<Counts>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, waiting: &Receiver<Vec<u8>>) {
        while let Ok(line) = waiting.recv() {
            self.write(&line);
            self.counts.done.fetch_add(1, Ordering::Release);
        }
    }

    fn write(&mut self, line: &[u8]) {
        let ended = if self.cut { self.sink.write_all(b"\n") } else { Ok(()) };
        if ended.and_then(|()| self.sink.write_all(line)).is_err() {
            self.cut = true;
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.cut = false;
        let lost = self.counts.lost.load(Ordering::Relaxed);
        if lost > self.told {
            self.told = lost;
            tracing::warn!(lost, "lines of the log were lost: it was not read, or could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    /// Writes what it is allowed to, one permit a call, each of which says whether it works.
    struct Gate {
        permits: Receiver<bool>,
        written: SyncSender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Who has gone away lets everything pass.
            if !self.permits.recv().unwrap_or(true) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written.send(bytes.to_vec()).expect("there is room, and somebody looks");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (LogQueue, SyncSender<bool>, Receiver<Vec<u8>>) {
        let (permit, permits) = sync_channel(16);
        let (written, lines) = sync_channel(2 * LOG_LINES_WAITING);
        (LogQueue::into(Gate { permits, written }), permit, lines)
    }

    #[test]
    fn line_that_finds_the_queue_full_is_lost_and_counted_and_its_sender_goes_on() {
        let (queue, permit, lines) = gated();
        // The writer holds one at most while it may not write.
        let said = LOG_LINES_WAITING + 10;
        (0..said).for_each(|n| queue.push(format!("{n}\n").as_bytes()));
        let lost = queue.counts.lost.load(Ordering::Relaxed);
        assert!((9..=10).contains(&lost), "{lost}");
        drop(permit);
        queue.flush(DEADLINE);
        let written: Vec<_> = lines.try_iter().collect();
        assert_eq!(written.len() as u64, said as u64 - lost);
        assert_eq!(written[1], b"1\n", "in their order");
        queue.push(&[b'x'; LOG_LINE_BYTES + 1]);
        assert_eq!(queue.counts.lost.load(Ordering::Relaxed), lost + 1, "one too long is lost too");
    }

    #[test]
    fn line_that_is_not_taken_is_counted_and_the_next_begins_a_line_of_its_own() {
        let (queue, permit, lines) = gated();
        for works in [true, false, true, true, true] {
            permit.send(works).expect("it is waited for");
        }
        for line in ["a\n", "b\n", "c\n", "d\n"] {
            queue.push(line.as_bytes());
        }
        queue.flush(DEADLINE);
        let written: Vec<_> = lines.try_iter().flatten().collect();
        assert_eq!(written, b"a\n\nc\nd\n");
        assert_eq!(queue.counts.lost.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn flush_does_not_wait_for_ever() {
        let (queue, permit, _lines) = gated();
        queue.push(b"never\n");
        queue.flush(Duration::from_millis(20));
        assert_eq!(queue.counts.done.load(Ordering::Relaxed), 0);
        drop(permit);
    }
}
