//! `loadtest peers install` and `loadtest peers list`: brings kits to this machine through the ordinary clients of
//! their registries. Versions are pinned by lock files and requirements; Debian's are those of the running release.
//! No script of a package is run, and nothing is put outside the folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Args, Subcommand};

use super::home::{Home, RUST_FILES, State, fingerprint};
use super::{ALL, Kit, Peer};
use crate::error::{Context, Error, Result};
use crate::verdict::Verdict;

#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Fetch and build what is missing, with cargo, npm, pip and apt-get
    Install(InstallArgs),
    /// Show each server: whether it is installed, its version, how it is tuned
    List(ListArgs),
}

#[derive(Debug, Args)]
struct InstallArgs {
    /// Which [default: all]
    #[arg(value_parser = parse)]
    names: Vec<&'static Peer>,
    /// Put them here [default: $LOADTEST_PEERS, else loadtest/peers in the user's cache]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Look here [default: $LOADTEST_PEERS, else loadtest/peers in the user's cache]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
}

/// `loadtest peers`.
pub(crate) fn run(args: &PeersArgs) -> Result<Verdict> {
    match &args.action {
        Action::Install(args) => install_all(args),
        Action::List(args) => list(&Home::find(args.peers.as_deref())?),
    }
}

fn parse(name: &str) -> std::result::Result<&'static Peer, String> {
    let names = || ALL.map(|peer| peer.name).join(", ");
    Peer::find(name).ok_or_else(|| format!("there is no adapter for `{name}`, only for {}", names()))
}

/// One that cannot be installed does not keep the others from it.
fn install_all(args: &InstallArgs) -> Result<Verdict> {
    let home = Home::find(args.into.as_deref())?;
    println!("into {}", home.path().display());
    let mut missing = Vec::new();
    for peer in if args.names.is_empty() { ALL.to_vec() } else { args.names.clone() } {
        if let State::Installed(what) = home.state(peer) {
            println!("{:<12} is there: {what}", peer.name);
            continue;
        }
        println!("{:<12} installing…", peer.name);
        match install(&home, peer) {
            Ok(what) => println!("{:<12} installed: {what}", peer.name),
            Err(error) => {
                println!("{:<12} MISSING: {error}", peer.name);
                missing.push(peer.name);
            }
        }
    }
    if missing.is_empty() {
        return Ok(Verdict::Faultless);
    }
    Err(Error::Failed(format!("not installed: {}", missing.join(", "))))
}

fn list(home: &Home) -> Result<Verdict> {
    println!("in {}\n", home.path().display());
    for peer in ALL {
        let state = match home.state(peer) {
            State::Missing => "not installed".to_owned(),
            State::Outdated => "outdated: install it again".to_owned(),
            State::Installed(what) => format!("installed: {what}"),
        };
        println!("{:<12} {}\n{:12} {state}", peer.name, peer.what, "");
        println!("{:12} tuned: {}\n{:12} lacks: {}", "", peer.tuning, "", peer.lacks);
    }
    Ok(Verdict::Faultless)
}

/// Installs one, and says what was installed.
fn install(home: &Home, peer: &Peer) -> Result<String> {
    let folder = home.folder(peer);
    // The servers in Rust share a folder, and what others have built there.
    if folder.exists() && !matches!(peer.kit, Kit::Rust { .. }) {
        std::fs::remove_dir_all(&folder).context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).context(|| format!("cannot make {}", folder.display()))?;
    let what = match peer.kit {
        Kit::Rust { program } => {
            put(&folder, &RUST_FILES)?;
            let mut cargo = Command::new("cargo");
            cargo.args(["build", "--release", "--locked", "--quiet", "--bin", program]);
            // Whatever the caller has set for builds of its own.
            cargo.env("CARGO_TARGET_DIR", folder.join("target")).env_remove("RUSTFLAGS");
            carry_out(cargo.current_dir(&folder), "Rust (cargo)")?;
            peer.what.to_owned()
        }
        Kit::Npm { files } => {
            put(&folder, files)?;
            let mut npm = Command::new("npm");
            npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
            carry_out(npm.current_dir(&folder), "Node with npm")?;
            peer.what.to_owned()
        }
        Kit::Pip { requirement } => {
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
            pip.args(["--only-binary=:all:", "--root-user-action=ignore", "--target"])
                .arg(&folder)
                .arg(requirement);
            carry_out(&mut pip, "Python with pip")?;
            requirement.to_owned()
        }
        Kit::Debian { packages } => unpack(&folder, packages)?,
    };
    let stamp = home.stamp(peer);
    std::fs::write(&stamp, format!("{}\n{what}\n", fingerprint(peer.kit)))
        .context(|| format!("cannot write {}", stamp.display()))?;
    Ok(what)
}

/// Fetches packages and unpacks them, which needs no rights and starts no service.
fn unpack(folder: &Path, packages: &[&str]) -> Result<String> {
    let mut apt = Command::new("apt-get");
    // As root, apt would hand the download to a user that may not write here.
    apt.args(["download", "-qq", "-o", "APT::Sandbox::User=root"]).args(packages);
    carry_out(apt.current_dir(folder), "Debian's apt-get, with package lists (apt-get update)")?;
    let mut versions = Vec::new();
    let entries = std::fs::read_dir(folder).context(|| format!("cannot read {}", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    for file in files.filter(|path| path.extension().is_some_and(|extension| extension == "deb")) {
        carry_out(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(folder), "dpkg-deb")?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().replace("%3a", ":");
        versions.push(name.rsplit_once('_').map_or(name.clone(), |(name, _)| name.replace('_', " ")));
    }
    versions.sort();
    Ok(versions.join(", "))
}

fn put(folder: &Path, files: &[(&str, &str)]) -> Result<()> {
    for (name, text) in files {
        let path = folder.join(name);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(&path, text))
            .context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Runs a client of a registry to its end; `needed` says what to install if there is none.
fn carry_out(command: &mut Command, needed: &str) -> Result<()> {
    let status = command.stdin(Stdio::null()).status();
    let status = status.context(|| format!("needs {needed}"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed(format!("{} ended with {status}; it needs {needed}", command.get_program().display())))
}
