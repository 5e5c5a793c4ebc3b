//! The HTTP side of a shard: one connection from accept to its last answer, or to the 101 that makes it a WebSocket.
//!
//! The accept loop of a shard calls [`serve`] in a task of its own for every connection, with that shard's [`Local`]
//! and [`Connections`] and one of its [`HandshakeSlot`]s. Paths are read in `route`, the match below is the
//! router, each group of routes has a file. Nothing here knows frames or subscribers, and no client id is ever logged.

use std::{rc::Rc, time::Duration};

use hyper::{
    Method, Request, StatusCode,
    body::Incoming,
    header::{ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue},
};
use tokio::net::TcpStream;

use self::{
    answer::{Answer, Refusal},
    connections::Entry,
    framing::Framing,
    route::Route,
    stream::Stream,
    visitor::Visitor,
};
pub(crate) use self::{
    connections::{Connections, HandshakeSlot},
    health::{health_json, readiness},
    request_id::RequestId,
};
use crate::{connection::Local, gate::Entrance, limits, logging::sampled, metrics::Refused, peer::Peer};

mod answer;
mod batch;
mod body;

mod connections;
mod content_type;
mod conversation;
mod corked;
mod cors;
mod credentials;
pub(crate) mod fields;
mod forwarded;
mod framing;
mod handshake;
mod health;
mod lines;
mod payload;
pub(crate) mod percent;
mod proxied;
mod publish;
mod register;
mod request_id;
mod results;
mod route;
mod stream;
mod topics;
mod underway;
mod upgrade;
mod visitor;

/// What there is here, as an OpenAPI document; `tests/conformance/openapi` holds it against a running server.
const DESCRIPTION: &[u8] = include_bytes!("openapi.json");

/// Somebody whom the gate has let in.
#[derive(Debug)]
pub(crate) struct Newcomer {
    /// Who it is, as far as is known.
    pub(crate) peer: Peer,
    /// As what it was let in.
    pub(crate) entrance: Entrance,
    /// Its place between accept and first response.
    pub(crate) slot: HandshakeSlot,
}

/// Speaks HTTP with `newcomer` on `stream` until it ends, or until its socket is the shard's.
///
/// Runs on the shard's thread, in its runtime, where `spawn_local` works. Ends by itself soon after the node's
/// `stopping` has resolved: the request in work is answered, no further one is read.
pub(crate) async fn serve(local: Local, connections: Rc<Connections>, stream: TcpStream, newcomer: Newcomer) {
    let node = local.node();
    let Newcomer { peer, entrance, slot } = newcomer;
    let Some(entry) = connections.enter(slot, node.gate().is_crowded()) else {
        return node.refuse(Refused::Connections, peer.client);
    };
    // Answers are small and whole; they are not to wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    // hyper has no bound on the time of a write: who asks and never reads would stay for ever, with megabytes of answers
    // in the kernel.
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&stream)
        .set_tcp_user_timeout(Some(Duration::from_millis(limits::HTTP_UNREAD_MS)));
    let visitor = Visitor::arrived(node.clone(), &entry, &stream, peer, entrance).await;
    let Some(mut visitor) = visitor else { return };
    let entry = Rc::new(entry);
    let certificates = local.node().settings().tls.clone();
    let stream = match certificates {
        None => Stream::Plain(stream),
        Some(certificates) => match handshake::handshake(&local, &entry, &certificates, stream).await {
            Some(stream) => stream,
            None => return,
        },
    };
    visitor.peer.secure |= matches!(stream, Stream::Secure(_));
    let stopping = local.node().stopping();
    let handle = async |request: Request<Incoming>| {
        local.metrics().http_requests.add(1);
        let number = local.metrics().http_requests.get();
        let id = RequestId::of(request.headers(), local.shard(), number);
        let uri = request.uri().clone();
        let route = Route::of(uri.path());
        let peer = visitor.of_request(request.headers());
        let mut answer = match Framing::of(&request) {
            Ok(framing) => framing.conclude(answer(&local, &entry, &visitor, route, request).await),
            Err(refusal) => refusal.into_answer(),
        };
        count(&local, answer.status());
        tell(&id, route, &peer, answer.status());
        if id.is_given() || answer.status().is_client_error() || answer.status().is_server_error() {
            id.put(&mut answer);
            let exposed = HeaderValue::from_static("Retry-After, X-Request-Id");
            answer.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        answer
    };
    conversation::converse(entry.clone(), stream, stopping, handle).await;
}

/// Logs a request that is not served, without its path: there may be a secret in it.
fn tell(id: &RequestId, route: Option<Route<'_>>, peer: &Peer, status: StatusCode) {
    // To say that it is not ready is what a node is asked for; that it is not any more was logged when it began.
    let is_expected = matches!(route, Some(Route::Ready));
    let (status, client, route) = (status.as_u16(), peer.client, route.map_or("none", Route::name));
    if status >= 500 && !is_expected {
        sampled!(WARN, request = %id, route, %client, status, "a request is not served");
    } else if status >= 400 {
        sampled!(DEBUG, request = %id, route, %client, status, "a request is refused");
    }
}

/// Counts an answer.
fn count(local: &Local, status: StatusCode) {
    let metrics = local.metrics();
    let counter = match status.as_u16() {
        500.. => &metrics.http_failed,
        400..500 => &metrics.http_refused,
        _ => &metrics.http_answered,
    };
    counter.add(1);
}

/// Counts a handshake that is refused.
fn count_handshake(local: &Local, status: StatusCode) {
    let metrics = local.metrics();
    let counter = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => &metrics.handshakes_forbidden,
        StatusCode::NOT_FOUND => &metrics.handshakes_unknown,
        StatusCode::TOO_MANY_REQUESTS => &metrics.handshakes_limited,
        StatusCode::SERVICE_UNAVAILABLE => &metrics.handshakes_unavailable,
        _ => &metrics.handshakes_malformed,
    };
    counter.add(1);
}

/// The answer to any request.
async fn answer(
    local: &Local,
    entry: &Entry,
    visitor: &Visitor,
    route: Option<Route<'_>>,
    request: Request<Incoming>,
) -> Answer {
    let Some(route) = route else {
        return Refusal::not_found("there is nothing at this path").into_answer();
    };
    if !route.takes(request.method()) {
        return Refusal::method_not_allowed(route.methods()).into_answer();
    }
    if request.method() == Method::OPTIONS {
        return cors::options(route.methods(), request.headers());
    }
    let connections = entry.connections();
    let answer = match route {
        Route::Health => Ok(health::health(local.node())),
        Route::Ready => Ok(health::ready(local.node().phase())),
        Route::Description => Ok(answer::json(DESCRIPTION)),
        Route::Register => register::register(local, connections, visitor, request).await,
        Route::Registration(id) => register::unregister(local, connections, id).await,
        Route::Publish => publish::publish(local, connections, request).await,
        Route::Batch => batch::batch(local, connections, request).await,
        Route::PublishTo(topic) => publish::publish_to(local, connections, topic, request).await,
        Route::Topic(topic) => topics::topic(local, connections, topic, &request).await,
        Route::History(topic) => topics::history(local, connections, topic, &request).await,
        Route::Socket(id) => upgrade::upgrade(local, connections, visitor, id, request).await,
        Route::OpenSocket => upgrade::open(local, connections, visitor, request).await,
        Route::Server => Err(Refusal::method_not_allowed(route.methods())),
    };
    if let (Route::Socket(_) | Route::OpenSocket, Err(refusal)) = (route, &answer) {
        count_handshake(local, refusal.status);
    }
    answer.unwrap_or_else(Refusal::into_answer)
}
