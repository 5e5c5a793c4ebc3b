//! Tokens of clients: JSON Web Tokens (RFC 7519) in their compact form, checked against the keys of a local file.
//!
//! A token is verified where it comes in, once; what is left of it is a [`Grant`]. The key decides the algorithm, never the
//! token: it may name the one that its key has, and nothing else. Nothing is fetched from anywhere. Whoever calls says what
//! time it is; no token is ever shown.

use std::{fmt, path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::IgnoredAny};

use self::claims::Claims;
pub use self::{
    grants::{Grant, TopicGrants},
    jwks::{Jwks, JwksError},
};
use crate::limits::TOKEN_BYTES_MAX;

mod claims;
mod grants;
mod jwks;

/// How tokens are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The keys.
    pub keys: Jwks,
    /// The file they were read from, as the configuration names it.
    pub file: PathBuf,
    /// Who must have issued a token (`iss`), if that is said.
    pub issuer: Option<String>,
    /// For whom a token must be (`aud`). If it is not said, a token that is for somebody in particular is not for us.
    pub audience: Option<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It is longer than [`TOKEN_BYTES_MAX`].
    TooLong,
    /// It is no JSON Web Token in compact form, or its header or claims are not as they must be.
    Malformed,
    /// Its header asks for something that is not understood here.
    Critical,
    /// None of the keys has its `kid`, or it has none and there are several keys.
    UnknownKey,
    /// It names another algorithm than its key has.
    Algorithm,
    /// Its signature is not that of its key.
    Signature,
    /// It does not say until when it holds.
    NoExpiry,
    /// It holds no longer.
    Expired,
    /// It does not hold yet.
    NotYet,
    /// Somebody else issued it.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// It does not say which user it is about, or that is no user.
    Subject,
    /// What it says of topics is no list of names and prefixes.
    Topics,
}

/// The header (RFC 7515 section 4.1), as far as it matters here.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl Tokens {
    /// What a token grants at a time, in seconds since 1970.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn verify(&self, token: &[u8], now: u64) -> Result<Grant, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let mut dots = token.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(TokenError::Malformed);
        };
        let header: Header = json(&token[..first])?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let key = self.keys.find(header.kid.as_deref()).ok_or(TokenError::UnknownKey)?;
        if !key.algorithm().is_called(&header.alg) {
            return Err(TokenError::Algorithm);
        }
        let signature = bytes(&token[second + 1..])?;
        if !key.verifies(&token[..second], &signature) {
            return Err(TokenError::Signature);
        }
        let claims: Claims = json(&token[first + 1..second])?;
        claims.grant(self, now)
    }
}

/// Whether a text looks like a token, and not like an API key.
pub fn looks_like_one(text: &[u8]) -> bool {
    text.iter().filter(|byte| **byte == b'.').count() == 2
}

fn bytes(part: &[u8]) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

fn json<T: for<'de> Deserialize<'de>>(part: &[u8]) -> Result<T, TokenError> {
    serde_json::from_slice(&bytes(part)?).map_err(|_| TokenError::Malformed)
}

impl TokenError {
    /// It as a sentence, for whoever sent the token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "the token is too long",
            Self::Malformed => "this is no JSON Web Token in compact form, with the claims there must be",
            Self::Critical => "the token's header has `crit`, and nothing critical is understood here",
            Self::UnknownKey => "the token is signed with a key that is not known here",
            Self::Algorithm => "the token names another algorithm than its key has",
            Self::Signature => "the token's signature is not right",
            Self::NoExpiry => "the token has no `exp`",
            Self::Expired => "the token has expired",
            Self::NotYet => "the token does not hold yet",
            Self::Issuer => "the token is of another issuer",
            Self::Audience => "the token is for another audience",
            Self::Subject => "the token's `sub` is no user: 1 to 128 bytes of text",
            Self::Topics => {
                "the token's `topics` and `publish` are lists of topics, or prefixes with * behind them"
            }
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for TokenError {}

#[cfg(test)]
mod tests;
