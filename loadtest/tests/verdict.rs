//! The harness is itself put to the test: against a server that is faithful, and against servers that each do one
//! thing wrong and count how often. The harness has to report exactly that, and to exit accordingly.

mod harness;
#[allow(dead_code, reason = "each file of tests uses its part")]
mod support;

use std::process::Command;

use harness::Run;
use serde_json::Value;
use support::{Fault, FaultyServer};

/// Runs a short fan-out against `server` with `extra` arguments.
fn fan_out(server: &FaultyServer, extra: &[&str]) -> Run {
    let address = server.address.to_string();
    let short = ["--duration", "400ms", "--warm-up", "100ms", "--settle", "0s", "--patience", "10s"];
    Run::with(&[&["fanout", "--target", &address, "--clients", "40", "--threads", "1"], &short, extra])
}

impl Run {
    fn round(&self) -> &Value {
        &self.result["rounds"][0]
    }

    /// lost, duplicated, reordered, garbled
    fn faults(&self) -> [u64; 4] {
        ["lost", "duplicated", "reordered", "garbled"]
            .map(|name| self.round()["faults"][name].as_u64().expect("a count"))
    }

    fn assert_faultless(&self) {
        assert_eq!(self.faults(), [0; 4], "{}", self.output);
        assert_eq!(self.code, Some(0), "{}", self.output);
        assert!(self.round()["deliveries"].as_u64().expect("a count") > 0, "{}", self.output);
    }

    fn assert_faulty(&self, faults: [u64; 4]) {
        assert_eq!(self.faults(), faults, "{}", self.output);
        assert_eq!(self.code, Some(1), "{}", self.output);
    }
}

#[test]
fn a_faithful_server_passes() {
    for window in ["1", "32", "256"] {
        fan_out(&FaultyServer::start(Fault::None), &["--window", window]).assert_faultless();
    }
}

#[test]
fn a_faithful_server_passes_in_fanfare_v1() {
    for extra in [&[][..], &["--window", "1"], &["--processes", "3"], &["--payload", "4KiB"]] {
        let run = fan_out(&FaultyServer::start(Fault::None), &[&["--protocol", "v1"], extra].concat());
        run.assert_faultless();
        assert_eq!(run.result["protocol"], "fanfare.v1");
        let told = serde_json::json!({ "gaps": 0, "conflated": 0, "dropped": 0 });
        assert_eq!(run.round()["told"], told, "{}", run.output);
    }
    fan_out(&FaultyServer::start(Fault::Dribble), &["--protocol", "v1"]).assert_faultless();
}

#[test]
fn fanfare_v1_is_compared_with_the_plain_protocol() {
    let server = FaultyServer::start(Fault::None);
    let address = server.address.to_string();
    let run = Run::with(&[
        &["fanout", "--target", &address, "--clients", "20", "--duration", "100ms", "--warm-up", "0s"],
        &["--settle", "0s", "--rounds", "1", "--protocol", "v1", "--against", "plain-protocol"],
    ]);
    assert_eq!(run.code, Some(0), "{}", run.output);
    let names = [0, 1].map(|at| run.result["rounds"][at]["server"].clone());
    assert_eq!(names, ["target", "plain protocol"]);
    assert!(run.result["ratio"]["deliveries_per_second"].as_f64() > Some(0.0), "{}", run.output);
}

#[test]
fn every_fault_is_found_in_fanfare_v1() {
    /// What has to be found of so many faults done.
    type Expected = fn(u64) -> [u64; 4];
    let faults: [(Fault, Expected); 7] = [
        (Fault::Lose(97), |done| [done, 0, 0, 0]),
        (Fault::Duplicate(89), |done| [0, done, 0, 0]),
        (Fault::Reorder(83), |done| [0, 0, done, 0]),
        (Fault::Garble(79, 5), |done| [done, 0, 0, done]),
        (Fault::Misnumber(79), |done| [done, 0, 0, done]),
        (Fault::Misplace(79), |done| [0, 0, 0, done]),
        (Fault::Bemoan(79), |_| [0; 4]),
    ];
    for (fault, expected) in faults {
        let server = FaultyServer::start(fault);
        let run = fan_out(&server, &["--protocol", "v1"]);
        assert!(server.faults_done() > 0, "{fault:?}");
        run.assert_faulty(expected(server.faults_done()));
        if let Fault::Bemoan(_) = fault {
            assert_eq!(run.round()["told"]["dropped"], server.faults_done(), "{}", run.output);
        }
    }
}

#[test]
fn a_server_that_does_not_speak_fanfare_v1_is_not_measured() {
    let ended = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["fanout", "--server", env!("CARGO_BIN_EXE_loadtest"), "--clients", "4", "--protocol", "v1"])
        .args(["--server-args", "serve-floor --listen {listen}"])
        .output()
        .expect("the harness runs");
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{errors}");
    assert!(errors.contains("does not speak fanfare.v1"), "{errors}");
}

#[test]
fn several_threads_agree_on_the_window() {
    let run = fan_out(&FaultyServer::start(Fault::None), &["--threads", "3", "--window", "1"]);
    run.assert_faultless();
}

#[test]
fn several_processes_agree_on_the_window() {
    for (processes, window) in [("2", "1"), ("3", "1"), ("2", "32"), ("2", "256")] {
        let extra = ["--processes", processes, "--window", window];
        let run = fan_out(&FaultyServer::start(Fault::None), &extra);
        run.assert_faultless();
        assert_eq!(run.round()["generator_processes"].to_string(), processes, "{}", run.output);
        // Each message, at every client, whoever holds it.
        let [published, received] =
            [&run.round()["published"], &run.round()["audit"]["received"]].map(|count| count.as_u64());
        assert_eq!(received, published.map(|published| published * 40), "{}", run.output);
    }
}

#[test]
fn several_processes_find_every_fault() {
    /// What has to be found of so many faults done.
    type Expected = fn(u64) -> [u64; 4];
    let faults: [(Fault, Expected); 6] = [
        (Fault::Lose(97), |done| [done, 0, 0, 0]),
        (Fault::Duplicate(89), |done| [0, done, 0, 0]),
        (Fault::Reorder(83), |done| [0, 0, done, 0]),
        (Fault::Garble(79, 5), |done| [done, 0, 0, done]),
        (Fault::Garble(79, 127), |done| [0, 0, 0, done]),
        (Fault::Misnumber(79), |done| [done, 0, 0, done]),
    ];
    for (fault, expected) in faults {
        let server = FaultyServer::start(fault);
        // All but two are held by other processes, and so is whoever joins as the fourth, most likely.
        let run = fan_out(&server, &["--processes", "20"]);
        assert!(server.faults_done() > 0, "{fault:?}");
        run.assert_faulty(expected(server.faults_done()));
    }
}

#[test]
fn several_processes_count_closed_stalled_and_refused() {
    let run = fan_out(&FaultyServer::start(Fault::Close(1013, 50)), &["--processes", "20"]);
    run.assert_faulty([0; 4]);
    assert_eq!(run.round()["closed"], serde_json::json!({ "1013": 1 }));

    let run = fan_out(&FaultyServer::start(Fault::Cut(50)), &["--processes", "20"]);
    run.assert_faulty([0; 4]);
    assert_eq!(run.round()["closed"], serde_json::json!({ "no close frame": 1 }));

    let server = FaultyServer::start(Fault::Refuse(7));
    let run = fan_out(&server, &["--processes", "2"]);
    run.assert_faultless();
    assert_eq!(run.round()["refused"], server.faults_done());

    let stalling = ["--processes", "4", "--stalled", "10%", "--stall-after", "100ms"];
    let run = fan_out(&FaultyServer::start(Fault::None), &stalling);
    run.assert_faultless();
    assert_eq!(run.round()["stalled"], 4);
}

#[test]
fn a_client_of_another_process_that_gets_nothing_more_ends_the_run() {
    let server = FaultyServer::start(Fault::LoseFrom(100));
    let few = ["--window", "8", "--duration", "20s", "--patience", "1s", "--processes", "20"];
    let run = fan_out(&server, &few);
    run.assert_faulty([server.faults_done(), 0, 0, 0]);
    assert_eq!(run.round()["stuck"], true);
    assert_eq!(server.faults_done(), 8, "the window bounds what can be lost");
}

#[test]
fn large_messages_and_frames_in_pieces_are_put_together() {
    let server = FaultyServer::start(Fault::Dribble);
    fan_out(&server, &["--payload", "4000"]).assert_faultless();
    assert!(server.faults_done() > 0);
}

#[test]
fn pings_are_answered() {
    let server = FaultyServer::start(Fault::Ping);
    fan_out(&server, &[]).assert_faultless();
    assert!(server.faults_done() > 0);
}

#[test]
fn every_lost_message_is_counted() {
    let server = FaultyServer::start(Fault::Lose(97));
    let run = fan_out(&server, &[]);
    assert!(server.faults_done() > 0);
    run.assert_faulty([server.faults_done(), 0, 0, 0]);
}

#[test]
fn a_client_that_gets_nothing_more_ends_the_run_and_is_counted() {
    let server = FaultyServer::start(Fault::LoseFrom(100));
    let run = fan_out(&server, &["--window", "8", "--duration", "20s", "--patience", "1s"]);
    run.assert_faulty([server.faults_done(), 0, 0, 0]);
    assert_eq!(run.round()["stuck"], true);
    assert_eq!(server.faults_done(), 8, "the window bounds what can be lost");
}

#[test]
fn every_duplicate_is_counted() {
    let server = FaultyServer::start(Fault::Duplicate(89));
    let run = fan_out(&server, &[]);
    assert!(server.faults_done() > 0);
    run.assert_faulty([0, server.faults_done(), 0, 0]);
}

#[test]
fn every_reordered_message_is_counted() {
    let server = FaultyServer::start(Fault::Reorder(83));
    let run = fan_out(&server, &[]);
    assert!(server.faults_done() > 0);
    run.assert_faulty([0, 0, server.faults_done(), 0]);
}

#[test]
fn a_wrong_sequence_number_is_garbled_and_its_message_lost() {
    let server = FaultyServer::start(Fault::Garble(79, 5));
    let run = fan_out(&server, &[]);
    assert!(server.faults_done() > 0);
    run.assert_faulty([server.faults_done(), 0, 0, server.faults_done()]);
}

#[test]
fn a_number_not_yet_given_out_is_garbled_and_its_message_lost() {
    let server = FaultyServer::start(Fault::Misnumber(79));
    let run = fan_out(&server, &[]);
    assert!(server.faults_done() > 0);
    run.assert_faulty([server.faults_done(), 0, 0, server.faults_done()]);
}

#[test]
fn a_wrong_byte_behind_the_digits_is_garbled() {
    let server = FaultyServer::start(Fault::Garble(79, 127));
    let run = fan_out(&server, &[]);
    assert!(server.faults_done() > 0);
    run.assert_faulty([0, 0, 0, server.faults_done()]);
}

#[test]
fn a_closed_client_is_a_fault_with_its_code() {
    let run = fan_out(&FaultyServer::start(Fault::Close(1013, 50)), &[]);
    run.assert_faulty([0; 4]);
    assert_eq!(run.round()["closed"], serde_json::json!({ "1013": 1 }));

    let run = fan_out(&FaultyServer::start(Fault::Cut(50)), &[]);
    run.assert_faulty([0; 4]);
    assert_eq!(run.round()["closed"], serde_json::json!({ "no close frame": 1 }));
}

#[test]
fn a_refused_publication_is_no_loss() {
    let server = FaultyServer::start(Fault::Refuse(7));
    let run = fan_out(&server, &[]);
    run.assert_faultless();
    assert!(server.faults_done() > 0);
    assert_eq!(run.round()["refused"], server.faults_done());
}

#[test]
fn clients_that_stop_reading_are_not_waited_for() {
    let run = fan_out(&FaultyServer::start(Fault::None), &["--stalled", "10%", "--stall-after", "100ms"]);
    run.assert_faultless();
    assert_eq!(run.round()["stalled"], 4);
    assert!(run.output.contains("4 clients stopped reading"), "{}", run.output);
}

#[test]
fn what_cannot_be_measured_is_told_apart_from_a_faulty_server() {
    let refusals: [(&[&str], &str); 4] = [
        (&["fanout", "--target", "192.0.2.1:80"], "127.0.0.0/8"),
        (&["fanout", "--target", "127.0.0.1:1"], "cannot connect"),
        (&["fanout", "--clients", "100000000"], "does not fit"),
        (&["fanout", "--payload", "8"], "32"),
    ];
    for (arguments, reason) in refusals {
        let output =
            Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().expect("the harness runs");
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(reason), "{text}");
    }
}
