//! TLS: the certificate of a node, and the protocol of one connection.
//!
//! [`Certificates`] are read from their files, and again while connections are open. `Connection` is
//! rustls without buffers of its own: whoever has the socket lends it one `Scratch` for all its connections, so that
//! one at rest holds nothing but its keys. The HTTP side does the handshake with it; after the 101 it moves, with its
//! socket, into the shard's poller. Nothing here waits, and nothing here knows what it carries.

mod certificates;
mod connection;
mod date;
mod unsent;
mod validity;

pub use certificates::{CertificateError, Certificates};
pub(crate) use connection::{Connection, Failure, Scratch, Sent};
pub(crate) use unsent::UnsentTotal;
