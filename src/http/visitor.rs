//! Who is on an HTTP connection, and what the gate said of it.
//!
//! One for each connection, made before its first request, and behind the PROXY header of those that have one. Whom a request
//! is from is asked for each: a proxy passes many clients on over one connection. An upgrade asks it for leave; the pass goes on
//! with the socket that the connection becomes.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use hyper::HeaderMap;
use tokio::net::TcpStream;

use super::{
    answer::Refusal,
    connections::Entry,
    forwarded,
    proxied::{self, NoHeader},
};
use crate::{
    connection::AttachError,
    gate::{Entrance, Pass},
    metrics::Refused,
    node::Node,
    peer::Peer,
    proxy_protocol::Header,
};

/// The other end of an HTTP connection.
#[derive(Debug)]
pub(super) struct Visitor {
    /// Who it is: the client, or a proxy that is trusted.
    pub(super) peer: Peer,
    node: Arc<Node>,
    /// It is a trusted proxy, which says of each request whom that is from.
    is_proxy: bool,
    pass: RefCell<Option<Pass>>,
    /// The gate has charged for the connection, and with that for the first handshake on it.
    is_charged: Cell<bool>,
}

impl Visitor {
    /// One that was let in; if it is a proxy that has to say on whose behalf it comes, once it has. `None` if that is refused.
    pub(super) async fn arrived(
        node: Arc<Node>,
        entry: &Entry,
        stream: &TcpStream,
        peer: Peer,
        entrance: Entrance,
    ) -> Option<Self> {
        let visitor = |peer, is_proxy, is_charged, pass| {
            let (pass, is_charged) = (RefCell::new(pass), Cell::new(is_charged));
            Some(Self { peer, node: node.clone(), is_proxy, pass, is_charged })
        };
        let new = |peer, is_proxy: bool, pass| visitor(peer, is_proxy, !is_proxy, pass);
        match entrance {
            Entrance::Client(pass) => return new(peer, false, pass),
            Entrance::Proxy => return new(peer, true, None),
            Entrance::ProxyHeader => {}
        }
        let (source, destination, secure) = match proxied::header(entry, stream, node.stopping()).await {
            // The proxy itself, or somebody whom it does not name. What such a one sends of others is not the proxy's word.
            Ok(Header::Local) => return visitor(peer, false, false, None),
            Ok(Header::Proxied { source, destination, secure }) => (source, destination, secure),
            Err(NoHeader::Gone) => return None,
            Err(why) => {
                if let NoHeader::Wrong(error) = why {
                    tracing::debug!(proxy = %peer.client, %error, "a proxy is not understood");
                }
                node.refuse(Refused::ProxyHeader, peer.client);
                return None;
            }
        };
        let peer = Peer { local: destination, client: source.ip().to_canonical(), secure, ..peer };
        if node.gate().trusts(peer.client) {
            return new(peer, true, None);
        }
        match node.gate().admit(peer.client) {
            Ok(pass) => new(peer, false, pass),
            Err(reason) => {
                node.refuse(reason, peer.client);
                None
            }
        }
    }

    /// Whom a request is from.
    pub(super) fn of_request(&self, headers: &HeaderMap) -> Peer {
        if !self.is_proxy {
            return self.peer;
        }
        let settings = self.node.gate().settings();
        Peer {
            client: forwarded::client(headers, self.peer.client, &settings.trusted_proxies),
            secure: forwarded::is_secure(headers).unwrap_or(self.peer.secure),
            ..self.peer
        }
    }

    /// The host that the client asked, where a proxy says so.
    pub(super) fn forwarded_host<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        forwarded::host(headers).filter(|_| self.is_proxy)
    }

    /// Asks whether a client may connect, beside those of its address and as fast as this. With its pass, if it is not that of the
    /// connection.
    pub(super) fn ask_to_upgrade(&self, headers: &HeaderMap) -> Result<Option<Pass>, Refusal> {
        let (node, client) = (&self.node, self.of_request(headers).client);
        let admitted = match self.is_proxy {
            true => node.gate().admit(client),
            false if self.is_charged.take() => Ok(None),
            false => node.gate().charge(client).map(|()| None),
        };
        admitted.map_err(|reason| {
            node.refuse(reason, client);
            Refusal::too_many(match reason {
                Refused::ConnectionsOfAddress => "this address has as many connections as it may",
                _ => "handshakes come too fast; try again later",
            })
        })
    }

    /// Why an upgrade comes to nothing, counted if it is for the number of clients.
    pub(super) fn not_attached(&self, error: AttachError, headers: &HeaderMap) -> Refusal {
        if error == AttachError::Full {
            self.node.refuse(Refused::Clients, self.of_request(headers).client);
        }
        error.into()
    }

    /// The connection's pass, for the socket that it becomes.
    pub(super) fn take_pass(&self) -> Option<Pass> {
        self.pass.take()
    }
}
