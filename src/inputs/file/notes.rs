//! Notes on followed files for which the WAL does not know enough: files with unread bytes, and files whose last bytes are
//! still on their way to a full WAL.
//!
//! Guarantees: a file that has such bytes for about one second is noted within the next second, and at an orderly shutdown
//! all such files are noted. A file of notes is replaced as a whole, so a crash leaves the old or the new one. Nothing is
//! written while everything is read. Notes contain no positions: those are in the WAL. They say which files to search for at
//! the next start, and how much of them was seen. Notes that cannot be read are reported and ignored.
//!
//! ```text
//! magic "TWFN" · version u8 (1) · 3 zero bytes · count u32 · entries · XXH3-64 of all before it
//! entry: key u128 · seen length u64 · descriptor length u32 · descriptor (see [`super::identity`])
//! ```
//! Integers are little-endian.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::batch::SourceKey;
use tailwater_shards::env::{Disk, Env, File, Monotonic, Open, ShardId};
use tailwater_shards::limits::DESCRIPTOR_BYTES_MAX;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 4] = b"TWFN";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 12;
const ENTRY_BYTES: usize = 28;
const SUM_BYTES: usize = 8;

/// Largest file of notes that is read. A shard cannot follow enough files to fill it.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Approximate number of bytes that are written per second.
const BYTES_A_SECOND: usize = 1024 * 1024;

/// The note on one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its source.
    pub key: SourceKey,
    /// Number of bytes that were seen in it.
    pub seen_length: u64,
    /// Its identity and path, as an encoded descriptor.
    pub descriptor: Vec<u8>,
}

fn encode(notes: &[Note]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + SUM_BYTES + notes.len() * (ENTRY_BYTES + 128));
    bytes.extend(MAGIC);
    bytes.extend([VERSION, 0, 0, 0]);
    bytes.extend((notes.len() as u32).to_le_bytes());
    for note in notes {
        bytes.extend(note.key.0.to_le_bytes());
        bytes.extend(note.seen_length.to_le_bytes());
        bytes.extend((note.descriptor.len() as u32).to_le_bytes());
        bytes.extend(&note.descriptor);
    }
    bytes.extend(xxh3_64(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Vec<Note>> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM_BYTES)?)?;
    let (head, mut rest) = body.split_at_checked(HEAD_BYTES)?;
    if &head[..4] != MAGIC || head[4..8] != [VERSION, 0, 0, 0] || xxh3_64(body).to_le_bytes() != sum {
        return None;
    }
    let count = u32::from_le_bytes(head[8..].try_into().ok()?);
    let mut notes = Vec::new();
    for _ in 0..count {
        let (entry, behind) = rest.split_at_checked(ENTRY_BYTES)?;
        let length = u32::from_le_bytes(entry[24..].try_into().ok()?) as usize;
        if length > DESCRIPTOR_BYTES_MAX {
            return None;
        }
        let (descriptor, behind) = behind.split_at_checked(length)?;
        notes.push(Note {
            key: SourceKey(u128::from_le_bytes(entry[..16].try_into().ok()?)),
            seen_length: u64::from_le_bytes(entry[16..24].try_into().ok()?),
            descriptor: descriptor.to_vec(),
        });
        rest = behind;
    }
    rest.is_empty().then_some(notes)
}

fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("inputs")
}

/// Reads the notes of all shards of an earlier run for `input`, and returns them with the paths of their files. Blocks.
pub fn read_all<D: Disk>(disk: &D, data_dir: &Path, input: &str) -> (Vec<Note>, Vec<PathBuf>) {
    let directory = directory(data_dir);
    let prefix = format!("{input}.");
    let (mut notes, mut files): (HashMap<SourceKey, Note>, Vec<PathBuf>) = (HashMap::new(), Vec::new());
    for entry in disk.list(&directory).unwrap_or_default() {
        let shard = entry.name.to_str().and_then(|name| name.strip_prefix(&prefix));
        if shard.is_none_or(|shard| shard.parse::<u16>().is_err()) {
            continue;
        }
        let path = directory.join(&entry.name);
        let read = read(disk, &path).unwrap_or_else(|error| {
            tracing::warn!(
                "{}: notes on unread files are unreadable: {error}; renamed files may not be found",
                path.display()
            );
            Vec::new()
        });
        for note in read {
            let known = notes.entry(note.key).or_insert_with(|| note.clone());
            if known.seen_length < note.seen_length {
                *known = note;
            }
        }
        files.push(path);
    }
    let mut notes: Vec<Note> = notes.into_values().collect();
    notes.sort_unstable_by_key(|note| note.key);
    (notes, files)
}

fn read<D: Disk>(disk: &D, path: &Path) -> io::Result<Vec<Note>> {
    let file = disk.open(path, Open::Read)?;
    let length = file.stat()?.length;
    if length > FILE_BYTES_MAX {
        return Err(io::Error::other("it is too large"));
    }
    let mut bytes = vec![0; length as usize];
    let filled = super::identify::read_whole(&file, 0, &mut bytes)?;
    bytes.truncate(filled);
    decode(&bytes).ok_or_else(|| io::Error::other("it is damaged, or of another version"))
}

fn write<D: Disk>(disk: &D, path: &Path, notes: &[Note]) -> io::Result<()> {
    if notes.is_empty() {
        return match disk.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
    }
    if let Some(directory) = path.parent() {
        disk.create_dir_all(directory)?;
    }
    let draft = path.with_added_extension("new");
    let file = disk.open(&draft, Open::Create)?;
    file.truncate(0)?;
    file.write_at(&encode(notes), 0)?;
    file.sync()?;
    disk.rename(&draft, path)
}

struct Shared {
    path: PathBuf,
    /// The content of the file, or its content after the write in progress.
    written: RefCell<Vec<Note>>,
    busy: Cell<bool>,
    failed: Cell<bool>,
    /// When the next notes may be written: many notes take longer.
    rest_until: Cell<Monotonic>,
}

/// The notes of one instance.
pub struct Notes<E: Env> {
    env: E,
    shared: Rc<Shared>,
}

impl<E: Env> Notes<E> {
    /// Notes of `input` on this shard. Nothing is written yet.
    pub fn new(env: &E, data_dir: &Path, input: &str) -> Notes<E> {
        let path = directory(data_dir).join(format!("{input}.{}", env.shard().0));
        let shared = Shared {
            path,
            written: RefCell::default(),
            busy: Cell::new(false),
            failed: Cell::new(false),
            rest_until: Cell::default(),
        };
        Notes { env: env.clone(), shared: Rc::new(shared) }
    }

    /// Reads the notes of all shards of an earlier run and takes them over: they are now in this instance's file, and the
    /// other files can be overwritten. Only on the home shard.
    pub async fn take_over(&self, data_dir: &Path, input: &str) -> Vec<Note> {
        debug_assert_eq!(self.env.shard(), ShardId(0), "only the home shard takes over");
        let (disk, own) = (self.env.disk().clone(), self.shared.path.clone());
        let (data_dir, input) = (data_dir.to_path_buf(), Arc::<str>::from(input));
        let work = move || {
            let (notes, files) = read_all(&disk, &data_dir, &input);
            let others = files.iter().any(|file| *file != own);
            let taken = if others { write(&disk, &own, &notes) } else { Ok(()) };
            if taken.is_ok() {
                files.iter().filter(|file| **file != own).for_each(|file| drop(disk.remove(file)));
            }
            (notes, taken)
        };
        let (notes, taken) = self.env.blocking(work).await;
        self.shared.tell(&taken);
        self.shared.written.replace(notes.clone());
        notes
    }

    /// Whether `notes` are written, or being written.
    fn is_written(&self, notes: &[Note]) -> bool {
        !self.shared.failed.get() && *self.shared.written.borrow() == notes
    }

    /// Starts to write `notes` in place of the previous ones, unless they are the same or a write is in progress.
    pub fn write_soon(&self, notes: Vec<Note>) {
        let rests = self.env.now() < self.shared.rest_until.get();
        if rests || self.is_written(&notes) || self.shared.busy.replace(true) {
            return;
        }
        let (env, shared) = (self.env.clone(), self.shared.clone());
        self.env.spawn("file notes", async move {
            shared.write(&env, notes).await;
            shared.busy.set(false);
        });
    }

    /// Like [`Notes::write_soon`], but waits until they are written.
    pub async fn write(&self, notes: Vec<Note>) {
        while self.shared.busy.get() {
            self.env.sleep(Duration::from_millis(1)).await;
        }
        if !self.is_written(&notes) {
            self.shared.write(&self.env, notes).await;
        }
    }
}

impl Shared {
    async fn write<E: Env>(&self, env: &E, notes: Vec<Note>) {
        let bytes: usize = notes.iter().map(|note| ENTRY_BYTES + note.descriptor.len()).sum();
        self.rest_until.set(env.now().after(Duration::from_secs(1) * (bytes / BYTES_A_SECOND) as u32));
        self.written.replace(notes.clone());
        let (disk, path) = (env.disk().clone(), self.path.clone());
        let written = env.blocking(move || write(&disk, &path, &notes)).await;
        self.tell(&written);
    }

    fn tell(&self, written: &io::Result<()>) {
        match written {
            Ok(()) => self.failed.set(false),
            Err(error) if !self.failed.replace(true) => {
                let path = self.path.display();
                tracing::warn!(
                    "{path}: cannot be written: {error}; the next start will not find files with unread bytes that are renamed"
                );
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tailwater_shards::sim::SimDisk;

    fn note(key: u128, seen_length: u64, descriptor: &[u8]) -> Note {
        Note { key: SourceKey(key), seen_length, descriptor: descriptor.to_vec() }
    }

    /// The bytes of version 1, which can still be read.
    #[test]
    fn version_1_can_be_read() {
        let mut bytes = b"TWFN\x01\0\0\0\x01\0\0\0".to_vec();
        bytes.extend(7u128.to_le_bytes());
        bytes.extend(9u64.to_le_bytes());
        bytes.extend(b"\x03\0\0\0abc");
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        assert_eq!(decode(&bytes), Some(vec![note(7, 9, b"abc")]));
        assert_eq!(encode(&[note(7, 9, b"abc")]), bytes);
    }

    #[test]
    fn notes_of_all_shards_are_read_and_damaged_ones_are_ignored() {
        let disk = SimDisk::new(1);
        let path = |name: &str| Path::new("/data/inputs").join(name);
        write(&disk, &path("app.0"), &[note(1, 10, b"a"), note(2, 10, b"b")]).expect("written");
        write(&disk, &path("app.1"), &[note(2, 30, b"b"), note(3, 5, b"c")]).expect("written");
        write(&disk, &path("app.x.0"), &[note(4, 5, b"d")]).expect("written");
        let mut damaged = encode(&[note(5, 5, b"e")]);
        damaged[14] ^= 1;
        disk.outside().write("/data/inputs/app.2", &damaged).expect("written");
        let (notes, files) = read_all(&disk, Path::new("/data"), "app");
        assert_eq!(notes, [note(1, 10, b"a"), note(2, 30, b"b"), note(3, 5, b"c")]);
        assert_eq!(files.len(), 3);
        write(&disk, &path("app.0"), &[]).expect("removed");
        assert_eq!(read_all(&disk, Path::new("/data"), "app").1.len(), 2);
    }

    proptest! {
        #[test]
        fn notes_decode_to_themselves_and_hostile_bytes_do_not_panic(
            all in proptest::collection::vec((any::<u128>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 0..50)), 0..20),
            flip in any::<proptest::sample::Index>(), hostile: Vec<u8>,
        ) {
            let notes: Vec<Note> = all.iter().map(|(key, seen, descriptor)| note(*key, *seen, descriptor)).collect();
            let mut bytes = encode(&notes);
            prop_assert_eq!(decode(&bytes), Some(notes));
            let at = flip.index(bytes.len());
            bytes[at] ^= 0x10;
            prop_assert_eq!(decode(&bytes), None);
            let _ = decode(&hostile);
        }
    }
}
