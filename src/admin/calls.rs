//! The admin calls: one match as router, and those whose answers are short.

use std::{sync::Arc, time::Duration};

use hyper::{Request, StatusCode, body::Incoming};
use tokio::time::timeout;

use super::{
    answer::{Answer, Refusal, json, with_type},
    figures, guard, listings, openmetrics,
    route::Route,
};
use crate::{http::health_json, limits::ADMIN_ANSWER_MS, node::Node};

/// What the calls are about.
#[derive(Debug)]
pub(super) struct Calls {
    node: Arc<Node>,
}

impl Calls {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// The answer to any request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let answer = timeout(Duration::from_millis(ADMIN_ANSWER_MS), self.try_answer(request)).await;
        answer.unwrap_or_else(|_| Err(Refusal::too_late())).unwrap_or_else(Refusal::into_answer)
    }

    async fn try_answer(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        self.check(&request)?;
        let path = request.uri().path();
        let route = Route::of(path).ok_or_else(|| Refusal::not_found("there is nothing at this path"))?;
        if !route.takes(request.method()) {
            return Err(Refusal::method_not_allowed(route.methods()));
        }
        match route {
            Route::Metrics => {
                let text = figures::text(&figures::View::of(&self.node));
                Ok(with_type(StatusCode::OK, openmetrics::CONTENT_TYPE, text))
            }
            Route::Ready => Ok(self.ready()),
            Route::Health => Ok(json(StatusCode::OK, health_json(&self.node))),
            Route::Topics => listings::topics(&self.node, request.uri().query()).await,
            Route::Clients => listings::clients(&self.node, request.uri().query()).await,
            Route::Client(id) => listings::dismiss(&self.node, id).await,
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

    /// Whether new clients are welcome.
    fn ready(&self) -> Answer {
        let phase = self.node.phase();
        match phase.is_ready() {
            true => json(StatusCode::OK, r#"{"ready":true}"#),
            false => {
                json(StatusCode::SERVICE_UNAVAILABLE, format!(r#"{{"ready":false,"status":"{phase}"}}"#))
            }
        }
    }

    /// Has the node drain and then stop, as SIGTERM does.
    fn drain(&self) -> Answer {
        self.node.begin_draining();
        json(StatusCode::ACCEPTED, format!(r#"{{"status":"{}"}}"#, self.node.phase()))
    }
}
