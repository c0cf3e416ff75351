//! `wal ls`: lists the contents of the write-ahead log.

use super::super::{Exit, output};
use super::{Data, Recovered};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use tailwater_shards::counted::counted;
use tailwater_shards::wal::commits::Commits;
use tailwater_shards::wal::positions::SourceTable;
use tailwater_shards::wal::{OutputNumber, RegistryEntry};

/// Runs the command.
pub fn run(data: &Data) -> anyhow::Result<Exit> {
    let mut all = Everything::default();
    data.outputs().iter().for_each(|entry| drop(all.registry.insert(entry.number, entry.clone())));
    for id in data.logs()? {
        let log = data.scan(id)?;
        let mut out = String::new();
        one_log(&log, &mut out);
        output::print(&out)?;
        all.take(log);
    }
    output::print(&all.show())?;
    Ok(Exit::Done)
}

fn one_log(log: &Recovered, out: &mut String) {
    let ranges: usize = log.state.sources.iter().map(|source| source.intervals.len()).sum();
    let bytes: u64 = log.segments.iter().map(|segment| segment.bytes()).sum();
    let _ = writeln!(
        out,
        "log {}: {}, {}, {}, {} in {}, last sequence {}, synced {}, epoch {}, \
         ends by: {}",
        log.id.0,
        counted(log.segments.len(), "segment"),
        counted(bytes, "byte"),
        counted(log.events, "event"),
        counted(log.state.sources.len(), "source"),
        counted(ranges, "range"),
        log.last.0,
        log.synced.0,
        log.epoch,
        log.ended_by
    );
    for segment in &log.segments {
        let _ = write!(out, "  segment {:>8}  first sequence {:>10}", segment.number, segment.first_sequence.0);
        let _ = match log.tail.filter(|tail| tail.segment == segment.number) {
            Some(tail) => write!(out, "  tail at byte {}", tail.offset),
            None => Ok(()),
        };
        let _ = match segment.gaps.len() {
            0 => writeln!(out),
            gaps => writeln!(out, "  {}", counted(gaps, "damaged range")),
        };
    }
}

/// State that spans the logs: an output has one cursor in each log; a source may have bytes in several.
#[derive(Default)]
struct Everything {
    registry: BTreeMap<OutputNumber, RegistryEntry>,
    commits: Commits,
    sources: SourceTable,
}

impl Everything {
    fn take(&mut self, log: Recovered) {
        for entry in log.state.registry {
            self.registry.insert(entry.number, entry);
        }
        self.commits.merge(&log.state.commits);
        self.sources.merge(log.state.sources);
    }

    fn show(&self) -> String {
        let mut out = String::new();
        for (number, entry) in &self.registry {
            let removed = if entry.removed { ", removed from the configuration" } else { "" };
            let _ = writeln!(out, "output {} (number {}{removed})", entry.name.escape_debug(), number.0);
            if self.commits.highest(*number).is_none() {
                let _ = writeln!(out, "  no commit yet");
            }
            for (log, position) in self.commits.cursors(*number) {
                let (sequence, event) = (position.sequence.0, position.event);
                let _ = writeln!(out, "  cursor in log {}: sequence {sequence}, event {event}", log.0);
            }
        }
        for state in self.sources.iter() {
            let name = String::from_utf8_lossy(&state.source.name);
            let _ = write!(out, "source {} of input {}", name.escape_debug(), state.source.input.escape_debug());
            let ranges: Vec<String> = state.intervals.iter().map(|(from, to)| format!("{from}..{to}")).collect();
            let gone = if state.gone.is_some() { ", gone" } else { "" };
            let _ = writeln!(out, ": bytes {}{gone}", ranges.join(" "));
        }
        out
    }
}
