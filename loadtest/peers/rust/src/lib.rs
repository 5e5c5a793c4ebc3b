//! What the servers of this package share: where to listen. Everything else is each server's own, so that each can
//! be read alone.

use std::net::SocketAddr;

/// The address after `--listen`; ends the process with a sentence if there is none.
pub fn listen_address() -> SocketAddr {
    let mut arguments = std::env::args().skip(1);
    let address = match (arguments.next().as_deref(), arguments.next()) {
        (Some("--listen"), Some(address)) => address.parse().ok(),
        _ => None,
    };
    address.unwrap_or_else(|| {
        eprintln!("usage: --listen ADDRESS, such as 127.0.0.1:8000");
        std::process::exit(2)
    })
}
