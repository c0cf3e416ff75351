//! The story of a seed: the most recent events of its world, for people who analyze a failure.
//!
//! Guarantees: in the order in which they happened, with their virtual time. Bounded: the oldest lines are dropped. Checks
//! nothing.

use crate::env::Monotonic;
use std::collections::VecDeque;
use std::fmt;

/// Number of lines that are kept, and how many of them are shown unless all are requested (`{:#}`).
const LINES_MAX: usize = 20_000;
const SHOWN_MAX: usize = 160;

/// See the module.
#[derive(Default)]
pub struct Story {
    lines: VecDeque<(Monotonic, String)>,
    told: u64,
}

impl Story {
    /// Adds a line.
    pub fn tell(&mut self, now: Monotonic, line: String) {
        self.told += 1;
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back((now, line));
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = if f.alternate() { LINES_MAX } else { SHOWN_MAX }.min(self.lines.len());
        let before = self.told - shown as u64;
        if before > 0 {
            writeln!(f, "  ... {before} lines before")?;
        }
        for (now, line) in self.lines.iter().skip(self.lines.len() - shown) {
            writeln!(f, "  {:>12.6} s  {line}", now.0 as f64 / 1e9)?;
        }
        Ok(())
    }
}
