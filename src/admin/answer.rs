//! Answers of the admin listener, and `Refusal`, the one shape of its errors. None may be read by a page of any origin, or
//! kept by a cache.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
        X_CONTENT_TYPE_OPTIONS,
    },
};

use crate::protocol::error::{Code, error_json};

/// What a request is answered with.
pub(super) type Answer = Response<Full<Bytes>>;

/// An answer with a JSON body.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, "application/json", body)
}

/// An answer with a body of some type.
pub(super) fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: Code,
    message: Cow<'static, str>,
    /// What the status asks for besides.
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    fn new(status: StatusCode, code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), header: None }
    }

    /// 400.
    pub(super) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::BadRequest, message)
    }

    /// 401: the key is missing, or another.
    pub(super) fn unauthorized() -> Self {
        let message = "the admin key is missing or wrong: Authorization: Bearer <key>";
        let refusal = Self::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, message);
        Self { header: Some((WWW_AUTHENTICATE, "Bearer")), ..refusal }
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
        let refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotAllowed, message);
        Self { header: Some((ALLOW, allow)), ..refusal }
    }

    /// 413.
    pub(super) fn body_too_large(max: usize) -> Self {
        let message = format!("the body is longer than {max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::BodyTooLarge, message)
    }

    /// 415.
    pub(super) fn unsupported_media_type(message: &'static str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::UnsupportedMediaType, message)
    }

    /// 503: the answer was not to be had in time.
    pub(super) fn too_late() -> Self {
        let message = "the node did not answer in time; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Overloaded, message)
    }

    /// 503: the node is stopping.
    pub(super) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::Stopping, "the node is stopping")
    }

    /// The answer that says so.
    pub(super) fn into_answer(self) -> Answer {
        let mut answer = json(self.status, error_json(self.code, &self.message));
        if let Some((name, value)) = self.header {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}
