//! Several servers in turn. What needs no other server than the floor is tested always; those that are installed
//! (`LOADTEST_PEERS`, see `loadtest peers install`) with `-- --ignored`.

mod harness;

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::Run;

const HARNESS: &str = env!("CARGO_BIN_EXE_loadtest");
const QUICK: [&str; 10] =
    ["--clients", "40", "--duration", "300ms", "--warm-up", "100ms", "--settle", "200ms", "--rounds", "2"];

fn compare(peers: &Path, extra: &[&str]) -> Run {
    let peers = peers.to_str().expect("the folder's name is text");
    Run::with(&[&["compare", "--peers", peers], &QUICK, extra])
}

#[test]
fn a_server_that_is_not_installed_is_a_row_that_says_so() {
    let nowhere = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("no-peers");
    let run = compare(&nowhere, &["--targets", "floor,ws", "--window", "1,32"]);
    assert_eq!(run.code, Some(0), "{}", run.output);
    assert!(run.output.contains("loadtest peers install ws"), "{}", run.output);
    let settings: Vec<_> = run.result.as_array().expect("settings").iter().map(|it| &it["setting"]).collect();
    assert_eq!(settings, [&serde_json::json!({ "window": 1 }), &serde_json::json!({ "window": 32 })]);
    for setting in run.result.as_array().expect("settings") {
        let [floor, ws] = [0, 1].map(|at| setting["servers"][at]["rounds"].as_array().expect("rounds"));
        assert_eq!((floor.len(), ws.len()), (2, 1), "what does not start is not tried again: {}", run.output);
        assert!(floor[0]["fan_out"]["deliveries"].as_u64().is_some_and(|count| count > 0), "{}", run.output);
    }
    let run = compare(&nowhere, &["--targets", "floor,ws", "--strict"]);
    assert_eq!(run.code, Some(1), "{}", run.output);
}

#[test]
fn clients_at_rest_are_compared() {
    let run = compare(Path::new("nowhere"), &["--targets", "floor", "--scenario", "idle"]);
    assert_eq!(run.code, Some(0), "{}", run.output);
    let rest = &run.result[0]["servers"][0]["rounds"][1]["rest"];
    assert!(rest["per_connection_bytes"].is_number(), "{}", run.output);
}

#[test]
#[ignore = "needs other servers: loadtest peers install"]
fn every_installed_server_delivers_everything() {
    let listed = Command::new(HARNESS).args(["peers", "list"]).output().expect("the harness runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let lines: Vec<&str> = listed.lines().collect();
    let installed = lines.windows(2).filter(|pair| pair[1].trim_start().starts_with("installed: "));
    let names: Vec<&str> = installed.filter_map(|pair| pair[0].split_whitespace().next()).collect();
    let home = lines[0].strip_prefix("in ").expect("the folder comes first");
    assert!(!names.is_empty(), "nothing is installed in {home}");
    for name in names {
        let run = compare(Path::new(home), &["--targets", &format!("floor,{name}"), "--window", "1,32"]);
        assert!(run.output.contains("window 32: every reading client"), "{name}: {}", run.output);
        assert!(run.output.contains("window 1: every reading client"), "{name}: {}", run.output);
    }
}
