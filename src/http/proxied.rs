//! The PROXY header at the beginning of a connection from a trusted proxy: read before anything else, TLS included.
//!
//! Exactly the header is taken off the stream, what follows it stays there: it is looked at first and taken then.

use std::{io, time::Duration};

use tokio::{net::TcpStream, time::sleep_until};

use super::connections::Entry;
use crate::{
    limits,
    proxy_protocol::{Header, HeaderError, Parsed, parse},
};

/// Why there is no header.
#[derive(Debug)]
pub(super) enum NoHeader {
    /// Something else came.
    Wrong(HeaderError),
    /// It did not come in time.
    Late,
    /// The connection ended, or has to.
    Gone,
}

/// Reads the header, within [`limits::PROXY_HEADER_MS`] of the accept, unless the entry has to make room or `stopping` resolves.
///
/// # Errors
/// When there is none.
pub(super) async fn header(
    entry: &Entry,
    stream: &TcpStream,
    stopping: impl Future<Output = ()>,
) -> Result<Header, NoHeader> {
    tokio::select! {
        biased;
        () = entry.evicted() => Err(NoHeader::Gone),
        // Boxed: few connections have such a header, and all would be as large as this is.
        read = Box::pin(read(stream)) => read,
        () = stopping => Err(NoHeader::Gone),
        () = entry.overstays() => Err(NoHeader::Gone),
        () = sleep_until(entry.accepted() + Duration::from_millis(limits::PROXY_HEADER_MS)) => Err(NoHeader::Late),
    }
}

async fn read(stream: &TcpStream) -> Result<Header, NoHeader> {
    let gone = |_: io::Error| NoHeader::Gone;
    let mut bytes = [0; limits::PROXY_HEADER_BYTES];
    let mut taken = 0;
    loop {
        let seen = taken + stream.peek(&mut bytes[taken..]).await.map_err(gone)?;
        let parsed = parse(&bytes[..seen]).map_err(NoHeader::Wrong)?;
        let end = match parsed {
            Parsed::Complete { length, .. } => length,
            Parsed::Incomplete if seen == taken => return Err(NoHeader::Gone),
            Parsed::Incomplete => seen,
        };
        while taken < end {
            stream.readable().await.map_err(gone)?;
            match stream.try_read(&mut bytes[taken..end]) {
                Ok(0) => return Err(NoHeader::Gone),
                Ok(read) => taken += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(gone(error)),
            }
        }
        if let Parsed::Complete { header, .. } = parsed {
            return Ok(header);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn header_is_taken_and_nothing_else_however_it_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
        for cut in [0, 1, 5, 6, 20, line.len() - 1, line.len()] {
            let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (mut client, mut stream) = (client.expect("it listens"), accepted.expect("one connects").0);
            client.set_nodelay(true).expect("it is a TCP socket");
            let sending = async {
                client.write_all(&line[..cut]).await.expect("it is connected");
                tokio::task::yield_now().await;
                client.write_all(&[&line[cut..], b"rest"].concat()).await.expect("it is connected");
                client.shutdown().await.expect("it is connected");
            };
            let (header, ()) = tokio::join!(read(&stream), sending);
            assert!(matches!(header, Ok(Header::Proxied { .. })), "cut at {cut}: {header:?}");
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.expect("it is not reset");
            assert_eq!(rest, "rest", "cut at {cut}");
        }
    }
}
