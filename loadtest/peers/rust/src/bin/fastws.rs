//! fastwebsockets behind hyper, with a task and a bounded channel for each client: the shape of fastwebsockets' own
//! server examples. A client whose channel is full is dropped.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use fastwebsockets::upgrade::{UpgradeFut, is_upgrade_request, upgrade};
use fastwebsockets::{FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, WebSocketWrite};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Messages that may wait for one client.
const CAPACITY: usize = 1_024;

type Topics = Arc<Mutex<HashMap<String, Vec<mpsc::Sender<Bytes>>>>>;
type Answer = Response<Empty<Bytes>>;
type Reader = FragmentCollectorRead<ReadHalf<TokioIo<Upgraded>>>;
type Writer = WebSocketWrite<WriteHalf<TokioIo<Upgraded>>>;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind(loadtest_peers::listen_address()).await?;
    let topics = Topics::default();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let topics = Arc::clone(&topics);
        tokio::spawn(async move {
            let service = service_fn(|request| handle(request, Arc::clone(&topics)));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            // A client that leaves in the middle of a request is no news.
            let _ = connection.with_upgrades().await;
        });
    }
}

async fn handle(mut request: Request<Incoming>, topics: Topics) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    if let Some(topic) = path.strip_prefix("/publish/") {
        return Ok(publish(request, topic, &topics).await);
    }
    let Some(topic) = path.strip_prefix("/ws/") else { return Ok(Answer::default()) };
    if !is_upgrade_request(&request) {
        return Ok(status(StatusCode::UPGRADE_REQUIRED));
    }
    let Ok((answer, socket)) = upgrade(&mut request) else { return Ok(status(StatusCode::BAD_REQUEST)) };
    let (sender, receiver) = mpsc::channel(CAPACITY);
    lock(&topics).entry(topic.to_owned()).or_default().push(sender);
    tokio::spawn(async move {
        // A client that leaves is taken out by the next publication.
        let _ = serve(socket, receiver).await;
    });
    Ok(answer)
}

async fn publish(request: Request<Incoming>, topic: &str, topics: &Topics) -> Answer {
    let Ok(body) = request.into_body().collect().await else { return status(StatusCode::BAD_REQUEST) };
    let message = body.to_bytes();
    if let Some(clients) = lock(topics).get_mut(topic) {
        clients.retain(|client| client.try_send(message.clone()).is_ok());
    }
    Answer::default()
}

async fn serve(socket: UpgradeFut, mut messages: mpsc::Receiver<Bytes>) -> Result<(), WebSocketError> {
    let (reader, mut writer) = socket.await?.split(tokio::io::split);
    // `read_frame` may not be cancelled, so reading is a task of its own, and answers come through a channel.
    let (answers, mut to_answer) = mpsc::channel(16);
    let reading = tokio::spawn(read(FragmentCollectorRead::new(reader), answers));
    let result = loop {
        let frame = tokio::select! {
            message = messages.recv() => match message {
                Some(message) => {
                    if let Err(error) = send(&mut writer, message, &mut messages).await { break Err(error) }
                    continue;
                }
                None => break Ok(()),
            },
            frame = to_answer.recv() => frame,
        };
        let Some(frame) = frame else { break Ok(()) };
        if let Err(error) = writer.write_frame(frame).await {
            break Err(error);
        }
    };
    reading.abort();
    result
}

async fn send(
    writer: &mut Writer,
    first: Bytes,
    messages: &mut mpsc::Receiver<Bytes>,
) -> Result<(), WebSocketError> {
    writer.write_frame(Frame::text(Payload::Borrowed(&first))).await?;
    while let Ok(message) = messages.try_recv() {
        writer.write_frame(Frame::text(Payload::Borrowed(&message))).await?;
    }
    Ok(())
}

/// Reads until the client closes; pings are answered through `answers`.
async fn read(mut reader: Reader, answers: mpsc::Sender<Frame<'static>>) {
    let mut answer = async |frame: Frame<'_>| {
        let frame = Frame::new(frame.fin, frame.opcode, None, Payload::Owned(frame.payload.to_vec()));
        answers.send(frame).await
    };
    loop {
        match reader.read_frame(&mut answer).await {
            Ok(frame) if frame.opcode != OpCode::Close => {}
            _ => return,
        }
    }
}

fn lock(topics: &Topics) -> std::sync::MutexGuard<'_, HashMap<String, Vec<mpsc::Sender<Bytes>>>> {
    topics.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn status(status: StatusCode) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = status;
    answer
}
