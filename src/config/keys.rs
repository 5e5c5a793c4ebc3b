//! The tables `[[keys]]`, and how they become [`Keys`].
//!
//! A key itself never stands in the configuration, which is printed, copied and put under version control: there is its
//! hash, or the name of a file that holds it and nothing else. That file is read here, at start and at each reload.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, checks::Refused, file::File};
use crate::{
    auth::{
        ApiKey, KeyHash, Keys, Scope,
        keys::{holds_one, is_usable},
    },
    bounded_file, limits,
};

/// `[[keys]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with name, scopes, and hash or key_file")]
pub(super) struct KeyTable {
    name: Spanned<String>,
    scopes: Spanned<Vec<Scope>>,
    hash: Option<Spanned<String>>,
    key_file: Option<Spanned<String>>,
}

/// The keys of a file.
pub(super) fn checked(file: &File) -> Result<Keys, ConfigError> {
    let mut keys: Vec<ApiKey> = Vec::with_capacity(file.keys.len());
    for table in &file.keys {
        if keys.len() == limits::API_KEYS_MAX {
            return Err(malformed(file, table, &format!("there are more than {}", limits::API_KEYS_MAX)));
        }
        let key = Checked { file, table }.key()?;
        if keys.iter().any(|other| other.name == key.name) {
            return Err(malformed(file, table, &format!("there are two named {:?}", key.name)));
        }
        if let Some(other) = keys.iter().find(|other| other.hash == key.hash) {
            return Err(malformed(file, table, &format!("it is the same key as that of {:?}", other.name)));
        }
        keys.push(key);
    }
    Ok(Keys::new(keys))
}

/// One table of a file, being checked.
struct Checked<'a> {
    file: &'a File,
    table: &'a Spanned<KeyTable>,
}

impl Checked<'_> {
    fn key(&self) -> Result<ApiKey, ConfigError> {
        let KeyTable { name, scopes, hash, key_file } = self.table.get_ref();
        let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        let most = limits::API_KEY_NAME_BYTES_MAX;
        if !(1..=most).contains(&name.get_ref().len()) || !name.get_ref().chars().all(is_allowed) {
            let allowed = format!("the name of a key is 1 to {most} of a-z, A-Z, 0-9, -, _ and .");
            return Err(self.refuse(name, allowed));
        }
        if holds_one(name.get_ref()) {
            let allowed = "the name of a key is told in logs, so it is not the key";
            return Err(self.refuse_secret(name, "name", allowed));
        }
        if scopes.get_ref().is_empty() {
            return Err(malformed(self.file, self.table, "it has no scopes: register, publish, admin"));
        }
        let (hash, file) = match (hash, key_file) {
            (Some(hash), None) => {
                let allowed = "sha256: and 64 hex digits, as `fanfare key` prints them".to_owned();
                let parsed = KeyHash::parse(hash.get_ref());
                (parsed.ok_or_else(|| self.refuse_secret(hash, "hash", &allowed))?, None)
            }
            (None, Some(path)) => {
                let read = self.read(path.get_ref());
                (
                    read.map_err(|why| self.refuse_secret(path, "key_file", &why))?,
                    Some(PathBuf::from(path.get_ref())),
                )
            }
            _ => return Err(malformed(self.file, self.table, "it has either hash or key_file")),
        };
        let scopes = scopes.get_ref().iter().copied().collect();
        Ok(ApiKey { name: name.get_ref().as_str().into(), scopes, hash, file })
    }

    /// The hash of the key in a file, which is looked for beside the configuration.
    fn read(&self, path: &str) -> Result<KeyHash, String> {
        let path = beside(&self.file.path, path);
        let text = bounded_file::read_text(&path, limits::API_KEY_BYTES_MAX + 2)
            .map_err(|why| format!("the key cannot be read: {why}"))?;
        let key = text.trim_end_matches(['\r', '\n']);
        if !is_usable(key) {
            let (least, most) = (limits::API_KEY_BYTES_MIN, limits::API_KEY_BYTES_MAX);
            return Err(format!(
                "the file holds a key and nothing else: {least} to {most} printable characters"
            ));
        }
        Ok(KeyHash::of(key.as_bytes()))
    }

    fn refuse(&self, name: &Spanned<String>, allowed: String) -> ConfigError {
        self.file.tell(name.span(), "keys.name".to_owned(), Refused::new("name", name.get_ref(), allowed))
    }

    /// Refuses what stands where a key may have been put.
    fn refuse_secret(&self, at: &Spanned<String>, key: &'static str, allowed: &str) -> ConfigError {
        let refused = Refused::secret(key, at.get_ref(), allowed);
        self.file.tell(at.span(), format!("keys.{key}"), refused)
    }
}

/// A path as a configuration file names it: beside that file, if it is not absolute.
pub(super) fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

fn malformed(file: &File, table: &Spanned<KeyTable>, what: &str) -> ConfigError {
    ConfigError::Malformed { place: file.place(table.span()), what: format!("[[keys]]: {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn keys(text: &str) -> Result<Keys, String> {
        let file = File::parse("f.toml".into(), text.to_owned()).map_err(|error| error.to_string())?;
        checked(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_has_a_name_scopes_and_a_hash() {
        let text = format!("[[keys]]\nname = 'a.b'\nscopes = ['publish', 'admin']\nhash = '{HASH}'\n");
        let keys = keys(&text).expect("it is right");
        let key = keys.find(b"abc").expect("it is found by what was hashed");
        assert_eq!((&*key.name, key.scopes.to_string().as_str()), ("a.b", "publish, admin"));
    }

    #[test]
    fn what_is_not_right_is_told_with_its_line_and_without_the_key() {
        let other = HASH.replace("ba78", "ba79");
        let two = |name: &str, hash: &str| {
            format!(
                "[[keys]]\nname='a'\nscopes=['admin']\nhash='{HASH}'\n\
                 [[keys]]\nname='{name}'\nscopes=['admin']\nhash='{hash}'"
            )
        };
        for (text, part) in [
            (
                "[[keys]]\nname = 'a'\nscopes = ['admin']".to_owned(),
                "f.toml:1: [[keys]]: it has either hash or",
            ),
            (
                format!("[[keys]]\nname='a'\nscopes=['admin']\nhash='{HASH}'\nkey_file='x'"),
                "f.toml:1: [[keys]]: it has either hash or",
            ),
            ("[[keys]]\nname='a'\nscopes=[]\nhash='x'".into(), "f.toml:1: [[keys]]: it has no scopes"),
            ("[[keys]]\nname='a'\nscopes=['root']".into(), "f.toml:3: keys.scopes: unknown variant `root`"),
            (
                "[[keys]]\nname='a'\nscopes=['admin']\nhash='x'".into(),
                "f.toml:4: keys.hash: sha256: and 64 hex digits, as",
            ),
            (
                "[[keys]]\nname='a b'\nscopes=['admin']\nhash='x'".into(),
                "f.toml:2: keys.name: invalid value 'a b'",
            ),
            (
                "[[keys]]\nname='a'\nscopes=['admin']\nkey='secret'".into(),
                "f.toml:4: keys.key: unknown field `key`, expected one of `name`, `scopes`, `hash`, `key_file`",
            ),
            (
                "[[keys]]\nname='a'\nscopes=['admin']\nkey_file='none/there'".into(),
                "f.toml:4: keys.key_file: the key cannot be read",
            ),
            (
                "[[keys]]\nname='a'\nscopes=['admin']\nhash='sha256:ffk_secret'".into(),
                "f.toml:4: keys.hash: this is a key itself",
            ),
            (
                "[[keys]]\nname='a'\nscopes=['admin']\nkey_file='ffk_secret'".into(),
                "f.toml:4: keys.key_file: this is a key itself",
            ),
            (
                "[[keys]]\nname='ffk_secret'\nscopes=['admin']\nhash='x'".into(),
                "f.toml:2: keys.name: this is a key itself",
            ),
            (
                "[[keys]]\nname='a'\nscopes=['ffk_secret']\nhash='x'".into(),
                "f.toml:3: keys.scopes: unknown variant `ffk_…`",
            ),
            (two("a", &other), "f.toml:5: [[keys]]: there are two named \"a\""),
            (two("b", HASH), "f.toml:5: [[keys]]: it is the same key as that of \"a\""),
        ] {
            let error = keys(&text).expect_err(&text);
            assert!(error.contains(part) && !error.contains("secret"), "{text:?} says only: {error}");
        }
    }

    #[test]
    fn keys_are_bounded() {
        let text: String = (0..=limits::API_KEYS_MAX)
            .map(|n| format!("[[keys]]\nname='k{n}'\nscopes=['admin']\nhash='sha256:{n:064x}'\n"))
            .collect();
        let error = keys(&text).unwrap_err();
        assert_eq!(error, "f.toml:1025: [[keys]]: there are more than 256");
    }
}
