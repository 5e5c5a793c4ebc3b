//! API keys: named secrets with scopes, of which only hashes are kept.
//!
//! A key is found by its SHA-256. Keys are long and random ([`generate`]), so the hash needs neither salt nor effort, and who
//! reads it cannot call. Hashes are compared in constant time, each with every key there is, so that neither how near a
//! guess came nor which key it was can be measured.

use std::{borrow::Cow, fmt, path::PathBuf, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest::{SHA256, SHA256_OUTPUT_LEN, digest},
    rand::{SecureRandom, SystemRandom},
};
use serde::Deserialize;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::limits::{API_KEY_BYTES_MAX, API_KEY_BYTES_MIN};

/// What every generated key begins with, so that it is recognised where it should not be.
const PREFIX: &str = "ffk_";
/// What a written hash begins with.
const HASH_PREFIX: &str = "sha256:";

/// Something a key lets its holder do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Scope {
    /// Register clients.
    Register = 1,
    /// Publish.
    Publish = 2,
    /// Look at everything, and operate the node.
    Admin = 4,
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

/// The SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u8; SHA256_OUTPUT_LEN]);

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// What it is called in the configuration and in the log.
    pub name: Arc<str>,
    /// What it lets its holder do.
    pub scopes: Scopes,
    /// Its hash.
    pub hash: KeyHash,
    /// The file it was read from, if the configuration names one and not the hash.
    pub file: Option<PathBuf>,
}

/// The keys of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<ApiKey>);

impl Scope {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Register, Self::Publish, Self::Admin];

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Publish => "publish",
            Self::Admin => "admin",
        }
    }
}

impl Scopes {
    /// Whether `scope` is among them.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope as u8 != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those there are.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |all, scope| all | scope as u8))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Scope::as_str).collect();
        f.write_str(&names.join(", "))
    }
}

impl KeyHash {
    /// Of a key.
    pub fn of(key: &[u8]) -> Self {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, key).as_ref());
        Self(hash)
    }

    /// The hash.
    pub(crate) fn bytes(self) -> [u8; SHA256_OUTPUT_LEN] {
        self.0
    }

    /// Reads `sha256:` and 64 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(HASH_PREFIX)?.as_bytes();
        let mut hash = [0; SHA256_OUTPUT_LEN];
        if digits.len() != 2 * hash.len() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            *byte = u8::try_from(16 * digit(pair[0])? + digit(pair[1])?).ok()?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HASH_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash")
    }
}

impl Keys {
    /// These keys; their names and hashes differ.
    pub fn new(keys: Vec<ApiKey>) -> Self {
        debug_assert!(keys.iter().enumerate().all(|(at, key)| {
            keys[..at].iter().all(|other| other.name != key.name && other.hash != key.hash)
        }));
        Self(keys)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any of them is for this.
    pub fn any_for(&self, scope: Scope) -> bool {
        self.0.iter().any(|key| key.scopes.has(scope))
    }

    /// All there are.
    pub fn iter(&self) -> impl Iterator<Item = &ApiKey> {
        self.0.iter()
    }

    /// The key that was presented, if it is one of these.
    pub fn find(&self, presented: &[u8]) -> Option<&ApiKey> {
        if presented.len() > API_KEY_BYTES_MAX {
            return None;
        }
        let hash = KeyHash::of(presented);
        let (mut found, mut at) = (Choice::from(0), 0_u32);
        for (number, key) in (0..).zip(&self.0) {
            let is_it = key.hash.0.ct_eq(&hash.0);
            at.conditional_assign(&number, is_it);
            found |= is_it;
        }
        bool::from(found).then(|| &self.0[at as usize])
    }
}

/// Whether a text can be a key: so long, and of characters that a header takes as they are.
pub fn is_usable(key: &str) -> bool {
    (API_KEY_BYTES_MIN..=API_KEY_BYTES_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a generated key stands somewhere in a text.
pub(crate) fn holds_one(text: &str) -> bool {
    text.contains(PREFIX)
}

/// A text with the generated keys in it left out, as far as they can be recognised.
pub(crate) fn without_keys(text: &str) -> Cow<'_, str> {
    if !holds_one(text) {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split(PREFIX);
    let mut without = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest =
            part.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter));
        without.push_str(PREFIX);
        without.push('…');
        without.push_str(rest);
    }
    Cow::Owned(without)
}

/// A new key: 32 bytes of the system's randomness, written so that it fits in headers, URLs and files. `None` if the
/// system has none to give.
pub fn generate() -> Option<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, secret: &str, scopes: &[Scope]) -> ApiKey {
        let scopes = scopes.iter().copied().collect();
        ApiKey { name: name.into(), scopes, hash: KeyHash::of(secret.as_bytes()), file: None }
    }

    #[test]
    fn a_key_is_found_by_what_it_is_and_by_nothing_else() {
        let keys = Keys::new(vec![
            key("backend", "one-long-secret-of-a-key", &[Scope::Register, Scope::Publish]),
            key("ops", "another-long-secret-of-it", &[Scope::Admin]),
        ]);
        let found = keys.find(b"one-long-secret-of-a-key").expect("it is there");
        assert_eq!((&*found.name, found.scopes.to_string().as_str()), ("backend", "register, publish"));
        assert!(found.scopes.has(Scope::Publish) && !found.scopes.has(Scope::Admin));
        assert_eq!(&*keys.find(b"another-long-secret-of-it").expect("it is there").name, "ops");
        for other in ["", "one-long-secret-of-a-ke", "one-long-secret-of-a-keyy", "ops", "backend"] {
            assert_eq!(keys.find(other.as_bytes()), None, "{other:?}");
        }
        assert_eq!(keys.find(&[b'a'; API_KEY_BYTES_MAX + 1]), None);
        assert_eq!(Keys::default().find(b"one-long-secret-of-a-key"), None);
    }

    #[test]
    fn a_hash_is_that_of_sha256sum_and_is_read_as_it_is_written() {
        let hash = KeyHash::of(b"abc");
        let written = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), written);
        assert_eq!(KeyHash::parse(written), Some(hash));
        assert_eq!(KeyHash::parse(&written.to_uppercase().replace("SHA256", "sha256")), Some(hash));
        for wrong in
            ["", "sha256:", &written[7..], &written[..70], &format!("{written}0"), &written.replace('b', "g")]
        {
            assert_eq!(KeyHash::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn generated_keys_are_usable_and_differ() {
        let [one, other] = [generate(), generate()].map(|key| key.expect("there is randomness"));
        assert!(one.starts_with(PREFIX) && one != other);
        assert!(is_usable(&one) && one.len() == PREFIX.len() + 43);
        assert!(
            !is_usable("short")
                && !is_usable("with a space in it, and long")
                && !is_usable("längst-genug-lang")
        );
    }

    #[test]
    fn nothing_secret_is_shown_by_debug() {
        let key = key("ops", "another-long-secret-of-it", &[Scope::Admin]);
        let digits = key.hash.to_string();
        let shown = format!("{:?}", Keys::new(vec![key]));
        assert!(!shown.contains(&digits[7..20]) && shown.contains("ops"), "{shown}");
    }
}
