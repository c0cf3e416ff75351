//! Selects dead letters for a command.

use super::super::output;
use super::Queue;
use clap::Args;
use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};
use tailwater_shards::dlq::{DeadLetter, KeptLetter};

use crate::config::types::Period;

/// The filters of several commands.
#[derive(Args, Clone, Default)]
pub struct Choice {
    /// Only dead letters of this input, pipeline or output
    #[arg(long, value_name = "NAME")]
    pub component: Option<String>,
    /// Only dead letters whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

impl Choice {
    /// Whether it selects a dead letter.
    pub fn takes(&self, letter: &DeadLetter<'_>) -> bool {
        self.component.as_ref().is_none_or(|name| name == letter.component)
            && self.reason.as_ref().is_none_or(|text| letter.reason.contains(text.as_str()))
    }

    /// After nothing was selected: says which components have letters, if the one that was asked for has none.
    pub fn tell_of_unknown(&self, queue: &Queue) -> anyhow::Result<()> {
        let Some(asked) = &self.component else { return Ok(()) };
        let mut names = BTreeSet::new();
        queue.letters(|_, kept| {
            names.insert(kept.letter.component.to_owned());
            Ok(names.len() < NAMED_MAX && !names.contains(asked))
        })?;
        if names.is_empty() || names.contains(asked) {
            return Ok(());
        }
        let names: Vec<String> = names.into_iter().collect();
        output::complain(&format!("note: no dead letter is of `{asked}`; there are some of: {}\n", names.join(", ")));
        Ok(())
    }
}

/// The most components that are named.
const NAMED_MAX: usize = 20;

/// A time: a date and time, or how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(i64);

impl Moment {
    /// Whether a dead letter was made before it.
    pub fn is_after(self, kept: &KeptLetter<'_>) -> bool {
        kept.time.0 < self.0
    }
}

/// Reads a time from the command line.
pub fn moment(text: &str) -> Result<Moment, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i64);
    if let Ok(Period(ago)) = text.parse::<Period>() {
        return Ok(Moment(now.saturating_sub(i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX))));
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(moment) => Ok(Moment(i64::try_from(moment.as_nanosecond()).unwrap_or(i64::MAX))),
        Err(_) => Err("write a time such as 2026-11-23T08:00:00Z, or a duration such as 2h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_durations() {
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(Moment(1_000_000_000)));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as i64;
        let Moment(hour_ago) = moment("1h").expect("a duration");
        assert!((now - hour_ago - 3_600_000_000_000).abs() < 60_000_000_000);
        assert!(moment("yesterday").is_err());
    }
}
