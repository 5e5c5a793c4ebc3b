//! Variables of the environment that begin like options and are none.
//!
//! A misspelt flag or key of a file is an error. A variable cannot be one: whoever starts containers puts variables of their own
//! there, for a service named `fanfare` also with this beginning. So those that nobody can have meant for something else are
//! warned of. Their values are never looked at, and never shown.

use std::fmt;

use super::cli;

/// What every variable of an option begins with.
const PREFIX: &str = "FANFARE_";
/// Most of them that it is warned of.
pub const VARIABLES_LISTED: usize = 20;
/// Letters that may be wrong, missing or too many in what is still taken for a misspelt option.
const LETTERS_WRONG: usize = 2;

/// A variable that looks like an option and is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVariable {
    /// Its name.
    pub name: String,
    /// The variable that was meant, if one is nearly called so.
    pub meant: Option<String>,
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the variable {:?} is no option and says nothing", self.name)?;
        self.meant.iter().try_for_each(|meant| write!(f, "; did you mean {meant}?"))
    }
}

/// Those among the names of an environment, at most [`VARIABLES_LISTED`].
pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<UnknownVariable> {
    let mut known: Vec<_> =
        cli::described().into_iter().map(|option| option.id.to_ascii_uppercase()).collect();
    known.push("CONFIG".to_owned());
    let mut unknown: Vec<_> = names.filter_map(|name| unknown_variable(&name, &known)).collect();
    unknown.sort_by(|one, other| one.name.cmp(&other.name));
    unknown.truncate(VARIABLES_LISTED);
    unknown
}

fn unknown_variable(name: &str, known: &[String]) -> Option<UnknownVariable> {
    let rest = name.strip_prefix(PREFIX)?;
    if known.iter().any(|option| option == rest) || is_of_kubernetes(rest) {
        return None;
    }
    let nearest = known.iter().map(|option| (strsim::levenshtein(option, rest), option)).min();
    let meant = nearest.filter(|(letters, _)| *letters <= LETTERS_WRONG);
    Some(UnknownVariable {
        name: name.to_owned(),
        meant: meant.map(|(_, option)| format!("{PREFIX}{option}")),
    })
}

/// Whether it is one of those that Kubernetes gives every container for a service named `fanfare`, or `fanfare-` and something:
/// `…SERVICE_HOST`, `…SERVICE_PORT_name`, `…PORT`, `…PORT_8000_TCP_ADDR`.
fn is_of_kubernetes(rest: &str) -> bool {
    let begins = |part: &str| rest.starts_with(part) || rest.contains(&format!("_{part}"));
    let port = rest.find("PORT_").map(|at| &rest[at + "PORT_".len()..]);
    begins("SERVICE_HOST")
        || begins("SERVICE_PORT")
        || rest == "PORT"
        || rest.ends_with("_PORT")
        || port.is_some_and(|number| number.starts_with(|digit: char| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(names: &[&str]) -> Vec<(String, Option<String>)> {
        let unknown = unknown_variables(names.iter().map(|name| (*name).to_owned()));
        unknown.into_iter().map(|UnknownVariable { name, meant }| (name, meant)).collect()
    }

    #[test]
    fn a_misspelt_option_is_told_with_the_one_that_is_called_nearly_so() {
        for (name, meant) in [
            ("FANFARE_MAX_BODDY", Some("FANFARE_MAX_BODY")),
            ("FANFARE_ORIGIN", Some("FANFARE_ORIGINS")),
            ("FANFARE_CONFG", Some("FANFARE_CONFIG")),
            ("FANFARE_LISTEN_ADDR", None),
            ("FANFARE_VERSION", None),
        ] {
            assert_eq!(told(&[name]), [(name.to_owned(), meant.map(str::to_owned))]);
        }
    }

    #[test]
    fn options_and_what_kubernetes_says_of_services_are_not_told() {
        let names = [
            "FANFARE_MAX_BODY",
            "FANFARE_CONFIG",
            "FANFARE_SERVICE_HOST",
            "FANFARE_SERVICE_PORT_HTTP",
            "FANFARE_PORT",
            "FANFARE_PORT_8000_TCP",
            "FANFARE_PORT_8000_TCP_ADDR",
            "FANFARE_EDGE_SERVICE_HOST",
            "FANFARE_EDGE_PORT_8000_TCP",
            "FANFARE_EDGE_PORT",
            "OTHER_MAX_BODDY",
            "FANFARE",
        ];
        assert_eq!(told(&names), []);
    }

    #[test]
    fn few_are_listed() {
        let names: Vec<_> = (0..2 * VARIABLES_LISTED).map(|n| format!("FANFARE_X{n}")).collect();
        assert_eq!(unknown_variables(names.into_iter()).len(), VARIABLES_LISTED);
    }

    #[test]
    fn distance_counts_letters() {
        for (one, other, letters) in
            [("a", "a", 0), ("", "ab", 2), ("kitten", "sitting", 3), ("BODY", "BODDY", 1)]
        {
            assert_eq!(
                (strsim::levenshtein(one, other), strsim::levenshtein(other, one)),
                (letters, letters),
                "{one} {other}"
            );
        }
    }
}
