//! The errors a peer is told: their codes, and the one JSON form they have on every transport.

/// What kind of error it is, for programs. The message beside it is for people and may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request or command is malformed.
    BadRequest,
    /// A field or parameter that is understood but not served.
    Unsupported,
    /// No such route or client.
    NotFound,
    /// The route has other methods.
    MethodNotAllowed,
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
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Timeout => "timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::MessageTooLarge => "message_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::UpgradeRequired => "upgrade_required",
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
    let is_end = |&at: &usize| message.is_char_boundary(at);
    let end = (0..=message.len().min(MESSAGE_BYTES)).rev().find(is_end).unwrap_or(0);
    let message = if end < message.len() { &format!("{}…", &message[..end]) } else { message };
    let mut json = String::with_capacity(48 + message.len());
    json.push_str(r#"{"error":{"code":""#);
    json.push_str(code.as_str());
    json.push_str(r#"","message":"#);
    push_json_str(&mut json, message);
    json.push_str("}}");
    json
}

/// Appends `text` to `json` as a JSON string, quoted and escaped.
pub(crate) fn push_json_str(json: &mut String, text: &str) {
    let plain = |&byte: &u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.as_bytes().iter().all(plain) {
        json.push('"');
        json.push_str(text);
        json.push('"');
    } else {
        json.push_str(&serde_json::to_string(text).expect("a text is always a JSON string"));
    }
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
