//! Where each option in force came from, so that a complaint names what its reader can change.

use std::{collections::HashMap, fmt};

use super::{
    ConfigError,
    checks::Refused,
    cli::{self, Described, Given},
    error::Place,
    file::File,
};

/// Where an option's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Its flag.
    Flag,
    /// Its environment variable.
    Variable,
    /// The configuration file.
    File(Place),
    /// Nobody gave it.
    Default,
}

/// Where the options came from.
#[derive(Clone, Debug)]
pub(super) struct Origins {
    /// All options that were given, by id.
    given: HashMap<String, Origin>,
}

impl Origins {
    /// Of those given on the command line and in the environment, and of those in the file.
    pub(super) fn new(given: Vec<(String, Given)>, file: Option<&File>) -> Self {
        let in_file = |option: Described| {
            let place = file?.place_of(&[&option.table, &option.id])?;
            Some((option.id, Origin::File(place)))
        };
        let mut all: HashMap<_, _> = cli::described().into_iter().filter_map(in_file).collect();
        all.extend(given.into_iter().map(|(id, given)| match given {
            Given::Flag => (id, Origin::Flag),
            Given::Variable => (id, Origin::Variable),
        }));
        Self { given: all }
    }

    /// Where an option came from.
    pub(super) fn of(&self, id: &str) -> Origin {
        self.given.get(id).cloned().unwrap_or(Origin::Default)
    }

    /// Says where the refused value stands.
    pub(super) fn tell(&self, refused: Refused) -> ConfigError {
        let Refused { option: id, value, mut allowed } = refused;
        let (place, name) = match self.of(id) {
            Origin::Flag => (None, flag(id)),
            Origin::Variable => (None, variable(id)),
            Origin::File(place) => (Some(place), key(id)),
            Origin::Default => {
                allowed.push_str("; the value is the default");
                (None, flag(id))
            }
        };
        ConfigError::NotAllowed { place, name, value, allowed }
    }
}

impl Origin {
    /// A word or two about it, for the option `id`.
    pub(super) fn of_option(&self, id: &str) -> impl fmt::Display {
        match self {
            Self::Flag => flag(id),
            Self::Variable => variable(id),
            Self::File(place) => format!("line {}", place.line),
            Self::Default => "default".to_owned(),
        }
    }
}

pub(super) fn flag(id: &str) -> String {
    format!("--{}", id.replace('_', "-"))
}

fn variable(id: &str) -> String {
    format!("FANFARE_{}", id.to_ascii_uppercase())
}

/// The option's table and key in a file.
fn key(id: &str) -> String {
    let table = cli::described().into_iter().find(|option| option.id == id).map(|option| option.table);
    format!("{}.{id}", table.unwrap_or_default())
}
