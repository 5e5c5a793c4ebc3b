//! `Corked`: answers to requests that came together leave together.
//!
//! hyper flushes after every answer. Behind a publisher that has several requests under way that is a system call for
//! each; so what is to be flushed is held back while hyper still has requests to look at. It cannot be asked for that,
//! but it shows it: before it waits for more it reads, and while it waits for an answer it flushes again with nothing
//! new written. At either, and before the end, what is held goes out. The one thing that it writes last of all before it
//! waits, `100 Continue`, is not held back. So nothing is ever held while hyper waits.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::stream::Stream;
use crate::limits::HTTP_CORKED_BYTES;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

/// How what hyper writes ends when the client waits for it before it sends the body.
const GO_ON: &[u8] = b" 100 Continue\r\n\r\n";

/// A stream whose small writes are joined.
#[derive(Debug)]
pub(super) struct Corked {
    stream: TokioIo<Stream>,
    held: Vec<u8>,
    /// Whether something was written since the last flush that may be held back.
    written: bool,
}

impl Corked {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream: TokioIo::new(stream), held: Vec::new(), written: false }
    }

    /// The stream, once all that is held has left, or it turned out that it cannot.
    pub(super) async fn into_stream(mut self) -> Stream {
        // The stream of an error is handed on all the same: whoever reads or writes it next learns of it.
        let _ = std::future::poll_fn(|context| self.uncork(context)).await;
        self.stream.into_inner()
    }

    /// Writes all that is held.
    fn uncork(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut from = 0;
        let result = loop {
            if from == self.held.len() {
                // What became records may still be there.
                break Pin::new(&mut self.stream).poll_flush(context);
            }
            match Pin::new(&mut self.stream).poll_write(context, &self.held[from..]) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => from += written,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.held.drain(..from);
        if self.held.is_empty() {
            // A connection that waits holds no memory for this.
            self.held = Vec::new();
        }
        result
    }
}

impl Read for Corked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // Whether it could all be written or not, there may be something to read.
        if let Poll::Ready(Err(error)) = self.uncork(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Corked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.held.len() + bytes.len() > HTTP_CORKED_BYTES {
            ready!(self.uncork(context))?;
        }
        self.written = !bytes.ends_with(GO_ON);
        if bytes.len() > HTTP_CORKED_BYTES {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.written) {
            return Poll::Ready(Ok(()));
        }
        self.uncork(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.uncork(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn pair() -> (Corked, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Corked::new(Stream::Plain(accepted.expect("a client connects").0)), client.expect("it listens"))
    }

    async fn write(corked: &mut Corked, bytes: &[u8]) {
        let written = poll_fn(|context| Pin::new(&mut *corked).poll_write(context, bytes)).await;
        assert_eq!(written.expect("it is connected"), bytes.len());
    }

    async fn flush(corked: &mut Corked) {
        poll_fn(|context| Pin::new(&mut *corked).poll_flush(context)).await.expect("it is connected");
    }

    #[tokio::test]
    async fn what_is_flushed_leaves_when_nothing_is_added() {
        let (mut corked, mut client) = pair().await;
        for answer in [b"one", b"two"] {
            write(&mut corked, answer).await;
            flush(&mut corked).await;
        }
        assert_eq!(corked.held, b"onetwo", "hyper may have more");
        flush(&mut corked).await;
        assert_eq!(corked.held.capacity(), 0);
        let mut read = [0; 6];
        client.read_exact(&mut read).await.expect("it is sent");
        assert_eq!(&read, b"onetwo");
    }

    #[tokio::test]
    async fn what_the_client_waits_for_before_it_sends_more_leaves_at_once() {
        let (mut corked, _client) = pair().await;
        write(&mut corked, b"HTTP/1.1 200 OK\r\n\r\n").await;
        write(&mut corked, b"HTTP/1.1 100 Continue\r\n\r\n").await;
        flush(&mut corked).await;
        assert!(corked.held.is_empty());
    }

    #[tokio::test]
    async fn no_more_is_held_than_the_limit_and_the_rest_comes_with_the_stream() {
        let (mut corked, mut client) = pair().await;
        let half = vec![b'x'; HTTP_CORKED_BYTES / 2 + 1];
        write(&mut corked, &half).await;
        write(&mut corked, &half).await;
        assert_eq!(corked.held.len(), half.len());
        drop(corked.into_stream().await);
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.expect("it is sent");
        assert_eq!(read.len(), 2 * half.len());
    }
}
