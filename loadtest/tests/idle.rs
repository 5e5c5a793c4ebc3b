//! Connections at rest: what they weigh, and whether two servers that are compared did the same work.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

const HARNESS: &str = env!("CARGO_BIN_EXE_loadtest");

/// Runs `idle` against the floor server and gives its figures and what it printed; it has to find no fault.
fn idle(name: &str, extra: &[&str]) -> (Value, String) {
    let json =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("idle-{name}-{}.json", std::process::id()));
    let output = Command::new(HARNESS)
        .args(["idle", "--server", HARNESS, "--server-args", "serve-floor --listen {listen}"])
        .args(["--clients", "40", "--settle", "0s", "--duration", "500ms", "--ping-every", "100ms", "--json"])
        .arg(&json)
        .args(extra)
        .output()
        .expect("the harness runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let document = std::fs::read_to_string(&json).expect("figures");
    let _ = std::fs::remove_file(&json);
    (serde_json::from_str::<Value>(&document).expect("valid JSON")["result"].take(), text)
}

#[test]
fn idle_connections_are_weighed_and_their_pongs_counted() {
    let (result, text) = idle("weighed", &["--ping-args", "--ping-every {every}"]);
    assert!(text.contains("B/connection") && !text.contains('?'), "{text}");
    assert!(result["rounds"][0]["pongs"].as_u64().is_some_and(|pongs| pongs >= 40), "{text}");
    assert!(result["ratio"].is_null());
}

#[test]
fn connections_of_several_processes_are_counted_alike() {
    let (result, text) = idle("processes", &["--ping-args", "--ping-every {every}", "--processes", "3"]);
    // Pinged five times each: one that never answered would be missed.
    assert!(result["rounds"][0]["pongs"].as_u64().is_some_and(|pongs| pongs >= 80), "{text}");
    assert!(result["rounds"][0]["per_connection_bytes"].is_number(), "{text}");
}

#[test]
fn rounds_alternate_with_a_floor_that_pings_too() {
    let (result, text) =
        idle("paired", &["--ping-args", "--ping-every {every}", "--against", "floor", "--rounds", "2"]);
    let rounds = result["rounds"].as_array().expect("rounds");
    let order: Vec<&str> = rounds.iter().filter_map(|round| round["server"].as_str()).collect();
    assert_eq!(order, ["target", "floor", "target", "floor"]);
    assert!(rounds.iter().all(|round| round["pongs"].as_u64().is_some_and(|pongs| pongs > 0)), "{text}");
    assert!(result["ratio"]["cpu"].as_f64().is_some_and(|ratio| ratio > 0.0), "{text}");
}

#[test]
fn servers_that_ping_differently_often_are_not_compared_in_silence() {
    let (result, text) = idle("apart", &["--ping-args", "", "--against", "floor", "--rounds", "1"]);
    assert_eq!(result["rounds"][0]["pongs"], 0);
    assert_eq!(result["incomparable"], true);
    assert!(text.contains("NOT COMPARABLE"), "{text}");
}
