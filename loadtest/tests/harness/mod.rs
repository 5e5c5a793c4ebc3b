//! One run of the harness: started, waited for, and its figures read.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::Value;

/// How one run of the harness ended.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    /// What it printed, errors last.
    pub(crate) output: String,
    /// What the scenario found.
    pub(crate) result: Value,
}

impl Run {
    /// Runs it with all of the `arguments`. Fails if it writes no figures.
    pub(crate) fn with(arguments: &[&[&str]]) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let name = format!("run-{}-{}.json", std::process::id(), RUNS.fetch_add(1, Relaxed));
        let json = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let ended = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(arguments.concat())
            .arg("--json")
            .arg(&json)
            .output()
            .expect("the harness runs");
        let output =
            String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
        let document =
            std::fs::read_to_string(&json).unwrap_or_else(|error| panic!("no figures: {error}\n{output}"));
        let _ = std::fs::remove_file(&json);
        let mut document: Value = serde_json::from_str(&document).expect("valid JSON");
        Self { code: ended.status.code(), output, result: document["result"].take() }
    }
}
