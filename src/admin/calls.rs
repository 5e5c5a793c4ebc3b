//! The admin calls: one match as router, and those whose answers are short.

use std::{cell::Cell, sync::Arc, time::Duration};

use hyper::{
    Method, Request, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue, TRANSFER_ENCODING},
};
use tokio::time::timeout;

use super::{
    answer::{Answer, Refusal, json, with_type},
    figures, guard, listings, log, openmetrics,
    route::Route,
};
use crate::{
    http::{RequestId, health_json, readiness},
    limits::{ADMIN_ANSWER_MS, SHARDS_MAX},
    logging::sampled,
    node::Node,
};

/// What there is here, as an OpenAPI document; `tests/conformance/openapi` holds it against a running server.
const DESCRIPTION: &[u8] = include_bytes!("openapi.json");
/// What ids of requests begin with here, where shards have their number.
const SOURCE: usize = SHARDS_MAX;

/// What the calls are about.
#[derive(Debug)]
pub(super) struct Calls {
    node: Arc<Node>,
    /// Requests so far.
    requests: Cell<u64>,
}

impl Calls {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node, requests: Cell::new(0) }
    }

    /// The answer to any request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.requests.set(self.requests.get() + 1);
        let id = RequestId::of(request.headers(), SOURCE, self.requests.get());
        let (method, route) =
            (request.method().clone(), Route::of(request.uri().path()).map_or("none", Route::name));
        let in_chunks = request.headers().contains_key(TRANSFER_ENCODING);
        let answered = timeout(Duration::from_millis(ADMIN_ANSWER_MS), self.try_answer(request)).await;
        let answered = answered.unwrap_or_else(|_| Err(Refusal::too_late()));
        match &answered {
            Err(refusal) => {
                let (status, code) = (refusal.status.as_u16(), refusal.code.as_str());
                sampled!(WARN, request = %id, %method, route, status, code, "an admin call is refused");
            }
            Ok(_) if method == Method::GET || method == Method::HEAD => {}
            Ok(_) => tracing::info!(request = %id, %method, route, "an admin call changes something"),
        }
        let mut answer = answered.unwrap_or_else(Refusal::into_answer);
        if in_chunks {
            // What follows the last chunk can be read in more than one way, and not every call reads them.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        id.put(&mut answer);
        answer
    }

    async fn try_answer(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        self.check(&request)?;
        let path = request.uri().path();
        let route = Route::of(path).ok_or_else(|| Refusal::not_found("there is nothing at this path"))?;
        if !route.takes(request.method()) {
            return Err(Refusal::method_not_allowed(route.methods()));
        }
        match route {
            Route::Description => Ok(json(StatusCode::OK, DESCRIPTION)),
            Route::Metrics => {
                let text = figures::text(&figures::View::of(&self.node));
                Ok(with_type(StatusCode::OK, openmetrics::CONTENT_TYPE, text))
            }
            Route::Ready => {
                let (status, body) = readiness(self.node.phase());
                Ok(json(status, body))
            }
            Route::Health => Ok(json(StatusCode::OK, health_json(&self.node))),
            Route::Topics => listings::topics(&self.node, request.uri().query()).await,
            Route::Clients => listings::clients(&self.node, request.uri().query()).await,
            Route::Client(id) => listings::dismiss(&self.node, id).await,
            Route::Log if request.method() == Method::PUT => log::put(request).await,
            Route::Log => log::get(),
            Route::Drain => Ok(self.drain()),
        }
    }

    /// Lets a request through, or says why not, by the settings in force.
    fn check(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let settings = self.node.settings();
        match &settings.admin {
            Some(admin) => guard::check(request, admin, &settings.keys),
            None => Err(Refusal::not_found("there is no admin listener")),
        }
    }

    /// Has the node drain and then stop, as SIGTERM does.
    fn drain(&self) -> Answer {
        self.node.begin_draining();
        json(StatusCode::ACCEPTED, format!(r#"{{"status":"{}"}}"#, self.node.phase()))
    }
}
