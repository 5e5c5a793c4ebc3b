//! What a trusted proxy says of a request it passes on: `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
//!
//! Asked by `Visitor` only for connections that come from a proxy which the operator trusts; from anybody else these headers are
//! as good as not there. Each proxy appends the address it was spoken to from, so the list is read from its end: the client
//! is the first that is no trusted proxy itself. What stands before it anybody may have written.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;

use crate::{limits::FORWARDED_HOPS_MAX, peer::Networks};

/// Who a request is from, when it comes from `proxy`. What is no address ends the list: the last that was one is who it is.
pub(super) fn client(headers: &HeaderMap, proxy: IpAddr, trusted: &Networks) -> IpAddr {
    let values = headers.get_all("x-forwarded-for").iter().rev();
    let hops = values.flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
    let mut client = proxy;
    for hop in hops.take(FORWARDED_HOPS_MAX) {
        if !trusted.contain(client) {
            break;
        }
        let Some(address) = address(hop.trim()) else { break };
        client = address;
    }
    client
}

/// Whether the client spoke TLS with the proxy; `None` if that is not said.
pub(super) fn is_secure(headers: &HeaderMap) -> Option<bool> {
    match &*last(headers, "x-forwarded-proto")?.to_ascii_lowercase() {
        "https" | "wss" => Some(true),
        "http" | "ws" => Some(false),
        _ => None,
    }
}

/// The host that the client asked.
pub(super) fn host(headers: &HeaderMap) -> Option<&str> {
    last(headers, "x-forwarded-host")
}

/// The last item of the comma-separated lists under `name`: that which the nearest proxy wrote.
fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?;
    value.to_str().unwrap_or("?").rsplit(',').next().map(str::trim)
}

/// An address, perhaps with a port, as proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let alone = || text.parse::<IpAddr>().ok();
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    alone().or_else(in_brackets).or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("it may stand in a header");
            headers.append(HeaderName::from_static(name), value);
        }
        headers
    }

    /// The client of a request from 10.0.0.1; all of 10.0.0.0/8 is trusted.
    fn client_of(values: &[&str]) -> String {
        let trusted = Networks::new(vec!["10.0.0.0/8".parse().expect("a network")]);
        let proxy = IpAddr::from([10, 0, 0, 1]);
        client(&headers("x-forwarded-for", values), proxy, &trusted).to_string()
    }

    #[test]
    fn client_is_the_last_hop_that_is_not_trusted() {
        assert_eq!(client_of(&["192.0.2.7"]), "192.0.2.7");
        assert_eq!(client_of(&["192.0.2.7, 10.0.0.9,10.0.0.8"]), "192.0.2.7");
        assert_eq!(
            client_of(&["198.51.100.1, 192.0.2.7"]),
            "192.0.2.7",
            "what stands before it may be made up"
        );
        assert_eq!(client_of(&["10.9.9.9, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(client_of(&["198.51.100.1", "192.0.2.7, 10.0.0.9", "10.0.0.8"]), "192.0.2.7");
        assert_eq!(client_of(&["10.0.0.3, 10.0.0.2"]), "10.0.0.3", "of trusted ones alone the first");
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        for (written, address) in [
            ("192.0.2.7:4711", "192.0.2.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
        ] {
            assert_eq!(client_of(&[written]), address);
        }
    }

    #[test]
    fn without_an_address_it_is_the_proxy_that_is_known() {
        for odd in
            [&[][..], &[""], &["unknown"], &["192.0.2.7,"], &["192.0.2.7, x"], &["\u{e9}"], &["[192.0.2.7"]]
        {
            assert_eq!(client_of(odd), "10.0.0.1", "{odd:?}");
        }
        assert_eq!(client_of(&["192.0.2.7, unknown, 10.0.0.2"]), "10.0.0.2");
    }

    #[test]
    fn no_more_hops_are_looked_at_than_may_be() {
        let long = vec!["10.0.0.2"; FORWARDED_HOPS_MAX - 1].join(",");
        assert_eq!(client_of(&["192.0.2.7", &long]), "192.0.2.7");
        assert_eq!(client_of(&["192.0.2.7, 10.0.0.3", &long]), "10.0.0.3");
    }

    #[test]
    fn scheme_and_host_are_those_of_the_nearest_proxy() {
        let secure = |values: &[&str]| is_secure(&headers("x-forwarded-proto", values));
        assert_eq!([secure(&["https"]), secure(&["HTTPS"]), secure(&["wss"])], [Some(true); 3]);
        assert_eq!([secure(&["http"]), secure(&["https, http"]), secure(&["https", "ws"])], [Some(false); 3]);
        assert_eq!([secure(&[]), secure(&["ftp"]), secure(&[""])], [None; 3]);
        assert_eq!(host(&headers("x-forwarded-host", &["a.example, b.example:81"])), Some("b.example:81"));
        assert_eq!(host(&headers("x-forwarded-host", &[])), None);
    }
}
