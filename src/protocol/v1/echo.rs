//! A JSON string or number that goes back to the client as it wrote it.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer};

use crate::{limits::ECHO_BYTES_MAX, protocol::verbatim::Verbatim};

/// The id of a command or the value of a ping: a JSON string or number, at most [`ECHO_BYTES_MAX`] bytes long as it is
/// written, without the quotes. `1`, `1.0` and `"1"` are three different ones.
///
/// ```
/// use fanfare::protocol::v1::Echo;
///
/// let id: Echo = serde_json::from_str(r#""a\u0041""#)?;
/// assert_eq!(id.as_json(), r#""a\u0041""#);
/// assert!(serde_json::from_str::<Echo>("null").is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Echo(Box<str>);

impl Echo {
    /// The value as the client wrote it.
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Echo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Verbatim::deserialize(deserializer)?.0;
        let quotes = match text.as_bytes()[0] {
            b'"' => 2,
            b'-' | b'0'..=b'9' => 0,
            _ => return Err(de::Error::custom("it is neither a string nor a number")),
        };
        if text.len() - quotes > ECHO_BYTES_MAX {
            return Err(de::Error::custom(format_args!("it is longer than {ECHO_BYTES_MAX} bytes")));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Echo({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_numbers_are_kept_as_they_are_written() {
        let long = format!("\"{}\"", "é".repeat(ECHO_BYTES_MAX / 2));
        let digits = "9".repeat(ECHO_BYTES_MAX);
        for json in ["1", "-0.50e+1", r#""""#, r#""a\u0041\n\"é""#, &long, &digits] {
            assert_eq!(serde_json::from_str::<Echo>(json).unwrap().as_json(), json);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let long = format!("\"{}x\"", "é".repeat(ECHO_BYTES_MAX / 2));
        let digits = "9".repeat(ECHO_BYTES_MAX + 1);
        for json in ["null", "true", "[]", "{}", "[1]", r#""\ud800""#, "1e999", &long, &digits] {
            assert!(serde_json::from_str::<Echo>(json).is_err(), "{json}");
        }
    }
}
