//! The store: one shard's segments of dead letters, and their only writer.
//!
//! Guarantees: letters that [`Store::append`] reports as stored are durable when it returns. After an error, nothing of that
//! call counts, and the letters are written again to a new segment, because a failed sync proves nothing about the pages before
//! it. The same holds if another program removed or renamed the segment: no letter is reported as stored in a file that has lost its
//! name by then. The segments exceed the limit by at most the rounding of one letter. A letter that is beyond the share of its component or
//! source ([`super::shares`]) delays no letter of another one. Blocks: it must run off the executor. Opening it reads all segments
//! once, to know whose letters they hold.

use super::segment::{self, Entry, Found, HEADER_BYTES, Segment, cost};
use super::settle::{Torn, settle};
use super::shares::{Holder, Owner, Shares};
use super::{DeadLetter, KeptLetter, Options, WhenFull, letter, shard_folder, shard_of};
use crate::env::{Disk, File, Open, Sabotage, ShardId, Timestamp};
use std::io;
use std::path::{Path, PathBuf};

/// Name of the file that asks for the open segment to be sealed.
pub const SEAL_REQUEST: &str = "seal";

/// The segment that is being written.
struct OpenSegment<D: Disk> {
    file: D::File,
    number: u64,
    /// Bytes written, and how many of them are durable.
    length: u64,
    synced: u64,
    /// Whether its name is durable.
    named: bool,
    /// Letters in it, and how many of them were reported as stored.
    letters: u64,
    stored: u64,
}

/// See the module.
pub struct Store<D: Disk> {
    disk: D,
    data_dir: PathBuf,
    folder: PathBuf,
    shard: ShardId,
    options: Options,
    open: Option<OpenSegment<D>>,
    /// How much the sealed segments count toward the limit.
    sealed_bytes: u64,
    shares: Shares,
    /// Whether an error left behind a segment that is not sealed yet.
    strays: bool,
    /// Letters that were removed to make space and have not been reported yet.
    removed: u64,
    /// Letters that another program removed with the open segment since the store was opened.
    lost: u64,
    /// The highest number seen or assigned.
    highest: u64,
}

/// Where the letters of one parcel end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParcelEnd {
    /// The offset behind the last one.
    pub at: usize,
    /// What happens to one for which there is no space. None if the settings of the queue decide.
    pub when_full: Option<WhenFull>,
}

/// What happened to letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Letters that are stored.
    pub stored: u64,
    /// Letters that were dropped because there is no space: the offset at which each begins.
    pub dropped: Vec<usize>,
    /// Letters stored earlier that were removed.
    pub removed: u64,
    /// There is no space, or not for its owner, and the policy is to wait: where the remaining part of each parcel begins.
    pub waiting: Vec<usize>,
}

/// How a policy handles a letter for which there is no space.
enum Room {
    /// Space has been freed.
    Made,
    /// There will be no space: the letter is dropped.
    None,
    /// The letter waits.
    Later,
}

/// What a store contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// How much its segments count toward the limit.
    pub bytes: u64,
    /// Whether there is a segment that is not sealed.
    pub open: bool,
    /// The components with letters in it.
    pub holders: Vec<Holder>,
    /// Letters that another program removed with the open segment since the store was opened.
    pub lost: u64,
}

impl<D: Disk> Store<D> {
    /// Opens the store of `shard` in a data directory. A segment that an earlier start left open is truncated after its last
    /// letter and sealed. The first of `shards` shards takes over the segments of shards that no longer exist.
    pub fn open(disk: D, data_dir: &Path, shard: ShardId, shards: usize, options: Options) -> io::Result<Store<D>> {
        let folder = shard_folder(data_dir, shard);
        let data_dir = data_dir.to_path_buf();
        let (open, shares) = (None, Shares::default());
        let (sealed_bytes, strays, removed, lost, highest) = (0, false, 0, 0, 0);
        let mut store = Store {
            disk,
            data_dir,
            folder,
            shard,
            options,
            open,
            sealed_bytes,
            shares,
            strays,
            removed,
            lost,
            highest,
        };
        // Must happen before other segments are taken over, while the number of the open segment is still unique.
        store.settle_strays()?;
        if shard.0 == 0 {
            store.take_over(shards)?;
        }
        store.look()?;
        Ok(store)
    }

    /// What it contains.
    pub fn holding(&self) -> Holding {
        let open = self.open.as_ref().map_or(0, |open| cost(open.length));
        let holders = self.shares.holders();
        Holding { bytes: self.sealed_bytes + open, open: self.open.is_some() || self.strays, holders, lost: self.lost }
    }

    /// Rescans the folder: commands that replay or purge take sealed segments away, or put others there.
    pub fn look(&mut self) -> io::Result<()> {
        let own = self.open.as_ref().map(|open| open.number);
        self.sealed_bytes = 0;
        let entries = segment::list(&self.disk, &self.folder)?;
        for entry in &entries {
            self.highest = self.highest.max(entry.number);
            if Some(entry.number) == own {
                continue;
            }
            match self.disk.stat(&entry.path) {
                Ok(stat) => {
                    self.sealed_bytes += cost(stat.length);
                    if !self.shares.knows(entry.number, stat.length) {
                        self.learn(entry, stat.length);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.shares.retain(|number| entries.binary_search_by_key(&number, |entry| entry.number).is_ok());
        Ok(())
    }

    /// Reads whose letters a segment holds. What cannot be read counts as nobody's.
    fn learn(&mut self, entry: &Entry, length: u64) {
        self.shares.learn(entry.number, length);
        let Ok(segment) = Segment::open(&self.disk, &entry.path) else { return };
        let (mut walk, mut at) = (segment.walk(), HEADER_BYTES as u64);
        while let Ok(Some(found)) = walk.next() {
            let owner = match found {
                Found::Letter(KeptLetter { letter: DeadLetter { kind, component, source, .. }, .. }) => {
                    Some(self.shares.owner_of(kind, component, source))
                }
                Found::Damage { .. } => None,
            };
            if let Some(owner) = owner {
                self.shares.learn_letter(entry.number, owner, walk.at() - at);
            }
            at = walk.at();
        }
    }

    /// Appends encoded letters and makes them durable with one sync. The letters belong to several parcels, one after the
    /// other, which end at `ends`. A letter that waits for space delays no later parcel.
    pub fn append(&mut self, letters: &[u8], ends: &[ParcelEnd], now: Timestamp) -> io::Result<Appended> {
        self.notice_removal();
        let result = self.append_named(letters, ends, now);
        match &mut self.open {
            Some(open) if result.is_ok() => open.stored = open.letters,
            _ if result.is_err() => self.abandon(),
            _ => {}
        }
        result
    }

    /// The same for an open segment that had its name a moment ago. The name may go at any time.
    fn append_named(&mut self, letters: &[u8], ends: &[ParcelEnd], now: Timestamp) -> io::Result<Appended> {
        let done = self.append_all(letters, ends, now)?;
        if self.is_removed() { Err(self.removed_meanwhile()) } else { Ok(done) }
    }

    /// Whether the open segment has no name any more.
    fn is_removed(&self) -> bool {
        let Some(open) = &self.open else { return false };
        let stat = self.disk.stat(&self.open_path(open.number));
        stat.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Gives up the open segment if another program removed or renamed it: what is written to it reaches nobody.
    fn notice_removal(&mut self) {
        if self.is_removed()
            && let Some(open) = self.open.take()
        {
            self.shares.forget_open();
            self.count_lost(open.number, open.stored);
        }
    }

    /// Counts the letters that were in the open segment before this call, as an error for those of this call.
    fn removed_meanwhile(&mut self) -> io::Error {
        if let Some((number, stored)) = self.open.as_mut().map(|open| (open.number, std::mem::take(&mut open.stored))) {
            self.count_lost(number, stored);
        }
        io::Error::other("another program removed or renamed the file meanwhile")
    }

    fn count_lost(&mut self, number: u64, letters: u64) {
        self.lost += letters;
        tracing::warn!(
            path = %self.open_path(number).display(),
            letters,
            "another program removed or renamed the file to which dead letters were written, with {letters} letters in it; new ones are \
             written to another file. To remove dead letters, use tailwater dlq purge"
        );
    }

    fn append_all(&mut self, letters: &[u8], ends: &[ParcelEnd], now: Timestamp) -> io::Result<Appended> {
        let mut done = Appended::default();
        let (mut looked, mut at) = (false, 0);
        // Letters from here to `at` are admitted and not written yet.
        let mut from = 0;
        while let Ok(length) = letter::length(&letters[at..]) {
            let bytes = length as u64;
            let written = self.open.as_ref().map_or(HEADER_BYTES as u64, |open| open.length) + (at - from) as u64;
            if written > HEADER_BYTES as u64 && written + bytes > self.options.segment_bytes {
                self.write(&letters[from..at], now)?;
                from = at;
                self.seal_open()?;
                continue;
            }
            let owner = self.shares.owner(&letters[at..]);
            let free = self.options.bytes_max.saturating_sub(self.sealed_bytes + written);
            if self.shares.admits(owner, bytes, free) {
                self.shares.add(owner, bytes);
                done.stored += 1;
                at += length;
                continue;
            }
            self.write(&letters[from..at], now)?;
            from = at;
            if !std::mem::replace(&mut looked, true) {
                self.look()?;
                continue;
            }
            let end = ends.iter().find(|end| end.at > at);
            let when_full = end.and_then(|end| end.when_full).unwrap_or(self.options.when_full);
            match self.make_room(owner, free < bytes, when_full)? {
                Room::Made => continue,
                Room::None => {
                    done.dropped.push(at);
                    at += length;
                }
                Room::Later => {
                    done.waiting.push(at);
                    at = end.map_or(letters.len(), |end| end.at);
                }
            }
            from = at;
        }
        self.write(&letters[from..at], now)?;
        if !D::sabotaged(Sabotage::KeepLettersEarly) {
            self.sync()?;
        }
        done.removed = std::mem::take(&mut self.removed);
        Ok(done)
    }

    /// Applies the policy to a letter for which there is no space: none at all, or none for its owner.
    fn make_room(&mut self, owner: Owner, is_full: bool, when_full: WhenFull) -> io::Result<Room> {
        match when_full {
            WhenFull::Block => return Ok(Room::Later),
            WhenFull::DropOldest => {
                self.seal_open()?;
                self.look()?;
                // Letters of others go only if the component has none, and the queue is full.
                let own = self.shares.oldest_mostly_of(owner);
                let may_go = |entry: &Entry| entry.sealed && own.map_or(is_full, |own| own == entry.number);
                if let Some(oldest) = segment::list(&self.disk, &self.folder)?.into_iter().find(may_go) {
                    self.removed += self.remove(&oldest)?;
                    self.look()?;
                    return Ok(Room::Made);
                }
            }
            WhenFull::DropNewest => {}
        }
        Ok(Room::None)
    }

    fn remove(&self, entry: &Entry) -> io::Result<u64> {
        let letters = match Segment::open(&self.disk, &entry.path) {
            Ok(segment) => segment.letters()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        match self.disk.remove(&entry.path) {
            // A command took it and has its letters.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            removed => removed.map(|()| letters),
        }
    }

    fn write(&mut self, bytes: &[u8], now: Timestamp) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.open.is_none() {
            self.begin(now)?;
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let mut bytes = bytes.to_vec();
        let letters = letter::stamp(&mut bytes, open.synced);
        open.file.write_at(&bytes, open.length)?;
        open.length += bytes.len() as u64;
        open.letters += letters;
        Ok(())
    }

    fn begin(&mut self, now: Timestamp) -> io::Result<()> {
        self.disk.create_dir_all(&self.folder)?;
        let number = u64::try_from(now.0 / 1000).unwrap_or(0).max(self.highest + 1);
        let file = self.disk.open(&self.open_path(number), Open::Create)?;
        self.highest = number;
        let header = segment::header(u64::from(self.shard.0), number);
        // Must be set before anything can fail, so that a created file is maintained.
        self.open = Some(OpenSegment { file, number, length: 0, synced: 0, named: false, letters: 0, stored: 0 });
        let Some(open) = &mut self.open else { return Ok(()) };
        open.file.write_at(&header, 0)?;
        open.length = HEADER_BYTES as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.synced < open.length {
            open.file.sync()?;
            open.synced = open.length;
        }
        if !open.named {
            let above = super::folder(&self.data_dir);
            for folder in [&self.folder, &above, &self.data_dir] {
                self.disk.sync_dir(folder)?;
            }
            open.named = true;
        }
        Ok(())
    }

    /// Seals the open segment, if there is one. From then on commands may take it.
    pub fn seal(&mut self) -> io::Result<()> {
        self.notice_removal();
        self.seal_open()
    }

    fn seal_open(&mut self) -> io::Result<()> {
        self.sync()?;
        if self.is_removed() {
            return Err(self.removed_meanwhile());
        }
        let Some(open) = self.open.take() else { return Ok(()) };
        self.sealed_bytes += cost(open.length);
        self.shares.seal(open.number, open.length);
        let renamed = self.rename(open.number);
        self.strays |= renamed.is_err();
        renamed
    }

    fn rename(&self, number: u64) -> io::Result<()> {
        self.disk.rename(&self.open_path(number), &self.folder.join(segment::file_name(number, true)))
    }

    fn open_path(&self, number: u64) -> PathBuf {
        self.folder.join(segment::file_name(number, false))
    }

    /// Gives up the open segment after an error. Its bytes that are not durable are written again elsewhere, so they are
    /// truncated if possible. Otherwise they remain as repeated letters or as damage.
    fn abandon(&mut self) {
        self.shares.forget_open();
        let Some(open) = self.open.take() else { return };
        self.sealed_bytes += cost(open.length);
        self.strays = true;
        if open.file.truncate(open.synced.max(HEADER_BYTES as u64)).is_ok() {
            // It is sealed later, or at the next start.
            let _ = open.file.sync();
        }
    }

    /// Seals the open segment if a command requests it or if `idle` is set, and seals segments that an error left behind.
    pub fn tend(&mut self, idle: bool) -> io::Result<()> {
        self.notice_removal();
        let request = self.folder.join(SEAL_REQUEST);
        let asked = self.disk.stat(&request).is_ok();
        if asked || idle {
            self.seal()?;
        }
        if self.strays {
            self.settle_strays()?;
            self.strays = false;
        }
        if asked {
            self.disk.remove(&request)?;
        }
        if self.open.is_none() { self.look() } else { Ok(()) }
    }

    /// Seals open segments other than the current one: left by an earlier start or by an error.
    fn settle_strays(&self) -> io::Result<()> {
        let own = self.open.as_ref().map(|open| open.number);
        for entry in segment::list(&self.disk, &self.folder)? {
            if !entry.sealed && Some(entry.number) != own {
                report(settle(&self.disk, &entry)?);
            }
        }
        Ok(())
    }

    /// Takes over the segments of shards that no longer exist.
    fn take_over(&mut self, shards: usize) -> io::Result<()> {
        let all = super::folder(&self.data_dir);
        let names = match self.disk.list(&all) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names?,
        };
        for name in names {
            let Some(shard) = name.name.to_str().and_then(shard_of).filter(|shard| shard.index() >= shards) else {
                continue;
            };
            for entry in segment::list(&self.disk, &shard_folder(&self.data_dir, shard))? {
                if !entry.sealed {
                    report(settle(&self.disk, &entry)?);
                }
            }
            for entry in segment::list(&self.disk, &shard_folder(&self.data_dir, shard))? {
                move_into(&self.disk, &entry.path, entry.number, &self.folder)?;
            }
        }
        Ok(())
    }
}

fn report(torn: Option<Torn>) {
    if let Some(torn) = torn {
        tracing::warn!("{torn}");
    }
}

/// Moves a sealed segment into a folder, with its number or the next one that is free there. Blocks.
pub fn move_into<D: Disk>(disk: &D, path: &Path, number: u64, folder: &Path) -> io::Result<PathBuf> {
    disk.create_dir_all(folder)?;
    let mut number = number;
    loop {
        let target = folder.join(segment::file_name(number, true));
        match disk.stat(&target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.rename(path, &target)?;
                disk.sync_dir(folder)?;
                return Ok(target);
            }
            stat => stat?,
        };
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlq::{ComponentKind, DeadLetter};
    use crate::sim::{SimDisk, Simulation};

    const NOW: Timestamp = Timestamp(1_795_392_754_000_000_000);

    fn letter() -> Vec<u8> {
        let letter = DeadLetter {
            kind: ComponentKind::Output,
            component: "es",
            place: "rejected",
            source: b"",
            reason: "status 400",
            attempts: 1,
            timestamp: NOW,
            original: b"event",
        };
        let mut out = Vec::new();
        letter::encode(&mut out, NOW, &letter);
        out
    }

    /// The segment is removed after it was looked for, before the letters are durable.
    #[test]
    fn letter_in_a_file_that_lost_its_name_meanwhile_is_not_reported_as_stored() {
        for segment_bytes in [64 * 1024, 100] {
            let disk = Simulation::new(1).disk().clone();
            disk.outside().create_dir_all("/data").unwrap();
            let options = Options { bytes_max: 1024 * 1024, segment_bytes, when_full: WhenFull::Block };
            let mut store: Store<SimDisk> =
                Store::open(disk.clone(), Path::new("/data"), ShardId(0), 1, options).unwrap();
            let (letter, ends) = (letter(), [ParcelEnd { at: letter().len(), when_full: None }]);
            store.append(&letter, &ends, NOW).unwrap();
            disk.remove(&segment::list(&disk, &store.folder).unwrap()[0].path).unwrap();
            // A full segment is sealed first, which needs its name.
            assert!(store.append_named(&letter, &ends, NOW).is_err(), "{segment_bytes}");
            store.abandon();
            assert_eq!(store.append(&letter, &ends, NOW).unwrap().stored, 1);
            store.tend(true).unwrap();
            let sealed = segment::list(&disk, &store.folder).unwrap();
            let held = sealed.iter().map(|entry| Segment::open(&disk, &entry.path).unwrap().letters().unwrap());
            assert_eq!((held.sum::<u64>(), store.holding().lost), (1, 1), "{segment_bytes}");
        }
    }
}
