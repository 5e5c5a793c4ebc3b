//! A user id in JSON: an integer from 0 to 2^64-1, or a string.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::identity::User;

/// Reads a [`User`] from JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserId(pub User);

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UserIdVisitor)
    }
}

struct UserIdVisitor;

impl Visitor<'_> for UserIdVisitor {
    type Value = UserId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a user id, an integer from 0 to 2^64-1 or a string")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<UserId, E> {
        Ok(UserId(User::number(number)))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<UserId, E> {
        let number =
            u64::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))?;
        self.visit_u64(number)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<UserId, E> {
        User::parse(text).map(UserId).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_strings_are_users_and_nothing_else_is() {
        let read = |json: &str| serde_json::from_str::<UserId>(json).map(|id| id.0);
        assert_eq!(read("1").unwrap(), read(r#""1""#).unwrap());
        assert_eq!(read("18446744073709551615").unwrap(), User::number(u64::MAX));
        assert_eq!(read(r#""ann""#).unwrap(), User::parse("ann").unwrap());
        for bad in ["-1", "1.0", "1e3", "18446744073709551616", "null", "true", "[1]", "{}", r#""""#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
