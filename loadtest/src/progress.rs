//! What somebody at a terminal sees while a run goes on: one line on stderr, a bar for the phase under way. Nothing at
//! all if stderr is no terminal. It is redrawn rarely, by the directing thread and no other, since the generator may
//! share its core.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::units;

/// Redrawn at most this often.
const DRAW_EVERY: Duration = Duration::from_millis(250);
/// Characters of the bar.
const WIDTH: usize = 24;

/// The line.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
        if let Ok(style) = ProgressStyle::with_template("{prefix}{msg}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// Round `number` of `all` begins, against `server`.
    pub(crate) fn round(&self, server: &str, number: usize, all: usize) {
        self.bar.set_prefix(if all > 1 {
            format!("round {number} of {all}, {server} ")
        } else {
            format!("{server} ")
        });
    }

    /// `done` of `all` clients, at `per_second`.
    pub(crate) fn clients(&self, doing: &str, done: u64, all: u64, per_second: f64) {
        self.draw(done as f64 / all.max(1) as f64, || {
            format!(
                "{doing}: {} of {}, {}/s",
                units::grouped(done),
                units::grouped(all),
                units::whole(per_second)
            )
        });
    }

    /// A phase of known length.
    pub(crate) fn time(&self, doing: &str, passed: Duration, all: Duration, deliveries_per_second: f64) {
        let left = all.saturating_sub(passed).as_secs_f64().ceil();
        self.draw(passed.as_secs_f64() / all.as_secs_f64().max(1e-9), || {
            let rate = match deliveries_per_second {
                rate if rate > 0.0 => format!(", {} deliveries/s", units::whole(rate)),
                _ => String::new(),
            };
            format!("{doing}: {left:.0} s left{rate}")
        });
    }

    /// Takes the line away, until something more is drawn.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn draw(&self, share: f64, message: impl FnOnce() -> String) {
        if self.bar.is_hidden() || self.bar.elapsed() < DRAW_EVERY {
            return;
        }
        if self.bar.is_finished() {
            // Not right after it was cleared: that would draw it once more, before whatever is printed next.
            self.bar.reset();
        }
        self.bar.reset_elapsed();
        // One call, since each draws: the bar is part of the message.
        let done = (share.clamp(0.0, 1.0) * WIDTH as f64).round() as usize;
        self.bar.set_message(format!("{}{} {}", "━".repeat(done), "─".repeat(WIDTH - done), message()));
    }
}
