//! The journal of an output: files that were opened between commits.
//!
//! ```text
//! records: payload bytes 3 | version (3) 1 byte | xxh3 of the payload, seeded with these 4 bytes, 8 | payload:
//!          number 8 | device 8 | inode 8 | created 8 | length 8 | marker 8 | compression 1 | place 2 | path
//! ```
//! All numbers are little-endian. The length is the length before the first write or, if 128 is added to `compression`, the
//! length at which the output closed the file. The place is the position among the records of one append. Version 2 has no
//! records of closed files and no place, version 1 has neither `created`, `marker` nor `compression`. If a complete record
//! has an unknown version, the journal is not opened: such a record is not mistaken for a torn one. A record without a path
//! says that a run ended in an orderly way (length 0) or began (length 1).
//!
//! Guarantees: a record is durable when [`Journal::append`] returns. A torn record at the end is removed when the journal is
//! opened. If there is damage before other records, only the damaged part is lost, and [`Journal::is_damaged`] reports it.

use super::compress::Compression;
use super::record::{Bytes, Identity, NUMBER_MAX, compression_byte, compression_of};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tailwater_shards::env::{Disk, File, Monotonic, Open};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const JOURNAL_VERSION: u8 = 3;

/// Added to the compression if the record says that the file was closed.
const LEFT: u8 = 0x80;

/// Bytes of a record's payload without the path, in version 1 and in the current version, and the maximum length of a path.
const PAYLOAD_HEAD_BYTES_1: usize = 32;
const PAYLOAD_HEAD_BYTES: usize = 51;
const PATH_BYTES_MAX: usize = 4096;

/// What a record says about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was opened for writing: this output has written the bytes after the length since then.
    Opened,
    /// It was closed: another program wrote the bytes after the length, unless the file was opened again.
    Left,
}

/// A file that was opened for writing, with its length before; or a file that was closed, with its length at that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub number: u64,
    pub step: Step,
    pub identity: Identity,
    pub length: u64,
    /// The marker of the bytes before `length`: see [`super::record::marker_of`].
    pub marker: u64,
    /// None if the record's version does not have it.
    pub compression: Option<Compression>,
    pub path: Vec<u8>,
}

/// What a record without a path says: whether a run may have written since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// The run has ended in an orderly way and has written nothing since.
    Ended = 0,
    /// The run has begun.
    Began = 1,
}

/// Number of records above which old ones are dropped.
const RECORDS_MAX: usize = 4096;

/// How long a record is kept after a commit that covers it. A power loss can undo the commits of the last sync interval, but
/// not one this old.
const RECORD_AGE: Duration = Duration::from_secs(3600);

/// Number of records above which they are kept for a shorter time: bounded memory and disk space are more important than the
/// longest sync intervals.
const RECORDS_LIMIT: usize = 65_536;

/// How long a record is kept in that case: longer than any sync interval except those that trade safety for speed.
const RECORD_AGE_LEAST: Duration = Duration::from_secs(60);

/// Space that is reserved for the next records.
const ROOM_BYTES: u64 = 64 << 10;

/// The journal.
pub struct Journal<D: Disk> {
    disk: D,
    path: PathBuf,
    file: D::File,
    length: u64,
    /// The end of the reserved space.
    allocated: u64,
    next: u64,
    records: Vec<Opened>,
    is_damaged: bool,
    /// The times of commits and the last record that each covers; not all are stored.
    commits: Vec<(Monotonic, u64)>,
}

impl<D: Disk> Journal<D> {
    /// Opens the journal at `path`, and creates it if it does not exist.
    pub fn open(disk: &D, path: &Path) -> io::Result<Journal<D>> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        disk.create_dir_all(directory)?;
        let file = disk.open(path, Open::Create)?;
        let mut bytes = vec![0; usize::try_from(file.stat()?.length).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        check_versions(&bytes[..filled])?;
        let Decoded { records, good, is_damaged } = decode(&bytes[..filled]);
        if bytes[good..].iter().any(|byte| *byte != 0) {
            // The space stays reserved: on a full disk it might not be available again.
            file.write_at(&vec![0; bytes.len() - good], good as u64)?;
            file.sync()?;
        }
        disk.sync_dir(directory)?;
        if let Some(above) = directory.parent() {
            disk.sync_dir(above)?;
        }
        let next = records.last().map_or(1, |record| record.number + 1);
        let (disk, path) = (disk.clone(), path.to_owned());
        let (length, allocated) = (good as u64, bytes.len() as u64);
        let mut journal =
            Journal { disk, path, file, length, allocated, next, records, is_damaged, commits: Vec::new() };
        journal.reserve();
        Ok(journal)
    }

    /// Makes sure that numbers never decrease, even if the journal was lost.
    pub fn skip_to(&mut self, last: u64) {
        self.next = self.next.max(last + 1);
    }

    /// Whether records between others could not be read: files may have been opened that are not in the journal.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// Whether a file of this length contains nothing that other programs wrote since this output last knew it. Its end was
    /// checked when the journal was opened.
    pub fn knows(&self, path: &[u8], identity: &Identity, length: u64) -> bool {
        let (mut is_known, mut left) = (false, None);
        for record in self.records.iter().filter(|record| record.path == path && record.identity.fits(identity)) {
            match (record.step, left) {
                (Step::Opened, Some(left)) if record.length > left => return false,
                (Step::Opened, _) => left = None,
                (Step::Left, _) => left = Some(record.length),
            }
            is_known = true;
        }
        is_known && left.is_none_or(|left| left == length)
    }

    /// Whether the last run ended in an orderly way.
    pub fn has_ended(&self) -> bool {
        let notes = |record: &&Opened| record.path.is_empty();
        self.records.iter().rev().find(notes).is_some_and(|note| note.length == Run::Ended as u64)
    }

    /// Records durably that a run has begun or ended, after `records`.
    pub fn note(&mut self, run: Run, mut records: Vec<Opened>) -> io::Result<()> {
        let identity = Identity { device: 0, inode: 0, created: 0 };
        let (number, length, marker, compression, path) = (0, run as u64, 0, None, Vec::new());
        records.push(Opened { number, step: Step::Opened, identity, length, marker, compression, path });
        self.append(records)
    }

    /// Drops the unreadable part, after every file that it may have named was handled.
    pub fn mend(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.is_damaged) {
            true => self.rewrite_behind(0),
            false => Ok(()),
        }
    }

    /// The number of the last record.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// The records of files after `number`.
    pub fn behind(&self, number: u64) -> impl Iterator<Item = &Opened> {
        self.records.iter().filter(move |record| record.number > number && !record.path.is_empty())
    }

    /// Numbers the records and makes them durable.
    pub fn append(&mut self, mut opened: Vec<Opened>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (place, (record, number)) in opened.iter_mut().zip(self.next..).enumerate() {
            record.number = number;
            encode(record, place, &mut bytes);
        }
        self.file.write_at(&bytes, self.length)?;
        self.file.sync()?;
        self.length += bytes.len() as u64;
        self.reserve();
        self.next += opened.len() as u64;
        self.records.append(&mut opened);
        Ok(())
    }

    /// Reserves space for the next records while there is some, so that an output can empty the WAL even if the disk becomes
    /// full.
    fn reserve(&mut self) {
        let wanted = (self.length + ROOM_BYTES).next_multiple_of(ROOM_BYTES);
        if self.length + ROOM_BYTES > self.allocated && self.file.allocate(wanted).is_ok() {
            self.allocated = wanted;
        }
    }

    /// Records that a commit covers all records so far, and drops old ones that no commit which may come back can need.
    pub fn committed(&mut self, now: Monotonic) -> io::Result<()> {
        if self.commits.last().is_none_or(|(at, _)| now.since(*at) >= RECORD_AGE / 60) {
            self.commits.push((now, self.last()));
        }
        if self.records.len() < RECORDS_MAX {
            return Ok(());
        }
        let is_crowded = self.records.len() >= RECORDS_LIMIT;
        let age = if is_crowded { RECORD_AGE_LEAST } else { RECORD_AGE };
        let old = self.commits.iter().rposition(|(at, _)| now.since(*at) >= age);
        let Some((_, covered)) = old.and_then(|index| self.commits.drain(..=index).next_back()) else {
            return Ok(());
        };
        if is_crowded {
            tracing::warn!(
                "{}: more than {RECORDS_LIMIT} files were opened in {RECORD_AGE:?}; a power loss that takes more than the last \
                 {RECORD_AGE_LEAST:?} of the write-ahead log may repeat events: use a `path` with fewer files, or raise \
                 `max_open_files`",
                self.path.display()
            );
        }
        self.rewrite_behind(covered)
    }

    fn rewrite_behind(&mut self, covered: u64) -> io::Result<()> {
        let mut bytes = Vec::new();
        let note = self.records.iter().rfind(|record| record.path.is_empty()).map(|note| note.number);
        let is_kept = |record: &&Opened| record.number > covered || Some(record.number) == note;
        let kept: Vec<Opened> = self.records.iter().filter(is_kept).cloned().collect();
        kept.iter().for_each(|record| encode(record, 0, &mut bytes));
        let length = bytes.len() as u64;
        let room = (length + ROOM_BYTES).next_multiple_of(ROOM_BYTES);
        let aside = self.path.with_extension("new");
        let written = self.disk.open(&aside, Open::Create).and_then(|file| {
            file.truncate(0)?;
            match file.allocate(room) {
                Err(error) if is_no_room(&error) => return Err(error),
                // A file system that cannot reserve space.
                _ => {}
            }
            file.write_at(&bytes, 0)?;
            file.sync()?;
            Ok(file)
        });
        let file = match written {
            Ok(file) => file,
            Err(error) => {
                // A long journal works as well as a short one, and on a full disk it must.
                tracing::warn!("{} cannot be shortened: {error}; retrying later", self.path.display());
                let _ = self.disk.remove(&aside);
                return Ok(());
            }
        };
        self.disk.rename(&aside, &self.path)?;
        (self.file, self.length, self.allocated, self.records) = (file, length, room, kept);
        self.disk.sync_dir(self.path.parent().unwrap_or(Path::new("/")))
    }
}

/// Whether an error means that the disk is full.
pub fn is_no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn encode(record: &Opened, place: usize, out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(PAYLOAD_HEAD_BYTES + record.path.len());
    let Identity { device, inode, created } = record.identity;
    for number in [record.number, device, inode, created as u64, record.length, record.marker] {
        payload.extend_from_slice(&number.to_le_bytes());
    }
    let left = if record.step == Step::Left { LEFT } else { 0 };
    payload.push(compression_byte(record.compression) | left);
    payload.extend_from_slice(&(place as u16).to_le_bytes());
    payload.extend_from_slice(&record.path);
    // A path has at most 4,096 bytes, so the highest byte of the length is free.
    let word = payload.len() as u32 | u32::from(JOURNAL_VERSION) << 24;
    out.extend_from_slice(&word.to_le_bytes());
    out.extend_from_slice(&xxh3_64_with_seed(&payload, u64::from(word)).to_le_bytes());
    out.extend_from_slice(&payload);
}

/// Fails at a complete record with an unknown version.
fn check_versions(bytes: &[u8]) -> io::Result<()> {
    let mut rest = Bytes(bytes);
    while let Some((version, _)) = decode_frame(&mut rest) {
        if !(1..=JOURNAL_VERSION).contains(&version) {
            let message = format!("a journal record of version {version} was written by another version of Tailwater");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    }
    Ok(())
}

/// Version and payload of the next record, whatever its version.
fn decode_frame<'a>(rest: &mut Bytes<'a>) -> Option<(u8, &'a [u8])> {
    let word = u32::from_le_bytes(rest.take(4)?.try_into().ok()?);
    let hash = rest.number()?;
    let payload = rest.take((word & 0xff_ffff) as usize)?;
    (xxh3_64_with_seed(payload, u64::from(word)) == hash).then_some(((word >> 24) as u8, payload))
}

struct Decoded {
    records: Vec<Opened>,
    /// Number of bytes up to the end of the last record.
    good: usize,
    is_damaged: bool,
}

/// A record, its place among the records of its append, and its bytes.
struct Placed {
    record: Opened,
    place: u64,
    bytes: Range<usize>,
}

fn decode(bytes: &[u8]) -> Decoded {
    let mut found: Vec<Placed> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let mut rest = Bytes(&bytes[at..]);
        match decode_one(&mut rest) {
            Some((record, place)) => {
                let end = bytes.len() - rest.0.len();
                found.push(Placed { record, place, bytes: at..end });
                at = end;
            }
            None => match next_candidate(bytes, at + 1) {
                Some(candidate) => at = candidate,
                None => break,
            },
        }
    }
    drop_torn_append(&mut found);
    let mut decoded = Decoded { records: Vec::new(), good: 0, is_damaged: false };
    for Placed { record, bytes, .. } in found {
        // It follows bytes that are not a record.
        decoded.is_damaged |= bytes.start > decoded.good;
        decoded.good = bytes.end;
        decoded.records.push(record);
    }
    decoded
}

/// Drops the rest of the last append if its beginning is missing: it was never durable, so nothing was written under it. The
/// next append follows only when an append is durable.
fn drop_torn_append(found: &mut Vec<Placed>) {
    let Some(last) = found.last() else { return };
    let first = last.record.number.saturating_sub(last.place);
    let of_append = found.iter().rev().take_while(|placed| placed.record.number >= first).count();
    if (of_append as u64) < last.place + 1 {
        found.truncate(found.len() - of_append);
    }
}

/// The next position where a record may begin.
fn next_candidate(bytes: &[u8], from: usize) -> Option<usize> {
    let may_begin = |at: usize| {
        let length = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], 0]) as usize;
        (1..=JOURNAL_VERSION).contains(&bytes[at + 3])
            && (PAYLOAD_HEAD_BYTES_1..=PAYLOAD_HEAD_BYTES + PATH_BYTES_MAX).contains(&length)
    };
    (from..bytes.len().saturating_sub(11)).find(|at| may_begin(*at))
}

fn decode_one(rest: &mut Bytes<'_>) -> Option<(Opened, u64)> {
    let (version, payload) = decode_frame(rest)?;
    let mut payload = Bytes((1..=JOURNAL_VERSION).contains(&version).then_some(payload)?);
    let (number, identity, length) = (payload.number()?, payload.identity(version)?, payload.number()?);
    let (marker, byte) = match version {
        1 => (0, compression_byte(None)),
        _ => (payload.number()?, payload.take(1)?[0]),
    };
    let step = if version > 2 && byte & LEFT != 0 { Step::Left } else { Step::Opened };
    let compression = compression_of(if version > 2 { byte & !LEFT } else { byte })?;
    let place = match version {
        1 | 2 => 0,
        _ => u64::from(u16::from_le_bytes(payload.take(2)?.try_into().ok()?)),
    };
    let path = payload.0.to_vec();
    let record = Opened { number, step, identity, length, marker, compression, path };
    (number <= NUMBER_MAX).then_some((record, place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_shards::sim::SimDisk;

    fn opened(path: &str) -> Opened {
        let identity = Identity { device: 1, inode: 2, created: 7 };
        let (number, step, compression) = (0, Step::Opened, Some(Compression::Gzip));
        Opened { number, step, identity, length: 3, marker: 4, compression, path: path.into() }
    }

    #[test]
    fn torn_record_is_removed_and_numbers_continue() {
        let disk = SimDisk::new(1);
        let path = Path::new("/data/outputs/1.journal");
        let mut journal = Journal::open(&disk, path).expect("it opens");
        journal.append(vec![opened("/a"), opened("/b")]).expect("it writes");
        let whole = disk.outside().read(path).expect("it is there");
        let end = usize::try_from(journal.length).expect("it is short");
        for length in end - 40..end {
            let torn: Vec<u8> =
                whole.iter().enumerate().map(|(at, byte)| if at < length { *byte } else { 0 }).collect();
            disk.outside().write(path, &torn).expect("it writes");
            let mut journal = Journal::open(&disk, path).expect("it opens");
            assert_eq!(journal.last(), 1);
            journal.append(vec![opened("/c")]).expect("it writes");
            let journal = Journal::open(&disk, path).expect("it opens");
            let paths: Vec<&[u8]> = journal.behind(0).map(|record| &record.path[..]).collect();
            assert_eq!(paths, [b"/a", b"/c"]);
            assert_eq!(journal.behind(1).count(), 1);
        }
    }

    #[test]
    fn only_the_damaged_part_is_lost_and_damage_is_reported() {
        let path = Path::new("/data/outputs/1.journal");
        let record = PAYLOAD_HEAD_BYTES + 12 + 2;
        for at in 0..3 * record {
            let disk = SimDisk::new(1);
            let mut journal = Journal::open(&disk, path).expect("it opens");
            for path in ["/a", "/b", "/c"] {
                journal.append(vec![opened(path)]).expect("it writes");
            }
            assert_eq!(journal.length, 3 * record as u64);
            let mut bytes = disk.outside().read(path).expect("it is there");
            bytes[at] ^= 0x10;
            disk.outside().write(path, &bytes).expect("it writes");
            let mut journal = Journal::open(&disk, path).expect("it opens");
            let names =
                |journal: &Journal<SimDisk>| -> Vec<u8> { journal.behind(0).map(|record| record.path[1]).collect() };
            let left: Vec<u8> = (0..3).filter(|number| *number != at / record).map(|number| b"abc"[number]).collect();
            assert_eq!((names(&journal), journal.is_damaged()), (left.clone(), at < 2 * record), "byte {at}");
            journal.append(vec![opened("/d")]).expect("it writes");
            let journal = Journal::open(&disk, path).expect("it opens");
            assert_eq!(names(&journal), [left, vec![b'd']].concat());
        }
    }

    /// A power loss keeps any sectors of an append that was not durable, including later ones.
    #[test]
    fn torn_append_is_not_damage_whichever_part_is_left() {
        let path = Path::new("/data/outputs/1.journal");
        let record = PAYLOAD_HEAD_BYTES + 12 + 2;
        for lost in 1..4 {
            let disk = SimDisk::new(1);
            let mut journal = Journal::open(&disk, path).expect("it opens");
            journal.append(vec![opened("/a")]).expect("it writes");
            journal.append(vec![opened("/b"), opened("/c"), opened("/d")]).expect("it writes");
            let mut bytes = disk.outside().read(path).expect("it is there");
            bytes[lost * record..(lost + 1) * record].fill(0);
            disk.outside().write(path, &bytes).expect("it writes");
            let mut journal = Journal::open(&disk, path).expect("it opens");
            let names = |journal: &Journal<SimDisk>| journal.behind(0).map(|one| one.path[1]).collect::<Vec<u8>>();
            assert!(!journal.is_damaged(), "record {lost}");
            assert_eq!(names(&journal), if lost == 3 { b"abc".to_vec() } else { b"a".to_vec() }, "record {lost}");
            journal.append(vec![opened("/e")]).expect("it writes");
            let journal = Journal::open(&disk, path).expect("it opens");
            assert_eq!(names(&journal).last(), Some(&b'e'));
        }
    }

    #[test]
    fn many_records_are_kept_for_a_shorter_time_and_stay_bounded() {
        let disk = SimDisk::new(1);
        let path = Path::new("/data/outputs/1.journal");
        let mut journal = Journal::open(&disk, path).expect("it opens");
        let second = |seconds| Monotonic(0).after(Duration::from_secs(seconds));
        let mut most = 0;
        for seconds in 0..600 {
            journal.append((0..1000).map(|_| opened("/a")).collect()).expect("it writes");
            let covered = journal.last();
            journal.committed(second(seconds)).expect("it works");
            let kept = journal.behind(0).next().map(|record| record.number);
            assert!(kept.is_some_and(|kept| covered - kept + 1 >= 1000 * seconds.min(60)), "{seconds}: {kept:?}");
            most = most.max(journal.behind(0).count());
        }
        assert!(most <= RECORDS_LIMIT + 1000 * 2 * 60, "{most}");
        let length = disk.outside().read(path).expect("it is there").len();
        assert!(length <= most * 65 + 2 * ROOM_BYTES as usize, "{length}");
    }

    #[test]
    fn records_and_commits_work_on_a_full_disk() {
        let disk = SimDisk::new(1);
        let path = Path::new("/data/outputs/1.journal");
        let mut journal = Journal::open(&disk, path).expect("it opens");
        journal.append((0..RECORDS_MAX).map(|_| opened("/a")).collect()).expect("it writes");
        disk.set_free_bytes(Some(0));
        journal.committed(Monotonic(0)).expect("it works");
        journal.committed(Monotonic(0).after(RECORD_AGE)).expect("a long journal is no failure");
        let mut journal = Journal::open(&disk, path).expect("it opens");
        assert_eq!(journal.last(), RECORDS_MAX as u64);
        journal.append(vec![opened("/b")]).expect("it kept its room");
        let journal = Journal::open(&disk, path).expect("it opens");
        assert_eq!(journal.last(), RECORDS_MAX as u64 + 1);
        assert!(disk.free_bytes(path).expect("it answers") < 4096);
    }

    #[test]
    fn old_records_are_dropped_when_nothing_can_need_them() {
        let disk = SimDisk::new(1);
        let path = Path::new("/data/outputs/1.journal");
        let mut journal = Journal::open(&disk, path).expect("it opens");
        journal.append((0..RECORDS_MAX).map(|_| opened("/a")).collect()).expect("it writes");
        journal.committed(Monotonic(0)).expect("it works");
        journal.append(vec![opened("/b")]).expect("it writes");
        journal.committed(Monotonic(1)).expect("it works");
        assert_eq!(journal.behind(0).count(), RECORDS_MAX + 1);
        journal.committed(Monotonic(0).after(RECORD_AGE)).expect("it works");
        assert_eq!(journal.behind(0).count(), 1);
        let journal = Journal::open(&disk, path).expect("it opens");
        assert_eq!(journal.behind(0).count(), 1);
        assert_eq!(journal.last(), RECORDS_MAX as u64 + 1);
    }
}
