//! What HTTP is spoken over: a socket, or TLS over a socket.
//!
//! TLS lives in [`tls::Connection`], which has no buffers of its own; here is what it needs to be a stream of tokio's, and
//! to be taken apart again when the socket becomes the shard's.

use std::{
    cell::RefCell,
    fmt,
    io::{self, ErrorKind, IoSlice},
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::tls::{self, Failure};

thread_local! {
    /// Where the records of all connections of a shard are opened and sealed while they speak HTTP. It is not reached through
    /// them because hyper wants streams that could leave their thread.
    static SCRATCH: RefCell<tls::Scratch> = RefCell::default();
}

/// The stream of one connection.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Secure(Box<Secure>),
}

/// What is left of a stream when its socket is taken out.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) socket: TcpStream,
    pub(super) tls: Option<Box<tls::Connection>>,
    /// What was received and not read.
    pub(super) unread: Vec<u8>,
}

impl Stream {
    /// Takes the socket out.
    pub(super) fn into_parts(self) -> Parts {
        match self {
            Self::Plain(socket) => Parts { socket, tls: None, unread: Vec::new() },
            Self::Secure(secure) => {
                let Secure { socket, tls, unread, at, .. } = *secure;
                Parts { socket, tls: Some(tls), unread: unread[at..].to_vec() }
            }
        }
    }

    /// Says that nothing more comes from here, without waiting, and gives the socket, which may still be read from.
    pub(super) fn end(&mut self) -> &TcpStream {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Secure(secure) => {
                secure.tls.close();
                // Where it cannot be said the end is still an end.
                let _ = secure.tls.flush(|bytes| secure.socket.try_write(bytes));
                &secure.socket
            }
        };
        // It may have been done already.
        let _ = socket2::SockRef::from(socket).shutdown(Shutdown::Write);
        socket
    }
}

/// A socket with TLS.
pub(super) struct Secure {
    socket: TcpStream,
    tls: Box<tls::Connection>,
    /// What was received, and how much of it was read.
    unread: Vec<u8>,
    at: usize,
    /// Nothing more will be written.
    is_shut: bool,
}

impl Secure {
    /// Does the handshake.
    ///
    /// # Errors
    /// When there is none: the peer is told by an alert, if it speaks TLS. With the socket, which may still be written to.
    pub(super) async fn accept(
        socket: TcpStream,
        mut tls: Box<tls::Connection>,
    ) -> Result<Self, (TcpStream, Failure)> {
        let mut unread = Vec::new();
        let failure = loop {
            if let Err(error) = flush(&socket, &mut tls).await {
                break Failure::Io(error);
            }
            if !tls.is_handshaking() {
                return Ok(Self { socket, tls, unread, at: 0, is_shut: false });
            }
            if let Err(error) = socket.readable().await {
                break Failure::Io(error);
            }
            let received = receive(&socket, &mut tls, &mut unread);
            match received {
                Ok(()) => {}
                Err(failure) => {
                    // The alert. Where it cannot be said the end is still an end.
                    let _ = flush(&socket, &mut tls).await;
                    break failure;
                }
            }
        };
        Err((socket, failure))
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.tls.is_resumed()
    }

    fn poll_records(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.tls.flush(|bytes| self.socket.try_write(bytes))? {
                return Poll::Ready(Ok(()));
            }
            ready!(self.socket.poll_write_ready(context))?;
        }
    }
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure").field("socket", &self.socket).field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// Receives what there is, which may be nothing.
fn receive(socket: &TcpStream, tls: &mut tls::Connection, unread: &mut Vec<u8>) -> Result<(), Failure> {
    let received = SCRATCH.with_borrow_mut(|scratch| {
        tls.receive(scratch, |records| socket.try_read(records), |payload| unread.extend_from_slice(payload))
    });
    match received {
        Ok(_) => Ok(()),
        Err(Failure::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(failure) => Err(failure),
    }
}

async fn flush(socket: &TcpStream, tls: &mut tls::Connection) -> io::Result<()> {
    while !tls.flush(|bytes| socket.try_write(bytes))? {
        socket.writable().await?;
    }
    Ok(())
}

impl AsyncRead for Secure {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, tls, unread, at, .. } = &mut *self;
        loop {
            if *at < unread.len() {
                let count = buffer.remaining().min(unread.len() - *at);
                buffer.put_slice(&unread[*at..*at + count]);
                *at += count;
                if *at == unread.len() {
                    // A connection that waits holds no memory for this.
                    (*unread, *at) = (Vec::new(), 0);
                }
                return Poll::Ready(Ok(()));
            }
            if tls.has_ended() {
                let truncated = || Err(ErrorKind::UnexpectedEof.into());
                return Poll::Ready(if tls.is_closed() { Ok(()) } else { truncated() });
            }
            ready!(socket.poll_read_ready(context))?;
            let received = receive(socket, tls, unread);
            // Answers that TLS itself makes. What cannot leave now leaves with the next write.
            let _ = tls.flush(|bytes| socket.try_write(bytes));
            if let Err(failure) = received
                && unread.is_empty()
            {
                return Poll::Ready(Err(failure.into()));
            }
        }
    }
}

impl AsyncWrite for Secure {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_records(context))?;
        let Self { socket, tls, .. } = &mut *self;
        let sent = SCRATCH.with_borrow_mut(|scratch| {
            tls.send(scratch, &[IoSlice::new(bytes)], |records| socket.try_write(records))
        });
        Poll::Ready(sent.map(|sent| sent.taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_records(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_shut, true) {
            self.tls.close();
        }
        ready!(self.poll_records(context))?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secure(stream) => Pin::new(&mut **stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Secure(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secure(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secure(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}
