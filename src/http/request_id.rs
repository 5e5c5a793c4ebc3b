//! The id of a request, by which a line of the log and an answer are found to belong together.
//!
//! A caller that has one says it (`X-Request-Id`); it is taken over if it is short and clean, so that no stranger writes
//! what it likes into the log. Others get a number of their shard. It is answered where it is of use: to who said one, and
//! with every error. So the answer to an ordinary publication has no byte more.

use std::fmt;

use hyper::{
    HeaderMap, Response,
    header::{HeaderName, HeaderValue},
};

use crate::limits::REQUEST_ID_BYTES;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestId {
    /// What its caller calls it.
    Given(HeaderValue),
    /// The first number is that of the shard, or of whoever else serves it; the second that of the request there.
    Made(usize, u64),
}

impl RequestId {
    /// That of a request with these headers; it is made of `source` and `number` if its caller gives none that is good.
    pub(crate) fn of(headers: &HeaderMap, source: usize, number: u64) -> Self {
        match headers.get(X_REQUEST_ID).filter(|id| is_clean(id.as_bytes())) {
            Some(id) => Self::Given(id.clone()),
            None => Self::Made(source, number),
        }
    }

    /// Whether the caller gave it.
    pub(crate) fn is_given(&self) -> bool {
        matches!(self, Self::Given(_))
    }

    /// Says it in an answer.
    pub(crate) fn put<B>(self, answer: &mut Response<B>) {
        let value = match self {
            Self::Given(value) => value,
            made @ Self::Made(..) => {
                HeaderValue::try_from(made.to_string()).expect("numbers and a line are visible ASCII")
            }
        };
        answer.headers_mut().insert(X_REQUEST_ID, value);
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(value) => f.write_str(value.to_str().unwrap_or_default()),
            Self::Made(source, number) => write!(f, "{source}-{number}"),
        }
    }
}

fn is_clean(id: &[u8]) -> bool {
    let is_allowed = |letter: &u8| letter.is_ascii_alphanumeric() || b"-_.:".contains(letter);
    (1..=REQUEST_ID_BYTES).contains(&id.len()) && id.iter().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_and_clean_ids_are_taken_over() {
        let id = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(given.as_bytes()).expect("it is a header"));
            RequestId::of(&headers, 3, 17).to_string()
        };
        let longest = "x".repeat(REQUEST_ID_BYTES);
        for good in ["a", "7f3a-b_c.d:e", "67e55044-10b1-426f-9247-bb680e5fe0c8", &longest] {
            assert_eq!(id(good), good);
        }
        for bad in ["", "a b", "a\"b", "a=b", "é", "<script>", &format!("{longest}x")] {
            assert_eq!(id(bad), "3-17", "{bad}");
        }
        assert_eq!(RequestId::of(&HeaderMap::new(), 3, 17), RequestId::Made(3, 17));
    }
}
