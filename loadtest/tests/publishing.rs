//! The scenarios that publish otherwise than in one window to one topic are put to the test: against a server that is
//! faithful, and against servers that each do one thing wrong. The harness has to report exactly that.

mod harness;
#[allow(dead_code, reason = "each file of tests uses its part")]
mod support;

use std::time::Duration;

use harness::Run;
use serde_json::Value;
use support::{Fault, FaultyServer};

const RATE: &[&str] = &["rate", "--rate", "600", "--publishers", "2"];
const TOPICS: &[&str] =
    &["topics", "--topics", "5", "--per-client", "5", "--interleave", "--publishers", "2"];
const USERS: &[&str] = &["users", "--per-user", "10", "--body", "json"];
const OVERLOAD: &[&str] =
    &["overload", "--rate", "400", "--publishers", "4", "--under-way", "2", "--payload", "1000"];
const SCENARIOS: [&[&str]; 4] = [RATE, TOPICS, USERS, OVERLOAD];
const FEW: [&str; 8] = ["--clients", "40", "--settle", "0s", "--patience", "10s", "--warm-up", "100ms"];

/// Runs a scenario with its own arguments, and then `extra`, against `server`.
fn run(server: &FaultyServer, scenario: &[&str], extra: &[&str]) -> Run {
    let address = server.address.to_string();
    Run::with(&[scenario, &["--target", &address, "--threads", "1", "--duration", "500ms"], extra])
}

impl Run {
    fn round(&self) -> &Value {
        &self.result["rounds"][0]
    }

    /// lost, duplicated, reordered, garbled, misdelivered
    fn faults(&self) -> [u64; 5] {
        ["lost", "duplicated", "reordered", "garbled", "misdelivered"]
            .map(|name| self.round()["faults"][name].as_u64().expect("a count"))
    }

    fn assert_faultless(&self) {
        assert_eq!(self.faults(), [0; 5], "{}", self.output);
        assert_eq!(self.code, Some(0), "{}", self.output);
        assert!(self.round()["deliveries"].as_u64().expect("a count") > 0, "{}", self.output);
    }

    /// In JSON a figure in nanoseconds.
    fn latency(&self, name: &str) -> Duration {
        Duration::from_nanos(self.round()["latency"][name].as_u64().expect("a latency"))
    }
}

#[test]
fn a_faithful_server_passes_and_its_ledger_agrees() {
    for scenario in SCENARIOS {
        let run = run(&FaultyServer::start(Fault::None), scenario, &FEW);
        run.assert_faultless();
        let audit = &run.round()["audit"];
        assert!(audit["written"].as_u64().is_some_and(|written| written > 0), "{}", run.output);
        assert_eq!(audit["written"], audit["received"], "{}", run.output);
        assert_eq!(audit["disagreement"], Value::Null, "{}", run.output);
    }
}

#[test]
fn a_ledger_that_disagrees_is_a_fault() {
    for scenario in SCENARIOS {
        let run = run(&FaultyServer::start(Fault::Miscount(3)), scenario, &FEW);
        assert_eq!(run.faults(), [0; 5], "{}", run.output);
        assert_eq!(run.code, Some(1), "{}", run.output);
        let text = run.round()["audit"]["disagreement"].as_str().expect("a reason");
        assert!(text.contains("3 more than clients got"), "{text}");
        assert!(run.output.contains("LEDGER DISAGREES"), "{}", run.output);
    }
}

#[test]
fn a_server_that_serves_others_too_is_not_held_to_its_ledger() {
    let run = run(&FaultyServer::start(Fault::ServeOthers(3)), SCENARIOS[0], &FEW);
    run.assert_faultless();
    assert_eq!(run.round()["audit"]["served_others"], Value::Bool(true), "{}", run.output);
    assert!(run.output.contains("not comparable: the server served others too"), "{}", run.output);
}

#[test]
fn what_is_lost_duplicated_or_reordered_is_counted_by_stream() {
    let faults = [Fault::Lose(7), Fault::Duplicate(7), Fault::Reorder(7), Fault::Garble(7, 12)];
    let one_publisher: &[&str] = &["rate", "--rate", "600"];
    for (index, fault) in faults.into_iter().enumerate() {
        // Of several publishers to one topic none knows the order; that of each is what counts.
        let reordered = [one_publisher, TOPICS, USERS];
        let scenarios = if index == 2 { &reordered[..] } else { &SCENARIOS[..] };
        for &scenario in scenarios {
            let server = FaultyServer::start(fault);
            // The last message of a stream may be the one that is lost: nothing behind it tells.
            let run = run(&server, scenario, &[&FEW[..], &["--patience", "1s"]].concat());
            let done = server.faults_done();
            assert!(done > 0, "{} {fault:?}", scenario[0]);
            let mut expected = [0; 5];
            expected[index] = done;
            if let Fault::Garble(..) = fault {
                // A wrong number is no message, and the right one never comes.
                expected[0] = done;
            }
            assert_eq!(run.faults(), expected, "{} {fault:?}\n{}", scenario[0], run.output);
            assert_eq!(run.code, Some(1), "{}", run.output);
        }
    }
}

#[test]
fn a_message_for_others_is_misdelivered() {
    let some_topics: &[&str] = &["topics", "--topics", "10", "--per-client", "3"];
    for scenario in [some_topics, USERS] {
        let server = FaultyServer::start(Fault::Misdeliver(7));
        let run = run(&server, scenario, &FEW);
        assert!(server.faults_done() > 0, "{}", run.output);
        assert_eq!(run.faults(), [0, 0, 0, 0, server.faults_done()], "{}", run.output);
        assert_eq!(run.code, Some(1), "{}", run.output);
    }
}

#[test]
fn several_threads_and_publishers_agree() {
    for scenario in SCENARIOS {
        let extra = [&FEW[..], &["--threads", "3"]].concat();
        run(&FaultyServer::start(Fault::None), scenario, &extra).assert_faultless();
    }
}

#[test]
fn several_processes_agree() {
    for scenario in SCENARIOS {
        let server = FaultyServer::start(Fault::None);
        let run = run(&server, scenario, &[&FEW[..], &["--processes", "3"]].concat());
        run.assert_faultless();
        assert_eq!(run.round()["audit"]["written"], run.round()["audit"]["received"], "{}", run.output);
    }
}

#[test]
fn several_processes_count_faults_by_stream() {
    let many = [&FEW[..], &["--processes", "20", "--patience", "1s"]].concat();
    for scenario in [TOPICS, USERS] {
        for (index, fault) in [Fault::Lose(7), Fault::Misdeliver(7)].into_iter().enumerate() {
            // On all topics nobody can get what is for others.
            let scenario = match fault {
                Fault::Misdeliver(_) if scenario == TOPICS => {
                    &["topics", "--topics", "10", "--per-client", "3"]
                }
                _ => scenario,
            };
            let server = FaultyServer::start(fault);
            let run = run(&server, scenario, &many);
            assert!(server.faults_done() > 0, "{} {fault:?}", scenario[0]);
            let mut expected = [0; 5];
            expected[[0, 4][index]] = server.faults_done();
            assert_eq!(run.faults(), expected, "{} {fault:?}\n{}", scenario[0], run.output);
        }
    }
}

#[test]
fn a_delay_is_in_every_latency() {
    let delay = Duration::from_millis(30);
    for processes in ["1", "20"] {
        let scenario = ["rate", "--rate", "15", "--processes", processes];
        let run = run(&FaultyServer::start(Fault::Delay(delay)), &scenario, &FEW);
        run.assert_faultless();
        assert!(run.latency("p50_ns") >= delay, "{}", run.output);
    }
}

#[test]
fn a_pause_counts_for_everything_that_was_due_in_it() {
    let pause = Duration::from_millis(600);
    let server = FaultyServer::start(Fault::Pause(30, pause));
    let extra = [&FEW[..], &["--duration", "1200ms"]].concat();
    let run = run(&server, &["rate", "--rate", "100"], &extra);
    run.assert_faultless();
    assert!(run.latency("max_ns") >= pause, "{}", run.output);
    // One publication met the pause itself. All that were due while it lasted waited too, and they are many.
    assert!(run.latency("p90_ns") >= pause / 4, "{}", run.output);
}

#[test]
fn publishers_that_fall_behind_say_so() {
    let server = FaultyServer::start(Fault::Delay(Duration::from_millis(5)));
    let run = run(&server, &["rate", "--rate", "1000"], &FEW);
    run.assert_faultless();
    assert!(run.output.contains("THE PUBLISHERS FELL BEHIND"), "{}", run.output);
    let supply = &run.round()["supply"];
    assert_eq!(supply["intended_per_second"], 1000.0);
    assert!(supply["accepted_per_second"].as_f64().is_some_and(|rate| rate < 990.0), "{}", run.output);
}

#[test]
fn what_is_refused_under_overload_is_offered_again_and_harms_nobody() {
    let server = FaultyServer::start(Fault::Refuse(3));
    let run = run(&server, OVERLOAD, &FEW);
    run.assert_faultless();
    assert!(server.faults_done() > 0);
    assert!(run.round()["supply"]["refused_per_second"].as_f64().is_some_and(|rate| rate > 0.0));
}

#[test]
fn what_a_slow_server_does_not_take_is_held_back_and_counted() {
    let server = FaultyServer::start(Fault::Delay(Duration::from_millis(20)));
    let run = run(&server, OVERLOAD, &FEW);
    run.assert_faultless();
    assert!(run.round()["supply"]["held_per_second"].as_f64().is_some_and(|rate| rate > 0.0));
}

#[test]
fn overload_finds_the_capacity_by_itself() {
    let server = FaultyServer::start(Fault::Delay(Duration::from_millis(5)));
    let scenario =
        ["overload", "--factor", "3", "--publishers", "2", "--under-way", "2", "--payload", "1000"];
    let run = run(&server, &scenario, &FEW);
    run.assert_faultless();
    let capacity = run.result["capacity_per_second"][0].as_f64().expect("a capacity");
    let intended = run.round()["supply"]["intended_per_second"].as_f64().expect("a rate");
    assert!((intended / capacity - 3.0).abs() < 1e-6, "{}", run.output);
    assert!(run.output.contains("3.0 times"), "{}", run.output);
}

#[test]
fn a_client_closed_under_overload_is_a_fault() {
    let run = run(&FaultyServer::start(Fault::Close(1013, 20)), OVERLOAD, &FEW);
    assert_eq!(run.code, Some(1), "{}", run.output);
    assert_eq!(run.round()["closed"], serde_json::json!({ "1013": 1 }));
}

#[test]
fn many_topics_are_compared_with_one() {
    let server = FaultyServer::start(Fault::None);
    let scenario =
        ["topics", "--topics", "10", "--per-client", "5", "--against", "one-topic", "--rounds", "1"];
    let run = run(&server, &scenario, &FEW);
    run.assert_faultless();
    assert_eq!(run.result["deliveries_per_publication"], 20.0);
    assert_eq!(run.result["rounds"][1]["server"], "one topic");
    assert_eq!(run.result["rounds"][1]["faults"]["misdelivered"], 0, "those aside get nothing");
    assert!(run.result["ratio"]["deliveries_per_second"].as_f64().is_some_and(|ratio| ratio > 0.0));
}

#[test]
fn publishing_alone_is_counted_and_compared() {
    let server = FaultyServer::start(Fault::None);
    let scenario = ["ingest", "--publishers", "4", "--pipeline", "3", "--warm-up", "50ms"];
    let run = run(&server, &scenario, &["--against", "hyper", "--rounds", "1"]);
    assert_eq!(run.code, Some(0), "{}", run.output);
    assert_eq!(run.result["rounds"][1]["server"], "hyper");
    for round in run.result["rounds"].as_array().expect("rounds") {
        assert!(round["requests"].as_u64().is_some_and(|requests| requests > 0), "{}", run.output);
    }
    assert!(run.result["ratio"]["requests_per_second"].as_f64().is_some_and(|ratio| ratio > 0.0));
}

#[test]
fn a_refused_request_is_a_fault_where_nothing_is_delivered() {
    let server = FaultyServer::start(Fault::Refuse(11));
    let run = run(&server, &["ingest", "--publishers", "2"], &["--warm-up", "50ms"]);
    assert_eq!(run.code, Some(1), "{}", run.output);
    assert_eq!(run.round()["refused"], server.faults_done());
}
