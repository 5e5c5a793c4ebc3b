//! A JSON value that is passed on as its writer wrote it: checked once, never written again.
//!
//! Only serde_json can read one; simd-json changes what it reads. Besides the grammar it is checked that the value is not
//! nested too deeply, and that every parser can read it: a number beyond all doubles, or half of a surrogate pair,
//! would make a strict client throw away the whole message that holds it.

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer};
use serde_json::value::RawValue;

use super::ignored::Ignored;
use crate::publication::{Json, JsonError, Text};

/// The text of one JSON value, without the whitespace around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verbatim<'a>(pub(crate) &'a str);

impl<'de> Deserialize<'de> for Verbatim<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        Ignored::VALUE
            .deserialize(&mut serde_json::Deserializer::from_str(text))
            .map_err(de::Error::custom)?;
        Ok(Self(text))
    }
}

impl Json {
    /// Checks a text and makes it a JSON value to be published; whitespace around it goes.
    ///
    /// ```
    /// use fanfare::publication::{Json, Message};
    ///
    /// let data = Message::Data(Json::parse(r#"{"bid": 1.10}"#)?);
    /// assert_eq!(data.bytes(), r#"{"bid": 1.10}"#);
    /// assert!(Json::parse("{bid: 1.10}").is_err());
    /// # Ok::<(), fanfare::publication::JsonError>(())
    /// ```
    ///
    /// # Errors
    /// When it is not exactly one value that every JSON parser can read: see [`JsonError`].
    pub fn parse(text: impl Into<Text>) -> Result<Self, JsonError> {
        let text = text.into();
        let bytes = text.as_bytes();
        let value =
            serde_json::from_slice::<Verbatim<'_>>(bytes).map_err(|error| JsonError(error.to_string()))?;
        Ok(Self::known(bytes.slice_ref(value.0.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::JSON_DEPTH_MAX;

    fn read(json: &str) -> Result<&str, String> {
        serde_json::from_str::<Verbatim<'_>>(json).map(|value| value.0).map_err(|error| error.to_string())
    }

    #[test]
    fn any_value_is_taken_byte_for_byte() {
        for value in [
            "null",
            "1",
            "-0.10e+02",
            "123456789012345678901234567890",
            r#""a\u0041\/""#,
            "[ ]",
            "{ \"a\" : [ 1 ,\r\n\t2 ] , \"a\" : {} }",
            r#""\ud83d\ude00é""#,
        ] {
            assert_eq!(read(value), Ok(value));
            assert_eq!(read(&format!(" \n{value}\t")), Ok(value));
        }
    }

    #[test]
    fn what_a_strict_parser_refuses_is_refused() {
        for bad in
            ["", "nul", "01", "1e999", "[1,]", "{a:1}", r#""\ud800""#, r#"{"\udc00":1}"#, "\"\n\"", "[1]2"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(read(&nested(JSON_DEPTH_MAX)).is_ok());
        assert!(read(&nested(JSON_DEPTH_MAX + 1)).unwrap_err().contains("nested too deeply"));
        assert!(read(&"[".repeat(1_000_000)).is_err());
        assert!(read(&nested(500_000)).is_err());
    }
}
