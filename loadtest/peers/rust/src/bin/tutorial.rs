//! The tutorial server: the shape in which "a WebSocket server with warp" is usually first written. One global map of
//! clients behind one mutex, an unbounded channel for each client, and a task that forwards it to the socket. It has
//! the calls of the base contract. There is no backpressure: what a client does not take grows without a bound.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;
use warp::http::StatusCode;
use warp::ws::{Message, WebSocket, Ws};
use warp::{Filter, Rejection, Reply, reply};

type Clients = Arc<Mutex<HashMap<String, Client>>>;

/// One registered client; `sender` is there while it is connected.
#[derive(Debug, Clone)]
struct Client {
    user_id: u64,
    topics: Vec<String>,
    sender: Option<mpsc::UnboundedSender<Message>>,
}

#[derive(Deserialize)]
struct Register {
    user_id: u64,
    topics: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Registered {
    url: String,
}

#[derive(Deserialize)]
struct Publish {
    topic: String,
    message: String,
    user_id: Option<u64>,
}

/// What a client says to change its topics.
#[derive(Deserialize)]
struct Topics {
    topics: Vec<String>,
}

#[tokio::main]
async fn main() {
    let address = loadtest_peers::listen_address();
    let clients = Clients::default();
    let with_clients = warp::any().map(move || Arc::clone(&clients));

    let health = warp::path!("health").map(|| StatusCode::OK);
    let register = warp::path!("register")
        .and(warp::post())
        .and(warp::body::json())
        .and(warp::any().map(move || address.to_string()))
        .and(with_clients.clone())
        .and_then(register);
    let unregister =
        warp::path!("register" / String).and(warp::delete()).and(with_clients.clone()).and_then(unregister);
    let publish = warp::path!("publish")
        .and(warp::post())
        .and(warp::body::json())
        .and(with_clients.clone())
        .and_then(publish);
    let socket = warp::path!("ws" / String).and(warp::ws()).and(with_clients).and_then(upgrade);
    let routes =
        health.or(register).or(unregister).or(publish).or(socket).with(warp::cors().allow_any_origin());
    warp::serve(routes).run(address).await;
}

async fn register(body: Register, host: String, clients: Clients) -> Result<impl Reply, Infallible> {
    let id = Uuid::new_v4().simple().to_string();
    let topics = body.topics.unwrap_or_else(|| vec!["cats".to_owned()]);
    let client = Client { user_id: body.user_id, topics, sender: None };
    clients.lock().await.insert(id.clone(), client);
    Ok(reply::json(&Registered { url: format!("ws://{host}/ws/{id}") }))
}

async fn unregister(id: String, clients: Clients) -> Result<impl Reply, Infallible> {
    clients.lock().await.remove(&id);
    Ok(StatusCode::OK)
}

async fn publish(body: Publish, clients: Clients) -> Result<impl Reply, Infallible> {
    clients
        .lock()
        .await
        .values()
        .filter(|client| body.user_id.is_none_or(|user| client.user_id == user))
        .filter(|client| client.topics.contains(&body.topic))
        .for_each(|client| {
            if let Some(sender) = &client.sender {
                // A client that has just gone is taken out of the map by its own task.
                let _ = sender.send(Message::text(body.message.clone()));
            }
        });
    Ok(StatusCode::OK)
}

async fn upgrade(id: String, ws: Ws, clients: Clients) -> Result<impl Reply, Rejection> {
    match clients.lock().await.get(&id).cloned() {
        Some(client) => {
            let clients = Arc::clone(&clients);
            Ok(ws.on_upgrade(move |socket| connected(socket, id, clients, client)))
        }
        None => Err(warp::reject::not_found()),
    }
}

async fn connected(socket: WebSocket, id: String, clients: Clients, mut client: Client) {
    let (mut to_socket, mut from_socket) = socket.split();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = receiver.recv().await {
            if to_socket.send(message).await.is_err() {
                break;
            }
        }
    });
    client.sender = Some(sender);
    clients.lock().await.insert(id.clone(), client);
    while let Some(Ok(message)) = from_socket.next().await {
        said(&id, &message, &clients).await;
    }
    clients.lock().await.remove(&id);
}

/// A client says `ping`, or which topics it wants from now on.
async fn said(id: &str, message: &Message, clients: &Clients) {
    let Ok(text) = message.to_str() else { return };
    let mut clients = clients.lock().await;
    let Some(client) = clients.get_mut(id) else { return };
    if text.trim_end() == "ping" {
        if let Some(sender) = &client.sender {
            let _ = sender.send(Message::text("pong"));
        }
    } else if let Some(topics) = parse_topics(text) {
        client.topics = topics;
    }
}

fn parse_topics(text: &str) -> Option<Vec<String>> {
    serde_json::from_str::<Topics>(text).ok().map(|wanted| wanted.topics)
}
