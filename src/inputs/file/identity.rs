//! The identity of a file: its inode, the hash of its head, and the hash of the bytes just before a position.
//!
//! Guarantees: two files are taken for the same only if inode, head and the bytes before the position all match, so neither a
//! reused inode nor a shared header causes confusion. If the file system records when an inode was created, that must match
//! too, so a new file with exactly the content of a deleted one is a new file. A growing file keeps its identity from its
//! first byte on. A descriptor from the WAL is validated before it is used. Pure: does no I/O.
//!
//! ```text
//! descriptor: version u8 (2) · zero u8 · head length u16 · device u64 · inode u64 · head hash u64 · created i64 · path
//! ```
//! Integers are little-endian. The hash is XXH3-64. `created` is in nanoseconds, or the minimum value if it is unknown.
//! Version 1 has no `created` and can still be read.

use super::copies::{self, End, Ends};
use super::recency::Recency;
use crate::codec::nuls;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tailwater_shards::batch::SourceKey;
use tailwater_shards::env::{Stat, Timestamp};
use tailwater_shards::limits::{DESCRIPTOR_BYTES_MAX, PATH_BYTES_MAX};
use tailwater_shards::wal::SourceState;
use xxhash_rust::xxh3::xxh3_64;

/// Number of bytes at the beginning of a file that identify it.
pub const HEAD_BYTES: usize = 1024;

/// Number of bytes before a position that identify it.
pub const TAIL_BYTES: usize = 64;

/// How far a file must have been read so that another file with the same bytes counts as the same content without further
/// evidence. Programs that start a new file often write the same first line or header.
pub const PROOF_BYTES: u64 = TAIL_BYTES as u64;

/// Number of heads that are remembered. There are more heads than sources, because a short file has several in turn.
const HEADS_MAX: usize = 32_768;

const DESCRIPTOR_VERSION: u8 = 2;
const DESCRIPTOR_FIXED_BYTES: usize = 36;
/// The kernel opens no longer paths, so no descriptor exceeds the limit of the WAL.
const _: () = assert!(DESCRIPTOR_FIXED_BYTES + PATH_BYTES_MAX <= DESCRIPTOR_BYTES_MAX);
/// The first version, which has no creation time.
const DESCRIPTOR_1: (u8, usize) = (1, 28);
const CREATED_UNKNOWN: i64 = i64::MIN;

/// Hash of the first `length` bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Head {
    /// Number of hashed bytes; less than [`HEAD_BYTES`] while the file is shorter.
    pub length: u16,
    /// Their hash.
    pub hash: u64,
}

impl Head {
    /// The head of a file that begins with `bytes`. NULs at the end are excluded, because they may be preallocated space,
    /// unless there is nothing else.
    pub fn of(bytes: &[u8]) -> Head {
        let window = &bytes[..bytes.len().min(HEAD_BYTES)];
        let trimmed = &window[..window.len() - nuls::trailing(window)];
        let window = if trimmed.is_empty() { window } else { trimmed };
        Head { length: window.len() as u16, hash: xxh3_64(window) }
    }

    /// Whether a file that begins with `bytes` can be the one with this head. Always true if nothing is known.
    pub fn is_head_of(self, bytes: &[u8]) -> bool {
        self.length == 0 || bytes.get(..usize::from(self.length)).is_some_and(|window| xxh3_64(window) == self.hash)
    }

    /// Whether it covers only NULs: a hole, or preallocated space.
    pub fn is_hollow(self) -> bool {
        self.hash == xxh3_64(&[0; HEAD_BYTES][..usize::from(self.length)])
    }

    /// Whether a file of `length` bytes needs a new head. Heads are renewed on doubling, which keeps the number of renewals
    /// small.
    pub fn is_outgrown_by(self, length: u64) -> bool {
        if self.is_hollow() {
            return length > 0;
        }
        let known = u64::from(self.length);
        let window = length.min(HEAD_BYTES as u64);
        window > known && (window == HEAD_BYTES as u64 || window >= 2 * known)
    }
}

/// The tail marker of a position: the hash of up to [`TAIL_BYTES`] bytes that end there.
pub fn tail_marker(bytes: &[u8]) -> u64 {
    xxh3_64(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..])
}

/// An inode. The creation time tells it from an earlier inode with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Inode {
    /// Device number; may change after a reboot or a new mount.
    pub device: u64,
    /// Inode number; can be reused after the file is deleted.
    pub number: u64,
    /// Creation time, if the file system records it.
    pub created: Option<Timestamp>,
}

impl Inode {
    /// The inode in the metadata.
    pub fn of(stat: &Stat) -> Inode {
        Inode { device: stat.device, number: stat.inode, created: stat.created }
    }

    /// Whether both may be the same, although the device number may have changed and the creation time may be unknown.
    pub fn may_be(self, other: Inode) -> bool {
        let times_differ = self.created.zip(other.created).is_some_and(|(one, two)| one != two);
        self.number == other.number && !times_differ
    }
}

/// A file as it was at some time: what writes to it changes the length or the modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    inode: Inode,
    length: u64,
    modified: Timestamp,
}

impl Version {
    /// The file whose version it is.
    pub fn inode(&self) -> Inode {
        self.inode
    }

    /// The version in the metadata.
    pub fn of(stat: &Stat) -> Version {
        Version { inode: Inode::of(stat), length: stat.length, modified: stat.modified }
    }
}

/// The identity of a file, apart from its content at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Identity {
    /// Its inode.
    pub inode: Inode,
    /// Its head.
    pub head: Head,
}

/// What the WAL stores so that a file can be recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its identity.
    pub identity: Identity,
    /// Where it was last seen.
    pub path: Vec<u8>,
}

impl Descriptor {
    /// The encoded bytes for the WAL.
    pub fn encode(identity: &Identity, path: &Path) -> Vec<u8> {
        let path = path.as_os_str().as_bytes();
        let mut bytes = Vec::with_capacity(DESCRIPTOR_FIXED_BYTES + path.len());
        bytes.extend([DESCRIPTOR_VERSION, 0]);
        bytes.extend(identity.head.length.to_le_bytes());
        bytes.extend(identity.inode.device.to_le_bytes());
        bytes.extend(identity.inode.number.to_le_bytes());
        bytes.extend(identity.head.hash.to_le_bytes());
        bytes.extend(identity.inode.created.map_or(CREATED_UNKNOWN, |created| created.0).to_le_bytes());
        bytes.extend(path);
        bytes
    }

    /// Decodes a descriptor; none if the bytes are invalid.
    pub fn decode(bytes: &[u8]) -> Option<Descriptor> {
        let fixed_bytes = match *bytes.first()? {
            DESCRIPTOR_VERSION => DESCRIPTOR_FIXED_BYTES,
            version if version == DESCRIPTOR_1.0 => DESCRIPTOR_1.1,
            _ => return None,
        };
        let (fixed, path) = bytes.split_at_checked(fixed_bytes)?;
        let word = |at: usize| Some(u64::from_le_bytes(fixed.get(at..at + 8)?.try_into().ok()?));
        let length = u16::from_le_bytes([fixed[2], fixed[3]]);
        if fixed[1] != 0 || usize::from(length) > HEAD_BYTES || path.contains(&0) {
            return None;
        }
        let head = Head { length, hash: word(20)? };
        let created = word(28).map(u64::cast_signed).filter(|created| *created != CREATED_UNKNOWN).map(Timestamp);
        let inode = Inode { device: word(4)?, number: word(12)?, created };
        Some(Descriptor { identity: Identity { inode, head }, path: path.to_vec() })
    }
}

/// What is known of a file that is to be recognised.
pub struct Sighting<'a> {
    /// Its inode.
    pub inode: Inode,
    /// Its length in bytes.
    pub length: u64,
    /// Its first bytes, up to [`HEAD_BYTES`].
    pub head: &'a [u8],
}

/// What earlier runs knew, by inode.
#[derive(Clone, Default)]
pub struct Memory {
    by_inode: HashMap<u64, Vec<Remembered>>,
    by_key: HashMap<SourceKey, u64>,
    /// Inodes of the sources last seen at a path, until the first scan is over.
    by_path: HashMap<Vec<u8>, Vec<u64>>,
    /// Ordered by when they were last seen. If there are too many, the oldest are forgotten.
    heads: Recency<Head>,
    ends: Ends,
}

/// A source of an earlier run.
#[derive(Clone)]
pub struct Remembered {
    /// Its ranges.
    pub state: SourceState,
    /// Its identity and path.
    pub descriptor: Descriptor,
}

impl Memory {
    /// Remembers a source and replaces what was known of it.
    pub fn insert(&mut self, state: SourceState) {
        let Some(descriptor) = Descriptor::decode(&state.source.descriptor) else { return };
        self.remove(state.key());
        let inode = descriptor.identity.inode.number;
        self.by_key.insert(state.key(), inode);
        self.add_head(descriptor.identity.head);
        self.add_end(descriptor.identity.head, End { position: state.end(), marker: state.marker });
        // There is nearly always only one, and it is kept for long.
        self.by_inode.entry(inode).or_insert_with(|| Vec::with_capacity(1)).push(Remembered { state, descriptor });
    }

    /// Remembers that a file with this head was read. Heads of removed files are kept for compressed copies that are made
    /// later, until there are too many.
    pub fn add_head(&mut self, head: Head) {
        if head.length == 0 {
            return;
        }
        self.heads.see(head);
        self.heads.evict_beyond(HEADS_MAX);
    }

    /// Remembers where a file with this head ended.
    pub fn add_end(&mut self, head: Head, end: End) {
        self.ends.add(head, end);
    }

    /// Whether a file that began like `bytes` was seen.
    pub fn knows_beginning(&self, bytes: &[u8]) -> bool {
        copies::beginnings(bytes).any(|head| self.heads.contains(&head))
    }

    /// If a file that begins with `bytes` and has `length` bytes is a copy, returns how far its original was read.
    pub fn end_of_copy(&self, bytes: &[u8], length: u64, marker_at: impl FnMut(u64) -> Option<u64>) -> Option<End> {
        self.ends.of_copy(bytes, length, marker_at)
    }

    /// Whether a source with this inode number is remembered.
    pub fn has_inode(&self, number: u64) -> bool {
        self.by_inode.contains_key(&number)
    }

    /// Number of sources that are remembered.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Forgets a source.
    pub fn remove(&mut self, key: SourceKey) {
        let Some(inode) = self.by_key.remove(&key) else { return };
        if let Some(list) = self.by_inode.get_mut(&inode) {
            list.retain(|remembered| remembered.state.key() != key);
            if list.is_empty() {
                self.by_inode.remove(&inode);
            }
        }
    }

    /// Also indexes the sources that still exist by their paths.
    pub fn index_paths(&mut self) {
        for remembered in self.by_inode.values().flatten().filter(|one| one.state.gone.is_none()) {
            let descriptor = &remembered.descriptor;
            self.by_path.entry(descriptor.path.clone()).or_default().push(descriptor.identity.inode.number);
        }
    }

    /// Whether a source was last seen at `path`, until the first scan is over.
    pub fn knows_path(&self, path: &Path) -> bool {
        self.by_path.contains_key(path.as_os_str().as_bytes())
    }

    /// Whether the file with this inode was read.
    pub fn knows_inode(&self, inode: Inode) -> bool {
        let all = self.by_inode.get(&inode.number).into_iter().flatten();
        all.into_iter().any(|one| one.descriptor.identity.inode.may_be(inode))
    }

    /// Removes the index by path.
    pub fn forget_paths(&mut self) {
        self.by_path = HashMap::new();
    }

    /// The source last seen at `path` whose content up to its position is in a file that has `length` bytes and begins with
    /// `head`.
    pub fn same_content_at(
        &self,
        path: &Path,
        length: u64,
        head: &[u8],
        mut marker_at: impl FnMut(u64) -> Option<u64>,
    ) -> Option<&Remembered> {
        let path = path.as_os_str().as_bytes();
        let inodes = self.by_path.get(path)?;
        let mut all: Vec<&Remembered> =
            inodes.iter().filter_map(|number| self.by_inode.get(number)).flatten().collect();
        all.sort_by_key(|one| u64::MAX - one.state.end());
        all.into_iter().find(|one| {
            let end = one.state.end();
            let known = one.descriptor.identity.head;
            one.descriptor.path == path
                && one.state.gone.is_none()
                && (PROOF_BYTES..=length).contains(&end)
                && known.length > 0
                && known.is_head_of(head)
                && marker_at(end) == Some(one.state.marker)
        })
    }

    /// The source that this file continues. `marker_at` reads the tail marker of a position in the file. Sources of `input`
    /// come first, then those on the same device, then the source that was read furthest.
    pub fn recognise(
        &self,
        sighting: &Sighting<'_>,
        input: &str,
        mut marker_at: impl FnMut(u64) -> Option<u64>,
    ) -> Option<&Remembered> {
        let mut candidates: Vec<&Remembered> = self.by_inode.get(&sighting.inode.number)?.iter().collect();
        candidates.sort_by_key(|one| {
            let foreign = one.descriptor.identity.inode.device != sighting.inode.device;
            (*one.state.source.input != *input, foreign, u64::MAX - one.state.end())
        });
        candidates.into_iter().find(|one| {
            let end = one.state.end();
            end > 0
                && one.descriptor.identity.inode.may_be(sighting.inode)
                && end <= sighting.length
                && one.descriptor.identity.head.is_head_of(sighting.head)
                && marker_at(end) == Some(one.state.marker)
        })
    }

    /// Whether a file that began with `bytes` was read.
    pub fn knows_head(&self, bytes: &[u8]) -> bool {
        let is_known = |length: usize| {
            let window = &bytes[..length];
            self.heads.contains(&Head { length: length as u16, hash: xxh3_64(window) })
        };
        (1..=bytes.len().min(HEAD_BYTES)).rev().any(is_known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsStr;
    use std::sync::Arc;
    use tailwater_shards::batch::Source;

    fn state(key: u128, identity: Identity, content: &[u8], end: usize) -> SourceState {
        let descriptor = Descriptor::encode(&identity, Path::new("/log/app.log"));
        let source =
            Source { key: SourceKey(key), input: "app".into(), name: Vec::new(), descriptor, repeatable: true };
        SourceState {
            source: Arc::new(source),
            intervals: vec![(0, end as u64)],
            marker: tail_marker(&content[..end]),
            gone: None,
            told: 0,
            recorded: Timestamp(0),
        }
    }

    fn recognise(memory: &Memory, device: u64, inode: u64, content: &[u8]) -> Option<u128> {
        let inode = Inode { device, number: inode, created: None };
        let sighting = Sighting { inode, length: content.len() as u64, head: content };
        let marker_at = |end: u64| content.get(..end as usize).map(tail_marker);
        memory.recognise(&sighting, "app", marker_at).map(|one| one.state.key().0)
    }

    /// A case: name, device, inode, content, the source that is recognised.
    type Case<'a> = (&'a str, u64, u64, &'a [u8], Option<u128>);

    #[test]
    fn recognition_table() {
        let header = b"# a header that every file here begins with\n".to_vec();
        let old = [&header[..], b"one\ntwo\nthree\n"].concat();
        let mut memory = Memory::default();
        let inode = |number| Inode { device: 1, number, created: None };
        let identity = Identity { inode: inode(10), head: Head::of(&old) };
        memory.insert(state(1, identity, &old, old.len()));
        memory.insert(state(2, Identity { inode: inode(11), ..identity }, &old, header.len()));
        let grown = [&old[..], b"four\n"].concat();
        let other = [&header[..], b"1ne\n2wo\n3hree\n and more\n"].concat();
        let cases: [Case<'_>; 9] = [
            ("the same", 1, 10, &old, Some(1)),
            ("grown", 1, 10, &grown, Some(1)),
            ("a new device number", 9, 10, &grown, Some(1)),
            ("another inode with the same content", 1, 12, &old, None),
            ("a reused inode with another head", 1, 10, b"something else entirely, and long enough to compare\n", None),
            ("a shared header, other bytes before the end", 1, 10, &other, None),
            ("truncated", 1, 10, &header, None),
            ("empty", 1, 10, b"", None),
            ("identical headers, told apart by inode", 1, 11, &old, Some(2)),
        ];
        for (name, device, inode, content, expected) in cases {
            assert_eq!(recognise(&memory, device, inode, content), expected, "{name}");
        }
    }

    #[test]
    fn inode_with_another_creation_time_is_a_different_file() {
        let content = b"started\n";
        let recognised = |before: Option<i64>, now: Option<i64>| {
            let inode = |created: Option<i64>| Inode { device: 1, number: 10, created: created.map(Timestamp) };
            let mut memory = Memory::default();
            memory.insert(state(1, Identity { inode: inode(before), head: Head::of(content) }, content, 8));
            let sighting = Sighting { inode: inode(now), length: 8, head: content };
            memory.recognise(&sighting, "app", |end| Some(tail_marker(&content[..end as usize]))).is_some()
        };
        assert!(recognised(Some(5), Some(5)));
        assert!(!recognised(Some(5), Some(6)));
        assert!(recognised(None, Some(6)), "unknown to the file system, or a descriptor of version 1");
        assert!(recognised(Some(5), None));
    }

    /// A descriptor as version 1 wrote it.
    #[test]
    fn descriptor_of_version_1_can_be_read() {
        let mut bytes = vec![1, 0, 3, 0];
        bytes.extend([7u64, 8, 9].iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(b"/log/a");
        let inode = Inode { device: 7, number: 8, created: None };
        let identity = Identity { inode, head: Head { length: 3, hash: 9 } };
        assert_eq!(Descriptor::decode(&bytes), Some(Descriptor { identity, path: b"/log/a".to_vec() }));
    }

    #[test]
    fn furthest_generation_of_an_inode_wins() {
        let content = b"first\nsecond\nthird\n";
        let inode = Inode { device: 1, number: 10, created: None };
        let identity = Identity { inode, head: Head::of(b"first\n") };
        let mut memory = Memory::default();
        memory.insert(state(1, identity, content, 6));
        memory.insert(state(2, identity, content, 13));
        assert_eq!(recognise(&memory, 1, 10, content), Some(2));
        memory.remove(SourceKey(2));
        assert_eq!(recognise(&memory, 1, 10, content), Some(1));
    }

    #[test]
    fn short_head_matches_the_grown_file() {
        let head = Head::of(b"abc");
        assert!(head.is_head_of(b"abcdef"));
        assert!(!head.is_head_of(b"ab"));
        assert!(!head.is_head_of(b"abX"));
        assert!(Head::default().is_outgrown_by(1));
        assert!(!head.is_outgrown_by(5));
        assert!(head.is_outgrown_by(6));
        assert!(Head::of(&[b'x'; 1000]).is_outgrown_by(1024));
        assert!(!Head::of(&[b'x'; 2000]).is_outgrown_by(4000));
    }

    #[test]
    fn known_heads_are_found_by_prefix() {
        let mut memory = Memory::default();
        memory.add_head(Head::of(b"2026 started\n"));
        assert!(memory.knows_head(b"2026 started\nand went on\n"));
        assert!(!memory.knows_head(b"2026 star"));
        assert!(!memory.knows_head(b"2025 started\nand went on\n"));
    }

    #[test]
    fn oldest_heads_are_forgotten_when_there_are_too_many() {
        let mut memory = Memory::default();
        for number in 0..HEADS_MAX {
            memory.add_head(Head::of(&number.to_be_bytes()));
        }
        memory.add_head(Head::of(&0usize.to_be_bytes()));
        for number in HEADS_MAX..HEADS_MAX + 9 {
            memory.add_head(Head::of(&number.to_be_bytes()));
        }
        assert_eq!(memory.heads.len(), HEADS_MAX);
        let known = |number: usize| memory.knows_head(&number.to_be_bytes());
        assert!(known(0), "seen again");
        assert!((1..10).all(|number| !known(number)));
        assert!((10..20).chain(HEADS_MAX..HEADS_MAX + 9).all(known));
    }

    proptest! {
        #[test]
        fn descriptor_is_the_same_after_encoding_and_decoding(
            device: u64, number: u64, created in proptest::option::of(0i64..), content: Vec<u8>, path in "/[a-z/é]{0,40}",
        ) {
            let inode = Inode { device, number, created: created.map(Timestamp) };
            let identity = Identity { inode, head: Head::of(&content) };
            let decoded = Descriptor::decode(&Descriptor::encode(&identity, Path::new(&path)));
            prop_assert_eq!(decoded, Some(Descriptor { identity, path: path.into_bytes() }));
        }

        #[test]
        fn hostile_descriptor_is_rejected_or_decoded(bytes: Vec<u8>, version in 0u8..4) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            if let Some(descriptor) = Descriptor::decode(&bytes) {
                let again = Descriptor::encode(&descriptor.identity, Path::new(OsStr::from_bytes(&descriptor.path)));
                if version == DESCRIPTOR_VERSION {
                    prop_assert_eq!(&again, &bytes);
                }
                prop_assert_eq!(Descriptor::decode(&again), Some(descriptor));
            }
        }
    }
}
