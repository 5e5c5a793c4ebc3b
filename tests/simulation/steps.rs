//! The steps of a run, and how a run that fails is made short enough to read.
//!
//! Each step draws from chance that is its own, so a run may leave any of them out and the others stay what they are. A run
//! that fails is repeated with fewer and fewer steps, as long as it fails in the same place and there is time; what is
//! left is printed as a list, one line for each thing that was done.

use std::{
    cell::{Cell, RefCell},
    fmt::Write as _,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::Once,
    time::{Duration, Instant},
};

use crate::random::Random;

/// How long a failing run is made shorter.
const SHRINKING: Duration = Duration::from_secs(30);
/// Runs that this takes at most, so that the outcome depends on the machine as little as may be.
const ATTEMPTS: usize = 4_000;

thread_local! {
    /// The lines of the run under way, if it is to say what it does.
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
    /// The step that is being made.
    static NOW: Cell<usize> = const { Cell::new(0) };
    /// Whether a failure is expected, and not to be printed.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// Where the last failure was, and what it said.
    static FAILURE: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// A failure: its place in the code, and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    place: String,
    words: String,
}

/// Which steps of a run are made.
#[derive(Debug)]
pub(crate) struct Steps<'a> {
    seed: u64,
    /// Whether each is; those beyond the end are not. `None` stands for all.
    made: Option<&'a [bool]>,
}

impl Steps<'_> {
    /// Whether to make step `n`; if so, the chance for it.
    pub(crate) fn begin(&mut self, n: usize) -> Option<Random> {
        NOW.set(n);
        let is_made = self.made.is_none_or(|made| made.get(n).copied().unwrap_or(false));
        is_made.then(|| Random::new(self.seed).at(n))
    }

    /// All steps are made; what comes is the end of the run.
    pub(crate) fn end(&mut self) {
        NOW.set(usize::MAX);
    }
}

/// Says what is done, if somebody is to read it.
pub(crate) fn note(line: impl FnOnce() -> String) {
    let is_read = LINES.with_borrow(Option::is_some);
    if is_read {
        let line = match NOW.get() {
            usize::MAX => format!("  end: {}", line()),
            step => format!("{step:>5}: {}", line()),
        };
        LINES.with_borrow_mut(|lines| lines.get_or_insert_default().push(line));
    }
}

/// Makes a run of all steps of `seed`.
///
/// # Panics
/// When it fails, with the place, the words and the steps of a shorter run that fails there too.
pub(crate) fn run<T>(name: &str, seed: u64, one: impl Fn(u64, &mut Steps<'_>) -> T) -> T {
    let attempt = |made: Option<&[bool]>| {
        QUIET.set(true);
        NOW.set(0);
        listen();
        let outcome = catch_unwind(AssertUnwindSafe(|| one(seed, &mut Steps { seed, made })));
        QUIET.set(false);
        outcome.map_err(|_| FAILURE.take().expect("the hook noted it"))
    };
    let failure = match attempt(None) {
        Ok(seen) => return seen,
        Err(failure) => failure,
    };
    let last = NOW.get();
    let made = shorten(&failure, last, &|made| attempt(Some(made)).err());
    LINES.set(Some(Vec::new()));
    let shown = attempt(Some(&made)).err().unwrap_or_else(|| failure.clone());
    let lines = LINES.take().unwrap_or_default();
    let mut text = format!(
        "seed {seed} fails in {}: {}\n  at {}\nmade shorter, it fails so: {}\n",
        if last == usize::MAX { "the end".to_owned() } else { format!("step {last}") },
        failure.words,
        failure.place,
        shown.words
    );
    lines.iter().for_each(|line| writeln!(text, "  {line}").expect("a text takes everything"));
    writeln!(text, "again: FANFARE_SEED={seed} cargo test --test simulation {name}").expect("as above");
    panic!("{text}");
}

/// Leaves out steps, many at once and then fewer, as long as the run fails in the same place.
fn shorten(failure: &Failure, last: usize, fails: &dyn Fn(&[bool]) -> Option<Failure>) -> Vec<bool> {
    let begun = Instant::now();
    let mut attempts = 0;
    let mut fails_alike = |made: &[bool]| {
        attempts += 1;
        let in_time = attempts <= ATTEMPTS && begun.elapsed() < SHRINKING;
        in_time.then(|| fails(made).is_some_and(|other| other.place == failure.place))
    };
    // A failure at the end may need any of the steps there are.
    let count = if last == usize::MAX { 10_000 } else { last + 1 };
    let mut made = vec![true; count];
    let mut chunk = count.div_ceil(2);
    loop {
        let left: Vec<usize> = (0..count).filter(|&step| made[step]).collect();
        let mut is_shorter = false;
        for steps in left.chunks(chunk) {
            let mut fewer = made.clone();
            steps.iter().for_each(|&step| fewer[step] = false);
            match fails_alike(&fewer) {
                Some(true) => (made, is_shorter) = (fewer, true),
                Some(false) => {}
                None => return made,
            }
        }
        match (chunk, is_shorter) {
            (1, false) => return made,
            (1, true) => {}
            _ => chunk = chunk.div_ceil(2),
        }
    }
}

/// From here on failures of this thread are noted, and printed only if they are not expected.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                return before(info);
            }
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let payload = info.payload();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let words = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it does not say");
            let words = words.to_owned();
            FAILURE.set(Some(Failure { place, words }));
        }));
    });
}

#[test]
fn failing_run_is_shown_with_the_steps_it_takes_and_no_others() {
    let one = |_: u64, steps: &mut Steps<'_>| {
        let mut found = Vec::new();
        for n in 0..500 {
            if steps.begin(n).is_some() {
                note(|| format!("step {n}"));
                found.push(n);
            }
            assert!(!(found.contains(&77) && found.contains(&310)), "both are there");
        }
    };
    let failed = catch_unwind(AssertUnwindSafe(|| run("this_one", 3, one))).expect_err("it fails");
    let text = failed.downcast_ref::<String>().expect("a text");
    assert!(text.contains("seed 3 fails in step 310: both are there"), "{text}");
    assert!(text.contains("   77: step 77\n") && text.contains("  310: step 310\n"), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains(": step ")).count(), 2, "{text}");
}
