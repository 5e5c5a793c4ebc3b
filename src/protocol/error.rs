//! The errors a peer is told: their codes, and the one JSON form they have on every transport.

use super::json::push_str;

/// What kind of error it is, for programs. The message beside it is for people and may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// The request or command is malformed.
    BadRequest,
    /// A field or parameter that is understood but not served.
    Unsupported,
    /// Whoever asks has to prove who it is.
    Unauthorized,
    /// Whoever asks may not do that.
    Forbidden,
    /// No such route or client.
    NotFound,
    /// The route has other methods.
    MethodNotAllowed,
    /// Another publication has the idempotency key; nothing was taken.
    Conflict,
    /// The client did not send its request in time.
    Timeout,
    /// The body is over the node's limit.
    BodyTooLarge,
    /// The message in the body is over the node's limit.
    MessageTooLarge,
    /// The body is of another content type than the route takes.
    UnsupportedMediaType,
    /// The route is a WebSocket, and the request is no handshake of a version spoken here.
    UpgradeRequired,
    /// Whoever asks does so too often; nothing was taken.
    TooMany,
    /// The node has too much in work; nothing was taken.
    Overloaded,
    /// The node keeps as many registrations or topics as it may; nothing was taken.
    Full,
    /// The node is stopping; nothing was taken.
    Stopping,
}

impl Code {
    /// The code as it stands in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unsupported => "unsupported",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::Timeout => "timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::MessageTooLarge => "message_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::UpgradeRequired => "upgrade_required",
            Self::TooMany => "too_many_requests",
            Self::Overloaded => "overloaded",
            Self::Full => "full",
            Self::Stopping => "stopping",
        }
    }
}

/// Longest message of an error, bytes; what a parser says may quote all it was given, escaped to three times its size.
const MESSAGE_BYTES: usize = 512;

/// `{"error":{"code":"…","message":"…"}}`; a message that is too long is cut.
pub fn error_json(code: Code, message: &str) -> String {
    let mut json = Vec::with_capacity(48 + message.len().min(MESSAGE_BYTES));
    push_error(&mut json, code, message, None);
    String::from_utf8(json).expect("it was put together from texts")
}

/// Appends the same, with the id of the command it answers, which is JSON.
pub(crate) fn push_error(json: &mut Vec<u8>, code: Code, message: &str, id: Option<&str>) {
    json.push(b'{');
    push_error_field(json, code, message, id);
    json.push(b'}');
}

/// Appends `"error":{…}`, a field of whatever object has been begun.
pub(crate) fn push_error_field(json: &mut Vec<u8>, code: Code, message: &str, id: Option<&str>) {
    json.extend_from_slice(br#""error":{"code":""#);
    json.extend_from_slice(code.as_str().as_bytes());
    json.extend_from_slice(br#"","message":"#);
    let mut ends = (0..=message.len().min(MESSAGE_BYTES)).rev();
    let end = ends.find(|&at| message.is_char_boundary(at)).unwrap_or(0);
    if end < message.len() {
        push_str(json, format!("{}…", &message[..end]).as_bytes());
    } else {
        push_str(json, message.as_bytes());
    }
    if let Some(id) = id {
        json.extend_from_slice(br#","id":"#);
        json.extend_from_slice(id.as_bytes());
    }
    json.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_message_is_cut_between_characters() {
        let json = error_json(Code::BadRequest, &format!("a{}", "é".repeat(60_000)));
        assert!(json.len() < 600 && json.ends_with(r#"é…"}}"#), "{json}");
    }

    #[test]
    fn message_is_escaped() {
        assert_eq!(
            error_json(Code::BadRequest, "a \"quoted\"\nline\u{0}"),
            r#"{"error":{"code":"bad_request","message":"a \"quoted\"\nline\u0000"}}"#
        );
        assert_eq!(error_json(Code::Full, "größe"), r#"{"error":{"code":"full","message":"größe"}}"#);
    }
}
