//! A simulation of the engine: shards, delayed queues, and connections that are slow, stuck, cut, fickle or gone,
//! against naive models, in one thread and without time, sockets or sleep.
//!
//! Each seed is one run: which limits, how many shards, what happens next. `FANFARE_SEEDS=2000 cargo test --test
//! simulation` runs more of them. A seed that fails is shown with the fewest steps that were found to fail in the same place,
//! and `FANFARE_SEED=7 cargo test --test simulation seeds` runs that one alone. Scripts beside it do by name what a seed might do only now and then.

mod chaos;
mod driver;
mod model;
mod net;
mod policies;
mod random;
mod resumes;
mod resumes_model;
mod scripts_load;
mod scripts_topics;
mod seen;
mod several;
mod several_model;
mod steps;
mod stream;
mod watch;
mod world;

use steps::Steps;

/// Seeds of a run that is told nothing.
const SEEDS: u64 = 200;
const RESUMING_SEEDS: u64 = 120;
const POLICED_SEEDS: u64 = 250;
const SEVERAL_SEEDS: u64 = 150;

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Runs `one` for each seed, or for the one that the environment names. `never` says what did not happen in all of `least`
/// seeds or more.
fn for_seeds<T: Default + std::ops::AddAssign + std::fmt::Debug>(
    name: &str,
    least: u64,
    one: impl Fn(u64, &mut Steps<'_>) -> T,
    never: impl Fn(&T) -> Vec<&'static str>,
) {
    if let Some(seed) = from_environment("FANFARE_SEED") {
        println!("{:#?}", steps::run(name, seed, &one));
        return;
    }
    let first = from_environment("FANFARE_FIRST_SEED").unwrap_or(0);
    let seeds = from_environment("FANFARE_SEEDS").unwrap_or(least);
    let mut seen = T::default();
    for seed in first..first + seeds {
        seen += steps::run(name, seed, &one);
    }
    println!("{seen:#?}");
    if seeds >= least {
        assert!(never(&seen).is_empty(), "in {seeds} seeds this never happened: {:?}", never(&seen));
    }
}

#[test]
fn seeds() {
    for_seeds("seeds", SEEDS, chaos::run, seen::Seen::never);
}

#[test]
fn resuming_seeds() {
    for_seeds("resuming_seeds", RESUMING_SEEDS, resumes::run, seen::Resumed::never);
}

#[test]
fn several_seeds() {
    for_seeds("several_seeds", SEVERAL_SEEDS, several::run, seen::Severally::never);
}

#[test]
fn policed_seeds() {
    for_seeds("policed_seeds", POLICED_SEEDS, policies::run, seen::Policed::never);
}
