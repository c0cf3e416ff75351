//! Scripts: inputs, an encoder and outputs that behave as a test configures, the ledger of what happened, and a cluster that
//! survives crashes.
//!
//! Guarantees: what a script does is a function of the seed. Every event it creates, every acknowledgement it sees and every
//! delivery it accepts is in the [`Ledger`], and its oracle checks them. They run on the complete engine. Does not read files
//! or use protocols.

mod cluster;
mod draw;
mod encoder;
mod faults;
mod gauges;
mod input;
mod ledger;
mod letters;
mod output;
mod passing;
mod rot;
mod seeds;
mod setup;
mod told;

pub use cluster::{Cluster, Life};
pub use encoder::{Holding, ScriptEncoder};
pub use input::ScriptInput;
pub use ledger::{Ledger, Mood, OutputRecord, SourceScript, State};
pub use output::{ExactOutput, ScriptOutput};
pub use rot::Vanishing;
pub use seeds::{Failure, crash_and_recover, run_seed};
pub use setup::{InputSetup, OutputKind, OutputSetup, Setup};
pub use told::Told;

use super::oracle::{Event, payload_hash};
use super::prng::mix;
use std::io::Write as _;

/// The payload of an event: text that needs no escaping, a function of its source and ordinal.
pub fn payload(source: u64, ordinal: u64, bytes: usize) -> Vec<u8> {
    let mut state = mix(source) ^ mix(ordinal.wrapping_mul(3));
    let mut text = Vec::with_capacity(bytes + 8);
    while text.len() < bytes {
        state = mix(state);
        text.extend(state.to_le_bytes().map(|byte| b'a' + byte % 26));
    }
    text.truncate(bytes);
    text
}

/// The line of an event in its source, without its newline.
fn raw_line(source: u64, ordinal: u64, bytes: usize) -> Vec<u8> {
    let mut line = format!("{ordinal} ").into_bytes();
    line.extend_from_slice(&payload(source, ordinal, bytes));
    line
}

/// Appends the line of an event in the log.
fn encode_line(source: &[u8], raw: &[u8], line: &mut Vec<u8>) {
    let space = raw.iter().position(|&byte| byte == b' ').unwrap_or(raw.len());
    let (ordinal, rest) = raw.split_at(space);
    line.extend_from_slice(b"{\"source\":");
    line.extend_from_slice(source);
    line.extend_from_slice(b",\"ordinal\":");
    line.extend_from_slice(ordinal);
    let _ = line.write_all(b",\"payload\":\"");
    line.extend_from_slice(rest.get(1..).unwrap_or_default());
    line.extend_from_slice(b"\"}\n");
}

/// Decodes a line of the log. None if [`ScriptEncoder`] did not produce it.
pub fn decode_line(line: &[u8]) -> Option<Event> {
    let text = line.strip_prefix(b"{\"source\":")?.strip_suffix(b"\"}\n")?;
    let (source, text) = number(text)?;
    let (ordinal, text) = number(text.strip_prefix(b",\"ordinal\":")?)?;
    Some(Event { source, ordinal, payload: payload_hash(text.strip_prefix(b",\"payload\":\"")?) })
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    Some((str::from_utf8(&text[..end]).ok()?.parse().ok()?, &text[end..]))
}
