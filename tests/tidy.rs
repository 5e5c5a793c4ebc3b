//! The rules a compiler does not check: which file may import which, how long a file may be, that it says what it is,
//! and that the engine meets no clock and no socket.
//!
//! Each complaint names the file and the line, and says what to do.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The modules of `src`, lowest first: each may import only from those that stand before it. What does not exist
/// yet keeps its place.
const FLOORS: &[&str] = &[
    "limits",
    "units",
    "bounded_file",
    "logging",
    "sync",
    "topic",
    "identity",
    "peer",
    "auth",
    "proxy_protocol",
    "classes",
    "tls",
    "settings",
    "metrics",
    "gate",
    "mailbox",
    "admission",
    "publication",
    "websocket",
    "protocol",
    "engine",
    "clients",
    "session",
    "node",
    "connection",
    "http",
    "admin",
    "probe",
    "systemd",
    "config",
    "server",
    "lib",
    "main",
];
/// Modules that know neither time nor sockets: both are arguments there.
const SANS_IO: [&str; 5] = ["auth", "websocket", "protocol", "engine", "session"];
/// What they must not name: a crate or type, and what of it.
const IO: [(&str, &[&str]); 4] = [
    ("tokio", &["net", "time", "spawn", "task", "runtime", "fs", "io"]),
    ("std", &["net", "thread"]),
    ("Instant", &["now"]),
    ("SystemTime", &["now"]),
];
/// Files of `src` that may ask for the time of day, since they compare it with what others say it is: when a token ends, when
/// the process began, when a certificate ends. Everything else counts on a clock that nobody sets.
const TIME_OF_DAY: [&str; 3] = ["src/connection/admitted.rs", "src/admin/process.rs", "src/tls/date.rs"];
/// Where Rust files of ours are.
const FOLDERS: [&str; 6] = ["src", "tests", "loadtest", "examples", "benches", "fuzz"];
/// Lines of a file before its tests begin.
const CODE_LINES_MAX: usize = 500;
/// Lines of a file.
const FILE_LINES_MAX: usize = 700;

/// A Rust file of this repository.
struct Source {
    /// From the root of the repository.
    path: PathBuf,
    /// Its lines, with comments blanked out.
    code: Vec<String>,
    /// The first line of its tests, or of nothing.
    tests_at: usize,
    opens_with_docs: bool,
}

impl Source {
    fn new(path: PathBuf, text: &str) -> Self {
        let blank = |line: &str| match line.find("//") {
            // A URL in a string is no comment.
            Some(at) if !line[..at].ends_with(':') => line[..at].to_owned(),
            _ => line.to_owned(),
        };
        let begins_tests =
            |line: &str| line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test");
        let count = text.lines().count();
        Self {
            path,
            code: text.lines().map(blank).collect(),
            tests_at: text.lines().position(begins_tests).unwrap_or(count),
            opens_with_docs: text.starts_with("//!"),
        }
    }

    /// The module of `src` it belongs to.
    fn floor(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src").ok()?;
        inside.components().next()?.as_os_str().to_str()?.split('.').next()
    }

    /// The names that follow `root::` in its first `lines` lines, groups in braces taken apart, each with its line.
    fn names_under(&self, root: &str, lines: usize) -> Vec<(usize, String)> {
        let (mut text, mut starts) = (String::new(), Vec::new());
        for line in &self.code[..lines] {
            starts.push(text.len());
            text.push_str(line);
            text.push('\n');
        }
        let line_of = |at: usize| starts.partition_point(|&start| start <= at);
        let path = format!("{root}::");
        let mut names = Vec::new();
        for (at, _) in text.match_indices(&path) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == '$') {
                continue;
            }
            let from = at + path.len();
            names.extend(first_segments(&text[from..]).map(|(offset, name)| (line_of(from + offset), name)));
        }
        names
    }

    fn complaint(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path.display())
    }
}

/// The first segments of the paths that a `use` goes on with: one, or those of a group in braces.
fn first_segments(rest: &str) -> impl Iterator<Item = (usize, String)> {
    let ident = |from: usize| -> String {
        rest[from..].chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let mut found = Vec::new();
    if rest.starts_with('{') {
        let (mut depth, mut begins) = (0, false);
        for (at, letter) in rest.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            match letter {
                _ if depth == 0 => break,
                '{' | ',' if depth == 1 => begins = true,
                _ if begins && !letter.is_whitespace() => {
                    found.push((at, ident(at)));
                    begins = false;
                }
                _ => {}
            }
        }
    } else {
        found.push((0, ident(0)));
    }
    found.into_iter().filter(|(_, name)| !name.is_empty())
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut sources, mut folders) = (Vec::new(), FOLDERS.map(|folder| root.join(folder)).to_vec());
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != ".tools") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("the file can be read");
                let path = path.strip_prefix(root).expect("it is below the root").to_path_buf();
                sources.push(Source::new(path, &text));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 20, "where are the sources?");
    sources
}

fn report(complaints: &[String]) {
    let mut text = String::new();
    for complaint in complaints {
        writeln!(text, "{complaint}").expect("a String takes everything");
    }
    assert!(complaints.is_empty(), "\n{text}");
}

fn imports_from_above(source: &Source) -> Vec<String> {
    let Some(floor) = source.floor() else { return Vec::new() };
    let Some(own) = FLOORS.iter().position(|name| *name == floor) else {
        let what = format!("module `{floor}` has no place; give it one in FLOORS of tests/tidy.rs");
        return vec![source.complaint(1, &what)];
    };
    let mut complaints = Vec::new();
    for (line, name) in source.names_under("crate", source.code.len()) {
        let what = match FLOORS.iter().position(|floor| *floor == name) {
            Some(other) if other <= own => continue,
            Some(_) => format!(
                "`{floor}` imports from `{name}`, which stands above it; move what it needs down, or hand it in"
            ),
            None => {
                format!("`crate::{name}` is no module of FLOORS in tests/tidy.rs; import from the module")
            }
        };
        complaints.push(source.complaint(line, &what));
    }
    complaints
}

fn meetings_with_io(source: &Source) -> Vec<String> {
    if !source.floor().is_some_and(|floor| SANS_IO.contains(&floor)) {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (root, names) in IO {
        for (line, name) in source.names_under(root, source.tests_at) {
            if names.contains(&&*name) {
                let what =
                    format!("`{root}::{name}` in a module without I/O; take time or bytes as an argument");
                complaints.push(source.complaint(line, &what));
            }
        }
    }
    complaints
}

#[test]
fn a_file_imports_only_from_lower_floors() {
    report(&sources().iter().flat_map(imports_from_above).collect::<Vec<_>>());
}

#[test]
fn engine_protocol_and_session_meet_no_clock_and_no_socket() {
    report(&sources().iter().flat_map(meetings_with_io).collect::<Vec<_>>());
}

fn questions_of_the_time_of_day(source: &Source) -> Vec<String> {
    let path = source.path.to_string_lossy();
    if !path.starts_with("src/") || TIME_OF_DAY.contains(&&*path) {
        return Vec::new();
    }
    let lines = source.code[..source.tests_at].iter().enumerate();
    let asking = lines.filter(|(_, line)| line.contains("SystemTime"));
    let what = "`SystemTime` steps when somebody sets it; use `Instant`, or name the file in TIME_OF_DAY of tests/tidy.rs";
    asking.map(|(line, _)| source.complaint(line + 1, what)).collect()
}

#[test]
fn only_what_has_to_asks_for_the_time_of_day() {
    report(&sources().iter().flat_map(questions_of_the_time_of_day).collect::<Vec<_>>());
}

#[test]
fn no_file_is_too_long() {
    let mut complaints = Vec::new();
    for source in sources() {
        if source.tests_at > CODE_LINES_MAX {
            let what =
                format!("{} lines before its tests, at most {CODE_LINES_MAX}; it is two", source.tests_at);
            complaints.push(source.complaint(CODE_LINES_MAX, &format!("{what} nouns, make it two files")));
        }
        let lines = source.code.len();
        if lines > FILE_LINES_MAX {
            let what =
                format!("{lines} lines, at most {FILE_LINES_MAX}; move tests or a noun to another file");
            complaints.push(source.complaint(FILE_LINES_MAX, &what));
        }
    }
    report(&complaints);
}

#[test]
fn every_limit_that_can_be_set_stands_in_the_docs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("it can be read");
    let limits = read("src/limits.rs");
    let docs = read("docs/ARCHITECTURE.md") + &read("docs/LIMITS.md");
    let options = limits.split('`').filter(|text| text.starts_with("--"));
    let missing = |option: &&str| !docs.contains(&format!("`{option}`"));
    let missing: Vec<_> = options.filter(missing).collect();
    assert!(missing.is_empty(), "in no table of docs/ARCHITECTURE.md or docs/LIMITS.md: {missing:?}");
}

#[test]
fn every_file_says_what_it_is() {
    let silent = |source: &Source| {
        let what = "open it with `//!`: what it owns, who calls it, what it must never do";
        (!source.opens_with_docs).then(|| source.complaint(1, what))
    };
    report(&sources().iter().filter_map(silent).collect::<Vec<_>>());
}

#[test]
fn an_import_from_above_is_found_in_any_form() {
    let text = "//! Docs may name crate::server.\nuse crate::{\n    limits::{A, B},\n    http::Router, topic,\n};\n\
                fn f() { crate::server::run(); not_crate::main(); }\n";
    let source = Source::new("src/engine/shard.rs".into(), text);
    let complaints = imports_from_above(&source);
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(
        complaints[0].starts_with("src/engine/shard.rs:4: `engine` imports from `http`"),
        "{complaints:?}"
    );
    assert!(
        complaints[1].starts_with("src/engine/shard.rs:6: `engine` imports from `server`"),
        "{complaints:?}"
    );
    let unknown = imports_from_above(&Source::new("src/helpers.rs".into(), "//! What?\n"));
    assert_eq!(unknown.len(), 1, "{unknown:?}");
}

#[test]
fn a_clock_is_found_before_the_tests_and_not_in_them() {
    let text = "//! Docs.\nuse tokio::{sync::oneshot, time::sleep};\nfn f() { std::time::Instant::now(); }\n\
                #[cfg(test)]\nmod tests { use tokio::net::TcpStream; }\n";
    let found = |path: &str| meetings_with_io(&Source::new(path.into(), text));
    assert_eq!(found("src/session.rs").len(), 2, "{:?}", found("src/session.rs"));
    assert_eq!(found("src/connection/socket.rs").len(), 0);
}
