//! The base contract over real sockets: a server of several shards in this process, and clients that know only the
//! wire.
//!
//! A file per area; the name of a test is what it claims. What cannot be seen from outside (who was closed, and why)
//! is read from the node's metrics. Every wait is for an event and has a deadline; no test measures time.

#![cfg(unix)]

mod support;

mod access;
mod admin;
mod admin_docs;
mod admin_listings;
mod admin_log;
mod admin_metrics;
mod ambiguous_http;
mod audience;
mod batch;
mod batch_stream;
mod binary;
mod configuring;
mod cors;
mod draining;
mod embedding;
mod gate;
mod half_messages;
mod handshake;
mod hostile_frames;
mod http_protocol;
mod idempotency;
#[cfg(target_os = "linux")]
mod installed;
mod keys;
mod limits;
mod liveness;
mod logging;
mod neighbours;
mod overload;
mod panics;
mod plain;
mod proxies;
mod publishers;
mod publishing;
mod publishing_raw;
mod receipts;
mod registering;
mod registration_life;
mod reloading;
mod secrets;
mod several_topics;
mod slow_http;
mod slow_readers;
mod stopping;
mod tls;
mod tls_hostile;
mod tls_memory;
mod tls_messages;
mod tokens;
mod topics;
mod v1;
mod v1_hostile;
mod v1_publishing;
mod v1_resuming;
