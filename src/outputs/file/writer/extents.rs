//! How far this output has written into each file, beside the journal in `N.extents`: it tells its own bytes from those that
//! another program appended while the output was down.
//!
//! ```text
//! records of 256 bytes, the first of which is about the boot. Each has two places of 128 bytes, written in turns:
//!     sequence 8 | device 8 | inode 8 | created 8 | begin 8 | end 8 | head 64 | xxh3 of all this 8 | zeros 8
//! ```
//! All numbers are little-endian. A write to a file goes from `begin` to `end` at most, and begins with `head`. In the first
//! record, device and inode are the halves of the boot's number, `begin` is the version of the file (1), and records with a lower
//! sequence are of earlier boots. A file of another version is used like one of another boot.
//!
//! Guarantees: a write is recorded before it is made. The record is in the page cache, so it survives the death of the process
//! but not that of the machine; records of another boot are not used. Costs one small write and no sync. If the disk of the data
//! directory is full, records may be missing: then bytes of this output count as those of another program and are kept.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use xxhash_rust::xxh3::xxh3_64;

const EXTENTS_VERSION: u64 = 1;

const RECORD_BYTES: u64 = 256;
const PLACE_BYTES: usize = 128;
const HEAD_BYTES: usize = 64;
const NUMBERS: usize = 6;
const HASHED_BYTES: usize = NUMBERS * 8 + HEAD_BYTES;

/// Space that is reserved at first: for all files that are open by default.
const ROOM_BYTES: u64 = 64 << 10;

/// Larger files are damaged: they would name 262,144 files.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// After this many further commits no start goes back to a commit that a closed file was part of.
const COMMITS_KEPT: u64 = 3;

/// The last write to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    sequence: u64,
    identity: Identity,
    begin: u64,
    end: u64,
    head: [u8; HEAD_BYTES],
}

impl Extent {
    fn encode(&self) -> [u8; PLACE_BYTES] {
        let mut bytes = [0; PLACE_BYTES];
        let Identity { device, inode, created } = self.identity;
        let numbers: [u64; NUMBERS] = [self.sequence, device, inode, created as u64, self.begin, self.end];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes[NUMBERS * 8..HASHED_BYTES].copy_from_slice(&self.head);
        let hash = xxh3_64(&bytes[..HASHED_BYTES]);
        bytes[HASHED_BYTES..HASHED_BYTES + 8].copy_from_slice(&hash.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Extent> {
        let mut rest = Bytes(bytes);
        let mut numbers = [0; NUMBERS];
        for number in &mut numbers {
            *number = rest.number()?;
        }
        let head = rest.take(HEAD_BYTES)?.try_into().ok()?;
        let [sequence, device, inode, created, begin, end] = numbers;
        let identity = Identity { device, inode, created: created as i64 };
        let is_whole = sequence != 0 && rest.number()? == xxh3_64(&bytes[..HASHED_BYTES]);
        is_whole.then_some(Extent { sequence, identity, begin, end, head })
    }

    /// The newer of both places of a record, and whether it is in the second.
    fn latest(record: &[u8]) -> Option<(Extent, bool)> {
        let places = record.chunks(PLACE_BYTES).map(Extent::decode).zip([false, true]);
        let found = places.filter_map(|(extent, is_second)| Some((extent?, is_second)));
        found.max_by_key(|(extent, _)| extent.sequence)
    }
}

/// Where the writes to one file are recorded.
pub(super) struct Note<D: Disk> {
    file: Arc<D::File>,
    sequence: Arc<AtomicU64>,
    identity: Identity,
    offset: u64,
    /// The second place is next.
    is_second: Arc<AtomicBool>,
}

/// The record of a file.
struct Record {
    index: u64,
    /// The last commit before which the file was open.
    used: u64,
    is_second: Arc<AtomicBool>,
}

impl<D: Disk> Note<D> {
    /// Records that `parts` are about to be written at `begin`.
    pub(super) fn note(&self, begin: u64, parts: &[io::IoSlice<'_>]) {
        let mut head = [0; HEAD_BYTES];
        let bytes = parts.iter().flat_map(|part| part.iter());
        head.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let end = begin + parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let extent = Extent { sequence, identity: self.identity, begin, end, head };
        let is_second = self.is_second.fetch_xor(true, Ordering::Relaxed);
        let place = self.offset + if is_second { PLACE_BYTES as u64 } else { 0 };
        // Without the record, a later start keeps the bytes, and they may be repeated: better than to stop the output.
        let _ = self.file.write_at(&extent.encode(), place);
    }

    /// Whether recording may wait for a server.
    pub(super) fn is_remote(&self) -> bool {
        self.file.is_remote()
    }
}

/// What tells files apart: see [`Identity::fits`].
type Key = (u64, i64, u64);

/// A file system that is mounted again may have another device number, while its files are the same.
fn key(identity: &Identity) -> Key {
    let device = if identity.created == 0 { identity.device } else { 0 };
    (identity.inode, identity.created, device)
}

/// See the module.
pub(super) struct Extents<D: Disk> {
    file: Arc<D::File>,
    boot: Option<u128>,
    /// What earlier processes have written since the machine was switched on. None if that is unknown.
    earlier: Option<BTreeMap<Key, Extent>>,
    sequence: Arc<AtomicU64>,
    records: BTreeMap<Identity, Record>,
    free: Vec<u64>,
    count: u64,
    commits: u64,
}

impl<D: Disk> Extents<D> {
    /// Reads what the last run has recorded. Changes nothing.
    pub(super) fn open(disk: &D, path: &Path) -> io::Result<Extents<D>> {
        let boot = disk.boot()?;
        let file = disk.open(path, Open::Create)?;
        let length = Some(file.stat()?.length).filter(|length| *length <= FILE_BYTES_MAX).unwrap_or(0);
        let mut bytes = vec![0; length as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        let mut all = bytes.chunks(RECORD_BYTES as usize).map(Extent::latest);
        let run = all.next().flatten();
        let boot_of = |run: &Extent| u128::from(run.identity.device) << 64 | u128::from(run.identity.inode);
        let mut last = run.map_or(0, |(run, _)| run.sequence);
        let valid = run.filter(|(run, _)| Some(boot_of(run)) == boot && run.begin == EXTENTS_VERSION);
        let mut earlier = valid.map(|_| BTreeMap::new());
        let (mut records, mut free, mut count) = (BTreeMap::new(), Vec::new(), 1);
        for (index, found) in (1..).zip(all) {
            last = last.max(found.map_or(0, |(extent, _)| extent.sequence));
            let Some(earlier) = &mut earlier else { continue };
            count = index + 1;
            let is_valid = |(extent, _): &(Extent, bool)| valid.is_some_and(|(run, _)| extent.sequence > run.sequence);
            let is_newer = |(extent, _): &(Extent, bool)| {
                earlier.get(&key(&extent.identity)).is_none_or(|known: &Extent| known.sequence < extent.sequence)
            };
            let Some((extent, is_second)) = found.filter(is_valid).filter(is_newer) else {
                free.push(index);
                continue;
            };
            earlier.insert(key(&extent.identity), extent);
            let record = Record { index, used: 0, is_second: Arc::new(AtomicBool::new(!is_second)) };
            let replaced: Option<Record> = records.insert(extent.identity, record);
            free.extend(replaced.map(|record| record.index));
        }
        let (file, sequence) = (Arc::new(file), Arc::new(AtomicU64::new(last + 1)));
        Ok(Extents { file, boot, earlier, sequence, records, free, count, commits: 0 })
    }

    /// Whether it is known what earlier processes have written.
    pub(super) fn is_known(&self) -> bool {
        self.earlier.is_some()
    }

    /// Whether this output wrote all bytes of a file of `length` bytes after the first `known`, as far as that can be told.
    pub(super) fn covers(&self, file: &D::File, identity: &Identity, known: u64, length: u64) -> io::Result<bool> {
        let Some(earlier) = &self.earlier else { return Ok(true) };
        let extent = earlier.get(&key(identity)).filter(|extent| extent.end >= length);
        let Some(extent) = extent else { return Ok(length <= known) };
        if length <= extent.begin.max(known) {
            return Ok(true);
        }
        // The process died in its last write, or before it: then these are other bytes.
        let mut head = [0; HEAD_BYTES];
        let head = &mut head[..(length - extent.begin).min(HEAD_BYTES as u64) as usize];
        io::Read::read_exact(&mut tailwater_shards::env::Sequential::new(file, extent.begin), head)?;
        Ok(*head == extent.head[..head.len()])
    }

    /// Makes the records valid for this boot. Those of another boot are forgotten.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if self.earlier.is_some() {
            return Ok(());
        }
        let boot = self.boot.unwrap_or(0);
        let identity = Identity { device: (boot >> 64) as u64, inode: boot as u64, created: 0 };
        // Both places: the older one must not come back.
        for place in [0, PLACE_BYTES as u64] {
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
            let run = Extent { sequence, identity, begin: EXTENTS_VERSION, end: 0, head: [0; HEAD_BYTES] };
            match self.file.write_at(&run.encode(), place) {
                Err(error) if !is_no_room(&error) => return Err(error),
                _ => {}
            }
        }
        // Without it, records may be missing if the disk becomes full.
        let _ = self.file.allocate(ROOM_BYTES);
        Ok(())
    }

    /// Where the writes to a file are recorded.
    pub(super) fn note_of(&mut self, identity: Identity) -> Note<D> {
        let (free, count) = (&mut self.free, &mut self.count);
        let record = self.records.entry(identity).or_insert_with(|| {
            let index = free.pop().unwrap_or_else(|| {
                *count += 1;
                *count - 1
            });
            Record { index, used: 0, is_second: Arc::default() }
        });
        record.used = self.commits;
        let (file, sequence, is_second) = (self.file.clone(), self.sequence.clone(), record.is_second.clone());
        Note { file, sequence, identity, offset: record.index * RECORD_BYTES, is_second }
    }

    /// Frees the records of files that no commit names any more: `open` are the files of this one.
    pub(super) fn committed(&mut self, open: impl Iterator<Item = Identity>) {
        self.commits += 1;
        for identity in open {
            if let Some(record) = self.records.get_mut(&identity) {
                record.used = self.commits;
            }
        }
        let oldest = self.commits.saturating_sub(COMMITS_KEPT);
        let free = &mut self.free;
        self.records.retain(|_, record| {
            if record.used < oldest {
                free.push(record.index);
            }
            record.used >= oldest
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_shards::sim::{Crash, SimDisk};

    const PATH: &str = "/1.extents";
    const FILE: Identity = Identity { device: 1, inode: 2, created: 3 };

    /// Whether a process that starts now takes `bytes` of a file, of which 2 are known, for its own.
    fn covers(disk: &SimDisk, bytes: &[u8]) -> bool {
        disk.outside().write("/x", bytes).expect("there is room");
        let disk = disk.of_this_process();
        let extents = Extents::open(&disk, Path::new(PATH)).expect("it opens");
        let file = disk.open(Path::new("/x"), Open::Read).expect("it is there");
        extents.covers(&file, &FILE, 2, bytes.len() as u64).expect("it can be read")
    }

    fn write(disk: &SimDisk) {
        let mut extents = Extents::open(&disk.of_this_process(), Path::new(PATH)).expect("it opens");
        extents.begin().expect("there is room");
        let note = extents.note_of(FILE);
        note.note(2, &[io::IoSlice::new(b"bb\n")]);
        note.note(5, &[io::IoSlice::new(b"c"), io::IoSlice::new(b"c\n")]);
    }

    #[test]
    fn own_bytes_are_told_from_those_of_others_until_the_machine_starts_again() {
        let disk = SimDisk::new(1);
        assert!(covers(&disk, b"a\nb"), "nothing is known");
        write(&disk);
        disk.crash(Crash::Process);
        for (bytes, is_own) in [
            ("a\n", true),
            ("a\nbb\n", true),
            ("a\nbb\nc", true),
            ("a\nbb\ncc\n", true),
            ("a\nbb\nd\n", false),
            ("a\nbb\ncc\nd", false),
        ] {
            assert_eq!(covers(&disk, bytes.as_bytes()), is_own, "{bytes:?}");
        }
        let mut extents = Extents::open(&disk.of_this_process(), Path::new(PATH)).expect("it opens");
        extents.note_of(FILE).note(3, &[]);
        assert!(!covers(&disk, b"a\nbb\n"), "it was truncated meanwhile");
        write(&disk);
        disk.crash(Crash::Power);
        assert!(covers(&disk, b"a\nbb\ncc\nd"), "nothing is known");
    }

    #[test]
    fn file_system_that_is_mounted_again_has_the_same_files() {
        let disk = SimDisk::new(1);
        write(&disk);
        disk.outside().write("/x", b"a\nbb\ncc\n").expect("there is room");
        let disk = disk.of_this_process();
        let extents = Extents::open(&disk, Path::new(PATH)).expect("it opens");
        let file = disk.open(Path::new("/x"), Open::Read).expect("it is there");
        for (other, is_same) in [
            (Identity { device: 9, ..FILE }, true),
            (Identity { created: 9, ..FILE }, false),
            (Identity { inode: 9, ..FILE }, false),
        ] {
            assert_eq!(extents.covers(&file, &other, 2, 8).expect("it can be read"), is_same, "{other:?}");
        }
    }

    /// Everything was on the disk when the power was lost.
    #[test]
    fn records_of_another_boot_are_not_used() {
        let disk = SimDisk::new(1);
        write(&disk);
        disk.outside().sync_all();
        disk.crash(Crash::Power);
        assert!(covers(&disk, b"a\nbb\nd\n"), "nothing is known");
        Extents::open(&disk.of_this_process(), Path::new(PATH)).expect("it opens").begin().expect("there is room");
        disk.crash(Crash::Process);
        assert!(!covers(&disk, b"a\nbb\ncc\n"), "nothing was written since the machine started");
    }

    /// One place of a record, as version 1 writes it.
    fn place_of_version_1(numbers: [u64; NUMBERS], head: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        bytes.extend(head);
        bytes.resize(112, 0);
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        bytes.resize(128, 0);
        bytes
    }

    #[test]
    fn version_1_can_be_read() {
        let disk = SimDisk::new(1);
        write(&disk);
        let written = disk.outside().read(PATH).expect("it is there");
        let boot = disk.boot().expect("the simulator knows it").expect("the simulator knows it") as u64;
        let (device, inode, created) = (FILE.device, FILE.inode, FILE.created as u64);
        let places = [
            place_of_version_1([1, 0, boot, 0, 1, 0], b""),
            place_of_version_1([2, 0, boot, 0, 1, 0], b""),
            place_of_version_1([3, device, inode, created, 2, 5], b"bb\n"),
            place_of_version_1([4, device, inode, created, 5, 8], b"cc\n"),
        ];
        assert_eq!(written[..512], places.concat(), "this version writes what it wrote");
        let version_2 = [
            place_of_version_1([1, 0, boot, 0, 2, 0], b""),
            place_of_version_1([2, 0, boot, 0, 2, 0], b""),
            places[2].clone(),
            places[3].clone(),
        ];
        for (bytes, is_known) in [(places.concat(), true), (version_2.concat(), false)] {
            let other = SimDisk::new(1);
            other.outside().write(PATH, &bytes).expect("there is room");
            let extents = Extents::open(&other, Path::new(PATH)).expect("it opens");
            assert_eq!(extents.is_known(), is_known);
            if is_known {
                assert!(covers(&other, b"a\nbb\ncc\n") && !covers(&other, b"a\nbb\ncc\nd"));
            }
        }
    }

    #[test]
    fn records_are_reused_when_no_commit_names_their_file() {
        let disk = SimDisk::new(1);
        let mut extents = Extents::open(&disk, Path::new(PATH)).expect("it opens");
        for inode in 0..100 {
            let identity = Identity { inode, ..FILE };
            extents.note_of(identity);
            extents.committed([identity].into_iter());
        }
        assert!(extents.count < 10, "{} records", extents.count);
    }
}
