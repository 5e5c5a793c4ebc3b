//! Percent-decoding of parts of a URL, strictly: what is malformed is refused and not guessed at.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::answer::Refusal;

/// Names and values of a query, as they stand there; without `=` the value is empty.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The same, decoded.
pub(super) fn decoded_pairs(
    query: &str,
) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), Refusal>> {
    pairs(query).map(|(name, value)| Ok((decode_query(name)?, decode_query(value)?)))
}

/// Decodes `text`; a `+` is a plus.
///
/// # Errors
/// 400 for a `%` without two hex digits behind it, and for what is not UTF-8 when decoded.
pub(super) fn decode(text: &str) -> Result<Cow<'_, str>, Refusal> {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'%') {
        return Ok(Cow::Borrowed(text));
    }
    let hex = |at: Option<&u8>| at.is_some_and(u8::is_ascii_hexdigit);
    for (at, _) in bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'%') {
        if !hex(bytes.get(at + 1)) || !hex(bytes.get(at + 2)) {
            return Err(Refusal::bad_request(
                "a % in the URL must be followed by two hex digits; % itself is %25",
            ));
        }
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map_err(|_| Refusal::bad_request("the URL, percent-decoded, is not UTF-8"))
}

/// Decodes a name or value of a query, where a `+` is a space, as every form and URL library writes it.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_query(text: &str) -> Result<Cow<'_, str>, Refusal> {
    if text.contains('+') {
        decode(&text.replace('+', " ")).map(|decoded| Cow::Owned(decoded.into_owned()))
    } else {
        decode(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_is_a_plus_in_a_path_and_a_space_in_a_query() {
        assert_eq!(decode("a+b%2Bc%20d").unwrap(), "a+b+c d");
        assert_eq!(decode_query("a+b%2Bc%20d").unwrap(), "a b+c d");
        assert_eq!(decode("%F0%9f%90%88/%25").unwrap(), "🐈/%");
    }

    #[test]
    fn malformed_is_refused() {
        for bad in ["%", "%2", "%zz", "a%4", "%%20", "%ff", "%C3"] {
            assert!(decode(bad).is_err(), "{bad}");
            assert!(decode_query(bad).is_err(), "{bad}");
        }
    }
}
