//! Who is at the other end of a connection: where its packets come from, and whom it is for us.
//!
//! The acceptor makes a [`Peer`] for every connection; it travels with the stream through HTTP to the upgrade. Behind a
//! proxy the client is not where the packets come from. Whoever asks "who is this?" asks for [`Peer::client`], never for
//! the socket's address. No client id and no token is ever kept here.

use std::net::{IpAddr, SocketAddr};

/// The other end of a connection, and how it reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where the packets come from: the client, or the last proxy before us.
    pub socket: SocketAddr,
    /// The address of ours that they came to.
    pub local: SocketAddr,
    /// Who it is for us: limits count this address, and logs show it.
    pub client: IpAddr,
    /// Whether what the client sends is encrypted on its way, to us or to a proxy that we trust; so the URLs that it is
    /// given begin with `wss`.
    pub secure: bool,
}

impl Peer {
    /// The peer of a connection that came directly, and in the clear. An IPv4 address that was mapped into IPv6, as it is
    /// on a socket for both, is the IPv4 address.
    pub fn direct(socket: SocketAddr, local: SocketAddr) -> Self {
        Self { socket, local, client: socket.ip().to_canonical(), secure: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_address_is_the_ipv4_address() {
        let local = SocketAddr::from(([127, 0, 0, 1], 8000));
        let socket: SocketAddr = "[::ffff:192.0.2.7]:4711".parse().expect("it is an address");
        assert_eq!(Peer::direct(socket, local).client, IpAddr::from([192, 0, 2, 7]));
        let socket: SocketAddr = "[2001:db8::1]:4711".parse().expect("it is an address");
        assert_eq!(Peer::direct(socket, local).client, socket.ip());
    }
}
