//! Fanfare: a WebSocket broadcast engine. Publish once, and every subscriber of the topic has it.
//!
//! The way of one publication, with the names it meets:
//!
//! ```text
//!  http::serve ─► Local::submit ─► Node::submit ─► Admission::admit          credits, first come first served
//!                                        │
//!                                        ▼ Mailboxes::publish                 Ingress::Publish
//!                                  Shard::sequence                            offset and epoch, at the topic's home
//!                                        │
//!                                        ▼ Mailboxes::to_shard                Fanout::Deliver, every interested shard
//!                                  Shard::take                                into the log once, subscribers marked
//!                                        │
//!                                        ▼
//!                                  Shard::flush ─► Transport::offer           one write a subscriber
//! ```
//!
//! [`server::Server`] runs a node with its sockets; [`config::Config`] is what command line, environment and file say
//! it is to be. A program that wants the engine in its own process starts a [`server::Server`] and calls
//! [`node::Node::publish`]:
//!
//! ```
//! use fanfare::{
//!     publication::Message,
//!     server::Server,
//!     settings::Settings,
//!     topic::Topic,
//! };
//!
//! let server = Server::start("127.0.0.1:0".parse()?, Settings::default())?;
//! let publish = server.node().publish(Topic::parse("cats")?, Message::text("are awesome"));
//! let position = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(publish);
//! assert_eq!(position.map(|position| position.offset), Ok(1));
//! server.stop();
//! server.wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The node has threads of its own; only waiting for a publication's place needs a tokio runtime of the caller.
//! [`server::Server::wait`] blocks its thread. `examples/embed.rs` does all of it in an asynchronous program: registers
//! clients without HTTP, publishes to one user, asks for receipts, stops. Who lets others choose the
//! [`settings::Settings`] reads a [`config::Config`].
//!
//! A program that has its own transport drives [`engine::Shard`]s itself: they know neither sockets nor clocks. See
//! [`engine`], and `examples/shards.rs`.
//!
//! Several crates show through: `tokio` in futures and receivers, `bytes` in [`publication::Message`], `clap` in
//! [`config::Cli`].

mod admin;
pub mod admission;
pub mod auth;
mod bounded_file;
pub mod classes;
mod clients;
pub mod config;
mod connection;
pub mod engine;
pub mod gate;
mod http;
pub mod identity;
pub mod limits;
pub mod logging;
pub mod mailbox;
pub mod metrics;
pub mod node;
pub mod peer;
pub mod probe;
pub mod protocol;
pub mod proxy_protocol;
pub mod publication;
pub mod server;
mod session;
pub mod settings;
mod sync;
pub mod systemd;
pub mod tls;
pub mod topic;
pub mod units;
pub mod websocket;
