//! Fanfare: a WebSocket broadcast engine. Publish once, and every subscriber of the topic has it.

pub mod admission;
pub mod clients;
pub mod config;
pub mod connection;
pub mod engine;
pub mod http;
pub mod identity;
pub mod limits;
pub mod mailbox;
pub mod metrics;
pub mod node;
pub mod protocol;
pub mod publication;
pub mod server;
mod session;
pub mod settings;
mod sync;
pub mod topic;
pub mod units;
pub mod websocket;
