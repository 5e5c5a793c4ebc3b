//! Close codes: the ones we send, and the judgement of the ones a peer sends (RFC 6455 section 7.4).
//!
//! Called by [`super::reader`] for a received close frame and by whatever closes a connection. It must never let a
//! code through that may not appear on the wire.

use std::fmt;

use super::Violation;

/// A status code that may stand in a close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: done; ours when a client was unregistered.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL: CloseCode = CloseCode(1002);
    /// 1003: a kind of message that is not taken here.
    pub const UNSUPPORTED: CloseCode = CloseCode(1003);
    /// 1007: text that is not UTF-8.
    pub const NOT_UTF8: CloseCode = CloseCode(1007);
    /// 1008: against a rule of this server: rate, limits, authorisation expired.
    pub const POLICY: CloseCode = CloseCode(1008);
    /// 1009: a frame or message over the limit.
    pub const TOO_BIG: CloseCode = CloseCode(1009);
    /// 1012: the server restarts; come back, spread out.
    pub const RESTART: CloseCode = CloseCode(1012);
    /// 1013: a slow consumer, or an overloaded server.
    pub const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);
    /// 4401: not authorised.
    pub const UNAUTHORIZED: CloseCode = CloseCode(4401);
    /// 4408: no pong in time.
    pub const NO_PONG: CloseCode = CloseCode(4408);
    /// 4409: another connection took over this client's id; do not reconnect by yourself.
    pub const REPLACED: CloseCode = CloseCode(4409);

    /// A code received from a peer. `None` if it may not be sent: reserved for local use (1004 to 1006, 1015), not
    /// assigned (1016 to 2999), or outside 1000 to 4999. 1012 to 1014 are registered with IANA and taken.
    pub const fn received(code: u16) -> Option<CloseCode> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(CloseCode(code)),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Judges the payload of a received close frame (RFC 6455 section 5.5.1): nothing, or a code and a UTF-8 reason.
pub(super) fn judge(payload: &[u8]) -> Result<Option<CloseCode>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Violation::Protocol("close payload of one byte")),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    let code = CloseCode::received(code).ok_or(Violation::Protocol("close code not allowed on the wire"))?;
    std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
    Ok(Some(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_ours_may_be_sent() {
        for code in [
            CloseCode::NORMAL,
            CloseCode::PROTOCOL,
            CloseCode::UNSUPPORTED,
            CloseCode::NOT_UTF8,
            CloseCode::POLICY,
            CloseCode::TOO_BIG,
            CloseCode::RESTART,
            CloseCode::TRY_AGAIN_LATER,
            CloseCode::UNAUTHORIZED,
            CloseCode::NO_PONG,
            CloseCode::REPLACED,
        ] {
            assert_eq!(CloseCode::received(code.get()), Some(code));
        }
    }

    #[test]
    fn codes_that_may_not_be_on_the_wire_are_refused() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX] {
            assert_eq!(CloseCode::received(code), None, "{code}");
            let payload = code.to_be_bytes();
            assert!(matches!(judge(&payload), Err(Violation::Protocol(_))), "{code}");
        }
        for code in [1000, 1001, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
            assert!(CloseCode::received(code).is_some(), "{code}");
        }
    }

    #[test]
    fn a_close_payload_is_empty_or_a_code_and_utf8() {
        assert_eq!(judge(b""), Ok(None));
        assert_eq!(judge(b"\x03\xe8"), Ok(Some(CloseCode::NORMAL)));
        assert_eq!(
            judge("\u{3}\u{0}".as_bytes()),
            Err(Violation::Protocol("close code not allowed on the wire"))
        );
        assert_eq!(judge(b"\x03\xe8bye"), Ok(Some(CloseCode::NORMAL)));
        assert!(matches!(judge(b"\x03"), Err(Violation::Protocol(_))));
        assert_eq!(judge(b"\x03\xe8\xff"), Err(Violation::NotUtf8));
        assert_eq!(judge(b"\x03\xe8\xe2\x82"), Err(Violation::NotUtf8));
    }
}
