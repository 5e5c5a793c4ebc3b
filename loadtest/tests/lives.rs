//! Clients that vanish, come back, change their topics or read slowly: a server that serves them as the contract says
//! passes, and one that breaks it in one way is found out, with the right count.

mod contract;
mod harness;

use contract::{Breach, ContractServer};
use harness::Run;
use serde_json::Value;

/// Runs `scenario` against `server`.
fn run(server: &ContractServer, scenario: &str, arguments: &[&str]) -> Run {
    let address = server.address.to_string();
    Run::with(&[&[scenario, "--target", &address, "--threads", "2"], arguments])
}

impl Run {
    /// A counter of the first round.
    fn count(&self, pointer: &str) -> u64 {
        let value = self.result["rounds"][0].pointer(pointer).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no {pointer} in\n{}", self.result))
    }

    /// lost, duplicated, reordered, garbled, misdelivered
    fn faults(&self) -> [u64; 5] {
        ["lost", "duplicated", "reordered", "garbled", "misdelivered"]
            .map(|name| self.count(&format!("/faults/{name}")))
    }

    fn assert_ended(&self, code: i32, faults: [u64; 5]) {
        assert_eq!(self.faults(), faults, "{}", self.output);
        assert_eq!(self.code, Some(code), "{}", self.output);
    }
}

const STORM: [&str; 10] =
    ["--clients", "40", "--vanish", "50%", "--rate", "200", "--duration", "300ms", "--warm-up", "100ms"];

#[test]
fn clients_that_vanish_are_served_again() {
    for extra in [&[][..], &["--anew"], &["--away", "50ms", "--handshakes", "4"]] {
        let server = ContractServer::start(Breach::None);
        let run = run(&server, "storm", &[&STORM[..], extra].concat());
        run.assert_ended(0, [0; 5]);
        assert_eq!((run.count("/vanished"), run.count("/back"), run.count("/never_back")), (20, 20, 0));
        let round = &run.result["rounds"][0];
        assert!(round["all_served_seconds"].as_f64() >= round["accepting_again_seconds"].as_f64());
        let (phases, events) = (&round["timeline"]["phases"], &round["timeline"]["events"]);
        let names = |marks: &Value| -> Vec<String> {
            let marks = marks.as_array().expect("a list").iter();
            marks.filter_map(|mark| Some(mark["name"].as_str()?.to_owned())).collect()
        };
        assert_eq!(
            names(phases),
            ["connecting", "warming up", "measuring", "storm", "after it", "draining"],
            "{}",
            run.output
        );
        assert_eq!(names(events), ["vanished", "all served"]);
        assert!(run.count("/during/samples") > 0 && run.count("/after/samples") > 0, "{}", run.output);
    }
}

#[test]
fn what_a_client_that_came_back_misses_is_lost() {
    let server = ContractServer::start(Breach::LoseAfterReturn);
    let run = run(&server, "storm", &STORM);
    run.assert_ended(1, [server.breaches(), 0, 0, 0, 0]);
    assert_eq!(server.breaches(), 20);
}

#[test]
fn who_is_never_let_in_again_is_counted() {
    let server = ContractServer::start(Breach::ForgetClients);
    let run = run(&server, "storm", &[&STORM[..], &["--patience", "500ms"]].concat());
    run.assert_ended(1, [0; 5]);
    assert_eq!(run.count("/never_back"), 20);
    assert!(run.output.contains("status 404"), "{}", run.output);
}

#[test]
fn a_client_closed_though_it_reads_is_a_fault() {
    let server = ContractServer::start(Breach::CloseReader(30));
    let run = run(&server, "storm", &[&STORM[..], &["--vanish", "10%"]].concat());
    assert_eq!(run.code, Some(1), "{}", run.output);
    assert_eq!(run.result["rounds"][0]["closed"], serde_json::json!({ "1013": 1 }));
}

/// As a storm is, with clients that resume.
const RESUME: [&str; 12] = [
    "--clients",
    "40",
    "--vanish",
    "50%",
    "--rate",
    "200",
    "--duration",
    "300ms",
    "--warm-up",
    "200ms",
    "--away",
    "100ms",
];

#[test]
fn clients_that_resume_get_what_they_missed() {
    for extra in [&[][..], &["--away", "0s"], &["--handshakes", "4", "--rounds", "2"]] {
        let server = ContractServer::start(Breach::None);
        let run = run(&server, "resume", &[&RESUME[..], extra].concat());
        run.assert_ended(0, [0; 5]);
        assert_eq!((run.count("/vanished"), run.count("/back"), run.count("/never_back")), (20, 20, 0));
        assert_eq!((run.count("/recovered"), run.count("/not_recovered")), (20, 0), "{}", run.output);
        assert!(run.result["median_all_recovered_seconds"].as_f64() > Some(0.0), "{}", run.output);
        // Nobody misses anything at all: whoever was away too.
        assert_eq!(run.count("/deliveries"), run.count("/published") * 40, "{}", run.output);
        assert!(run.count("/during/samples") > 0 && run.count("/after/samples") > 0, "{}", run.output);
    }
}

#[test]
fn every_fault_of_a_recovery_is_found() {
    /// What has to be found of so many breaches: lost, duplicated, reordered, garbled, misdelivered.
    type Expected = fn(u64) -> [u64; 5];
    let faults: [(Breach, Expected); 3] = [
        (Breach::LoseOfReplay, |done| [done, 0, 0, 0, 0]),
        (Breach::ReplayTwice, |done| [0, done, 0, 0, 0]),
        (Breach::LoseAfterReplay, |done| [done, 0, 0, 0, 0]),
    ];
    for (breach, expected) in faults {
        let server = ContractServer::start(breach);
        let run = run(&server, "resume", &RESUME);
        assert_eq!(server.breaches(), 20, "{breach:?}");
        run.assert_ended(1, expected(20));
    }
}

#[test]
fn who_vanishes_before_its_first_answer_has_nothing_to_recover() {
    let server = ContractServer::start(Breach::AnswerLate);
    let run = run(&server, "resume", &RESUME);
    run.assert_ended(0, [0; 5]);
    assert_eq!((run.count("/vanished"), run.count("/back")), (20, 20));
    let without_position = run.count("/without_position");
    assert!(without_position > 0, "the first that vanished had no answer\n{}", run.output);
    assert_eq!(run.count("/recovered") + without_position, 20, "{}", run.output);
    assert_eq!(run.result["rounds"][0]["timeline"]["events"][1]["name"], "all recovered", "{}", run.output);
}

#[test]
fn a_subscription_that_is_never_answered_is_a_fault() {
    let server = ContractServer::start(Breach::IgnoreSubscriptions(40));
    let run = run(&server, "resume", &[&RESUME[..], &["--patience", "500ms"]].concat());
    run.assert_ended(1, [0; 5]);
    assert_eq!(run.count("/unanswered"), 20, "those who stayed\n{}", run.output);
}

#[test]
fn who_is_not_recovered_is_counted() {
    let server = ContractServer::start(Breach::ForgetHistory);
    let run = run(&server, "resume", &[&RESUME[..], &["--patience", "500ms"]].concat());
    assert_eq!(run.code, Some(1), "{}", run.output);
    assert_eq!((run.count("/recovered"), run.count("/not_recovered")), (0, 20), "{}", run.output);
    assert_eq!(run.count("/told/gaps"), 20);
    assert_eq!(run.count("/told/dropped"), run.count("/faults/lost"), "{}", run.output);
}

const CHURN: [&str; 12] = [
    "--clients",
    "30",
    "--topics",
    "6",
    "--topics-each",
    "3",
    "--rate",
    "400",
    "--changes",
    "100",
    "--duration",
    "800ms",
];

#[test]
fn clients_that_change_their_topics_get_exactly_what_they_want() {
    let server = ContractServer::start(Breach::None);
    let run = run(&server, "churn", &CHURN);
    run.assert_ended(0, [0; 5]);
    assert!(run.count("/changes") > 10 && run.count("/deliveries") > 100, "{}", run.output);
    assert_eq!(run.count("/change/samples"), run.count("/changes"));
}

#[test]
fn a_topic_that_goes_on_after_it_was_left_is_noticed() {
    let server = ContractServer::start(Breach::SpeakAfterLeave);
    let run = run(&server, "churn", &CHURN);
    let [others @ .., strays] = run.faults();
    assert_eq!(others, [0; 4], "{}", run.output);
    // One that was sent between the new list and its pong was no fault yet.
    assert!(strays > 0 && strays <= server.breaches(), "{strays} of {}\n{}", server.breaches(), run.output);
    assert_eq!(run.code, Some(1), "{}", run.output);
}

#[test]
fn what_a_change_swallows_is_lost() {
    for breach in [Breach::LoseKept, Breach::LoseJoined] {
        let server = ContractServer::start(breach);
        let run = run(&server, "churn", &[&CHURN[..], &["--patience", "3s"]].concat());
        assert!(server.breaches() > 0);
        let [lost, others @ ..] = run.faults();
        assert_eq!(others, [0; 4], "{}", run.output);
        // One that was sent before the client had its pong, or left again before the end, need not have come.
        assert!(lost > 0 && lost <= server.breaches(), "{lost} of {}\n{}", server.breaches(), run.output);
        assert_eq!(run.code, Some(1), "{}", run.output);
    }
}

#[test]
fn a_change_without_a_pong_is_a_fault() {
    let server = ContractServer::start(Breach::IgnorePings);
    let run = run(&server, "churn", &[&CHURN[..], &["--patience", "300ms"]].concat());
    assert_eq!(run.code, Some(1), "{}", run.output);
    assert_eq!(run.count("/unanswered"), server.breaches());
}

/// Enough for every buffer between a server and a client that reads nothing to run over.
const SLOW: [&str; 14] = [
    "--clients",
    "20",
    "--slow",
    "10%",
    "--rate",
    "150",
    "--payload",
    "60000",
    "--duration",
    "1500ms",
    "--rounds",
    "1",
    "--receive-buffer",
    "256KiB",
];

#[test]
fn slow_clients_may_be_closed_and_cost_nobody_anything() {
    let server = ContractServer::start(Breach::None);
    let run = run(&server, "slow", &SLOW);
    run.assert_ended(0, [0; 5]);
    let [without, with] = [0, 1].map(|round| &run.result["rounds"][round]);
    assert_eq!((without["slow"].as_u64(), with["slow"].as_u64()), (Some(0), Some(2)));
    let closed = with["closed_slow"].as_object().expect("codes");
    assert_eq!(
        closed.values().filter_map(|closed| closed["count"].as_u64()).sum::<u64>(),
        2,
        "{}",
        run.output
    );
    assert_eq!(without["closed_slow"], serde_json::json!({}));
    assert!(run.result["p99_ratio"].as_f64().is_some_and(|ratio| ratio > 0.0));
    assert_eq!(run.result["p99_ratio_interval"], Value::Null, "one pair has none");
    assert_eq!(with["audit"]["closed"]["slow"], 2, "{}", run.output);
    assert_eq!(with["audit"]["disagreement"], Value::Null, "{}", run.output);
    assert_eq!(without["audit"]["closed"]["slow"], 0);
    let events = with["timeline"]["events"].as_array().expect("a list");
    let names: Vec<_> = events.iter().filter_map(|event| event["name"].as_str()).collect();
    assert_eq!(names[..2], ["stalled", "first slow one saw its end"]);
}

#[test]
fn a_ledger_that_counts_other_slow_clients_than_there_were_fails_the_run() {
    let server = ContractServer::start(Breach::MiscountSlow);
    let run = run(&server, "slow", &SLOW);
    run.assert_ended(1, [0; 5]);
    let with = &run.result["rounds"][1]["audit"];
    assert!(with["disagreement"].as_str().is_some_and(|text| text.contains("as slow")), "{}", run.output);
    assert!(run.output.contains("LEDGER DISAGREES"), "{}", run.output);
}

#[test]
fn a_client_that_reads_slowly_enough_to_keep_up_gets_everything_late() {
    let server = ContractServer::start(Breach::None);
    let gently = ["--rate", "50", "--payload", "128", "--read-rate", "16KiB", "--duration", "800ms"];
    let run = run(&server, "slow", &[&SLOW[..], &gently].concat());
    run.assert_ended(0, [0; 5]);
    let with = &run.result["rounds"][1];
    assert!(with["slow_deliveries"].as_u64() > Some(0), "{}", run.output);
    assert_eq!(with["slow_deliveries"], with["age"]["samples"]);
    assert_eq!(with["closed_slow"], serde_json::json!({}), "{}", run.output);
}

#[test]
fn a_slow_client_that_misses_something_and_goes_on_is_a_fault() {
    let server = ContractServer::start(Breach::DropForSlow);
    let run = run(&server, "slow", &[&SLOW[..], &["--patience", "3s"]].concat());
    assert!(server.breaches() > 0);
    let with = &run.result["rounds"][1];
    assert_eq!(with["faults"]["lost"].as_u64(), Some(server.breaches()), "{}", run.output);
    assert_eq!(run.code, Some(1), "{}", run.output);
}

/// The same where slow clients are kept and lose.
const DROPS: [&str; 4] = ["--policy", "drop-newest", "--protocol", "v1"];

#[test]
fn slow_clients_may_lose_what_is_counted_and_told() {
    let server = ContractServer::start(Breach::None);
    let run = run(&server, "slow", &[&SLOW[..], &DROPS].concat());
    assert_eq!(run.code, Some(0), "{}", run.output);
    let with = &run.result["rounds"][1];
    let lost = with["faults"]["lost"].as_u64();
    assert!(lost > Some(0), "{}", run.output);
    for same in ["/lost_by_policy", "/told/dropped", "/audit/dropped/bound"] {
        assert_eq!(with.pointer(same).and_then(Value::as_u64), lost, "{same}\n{}", run.output);
    }
    // One each, and one more whenever something was taken in between.
    assert_eq!(with["untold"], 0, "{}", run.output);
    assert!(with["told"]["gaps"].as_u64() >= Some(2), "{}", run.output);
}

#[test]
fn clients_of_the_plain_protocol_are_told_of_no_loss() {
    let server = ContractServer::start(Breach::None);
    // What was dropped last is waited for: nothing says that it will not come.
    let plain = ["--policy", "drop-newest", "--patience", "1s"];
    let run = run(&server, "slow", &[&SLOW[..], &plain].concat());
    assert_eq!(run.code, Some(0), "{}", run.output);
    let with = &run.result["rounds"][1];
    assert!(with["lost_by_policy"].as_u64() > Some(0) && with["told"].is_null(), "{}", run.output);
    assert_eq!(with["audit"]["dropped"]["bound"], with["lost_by_policy"], "{}", run.output);
}

#[test]
fn losses_that_are_not_told_or_not_counted_are_faults() {
    for (breach, says) in [
        (Breach::ConcealDrops, "IS NOT WHAT THEY MISS"),
        (Breach::ExaggerateDrops, "IS NOT WHAT THEY MISS"),
        (Breach::MistakeDrops, "LEDGER DISAGREES"),
    ] {
        let server = ContractServer::start(breach);
        let run = run(&server, "slow", &[&SLOW[..], &DROPS, &["--patience", "1s"]].concat());
        assert_eq!(run.code, Some(1), "{breach:?}\n{}", run.output);
        assert!(run.output.contains(says), "{breach:?}\n{}", run.output);
        let untold = run.result["rounds"][1]["untold"].as_u64();
        assert_eq!(untold, Some(server.breaches()), "{breach:?}\n{}", run.output);
    }
}

#[test]
fn every_scenario_draws_its_page() {
    for (scenario, arguments, texts) in [
        (
            "storm",
            &STORM[..],
            &["Those who stayed", "during", "vanished", "all served", "Open connections"][..],
        ),
        ("resume", &RESUME[..], &["Recovery", "not recovered", "all recovered", "Latency by percentile"]),
        ("churn", &CHURN[..], &["Time of a change by percentile", "Throughput"]),
        ("slow", &SLOW[..], &["with them", "stalled", "by the ledger", "CPU of the generator"]),
        (
            "soak",
            &["--clients", "20", "--duration", "300ms", "--stalled", "0%"],
            &["The server&#39;s resident memory", "TOO SHORT", "Undecided", "Latency by percentile"],
        ),
    ] {
        let server = ContractServer::start(Breach::None);
        let page = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("lives-{}-{scenario}.html", std::process::id()));
        let run = run(&server, scenario, &[arguments, &["--report", &page.to_string_lossy()]].concat());
        assert_eq!(run.code, Some(if scenario == "soak" { 2 } else { 0 }), "{}", run.output);
        let html = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{error}\n{}", run.output));
        let _ = std::fs::remove_file(&page);
        for text in texts {
            assert!(html.contains(text), "{scenario}: no `{text}`");
        }
    }
}
