//! Who gets through to the admin calls. Asked before anything else of a request is looked at.
//!
//! A page in the browser of somebody who can reach the listener must not: browsers say where a request comes from (`Origin`,
//! `Sec-Fetch-Site`), and a name that was bound to this address a moment ago (DNS rebinding) is no name of ours. The header
//! that state-changing calls need cannot be sent across origins without a preflight, which is not answered. Behind that
//! comes [`may`], which is about who calls.

use std::net::{IpAddr, Ipv6Addr};

use hyper::{
    Method, Request, Version,
    header::{AUTHORIZATION, HOST, HeaderName, ORIGIN},
};

use super::answer::Refusal;
use crate::{
    auth::{Keys, Scope},
    http::fields::{bearer, only},
    settings::AdminSettings,
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FANFARE_ADMIN: HeaderName = HeaderName::from_static("x-fanfare-admin");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The one path that needs no key: balancers and kubelets have none.
const READY: &str = "/ready";

/// Lets a request through, or says why not.
pub(super) fn check<B>(request: &Request<B>, settings: &AdminSettings, keys: &Keys) -> Result<(), Refusal> {
    let headers = request.headers();
    if headers.contains_key(ORIGIN) {
        return Err(Refusal::forbidden("pages in a browser may not call this: there is an Origin"));
    }
    if headers.get_all(SEC_FETCH_SITE).iter().any(|site| site != "none") {
        return Err(Refusal::forbidden("pages in a browser may not call this: see Sec-Fetch-Site"));
    }
    check_host(request, &settings.hosts)?;
    let changes = ![Method::GET, Method::HEAD].contains(request.method());
    if changes && only(headers, &X_FANFARE_ADMIN) != Some(b"1") {
        return Err(Refusal::forbidden("what changes something needs the header X-Fanfare-Admin: 1"));
    }
    may(request, settings, keys)
}

/// Whether whoever calls may do that: by the listener's own key, or by an API key with the scope `admin`. Where there is
/// neither nobody is asked.
fn may<B>(request: &Request<B>, settings: &AdminSettings, keys: &Keys) -> Result<(), Refusal> {
    let asks = settings.key.is_some() || keys.any_for(Scope::Admin);
    if !asks || request.uri().path() == READY {
        return Ok(());
    }
    let headers = request.headers();
    let shown = only(headers, &AUTHORIZATION).and_then(bearer).or_else(|| only(headers, &X_API_KEY));
    let shown = shown.ok_or_else(Refusal::unauthorized)?;
    if settings.key.as_ref().is_some_and(|key| key.is(shown)) {
        return Ok(());
    }
    match keys.find(shown) {
        Some(key) if key.scopes.has(Scope::Admin) => Ok(()),
        Some(_) => Err(Refusal::forbidden("this API key does not have the scope admin")),
        None => Err(Refusal::unauthorized()),
    }
}

fn check_host<B>(request: &Request<B>, hosts: &[String]) -> Result<(), Refusal> {
    let named = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let host = only(request.headers(), &HOST);
    let is_missing = !request.headers().contains_key(HOST);
    if is_missing && named.is_none() && request.version() == Version::HTTP_10 {
        // No browser speaks so; health checks of balancers do.
        return Ok(());
    }
    if host.is_none() && !(is_missing && named.is_some()) {
        return Err(Refusal::bad_request("there must be one Host"));
    }
    match [host, named].into_iter().flatten().all(|name| is_ours(name, hosts)) {
        true => Ok(()),
        false => {
            Err(Refusal::forbidden("the Host is neither an IP address nor localhost nor one of --admin-host"))
        }
    }
}

/// Whether a Host, with or without a port, is an IP address, `localhost`, or one of `hosts`.
fn is_ours(host: &[u8], hosts: &[String]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let port = port.strip_prefix(':').map_or(port.is_empty(), is_port);
        return port && address.parse::<Ipv6Addr>().is_ok();
    }
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let is_name = |other: &str| name.eq_ignore_ascii_case(other);
    is_port(port)
        && (matches!(name.parse(), Ok(IpAddr::V4(_)))
            || is_name("localhost")
            || hosts.iter().any(|host| is_name(host)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        auth::{ApiKey, KeyHash, Scopes},
        settings::AdminKey,
    };

    const KEY: &str = "0123456789abcdef";

    fn with_key() -> AdminSettings {
        let hosts = Arc::from(["ops.example".to_owned()]);
        AdminSettings { key: AdminKey::parse(KEY), hosts, ..AdminSettings::default() }
    }

    /// The status of a request with these headers, and a good Host unless there is one among them; 200 if it gets through.
    fn status(settings: &AdminSettings, line: (&str, &str), headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(line.0).uri(line.1);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "127.0.0.1:8001");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("it is a request");
        check(&request, settings, &Keys::default()).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn requests_of_pages_are_refused_wherever_they_come_from() {
        let settings = AdminSettings::default();
        let get = |headers: &[(&str, &str)]| status(&settings, ("GET", "/ready"), headers);
        assert_eq!(get(&[]), 200);
        assert_eq!(get(&[("sec-fetch-site", "none")]), 200, "somebody typed the address");
        for origin in ["http://127.0.0.1:8001", "null", ""] {
            assert_eq!(get(&[("origin", origin)]), 403, "{origin}");
        }
        for site in ["same-origin", "same-site", "cross-site", "None", ""] {
            assert_eq!(get(&[("sec-fetch-site", site)]), 403, "{site}");
        }
        assert_eq!(get(&[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")]), 403);
    }

    #[test]
    fn hosts_are_addresses_localhost_and_those_configured() {
        let hosts = ["ops.example".to_owned()];
        for ours in [
            "127.0.0.1",
            "127.0.0.1:8001",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:8001",
            "localhost:8001",
            "LocalHost",
            "OPS.example:1",
        ] {
            assert!(is_ours(ours.as_bytes(), &hosts), "{ours}");
        }
        for other in [
            "",
            "example.com",
            "127.0.0.1.example.com",
            "localhost.example.com",
            "ops.example.com",
            "2130706433",
            "0x7f.1",
            "127.1",
            "::1",
            "[::1",
            "[::1]x",
            "[ops.example]",
            "localhost:x",
            "localhost:1:2",
            "user@localhost",
            "ops.example.",
        ] {
            assert!(!is_ours(other.as_bytes(), &hosts), "{other}");
        }
    }

    #[test]
    fn one_host_is_needed_and_that_of_the_request_line_counts_too() {
        let settings = AdminSettings::default();
        let get = |uri, headers: &[(&str, &str)]| status(&settings, ("GET", uri), headers);
        assert_eq!(get("/ready", &[("host", "127.0.0.1"), ("host", "127.0.0.1")]), 400);
        assert_eq!(get("http://evil.example/ready", &[]), 403);
        assert_eq!(get("http://127.0.0.1/ready", &[("host", "evil.example")]), 403);
        assert_eq!(get("http://localhost/ready", &[]), 200);
        for (version, status) in [(Version::HTTP_10, Ok(())), (Version::HTTP_11, Err(400))] {
            let request =
                Request::builder().version(version).uri("/ready").body(()).expect("it is a request");
            let checked =
                check(&request, &settings, &Keys::default()).map_err(|refusal| refusal.status.as_u16());
            assert_eq!(checked, status, "without any, {version:?}");
        }
    }

    #[test]
    fn what_changes_something_needs_the_header_with_and_without_a_key() {
        for settings in [AdminSettings::default(), with_key()] {
            let key = ("authorization", "Bearer 0123456789abcdef");
            for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
                assert_eq!(status(&settings, (method, "/drain"), &[key]), 403, "{method}");
                assert_eq!(status(&settings, (method, "/drain"), &[key, ("x-fanfare-admin", "0")]), 403);
                assert_eq!(status(&settings, (method, "/drain"), &[key, ("x-fanfare-admin", "1")]), 200);
            }
        }
    }

    #[test]
    fn with_a_key_every_call_but_ready_needs_it() {
        let settings = with_key();
        let get = |path, value| status(&settings, ("GET", path), &[("authorization", value)]);
        for path in ["/metrics", "/health", "/", "/nothing", "/ready/", "//ready"] {
            assert_eq!(status(&settings, ("GET", path), &[]), 401, "{path}");
            assert_eq!(get(path, "Bearer 0123456789abcdef"), 200, "{path}");
        }
        assert_eq!(status(&settings, ("GET", "/ready"), &[]), 200);
        assert_eq!(get("/metrics", "bearer  0123456789abcdef "), 200);
        for bad in
            ["", "Bearer", "Bearer ", "0123456789abcdef", "Basic 0123456789abcdef", "Bearer 0123456789abcdeF"]
        {
            assert_eq!(get("/metrics", bad), 401, "{bad}");
        }
        let keys = [("ops", Scope::Admin), ("app", Scope::Publish)].map(|(name, scope)| ApiKey {
            name: name.into(),
            scopes: Scopes::from_iter([scope]),
            hash: KeyHash::of(name.as_bytes()),
            file: None,
        });
        let keys = Keys::new(keys.into());
        for settings in [AdminSettings::default(), settings.clone()] {
            for (shown, status) in [("ops", Ok(())), ("app", Err(403)), ("other", Err(401))] {
                let request = Request::builder().uri("/metrics").header("host", "localhost");
                let request = request.header("authorization", format!("Bearer {shown}"));
                let request = request.body(()).expect("it is a request");
                let checked = check(&request, &settings, &keys).map_err(|refusal| refusal.status.as_u16());
                assert_eq!(checked, status, "{shown}");
            }
        }
        assert_eq!(status(&settings, ("GET", "/metrics"), &[("x-api-key", KEY)]), 200);
        let twice = [("authorization", "Bearer 0123456789abcdef"); 2];
        assert_eq!(status(&settings, ("GET", "/metrics"), &twice), 401);
    }
}
