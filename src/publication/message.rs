//! `Message`: what is published, valid by construction, so that nothing behind the edge looks at its bytes again.
//!
//! Text frames must be UTF-8 (RFC 6455 section 8.1), and data stands in the JSON of others: wrong bytes would have every
//! client close its connection. So both are types of their own, made of what is checked, or of what the parsers of
//! `protocol` and `http` have read as such.

use std::{fmt, str::Utf8Error};

use bytes::Bytes;

/// What is published: the bytes every subscriber receives, nothing around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Sent in text frames.
    Text(Text),
    /// Sent in binary frames.
    Binary(Bytes),
    /// Sent in a text frame alone, or as `data` in a protocol that wraps messages.
    Data(Json),
}

impl Message {
    /// A text message.
    pub fn text(text: impl Into<Text>) -> Self {
        Self::Text(text.into())
    }

    /// A binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// The bytes of the message.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
            Self::Data(json) => json.as_bytes(),
        }
    }

    /// The same message in memory of its own, so that it does not keep a larger buffer that it is a part of.
    pub(crate) fn unshared(&self) -> Self {
        let own = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        match self {
            Self::Text(Text(bytes)) => Self::Text(Text(own(bytes))),
            Self::Binary(bytes) => Self::Binary(own(bytes)),
            Self::Data(Json(bytes)) => Self::Data(Json(own(bytes))),
        }
    }
}

/// Bytes that are UTF-8.
///
/// ```
/// use bytes::Bytes;
/// use fanfare::publication::{Message, Text};
///
/// // What is a string already costs no check, and an owned one no copy.
/// assert_eq!(Message::text("purr"), Message::text(String::from("purr")));
/// let text = Text::try_from(Bytes::from_static(b"purr"))?;
/// assert_eq!(Message::Text(text), Message::text("purr"));
/// assert!(Text::try_from(Bytes::from_static(b"\xff")).is_err());
/// # Ok::<(), std::str::Utf8Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(Bytes);

impl Text {
    /// A text that is a part of the program, without a copy.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// Bytes that the caller has read as UTF-8, without another check.
    pub(crate) fn known(bytes: Bytes) -> Self {
        debug_assert!(std::str::from_utf8(&bytes).is_ok(), "whoever calls has read it as text");
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Text {
    /// Copies it; see [`Text::from_static`] too.
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl TryFrom<Bytes> for Text {
    type Error = Utf8Error;

    /// Checks the bytes, and keeps them as they are.
    fn try_from(bytes: Bytes) -> Result<Self, Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Self(bytes))
    }
}

/// A text is not one JSON value; or one that is nested more than [`JSON_DEPTH_MAX`](crate::limits::JSON_DEPTH_MAX) deep, or has a number beyond all doubles or half
/// of a surrogate pair, so that a strict parser would refuse what it stands in. Says what is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError(pub(crate) String);

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for JsonError {}

/// One JSON value, checked once and passed on byte for byte. It may have line breaks between its parts, as its publisher
/// wrote it: whoever puts it into a format of lines takes care of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(Bytes);

impl Json {
    /// Bytes that the caller has read as one value with nothing around it, without another check.
    pub(crate) fn known(bytes: Bytes) -> Self {
        debug_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok(), "it was read as JSON");
        Self(bytes)
    }

    /// The bytes, which are UTF-8.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}
