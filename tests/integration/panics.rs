//! Panics: where they are said, and what becomes of the node.
//!
//! A log is a process's, so each test runs itself again as one, told so by the environment.

use std::{
    env,
    net::SocketAddr,
    process::{Command, exit},
};

use fanfare::{engine::Fanout, logging, server::Server};

use crate::support::{
    process::{self, Ended},
    shards,
};

/// Has a process be the one in which something panics.
const HERE: &str = "PANICS_HERE";
/// What such a process ends with.
const CODE: i32 = 7;

/// Runs the test of this name as a process of its own, as far as it does what `HERE` asks for.
fn again(test: &str) -> Ended {
    let mut command = Command::new(env::current_exe().expect("it runs"));
    process::end_of(command.args([test, "--exact", "--nocapture"]).env(HERE, "1"))
}

#[test]
fn panic_of_a_shard_is_a_line_of_the_log_and_ends_the_node_with_an_error() {
    if env::var_os(HERE).is_none() {
        let ended = again("panics::panic_of_a_shard_is_a_line_of_the_log_and_ends_the_node_with_an_error");
        assert_eq!(ended.code, Some(CODE), "{}", ended.stderr);
        let lines = ended.stderr.lines().map(|line| {
            serde_json::from_str(line).unwrap_or_else(|_| panic!("said beside the log: {}", ended.stderr))
        });
        let said: Vec<serde_json::Value> =
            lines.filter(|line: &serde_json::Value| line["level"] == "ERROR").collect();
        let [panic] = &said[..] else { panic!("one error: {}", ended.stderr) };
        assert_eq!(panic["thread"], "shard-1", "{panic}");
        let message = panic["message"].as_str().expect("it has one");
        assert!(
            message.contains("panicked at src/engine/") && message.contains("index out of bounds"),
            "{message}"
        );
        return;
    }
    logging::start(true, "info").expect("a level");
    let server = Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), shards(2)).expect("a free port");
    // There is no such shard; nobody but another shard says such a thing.
    server.node().mailboxes().to_shard(1, Fanout::Unwanted { home: u16::MAX });
    let error = server.wait().expect_err("a node without one of its shards does not go on");
    assert_eq!(error.to_string(), "shard-1 panicked");
    logging::flush();
    exit(CODE);
}
