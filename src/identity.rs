//! Who a client is: `ClientId`, the secret in its URL, and `User`, to whom many clients may belong.
//!
//! Both are parsed once at the edge. A client id is a secret: its `Debug` shows only enough to tell two apart.

use std::{fmt, str::FromStr, sync::Arc};

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

/// A user. The number `1` and the text `"1"` are the same user: there is one way to keep each.
///
/// ```
/// use fanfare::identity::User;
///
/// assert_eq!(User::parse("1")?, User::number(1));
/// assert_ne!(User::parse("01")?, User::number(1));
/// # Ok::<(), fanfare::identity::UserError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct User(Kept);

/// How a user is kept.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Kept {
    /// Whoever a number in its shortest form names.
    Number(u64),
    /// Anybody else. It is no number in its shortest form.
    Name(Arc<str>),
}

/// How a user is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling<'a> {
    /// As a number, which a text in decimal can stand for as well.
    Number(u64),
    /// As a text, which stands for no number.
    Name(&'a str),
}

/// Why a text is no user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserError;

impl User {
    /// The user whom a number names.
    pub const fn number(number: u64) -> Self {
        Self(Kept::Number(number))
    }

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
            Ok(number) if canonical => Ok(Self::number(number)),
            _ => Ok(Self(Kept::Name(text.into()))),
        }
    }

    /// How it is written.
    pub fn spelling(&self) -> Spelling<'_> {
        match &self.0 {
            Kept::Number(number) => Spelling::Number(*number),
            Kept::Name(name) => Spelling::Name(name),
        }
    }
}

impl From<u64> for User {
    fn from(number: u64) -> Self {
        Self::number(number)
    }
}

impl FromStr for User {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        Self::parse(text)
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
        assert_eq!(User::parse("1").unwrap(), User::number(1));
        assert_eq!(User::parse("0").unwrap(), User::number(0));
        assert_eq!(User::parse("18446744073709551615").unwrap(), User::number(u64::MAX));
        for other in ["01", "+1", "-1", "1.0", " 1", "18446744073709551616", "one"] {
            assert_eq!(User::parse(other).unwrap().spelling(), Spelling::Name(other), "{other}");
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
