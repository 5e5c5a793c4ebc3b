//! What a request says its body is.

use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::{
    answer::Refusal,
    fields::{Several, at_most_one},
};

/// The content types that are told apart here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentType {
    /// None is given.
    Absent,
    /// `application/json`, or a type that ends in `+json`.
    Json,
    /// `application/x-ndjson`: a JSON value a line.
    Lines,
    /// `text/plain` in UTF-8, as far as it says.
    Text,
    /// `application/octet-stream`.
    Bytes,
    /// What `curl -d` sends when it is not told.
    Form,
    /// Any other, more than one, or not readable.
    Other,
}

/// In small letters; compared so that a request costs no copy of its type.
const KNOWN: [(&str, ContentType); 5] = [
    ("application/json", ContentType::Json),
    ("text/plain", ContentType::Text),
    ("application/octet-stream", ContentType::Bytes),
    ("application/x-ndjson", ContentType::Lines),
    ("application/x-www-form-urlencoded", ContentType::Form),
];

impl ContentType {
    /// Reads the headers.
    ///
    /// # Errors
    /// 415 for a body that is coded: it would go to subscribers as it is, without a word of the coding.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let is_plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
        match headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
            true => Ok(Self::named(headers)),
            false => Err(Refusal::unsupported_media_type(
                "the body is taken as it is: without Content-Encoding, or with `identity`",
            )),
        }
    }

    fn named(headers: &HeaderMap) -> Self {
        let value = match at_most_one(headers, &CONTENT_TYPE) {
            Ok(Some(value)) if value.is_ascii() => std::str::from_utf8(value).unwrap_or_default(),
            Ok(Some(_)) | Err(Several) => return Self::Other,
            Ok(None) => return Self::Absent,
        };
        let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
        let essence = essence.trim();
        let known = KNOWN.iter().find(|(name, _)| essence.eq_ignore_ascii_case(name));
        match known {
            Some((_, Self::Text)) if !is_utf8(parameters) => Self::Other,
            Some((_, known)) => *known,
            None if is_json_suffixed(essence) => Self::Json,
            None => Self::Other,
        }
    }

    /// Lets JSON through, and what says nothing.
    ///
    /// # Errors
    /// 415, with a hint.
    pub(super) fn json_or_absent(self) -> Result<(), Refusal> {
        match self {
            Self::Json | Self::Absent => Ok(()),
            Self::Form => Err(Refusal::unsupported_media_type(
                "the body is JSON, not a form: with curl add -H 'Content-Type: application/json' (or use --json)",
            )),
            Self::Lines | Self::Text | Self::Bytes | Self::Other => Err(Refusal::unsupported_media_type(
                "the body is JSON: Content-Type: application/json, or none",
            )),
        }
    }
}

/// Whether a type's structured syntax is JSON (RFC 6838 section 4.2.8).
fn is_json_suffixed(essence: &str) -> bool {
    let suffix = essence.rsplit_once('+').map_or("", |(_, suffix)| suffix);
    essence.contains('/') && suffix.eq_ignore_ascii_case("json")
}

/// Whether the parameters leave UTF-8 possible.
fn is_utf8(parameters: &str) -> bool {
    parameters.split(';').filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        let value = value.trim().trim_matches('"');
        !name.trim().eq_ignore_ascii_case("charset")
            || value.eq_ignore_ascii_case("utf-8")
            || value.eq_ignore_ascii_case("utf8")
            || value.eq_ignore_ascii_case("us-ascii")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&'static str]) -> ContentType {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_TYPE, HeaderValue::from_static(value));
        }
        ContentType::named(&headers)
    }

    #[test]
    fn types_are_read_whatever_their_case_and_parameters() {
        assert_eq!(of(&[]), ContentType::Absent);
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json;a=b"] {
            assert_eq!(of(&[json]), ContentType::Json, "{json}");
        }
        for text in
            ["text/plain", "text/plain;charset=UTF-8", "TEXT/PLAIN ; charset=\"utf-8\"", "text/plain;x=y"]
        {
            assert_eq!(of(&[text]), ContentType::Text, "{text}");
        }
        assert_eq!(of(&["application/x-ndjson; charset=utf-8"]), ContentType::Lines);
        assert_eq!(of(&["application/octet-stream"]), ContentType::Bytes);
        assert_eq!(of(&["application/x-www-form-urlencoded"]), ContentType::Form);
        for other in ["", "json", "+json", "text/html", "text/plain; charset=latin1", "application/jsonx"] {
            assert_eq!(of(&[other]), ContentType::Other, "{other}");
        }
        assert_eq!(of(&["application/json", "application/json"]), ContentType::Other);
    }

    #[test]
    fn coded_body_is_refused_whatever_its_type() {
        for (codings, refused) in [
            (&["identity"][..], false),
            (&[" Identity "], false),
            (&["gzip"], true),
            (&["identity", "br"], true),
            (&["gzip, identity"], true),
            (&[""], true),
        ] {
            let mut headers = HeaderMap::new();
            for coding in codings {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(coding));
            }
            let status = ContentType::of(&headers).map_err(|refusal| refusal.status.as_u16());
            assert_eq!(status, if refused { Err(415) } else { Ok(ContentType::Absent) }, "{codings:?}");
        }
    }

    #[test]
    fn form_is_refused_with_the_way_out() {
        let refusal = ContentType::Form.json_or_absent().unwrap_err();
        assert_eq!(refusal.status.as_u16(), 415);
        assert!(refusal.message.contains("curl"));
    }
}
