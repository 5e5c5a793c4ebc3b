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
        Self::start_with(node, listen, Duration::from_millis(ADMIN_CONNECTION_MS))
    }

    /// The same, with connections that live so long.
    fn start_with(node: Arc<Node>, listen: SocketAddr, life: Duration) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(listen).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {listen} for admin calls: {error}"))
        })?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (end, ended) = oneshot::channel();
        let run = move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(Default::default())?;
            runtime.block_on(serve(listener, (Rc::new(Calls::new(node)), life), ended))
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
    (calls, life): (Rc<Calls>, Duration),
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
                open.spawn_local(converse((calls.clone(), life), stream, place, ending.clone()));
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
    (calls, life): (Rc<Calls>, Duration),
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
            () = sleep(life) => {}
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

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    use super::*;
    use crate::settings::{AdminSettings, Settings};

    /// What a listener answers to a request, which is the last on its connection.
    fn ask(admin: &Admin, line: &str) -> String {
        let mut client = TcpStream::connect(admin.address()).expect("it listens");
        client.set_read_timeout(Some(Duration::from_secs(30))).expect("it is no zero");
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).expect("it is connected");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("it is answered, and not reset");
        answer
    }

    #[test]
    fn who_asks_and_never_reads_gives_its_place_back() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Settings { shards: 1, admin: Some(AdminSettings::at(listen)), ..Settings::default() };
        let admin = Admin::start_with(Node::new(settings), listen, Duration::from_millis(50));
        let admin = admin.expect("a port is free");
        let mut greedy = TcpStream::connect(admin.address()).expect("it listens");
        greedy.set_write_timeout(Some(Duration::from_secs(30))).expect("it is no zero");
        let requests = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
        let error = std::iter::repeat_with(|| greedy.write_all(&requests)).find_map(Result::err);
        let kind = error.expect("it ends at some time").kind();
        // Were it kept, its requests would not be taken any more, and this would time out.
        assert!(matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{kind}");
        admin.end();
    }

    #[test]
    fn node_that_starts_is_not_ready_and_one_whose_shards_do_not_answer_is_not_waited_for_long() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = AdminSettings::at(listen);
        let node = Node::new(Settings { shards: 1, admin: Some(settings), ..Settings::default() });
        let admin = Admin::start(node.clone(), listen).expect("a port is free");
        let answer = ask(&admin, "GET /ready");
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains(r#""status":"starting""#), "{answer}");
        assert!(ask(&admin, "GET /topics").contains(r#""code":"stopping""#), "there is no shard to ask yet");
        let unanswered = node.take_surveys(0);
        let answer = ask(&admin, "GET /clients");
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
        assert!(answer.contains(r#""code":"overloaded""#), "{answer}");
        assert!(ask(&admin, "GET /metrics").ends_with("# EOF\n"), "others are answered all the same");
        drop(unanswered);
        admin.end();
    }
}
