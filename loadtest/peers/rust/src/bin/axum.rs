//! axum with a `tokio::sync::broadcast` channel for each topic and a task for each client: the shape of axum's own
//! chat example. A client that falls further behind than the channel holds loses messages; there is no other bound.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

/// Messages a channel holds for the slowest client; far more than any window of the harness's that it is run with.
const CAPACITY: usize = 16_384;
/// What tungstenite's documentation of `read_buffer_size` advises where many connections and little reading are
/// expected. Its default, 128 KiB, is allocated for each connection at once.
const READ_BUFFER: usize = 4 * 1024;

type Topics = Arc<Mutex<HashMap<String, broadcast::Sender<Utf8Bytes>>>>;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind(loadtest_peers::listen_address()).await?;
    let app = Router::new()
        .route("/health", get(async || ()))
        .route("/ws/{topic}", get(upgrade))
        .route("/publish/{topic}", post(publish))
        .with_state(Topics::default());
    axum::serve(
        axum::serve::ListenerExt::tap_io(listener, |tcp| {
            let _ = tcp.set_nodelay(true);
        }),
        app,
    )
    .await
}

async fn publish(Path(topic): Path<String>, State(topics): State<Topics>, message: String) {
    // An error says that nobody listens.
    let _ = channel(&topics, topic).send(message.into());
}

async fn upgrade(ws: WebSocketUpgrade, Path(topic): Path<String>, State(topics): State<Topics>) -> Response {
    // Before the answer, so that what is published after it is not missed.
    let messages = channel(&topics, topic).subscribe();
    ws.read_buffer_size(READ_BUFFER).on_upgrade(move |socket| serve(socket, messages))
}

async fn serve(socket: WebSocket, mut messages: broadcast::Receiver<Utf8Bytes>) {
    let (mut sender, mut receiver) = socket.split();
    loop {
        tokio::select! {
            message = messages.recv() => {
                let Ok(message) = message else { return };
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

fn channel(topics: &Topics, topic: String) -> broadcast::Sender<Utf8Bytes> {
    let mut topics = topics.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    topics.entry(topic).or_insert_with(|| broadcast::channel(CAPACITY).0).clone()
}
