//! Servers the harness starts itself: they are measured, compared, and ended, whatever happens.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const HARNESS: &str = env!("CARGO_BIN_EXE_loadtest");
const QUICK: [&str; 6] = ["--clients", "50", "--duration", "500ms", "--settle", "0s"];

#[test]
fn a_started_server_is_measured_against_the_floor() {
    let json =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("against-{}.json", std::process::id()));
    let output = Command::new(HARNESS)
        .args(["fanout", "--against", "floor", "--rounds", "2", "--warm-up", "100ms", "--server", HARNESS])
        .args(["--server-args", "serve-floor --listen {listen}", "--json"])
        .arg(&json)
        .args(QUICK)
        .output()
        .expect("the harness runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let document: Value =
        serde_json::from_str(&fs::read_to_string(&json).expect("figures")).expect("valid JSON");
    let _ = fs::remove_file(&json);
    let result = &document["result"];
    let order: Vec<&str> = result["rounds"]
        .as_array()
        .expect("rounds")
        .iter()
        .map(|round| round["server"].as_str().expect("a name"))
        .collect();
    assert_eq!(order, ["target", "floor", "target", "floor"]);
    assert!(result["ratio"]["deliveries_per_second"].as_f64().is_some_and(|ratio| ratio > 0.0), "{text}");
    assert!(result["rounds"][0]["cpu"]["share"].is_number(), "{text}");
    assert!(result["rounds"][0]["memory"]["connected_bytes"].is_number(), "{text}");
}

#[test]
fn a_server_that_cannot_start_is_an_error() {
    let output = Command::new(HARNESS)
        .args(["fanout", "--server", "/nonexistent/server"])
        .args(QUICK)
        .output()
        .expect("the harness runs");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("/nonexistent/server") && text.contains("ended at once"), "{text}");
}

#[test]
fn an_interrupted_run_ends_its_server() {
    let (mut harness, server) = long_run();
    kill_process(Pid::from_child(&harness), Signal::INT).expect("the harness runs");
    let status = harness.wait().expect("the harness was started here");
    assert_eq!(status.code(), Some(130));
    wait_for("the server to end", || !is_running(server));
}

#[test]
fn a_killed_harness_leaves_no_server_behind() {
    let (mut harness, server) = long_run();
    harness.kill().expect("the harness runs");
    harness.wait().expect("the harness was started here");
    wait_for("the server to end", || !is_running(server));
}

/// A run that would take a minute, and the process of the server it has started.
fn long_run() -> (std::process::Child, u32) {
    let harness = Command::new(HARNESS)
        .args(["floor", "--clients", "10", "--duration", "60s", "--settle", "0s"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the harness runs");
    let mut server = None;
    wait_for("a server to be started", || {
        server = child_serving(harness.id());
        server.is_some()
    });
    (harness, server.expect("waited for"))
}

/// The child of `parent` that has become a floor server.
fn child_serving(parent: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent_of =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<&[u8]> = command.split(|&byte| byte == 0).collect();
        parent_of == Some(parent) && arguments.get(1) == Some(&&b"serve-floor"[..])
    })
}

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie has ended, whoever is to collect it.
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "waited ten seconds for {what}");
        sleep(Duration::from_millis(10));
    }
}
