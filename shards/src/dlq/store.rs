//! The store: one shard's segments, and the one who adds to them.
//!
//! Guarantees: letters that [`Store::append`] says are stored are durable when it returns; after
//! an error nothing of that call counts, and what is written again goes into a segment of its own, since a sync that failed
//! proves nothing about the pages before it; the segments never take more than the bound by more than one letter's rounding.
//! Blocks: it works off the executor.

use super::segment::{self, Entry, Found, HEADER_BYTES, Header, Sealed, Segment, cost};
use super::{Options, WhenFull, letter, shard_folder, shard_of};
use crate::env::{Disk, File, Open, Sabotage, ShardId, Timestamp};
use std::io;
use std::path::{Path, PathBuf};

/// Name of the file that asks for the open segment to be sealed.
pub const SEAL_REQUEST: &str = "seal";

/// The segment that is being written.
struct OpenSegment<D: Disk> {
    file: D::File,
    number: u64,
    /// Bytes written, and of these durable.
    length: u64,
    synced: u64,
    /// Whether its name is durable.
    named: bool,
}

/// See the module.
pub struct Store<D: Disk> {
    disk: D,
    data_dir: PathBuf,
    folder: PathBuf,
    shard: ShardId,
    options: Options,
    open: Option<OpenSegment<D>>,
    /// What the segments count for, without the open one.
    sealed_bytes: u64,
    /// Whether an error made it leave a segment that is not sealed yet.
    strays: bool,
    /// Letters that went to make room and that nobody was told of yet.
    removed: u64,
    /// The highest number seen or given.
    highest: u64,
}

/// What became of letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Letters that are stored.
    pub stored: u64,
    /// Letters that were dropped since there is no room for them: where each begins.
    pub dropped: Vec<usize>,
    /// Letters stored earlier that had to go.
    pub removed: u64,
    /// There is no room, and the policy says wait: where the rest of each parcel begins that is still to be stored.
    pub waiting: Vec<usize>,
}

/// What a policy does about a letter that has no room.
enum Room {
    /// There is more now.
    Made,
    /// There will be none: the letter is dropped.
    None,
    /// The letter waits.
    Later,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// What its segments count for.
    pub bytes: u64,
    /// Whether a segment is there that is not sealed.
    pub open: bool,
}

impl<D: Disk> Store<D> {
    /// The store of `shard` in a data directory: what an earlier life left open is cut behind its last letter and sealed. Of
    /// `shards` shards the first takes over what shards that are no more have left.
    pub fn open(disk: D, data_dir: &Path, shard: ShardId, shards: usize, options: Options) -> io::Result<Store<D>> {
        let folder = shard_folder(data_dir, shard);
        let data_dir = data_dir.to_path_buf();
        let (sealed_bytes, strays, removed, highest) = (0, false, 0, 0);
        let mut store =
            Store { disk, data_dir, folder, shard, options, open: None, sealed_bytes, strays, removed, highest };
        // Before others join them: a segment that is open has its number for itself.
        store.settle_strays()?;
        if shard.0 == 0 {
            store.take_over(shards)?;
        }
        store.look()?;
        Ok(store)
    }

    /// What it holds.
    pub fn holding(&self) -> Holding {
        let open = self.open.as_ref().map_or(0, |open| cost(open.length));
        Holding { bytes: self.sealed_bytes + open, open: self.open.is_some() || self.strays }
    }

    /// Looks at what is there: whoever replays or purges takes sealed segments away.
    pub fn look(&mut self) -> io::Result<()> {
        let own = self.open.as_ref().map(|open| open.number);
        self.sealed_bytes = 0;
        for entry in segment::list(&self.disk, &self.folder)? {
            self.highest = self.highest.max(entry.number);
            if Some(entry.number) == own {
                continue;
            }
            match self.disk.stat(&entry.path) {
                Ok(stat) => self.sealed_bytes += cost(stat.length),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Appends encoded letters and makes them durable with one sync. They are those of several parcels, one behind the other,
    /// which end at `ends`: one that has to wait for room keeps none behind it waiting.
    pub fn append(&mut self, letters: &[u8], ends: &[usize], now: Timestamp) -> io::Result<Appended> {
        let result = self.append_all(letters, ends, now);
        if result.is_err() {
            self.abandon();
        }
        result
    }

    fn append_all(&mut self, letters: &[u8], ends: &[usize], now: Timestamp) -> io::Result<Appended> {
        let mut done = Appended::default();
        let (mut looked, mut at) = (false, 0);
        while let Ok(first) = letter::length(&letters[at..]) {
            let written = self.open.as_ref().map_or(HEADER_BYTES as u64, |open| open.length);
            if written > HEADER_BYTES as u64 && written + first as u64 > self.options.segment_bytes {
                self.seal()?;
                continue;
            }
            let room = self.options.bytes_max.saturating_sub(self.sealed_bytes + written);
            if room < first as u64 {
                if !std::mem::replace(&mut looked, true) {
                    self.look()?;
                    continue;
                }
                match self.make_room()? {
                    Room::Made => {}
                    Room::None => {
                        done.dropped.push(at);
                        at += first;
                    }
                    Room::Later => {
                        done.waiting.push(at);
                        at = ends.iter().copied().find(|end| *end > at).unwrap_or(letters.len());
                    }
                }
                continue;
            }
            let most = room.min(self.options.segment_bytes.saturating_sub(written));
            let (count, bytes) = run(&letters[at..], most);
            self.write(&letters[at..at + bytes], now)?;
            done.stored += count;
            at += bytes;
        }
        if !D::sabotaged(Sabotage::KeepLettersEarly) {
            self.sync()?;
        }
        done.removed = std::mem::take(&mut self.removed);
        Ok(done)
    }

    /// Does what the policy says about a letter that has no room.
    fn make_room(&mut self) -> io::Result<Room> {
        match self.options.when_full {
            WhenFull::Block => return Ok(Room::Later),
            WhenFull::DropOldest => {
                self.seal()?;
                if let Some(oldest) = segment::list(&self.disk, &self.folder)?.into_iter().find(|entry| entry.sealed) {
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
            // Whoever took it has its letters.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            removed => removed.map(|()| letters),
        }
    }

    fn write(&mut self, bytes: &[u8], now: Timestamp) -> io::Result<()> {
        if self.open.is_none() {
            self.begin(now)?;
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let mut bytes = bytes.to_vec();
        letter::stamp(&mut bytes, open.synced);
        open.file.write_at(&bytes, open.length)?;
        open.length += bytes.len() as u64;
        Ok(())
    }

    fn begin(&mut self, now: Timestamp) -> io::Result<()> {
        self.disk.create_dir_all(&self.folder)?;
        let number = u64::try_from(now.0 / 1000).unwrap_or(0).max(self.highest + 1);
        let path = self.folder.join(segment::file_name(number, false));
        let file = self.disk.open(&path, Open::Create)?;
        self.highest = number;
        let header = segment::header(u64::from(self.shard.0), number);
        // Before anything can fail: a file that is made is one to be tended.
        self.open = Some(OpenSegment { file, number, length: 0, synced: 0, named: false });
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

    /// Ends the open segment, if there is one: from now on it belongs to whoever wants it.
    pub fn seal(&mut self) -> io::Result<()> {
        self.sync()?;
        let Some(open) = self.open.take() else { return Ok(()) };
        self.sealed_bytes += cost(open.length);
        let renamed = self.rename(open.number);
        self.strays |= renamed.is_err();
        renamed
    }

    fn rename(&self, number: u64) -> io::Result<()> {
        let name = |sealed| self.folder.join(segment::file_name(number, sealed));
        self.disk.rename(&name(false), &name(true))
    }

    /// Lets go of the open segment after an error. What of it is not durable is written again elsewhere, so it is cut off where
    /// that can be done; else it stays as letters that came twice, or as damage.
    fn abandon(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.sealed_bytes += cost(open.length);
        self.strays = true;
        if open.file.truncate(open.synced.max(HEADER_BYTES as u64)).is_ok() {
            // It is settled later, or at the next start.
            let _ = open.file.sync();
        }
    }

    /// Seals the open segment if somebody asks for it or `idle` says so, and what an error made it leave.
    pub fn tend(&mut self, idle: bool) -> io::Result<()> {
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

    /// Seals what is open and is not ours: an earlier life's, or what an error made us leave.
    fn settle_strays(&self) -> io::Result<()> {
        let own = self.open.as_ref().map(|open| open.number);
        for entry in segment::list(&self.disk, &self.folder)? {
            if !entry.sealed && Some(entry.number) != own {
                settle(&self.disk, &entry)?;
            }
        }
        Ok(())
    }

    /// Takes the segments of shards that are no more.
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
                    settle(&self.disk, &entry)?;
                }
            }
            for entry in segment::list(&self.disk, &shard_folder(&self.data_dir, shard))? {
                move_into(&self.disk, &entry.path, entry.number, &self.folder)?;
            }
        }
        Ok(())
    }
}

/// The letters at the beginning of `letters` that fit `most` bytes together, at least one: how many, and their bytes.
fn run(letters: &[u8], most: u64) -> (u64, usize) {
    let (mut count, mut bytes) = (0, 0);
    while let Ok(length) = letter::length(&letters[bytes..]) {
        if count > 0 && (bytes + length) as u64 > most {
            break;
        }
        count += 1;
        bytes += length;
    }
    (count, bytes)
}

/// Seals a segment that nobody writes any more: what is no letter behind what was surely durable is a write that never ended,
/// and goes. Blocks.
pub fn settle<D: Disk>(disk: &D, entry: &Entry) -> io::Result<()> {
    let (segment, sealed) = (Segment::open(disk, &entry.path)?, entry.path.with_extension("seg"));
    if let Header::Foreign(_) = segment.header() {
        return disk.rename(&entry.path, &sealed);
    }
    let proven = proven(&segment)?;
    let kept = without_torn(&segment, proven, |_, _| Ok(()))?;
    match kept {
        Kept::Nothing => disk.remove(&entry.path),
        Kept::Beginning(length) => {
            let file = disk.open(&entry.path, Open::Write)?;
            if length < segment.length() {
                file.truncate(length)?;
            }
            // What a life that was killed had only written must not be torn once it counts as sealed.
            file.sync()?;
            disk.rename(&entry.path, &sealed)
        }
        Kept::Parts => {
            let mut out = Sealed::begin(disk, &sealed)?;
            if is_begun_anew(&segment, proven) {
                out.write(&segment::header(0, entry.number))?;
            }
            without_torn(&segment, proven, |from, to| segment.copy(from, to, &mut out))?;
            out.finish(disk)?;
            disk.remove(&entry.path)
        }
    }
}

/// What stays of a segment without what is torn.
enum Kept {
    Nothing,
    /// So many of its first bytes.
    Beginning(u64),
    Parts,
}

/// Bytes that were surely durable: the most that a letter says.
fn proven<F: File>(segment: &Segment<F>) -> io::Result<u64> {
    let (mut walk, mut proven) = (segment.walk(), 0);
    while let Some(found) = walk.next()? {
        if let Found::Letter(kept) = found {
            proven = kept.synced.max(proven);
        }
    }
    Ok(proven)
}

/// Whether the header itself is torn.
fn is_begun_anew<F: File>(segment: &Segment<F>, proven: u64) -> bool {
    segment.header() != Header::Known && proven == 0
}

/// Hands out the parts of a segment that are not torn.
fn without_torn<F: File>(
    segment: &Segment<F>,
    proven: u64,
    mut part: impl FnMut(u64, u64) -> io::Result<()>,
) -> io::Result<Kept> {
    // Where the parts end that nothing is missing from, and whether there is one behind.
    let mut beginning = if segment.header() == Header::Known { HEADER_BYTES as u64 } else { 0 };
    let (mut whole, mut any) = (!is_begun_anew(segment, proven), false);
    part(0, beginning)?;
    let mut walk = segment.walk();
    let mut from = beginning;
    loop {
        let torn = match walk.next()? {
            None => break,
            Some(Found::Damage { offset, .. }) => offset >= proven,
            Some(Found::Letter(_)) => false,
        };
        let to = walk.at();
        if !torn {
            part(from, to)?;
            any = true;
            whole &= from == beginning;
            beginning = to;
        }
        from = to;
    }
    match (any, whole) {
        (false, _) => Ok(Kept::Nothing),
        (true, true) => Ok(Kept::Beginning(beginning)),
        (true, false) => Ok(Kept::Parts),
    }
}

/// Moves a sealed segment into a folder, under its number or the next one that is free there. Blocks.
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
