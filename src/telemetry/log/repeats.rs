//! Detects repeated lines: from the same place in the code, for the same component, more than a few times in a window.
//!
//! Guarantees: bounded; a line that is not repeated is never suppressed; every suppressed line is counted in exactly one summary.
//! Pure: time is an argument.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use tracing::{Level, Metadata};

/// How long lines are counted together.
pub const WINDOW: Duration = Duration::from_secs(10);
/// How many lines of one kind are written per window; a burst of a few lines (files found at the start) is information, not
/// noise.
pub const LINES_PER_WINDOW: u64 = 5;
/// How many kinds of lines are tracked. Lines of further kinds are never suppressed.
const KINDS_MAX: usize = 1024;

/// A kind of line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The kind of lines from this place in the code for this component.
    pub fn of(metadata: &Metadata<'_>, component: &str) -> Key {
        let mut hasher = DefaultHasher::new();
        metadata.callsite().hash(&mut hasher);
        component.hash(&mut hasher);
        Key(hasher.finish())
    }
}

/// Whether a line is written.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// Written, after the summary of an earlier window if there is one.
    Written(Option<Summary>),
    /// Only counted.
    Suppressed,
}

/// What a window suppressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many lines.
    pub lines: u64,
    /// Their level.
    pub level: Level,
    /// Their module.
    pub target: &'static str,
    /// The source file.
    pub file: &'static str,
    /// The line in the source file.
    pub line: u32,
    /// The component; empty if there is none.
    pub component: String,
}

#[derive(Debug)]
struct Window {
    began: Duration,
    seen: u64,
    summary: Summary,
}

/// The open windows.
#[derive(Debug, Default)]
pub struct Repeats {
    windows: HashMap<Key, Window>,
}

impl Repeats {
    /// Decides whether to write a line at `now`.
    pub fn admit(&mut self, key: Key, metadata: &Metadata<'static>, component: &str, now: Duration) -> Admission {
        if let Some(window) = self.windows.get_mut(&key) {
            let earlier = match now >= window.began + WINDOW {
                true => {
                    let suppressed = std::mem::take(&mut window.summary.lines);
                    (window.began, window.seen) = (now, 0);
                    (suppressed > 0).then(|| Summary { lines: suppressed, ..window.summary.clone() })
                }
                false => None,
            };
            window.seen += 1;
            if window.seen > LINES_PER_WINDOW {
                window.summary.lines += 1;
                return Admission::Suppressed;
            }
            return Admission::Written(earlier);
        }
        if self.windows.len() < KINDS_MAX {
            let summary = Summary {
                lines: 0,
                level: *metadata.level(),
                target: metadata.target(),
                file: metadata.file().unwrap_or("?"),
                line: metadata.line().unwrap_or(0),
                component: component.to_owned(),
            };
            self.windows.insert(key, Window { began: now, seen: 1, summary });
        }
        Admission::Written(None)
    }

    /// Whether a window is open.
    pub fn is_watching(&self) -> bool {
        !self.windows.is_empty()
    }

    /// Closes the windows that have ended at `now`, or all without a time, and returns the summaries of those that suppressed
    /// lines.
    pub fn sweep(&mut self, now: Option<Duration>) -> Vec<Summary> {
        let mut summaries = Vec::new();
        self.windows.retain(|_, window| {
            let open = now.is_some_and(|now| now < window.began + WINDOW);
            if !open && window.summary.lines > 0 {
                summaries.push(window.summary.clone());
            }
            open
        });
        summaries
    }
}
