//! A simulation of the engine: shards, delayed queues, and connections that are slow, stuck, cut, fickle or gone,
//! against a naive model, in one thread and without time, sockets or sleep.
//!
//! Each seed is one run: which limits, how many shards, what happens next. `FANFARE_SEEDS=2000 cargo test --test
//! simulation` runs more of them; a seed that fails says so, and `FANFARE_SEED=7 cargo test --test simulation seeds`
//! runs that one alone. Scripts beside it do by name what a seed might do only now and then.

mod chaos;
mod driver;
mod known;
mod model;
mod net;
mod random;
mod resumes;
mod resumes_model;
mod scripts_load;
mod scripts_topics;
mod seen;
mod stream;
mod watch;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Seeds of a run that is told nothing.
const SEEDS: u64 = 400;

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Runs `one` for each seed, or for the one that the environment names.
fn for_seeds<T: Default + std::ops::AddAssign + std::fmt::Debug>(
    name: &str,
    one: impl Fn(u64, &mut usize) -> T,
    never: impl Fn(&T) -> Vec<&'static str>,
) {
    let run = |seed: u64| {
        let mut step = 0;
        catch_unwind(AssertUnwindSafe(|| one(seed, &mut step))).unwrap_or_else(|panic| {
            eprintln!(
                "seed {seed} fails in step {step}; FANFARE_SEED={seed} cargo test --test simulation {name}"
            );
            resume_unwind(panic)
        })
    };
    if let Some(seed) = from_environment("FANFARE_SEED") {
        println!("{:#?}", run(seed));
        return;
    }
    let first = from_environment("FANFARE_FIRST_SEED").unwrap_or(0);
    let seeds = from_environment("FANFARE_SEEDS").unwrap_or(SEEDS);
    let mut seen = T::default();
    for seed in first..first + seeds {
        seen += run(seed);
    }
    println!("{seen:#?}");
    if seeds >= SEEDS {
        assert!(never(&seen).is_empty(), "in {seeds} seeds this never happened: {:?}", never(&seen));
    }
}

#[test]
fn seeds() {
    for_seeds("seeds", chaos::run, seen::Seen::never);
}

#[test]
fn resuming_seeds() {
    for_seeds("resuming_seeds", resumes::run, seen::Resumed::never);
}
