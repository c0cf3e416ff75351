//! `dlq ls`: counts dead letters by component and reason.

use super::super::{Exit, output};
use crate::cli::configuration::Place;
use crate::codec::calendar::rfc3339_micros;
use crate::codec::visible::visible;
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use tailwater_shards::counted::counted;
use tailwater_shards::dlq::ComponentKind;
use tailwater_shards::env::Timestamp;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The number of characters by which reasons are grouped: the rest usually contains values of the event.
const REASON_CHARACTERS: usize = 100;

#[derive(Clone, Copy)]
struct Group {
    letters: u64,
    bytes: u64,
    oldest: Timestamp,
    newest: Timestamp,
}

type Groups = BTreeMap<(ComponentKind, String, String), Group>;

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Some(queue) = super::queue(&arguments.place)? else { return Ok(Exit::Configuration) };
    let (mut segments, mut open, mut claimed, mut bytes) = (0u64, 0u64, 0u64, 0u64);
    for folder in queue.folders()? {
        for entry in queue.segments(&folder.path)? {
            segments += 1;
            open += u64::from(!entry.sealed && !folder.claimed);
            claimed += u64::from(folder.claimed);
            bytes += std::fs::metadata(&entry.path).map_or(0, |metadata| metadata.len());
        }
    }
    let mut groups = Groups::new();
    queue.letters(|_, kept| {
        let letter = &kept.letter;
        let reason: String = letter.reason.chars().take(REASON_CHARACTERS).collect();
        let new = Group { letters: 0, bytes: 0, oldest: kept.time, newest: kept.time };
        let group = groups.entry((letter.kind, letter.component.to_owned(), reason)).or_insert(new);
        group.letters += 1;
        group.bytes += letter.original.len() as u64;
        group.oldest = group.oldest.min(kept.time);
        group.newest = group.newest.max(kept.time);
        Ok(true)
    })?;
    let letters: u64 = groups.values().map(|group| group.letters).sum();
    if arguments.json {
        let groups: Vec<_> = groups.iter().map(as_json).collect();
        let all = json!({
            "letters": letters, "bytes": bytes, "segments": segments, "open": open, "claimed": claimed, "groups": groups,
        });
        output::print_json(&format!("{all}\n"))?;
        return Ok(Exit::Done);
    }
    let mut out =
        format!("{} in {} of {}\n", counted(letters, "letter"), counted(segments, "segment"), counted(bytes, "byte"));
    groups.iter().for_each(|(of, group)| push_group(of, group, &mut out));
    if claimed > 0 {
        let _ = writeln!(
            out,
            "{} of a replay or purge that is running or was killed: the next one puts the letters back",
            counted(claimed, "segment")
        );
    }
    output::print(&out)?;
    Ok(Exit::Done)
}

/// Prints a group for people, with the reason on one line.
fn push_group((kind, component, reason): &(ComponentKind, String, String), group: &Group, out: &mut String) {
    let (kind, component, reason) = (kind.name(), visible(component), visible(reason));
    let (oldest, newest) = (time(group.oldest), time(group.newest));
    let _ = writeln!(out, "{kind} {component}: {}, {}", counted(group.letters, "letter"), counted(group.bytes, "byte"));
    let _ = writeln!(out, "  {oldest} to {newest}: {reason}");
}

fn as_json(((kind, component, reason), group): (&(ComponentKind, String, String), &Group)) -> serde_json::Value {
    json!({
        "kind": kind.name(), "component": component, "reason": reason, "letters": group.letters, "bytes": group.bytes,
        "oldest": time(group.oldest), "newest": time(group.newest),
    })
}

/// A time, for people and for programs.
pub fn time(moment: Timestamp) -> String {
    String::from_utf8_lossy(&rfc3339_micros(moment)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_as_they_were_given_and_steer_no_terminal() {
        let group = Group { letters: 2, bytes: 9, oldest: Timestamp(0), newest: Timestamp(1_000_000_000) };
        let reason = "status 400: {\"type\":\"it's\"}\n\u{1b}[2J\u{9b}\\é";
        let mut out = String::new();
        push_group(&(ComponentKind::Output, "a\u{1b}".to_owned(), reason.to_owned()), &group, &mut out);
        assert_eq!(
            out,
            "output a\\u{1b}: 2 letters, 9 bytes\n  1970-01-01T00:00:00.000000Z to 1970-01-01T00:00:01.000000Z: \
             status 400: {\"type\":\"it's\"}\\n\\u{1b}[2J\\u{9b}\\é\n"
        );
    }
}
