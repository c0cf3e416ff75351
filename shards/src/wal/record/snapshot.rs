//! Encoding and decoding of snapshots: what a log knows, with each name of an input, each directory and each path once.
//!
//! Guarantees: what is encoded decodes to the same value. Decoding never panics, whatever the bytes. The layout is described in
//! the module documentation of [`crate::wal`]. Splits a name only at its last slash: it does not know what names mean.

use super::{Malformed, Reader, commit_bytes, decode_commit, decode_source, encode_commit, pad, u32_length};
use crate::batch::{Source, SourceKey};
use crate::env::Timestamp;
use crate::limits::{DESCRIPTOR_BYTES_MAX, OUTPUTS_MAX, PATH_BYTES_MAX};
use crate::wal::{Commit, OutputNumber, RegistryEntry, SourceState};
use std::collections::HashMap;
use std::sync::Arc;

const REGISTRY_REMOVED: u8 = 1;

/// The descriptor of a source ends with its name, which is not stored again.
const RECORD_DESCRIPTOR_HAS_NAME: u16 = 1;

/// Content of a snapshot frame: everything that the log knows, or a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Outputs by number.
    pub registry: Vec<RegistryEntry>,
    /// Sources.
    pub sources: Vec<SourceState>,
    /// The latest commit of each instance of an output.
    pub commits: Vec<Commit>,
}

/// Appends the payload of a snapshot frame.
pub fn encode_snapshot<'a>(
    out: &mut Vec<u8>,
    registry: &[RegistryEntry],
    sources: impl ExactSizeIterator<Item = &'a SourceState>,
    commits: impl ExactSizeIterator<Item = &'a Commit>,
) {
    encode_registry(out, registry);
    out.extend_from_slice(&u32_length(sources.len()).to_le_bytes());
    let mut strings = Strings::default();
    sources.for_each(|source| encode_source_state(out, source, &mut strings));
    out.extend_from_slice(&u32_length(commits.len()).to_le_bytes());
    for commit in commits {
        out.extend_from_slice(&u32_length(commit_bytes(commit)).to_le_bytes());
        encode_commit(out, commit);
    }
}

fn encode_registry(out: &mut Vec<u8>, registry: &[RegistryEntry]) {
    out.extend_from_slice(&u32_length(registry.len()).to_le_bytes());
    for entry in registry {
        let name = &entry.name.as_bytes()[..entry.name.len().min(usize::from(u16::MAX))];
        out.extend_from_slice(&[entry.number.0, if entry.removed { REGISTRY_REMOVED } else { 0 }]);
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(name);
    }
}

/// Bytes of one source in a snapshot, if no other source has its input and its directory.
pub(crate) fn source_state_bytes(state: &SourceState) -> usize {
    let source = &state.source;
    let name = if source.descriptor.ends_with(&source.name) { 0 } else { source.name.len() };
    SOURCE_FIXED_BYTES + state.intervals.len() * 16 + source.input.len() + name + source.descriptor.len()
}

/// A source's key, times, marker, counts and lengths, and its padding.
const SOURCE_FIXED_BYTES: usize = 48 + 16 + 4 + 7;

/// The strings of one frame that were stored so far, by number.
#[derive(Default)]
struct Strings<'a>(HashMap<&'a [u8], u32>);

impl<'a> Strings<'a> {
    /// The number of a string, and the string itself if it is to be stored here.
    fn number(&mut self, string: &'a [u8]) -> (u32, Option<&'a [u8]>) {
        let next = u32_length(self.0.len());
        match self.0.get(string) {
            Some(number) => (*number, None),
            None => {
                self.0.insert(string, next);
                (next, Some(string))
            }
        }
    }
}

/// Where the part of a name begins that is not its directory.
fn split_at(name: &[u8]) -> usize {
    let end = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    if end > PATH_BYTES_MAX { 0 } else { end }
}

fn encode_source_state<'a>(out: &mut Vec<u8>, state: &'a SourceState, strings: &mut Strings<'a>) {
    out.extend_from_slice(&state.source.key.0.to_le_bytes());
    // Zero means that the source exists, so a source that disappeared at time zero is recorded as gone a nanosecond later.
    let gone = state.gone.map_or(0, |gone| if gone.0 == 0 { 1 } else { gone.0 });
    out.extend_from_slice(&gone.to_le_bytes());
    out.extend_from_slice(&state.marker.to_le_bytes());
    out.extend_from_slice(&u32_length(state.intervals.len()).to_le_bytes());
    out.extend_from_slice(&state.told.to_le_bytes());
    out.extend_from_slice(&state.recorded.0.to_le_bytes());
    for (from, to) in &state.intervals {
        out.extend_from_slice(&from.to_le_bytes());
        out.extend_from_slice(&to.to_le_bytes());
    }
    encode_source(out, &state.source, strings);
}

fn encode_source<'a>(out: &mut Vec<u8>, source: &'a Source, strings: &mut Strings<'a>) {
    let start = out.len();
    let short = |bytes: &'a [u8]| &bytes[..bytes.len().min(usize::from(u16::MAX))];
    let (input, name) = (short(source.input.as_bytes()), short(&source.name));
    let (directory, rest) = name.split_at(split_at(name));
    assert!(source.descriptor.len() <= DESCRIPTOR_BYTES_MAX, "an input made a descriptor that no log may keep");
    let before_name = source.descriptor.strip_suffix(name).filter(|_| !name.is_empty());
    let descriptor = before_name.unwrap_or(&source.descriptor);
    let flags = if before_name.is_some() { RECORD_DESCRIPTOR_HAS_NAME } else { 0 };
    let (input, directory) = (strings.number(input), strings.number(directory));
    out.extend_from_slice(&input.0.to_le_bytes());
    out.extend_from_slice(&directory.0.to_le_bytes());
    out.extend_from_slice(&(rest.len() as u16).to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&u32_length(descriptor.len()).to_le_bytes());
    for new in [input.1, directory.1].into_iter().flatten() {
        out.extend_from_slice(&(new.len() as u16).to_le_bytes());
        out.extend_from_slice(new);
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(descriptor);
    pad(out, start);
}

fn decode_source_with<'a>(
    reader: &mut Reader<'a>,
    key: SourceKey,
    strings: &mut Vec<&'a [u8]>,
) -> Result<Source, Malformed> {
    let before = reader.remaining();
    let (input, directory) = (reader.u32()? as usize, reader.u32()? as usize);
    let (rest, flags, descriptor) = (usize::from(reader.u16()?), reader.u16()?, reader.u32()? as usize);
    if descriptor > DESCRIPTOR_BYTES_MAX || flags & !RECORD_DESCRIPTOR_HAS_NAME != 0 {
        return Err(Malformed);
    }
    let mut string = |number: usize| {
        if number == strings.len() {
            let length = usize::from(reader.u16()?);
            strings.push(reader.take(length)?);
        }
        strings.get(number).copied().ok_or(Malformed)
    };
    let (input, directory) = (string(input)?, string(directory)?);
    // A directory is stored once for many names, so what these become is bounded here.
    if directory.len() > PATH_BYTES_MAX || directory.len() + rest > usize::from(u16::MAX) {
        return Err(Malformed);
    }
    let name = [directory, reader.take(rest)?].concat();
    let mut descriptor = reader.take(descriptor)?.to_vec();
    if flags & RECORD_DESCRIPTOR_HAS_NAME != 0 {
        descriptor.extend_from_slice(&name);
    }
    if descriptor.len() > DESCRIPTOR_BYTES_MAX {
        return Err(Malformed);
    }
    let length = before - reader.remaining();
    reader.take(length.next_multiple_of(8) - length)?;
    let input = str::from_utf8(input).map_err(|_| Malformed)?.into();
    Ok(Source { key, input, name, descriptor, repeatable: true })
}

fn decode_source_state<'a>(
    reader: &mut Reader<'a>,
    strings: &mut Vec<&'a [u8]>,
    version: u8,
) -> Result<SourceState, Malformed> {
    let key = SourceKey(reader.u128()?);
    let gone = reader.i64()?;
    let marker = reader.u64()?;
    let count = reader.u32()? as usize;
    let told = if version >= 2 { reader.u32()? } else { 0 };
    let recorded = Timestamp(if version >= 3 { reader.i64()? } else { 0 });
    let mut intervals: Vec<(u64, u64)> = Vec::with_capacity(count.min(reader.remaining() / 16));
    for _ in 0..count {
        let interval = (reader.u64()?, reader.u64()?);
        let follows = intervals.last().is_none_or(|last| last.1 < interval.0);
        if interval.0 >= interval.1 || !follows {
            return Err(Malformed);
        }
        intervals.push(interval);
    }
    let source = match version >= 3 {
        true => Arc::new(decode_source_with(reader, key, strings)?),
        false => decode_source(reader)?.to_source(key),
    };
    Ok(SourceState { source, intervals, marker, gone: (gone != 0).then_some(Timestamp(gone)), told, recorded })
}

/// Decodes the payload of a snapshot frame of this version.
pub fn decode_snapshot(payload: &[u8], version: u8) -> Result<Snapshot, Malformed> {
    let mut reader = Reader::new(payload);
    let mut snapshot = Snapshot::default();
    for _ in 0..reader.u32()? {
        let number = OutputNumber(reader.u8()?);
        let removed = reader.u8()? & REGISTRY_REMOVED != 0;
        let length = usize::from(reader.u16()?);
        let name = str::from_utf8(reader.take(length)?).map_err(|_| Malformed)?.to_owned();
        if usize::from(number.0) >= OUTPUTS_MAX {
            return Err(Malformed);
        }
        snapshot.registry.push(RegistryEntry { number, name, removed });
    }
    let mut strings = Vec::new();
    for _ in 0..reader.u32()? {
        snapshot.sources.push(decode_source_state(&mut reader, &mut strings, version)?);
    }
    for _ in 0..reader.u32()? {
        let length = reader.u32()? as usize;
        snapshot.commits.push(decode_commit(reader.take(length)?, version)?);
    }
    if reader.is_empty() { Ok(snapshot) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(key: u128, name: &[u8], descriptor: &[u8]) -> SourceState {
        let (input, name) = ("app".into(), name.to_vec());
        let source = Source { key: SourceKey(key), input, name, descriptor: descriptor.to_vec(), repeatable: true };
        let source = Arc::new(source);
        SourceState { source, intervals: vec![(0, 5)], marker: 5, gone: None, told: 2, recorded: Timestamp(key as i64) }
    }

    fn encoded(sources: &[SourceState]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_snapshot(&mut out, &[], sources.iter(), [].iter());
        out
    }

    #[test]
    fn a_directory_is_stored_once_and_a_path_once() {
        let directory = format!("/{}/", "d".repeat(1_000));
        let of = |number: u128| {
            let path = format!("{directory}{number:0200}").into_bytes();
            state(number, &path, &[&[7; 36][..], &path].concat())
        };
        let sources: Vec<SourceState> = (0..100).map(of).collect();
        let bytes = encoded(&sources);
        assert!(bytes.len() < 100 * (200 + 36 + 112) + 1_100, "{} bytes", bytes.len());
        assert_eq!(decode_snapshot(&bytes, 3).expect("valid").sources, sources);
        let most: usize = sources.iter().map(source_state_bytes).sum();
        assert!(bytes.len() <= most);
    }

    #[test]
    fn a_string_that_was_not_stored_is_malformed() {
        let mut bytes = encoded(&[state(1, b"/a/b", b"x/a/b")]);
        let record = 4 + 4 + 48 + 16;
        assert_eq!(bytes[record..record + 8], [0, 0, 0, 0, 1, 0, 0, 0]);
        assert!(decode_snapshot(&bytes, 3).is_ok());
        for number in [2, u32::MAX] {
            bytes[record + 4..record + 8].copy_from_slice(&number.to_le_bytes());
            assert!(decode_snapshot(&bytes, 3).is_err());
        }
    }

    proptest! {
        #[test]
        fn names_and_descriptors_of_any_bytes_round_trip(
            all in proptest::collection::vec(("[a/]{0,12}", any::<bool>(), proptest::collection::vec(any::<u8>(), 0..9)), 0..20),
        ) {
            let of = |(key, (name, is_repeated, fixed)): (usize, &(String, bool, Vec<u8>))| {
                let descriptor = [&fixed[..], if *is_repeated { name.as_bytes() } else { &[] }].concat();
                state(key as u128, name.as_bytes(), &descriptor)
            };
            let sources: Vec<SourceState> = all.iter().enumerate().map(of).collect();
            let bytes = encoded(&sources);
            prop_assert!(bytes.len() <= 12 + sources.iter().map(source_state_bytes).sum::<usize>());
            prop_assert_eq!(decode_snapshot(&bytes, 3).expect("valid").sources, sources);
        }
    }
}
