//! Who is at the other end of a connection: where its packets come from, and whom it is for us.
//!
//! The acceptor makes a [`Peer`] for every connection; it travels with the stream through HTTP to the upgrade. Behind a
//! proxy the client is not where the packets come from. Whoever asks "who is this?" asks for [`Peer::client`], never for
//! the socket's address. No client id and no token is ever kept here.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

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

/// What limits count by: an IPv4 address, or the first 64 bits of an IPv6 address. Whoever has one IPv6 address
/// usually has all of those 64 bits leave open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressKey(u64);

impl AddressKey {
    /// What `address` is counted under.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            // Apart from all IPv6 networks in use: these 32 bits are reserved (RFC 4291 section 2.4).
            IpAddr::V4(address) => Self(1 << 32 | u64::from(u32::from(address))),
            IpAddr::V6(address) => Self((u128::from(address) >> 64) as u64),
        }
    }
}

/// A network in CIDR notation, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address; an IPv4 one mapped into IPv6.
    first: u128,
    /// How many bits all of its addresses have in common, of 128.
    bits: u8,
}

/// What is wrong with a network, as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkError(&'static str);

/// Networks, such as those of proxies that are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

impl Network {
    /// Whether `address` is in it. An IPv4 address and the IPv6 address it is mapped to are the same.
    pub fn contains(&self, address: IpAddr) -> bool {
        mapped(address) & mask(self.bits) == self.first
    }
}

impl Networks {
    /// These.
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether `address` is in one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Network> {
        self.0.iter()
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong =
            NetworkError("a network is an IP address, or one with its prefix: 10.0.0.0/8, 2001:db8::/32");
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong)?;
        // What stands before the bits of an IPv4 address that was mapped.
        let (before, most) = if address.is_ipv4() { (96, 32) } else { (0, 128) };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|digit| digit.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= most).ok_or(wrong)?
            }
            Some(_) => return Err(wrong),
            None => most,
        };
        let (first, bits) = (mapped(address), before + bits);
        if first & !mask(bits) != 0 {
            return Err(NetworkError("the address of a network has no bits set behind its prefix"));
        }
        Ok(Self { first, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Ipv6Addr::from(self.first);
        match address.to_ipv4_mapped() {
            Some(address) if self.bits == 128 => address.fmt(f),
            Some(address) if self.bits >= 96 => write!(f, "{address}/{}", self.bits - 96),
            _ if self.bits == 128 => address.fmt(f),
            _ => write!(f, "{address}/{}", self.bits),
        }
    }
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NetworkError {}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The first `bits` bits.
fn mask(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("it is an address")
    }

    fn network(text: &str) -> Result<String, NetworkError> {
        text.parse().map(|network: Network| network.to_string())
    }

    #[test]
    fn ipv6_addresses_of_one_network_are_counted_together_and_ipv4_addresses_each() {
        let key = |text| AddressKey::of(address(text));
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("0.0.0.0"), key("::"));
    }

    #[test]
    fn network_contains_its_addresses_and_no_others() {
        let contains = |text: &str, other| text.parse::<Network>().expect(text).contains(address(other));
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"), "a socket for both shows it so");
        assert!(contains("192.0.2.1", "192.0.2.1") && !contains("192.0.2.1", "192.0.2.0"));
        assert!(contains("0.0.0.0/0", "203.0.113.1") && !contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("::/0", "2001:db8::1"));
        assert!(
            contains("2001:db8::/33", "2001:db8:7fff::") && !contains("2001:db8::/33", "2001:db8:8000::")
        );
    }

    #[test]
    fn network_is_written_as_it_was_read() {
        for text in ["10.0.0.0/8", "192.0.2.1", "0.0.0.0/0", "2001:db8::/32", "::1", "::/0"] {
            assert_eq!(network(text).as_deref(), Ok(text));
        }
        assert_eq!(network(" 192.0.2.1/32 ").as_deref(), Ok("192.0.2.1"));
        for bad in
            ["", "x", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.1/8", "::/129", "10.0.0/8", "a/8"]
        {
            assert!(network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mapped_address_is_the_ipv4_address() {
        let local = SocketAddr::from(([127, 0, 0, 1], 8000));
        let socket: SocketAddr = "[::ffff:192.0.2.7]:4711".parse().expect("it is an address");
        assert_eq!(Peer::direct(socket, local).client, IpAddr::from([192, 0, 2, 7]));
        let socket: SocketAddr = "[2001:db8::1]:4711".parse().expect("it is an address");
        assert_eq!(Peer::direct(socket, local).client, socket.ip());
    }
}
