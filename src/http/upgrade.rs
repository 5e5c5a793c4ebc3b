//! `GET /ws/{id}` and `GET /ws?topics=`: the WebSocket handshake, after which the socket belongs to the shard and no longer to HTTP.
//!
//! The joins are in force before the 101 is sent, so whatever is published after a client has its 101 reaches it.

use std::{rc::Rc, sync::Arc, time::Duration};

use fastwebsockets::upgrade::UpgradeFut;
use hyper::{
    HeaderMap, Request, Version,
    body::Incoming,
    header::{
        CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
    },
};

use super::{
    answer::{Answer, Refusal, unknown_client},
    connections::Connections,
    corked::Corked,
    credentials::{Caller, check_origin},
    fields::only,
    payload::Payload,
    percent,
    stream::Parts,
    topics::unknown_parameter,
    visitor::Visitor,
};
use crate::{
    connection::{Attaching, Local, Proof},
    engine::Encoding,
    gate::Pass,
    identity::ClientId,
    protocol::v1::SUBPROTOCOL,
    settings::Settings,
    topic::Topic,
};

/// Attaches the client and answers 101; the socket follows when the answer is written.
pub(super) async fn upgrade(
    local: &Local,
    connections: &Rc<Connections>,
    visitor: &Visitor,
    id: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let encoding = check(request.version(), request.headers())?;
    let pass = visitor.ask_to_upgrade(request.headers())?;
    let id = ClientId::parse(id).ok_or_else(unknown_client)?;
    // Who is registered comes before who may connect.
    if let Err(refusal) = check_origin(&local.node().settings(), request.headers()) {
        return Err(if local.node().clients().contains(id) { refusal } else { unknown_client() });
    }
    let attaching = {
        let wait = local.node().settings().join_wait;
        let _work = connections.upgrade(wait).await.ok_or_else(Refusal::overloaded)?;
        let attached = local.attach(id, encoding).await;
        attached.map_err(|error| visitor.not_attached(error, request.headers()))?
    };
    let pass = pass.or_else(|| visitor.take_pass());
    switch(local, attaching, pass, request)
}

/// The same for somebody who did not register, with the topics that the query names.
pub(super) async fn open(
    local: &Local,
    connections: &Rc<Connections>,
    visitor: &Visitor,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let encoding = check(request.version(), request.headers())?;
    let pass = visitor.ask_to_upgrade(request.headers())?;
    let (topics, proof) = {
        let settings = local.node().settings();
        let query = Query::of(request.uri().query().unwrap_or_default(), settings.max_topics_per_client)?;
        check_origin(&settings, request.headers())?;
        let caller = Caller::of_socket(&settings, request.headers(), query.token.as_deref())?;
        let proof = prove(&settings, &caller, &query.topics, encoding)?;
        (query.topics, proof)
    };
    let attaching = {
        let wait = local.node().settings().join_wait;
        let _work = connections.upgrade(wait).await.ok_or_else(Refusal::overloaded)?;
        let attached = local.attach_unregistered(local.share_topics(topics), encoding, proof).await;
        attached.map_err(|error| visitor.not_attached(error, request.headers()))?
    };
    let pass = pass.or_else(|| visitor.take_pass());
    switch(local, attaching, pass, request)
}

/// Answers 101 and has the socket handed over.
fn switch(
    local: &Local,
    mut attaching: Attaching,
    pass: Option<Pass>,
    mut request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (mut answer, upgraded) = fastwebsockets::upgrade::upgrade(&mut request)
        .map_err(|error| Refusal::bad_request(format!("not a WebSocket handshake: {error}")))?;
    if attaching.encoding() == Encoding::V1 {
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    attaching.carry(pass);
    tokio::task::spawn_local(hand_over(attaching, upgraded, local.node().settings().join_wait));
    Ok(answer.map(|_| Payload::default()))
}

/// Lets pass who may connect without having registered, with these topics. Who proves nothing, wants no topics yet and
/// speaks a protocol in which it can send a token may do that on its socket: pages cannot set headers there, and a token in a URL is
/// written to the logs of proxies.
fn prove(
    settings: &Settings,
    caller: &Caller,
    topics: &[Topic],
    encoding: Encoding,
) -> Result<Proof, Refusal> {
    let can_send_it = encoding == Encoding::V1 && settings.tokens.is_some() && topics.is_empty();
    if *caller == Caller::Anonymous && !settings.lets_anonymous_in() && can_send_it {
        return Ok(Proof::Awaited);
    }
    caller.enter(settings)?;
    topics.iter().try_for_each(|topic| caller.may_subscribe(settings, topic))?;
    Ok(match caller {
        Caller::Token(grant) => Proof::Token(grant.clone()),
        Caller::Open | Caller::Anonymous | Caller::Key { .. } => Proof::None,
    })
}

/// The parameters of `/ws?topics=a,b&token=eyJ…`.
struct Query {
    /// Split at commas before they are decoded, so that `%2C` is a comma in a topic. None at all is no topic.
    topics: Arc<[Topic]>,
    token: Option<String>,
}

impl Query {
    /// Reads them. One that is not known is an error, as everywhere.
    fn of(query: &str, most: usize) -> Result<Self, Refusal> {
        let (mut topics, mut token) = (None, None);
        for (name, value) in percent::pairs(query) {
            let is_first = match name {
                "topics" => topics.replace(named(value, most)?).is_none(),
                "token" => token.replace(percent::decode_query(value)?.into_owned()).is_none(),
                _ => return Err(unknown_parameter(name, "`topics` and `token`")),
            };
            if !is_first {
                return Err(Refusal::bad_request(format!("`{name}` is given more than once")));
            }
        }
        Ok(Self { topics: topics.unwrap_or_default().into(), token })
    }
}

/// Reads a list of topics, each once.
fn named(value: &str, most: usize) -> Result<Vec<Topic>, Refusal> {
    let mut list = Vec::new();
    for name in value.split(',').filter(|_| !value.is_empty()) {
        let topic = Topic::parse(&percent::decode_query(name)?)
            .map_err(|error| Refusal::bad_request(format!("`topics`: {error}")))?;
        if list.contains(&topic) {
            continue;
        }
        if list.len() == most {
            return Err(Refusal::bad_request(format!("a client has at most {most} topics")));
        }
        list.push(topic);
    }
    Ok(list)
}

/// Waits until the 101 is written and gives the socket to the shard. Whatever goes wrong drops `attaching`, and with
/// it the subscriber.
async fn hand_over(attaching: Attaching, upgraded: UpgradeFut, wait: Duration) {
    let raw = async {
        let websocket = upgraded.await.ok()?;
        let parts = websocket.into_inner().into_inner().downcast::<Corked>().ok()?;
        Some((parts.io.into_stream().await.into_parts(), parts.read_buf))
    };
    let Ok(Some((Parts { socket, tls, unread }, early))) = tokio::time::timeout(wait, raw).await else {
        return;
    };
    match socket.into_std() {
        Ok(socket) if unread.is_empty() => attaching.adopt(socket, tls, &early),
        Ok(socket) => attaching.adopt(socket, tls, &[&early[..], &unread[..]].concat()),
        Err(error) => tracing::debug!(%error, "a socket could not be taken out of the runtime"),
    }
}

/// Looks at the handshake of RFC 6455 section 4.2.1, and selects the subprotocol: `fanfare.v1` if it is among those offered.
/// A client that needs another one fails the connection by itself.
fn check(version: Version, headers: &HeaderMap) -> Result<Encoding, Refusal> {
    if !has_token(headers, &UPGRADE, "websocket") {
        return Err(Refusal::upgrade_required());
    }
    if only(headers, &SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(Refusal::websocket_version());
    }
    if version != Version::HTTP_11 {
        return Err(Refusal::bad_request("a WebSocket handshake is HTTP/1.1"));
    }
    // What stood in it would be the first frames, to us.
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if headers.contains_key(TRANSFER_ENCODING) || lengths.any(|length| length != "0") {
        return Err(Refusal::ambiguous("a WebSocket handshake has no body"));
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err(Refusal::bad_request("Connection: Upgrade is missing"));
    }
    if !only(headers, &SEC_WEBSOCKET_KEY).is_some_and(is_key) {
        return Err(Refusal::bad_request("Sec-WebSocket-Key is not one base64 value of 16 bytes"));
    }
    Ok(match offers(headers, SUBPROTOCOL) {
        true => Encoding::V1,
        false => Encoding::Plain,
    })
}

/// Whether a subprotocol is offered; its name is compared exactly (RFC 6455 section 4.1).
fn offers(headers: &HeaderMap, subprotocol: &str) -> bool {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim() == subprotocol)
}

/// Whether the comma-separated lists under `name` have `token` among them, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// Whether it is the base64 of 16 bytes: 22 digits and two signs of padding.
fn is_key(key: &[u8]) -> bool {
    let digit = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 4] = [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    /// The status a handshake is answered with that has `changed` instead of the good header; `None` is 101.
    fn status(version: Version, changed: &[(&'static str, &[&'static str])]) -> Option<u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in GOOD {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for (name, values) in changed {
            headers.remove(*name);
            for value in *values {
                headers.append(*name, HeaderValue::from_static(value));
            }
        }
        check(version, &headers).err().map(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn handshakes_as_browsers_and_libraries_send_them_are_good() {
        assert_eq!(status(Version::HTTP_11, &[]), None);
        let firefox: &[&str] = &["keep-alive, Upgrade"];
        assert_eq!(status(Version::HTTP_11, &[("connection", firefox), ("upgrade", &["WebSocket"])]), None);
        assert_eq!(status(Version::HTTP_11, &[("connection", &["keep-alive", "upgrade"])]), None);
        assert_eq!(status(Version::HTTP_11, &[("sec-websocket-protocol", &["a, b"])]), None);
    }

    #[test]
    fn faults_are_found_in_the_order_of_the_contract() {
        let v = "sec-websocket-version";
        let k = "sec-websocket-key";
        assert_eq!(status(Version::HTTP_10, &[("upgrade", &[]), (v, &[]), (k, &[])]), Some(426));
        assert_eq!(status(Version::HTTP_11, &[("upgrade", &["h2c"])]), Some(426));
        for version in [&[][..], &["8"], &["13, 8"], &["13", "13"], &["013"]] {
            assert_eq!(status(Version::HTTP_10, &[(v, version), (k, &[])]), Some(426), "{version:?}");
        }
        assert_eq!(status(Version::HTTP_10, &[]), Some(400));
        assert_eq!(status(Version::HTTP_11, &[("connection", &["keep-alive"])]), Some(400));
        for key in [&[][..], &[""], &["dGhl"], &["dGhlIHNhbXBsZSBub25jZQ=a"], &["dGhlIHNhbXBsZSBub25jZ-=="]] {
            assert_eq!(status(Version::HTTP_11, &[(k, key)]), Some(400), "{key:?}");
        }
        assert_eq!(status(Version::HTTP_11, &[(k, &[GOOD[3].1, GOOD[3].1])]), Some(400));
        for body in [
            ("content-length", &["2"][..]),
            ("content-length", &["2", "2"]),
            ("transfer-encoding", &["chunked"]),
        ] {
            assert_eq!(status(Version::HTTP_11, &[body]), Some(400), "{body:?}");
        }
        assert_eq!(status(Version::HTTP_11, &[("content-length", &["0"])]), None);
    }

    #[test]
    fn refusal_names_what_would_be_accepted() {
        let refused = check(Version::HTTP_11, &HeaderMap::new()).unwrap_err();
        assert_eq!(refused, Refusal::upgrade_required());
    }

    #[test]
    fn subprotocol_is_selected_where_it_is_offered() {
        let of = |offered: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append("sec-websocket-protocol", HeaderValue::from_static("chat"));
            headers.append("sec-websocket-protocol", HeaderValue::from_static(offered));
            offers(&headers, SUBPROTOCOL)
        };
        assert!(of("fanfare.v1") && of("fanfare.v2, fanfare.v1"));
        assert!(!of("fanfare.v2") && !of("Fanfare.v1") && !of("fanfare.v1x"));
    }

    #[test]
    fn topics_are_split_before_they_are_decoded() {
        let names = |query| {
            let query = Query::of(query, 3).map_err(|refusal| refusal.status.as_u16());
            query.map(|query| query.topics.iter().map(|topic| topic.as_str().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(names("topics=a,b%2Cc,a").unwrap(), ["a", "b,c"]);
        assert_eq!(names("").unwrap(), Vec::<String>::new());
        assert_eq!(names("topics=").unwrap(), Vec::<String>::new());
        for bad in [
            "topics=a,b,c,d",
            "topics=a,,b",
            "topics=a&topics=b",
            "topic=a",
            "topics=%00",
            "topics=%zz",
            "token=a&token=a",
        ] {
            assert_eq!(names(bad), Err(400), "{bad}");
        }
    }
}
