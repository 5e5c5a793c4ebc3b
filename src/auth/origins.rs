//! The origins of pages that may open a WebSocket.
//!
//! A browser lets any page open a WebSocket to anywhere and only says in `Origin` which page it is. Who is not a browser says
//! nothing, or what it likes; so this keeps the users of a browser from a page that misuses what their browser
//! or network may do, and keeps out nobody else.

use std::fmt;

/// An allow-list of origins; empty, it allows any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageOrigins(Box<[Box<str>]>);

/// Why a text is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginError;

impl PageOrigins {
    /// These origins, each as `scheme://host` with a port if it is not the scheme's own.
    ///
    /// # Errors
    /// With the first text that is no origin.
    pub fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, (&'a str, OriginError)> {
        let parsed: Result<Vec<_>, _> =
            texts.map(|text| normal(text).map(Box::from).ok_or((text, OriginError))).collect();
        Ok(Self(parsed?.into()))
    }

    /// Whether any is allowed.
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are allowed.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|origin| &**origin)
    }

    /// Whether a page may that says it is of `origin`.
    pub fn allows(&self, origin: &str) -> bool {
        self.is_any() || normal(origin).is_some_and(|origin| self.iter().any(|allowed| *allowed == origin))
    }
}

/// An origin as browsers write it (RFC 6454 section 6.2): in lower case, without the scheme's own port.
fn normal(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.starts_with(|letter: char| letter.is_ascii_alphabetic()) || !scheme.bytes().all(is_scheme) {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.parse::<u16>().ok()?)),
        _ => (authority, None),
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_host) || (host.contains(':') && !host.starts_with('[')) {
        return None;
    }
    let own = match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    Some(match port {
        Some(port) if own != Some(port) => format!("{scheme}://{host}:{port}"),
        _ => format!("{scheme}://{host}"),
    })
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an origin is a scheme and a host, with a port if need be, such as https://app.example.com",
        )
    }
}

impl std::error::Error for OriginError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_allowed_exactly_whatever_its_case_and_whether_its_own_port_is_said() {
        let origins = ["https://App.example.com", "http://localhost:3000", "https://[::1]:443", "app://x"];
        let origins = PageOrigins::parse(origins.into_iter()).expect("they are origins");
        for allowed in [
            "https://app.example.com",
            "https://APP.example.com:443",
            "http://localhost:3000",
            "https://[::1]",
            "app://x",
        ] {
            assert!(origins.allows(allowed), "{allowed}");
        }
        for other in [
            "null",
            "",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.example",
            "https://evil.example/https://app.example.com",
            "https://app.example.com/",
            "https://user@app.example.com",
            "http://localhost",
            "app.example.com",
        ] {
            assert!(!origins.allows(other), "{other}");
        }
    }

    #[test]
    fn an_empty_list_allows_any_and_what_is_no_origin_is_refused() {
        assert!(PageOrigins::default().allows("https://anything") && PageOrigins::default().allows("null"));
        for text in [
            "*",
            "app.example.com",
            "https://",
            "https://a/b",
            "https://a:x",
            "://a",
            "https://a b",
            "https://::1",
        ] {
            assert_eq!(PageOrigins::parse([text].into_iter()), Err((text, OriginError)));
        }
    }
}
