//! tokio-tungstenite behind hyper's upgrade, with a task and a bounded channel for each client: the shape of
//! tokio-tungstenite's own server example. A client whose channel is full is dropped.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Messages that may wait for one client.
const CAPACITY: usize = 1_024;
/// What tungstenite's documentation of `read_buffer_size` advises where many connections and little reading are
/// expected. Its default, 128 KiB, is allocated for each connection at once.
const READ_BUFFER: usize = 4 * 1024;

type Topics = Arc<Mutex<HashMap<String, Vec<mpsc::Sender<Utf8Bytes>>>>>;
type Answer = Response<Empty<Bytes>>;

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
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return Ok(status(StatusCode::UPGRADE_REQUIRED));
    };
    let accept = derive_accept_key(key.as_bytes());
    let (sender, receiver) = mpsc::channel(CAPACITY);
    lock(&topics).entry(topic.to_owned()).or_default().push(sender);
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            serve(upgraded, receiver).await;
        }
    });
    let answer = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "Upgrade")
        .header(SEC_WEBSOCKET_ACCEPT, accept)
        .body(Empty::new());
    Ok(answer.unwrap_or_else(|_| status(StatusCode::BAD_REQUEST)))
}

async fn publish(request: Request<Incoming>, topic: &str, topics: &Topics) -> Answer {
    let Ok(body) = request.into_body().collect().await else { return status(StatusCode::BAD_REQUEST) };
    let Ok(message) = Utf8Bytes::try_from(body.to_bytes()) else { return status(StatusCode::BAD_REQUEST) };
    if let Some(clients) = lock(topics).get_mut(topic) {
        clients.retain(|client| client.try_send(message.clone()).is_ok());
    }
    Answer::default()
}

async fn serve(upgraded: Upgraded, mut messages: mpsc::Receiver<Utf8Bytes>) {
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (mut sender, mut receiver) = socket.split();
    loop {
        tokio::select! {
            message = messages.recv() => {
                let Some(message) = message else { return };
                if sender.feed(Message::Text(message)).await.is_err() {
                    return;
                }
                // What is waiting already leaves in the same write.
                while let Ok(message) = messages.try_recv() {
                    if sender.feed(Message::Text(message)).await.is_err() {
                        return;
                    }
                }
                if sender.flush().await.is_err() {
                    return;
                }
            }
            said = receiver.next() => if !matches!(said, Some(Ok(_))) { return },
        }
    }
}

fn lock(topics: &Topics) -> std::sync::MutexGuard<'_, HashMap<String, Vec<mpsc::Sender<Utf8Bytes>>>> {
    topics.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn status(status: StatusCode) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = status;
    answer
}
