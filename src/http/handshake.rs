//! The TLS handshake of one connection, before anything of HTTP is read.
//!
//! It has its time from the accept on, holds one of the places between accept and first response for as long as any connection may, and makes
//! room like an idle one. Each that fails is counted by why; of a flood of them some are logged.

use std::{io::ErrorKind, net::Shutdown, time::Duration};

use tokio::{
    net::TcpStream,
    time::{timeout, timeout_at},
};

use super::{
    connections::Entry,
    stream::{Secure, Stream},
};
use crate::{
    connection::Local,
    limits::{CLOSE_MS, HTTP_HEAD_BYTES},
    logging::sampled,
    metrics::ShardMetrics,
    protocol::error::{Code, error_json},
    tls::{Certificates, Connection, Failure},
};

/// Why there was no handshake.
#[derive(Debug)]
enum NoHandshake {
    /// It took too long.
    TimedOut,
    /// The connection has to make room, or the node stops.
    GivenUp,
    /// The peer's doing. With the socket.
    Failed(TcpStream, Failure),
}

/// Does the handshake with the certificate in use. `None` when it failed; then everything there is to do about it is
/// done.
pub(super) async fn handshake(
    local: &Local,
    entry: &Entry,
    certificates: &Certificates,
    socket: TcpStream,
) -> Option<Stream> {
    let metrics = local.node().metrics().shard(local.shard());
    match attempt(local, entry, certificates, socket).await {
        Ok(secure) => {
            metrics.tls_handshakes.add(1);
            metrics.tls_resumed.add(secure.is_resumed().into());
            Some(Stream::Secure(Box::new(secure)))
        }
        Err(why) => {
            count(metrics, &why);
            log(&why);
            if let NoHandshake::Failed(socket, failure) = why {
                entry.free_slot();
                tokio::select! {
                    () = entry.evicted() => {}
                    () = local.node().stopping() => {}
                    () = entry.overstays() => {}
                    () = part(socket, &failure) => {}
                }
            }
            None
        }
    }
}

async fn attempt(
    local: &Local,
    entry: &Entry,
    certificates: &Certificates,
    socket: TcpStream,
) -> Result<Secure, NoHandshake> {
    let node = local.node();
    let tls = match Connection::new(certificates.config()) {
        Ok(tls) => Box::new(tls),
        Err(failure) => return Err(NoHandshake::Failed(socket, failure)),
    };
    let handshake = async {
        // What goes wrong here goes wrong again.
        let _ = socket.readable().await;
        entry.begin_tls();
        Secure::accept(socket, tls).await
    };
    tokio::select! {
        biased;
        () = entry.evicted() => Err(NoHandshake::GivenUp),
        done = timeout_at(entry.accepted() + node.settings().tls_handshake_timeout, handshake) => match done {
            Ok(accepted) => accepted.map_err(|(socket, failure)| NoHandshake::Failed(socket, failure)),
            Err(_) => Err(NoHandshake::TimedOut),
        },
        () = node.stopping() => Err(NoHandshake::GivenUp),
        () = entry.overstays() => Err(NoHandshake::TimedOut),
    }
}

fn count(metrics: &ShardMetrics, why: &NoHandshake) {
    let value = match why {
        NoHandshake::TimedOut => &metrics.tls_failed_timeout,
        NoHandshake::GivenUp => &metrics.tls_failed_gone,
        NoHandshake::Failed(_, Failure::PlainHttp) => &metrics.tls_failed_plain,
        NoHandshake::Failed(_, Failure::TooLong | Failure::Protocol(_)) => &metrics.tls_failed_protocol,
        NoHandshake::Failed(_, Failure::Truncated | Failure::Io(_)) => &metrics.tls_failed_gone,
    };
    value.add(1);
}

fn log(why: &NoHandshake) {
    match why {
        NoHandshake::TimedOut => sampled!(INFO, "a TLS handshake took too long"),
        NoHandshake::GivenUp => sampled!(DEBUG, "a TLS handshake was given up"),
        NoHandshake::Failed(_, failure) => sampled!(INFO, %failure, "a TLS handshake failed"),
    }
}

/// Ends a connection so that what was said last is not lost to a reset: an alert, or, to who speaks HTTP without TLS, what
/// to do.
async fn part(socket: TcpStream, failure: &Failure) {
    let part = async {
        if matches!(failure, Failure::PlainHttp) {
            // It is small, and the first: it fits.
            let _ = socket.writable().await.and_then(|()| socket.try_write(refusal().as_bytes()));
        }
        let _ = socket2::SockRef::from(&socket).shutdown(Shutdown::Write);
        let mut left = HTTP_HEAD_BYTES;
        while socket.readable().await.is_ok() {
            match socket.try_read(&mut [0; 2 * 1024]) {
                Ok(read) if read > 0 && read < left => left -= read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    };
    let _ = timeout(Duration::from_millis(CLOSE_MS), part).await;
}

/// What who speaks HTTP without TLS is answered.
fn refusal() -> String {
    let body = error_json(Code::BadRequest, "this port speaks TLS: use https:// and wss://");
    let length = body.len();
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}
