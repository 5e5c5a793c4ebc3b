//! What a token claims, and what that comes to at a time.

use serde::Deserialize;

use super::{Grant, TokenError, Tokens, TopicGrants};
use crate::identity::User;

/// The claims that matter here; others are passed over.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: Option<String>,
    /// Seconds since 1970, perhaps with a fraction (RFC 7519 section 2, `NumericDate`).
    exp: Option<f64>,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
    #[serde(default)]
    topics: Option<Vec<String>>,
    #[serde(default)]
    publish: Option<Vec<String>>,
}

/// One or several for whom a token is.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// No token holds longer than this from now on, seconds: what is later is as good as for ever, and can be counted with.
const LONGEST: u64 = 100 * 365 * 24 * 3_600;

impl Claims {
    /// What they grant, if they hold.
    pub(super) fn grant(self, tokens: &Tokens, now: u64) -> Result<Grant, TokenError> {
        let leeway = tokens.leeway.as_secs();
        let expires = seconds(self.exp.ok_or(TokenError::NoExpiry)?)?.saturating_add(leeway);
        if expires <= now {
            return Err(TokenError::Expired);
        }
        if let Some(nbf) = self.nbf
            && seconds(nbf)? > now.saturating_add(leeway)
        {
            return Err(TokenError::NotYet);
        }
        if tokens.issuer.is_some() && tokens.issuer != self.iss {
            return Err(TokenError::Issuer);
        }
        let is_for_us = match (&tokens.audience, &self.aud) {
            // RFC 7519 section 4.1.3: who is not among those it is for must not take it.
            (None, aud) => aud.is_none(),
            (Some(_), None) => false,
            (Some(us), Some(Audience::One(one))) => us == one,
            (Some(us), Some(Audience::Several(several))) => several.contains(us),
        };
        if !is_for_us {
            return Err(TokenError::Audience);
        }
        let subject = self.sub.ok_or(TokenError::Subject)?;
        let grants = |list: Option<Vec<String>>| match list {
            Some(list) => TopicGrants::new(list).ok_or(TokenError::Topics).map(Some),
            None => Ok(None),
        };
        Ok(Grant {
            user: User::parse(&subject).map_err(|_| TokenError::Subject)?,
            expires: expires.min(now.saturating_add(LONGEST)),
            subscribe: grants(self.topics)?,
            publish: grants(self.publish)?,
        })
    }
}

/// Whole seconds of a date.
fn seconds(date: f64) -> Result<u64, TokenError> {
    // What is too large for a number of seconds becomes the largest.
    if date >= 0.0 { Ok(date as u64) } else { Err(TokenError::Malformed) }
}
