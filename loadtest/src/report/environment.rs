//! Where a run was made and with what: hardware, kernel, harness and servers, each with the commit it came from as
//! far as that can be found out. Read once, before anything is measured.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::machine::Machine;
use crate::peers::State;
use crate::server::Side;

/// How long `--version` or `git describe` may take; without an answer by then nothing is said.
const ANSWER_MAX: Duration = Duration::from_secs(2);
const POLL_EVERY: Duration = Duration::from_millis(10);
/// Of a version, at most this many characters are kept.
const VERSION_CHARS_MAX: usize = 120;

/// Where a run was made and with what.
#[derive(Debug, Serialize)]
pub(crate) struct Environment {
    #[serde(flatten)]
    pub(super) machine: Machine,
    /// Whether servers and generator had cores of their own.
    pub(super) pinned: bool,
    pub(super) harness: Harness,
    pub(super) servers: Vec<Program>,
    /// The command line, as it was given.
    pub(super) command: Vec<String>,
    pub(super) unix_seconds: u64,
    /// The same in UTC, as RFC 3339 has it.
    pub(super) date: String,
}

/// This program.
#[derive(Debug, Serialize)]
pub(super) struct Harness {
    pub(super) version: &'static str,
    /// `git describe` when it was built; empty if that was not in a checkout.
    pub(super) commit: &'static str,
    pub(super) profile: &'static str,
}

/// A server that the harness starts.
#[derive(Debug, Serialize)]
pub(super) struct Program {
    pub(super) name: String,
    /// With `{listen}` in the place of the address.
    pub(super) command: Vec<String>,
    /// The first line it answers `--version` with.
    pub(super) version: Option<String>,
    /// `git describe` of the checkout the program lies in: what it was built from if it was built last.
    pub(super) checkout: Option<String>,
}

impl Environment {
    /// Looks at the machine and asks the programs of `sides` for their versions.
    pub(crate) fn describe(pinned: bool, sides: &[Side]) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            machine: Machine::describe(),
            pinned,
            harness: Harness {
                version: env!("CARGO_PKG_VERSION"),
                commit: env!("LOADTEST_COMMIT"),
                profile: env!("LOADTEST_PROFILE"),
            },
            servers: programs(sides),
            command: std::env::args().collect(),
            unix_seconds: since.as_secs(),
            date: date(since.as_secs()),
        }
    }

    /// Everything in it, as names and values.
    pub(super) fn facts(&self) -> Vec<(String, String)> {
        let or_unknown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
        let mut facts = vec![
            ("Date", self.date.clone()),
            ("Processor", self.machine.processor.clone()),
            (
                "Cores",
                format!("{}, {}", self.machine.cores, if self.pinned { "pinned" } else { "not pinned" }),
            ),
            ("Kernel", self.machine.kernel.clone()),
            ("Harness", format!("loadtest {} ({} build)", self.harness.version, self.harness.profile)),
            ("Harness commit", or_unknown(self.harness.commit)),
            ("Command", quoted(&self.command)),
        ];
        for server in &self.servers {
            facts.push(("Server", quoted(&server.command)));
            facts.push(("Server version", or_unknown(server.version.as_deref().unwrap_or_default())));
            facts.push(("Server checkout", or_unknown(server.checkout.as_deref().unwrap_or_default())));
        }
        facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// One line for the head of a table.
    pub(super) fn line(&self) -> String {
        format!("{}, {}", self.machine.line(), if self.pinned { "pinned" } else { "not pinned" })
    }
}

/// What the harness starts, each once, though it may take several parts in a run.
fn programs(sides: &[Side]) -> Vec<Program> {
    let mut programs: Vec<Program> = Vec::new();
    for side in sides {
        let Side::Started { program, arguments, .. } = side else { continue };
        let command = Program::command(program, arguments);
        if programs.iter().all(|known| known.command != command) {
            programs.extend(Program::of(side));
        }
    }
    programs
}

impl Program {
    /// `None` for what the harness does not start, or what is part of it.
    fn of(side: &Side) -> Option<Self> {
        if let Side::Peer { peer, home, .. } = side {
            let what = match home.state(peer) {
                State::Installed(what) => Some(what),
                State::Missing | State::Outdated => None,
            };
            let command =
                vec!["loadtest".to_owned(), "peers".to_owned(), "install".to_owned(), peer.name.to_owned()];
            return Some(Self { name: peer.name.to_owned(), command, version: what, checkout: None });
        }
        let Side::Started { program, arguments, .. } = side else { return None };
        let folder = program.parent().filter(|folder| !folder.as_os_str().is_empty());
        let describe = ["describe", "--always", "--dirty", "--abbrev=12"];
        Some(Self {
            name: side.name().to_owned(),
            command: Self::command(program, arguments),
            version: first_line(Command::new(program).arg("--version")),
            checkout: first_line(
                Command::new("git").arg("-C").arg(folder.unwrap_or(Path::new("."))).args(describe),
            ),
        })
    }

    fn command(program: &Path, arguments: &[String]) -> Vec<String> {
        [program.display().to_string()].into_iter().chain(arguments.iter().cloned()).collect()
    }
}

/// A command as a shell would take it.
fn quoted(command: &[String]) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@%+{}".contains(letter);
    let words = command.iter().map(|word| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The first line of what `command` prints, if it ends well and in time.
fn first_line(command: &mut Command) -> Option<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let deadline = Instant::now() + ANSWER_MAX;
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if Instant::now() < deadline => sleep(POLL_EVERY),
            // It may well be a server that knows no --version; it was started here and is ended here.
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    };
    let output = child.wait_with_output().ok().filter(|_| ended)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().map(str::trim).filter(|line| !line.is_empty())?;
    Some(line.chars().take(VERSION_CHARS_MAX).collect())
}

/// `2026-11-23T13:18:18Z`, by the proleptic Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date
/// algorithms", civil_from_days).
fn date(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400 + 719_468, unix_seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years begin in March here, so that the leap day is the last.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(date(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(date(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let command = ["./a", "--x", "b c", "it's", ""].map(str::to_owned);
        assert_eq!(quoted(&command), r"./a --x 'b c' 'it'\''s' ''");
    }

    #[test]
    fn a_program_that_does_not_answer_is_not_waited_for() {
        assert_eq!(first_line(Command::new("sleep").arg("60")), None);
        assert_eq!(first_line(&mut Command::new("/nonexistent")), None);
        assert_eq!(first_line(Command::new("echo").arg("one two")), Some("one two".to_owned()));
    }
}
