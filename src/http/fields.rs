//! Header fields that a request may have once: of two, one could be checked here and the other believed elsewhere.

use hyper::{HeaderMap, header::HeaderName};

/// There is more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Several;

/// The value under a name that stands once at most.
pub(crate) fn at_most_one<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a [u8]>, Several> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.as_bytes());
    match values.next() {
        Some(_) => Err(Several),
        None => Ok(value),
    }
}

/// The value under `name`, if there is exactly one.
pub(crate) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    at_most_one(headers, name).ok().flatten()
}

/// What stands behind `Bearer` in an Authorization (RFC 6750 section 2.1; the scheme in any case). What other schemes say is
/// for others, such as a proxy.
pub(crate) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at(value.iter().position(|byte| *byte == b' ').unwrap_or(value.len()));
    scheme.eq_ignore_ascii_case(b"bearer").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use hyper::header::{HOST, HeaderValue};

    use super::*;

    #[test]
    fn of_two_values_none_is_taken() {
        let mut headers = HeaderMap::new();
        assert_eq!((at_most_one(&headers, &HOST), only(&headers, &HOST)), (Ok(None), None));
        headers.append(HOST, HeaderValue::from_static("a"));
        assert_eq!(
            (at_most_one(&headers, &HOST), only(&headers, &HOST)),
            (Ok(Some(&b"a"[..])), Some(&b"a"[..]))
        );
        headers.append(HOST, HeaderValue::from_static("a"));
        assert_eq!((at_most_one(&headers, &HOST), only(&headers, &HOST)), (Err(Several), None));
    }

    #[test]
    fn bearer_is_told_from_other_schemes() {
        for (value, expected) in [
            ("Bearer a.b", Some("a.b")),
            ("bearer   a ", Some("a")),
            ("BEARER", Some("")),
            ("Basic a", None),
            ("Bearera", None),
            ("", None),
        ] {
            assert_eq!(bearer(value.as_bytes()), expected.map(str::as_bytes), "{value}");
        }
    }
}
