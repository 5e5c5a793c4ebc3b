//! Processes the harness starts itself. Servers: they are measured, compared, and ended, whatever happens. Those that
//! hold clients: they hold more than one process may, and neither side outlives the other.

mod harness;
#[allow(dead_code, reason = "each file of tests uses its part")]
mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::Run;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use support::{Fault, FaultyServer};

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

#[test]
fn two_processes_deliver_everything_and_have_all_figures() {
    let run = Run::with(&[&["floor", "--processes", "2", "--rounds", "2", "--warm-up", "100ms"], &QUICK]);
    assert_eq!(run.code, Some(0), "{}", run.output);
    assert!(run.output.contains("2 in 2 processes"), "{}", run.output);
    for round in run.result["rounds"].as_array().expect("rounds") {
        let figure = |name: &str| round[name].as_f64().unwrap_or_else(|| panic!("{name}\n{}", run.output));
        for name in ["deliveries", "connects_per_second", "messages_per_read", "generator_share"] {
            assert!(figure(name) > 0.0, "{name}\n{}", run.output);
        }
        assert_eq!((figure("generator_processes"), figure("generator_threads")), (2.0, 2.0));
        assert!(round["latency"]["samples"].as_u64().is_some_and(|samples| samples > 0), "{}", run.output);
        assert!(round["latency_curve_ns"].as_array().is_some_and(|curve| !curve.is_empty()));
        let timeline = &round["timeline"];
        let open = timeline["open_connections"].as_array().and_then(|open| open.last());
        assert_eq!(open.and_then(Value::as_u64), Some(50), "{}", run.output);
        assert!(timeline["generator_share"][0].is_number(), "{}", run.output);
    }
}

#[test]
fn processes_hold_more_clients_than_one_may_open() {
    let server = FaultyServer::start(Fault::None);
    let address = server.address.to_string();
    let limited = |processes: &str| -> Output {
        Command::new("sh")
            .args(["-c", "ulimit -n 160 && exec \"$0\" \"$@\"", HARNESS])
            .args([
                "fanout",
                "--target",
                &address,
                "--clients",
                "150",
                "--threads",
                "1",
                "--duration",
                "300ms",
            ])
            .args(["--warm-up", "100ms", "--settle", "0s", "--processes", processes])
            .output()
            .expect("a shell runs")
    };
    let refused = limited("1");
    let text = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(text.contains("does not fit") && text.contains("--processes 2"), "{text}");
    let held = limited("2");
    let text = String::from_utf8_lossy(&held.stdout);
    assert_eq!(held.status.code(), Some(0), "{text}\n{}", String::from_utf8_lossy(&held.stderr));
    assert!(text.contains("Every reading client got every message once and in order"), "{text}");
}

#[test]
fn a_process_that_is_killed_ends_the_run() {
    let scenarios: [&[&str]; 3] =
        [&["floor"], &["compare", "--targets", "floor"], &["idle", "--server", HARNESS]];
    for (scenario, at_once) in
        scenarios.into_iter().flat_map(|scenario| [(scenario, true), (scenario, false)])
    {
        let idle = ["--server-args", "serve-floor --listen {listen}", "--ping-args", ""];
        let extra = if scenario[0] == "idle" { &idle[..] } else { &[] };
        let harness = Command::new(HARNESS)
            .args(scenario)
            .args(["--clients", "10", "--duration", "60s", "--settle", "0s", "--processes", "3"])
            .args(extra)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the harness runs");
        let holders = children_running(&harness, "hold", 2);
        if !at_once {
            // Its link, twice, what it registers over, and three clients.
            wait_for("clients to be connected", || sockets_of(holders[1]) >= 6);
        }
        kill_process(pid(holders[1]), Signal::KILL).expect("it runs");
        let output = harness.wait_with_output().expect("the harness was started here");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(&format!("(pid {}) ended", holders[1])), "{text}");
        wait_for("the other process to end", || !is_running(holders[0]));
    }
}

#[test]
fn a_killed_harness_leaves_no_process_with_clients_behind() {
    let mut harness = start_long_run(&["--processes", "3"]);
    let holders = children_running(&harness, "hold", 2);
    harness.kill().expect("the harness runs");
    harness.wait().expect("the harness was started here");
    wait_for("the other processes to end", || !holders.iter().any(|&holder| is_running(holder)));
}

#[test]
fn a_process_that_may_not_open_enough_ends_the_run() {
    let (open, opened) = sync_channel(1);
    let server = FaultyServer::start_when(opened, Fault::None);
    let harness = Command::new(HARNESS)
        .args(["fanout", "--clients", "60", "--processes", "2", "--target", &server.address.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the harness runs");
    let holder = children_running(&harness, "hold", 1)[0];
    let count = |of: &str| fs::read_dir(format!("/proc/{holder}/{of}")).map_or(0, |all| all.count() as u64);
    // Before that it has no client's socket, and has loaded all it needs.
    wait_for("a thread that waits for registrations", || count("task") == 2);
    let few = Some(count("fd") + 8);
    prlimit(Some(pid(holder)), Resource::Nofile, Rlimit { current: few, maximum: few }).expect("it is ours");
    open.send(()).expect("the server waits");
    let output = harness.wait_with_output().expect("the harness was started here");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("cannot connect a client: Too many open files"), "{text}");
}

#[test]
fn clients_that_come_and_go_are_in_one_process() {
    for scenario in ["storm", "slow", "churn", "soak"] {
        let output =
            Command::new(HARNESS).args([scenario, "--processes", "2"]).output().expect("the harness runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("keep all their clients in one process"), "{text}");
    }
}

#[test]
fn a_process_with_clients_obeys_another_one_only() {
    let output = Command::new(HARNESS).arg("hold").stdin(Stdio::null()).output().expect("the harness runs");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("obeys another process of loadtest"), "{text}");
}

/// A run that would take a minute, and the process of the server it has started.
fn long_run() -> (Child, u32) {
    let harness = start_long_run(&[]);
    let server = children_running(&harness, "serve-floor", 1)[0];
    (harness, server)
}

fn start_long_run(extra: &[&str]) -> Child {
    Command::new(HARNESS)
        .args(["floor", "--clients", "10", "--duration", "60s", "--settle", "0s"])
        .args(extra)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the harness runs")
}

fn pid(of: u32) -> Pid {
    i32::try_from(of).ok().and_then(Pid::from_raw).expect("a process id")
}

/// Waits until `parent` has so many children of this program with that subcommand.
fn children_running(parent: &Child, subcommand: &str, count: usize) -> Vec<u32> {
    let mut found = Vec::new();
    wait_for(&format!("{count} times `loadtest {subcommand}`"), || {
        found = children_of(parent.id(), subcommand);
        found.len() == count
    });
    found
}

fn children_of(parent: u32, subcommand: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc can be read").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_one = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent_of =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<&[u8]> = command.split(|&byte| byte == 0).collect();
        parent_of == Some(parent) && arguments.get(1) == Some(&subcommand.as_bytes())
    };
    pids.filter(is_one).collect()
}

fn sockets_of(pid: u32) -> usize {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let targets = descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
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
