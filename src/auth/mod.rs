//! Who may do what: API keys of those who call, tokens of clients, and the origins of pages that may open sockets.
//!
//! Plain data, made once by the configuration from checked values and handed out with the settings. Whoever serves a
//! request asks it; nothing here knows HTTP, sockets or a clock. Nothing secret is ever shown by a `Debug` of it.

pub mod decision;
pub mod keys;
pub mod origins;
pub mod tokens;

pub use self::{
    decision::{Decision, Needs, Proved},
    keys::{ApiKey, KeyHash, Keys, Scope, Scopes},
    origins::PageOrigins,
    tokens::{Grant, TokenError, Tokens},
};

/// Whether somebody who proves nothing is let in: may connect without registering, and call what the rules of a topic leave to
/// everyone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Anonymous {
    /// As long as nothing is configured by which one could prove anything.
    #[default]
    Auto,
    /// Yes.
    Allow,
    /// No.
    Refuse,
}
