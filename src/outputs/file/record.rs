//! What the output remembers: the state of a commit, and the journal of files opened between commits.
//!
//! ```text
//! state    version (1) 1 byte | last journal number 8 | files 4 | per file:
//!          device 8 | inode 8 | length 8 | first write 8 | generation 4 | path bytes 2 | path
//! journal  records: payload bytes 3 | version (1) 1 byte | xxh3 of the payload, seeded with these 4 bytes, 8 | payload:
//!          number 8 | device 8 | inode 8 | length before the first write 8 | path
//! ```
//! All numbers little-endian. A whole record of another version keeps the journal from being opened: it is not taken for torn. Guarantees: a journal record is durable when [`Journal::append`] returns; a torn last record is
//! cut off when the journal is opened; what is read back is what was written or an error.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tailwater_shards::env::{Disk, File, Monotonic, Open};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub path: Vec<u8>,
    pub device: u64,
    pub inode: u64,
    pub length: u64,
    /// When its first byte was written, ns since 1970.
    pub first_write: i64,
    /// How often a file of this path was found shorter than it should be.
    pub generation: u32,
}

/// All that a commit carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The last journal record when the commit was made.
    pub journal: u64,
    pub files: Vec<Committed>,
}

/// Bytes of a state beside its files.
pub const STATE_HEAD_BYTES: usize = 13;

const STATE_VERSION: u8 = 1;
const JOURNAL_VERSION: u8 = 1;

/// Records have lower numbers for ever; what has a higher one is damage.
const NUMBER_MAX: u64 = 1 << 60;

impl Committed {
    /// Bytes it takes in a state.
    pub fn bytes(path: &[u8]) -> usize {
        38 + path.len()
    }
}

impl State {
    /// Appends the state's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(STATE_VERSION);
        out.extend_from_slice(&self.journal.to_le_bytes());
        out.extend_from_slice(&(self.files.len() as u32).to_le_bytes());
        for file in &self.files {
            for number in [file.device, file.inode, file.length, file.first_write as u64] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&file.generation.to_le_bytes());
            out.extend_from_slice(&(file.path.len() as u16).to_le_bytes());
            out.extend_from_slice(&file.path);
        }
    }

    /// Reads a state; none if these bytes are none that this version knows.
    pub fn decode(bytes: &[u8]) -> Option<State> {
        let mut rest = Bytes(bytes);
        if rest.take(1)? != [STATE_VERSION] {
            return None;
        }
        let journal = rest.number().filter(|number| *number <= NUMBER_MAX)?;
        let count = u32::from_le_bytes(rest.take(4)?.try_into().ok()?);
        let mut files = Vec::new();
        for _ in 0..count {
            let (device, inode, length, first_write) = (rest.number()?, rest.number()?, rest.number()?, rest.number()?);
            let generation = u32::from_le_bytes(rest.take(4)?.try_into().ok()?);
            let path_bytes = u16::from_le_bytes(rest.take(2)?.try_into().ok()?);
            let path = rest.take(usize::from(path_bytes))?.to_vec();
            files.push(Committed { path, device, inode, length, first_write: first_write as i64, generation });
        }
        rest.0.is_empty().then_some(State { journal, files })
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

/// A file that was opened for writing, and how long it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub number: u64,
    pub device: u64,
    pub inode: u64,
    pub length: u64,
    pub path: Vec<u8>,
}

/// Records after which old ones are dropped.
const RECORDS_MAX: usize = 4096;

/// How long a record is kept after a commit that covers it. A power loss takes back commits of the last sync interval; a
/// commit this old does not come back.
const RECORD_AGE: Duration = Duration::from_secs(3600);

/// Records from which on they are kept for less time: memory and disk are bounded before the longest sync interval is served.
const RECORDS_LIMIT: usize = 65_536;

/// How long a record is kept then. Longer than any sync interval but those chosen to give safety away.
const RECORD_AGE_LEAST: Duration = Duration::from_secs(60);

/// Room that a journal has for its next records.
const ROOM_BYTES: u64 = 64 << 10;

/// The journal.
pub struct Journal<D: Disk> {
    disk: D,
    path: PathBuf,
    file: D::File,
    length: u64,
    /// Where its room ends.
    allocated: u64,
    next: u64,
    records: Vec<Opened>,
    /// When commits were made, and the last record that each covers; sparse.
    commits: Vec<(Monotonic, u64)>,
}

impl<D: Disk> Journal<D> {
    /// Opens the journal at `path`, made if absent.
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
        let (records, good) = decode(&bytes[..filled]);
        if bytes[good..].iter().any(|byte| *byte != 0) {
            // The room stays: on a full disk it could not be had again.
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
        let mut journal = Journal { disk, path, file, length, allocated, next, records, commits: Vec::new() };
        journal.reserve();
        Ok(journal)
    }

    /// Numbers never go back, even if the journal was lost.
    pub fn skip_to(&mut self, last: u64) {
        self.next = self.next.max(last + 1);
    }

    /// The last record's number.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// The records behind `number`.
    pub fn behind(&self, number: u64) -> impl Iterator<Item = &Opened> {
        self.records.iter().filter(move |record| record.number > number)
    }

    /// Makes records durable and numbers them.
    pub fn append(&mut self, mut opened: Vec<Opened>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (record, number) in opened.iter_mut().zip(self.next..) {
            record.number = number;
            encode(record, &mut bytes);
        }
        self.file.write_at(&bytes, self.length)?;
        self.file.sync()?;
        self.length += bytes.len() as u64;
        self.reserve();
        self.next += opened.len() as u64;
        self.records.append(&mut opened);
        Ok(())
    }

    /// Takes room for the next records while there is some: a full disk must not keep an output from emptying the log on it.
    fn reserve(&mut self) {
        let wanted = (self.length + ROOM_BYTES).next_multiple_of(ROOM_BYTES);
        if self.length + ROOM_BYTES > self.allocated && self.file.allocate(wanted).is_ok() {
            self.allocated = wanted;
        }
    }

    /// Says that a commit covers all records so far, and drops those that no commit can need that may come back.
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
                "{}: more than {RECORDS_LIMIT} files were opened in {RECORD_AGE:?}; a power loss that takes back more than the \
                 last {RECORD_AGE_LEAST:?} of the log may repeat events: let `path` name fewer files, or raise \
                 `max_open_files`",
                self.path.display()
            );
        }
        self.rewrite_behind(covered)
    }

    fn rewrite_behind(&mut self, covered: u64) -> io::Result<()> {
        let mut bytes = Vec::new();
        let kept: Vec<Opened> = self.behind(covered).cloned().collect();
        kept.iter().for_each(|record| encode(record, &mut bytes));
        let length = bytes.len() as u64;
        let room = (length + ROOM_BYTES).next_multiple_of(ROOM_BYTES);
        let aside = self.path.with_extension("new");
        let written = self.disk.open(&aside, Open::Create).and_then(|file| {
            file.truncate(0)?;
            match file.allocate(room) {
                Err(error) if is_no_room(&error) => return Err(error),
                // A file system that cannot give room ahead.
                _ => {}
            }
            file.write_at(&bytes, 0)?;
            file.sync()?;
            Ok(file)
        });
        let file = match written {
            Ok(file) => file,
            Err(error) => {
                // A long journal serves as well as a short one; on a full disk it has to.
                tracing::warn!("{} cannot be shortened: {error}; it is tried again", self.path.display());
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

fn encode(record: &Opened, out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(32 + record.path.len());
    for number in [record.number, record.device, record.inode, record.length] {
        payload.extend_from_slice(&number.to_le_bytes());
    }
    payload.extend_from_slice(&record.path);
    // A path has at most 4,096 bytes, so the length leaves a byte free.
    let word = payload.len() as u32 | u32::from(JOURNAL_VERSION) << 24;
    out.extend_from_slice(&word.to_le_bytes());
    out.extend_from_slice(&xxh3_64_with_seed(&payload, u64::from(word)).to_le_bytes());
    out.extend_from_slice(&payload);
}

/// Fails at a whole record of a version that is not ours.
fn check_versions(bytes: &[u8]) -> io::Result<()> {
    let mut rest = Bytes(bytes);
    while let Some((version, _)) = decode_frame(&mut rest) {
        if version != JOURNAL_VERSION {
            let message = format!("a journal record of version {version} was written by another version of Tailwater");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    }
    Ok(())
}

/// Version and payload of the next record, whichever version it is.
fn decode_frame<'a>(rest: &mut Bytes<'a>) -> Option<(u8, &'a [u8])> {
    let word = u32::from_le_bytes(rest.take(4)?.try_into().ok()?);
    let hash = rest.number()?;
    let payload = rest.take((word & 0xff_ffff) as usize)?;
    (xxh3_64_with_seed(payload, u64::from(word)) == hash).then_some(((word >> 24) as u8, payload))
}

/// The records, and how many bytes they take.
fn decode(bytes: &[u8]) -> (Vec<Opened>, usize) {
    let mut records = Vec::new();
    let mut rest = Bytes(bytes);
    let mut good = 0;
    while let Some(record) = decode_one(&mut rest) {
        records.push(record);
        good = bytes.len() - rest.0.len();
    }
    (records, good)
}

fn decode_one(rest: &mut Bytes<'_>) -> Option<Opened> {
    let (version, payload) = decode_frame(rest)?;
    let mut payload = Bytes((version == JOURNAL_VERSION).then_some(payload)?);
    let (number, device, inode, length) = (payload.number()?, payload.number()?, payload.number()?, payload.number()?);
    (number <= NUMBER_MAX).then(|| Opened { number, device, inode, length, path: payload.0.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_shards::sim::SimDisk;

    #[test]
    fn state_reads_back_and_damage_is_refused() {
        let file = Committed { path: b"/a".to_vec(), device: 1, inode: 2, length: 3, first_write: -4, generation: 5 };
        let state = State { journal: 9, files: vec![file.clone(), Committed { path: Vec::new(), ..file }] };
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert_eq!(State::decode(&bytes), Some(state));
        assert_eq!(bytes.len(), 13 + Committed::bytes(b"/a") + Committed::bytes(b""));
        for length in 0..bytes.len() {
            assert_eq!(State::decode(&bytes[..length]), None);
        }
        bytes[0] = 2;
        assert_eq!(State::decode(&bytes), None);
    }

    fn opened(path: &str) -> Opened {
        Opened { number: 0, device: 1, inode: 2, length: 3, path: path.into() }
    }

    #[test]
    fn torn_record_is_cut_and_numbers_go_on() {
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
    fn many_records_are_kept_for_less_time_and_stay_bounded() {
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
        assert!(length <= most * 46 + 2 * ROOM_BYTES as usize, "{length}");
    }

    #[test]
    fn full_disk_takes_records_and_commits() {
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
    fn old_records_are_dropped_once_nothing_can_need_them() {
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
