//! Who a client is: `ClientId`, the secret in its URL, and `User`, to whom many clients may belong.
//!
//! Both are parsed once at the edge. A client id is a secret: its `Debug` shows only enough to tell two apart.

use std::{fmt, sync::Arc};

use crate::limits::USER_BYTES_MAX;

/// The id of a registered client: a UUID v4, written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(uuid::Uuid);

impl ClientId {
    /// A fresh random id.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4())
    }

    /// Reads an id: exactly 32 hex digits, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 32).then(|| uuid::Uuid::try_parse(text).ok().map(Self)).flatten()
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({:04x}…)", self.0.as_u128() >> 112)
    }
}

/// A user. The number `1` and the text `"1"` are the same user.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum User {
    /// A canonical decimal number that fits.
    Number(u64),
    /// Any other text.
    Name(Arc<str>),
}

/// Why a text is no user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserError;

impl User {
    /// Reads a user id given as a string of 1 to 128 bytes.
    ///
    /// # Errors
    /// When it is empty or too long.
    pub fn parse(text: &str) -> Result<Self, UserError> {
        if text.is_empty() || text.len() > USER_BYTES_MAX {
            return Err(UserError);
        }
        let canonical = text == "0" || (!text.starts_with(['0', '+']));
        match text.parse() {
            Ok(number) if canonical => Ok(Self::Number(number)),
            _ => Ok(Self::Name(text.into())),
        }
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a user id is an integer from 0 to 2^64-1 or a string of 1 to {USER_BYTES_MAX} bytes")
    }
}

impl std::error::Error for UserError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_its_text_are_one_user() {
        assert_eq!(User::parse("1").unwrap(), User::Number(1));
        assert_eq!(User::parse("0").unwrap(), User::Number(0));
        assert_eq!(User::parse("18446744073709551615").unwrap(), User::Number(u64::MAX));
        for other in ["01", "+1", "-1", "1.0", " 1", "18446744073709551616", "one"] {
            assert_eq!(User::parse(other).unwrap(), User::Name(other.into()), "{other}");
        }
    }

    #[test]
    fn user_length_is_bounded() {
        assert_eq!(User::parse(""), Err(UserError));
        assert!(User::parse(&"u".repeat(USER_BYTES_MAX)).is_ok());
        assert_eq!(User::parse(&"u".repeat(USER_BYTES_MAX + 1)), Err(UserError));
    }

    #[test]
    fn client_id_is_32_hex_digits_and_nothing_else() {
        let id = ClientId::random();
        assert_eq!(ClientId::parse(&id.to_string()), Some(id));
        assert_eq!(ClientId::parse(&id.to_string().to_uppercase()), Some(id));
        for bad in ["", "x", &id.to_string()[1..], &format!("{id}0"), "67e55044-10b1-426f-9247-bb680e5fe0c8"]
        {
            assert_eq!(ClientId::parse(bad), None, "{bad}");
        }
        assert!(!format!("{id:?}").contains(&id.to_string()), "Debug must not show the secret");
    }
}
