//! Result lines on their way from a stream of publications to its answer: bounded, and pulled by hyper.
//!
//! A [`Writer`] belongs to the task that publishes, [`Results`] is the body of the answer. Both are on one thread. The
//! writer does not wait by itself: it is asked for [`Writer::room`] first. Whichever side goes tells the other.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::Notify;

use super::connections::Entry;
use crate::limits::BATCH_RESULTS_BYTES;

#[derive(Debug, Default)]
struct Shared {
    lines: RefCell<Vec<u8>>,
    /// The writer is gone: nothing comes behind `lines`.
    is_over: Cell<bool>,
    /// The answer is gone: nobody reads.
    is_unread: Cell<bool>,
    /// Told when lines were taken, or the answer is gone.
    taken: Notify,
    /// Who is to be woken when there are lines.
    reader: RefCell<Option<Waker>>,
}

/// Where result lines are written.
#[derive(Debug)]
pub(super) struct Writer(Rc<Shared>);

/// The body of an answer that is made of them.
#[derive(Debug)]
pub(super) struct Results {
    shared: Rc<Shared>,
    /// Whether lines were handed out since the last wait.
    handed: bool,
    /// The connection whose answer this is; while it lives a request of that is in work.
    entry: Option<Rc<Entry>>,
}

/// A writer, and the body of what it writes.
pub(super) fn results() -> (Writer, Results) {
    let shared = Rc::new(Shared::default());
    (Writer(shared.clone()), Results { shared, handed: false, entry: None })
}

impl Writer {
    /// Appends a line.
    pub(super) fn write(&self, line: &[u8]) {
        let mut lines = self.0.lines.borrow_mut();
        lines.extend_from_slice(line);
        lines.push(b'\n');
        drop(lines);
        self.0.wake();
    }

    /// Waits until less than [`BATCH_RESULTS_BYTES`] wait to be read, or nobody reads any more.
    pub(super) async fn room(&self) {
        while !self.0.is_unread.get() && self.0.lines.borrow().len() >= BATCH_RESULTS_BYTES {
            self.0.taken.notified().await;
        }
    }

    /// Waits until nobody reads any more.
    pub(super) async fn unread(&self) {
        while !self.0.is_unread.get() {
            self.0.taken.notified().await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.is_over.set(true);
        self.0.wake();
    }
}

impl Shared {
    fn wake(&self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Results {
    /// Keeps the connection from being closed for another until the answer is over.
    pub(super) fn hold(&mut self, entry: Rc<Entry>) {
        self.entry = Some(entry);
    }

    /// The next lines.
    pub(super) fn poll_lines(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let lines = std::mem::take(&mut *self.shared.lines.borrow_mut());
        if !lines.is_empty() {
            self.handed = true;
            self.shared.taken.notify_one();
            return Poll::Ready(Some(Ok(Frame::data(lines.into()))));
        }
        if self.shared.is_over.get() {
            return Poll::Ready(None);
        }
        self.shared.reader.replace(Some(context.waker().clone()));
        if std::mem::take(&mut self.handed) {
            // hyper flushes once behind what it wrote, and the stream holds that back for what may follow at once
            // (`corked`). Nothing does: one more turn, and it leaves.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        self.shared.is_unread.set(true);
        self.shared.taken.notify_one();
        if let Some(entry) = self.entry.take() {
            entry.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::{Pin, pin},
    };

    use super::*;

    async fn next(results: &mut Pin<&mut Results>) -> Option<Bytes> {
        let frame = poll_fn(|context| results.poll_lines(context)).await?;
        frame.expect("it cannot fail").into_data().ok()
    }

    #[tokio::test]
    async fn lines_wait_for_their_reader_and_the_writer_for_room() {
        let (writer, results) = results();
        let mut results = pin!(results);
        writer.write(b"one");
        writer.write(b"two");
        assert_eq!(next(&mut results).await.as_deref(), Some(&b"one\ntwo\n"[..]));
        writer.write(&vec![b'x'; BATCH_RESULTS_BYTES]);
        {
            let mut room = pin!(writer.room());
            let now = poll_fn(|context| Poll::Ready(room.as_mut().poll(context).is_pending())).await;
            assert!(now, "there is no room");
            let (lines, ()) = tokio::join!(next(&mut results), room);
            assert_eq!(lines.map(|lines| lines.len()), Some(BATCH_RESULTS_BYTES + 1));
        }
        writer.write(b"end");
        drop(writer);
        assert_eq!(next(&mut results).await.as_deref(), Some(&b"end\n"[..]));
        assert_eq!(next(&mut results).await, None);
    }

    #[tokio::test]
    async fn writer_learns_that_nobody_reads() {
        let (writer, results) = results();
        writer.write(&vec![b'x'; 2 * BATCH_RESULTS_BYTES]);
        let ((), (), ()) = tokio::join!(writer.room(), async { drop(results) }, async {});
        writer.unread().await;
    }
}
