//! What a publication may have besides its topics and its message: for whom, what about, published once or again.
//!
//! A publish object has them as fields; [`publish_body`](super::publish_body) reads those. A publish whose body is the
//! message has them as parameters of the query; `http` takes the query apart, [`PublishOptions::set`] reads each.

use std::fmt;

use crate::{
    identity::{ClientId, User},
    publication::{Audience, IdempotencyKey, MessageKey},
};

/// The options of one publication; none unless they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishOptions {
    /// Whom it is meant for: `user_id` and `exclude`.
    pub audience: Audience,
    /// What it is about, for topics that conflate.
    pub key: Option<MessageKey>,
    /// What its publisher calls it.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Whether its publisher asked to be told what became of it.
    pub receipt: Option<bool>,
}

/// Why an option was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishOptionError {
    /// It does not exist; this is how its name begins.
    Unknown(String),
    /// It was given before.
    Repeated(&'static str),
    /// Its value is none that it can have; the sentence says which it can.
    Malformed(String),
}

/// How much of an unknown name an error shows, characters.
const SHOWN: usize = 40;

impl PublishOptions {
    /// Takes an option by name, its value as text. Names are those of the fields of a publish object.
    ///
    /// An option that is not known is refused: to pass over a misspelt `user_id` would publish to everyone.
    ///
    /// ```
    /// use fanfare::{identity::User, protocol::publish_options::PublishOptions};
    ///
    /// let mut options = PublishOptions::default();
    /// options.set("user_id", "7")?;
    /// options.set("receipt", "true")?;
    /// assert_eq!(options.audience.user, Some(User::number(7)));
    /// assert_eq!(options.receipt, Some(true));
    /// assert!(options.set("user", "7").is_err());
    /// # Ok::<(), fanfare::protocol::publish_options::PublishOptionError>(())
    /// ```
    ///
    /// # Errors
    /// When there is no such option, it has been set, or it cannot have this value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), PublishOptionError> {
        let (name, is_first) = match name {
            "user_id" => {
                let user = User::parse(value).map_err(malformed)?;
                ("user_id", self.audience.user.replace(user).is_none())
            }
            "exclude" => ("exclude", self.audience.exclude.replace(client(value)?).is_none()),
            "key" => {
                let key = MessageKey::parse(value).map_err(malformed)?;
                ("key", self.key.replace(key).is_none())
            }
            "idempotency_key" => {
                let key = IdempotencyKey::parse(value).map_err(malformed)?;
                ("idempotency_key", self.idempotency_key.replace(key).is_none())
            }
            "receipt" => {
                let wanted = value.parse().map_err(|_| malformed("`receipt` is true or false"))?;
                ("receipt", self.receipt.replace(wanted).is_none())
            }
            _ => return Err(PublishOptionError::Unknown(name.chars().take(SHOWN).collect())),
        };
        if is_first { Ok(()) } else { Err(PublishOptionError::Repeated(name)) }
    }
}

/// Reads the client that is left out.
pub(crate) fn client(text: &str) -> Result<ClientId, PublishOptionError> {
    ClientId::parse(text).ok_or_else(|| malformed("`exclude` is a client id, 32 hex digits"))
}

fn malformed(why: impl fmt::Display) -> PublishOptionError {
    PublishOptionError::Malformed(why.to_string())
}

impl fmt::Display for PublishOptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(
                f,
                "{name:?} is no parameter; there are `user_id`, `exclude`, `key`, `idempotency_key` and `receipt`"
            ),
            Self::Repeated(name) => write!(f, "`{name}` is given more than once"),
            Self::Malformed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for PublishOptionError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_by_name() {
        let id = ClientId::random();
        let mut options = PublishOptions::default();
        for (name, value) in [
            ("exclude", &*id.to_string()),
            ("user_id", "a b"),
            ("key", "EUR/USD"),
            ("idempotency_key", "7f"),
            ("receipt", "false"),
        ] {
            options.set(name, value).expect(name);
            let error = options.clone().set(name, value).unwrap_err();
            assert!(matches!(error, PublishOptionError::Repeated(again) if again == name), "{error}");
        }
        let wanted = PublishOptions {
            audience: Audience { user: Some(User::parse("a b").unwrap()), exclude: Some(id) },
            key: Some(MessageKey::parse("EUR/USD").unwrap()),
            idempotency_key: Some(IdempotencyKey::parse("7f").unwrap()),
            receipt: Some(false),
        };
        assert_eq!(options, wanted);
    }

    #[test]
    fn what_is_unknown_or_has_no_such_value_is_refused() {
        let set = |name: &str, value: &str| PublishOptions::default().set(name, value).unwrap_err();
        for name in ["", "user", "USER_ID", "topic", "message", "data", &"x".repeat(10_000)] {
            let error = set(name, "1");
            assert!(matches!(error, PublishOptionError::Unknown(_)), "{name}");
            assert!(error.to_string().len() < 200);
        }
        let long = "x".repeat(129);
        for (name, value) in [
            ("user_id", ""),
            ("user_id", &*long),
            ("exclude", "x"),
            ("key", ""),
            ("key", &*long),
            ("idempotency_key", ""),
            ("idempotency_key", &*long),
            ("receipt", ""),
            ("receipt", "1"),
            ("receipt", "TRUE"),
        ] {
            assert!(matches!(set(name, value), PublishOptionError::Malformed(_)), "{name}={value}");
        }
    }
}
