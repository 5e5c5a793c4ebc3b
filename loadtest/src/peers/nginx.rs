//! nginx with nchan.

use std::fmt::Write as _;

use super::{Kit, Peer, Readiness, Site, Start, Worker};
use crate::dialect::Dialect;
use crate::error::{Context, Result};

pub(super) const PEER: Peer = Peer {
    name: "nginx",
    what: "nginx with nchan, both as Debian packages them, one worker",
    // nchan.io, "Memory Usage" and "nchan_message_buffer_length": without history no message is kept; nginx.org,
    // "worker_connections", "keepalive_requests", "access_log off".
    tuning: "worker_processes 1, no message buffer, access_log off, keepalive unlimited (nginx.org, nchan.io)",
    lacks: "no users; with nchan_message_buffer_length 0 a subscriber is given what comes while it is connected",
    kit: Kit::Debian { packages: &["nginx", "libnginx-mod-nchan"] },
    dialect: Dialect::by_path("/ws/{topic}"),
    readiness: Readiness::Health,
    publishes_apart: false,
    worker: Worker::Child,
    start,
};

/// nchan makes a location of its own, for which nginx creates Debian's folder for bodies below this one, whatever the
/// configuration says. The package would make it when it is installed.
const DEBIAN_FOLDER: &str = "/var/lib/nginx";

fn start(site: &Site<'_>) -> Result<Start> {
    std::fs::create_dir_all(DEBIAN_FOLDER)
        .context(|| format!("nginx with nchan needs {DEBIAN_FOLDER}, which root has to make"))?;
    let configuration = site.scratch.join("nginx.conf");
    let text = configuration_text(site);
    std::fs::write(&configuration, text).context(|| format!("cannot write {}", configuration.display()))?;
    let (scratch, configuration) = (site.scratch.to_string_lossy(), configuration.to_string_lossy());
    let log = site.scratch.join("error.log");
    let arguments = ["-p", &scratch, "-c", &configuration, "-e", &log.to_string_lossy()];
    Ok(Start::new(site.folder.join("usr/sbin/nginx"), &arguments))
}

fn configuration_text(site: &Site<'_>) -> String {
    let module = site.folder.join("usr/lib/nginx/modules/ngx_nchan_module.so");
    let mut text = String::new();
    if rustix::process::geteuid().is_root() {
        // Else the worker could not read what is in the temporary directory.
        text.push_str("user root;\n");
    }
    let mut temporary = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let folder = site.scratch.join(kind);
        let _ = writeln!(temporary, "  {kind}_temp_path {};", folder.display());
    }
    let _ = write!(
        text,
        "load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 1000000;
pid {scratch}/nginx.pid;
error_log {scratch}/error.log error;
events {{
  worker_connections 100000;
  multi_accept on;
}}
http {{
{temporary}  access_log off;
  tcp_nodelay on;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  client_body_buffer_size 4m;
  client_max_body_size 4m;
  nchan_max_reserved_memory 1g;
  server {{
    listen {listen} backlog=1024;
    location = /health {{ return 200; }}
    location ~ ^/ws/(.+)$ {{
      nchan_subscriber websocket;
      nchan_channel_id $1;
      nchan_subscriber_timeout 0;
      nchan_websocket_ping_interval 0;
    }}
    location ~ ^/publish/(.+)$ {{
      nchan_publisher http;
      nchan_channel_id $1;
      nchan_message_buffer_length 0;
    }}
  }}
}}
",
        module = module.display(),
        scratch = site.scratch.display(),
        listen = site.listen,
    );
    text
}
