//! A soak says whether memory goes on growing, and finds what every other scenario finds. Alone in its file: the server
//! is this process, and nothing else may allocate meanwhile.

mod contract;

use std::process::Command;

use contract::{Breach, ContractServer};
use serde_json::Value;

/// Runs a short soak, in which no leak can be ruled out, and gives its exit code, what it printed, and its figures.
fn soak(server: &ContractServer) -> (Option<i32>, String, Value) {
    let name = format!("soak-{}-{}.json", std::process::id(), server.address.port());
    let json = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["soak", "--target", &server.address.to_string(), "--clients", "60", "--duration", "2s"])
        .args(["--warm-up", "500ms", "--rate", "100", "--changes", "50", "--cycles", "20", "--stalled", "5%"])
        .args(["--allowance", "16MiB", "--json"])
        .arg(&json)
        .output()
        .expect("the harness runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let document =
        std::fs::read_to_string(&json).unwrap_or_else(|error| panic!("no figures: {error}\n{text}"));
    let _ = std::fs::remove_file(&json);
    let mut document: Value = serde_json::from_str(&document).expect("valid JSON");
    (output.status.code(), text, document["result"].take())
}

#[test]
fn memory_that_goes_on_growing_is_a_leak_and_nothing_else_is() {
    let (code, text, result) = soak(&ContractServer::start(Breach::None));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("TOO SHORT") && text.contains("16.0 MiB are allowed"), "{text}");
    for counter in ["deliveries", "changes", "vanished", "back"] {
        assert!(result[counter].as_u64() > Some(0), "{counter}\n{text}");
    }
    assert_eq!(result["memory"]["verdict"], "too_short");

    let server = ContractServer::start(Breach::Leak(512 * 1024));
    let (code, text, result) = soak(&server);
    assert!(server.breaches() > 0);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(result["memory"]["verdict"], "leaks");
    assert_eq!(result["faults"]["lost"], 0);
    assert!(text.contains("LEAK"), "{text}");
}
