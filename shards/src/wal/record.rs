//! Encoding and decoding of the records in frames: source positions and commits, and the parts that snapshots share with them.
//!
//! Guarantees: what is encoded decodes to the same value. Decoding never panics, whatever the bytes. The layouts are described
//! in the module documentation of [`super`]. Does not know frames.

mod snapshot;

use super::bytes::{Malformed, Reader, pad, u32_length};
use super::{Commit, LogId, OutputNumber, Position, Sequence};
use crate::batch::{Source, SourceKey, SourceRange};
use crate::limits::{COMMIT_CURSOR_BYTES, COMMIT_HEAD_BYTES, DESCRIPTOR_BYTES_MAX, OUTPUTS_MAX, SEQUENCE_MAX};
pub(crate) use snapshot::source_state_bytes;
pub use snapshot::{Snapshot, decode_snapshot, encode_snapshot};
use std::sync::Arc;

const ENTRY_RECORD: u16 = 1;
const ENTRY_GONE: u16 = 2;

/// What a log records about a source, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRecord<'a> {
    /// Name of the input.
    pub input: &'a str,
    /// Name of the source.
    pub name: &'a [u8],
    /// What the input needs to find it again.
    pub descriptor: &'a [u8],
}

/// One entry of a position section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionEntry<'a> {
    /// The source.
    pub key: SourceKey,
    /// The covered bytes.
    pub range: SourceRange,
    /// The source, if the entry introduces it.
    pub record: Option<SourceRecord<'a>>,
    /// Whether the source is gone.
    pub gone: bool,
}

impl SourceRecord<'_> {
    /// The source, as the engine's type. Only sources that can be read again are recorded.
    pub fn to_source(&self, key: SourceKey) -> Arc<Source> {
        Arc::new(Source {
            key,
            input: self.input.into(),
            name: self.name.to_vec(),
            descriptor: self.descriptor.to_vec(),
            repeatable: true,
        })
    }
}

fn encode_source(out: &mut Vec<u8>, source: &Source) {
    let start = out.len();
    let short = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
    let input = &source.input.as_bytes()[..usize::from(short(source.input.len()))];
    let name = &source.name[..usize::from(short(source.name.len()))];
    out.extend_from_slice(&short(input.len()).to_le_bytes());
    out.extend_from_slice(&short(name.len()).to_le_bytes());
    assert!(source.descriptor.len() <= DESCRIPTOR_BYTES_MAX, "an input made a descriptor that no log may keep");
    out.extend_from_slice(&u32_length(source.descriptor.len()).to_le_bytes());
    out.extend_from_slice(input);
    out.extend_from_slice(name);
    out.extend_from_slice(&source.descriptor);
    pad(out, start);
}

pub(super) fn decode_source<'a>(reader: &mut Reader<'a>) -> Result<SourceRecord<'a>, Malformed> {
    let input = usize::from(reader.u16()?);
    let name = usize::from(reader.u16()?);
    let descriptor = reader.u32()? as usize;
    if descriptor > DESCRIPTOR_BYTES_MAX {
        return Err(Malformed);
    }
    let record = SourceRecord {
        input: str::from_utf8(reader.take(input)?).map_err(|_| Malformed)?,
        name: reader.take(name)?,
        descriptor: reader.take(descriptor)?,
    };
    let length = input + name + descriptor;
    reader.take(length.next_multiple_of(8) - length)?;
    Ok(record)
}

/// Appends one entry of a position section.
pub fn encode_position(out: &mut Vec<u8>, range: &SourceRange, source: &Source, record: bool, gone: bool) {
    let flags = if record { ENTRY_RECORD } else { 0 } | if gone { ENTRY_GONE } else { 0 };
    out.extend_from_slice(&source.key.0.to_le_bytes());
    out.extend_from_slice(&range.from.to_le_bytes());
    out.extend_from_slice(&range.to.to_le_bytes());
    out.extend_from_slice(&range.marker.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&[0; 6]);
    if record {
        encode_source(out, source);
    }
}

pub(crate) fn decode_position<'a>(reader: &mut Reader<'a>) -> Result<PositionEntry<'a>, Malformed> {
    let key = SourceKey(reader.u128()?);
    let range = SourceRange { from: reader.u64()?, to: reader.u64()?, marker: reader.u64()? };
    let flags = reader.u16()?;
    reader.take(6)?;
    if range.from > range.to || flags & !(ENTRY_RECORD | ENTRY_GONE) != 0 {
        return Err(Malformed);
    }
    let record = if flags & ENTRY_RECORD != 0 { Some(decode_source(reader)?) } else { None };
    Ok(PositionEntry { key, range, record, gone: flags & ENTRY_GONE != 0 })
}

/// Bytes of a commit's payload. In a snapshot, its length precedes it.
pub(crate) fn commit_bytes(commit: &Commit) -> usize {
    COMMIT_HEAD_BYTES - 4 + commit.cursors.len() * COMMIT_CURSOR_BYTES + commit.state_bytes()
}

/// Appends the payload of a commit.
pub fn encode_commit(out: &mut Vec<u8>, commit: &Commit) {
    out.extend_from_slice(&[commit.output.0, u8::from(commit.state.is_none()), 0, 0]);
    out.extend_from_slice(&u32_length(commit.state_bytes()).to_le_bytes());
    out.extend_from_slice(&commit.number.to_le_bytes());
    out.extend_from_slice(&u32_length(commit.cursors.len()).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&commit.instance.map_or(0, |log| log.0).to_le_bytes());
    for (log, position) in &commit.cursors {
        out.extend_from_slice(&log.0.to_le_bytes());
        out.extend_from_slice(&position.sequence.0.to_le_bytes());
        out.extend_from_slice(&position.event.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
    }
    out.extend_from_slice(commit.state.as_deref().unwrap_or_default());
}

/// Decodes the payload of a commit in a frame of this version.
pub fn decode_commit(payload: &[u8], version: u8) -> Result<Commit, Malformed> {
    let mut reader = Reader::new(payload);
    let output = OutputNumber(reader.u8()?);
    if usize::from(output.0) >= OUTPUTS_MAX {
        return Err(Malformed);
    }
    let lost = reader.u8()?;
    reader.take(2)?;
    let state = reader.u32()? as usize;
    if lost > 1 || (lost == 1 && state > 0) {
        return Err(Malformed);
    }
    let number = reader.u64()?;
    if number > SEQUENCE_MAX {
        return Err(Malformed);
    }
    let count = reader.u32()? as usize;
    reader.take(4)?;
    let instance = if version >= 2 { reader.u64()? } else { 0 };
    let instance = (instance != 0).then_some(LogId(instance));
    if reader.remaining() != count.checked_mul(24).and_then(|bytes| bytes.checked_add(state)).ok_or(Malformed)? {
        return Err(Malformed);
    }
    let mut cursors = Vec::with_capacity(count);
    for _ in 0..count {
        let log = LogId(reader.u64()?);
        let position = Position { sequence: Sequence(reader.u64()?), event: reader.u32()? };
        reader.take(4)?;
        if position.sequence.0 > SEQUENCE_MAX {
            return Err(Malformed);
        }
        cursors.push((log, position));
    }
    let state = reader.take(state)?.to_vec();
    Ok(Commit { output, instance, number, cursors, state: (lost == 0).then_some(state) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(descriptor_bytes: usize) -> Source {
        Source {
            key: SourceKey(1),
            input: "app".into(),
            name: b"/var/log/app.log".to_vec(),
            descriptor: vec![7; descriptor_bytes],
            repeatable: true,
        }
    }

    #[test]
    fn a_source_keeps_a_descriptor_up_to_its_bound_and_no_larger_one_is_believed() {
        let mut bytes = Vec::new();
        encode_source(&mut bytes, &source(DESCRIPTOR_BYTES_MAX));
        let read = decode_source(&mut Reader::new(&bytes)).expect("the largest is read");
        assert_eq!(read.descriptor.len(), DESCRIPTOR_BYTES_MAX);
        // The length that is read is what a flipped bit makes of it.
        bytes[4..8].copy_from_slice(&(DESCRIPTOR_BYTES_MAX as u32 + 1).to_le_bytes());
        bytes.resize(bytes.len() + 64, 0);
        assert!(decode_source(&mut Reader::new(&bytes)).is_err());
    }

    #[test]
    fn a_larger_descriptor_is_never_written() {
        let larger = source(DESCRIPTOR_BYTES_MAX + 1);
        assert!(std::panic::catch_unwind(|| encode_source(&mut Vec::new(), &larger)).is_err());
    }
}
