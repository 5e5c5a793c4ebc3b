//! From when until when a certificate is valid, read from its DER (RFC 5280 section 4.1).
//!
//! rustls looks at the times of certificates it verifies, not of the one it shows; and whoever runs a node wants to learn of an
//! expired certificate from the node, not from its clients. Only the path to the two times is read.

use super::date::Date;

/// The times of a certificate, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: Date,
    pub(super) until: Date,
}

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, around the version where there is one.
const VERSION: u8 = 0xa0;

/// The times of a certificate; `None` when it is none.
pub(super) fn of_certificate(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (to_be_signed, _) = element(certificate, SEQUENCE)?;
    let mut rest = to_be_signed;
    if rest.first() == Some(&VERSION) {
        rest = any(rest)?.2;
    }
    // Serial number, algorithm and issuer stand before them.
    for _ in 0..3 {
        rest = any(rest)?.2;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let (tag, from, rest) = any(validity)?;
    let (until_tag, until, _) = any(rest)?;
    Some(Validity { from: date(tag, from)?, until: date(until_tag, until)? })
}

/// The content of the element that `der` begins with, which must have this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any(der)?;
    (found == tag).then_some((content, rest))
}

/// Tag and content of the element that `der` begins with, and what follows it.
fn any(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ`, of the years 1950 to 2049, or `YYYYMMDDhhmmssZ`.
fn date(tag: u8, text: &[u8]) -> Option<Date> {
    let digits = text.strip_suffix(b"Z")?;
    let pair = |at: usize| match digits.get(at..at + 2)? {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
            Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
        }
        _ => None,
    };
    let (year, at) = match tag {
        UTC_TIME => (pair(0).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, 2),
        GENERALIZED_TIME => (pair(0)? * 100 + pair(2)?, 4),
        _ => return None,
    };
    if digits.len() != at + 10 {
        return None;
    }
    Date::of(year, pair(at)?, pair(at + 2)?, pair(at + 4)?, pair(at + 6)?, pair(at + 8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An element around a content.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut der = vec![tag];
        match content.len() {
            length @ 0..=0x7f => der.push(length as u8),
            length => der.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        der.extend_from_slice(content);
        der
    }

    fn certificate(version: &[u8], times: &[u8]) -> Vec<u8> {
        let parts = [version, &der(2, &[7]), &der(SEQUENCE, &[0; 200]), &der(SEQUENCE, b""), times].concat();
        der(SEQUENCE, &der(SEQUENCE, &parts))
    }

    #[test]
    fn times_are_found_in_either_form_with_and_without_a_version() {
        let times = der(
            SEQUENCE,
            &[der(UTC_TIME, b"491231235959Z"), der(GENERALIZED_TIME, b"20500101000000Z")].concat(),
        );
        let expected = Validity {
            from: Date::of(2049, 12, 31, 23, 59, 59).expect("a moment"),
            until: Date::of(2050, 1, 1, 0, 0, 0).expect("a moment"),
        };
        for version in [&[][..], &der(VERSION, &der(2, &[2]))] {
            assert_eq!(of_certificate(&certificate(version, &times)), Some(expected));
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_times_and_does_no_harm() {
        let times = der(SEQUENCE, &[der(UTC_TIME, b"491231235959Z"), der(UTC_TIME, b"5001010000Z")].concat());
        assert_eq!(of_certificate(&certificate(b"", &times)), None, "a time without seconds");
        let times =
            der(SEQUENCE, &[der(UTC_TIME, b"491231235959Z"), der(UTC_TIME, b"500101000000Z")].concat());
        let whole = certificate(b"", &times);
        assert!(of_certificate(&whole).is_some());
        for cut in 0..whole.len() {
            assert_eq!(of_certificate(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(of_certificate(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
