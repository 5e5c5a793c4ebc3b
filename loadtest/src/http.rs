//! Just enough HTTP/1.1 for a client that wrote the requests itself: heads of responses and requests, with
//! bodies of a stated length. No chunked bodies, no continuation lines. Used by the generator for answers and by
//! the floor server for requests.

use std::fmt;
use std::time::Duration;

/// The longest head that is waited for; more is not an answer this harness asked for.
const HEAD_MAX: usize = 16 * 1024;

/// A complete response at the front of a buffer.
#[derive(Debug, PartialEq)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    /// How long the server asks to wait before the next try.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) head: &'a str,
    pub(crate) body: &'a [u8],
    /// Bytes of head and body: where the next response begins.
    pub(crate) length: usize,
}

/// These bytes are not a response this harness can follow.
#[derive(Debug, PartialEq)]
pub(crate) struct BadResponse(pub(crate) &'static str);

impl fmt::Display for BadResponse {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

/// The response at the front of `bytes`, or `None` while it is incomplete.
pub(crate) fn response(bytes: &[u8]) -> Result<Option<Response<'_>>, BadResponse> {
    let Some(end) = head_end(bytes) else {
        return if bytes.len() > HEAD_MAX { Err(BadResponse("the head does not end")) } else { Ok(None) };
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| BadResponse("the head is not text"))?;
    let status = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5)?.parse().ok())
        .ok_or(BadResponse("no HTTP/1 status line"))?;
    if header(head, "transfer-encoding").is_some() {
        return Err(BadResponse("a body without a stated length"));
    }
    let body = match header(head, "content-length") {
        Some(length) => length.parse().map_err(|_| BadResponse("the content length is not a number"))?,
        None => 0,
    };
    let length = end.checked_add(body).ok_or(BadResponse("the content length is out of range"))?;
    let retry_after = header(head, "retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
    Ok(bytes.get(end..length).map(|body| Response { status, retry_after, head, body, length }))
}

/// Where the head at the front of `bytes` ends, the empty line included.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|&byte| byte == b'\n') {
        let end = from + at + 1;
        if bytes[..end].ends_with(b"\r\n\r\n") {
            return Some(end);
        }
        from = end;
    }
    None
}

/// The value of header `name` (in lower case) of a head, without surrounding white space.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 503 ";

    #[test]
    fn a_response_is_complete_only_with_its_body() {
        for end in 0..43 {
            assert_eq!(response(&OK[..end]), Ok(None), "{end} bytes");
        }
        let whole = response(OK).expect("valid").expect("complete");
        assert_eq!((whole.status, whole.body, whole.length), (200, &b"hello"[..], 43));
        assert_eq!(response(&OK[whole.length..]), Ok(None));
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let bytes = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n";
        let refusal = response(bytes).expect("valid").expect("complete");
        assert_eq!((refusal.status, refusal.retry_after), (503, Some(Duration::from_secs(2))));
    }

    #[test]
    fn what_cannot_be_followed_is_an_error() {
        assert!(response(b"SSH-2.0-x\r\n\r\n").is_err());
        assert!(response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(response(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n").is_err());
        assert!(response(&[b'x'; HEAD_MAX + 1]).is_err());
    }
}
