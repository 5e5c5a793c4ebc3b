//! `GET /log` and `PUT /log`: what is logged, seen and changed while the node runs. A restart, or a configuration that says
//! something else when it is read again, brings back what is configured.

use http_body_util::{BodyExt, Limited};
use hyper::{Request, StatusCode, body::Incoming, header::CONTENT_TYPE};
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Refusal, json};
use crate::{limits::ADMIN_BODY_BYTES, logging::LogFilter};

/// What is logged.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Log {
    filter: String,
}

/// Says what is logged.
pub(super) fn get() -> Result<Answer, Refusal> {
    Ok(answer(filter()?.directives()))
}

/// Changes it.
pub(super) async fn put(request: Request<Incoming>) -> Result<Answer, Refusal> {
    let in_force = filter()?;
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = |value: &str| {
        value.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("application/json"))
    };
    if !content_type.is_some_and(is_json) {
        return Err(Refusal::unsupported_media_type("the body is application/json"));
    }
    let body = Limited::new(request.into_body(), ADMIN_BODY_BYTES).collect().await.map_err(|error| {
        match error.downcast_ref::<http_body_util::LengthLimitError>() {
            Some(_) => Refusal::body_too_large(ADMIN_BODY_BYTES),
            None => Refusal::bad_request("the body broke off"),
        }
    })?;
    let wanted: Log = serde_json::from_slice(&body.to_bytes())
        .map_err(|error| Refusal::bad_request(format!("the body is {{\"filter\":\"…\"}}: {error}")))?;
    let before = in_force.directives();
    in_force.set(&wanted.filter).map_err(|allowed| Refusal::bad_request(format!("`filter` is {allowed}")))?;
    tracing::warn!(before, filter = wanted.filter, "what is logged was changed");
    Ok(answer(wanted.filter))
}

fn filter() -> Result<&'static LogFilter, Refusal> {
    LogFilter::in_force()
        .ok_or_else(|| Refusal::not_found("the program that runs this node has a log of its own"))
}

fn answer(filter: String) -> Answer {
    json(StatusCode::OK, serde_json::to_vec(&Log { filter }).unwrap_or_default())
}
