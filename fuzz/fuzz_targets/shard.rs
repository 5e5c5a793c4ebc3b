//! Any bytes as the shape of a node and operations on its shards, with transports in memory: no panic, and after every step
//! queues, books and what clients read are what a naive model says. The model is that of the simulation.

#![no_main]
#![allow(dead_code, reason = "the simulation needs more of these files than this target does")]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/simulation/policies/mod.rs"]
mod policies;
#[path = "../../tests/simulation/random.rs"]
mod random;
#[path = "../../tests/simulation/seen.rs"]
mod seen;
#[path = "../../tests/simulation/steps.rs"]
mod steps;
#[path = "../../tests/simulation/stream.rs"]
mod stream;

fuzz_target!(|bytes: &[u8]| policies::run_bytes(bytes));
