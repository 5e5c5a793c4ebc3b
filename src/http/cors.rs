//! `OPTIONS`, with which a browser asks before it lets a page of another origin call.
//!
//! Any origin may call; credentials are never allowed, so a page can do no more than anyone on the network can.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, ALLOW, HeaderMap,
    HeaderValue, ORIGIN,
};

use super::answer::{Answer, empty};

/// Answers `OPTIONS` for a route with these methods.
pub(super) fn options(methods: &'static str, headers: &HeaderMap) -> Answer {
    let mut answer = empty();
    let answers = answer.headers_mut();
    answers.insert(ALLOW, HeaderValue::from_static(methods));
    if headers.contains_key(ORIGIN) {
        answers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        // The star leaves out Authorization, and old browsers do not know it.
        let any = HeaderValue::from_static("*, Authorization, X-Api-Key, Content-Type");
        answers.insert(ACCESS_CONTROL_ALLOW_HEADERS, any);
        answers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preflight_is_allowed_and_without_an_origin_there_is_only_allow() {
        let mut headers = HeaderMap::new();
        let plain = options("POST, OPTIONS", &headers);
        assert_eq!(
            (plain.status().as_u16(), &plain.headers()[ALLOW]),
            (204, &HeaderValue::from_static("POST, OPTIONS"))
        );
        assert!(!plain.headers().contains_key(ACCESS_CONTROL_ALLOW_METHODS));

        headers.insert(ORIGIN, HeaderValue::from_static("https://example.com"));
        let preflight = options("POST, OPTIONS", &headers);
        assert_eq!(preflight.headers()[ACCESS_CONTROL_ALLOW_METHODS], "POST, OPTIONS");
        assert_eq!(preflight.headers()["access-control-allow-origin"], "*");
        assert!(!preflight.headers().contains_key("access-control-allow-credentials"));
    }
}
