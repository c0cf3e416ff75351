//! `dlq cat`: prints dead letters as JSON, one per line.

use super::super::Exit;
use super::super::output::{ReaderGone, json_for};
use super::choice::{Choice, Moment, moment};
use super::ls::time;
use crate::cli::configuration::Place;
use crate::net::auth::base64;
use clap::Args;
use serde_json::{Map, Value};
use std::io::{self, BufWriter, IsTerminal, Write};
use tailwater_shards::dlq::{ComponentKind, KeptLetter};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    choice: Choice,
    /// Only dead letters made since this time (2026-11-23T08:00:00Z), or since this long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Print at most N dead letters
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Some(queue) = super::queue(&arguments.place)? else { return Ok(Exit::Configuration) };
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let terminal = io::stdout().is_terminal();
    let most = arguments.limit.unwrap_or(u64::MAX);
    let mut left = most;
    queue.letters(|_, kept| {
        let old = arguments.since.is_some_and(|since| since.is_after(kept));
        if left > 0 && !old && arguments.choice.takes(&kept.letter) {
            let line = format!("{}\n", as_json(kept));
            out.write_all(json_for(&line, terminal).as_bytes()).map_err(gone)?;
            left -= 1;
        }
        Ok(left > 0)
    })?;
    out.flush().map_err(gone)?;
    if left == most {
        arguments.choice.tell_of_unknown(&queue)?;
    }
    Ok(Exit::Done)
}

/// A dead letter as it is printed. The line of an output's event is printed without its newline.
fn as_json(kept: &KeptLetter<'_>) -> Value {
    let letter = &kept.letter;
    let mut fields = Map::new();
    let mut add = |name: &str, value: Value| _ = fields.insert(name.to_owned(), value);
    add("time", time(kept.time).into());
    add("kind", letter.kind.name().into());
    add("component", letter.component.into());
    add("place", letter.place.into());
    add("reason", letter.reason.into());
    if letter.attempts > 0 {
        add("attempts", letter.attempts.into());
    }
    if !letter.source.is_empty() {
        add("source", String::from_utf8_lossy(letter.source).into());
    }
    add("timestamp", time(letter.timestamp).into());
    let original = match letter.kind {
        ComponentKind::Output => letter.original.strip_suffix(b"\n").unwrap_or(letter.original),
        _ => letter.original,
    };
    match str::from_utf8(original) {
        Ok(text) => add("original", text.into()),
        Err(_) => add("original_base64", base64(original).into()),
    }
    Value::Object(fields)
}

fn gone(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => ReaderGone.into(),
        _ => anyhow::Error::new(error).context("cannot write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_shards::dlq::DeadLetter;
    use tailwater_shards::env::Timestamp;

    fn shown(kind: ComponentKind, original: &[u8]) -> String {
        let letter = DeadLetter {
            kind,
            component: "app",
            place: "json",
            source: b"/a.log",
            reason: "no \"object\"",
            attempts: 0,
            timestamp: Timestamp(0),
            original,
        };
        as_json(&KeptLetter { time: Timestamp(1_000_000_000), synced: 0, letter }).to_string()
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_whole() {
        assert!(shown(ComponentKind::Input, b"\xff\n").contains(r#""original_base64":"/wo=""#));
        assert!(shown(ComponentKind::Input, b"a\n").contains(r#""original":"a\n""#));
        assert!(shown(ComponentKind::Output, b"{}\n").contains(r#""original":"{}""#));
        assert!(shown(ComponentKind::Input, b"").contains(r#""reason":"no \"object\"""#));
    }
}
