//! Several servers in turn. What needs no other server than the floor is tested always; those that are installed
//! (`LOADTEST_PEERS`, see `loadtest peers install`) with `-- --ignored`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const HARNESS: &str = env!("CARGO_BIN_EXE_loadtest");
const QUICK: [&str; 10] =
    ["--clients", "40", "--duration", "300ms", "--warm-up", "100ms", "--settle", "200ms", "--rounds", "2"];

/// How one comparison ended.
struct Run {
    code: Option<i32>,
    output: String,
    result: Value,
}

fn compare(name: &str, peers: &Path, extra: &[&str]) -> Run {
    let json = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("compare-{name}.json"));
    let output = Command::new(HARNESS)
        .args(["compare", "--peers"])
        .arg(peers)
        .arg("--json")
        .arg(&json)
        .args(QUICK)
        .args(extra)
        .output()
        .expect("the harness runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let document = std::fs::read_to_string(&json).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let _ = std::fs::remove_file(&json);
    let document: Value = serde_json::from_str(&document).expect("valid JSON");
    Run { code: output.status.code(), output: text, result: document["result"].clone() }
}

#[test]
fn a_server_that_is_not_installed_is_a_row_that_says_so() {
    let nowhere = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("no-peers");
    let run = compare("lenient", &nowhere, &["--targets", "floor,ws", "--window", "1,32"]);
    assert_eq!(run.code, Some(0), "{}", run.output);
    assert!(run.output.contains("loadtest peers install ws"), "{}", run.output);
    let settings: Vec<_> = run.result.as_array().expect("settings").iter().map(|it| &it["setting"]).collect();
    assert_eq!(settings, [&serde_json::json!({ "window": 1 }), &serde_json::json!({ "window": 32 })]);
    for setting in run.result.as_array().expect("settings") {
        let [floor, ws] = [0, 1].map(|at| setting["servers"][at]["rounds"].as_array().expect("rounds"));
        assert_eq!((floor.len(), ws.len()), (2, 1), "what does not start is not tried again: {}", run.output);
        assert!(floor[0]["fan_out"]["deliveries"].as_u64().is_some_and(|count| count > 0), "{}", run.output);
    }
    let run = compare("strict", &nowhere, &["--targets", "floor,ws", "--strict"]);
    assert_eq!(run.code, Some(1), "{}", run.output);
}

#[test]
fn clients_at_rest_are_compared() {
    let run = compare("idle", Path::new("nowhere"), &["--targets", "floor", "--scenario", "idle"]);
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
        let run =
            compare(name, Path::new(home), &["--targets", &format!("floor,{name}"), "--window", "1,32"]);
        assert!(run.output.contains("window 32: every reading client"), "{name}: {}", run.output);
        assert!(run.output.contains("window 1: every reading client"), "{name}: {}", run.output);
    }
}
