//! The keys with which tokens are signed: a JSON Web Key Set (RFC 7517) from a local file.
//!
//! Each key has one algorithm, which it says or which follows from its kind: HS256, RS256, ES256 or EdDSA. A key for something
//! else (`use` is `enc`, another curve) is passed over, because sets of other services hold such; a set without a key that
//! can be used is an error, and so is a private key, which has no business here.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rsa::PublicKeyComponents,
    signature::{ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use serde::{Deserialize, de::IgnoredAny};

use crate::auth::keys::KeyHash;
use crate::limits::{JWKS_KEYS_MAX, TOKEN_SECRET_BYTES_MIN};

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

/// A key that verifies.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    kid: Option<String>,
    material: Material,
}

/// What is needed to verify.
#[derive(Clone, PartialEq, Eq)]
enum Material {
    Secret(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point of P-256.
    Ec(Vec<u8>),
    Ed(Vec<u8>),
}

/// The keys of a set.
#[derive(Clone, PartialEq, Eq)]
pub struct Jwks(Vec<Key>);

/// Why a text is no key set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwksError {
    /// It is not written as one.
    Malformed(String),
    /// It has more than [`JWKS_KEYS_MAX`] keys.
    TooMany,
    /// None of its keys can be used here.
    None,
    /// Something is wrong with one of its keys, the first being 1.
    Key {
        /// Which.
        number: usize,
        /// What.
        why: &'static str,
    },
}

/// A set as it is written.
#[derive(Deserialize)]
struct Set {
    keys: Vec<Written>,
}

/// A key as it is written.
#[derive(Deserialize)]
struct Written {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    k: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// What a private key has.
    d: Option<IgnoredAny>,
}

impl Algorithm {
    /// Whether this is its name in a header. EdDSA with this curve has a name of its own too (RFC 9864).
    pub(super) fn is_called(self, name: &str) -> bool {
        match self {
            Self::Hs256 => name == "HS256",
            Self::Rs256 => name == "RS256",
            Self::Es256 => name == "ES256",
            Self::EdDsa => name == "EdDSA" || name == "Ed25519",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        })
    }
}

impl Key {
    /// What tokens call it.
    pub(crate) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The hash of what it verifies with, to be compared with that of another.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let hash = |parts: &[&[u8]]| KeyHash::of(&parts.concat()).bytes();
        match &self.material {
            Material::Rsa { n, e } => hash(&[n, e]),
            Material::Secret(bytes) | Material::Ec(bytes) | Material::Ed(bytes) => hash(&[bytes]),
        }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Secret(_) => Algorithm::Hs256,
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::Ec(_) => Algorithm::Es256,
            Material::Ed(_) => Algorithm::EdDsa,
        }
    }

    /// Whether `signature` is this key's for `signed`.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Secret(secret) => {
                hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed, signature)
            }
            Material::Rsa { n, e } => {
                PublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
            }
            Material::Ec(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature)
            }
            Material::Ed(point) => UnparsedPublicKey::new(&ED25519, point).verify(signed, signature),
        };
        verified.is_ok()
    }
}

impl Jwks {
    /// Reads a set.
    ///
    /// # Errors
    /// When it is no set with a key that can be used, or there is something wrong with a key.
    pub fn parse(text: &[u8]) -> Result<Self, JwksError> {
        // What serde says of a wrong value may show it, and it may be a secret.
        let malformed = |error: serde_json::Error| {
            JwksError::Malformed(format!("line {}, column {}", error.line(), error.column()))
        };
        let Set { keys: written } = serde_json::from_slice(text).map_err(malformed)?;
        if written.len() > JWKS_KEYS_MAX {
            return Err(JwksError::TooMany);
        }
        let mut keys: Vec<Key> = Vec::new();
        for (number, written) in (1..).zip(written) {
            let wrong = |why| JwksError::Key { number, why };
            let Some(key) = written.key().map_err(wrong)? else { continue };
            if key.kid.is_some() && keys.iter().any(|other| other.kid == key.kid) {
                return Err(wrong("another has the same `kid`"));
            }
            keys.push(key);
        }
        if keys.len() > 1 && keys.iter().any(|key| key.kid.is_none()) {
            return Err(JwksError::Malformed("of several keys each has a `kid`".into()));
        }
        if keys.is_empty() { Err(JwksError::None) } else { Ok(Self(keys)) }
    }

    /// Those that can be used.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// How many can be used.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There is at least one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key a header means: that with its `kid`, or the only one.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&Key> {
        match (kid, &self.0[..]) {
            // A key that has no `kid` cannot be meant by one.
            (Some(kid), keys) => keys.iter().find(|key| key.kid.as_deref() == Some(kid)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }
}

impl Written {
    /// The key, or `None` if it is for something else.
    fn key(self) -> Result<Option<Key>, &'static str> {
        if self.d.is_some() {
            return Err("it is a private key; give the public one");
        }
        let verifies = self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if self.r#use.as_deref().is_some_and(|r#use| r#use != "sig") || !verifies {
            return Ok(None);
        }
        let material = match (&*self.kty, self.crv.as_deref()) {
            ("oct", _) => {
                let secret = decode(self.k.as_deref())?;
                if secret.len() < TOKEN_SECRET_BYTES_MIN {
                    return Err("a secret for HS256 has 32 bytes or more (RFC 7518 section 3.2)");
                }
                Material::Secret(secret)
            }
            ("RSA", _) => {
                let (n, e) = (decode(self.n.as_deref())?, decode(self.e.as_deref())?);
                let n: Vec<u8> = n.into_iter().skip_while(|byte| *byte == 0).collect();
                if !(256..=1_024).contains(&n.len()) {
                    return Err("an RSA key has 2,048 to 8,192 bits");
                }
                Material::Rsa { n, e }
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (decode(self.x.as_deref())?, decode(self.y.as_deref())?);
                if x.len() != 32 || y.len() != 32 {
                    return Err("`x` and `y` of P-256 have 32 bytes");
                }
                Material::Ec([&[4][..], &x, &y].concat())
            }
            ("OKP", Some("Ed25519")) => match decode(self.x.as_deref())? {
                x if x.len() == 32 => Material::Ed(x),
                _ => return Err("`x` of Ed25519 has 32 bytes"),
            },
            _ => return Ok(None),
        };
        let key = Key { kid: self.kid, material };
        let is_for_us = self.alg.is_none_or(|alg| key.algorithm().is_called(&alg));
        Ok(is_for_us.then_some(key))
    }
}

fn decode(text: Option<&str>) -> Result<Vec<u8>, &'static str> {
    let text = text.ok_or("a part is missing that keys of its kind have")?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "a part is no base64url")
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwks({})", self.0.len())
    }
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "this is no JSON Web Key Set ({{\"keys\":[…]}}): {what}"),
            Self::TooMany => write!(f, "there are more than {JWKS_KEYS_MAX} keys"),
            Self::None => f.write_str("there is no key for HS256, RS256, ES256 or EdDSA (Ed25519) in it"),
            Self::Key { number, why } => write!(f, "key {number}: {why}"),
        }
    }
}

impl std::error::Error for JwksError {}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

    fn parse(text: &str) -> Result<Jwks, String> {
        Jwks::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_that_is_for_something_else_is_passed_over() {
        let oct = |more: &str| format!(r#"{{"kty":"oct","kid":"a","k":"{SECRET}"{more}}}"#);
        let set = |more: &str| parse(&format!(r#"{{"keys":[{}]}}"#, oct(more)));
        assert_eq!(set("").map(|keys| keys.len()), Ok(1));
        assert_eq!(
            set(r#","alg":"HS256","use":"sig","key_ops":["sign","verify"]"#).map(|keys| keys.len()),
            Ok(1)
        );
        for other in [r#","alg":"HS512""#, r#","use":"enc""#, r#","key_ops":["sign"]"#, r#","alg":"RS256""#] {
            assert!(set(other).unwrap_err().contains("no key for HS256"), "{other}");
        }
        let curves =
            r#"{"keys":[{"kty":"EC","crv":"P-521","x":"","y":""},{"kty":"OKP","crv":"X25519","x":""}]}"#;
        assert!(parse(curves).unwrap_err().contains("no key for HS256"));
    }

    #[test]
    fn what_is_wrong_with_a_set_is_told_without_showing_it() {
        let one = |key: &str| format!(r#"{{"keys":[{key}]}}"#);
        let oct = format!(r#"{{"kty":"oct","kid":"a","k":"{SECRET}"}}"#);
        let other = format!(r#"{{"kty":"oct","k":"{SECRET}"}}"#);
        for (text, part) in [
            (String::new(), "no JSON Web Key Set"),
            (one(r#"{"kty":"oct","k":["c2VjcmV0"]}"#), "no JSON Web Key Set"),
            (one(r#"{"kty":"oct","k":"c2VjcmV0"}"#), "key 1: a secret for HS256 has 32 bytes or more"),
            (one(r#"{"kty":"oct","k":"c2VjcmV0!"}"#), "key 1: a part is no base64url"),
            (one(r#"{"kty":"RSA","n":"c2VjcmV0","e":"AQAB"}"#), "key 1: an RSA key has 2,048"),
            (one(r#"{"kty":"EC","crv":"P-256","x":"c2VjcmV0","y":"c2VjcmV0"}"#), "key 1: `x` and `y`"),
            (one(r#"{"kty":"EC","crv":"P-256","x":"c2VjcmV0"}"#), "key 1: a part is missing"),
            (
                one(r#"{"kty":"OKP","crv":"Ed25519","x":"c2VjcmV0","d":"c2VjcmV0"}"#),
                "key 1: it is a private key",
            ),
            (one(&format!("{oct},{oct}")), "key 2: another has the same `kid`"),
            (one(&format!("{oct},{other}")), "of several keys each has a `kid`"),
            (one(&vec![&*oct; JWKS_KEYS_MAX + 1].join(",")), "more than 64 keys"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(part) && !error.contains("c2Vj"), "{text:?} says only: {error}");
        }
    }
}
