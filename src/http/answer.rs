//! Answers: the JSON ones, and `Refusal`, the one shape of every error.
//!
//! Every answer of the routes goes through here, so that each has the CORS header and each error the same body. Only
//! what hyper refuses before there is a request (400 for bytes that are no HTTP, 431 for a head too large) has an
//! empty body.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
        SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
    },
};

use super::{payload::Payload, results::Results};
use crate::{
    connection::AttachError,
    node::{PublishError, QueryError},
    protocol::{
        error::{Code, error_json},
        publish_body::PublishBodyError,
    },
};

/// What a request is answered with.
pub(super) type Answer = Response<Payload>;

/// A 200 with a JSON body.
pub(super) fn json(body: impl Into<Bytes>) -> Answer {
    with_json(StatusCode::OK, body.into())
}

/// A 200 with result lines that are still being found out.
pub(super) fn lines(results: Results) -> Answer {
    let mut answer = Response::new(Payload::Results(results));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    any_origin(&mut answer);
    answer
}

/// A 204: nothing but headers, which the caller adds.
pub(super) fn empty() -> Answer {
    let mut answer = Response::new(Payload::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    any_origin(&mut answer);
    answer
}

/// A JSON body with whatever status.
pub(super) fn with_json(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Payload::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    any_origin(&mut answer);
    answer
}

/// Any page may call and read the answer; never with credentials, so it can do no more than anyone can.
fn any_origin(answer: &mut Answer) {
    answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: Code,
    pub(super) message: Cow<'static, str>,
    /// What the status asks for besides.
    header: Option<(HeaderName, &'static str)>,
    /// Whether the connection cannot go on, because the rest of the request is not going to be read.
    close: bool,
}

impl Refusal {
    fn new(status: StatusCode, code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), header: None, close: false }
    }

    /// 400.
    pub(super) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::BadRequest, message)
    }

    /// 401 for who proves nothing.
    pub(super) fn unauthorized() -> Self {
        let message =
            "this needs an API key (Authorization: Bearer KEY, or X-Api-Key: KEY) or a client's token";
        let refusal = Self::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, message);
        Self { header: Some((WWW_AUTHENTICATE, r#"Bearer realm="fanfare""#)), ..refusal }
    }

    /// 401 for who presents what is not known.
    pub(super) fn unknown_credentials(message: &'static str) -> Self {
        let refusal = Self::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, message);
        let challenge = r#"Bearer realm="fanfare", error="invalid_token""#;
        Self { header: Some((WWW_AUTHENTICATE, challenge)), ..refusal }
    }

    /// 403.
    pub(super) fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, Code::Forbidden, message)
    }

    /// 404.
    pub(super) fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, message)
    }

    /// 405, with the methods there are.
    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let message = format!("this path takes {allow}");
        Self {
            header: Some((ALLOW, allow)),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotAllowed, message)
        }
    }

    /// 408; the connection is closed.
    pub(super) fn body_timeout() -> Self {
        let message = "the body did not arrive in time";
        Self { close: true, ..Self::new(StatusCode::REQUEST_TIMEOUT, Code::Timeout, message) }
    }

    /// 400 for a body that broke off; the connection is closed.
    pub(super) fn body_broken() -> Self {
        Self { close: true, ..Self::bad_request("the body is not framed as HTTP says, or broke off") }
    }

    /// 400 for a request whose end others may see elsewhere; the connection is closed.
    pub(super) fn ambiguous(message: &'static str) -> Self {
        Self { close: true, ..Self::bad_request(message) }
    }

    /// 409 for an idempotency key that another publication has.
    pub(super) fn conflict() -> Self {
        let message = "another publication has this idempotency key; nothing was taken";
        Self::new(StatusCode::CONFLICT, Code::Conflict, message)
    }

    /// 413 for a body over `max` bytes; the connection is closed.
    pub(super) fn body_too_large(max: usize) -> Self {
        let message = format!("the body is longer than {max} bytes");
        Self { close: true, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::BodyTooLarge, message) }
    }

    /// 413, in the result of a line that is longer than a body may be.
    pub(super) fn line_too_long(max: usize) -> Self {
        let message = format!("the line is longer than {max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::BodyTooLarge, message)
    }

    /// 408, in the last line of a stream whose next line did not come.
    pub(super) fn line_timeout() -> Self {
        let message = "no whole line arrived in time; what came before stands";
        Self::new(StatusCode::REQUEST_TIMEOUT, Code::Timeout, message)
    }

    /// 408, in the last line of a stream whose results nobody reads.
    pub(super) fn results_unread() -> Self {
        let message =
            "results were not read in time; what was published and has no result here stands all the same";
        Self::new(StatusCode::REQUEST_TIMEOUT, Code::Timeout, message)
    }

    /// 413 for a body that is the message and over `max` bytes; the connection is closed.
    pub(super) fn message_too_large(max: usize) -> Self {
        let message = PublishBodyError::MessageTooLarge { max }.to_string();
        Self { close: true, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::MessageTooLarge, message) }
    }

    /// 415.
    pub(super) fn unsupported_media_type(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::UnsupportedMediaType, message)
    }

    /// 426 for a request to a WebSocket that is no upgrade.
    pub(super) fn upgrade_required() -> Self {
        let message = "this is a WebSocket: connect with a WebSocket client";
        let refusal = Self::new(StatusCode::UPGRADE_REQUIRED, Code::UpgradeRequired, message);
        Self { header: Some((UPGRADE, "websocket")), ..refusal }
    }

    /// 426 for a WebSocket of another version.
    pub(super) fn websocket_version() -> Self {
        let message = "this WebSocket speaks version 13";
        let refusal = Self::new(StatusCode::UPGRADE_REQUIRED, Code::UpgradeRequired, message);
        Self { header: Some((SEC_WEBSOCKET_VERSION, "13")), ..refusal }
    }

    /// 429: whoever asks does so too often.
    pub(super) fn too_many(message: &'static str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, Code::TooMany, message)
    }

    /// 503: too much in work.
    pub(super) fn overloaded() -> Self {
        let message = "the server has too much in work; nothing was taken, try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Overloaded, message)
    }

    /// 503: too many bodies half received; this one is not going to be read.
    pub(super) fn overloaded_with_bodies() -> Self {
        Self { close: true, ..Self::overloaded() }
    }

    /// 503: a bound on what is kept is reached.
    pub(super) fn full(message: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Full, message)
    }

    /// 503: the node is stopping.
    pub(super) fn stopping() -> Self {
        let message = "the server is stopping; nothing was taken";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Stopping, message)
    }

    /// It as one of several results.
    pub(super) fn json(&self) -> Vec<u8> {
        error_json(self.code, &self.message).into()
    }

    /// The answer that says so.
    pub(super) fn into_answer(self) -> Answer {
        let mut answer = with_json(self.status, error_json(self.code, &self.message).into());
        let headers = answer.headers_mut();
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            // RFC 9110 section 7.8: whoever sends Upgrade names it in Connection.
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

impl From<PublishBodyError> for Refusal {
    fn from(error: PublishBodyError) -> Self {
        match error {
            PublishBodyError::Malformed(_) => Self::bad_request(error.to_string()),
            // The body was read to its end, so the connection goes on.
            PublishBodyError::MessageTooLarge { max } => {
                Self { close: false, ..Self::message_too_large(max) }
            }
        }
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            // The parsers look at the length too; this is for whoever comes past them.
            PublishError::MessageTooLarge => Self::bad_request("the message is too long"),
            PublishError::Overloaded => Self::overloaded(),
            PublishError::TopicsFull => topics_full(),
            PublishError::Conflict => Self::conflict(),
            PublishError::TopicCount { max } => {
                Self::bad_request(format!("a publication goes to 1 to {max} topics"))
            }
            PublishError::Stopping => Self::stopping(),
        }
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Overloaded => Self::overloaded(),
            QueryError::Stopping => Self::stopping(),
        }
    }
}

impl From<AttachError> for Refusal {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Unknown => unknown_client(),
            AttachError::Overloaded => Self::overloaded(),
            AttachError::TopicsFull => topics_full(),
            AttachError::Full => Self::full("as many clients are connected as may be; try again later"),
            AttachError::Stopping => Self::stopping(),
        }
    }
}

/// 503 for a topic that cannot be kept.
fn topics_full() -> Refusal {
    Refusal::full("the server keeps as many topics as it may, and this one is new")
}

/// 404 for an id nobody is registered under.
pub(super) fn unknown_client() -> Refusal {
    Refusal::not_found("no client is registered under this id; register again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(answer: &Answer, name: HeaderName) -> &str {
        answer.headers().get(name).map_or("", |value| value.to_str().expect("it is ASCII"))
    }

    #[test]
    fn every_answer_may_be_read_by_any_page_and_none_with_credentials() {
        for answer in
            [json("{}"), empty(), Refusal::overloaded().into_answer(), Refusal::stopping().into_answer()]
        {
            assert_eq!(header(&answer, ACCESS_CONTROL_ALLOW_ORIGIN), "*");
            assert!(!answer.headers().contains_key("access-control-allow-credentials"));
        }
    }

    #[test]
    fn statuses_carry_the_headers_they_ask_for() {
        let answer = Refusal::method_not_allowed("POST, OPTIONS").into_answer();
        assert_eq!((answer.status().as_u16(), header(&answer, ALLOW)), (405, "POST, OPTIONS"));
        let answer = Refusal::from(PublishError::Overloaded).into_answer();
        assert_eq!((answer.status().as_u16(), header(&answer, RETRY_AFTER)), (503, "1"));
        let answer = Refusal::upgrade_required().into_answer();
        assert_eq!((answer.status().as_u16(), header(&answer, UPGRADE)), (426, "websocket"));
        let answer = Refusal::websocket_version().into_answer();
        assert_eq!((answer.status().as_u16(), header(&answer, SEC_WEBSOCKET_VERSION)), (426, "13"));
    }

    #[test]
    fn connection_is_closed_only_where_the_body_is_not_read() {
        assert_eq!(header(&Refusal::message_too_large(1).into_answer(), CONNECTION), "close");
        assert_eq!(header(&Refusal::body_too_large(1).into_answer(), CONNECTION), "close");
        let decoded = Refusal::from(PublishBodyError::MessageTooLarge { max: 1 }).into_answer();
        assert_eq!((decoded.status().as_u16(), header(&decoded, CONNECTION)), (413, ""));
    }

    #[test]
    fn what_the_node_says_has_one_status_each() {
        let status = |refusal: Refusal| (refusal.status.as_u16(), refusal.code.as_str());
        assert_eq!(status(AttachError::Unknown.into()), (404, "not_found"));
        assert_eq!(status(AttachError::Overloaded.into()), (503, "overloaded"));
        assert_eq!(status(AttachError::Full.into()), (503, "full"));
        assert_eq!(status(AttachError::Stopping.into()), (503, "stopping"));
        assert_eq!(status(QueryError::Overloaded.into()), (503, "overloaded"));
        assert_eq!(status(PublishError::TopicsFull.into()), (503, "full"));
        assert_eq!(status(PublishError::Conflict.into()), (409, "conflict"));
        assert_eq!(status(PublishBodyError::Malformed(String::new()).into()), (400, "bad_request"));
    }
}
