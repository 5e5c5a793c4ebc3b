//! `POST /register` and `DELETE /register/{id}`.

use std::{net::SocketAddr, rc::Rc, time::Instant};

use hyper::{HeaderMap, Request, Uri, body::Incoming, header::HOST};

use super::{
    answer::{Answer, Refusal, json},
    body::{self, Bounds},
    connections::Connections,
    content_type::ContentType,
    credentials::Caller,
    visitor::Visitor,
};
use crate::{
    auth::Scope,
    connection::Local,
    identity::ClientId,
    peer::Peer,
    protocol::{json::push_str, register_body},
};

/// Registers a client and answers with the URL to connect to.
pub(super) async fn register(
    local: &Local,
    connections: &Rc<Connections>,
    visitor: &Visitor,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let node = local.node();
    let settings = node.settings();
    Caller::of(&settings, request.headers())?.require(Scope::Register)?;
    ContentType::of(request.headers())?.json_or_absent()?;
    let base = match &settings.public_url {
        Some(url) => url.clone(),
        None => {
            let peer = visitor.of_request(request.headers());
            let host = match visitor.forwarded_host(request.headers()) {
                Some(host) => valid_host(host)?,
                None => host(request.uri(), request.headers(), peer.local)?,
            };
            base(&peer, &host)
        }
    };
    let bounds = Bounds::of_object(&settings);
    drop(settings);
    let body = body::read(request.into_body(), &bounds, connections).await?;
    let settings = node.settings();
    let body =
        register_body::parse(&body.bytes, settings.max_topics_per_client).map_err(Refusal::bad_request)?;
    // Asked only now: a body may take its time, and a URL of a node that stops is of no use.
    if !node.phase().takes_clients() {
        return Err(Refusal::stopping());
    }
    let topics = match body.topics {
        Some(topics) => local.share_topics(topics),
        None => settings.default_topics.clone(),
    };
    let full = Refusal::full("the server keeps as many registrations as it may; try again later");
    let (id, due) = node.clients().register(body.user, topics, Instant::now()).map_err(|_| full)?;
    local.schedule(due);
    Ok(json(url_json(&base, id)))
}

/// Unregisters a client; its connection, if it has one, is closed. An id that is not registered is as good as gone.
pub(super) async fn unregister(
    local: &Local,
    connections: &Rc<Connections>,
    id: &str,
) -> Result<Answer, Refusal> {
    // What is no id at all names nothing here, as any other unknown path does.
    let malformed = || Refusal::not_found("a client id is 32 hex digits: DELETE /register/{id}");
    let id = ClientId::parse(id).ok_or_else(malformed)?;
    let node = local.node();
    let _work = connections.work(node.settings().publish_wait).await.ok_or_else(Refusal::overloaded)?;
    node.unregister(id).await;
    Ok(json("{}"))
}

/// What a URL begins with for whoever reached us by `host`.
fn base(peer: &Peer, host: &str) -> String {
    format!("{}://{host}", if peer.secure { "wss" } else { "ws" })
}

fn url_json(base: &str, id: ClientId) -> Vec<u8> {
    let mut json = br#"{"url":"#.to_vec();
    push_str(&mut json, format!("{}/ws/{id}", base.trim_end_matches('/')).as_bytes());
    json.push(b'}');
    json
}

/// The host (and port) by which the client reached this node: what the request says, or the address it was sent to.
fn host(uri: &Uri, headers: &HeaderMap, address: SocketAddr) -> Result<String, Refusal> {
    // RFC 9112 section 3.2.2: the host of an absolute target wins over the header.
    if let Some(authority) = uri.authority() {
        return valid_host(authority.as_str());
    }
    match headers.get(HOST) {
        Some(value) => valid_host(value.to_str().unwrap_or_default()),
        // Only HTTP/1.0 may go without one: see `framing`, which saw to it that there is no second.
        None => Ok(address.to_string()),
    }
}

/// A host of the characters hosts are made of, since it is handed on in a URL.
fn valid_host(text: &str) -> Result<String, Refusal> {
    let (host, port) = match text.rfind(']') {
        Some(end) => text.split_at(end + 1),
        None => text.split_at(text.rfind(':').unwrap_or(text.len())),
    };
    let named = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    let host_is_valid = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => named(host),
    };
    let port_is_valid = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    if text.len() <= HOST_BYTES_MAX && host_is_valid && port_is_valid {
        Ok(text.to_owned())
    } else {
        Err(Refusal::bad_request("the host is not a name or address with an optional port"))
    }
}

/// Longest host with its port, bytes: a DNS name has at most 253.
const HOST_BYTES_MAX: usize = 253 + 6;

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn host_of(uri: &'static str, given: Option<&'static str>) -> Result<String, u16> {
        let mut headers = HeaderMap::new();
        if let Some(given) = given {
            headers.append(HOST, HeaderValue::from_static(given));
        }
        let address = SocketAddr::from(([127, 0, 0, 1], 8000));
        host(&Uri::from_static(uri), &headers, address).map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn host_is_the_one_the_client_used() {
        for good in ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]", "a-b_c.example."]
        {
            assert_eq!(host_of("/register", Some(good)), Ok(good.to_owned()));
        }
        let absolute = host_of("http://a.example:81/register", Some("b.example"));
        assert_eq!(absolute, Ok("a.example:81".to_owned()));
    }

    #[test]
    fn without_a_host_it_is_the_address_that_was_reached() {
        assert_eq!(host_of("/register", None), Ok("127.0.0.1:8000".to_owned()));
    }

    #[test]
    fn strange_hosts_are_refused() {
        for bad in [
            "", ":80", "a b", "a/b", "a\"b", "user@a", "a:80:80", "a:", "a:x", "a:70000", "a:+1", "[::1",
            "::1]", "[x]", "[]", "::1", "a?b", "a#b", "a%41", "<a>", "[::1]x", "[::1]]",
        ] {
            assert_eq!(host_of("/register", Some(bad)), Err(400), "{bad}");
        }
        assert!(valid_host(&"a".repeat(300)).is_err());
    }

    #[test]
    fn url_is_encrypted_where_the_request_was() {
        let local = SocketAddr::from(([127, 0, 0, 1], 8000));
        let plain = Peer::direct(SocketAddr::from(([127, 0, 0, 1], 4711)), local);
        assert_eq!(base(&plain, "a.example"), "ws://a.example");
        assert_eq!(base(&Peer { secure: true, ..plain }, "a.example"), "wss://a.example");
    }

    #[test]
    fn url_has_one_slash_before_ws() {
        let id = ClientId::random();
        assert_eq!(
            url_json("ws://127.0.0.1:8000", id),
            format!(r#"{{"url":"ws://127.0.0.1:8000/ws/{id}"}}"#).into_bytes()
        );
        assert_eq!(
            url_json("wss://a.example/live/", id),
            format!(r#"{{"url":"wss://a.example/live/ws/{id}"}}"#).into_bytes()
        );
    }
}
