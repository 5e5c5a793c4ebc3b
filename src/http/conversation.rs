//! One HTTP connection, from accept to its end: requests in, answers out, and a close that loses no answer.
//!
//! hyper speaks the protocol; here stands what it leaves to its caller: the place between accept and first response,
//! making room, stopping, and reading on behind the last answer. A short connection, of those that come while there are nearly
//! as many as may be, ends with its first answer, or when it has overstayed without a request. What a request means is the handler's business.

use std::{
    cell::Cell,
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    server::conn::http1::Parts,
    service::service_fn,
    upgrade::OnUpgrade,
};
use tokio::{net::TcpStream, time};

use super::{answer::Answer, connections::Entry, corked::Corked, payload::Payload, stream::Stream};
use crate::limits;

/// Answers every request on `stream` with `handle`, until either side ends it, the entry has to make room, or
/// `stopping` has resolved and the request in work is answered. A short one ends with its first answer.
///
/// `handle` is dropped where it stands when the connection breaks meanwhile.
pub(super) async fn converse<H>(
    entry: Rc<Entry>,
    stream: Stream,
    stopping: impl Future<Output = ()>,
    handle: H,
) where
    H: AsyncFn(Request<Incoming>) -> Answer,
{
    // hyper hands the stream of a request with Upgrade to whoever asked for it, also when it was answered with something
    // else and the connection ends behind that.
    let not_switched = Cell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        entry.begin();
        async {
            let upgrade = request.extensions().get::<OnUpgrade>().cloned();
            let mut answer = handle(request).await;
            not_switched.set(upgrade.filter(|_| answer.status() != StatusCode::SWITCHING_PROTOCOLS));
            match answer.body_mut() {
                Payload::Whole(_) => {
                    if answer.status() != StatusCode::SWITCHING_PROTOCOLS && entry.is_short() {
                        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    entry.end();
                }
                Payload::Results(results) => {
                    entry.free_slot();
                    results.hold(entry.clone());
                }
            }
            Ok::<Response<_>, Infallible>(answer)
        }
    });
    let protocol = &entry.connections().protocol;
    let mut connection = protocol.serve_connection(Corked::new(stream), service).with_upgrades();
    let mut stopping = pin!(stopping);
    let mut overstays = pin!(entry.overstays());
    let mut told = false;
    let ended = loop {
        tokio::select! {
            biased;
            () = entry.evicted() => break None,
            result = &mut connection => break Some(result),
            () = &mut stopping, if !told => {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = &mut overstays => break None,
        }
    };
    let patience = match ended {
        Some(Err(error)) if error.is_timeout() => return,
        Some(_) => Duration::from_millis(limits::CLOSE_MS),
        // It may have been idle for no longer than its answer takes to be written: that still leaves, if the kernel takes it.
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            let once = poll_fn(|context| Poll::Ready(Pin::new(&mut connection).poll(context).is_ready()));
            let _is_over = once.await;
            Duration::ZERO
        }
    };
    let io = match (connection.into_parts(), not_switched.take()) {
        (Some(Parts { io, .. }), _) => Some(io),
        (None, Some(upgrade)) => upgrade.await.ok().and_then(|io| io.downcast().ok()).map(|parts| parts.io),
        (None, None) => None,
    };
    if let Some(io) = io {
        tokio::select! {
            () = entry.evicted() => {}
            () = linger(io, told || entry.is_short(), patience) => {}
        }
    }
}

/// Reads and throws away what the peer still sends, until it closes too. Closing with bytes unread would reset the
/// connection, and the reset may overtake the answer: a client in the middle of a body too large would not learn so.
/// In a `hurry`, because the node stops or the connection is short, only what is there already is read: a pool of kept connections closes late.
async fn linger(io: Corked, hurry: bool, patience: Duration) {
    let discard = async {
        let mut stream = io.into_stream().await;
        // hyper has done so already, unless it ended in an error; then this says that nothing more comes.
        let socket = stream.end();
        let mut left = limits::HTTP_DISCARD_BYTES;
        while hurry || socket.readable().await.is_ok() {
            match discard(socket) {
                Ok(read) if read > 0 && read < left => left -= read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !hurry => {}
                _ => return,
            }
        }
    };
    let _ = time::timeout(patience, discard).await;
}

fn discard(stream: &TcpStream) -> io::Result<usize> {
    stream.try_read(&mut [0; 8 * 1024])
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Arc};

    use fastwebsockets::upgrade::upgrade;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::{Notify, Semaphore, oneshot},
        task::{LocalSet, spawn_local},
    };

    use super::*;
    use crate::{
        http::{
            answer::{Refusal, json},
            body::{self, Bounds},
            connections::{Connections, HandshakeSlot},
        },
        settings::Settings,
    };

    const DEADLINE: Duration = Duration::from_secs(10);

    /// One server side, with what the tests of it have in common.
    struct Server {
        connections: Rc<Connections>,
        listener: TcpListener,
        slots: Arc<Semaphore>,
    }

    impl Server {
        async fn new(settings: &Settings) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            Self { connections: Connections::new(settings), listener, slots: Arc::new(Semaphore::new(8)) }
        }

        /// A client whose connection is served by `handle` until `stopping`.
        async fn client<H>(&self, stopping: impl Future<Output = ()> + 'static, handle: H) -> TcpStream
        where
            H: AsyncFn(Request<Incoming>) -> Answer + 'static,
        {
            let address = self.listener.local_addr().expect("it is bound");
            let (client, accepted) = tokio::join!(TcpStream::connect(address), self.listener.accept());
            let permit = self.slots.clone().try_acquire_owned().expect("a test needs few");
            let entry = self.connections.enter(HandshakeSlot::new(permit), false).expect("there is room");
            let (stream, _) = accepted.expect("a client connects");
            spawn_local(converse(Rc::new(entry), Stream::Plain(stream), stopping, handle));
            client.expect("it listens")
        }
    }

    /// What the client reads until the server closes.
    async fn rest(client: &mut TcpStream) -> String {
        let mut text = Vec::new();
        let read = time::timeout(DEADLINE, client.read_to_end(&mut text)).await;
        read.expect("the server closes in time").expect("it is not reset");
        String::from_utf8_lossy(&text).into_owned()
    }

    fn settings() -> Settings {
        Settings { http_head_timeout: Duration::from_millis(100), ..Settings::default() }
    }

    async fn path(request: Request<Incoming>) -> Answer {
        json(request.uri().path().to_owned())
    }

    #[tokio::test]
    async fn pipelined_requests_are_answered_in_order() {
        let test = async {
            let server = Server::new(&settings()).await;
            let mut client = server.client(pending(), path).await;
            let requests =
                b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\nConnection: close\r\n\r\n";
            client.write_all(requests).await.expect("it is connected");
            let text = rest(&mut client).await;
            let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what} in {text}"));
            assert!(at("\r\n\r\n/1") < at("\r\n\r\n/2") && at("\r\n\r\n/2") < at("\r\n\r\n/3"));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn answer_is_not_held_back_while_the_next_request_waits() {
        let test = async {
            let server = Server::new(&settings()).await;
            let waits = async |request: Request<Incoming>| {
                if request.uri().path() == "/waits" {
                    pending::<()>().await;
                }
                path(request).await
            };
            let mut client = server.client(pending(), waits).await;
            client
                .write_all(b"GET /first HTTP/1.1\r\n\r\nGET /waits HTTP/1.1\r\n\r\n")
                .await
                .expect("it is connected");
            let mut text = String::new();
            while !text.ends_with("/first") {
                let byte = time::timeout(DEADLINE, client.read_u8()).await.expect("it is answered at once");
                text.push(char::from(byte.expect("it stays connected")));
            }
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn client_that_has_shut_its_side_down_still_gets_its_answer() {
        let test = async {
            let server = Server::new(&settings()).await;
            let slow = async |request: Request<Incoming>| {
                time::sleep(Duration::from_millis(50)).await;
                path(request).await
            };
            let mut client = server.client(pending(), slow).await;
            client.write_all(b"GET /late HTTP/1.1\r\n\r\n").await.expect("it is connected");
            client.shutdown().await.expect("it is connected");
            assert!(rest(&mut client).await.ends_with("/late"));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn head_dribbled_or_too_large_is_cut() {
        let test = async {
            let server = Server::new(&settings()).await;
            let mut silent = server.client(pending(), path).await;
            let mut dribbler = server.client(pending(), path).await;
            dribbler.write_all(b"GET / HTTP/1.1\r\nA: ").await.expect("it is connected");
            assert_eq!(rest(&mut silent).await, "");
            assert_eq!(rest(&mut dribbler).await, "");

            let mut large = server.client(pending(), path).await;
            let head = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(limits::HTTP_HEAD_BYTES));
            large.write_all(head.as_bytes()).await.expect("it is connected");
            assert!(rest(&mut large).await.starts_with("HTTP/1.1 431 "));
            let mut many = server.client(pending(), path).await;
            let head = format!("GET / HTTP/1.1\r\n{}\r\n", "A: a\r\n".repeat(limits::HTTP_HEADERS_MAX + 1));
            many.write_all(head.as_bytes()).await.expect("it is connected");
            assert!(rest(&mut many).await.starts_with("HTTP/1.1 431 "));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn answer_to_a_body_too_large_is_not_lost_to_a_reset() {
        let test = async {
            let server = Server::new(&settings()).await;
            let connections = server.connections.clone();
            let read = async move |request: Request<Incoming>| {
                let bounds = Bounds { max: 1 << 20, too_large: Refusal::body_too_large, timeout: DEADLINE };
                let read = body::read(request.into_body(), &bounds, &connections).await;
                read.map_or_else(Refusal::into_answer, |_| json("{}"))
            };
            let body = vec![b'x'; 2 << 20];
            for head in ["Content-Length: 2097152\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n200000\r\n"] {
                let mut client = server.client(pending(), read.clone()).await;
                let request = format!("POST / HTTP/1.1\r\n{head}");
                client.write_all(request.as_bytes()).await.expect("it is connected");
                // Slowly, as from afar: the answer is out before the body is in.
                for piece in body.chunks(64 << 10) {
                    client.write_all(piece).await.expect("the connection is not reset");
                    time::sleep(Duration::from_millis(1)).await;
                }
                let answer = rest(&mut client).await;
                assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "{answer}");
                assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
            }
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn answer_that_refuses_an_upgrade_and_ends_the_connection_is_not_lost() {
        let test = async {
            let server = Server::new(&settings()).await;
            let mut client = server.client(pending(), path).await;
            let request = b"GET /no HTTP/1.1\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\n\r\nmore";
            client.write_all(request).await.expect("it is connected");
            assert!(rest(&mut client).await.ends_with("/no"));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn silent_connection_gives_its_handshake_slot_back_and_stays() {
        let test = async {
            let server = Server::new(&Settings::default()).await;
            let mut client = server.client(pending(), path).await;
            assert_eq!(server.slots.available_permits(), 7);
            let all = server.slots.acquire_many(8);
            drop(time::timeout(DEADLINE, all).await.expect("the slot comes back").expect("it is open"));
            client
                .write_all(b"GET /here HTTP/1.1\r\nConnection: close\r\n\r\n")
                .await
                .expect("it is connected");
            assert!(rest(&mut client).await.ends_with("/here"));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn idle_connection_makes_room_and_its_client_sees_it_close() {
        let test = async {
            let mut server = Server::new(&settings()).await;
            server.connections = Connections::with(server.connections.protocol.clone(), 1, 1);
            let mut idle = server.client(pending(), path).await;
            let mut new = server.client(pending(), path).await;
            assert_eq!(rest(&mut idle).await, "");
            new.write_all(b"GET /new HTTP/1.1\r\nConnection: close\r\n\r\n").await.expect("it is connected");
            assert!(rest(&mut new).await.ends_with("/new"));
            assert_eq!(server.connections.evicted(), 1);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn stopping_answers_what_is_in_work_and_closes_what_is_idle() {
        let test = async {
            let server = Server::new(&Settings::default()).await;
            let stop = Rc::new(Semaphore::new(0));
            let stopped = |stop: Rc<Semaphore>| async move { drop(stop.acquire().await) };
            let (begun, work) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
            let handle = {
                let (begun, work) = (begun.clone(), work.clone());
                async move |request| {
                    begun.notify_one();
                    work.notified().await;
                    path(request).await
                }
            };
            let mut busy = server.client(stopped(stop.clone()), handle).await;
            let mut idle = server.client(stopped(stop.clone()), path).await;
            busy.write_all(b"GET /busy HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n\r\n")
                .await
                .expect("it is connected");
            begun.notified().await;
            stop.close();
            assert_eq!(rest(&mut idle).await, "");
            work.notify_one();
            let answer = rest(&mut busy).await;
            assert!(answer.ends_with("/busy") && answer.contains("connection: close"), "{answer}");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn bytes_behind_the_handshake_come_with_the_socket() {
        let test = async {
            let server = Server::new(&settings()).await;
            let (send, early) = oneshot::channel();
            let send = Cell::new(Some(send));
            let handle = async move |mut request: Request<Incoming>| {
                let (answer, upgraded) = upgrade(&mut request).expect("it is a handshake");
                let send = send.take().expect("there is one request");
                spawn_local(async move {
                    let upgraded = upgraded.await.expect("the answer is written").into_inner().into_inner();
                    let parts = upgraded.downcast::<Corked>().expect("that is what was put in");
                    let stream = parts.io.into_stream().await.into_parts();
                    let _ = send.send((stream.socket, parts.read_buf));
                });
                answer.map(|_| Payload::default())
            };
            let mut client = server.client(pending(), handle).await;
            let request = b"GET /ws/x HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly";
            client.write_all(request).await.expect("it is connected");
            let (stream, bytes) = time::timeout(DEADLINE, early).await.expect("in time").expect("it is sent");
            assert_eq!(&bytes[..], b"early");
            drop(stream);
            let answer = rest(&mut client).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {} ", StatusCode::SWITCHING_PROTOCOLS.as_str())));
            assert_eq!(server.connections.len(), 0, "a WebSocket is no HTTP connection");
        };
        LocalSet::new().run_until(test).await;
    }
}
