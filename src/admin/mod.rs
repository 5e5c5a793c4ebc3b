//! The admin listener: where operators and their programs ask how the node is, and tell it what to do.
//!
//! It has a thread and a runtime of its own, and asks shards only through their queues: nothing that is called here can
//! slow one of them, and it answers while they are busy. [`crate::server::Server`] starts it before the shards and ends
//! it behind them. Every request passes `guard` first, for whoever gets through can end the node. No browser may reach
//! it: no answer has a CORS header.
//!
//! Its connections come out of the reserve of descriptors, so it answers while the public side has none left.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use self::calls::Calls;
use crate::{
    limits::{
        ADMIN_CONNECTION_MS, ADMIN_CONNECTIONS, ADMIN_HEAD_MS, ADMIN_LAST_MS, HTTP_HEAD_BYTES,
        HTTP_HEADERS_MAX,
    },
    logging::sampled,
    node::Node,
};

mod answer;
mod calls;
mod figures;
mod guard;
mod listings;
mod log;
mod openmetrics;
mod process;
mod route;

/// How long it rests when a connection cannot be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running admin listener. Dropping it ends it soon; [`Self::end`] waits for that.
#[derive(Debug)]
pub(crate) struct Admin {
    address: SocketAddr,
    /// Ends it when it is dropped.
    end: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Admin {
    /// Listens, and answers in a thread of its own.
    ///
    /// # Errors
    /// When the address cannot be listened on, or there is no thread to be had.
    pub(crate) fn start(node: Arc<Node>, listen: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(listen).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {listen} for admin calls: {error}"))
        })?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (end, ended) = oneshot::channel();
        let run = move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(Default::default())?;
            runtime.block_on(serve(listener, Rc::new(Calls::new(node)), ended))
        };
        let thread = thread::Builder::new().name("admin".into()).spawn(run)?;
        Ok(Self { address, end, thread })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it: what is in work is answered, if that does not take long.
    pub(crate) fn end(self) {
        drop(self.end);
        match self.thread.join() {
            Ok(Ok(())) => {}
            // The node has done its work all the same.
            Ok(Err(error)) => tracing::error!(%error, "the admin listener failed"),
            Err(_) => tracing::error!("the admin listener panicked"),
        }
    }
}

/// Accepts until it is told to end, then waits a moment for the answers in work.
async fn serve(
    listener: std::net::TcpListener,
    calls: Rc<Calls>,
    mut ended: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
    let (end, ending) = watch::channel(false);
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut ended => break,
            Some(_closed) = open.join_next() => {}
            (stream, place) = accept(&listener, &places) => {
                open.spawn_local(converse(calls.clone(), stream, place, ending.clone()));
            }
        }
    }
    drop(listener);
    end.send_replace(true);
    let rest = async { while open.join_next().await.is_some() {} };
    let _some_may_be_left = timeout(Duration::from_millis(ADMIN_LAST_MS), rest).await;
    Ok(())
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed.
    let place = places.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                sampled!(WARN, %error, "an admin connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers what is asked on one connection, until its client ends it, its time is over, or the listener ends.
async fn converse(
    calls: Rc<Calls>,
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
    mut ending: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let calls = calls.clone();
        async move { Ok::<_, Infallible>(calls.answer(request).await) }
    });
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(ADMIN_HEAD_MS))
        .max_buf_size(HTTP_HEAD_BYTES)
        .max_headers(HTTP_HEADERS_MAX)
        .half_close(true);
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
    let enough = async {
        tokio::select! {
            () = sleep(Duration::from_millis(ADMIN_CONNECTION_MS)) => {}
            _ = ending.wait_for(|ending| *ending) => {}
        }
    };
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = enough => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(Duration::from_millis(ADMIN_LAST_MS), connection).await;
}
