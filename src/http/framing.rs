//! Where one request ends and the next begins, when somebody in front of this server may see it otherwise.
//!
//! hyper refuses most of what can be read in two ways. Here stands what it lets through: a Host that is missing or there
//! twice (RFC 9112 section 3.2), transfer codings besides `chunked`, and chunked bodies that nobody here has read to their
//! end. `serve` asks [`Framing::of`] before a request is answered and [`Framing::conclude`] behind it. Nothing here
//! knows what a request means.

use hyper::{
    Method, Request, StatusCode, Version,
    header::{CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING},
};

use super::{
    answer::{Answer, Refusal},
    fields::{Several, at_most_one},
    payload::Payload,
};

/// How a request is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its length, or it has no body.
    Length,
    /// In chunks, on a call that reads them.
    Chunks,
    /// In chunks, on a call that does not.
    UnreadChunks,
}

impl Framing {
    /// Reads it off a request.
    ///
    /// # Errors
    /// 400 for a request that others may read otherwise; the connection is closed.
    pub(super) fn of<B>(request: &Request<B>) -> Result<Self, Refusal> {
        let headers = request.headers();
        match at_most_one(headers, &HOST) {
            Ok(Some(_)) => {}
            Ok(None) if request.version() < Version::HTTP_11 => {}
            Ok(None) => return Err(Refusal::ambiguous("the Host header is missing")),
            Err(Several) => return Err(Refusal::ambiguous("there is more than one Host header")),
        }
        match at_most_one(headers, &TRANSFER_ENCODING) {
            Ok(None) => Ok(Self::Length),
            Ok(Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => {
                Ok(if *request.method() == Method::POST { Self::Chunks } else { Self::UnreadChunks })
            }
            _ => Err(Refusal::ambiguous("the only transfer coding here is `chunked`, once")),
        }
    }

    /// Has the connection end behind the answer, unless it is certain where the next request begins. What follows the last
    /// chunk can be read in more than one way, so the chunks must have been read to their end, and nothing have followed.
    pub(super) fn conclude(self, mut answer: Answer) -> Answer {
        let is_certain = match self {
            Self::Length => true,
            // No call says 200 before it has the whole body, but for streams.
            Self::Chunks => answer.status() == StatusCode::OK && matches!(answer.body(), Payload::Whole(_)),
            Self::UnreadChunks => false,
        };
        if !is_certain {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, version: Version, headers: &[(&str, &str)]) -> Result<Framing, u16> {
        let mut request = Request::builder().method(method).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Framing::of(&request.body(()).expect("it is well formed")).map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn host_stands_once_unless_the_request_is_older_than_it() {
        for method in ["GET", "POST"] {
            assert_eq!(of(method, Version::HTTP_11, &[("Host", "a")]), Ok(Framing::Length));
            assert_eq!(of(method, Version::HTTP_10, &[]), Ok(Framing::Length));
            assert_eq!(of(method, Version::HTTP_11, &[]), Err(400));
            for version in [Version::HTTP_10, Version::HTTP_11] {
                assert_eq!(of(method, version, &[("Host", "a"), ("Host", "a")]), Err(400));
            }
        }
    }

    #[test]
    fn transfer_coding_is_chunked_and_nothing_else() {
        let of = |values: &[&str]| {
            let codings = values.iter().map(|value| ("Transfer-Encoding", *value));
            let headers: Vec<_> = codings.chain([("Host", "a")]).collect();
            of("POST", Version::HTTP_11, &headers)
        };
        for good in ["chunked", "Chunked"] {
            assert_eq!(of(&[good]), Ok(Framing::Chunks));
        }
        for bad in [
            &["gzip, chunked"][..],
            &["chunked, chunked"],
            &["chunked", "chunked"],
            &["gzip", "chunked"],
            &["identity"],
            &[""],
        ] {
            assert_eq!(of(bad), Err(400), "{bad:?}");
        }
    }

    #[test]
    fn connection_goes_on_behind_chunks_only_when_they_were_read() {
        let goes_on = |framing: Framing, answer| !framing.conclude(answer).headers().contains_key(CONNECTION);
        let ok = || super::super::answer::json("{}");
        let refused = || Refusal::not_found("there is nothing").into_answer();
        assert!(goes_on(Framing::Length, ok()) && goes_on(Framing::Length, refused()));
        assert!(goes_on(Framing::Chunks, ok()) && !goes_on(Framing::Chunks, refused()));
        assert!(!goes_on(Framing::UnreadChunks, ok()));
    }
}
