//! Where kits are put, and whether one is there and is of this harness's making.

use std::path::{Path, PathBuf};

use super::{Kit, Peer};
use crate::error::{Error, Result};

/// Names the folder if `--into` or `--peers` does not.
const VARIABLE: &str = "LOADTEST_PEERS";
/// Written last into a kit's folder: its fingerprint and, in the second line, what was installed.
const STAMP: &str = ".loadtest";

/// The sources of the servers in Rust, so that they can be built without a checkout.
pub(super) const RUST_FILES: [(&str, &str); 7] = [
    ("Cargo.toml", include_str!("../../peers/rust/Cargo.toml")),
    ("Cargo.lock", include_str!("../../peers/rust/Cargo.lock")),
    ("src/lib.rs", include_str!("../../peers/rust/src/lib.rs")),
    ("src/bin/tutorial.rs", include_str!("../../peers/rust/src/bin/tutorial.rs")),
    ("src/bin/axum.rs", include_str!("../../peers/rust/src/bin/axum.rs")),
    ("src/bin/fastws.rs", include_str!("../../peers/rust/src/bin/fastws.rs")),
    ("src/bin/tungstenite.rs", include_str!("../../peers/rust/src/bin/tungstenite.rs")),
];

/// The folder that holds the kits.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

/// What a look at a kit's folder shows.
#[derive(Debug, PartialEq)]
pub(crate) enum State {
    Missing,
    /// Another version of this harness put it there.
    Outdated,
    /// With what was installed.
    Installed(String),
}

impl Home {
    /// `chosen`, or `$LOADTEST_PEERS`, or `loadtest/peers` in the user's cache.
    pub(crate) fn find(chosen: Option<&Path>) -> Result<Self> {
        let variable =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = || {
            let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
            Some(cache.join("loadtest/peers"))
        };
        let path = chosen.map(Path::to_path_buf).or_else(|| variable(VARIABLE)).or_else(cache);
        let path = path.ok_or_else(|| {
            Error::Usage(format!("there is no home directory: say where the servers are, in {VARIABLE}"))
        })?;
        // Programs below it are started from elsewhere.
        let path = std::path::absolute(&path)
            .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the kit of `peer` is, or would be. The servers in Rust share one.
    pub(crate) fn folder(&self, peer: &Peer) -> PathBuf {
        match peer.kit {
            Kit::Rust { .. } => self.0.join("rust"),
            _ => self.0.join(peer.name),
        }
    }

    pub(crate) fn state(&self, peer: &Peer) -> State {
        let Ok(text) = std::fs::read_to_string(self.stamp(peer)) else { return State::Missing };
        match text.split_once('\n') {
            Some((mark, what)) if mark == fingerprint(peer.kit) => State::Installed(what.trim().to_owned()),
            _ => State::Outdated,
        }
    }

    pub(super) fn stamp(&self, peer: &Peer) -> PathBuf {
        match peer.kit {
            Kit::Rust { program } => self.folder(peer).join(format!("{STAMP}-{program}")),
            _ => self.folder(peer).join(STAMP),
        }
    }
}

/// Of all that decides what a kit is (FNV-1a, 64 bits): against mistakes, not against malice.
pub(super) fn fingerprint(kit: Kit) -> String {
    let parts: Vec<&str> = match kit {
        Kit::Rust { .. } => RUST_FILES.iter().flat_map(|(name, text)| [*name, *text]).collect(),
        Kit::Npm { files } => files.iter().flat_map(|(name, text)| [*name, *text]).collect(),
        Kit::Pip { requirement } => vec![requirement],
        Kit::Debian { packages } => packages.to_vec(),
    };
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    format!("{:016x}", bytes.fold(0xcbf2_9ce4_8422_2325, mix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Scratch;

    #[test]
    fn a_kit_counts_only_with_its_own_stamp() {
        let scratch = Scratch::new().expect("a temporary directory");
        let home = Home::find(Some(scratch.path())).expect("an absolute path");
        let peer = Peer::find("ws").expect("listed");
        assert_eq!(home.state(peer), State::Missing);
        std::fs::create_dir_all(home.folder(peer)).expect("a new folder");
        std::fs::write(home.stamp(peer), "something else\nws").expect("a new file");
        assert_eq!(home.state(peer), State::Outdated);
        std::fs::write(home.stamp(peer), format!("{}\nws 8\n", fingerprint(peer.kit))).expect("a new file");
        assert_eq!(home.state(peer), State::Installed("ws 8".to_owned()));
    }
}
