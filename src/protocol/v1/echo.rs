//! A JSON string or number that goes back to the client as it wrote it.

use std::fmt;

use crate::{limits::ECHO_BYTES_MAX, protocol::verbatim::Verbatim};

/// The id of a command or the value of a ping: a JSON string or number, at most [`ECHO_BYTES_MAX`] bytes long as it is
/// written, without the quotes. `1`, `1.0` and `"1"` are three different ones.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Echo(Box<str>);

/// Why a JSON value is not echoed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EchoError {
    /// It is no JSON string or number.
    Kind,
    /// It is longer than [`ECHO_BYTES_MAX`].
    TooLong,
}

impl Echo {
    /// Checks the JSON text of a value.
    ///
    /// ```
    /// use fanfare::protocol::v1::{Echo, EchoError};
    ///
    /// assert_eq!(Echo::parse(r#""a\u0041""#)?.as_json(), r#""a\u0041""#);
    /// assert_eq!(Echo::parse("null"), Err(EchoError::Kind));
    /// # Ok::<(), EchoError>(())
    /// ```
    ///
    /// # Errors
    /// When it is no string or number, or too long.
    pub fn parse(json: &str) -> Result<Self, EchoError> {
        serde_json::from_str(json).map_err(|_| EchoError::Kind).and_then(Self::new)
    }

    pub(super) fn new(Verbatim(json): Verbatim<'_>) -> Result<Self, EchoError> {
        let quotes = match json.as_bytes()[0] {
            b'"' => 2,
            b'-' | b'0'..=b'9' => 0,
            _ => return Err(EchoError::Kind),
        };
        match json.len() - quotes > ECHO_BYTES_MAX {
            true => Err(EchoError::TooLong),
            false => Ok(Self(json.into())),
        }
    }

    /// The value as the client wrote it.
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EchoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => f.write_str("an id and the value of a ping are a string or a number"),
            Self::TooLong => write!(f, "an id and the value of a ping have at most {ECHO_BYTES_MAX} bytes"),
        }
    }
}

impl std::error::Error for EchoError {}

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
            assert_eq!(Echo::parse(json).unwrap().as_json(), json);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let long = format!("\"{}x\"", "é".repeat(ECHO_BYTES_MAX / 2));
        let digits = "9".repeat(ECHO_BYTES_MAX + 1);
        for json in ["null", "true", "[]", "{}", "[1]", r#""\ud800""#, "1e999", &long, &digits] {
            assert!(Echo::parse(json).is_err(), "{json}");
        }
    }
}
