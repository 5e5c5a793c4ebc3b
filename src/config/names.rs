//! A list of texts as an option has it: in a file a list, separated by commas elsewhere. Nobody has looked at them yet.

use std::{convert::Infallible, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Names of topics, or other texts, not looked at yet: a list in a file, separated by commas elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct Names(pub(super) Vec<String>);

impl FromStr for Names {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        Ok(Self(text.split(',').map(|name| name.trim().to_owned()).collect()))
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}
