//! The open files of an output, and the protocol that keeps them exact over a crash. All calls may block.
//!
//! Guarantees, for a kill and for a power loss at any point, told on [`Writer::open`] and proved by the tests: what lies in
//! the files after a start is exactly what was delivered before the commit it starts from. See the module above for why.

mod ends;
mod hold;
mod others;
mod recover;
mod rotation;
mod target;
mod whole;
mod words;

use ends::{End, Trust, last_byte};
pub use hold::Hold;
use hold::is_held;
pub use others::Refused;
pub use target::Target;
use target::{RAW_STEP, compressed_at_most, target, whole_lines};
pub use words::explain;

use super::compress::{Compression, Member};
use super::journal::{Journal, Opened, Run, Step, is_no_room};
use super::record::{Committed, Identity, STATE_HEAD_BYTES, State, marker_of};
use crate::config::claims::{Claims, Owner};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tailwater_shards::counters::OutputCounters;
use tailwater_shards::env::{Access, Disk, File, FileKind, Monotonic, Open, Stat, Timestamp, is_exhausted};

/// How files are written.
#[derive(Clone, Debug)]
pub struct Options {
    pub compression: Compression,
    /// Length at which a file is rotated.
    pub rotate_bytes: Option<u64>,
    /// Nanoseconds from a file's first write to its rotation.
    pub rotate_age: Option<i64>,
    /// Rotated files that are kept of each path.
    pub keep: u32,
    pub open_files_max: usize,
    /// Bytes that the state of a commit may have.
    pub state_bytes_max: usize,
    /// Who may do what with a file that is made.
    pub access: Access,
}

/// What an output writes with.
#[derive(Clone)]
pub struct Means<D: Disk> {
    pub disk: D,
    /// The output.
    pub name: Arc<str>,
    /// Who writes which file in this process.
    pub claims: Arc<Claims>,
    pub counters: Arc<OutputCounters>,
}

/// What the clocks show.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub wall: Timestamp,
    pub monotonic: Monotonic,
}

/// Bytes for one path.
pub struct Group {
    pub path: Vec<u8>,
    pub bytes: Vec<u8>,
    written: usize,
}

impl Group {
    /// An empty group.
    pub fn new(path: Vec<u8>) -> Group {
        Group { path, bytes: Vec::new(), written: 0 }
    }
}

/// Files opened with one sync of the journal.
pub const OPENED_AT_ONCE: usize = 16;

/// A compressed file is rotated when less than this part of its limit is left: members for the rest would be tiny.
const SMALLEST_ROOM: u64 = 16;

/// Rotated and evicted files that may wait for the next commit to sync them.
pub const CLOSING_MAX: usize = 64;

/// See the module.
pub struct Writer<D: Disk> {
    disk: D,
    name: Arc<str>,
    claims: Arc<Claims>,
    owner: Owner,
    counters: Arc<OutputCounters>,
    options: Options,
    files: BTreeMap<Vec<u8>, Target<D>>,
    /// Files that get no more bytes and wait for the next commit, to be synced and let go.
    closing: Vec<(Vec<u8>, Target<D>)>,
    /// Directories with names that are not durable yet.
    directories: BTreeSet<PathBuf>,
    journal: Journal<D>,
    /// Not known how long files were at the last commit, so that their ends are not known to be whole.
    is_lost: bool,
    /// Delivered, and not written yet.
    pending: VecDeque<Group>,
    uses: u64,
    /// Why delivered bytes may be lost, such as a sync that failed, which proves nothing when it is repeated. Nothing more is
    /// written and no commit follows: the instance is opened again from its last commit, and gets all of it again.
    poisoned: Option<String>,
    /// Paths whose files others changed, and that were told of.
    told: BTreeSet<Vec<u8>>,
    has_told_of_no_locks: bool,
    /// The last failure was a file that another output of this process has, and lets go of soon.
    is_next: bool,
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn numbered(path: &[u8], number: u32) -> PathBuf {
    let mut name = path.to_vec();
    name.extend_from_slice(format!(".{number}").as_bytes());
    as_path(&name).to_owned()
}

impl<D: Disk> Writer<D> {
    /// Opens the files of the commit that `state` is of and brings all files back to what they held then: each file of the
    /// commit is cut to its length; each file that was opened after it, which the journal tells, is cut to the length it had
    /// before. All cuts are durable when this returns, so that no later crash brings the bytes back. What lies behind the commit
    /// is cut only if it is no more than `again_bytes`, which come again; else files keep all that is whole in them.
    pub fn open(
        means: Means<D>,
        options: Options,
        journal: &Path,
        state: State,
        again_bytes: Option<u64>,
    ) -> io::Result<Writer<D>> {
        let Means { disk, name, claims, counters } = means;
        let mut journal = Journal::open(&disk, journal)?;
        journal.skip_to(state.journal);
        let owner = claims.owner(name.clone());
        let mut writer = Writer {
            disk,
            name,
            claims,
            owner,
            counters,
            options,
            files: BTreeMap::new(),
            closing: Vec::new(),
            directories: BTreeSet::new(),
            journal,
            is_lost: false,
            pending: VecDeque::new(),
            uses: 0,
            poisoned: None,
            told: BTreeSet::new(),
            has_told_of_no_locks: false,
            is_next: false,
        };
        writer.recover(state, again_bytes)?;
        Ok(writer)
    }

    /// Takes groups in and writes them. An error means that nothing of them was taken. What was taken and could not be
    /// written waits: [`Writer::flush`] comes before the next groups, and before a commit.
    pub fn accept(&mut self, groups: Vec<Group>, now: Now) -> Result<(), String> {
        assert!(!self.is_waiting(), "groups before the ones before them were written");
        if let Some(reason) = &self.poisoned {
            return Err(reason.clone());
        }
        if groups.is_empty() {
            return Ok(());
        }
        let count = groups.len();
        self.pending = groups.into();
        let Err(error) = self.flush(now) else {
            return Ok(());
        };
        if self.has_lost(&error) {
            return Err(error);
        }
        if self.pending.len() == count && self.pending[0].written == 0 && !self.is_waiting_compressed() {
            self.pending.clear();
            return Err(error);
        }
        self.warn(&error);
        Ok(())
    }

    /// Whether a failure means that what was taken since the last commit may be lost, so that nothing more is taken.
    pub fn has_lost(&mut self, error: &str) -> bool {
        if self.files.values().any(|target| target.broken) {
            self.poison(error.to_owned());
        }
        self.poisoned.is_some()
    }

    /// Whether something that was taken is not written yet.
    pub fn is_waiting(&self) -> bool {
        self.poisoned.is_none() && (!self.pending.is_empty() || self.is_waiting_compressed())
    }

    /// Whether the last failure was a file that another output of this process lets go of soon.
    pub fn is_next(&self) -> bool {
        self.is_next
    }

    fn is_waiting_compressed(&self) -> bool {
        self.options.compression != Compression::None && self.files.values().any(|target| !target.out.is_empty())
    }

    /// Writes what waits.
    pub fn flush(&mut self, now: Now) -> Result<(), String> {
        self.is_next = false;
        self.hand_over(false, now)?;
        let written = self.write_waiting(now);
        if written.is_err() && self.is_next {
            // Whoever has the file that this waits for may wait for one of these, and no commit comes meanwhile.
            self.hand_over(true, now)?;
        }
        written
    }

    fn write_waiting(&mut self, now: Now) -> Result<(), String> {
        if self.is_waiting_compressed() {
            let waits = self.files.iter().filter(|(_, target)| !target.out.is_empty());
            for path in waits.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
                self.settle(&path)?;
                let Some(target) = self.files.get_mut(&path) else { continue };
                target.flush(now.wall).map_err(|error| explain("write", as_path(&path), &error))?;
            }
        }
        while !self.pending.is_empty() {
            let paths: Vec<Vec<u8>> =
                self.pending.iter().take(OPENED_AT_ONCE).map(|group| group.path.clone()).collect();
            self.ensure_open(&paths, now)?;
            for _ in 0..paths.len() {
                let Some(mut group) = self.pending.pop_front() else { break };
                let result = self.write(&mut group, now);
                if group.written < group.bytes.len() {
                    self.pending.push_front(group);
                }
                result?;
            }
        }
        Ok(())
    }

    fn write(&mut self, group: &mut Group, now: Now) -> Result<(), String> {
        while group.written < group.bytes.len() {
            let rest = &group.bytes[group.written..];
            let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            self.settle(&group.path)?;
            if self.is_due(&group.path, self.expected(&group.path, line as u64), now) {
                self.rotate(&group.path, now)?;
            }
            self.ensure_open(std::slice::from_ref(&group.path), now)?;
            let (limit, compression) = (self.options.rotate_bytes, self.options.compression);
            let target = self.files.get_mut(&group.path).ok_or("a file was closed while it is written")?;
            let explain = |error: io::Error| explain("write", as_path(&group.path), &error);
            if compression == Compression::None {
                let room = limit.map_or(rest.len() as u64, |limit| limit.saturating_sub(target.length));
                let count = whole_lines(rest, usize::try_from(room).unwrap_or(usize::MAX)).max(line);
                target.append(&rest[..count], now.wall).map_err(explain)?;
                group.written += count;
            } else {
                let count = target.compress(rest, line, compression, limit).map_err(explain)?;
                group.written += count;
                match count {
                    0 => target.finish(now.wall).map_err(explain)?,
                    _ => target.flush(now.wall).map_err(explain)?,
                }
            }
        }
        Ok(())
    }

    /// Bytes that must fit into a file with nothing in a compressor, or it is rotated before a line of `line` bytes.
    fn expected(&self, path: &[u8], line: u64) -> u64 {
        let open_member = self.files.get(path).is_some_and(|target| target.member.is_some());
        match (self.options.compression, self.options.rotate_bytes) {
            (Compression::None, _) => line,
            (_, Some(limit)) if !open_member => compressed_at_most(line).max(limit / SMALLEST_ROOM),
            _ => 0,
        }
    }

    fn is_due(&self, path: &[u8], more: u64, now: Now) -> bool {
        let Some(target) = self.files.get(path).filter(|target| target.length > 0) else {
            return false;
        };
        let is_full = |limit| target.length >= limit || target.length + more > limit;
        let is_old = |age| now.wall.0.saturating_sub(target.first_write) >= age;
        self.options.rotate_bytes.is_some_and(is_full) || self.options.rotate_age.is_some_and(is_old)
    }

    /// The open file of a path, if `bytes` may be written to it now and nothing has to be done before.
    pub fn ready(&mut self, path: &[u8], bytes: u64, now: Now) -> Option<&mut Target<D>> {
        let is_plain = self.options.compression == Compression::None && self.poisoned.is_none();
        if !is_plain || self.is_waiting() || self.is_due(path, bytes, now) {
            return None;
        }
        let limit = self.options.rotate_bytes.unwrap_or(u64::MAX);
        let fits = |target: &&mut Target<D>| target.length.saturating_add(bytes) <= limit;
        self.files.get_mut(path).filter(|target| {
            // One look for a whole delivery: what others did to the file is seen to where that may block.
            let is_as_left = || target.file.stat().is_ok_and(|stat| target.is_as_left(&stat));
            fits(target) && !target.file.is_remote() && !target.hold.is_wanted() && is_as_left()
        })
    }

    /// Opens files that are not open, and makes the journal say so before the first byte is written.
    fn ensure_open(&mut self, paths: &[Vec<u8>], now: Now) -> Result<(), String> {
        self.uses += 1;
        let mut opened: Vec<(Vec<u8>, Target<D>)> = Vec::new();
        let mut records = Vec::new();
        for path in paths {
            if let Some(target) = self.files.get_mut(path) {
                target.used = self.uses;
                continue;
            }
            if let Some(target) = self.closing_at(path) {
                self.files.insert(path.clone(), Target { used: self.uses, ..target });
                continue;
            }
            let target = match self.open_with_room(path, now)? {
                Ok(target) => target,
                // Two of these paths lead to one file: it is written under the first before it is opened under the other.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && !opened.is_empty() => break,
                Err(error) => {
                    self.counters.held_files.add(u64::from(is_held(&error)));
                    return Err(explain("open", as_path(path), &error));
                }
            };
            records.push(self.opened(path, &target).map_err(|error| explain("read", as_path(path), &error))?);
            opened.push((path.clone(), target));
        }
        if opened.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.journal.append(records) {
            return Err(self.poison(explain("write the journal for", as_path(&opened[0].0), &error)));
        }
        for (path, mut target) in opened {
            target.used = self.uses;
            self.files.insert(path, target);
        }
        self.make_room(now)
    }

    /// Opens a file, and closes idle ones if no descriptor is left: they are what this output can do without.
    fn open_with_room(&mut self, path: &[u8], now: Now) -> Result<io::Result<Target<D>>, String> {
        loop {
            match self.open_one(path, now.wall) {
                Err(error) if is_exhausted(&error) && self.close_idle(now)? => {}
                opened => return Ok(opened),
            }
        }
    }

    /// A file that waits to be closed and is still at its path.
    fn closing_at(&mut self, path: &[u8]) -> Option<Target<D>> {
        let at = self.closing.iter().position(|(closing, _)| closing == path)?;
        let stat = self.disk.stat(as_path(path)).ok()?;
        let is_it =
            self.closing[at].1.identity.inode == stat.inode && self.closing[at].1.identity.device == stat.device;
        is_it.then(|| self.closing.remove(at).1)
    }

    fn open_one(&mut self, bytes: &[u8], now: Timestamp) -> io::Result<Target<D>> {
        let path = as_path(bytes);
        let mut made = self.make_directory(parent(path))?;
        let file = self.open_file(path)?;
        self.directories.append(&mut made);
        let (mut hold, mut stat) = self.take(file, path, now)?;
        let mut end = self.end_of(bytes, &hold.file, &stat, Trust::Journal)?;
        if end == End::Unfit {
            self.set_aside(bytes)?;
            let file = self.open_file(path)?;
            ((hold, stat), end) = (self.take(file, path, now)?, End::Whole);
        }
        let (first_write, within_line) = (stat.modified.0, end == End::WithinLine);
        Ok(Target { first_write, within_line, ..target(hold, Identity::of(&stat), stat.length) })
    }

    /// Makes what is missing of a directory, and returns what has names that are not durable.
    fn make_directory(&mut self, directory: &Path) -> io::Result<BTreeSet<PathBuf>> {
        let mut made = BTreeSet::from([directory.to_owned()]);
        for above in directory.ancestors() {
            made.insert(above.to_owned());
            if self.disk.stat(above).is_ok() {
                break;
            }
        }
        if made.len() > 1 {
            self.disk.create_dir_all(directory)?;
        }
        Ok(made)
    }

    /// Opens a file, made if absent. Never something else than a file, which could wait for ever.
    fn open_file(&mut self, path: &Path) -> io::Result<D::File> {
        let is_new = match self.disk.stat(path) {
            Ok(stat) if stat.kind == FileKind::Directory => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(stat) if stat.kind != FileKind::Regular => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a named pipe, a socket or a device"));
            }
            Ok(_) => false,
            Err(_) => true,
        };
        if let (Some(directory), Some(name)) = (path.parent(), path.file_name()) {
            let directory = self.disk.canonical(directory).unwrap_or_else(|_| directory.to_owned());
            self.claims.note_path(&directory.join(name), &self.name);
        }
        if !is_new || self.options.access == Access::default() {
            return self.disk.open(path, Open::Create);
        }
        let file = self.disk.open(path, Open::CreatePrivate)?;
        if let Err(error) = file.set_access(self.options.access) {
            // Else the next attempt would find it there, and take what it may do for somebody's wish.
            if file.stat().is_ok_and(|stat| stat.length == 0) {
                let _ = self.disk.remove(path);
            }
            return Err(io::Error::new(error.kind(), format!("its `mode` or `group` cannot be set: {error}")));
        }
        Ok(file)
    }

    /// Closes the files that were not used for longest until the rest fits the bounds. Those just opened stay.
    fn make_room(&mut self, now: Now) -> Result<(), String> {
        loop {
            let bytes: usize = self.files.keys().map(|path| Committed::bytes(path)).sum();
            if self.files.len() <= self.options.open_files_max
                && bytes + STATE_HEAD_BYTES <= self.options.state_bytes_max
            {
                return Ok(());
            }
            let oldest = self.files.iter().filter(|(_, target)| target.used < self.uses).min_by_key(|(_, t)| t.used);
            let Some((path, _)) = oldest else { return Ok(()) };
            let path = path.clone();
            self.close_one(&path, now)?;
        }
    }

    /// Ends a file's content; the next commit, or this, syncs it.
    fn close_one(&mut self, path: &[u8], now: Now) -> Result<(), String> {
        let Some(target) = self.files.get_mut(path) else { return Ok(()) };
        target.finish(now.wall).map_err(|error| explain("write", as_path(path), &error))?;
        self.put_away(path);
        Ok(())
    }

    /// Writes no more to a file.
    fn put_away(&mut self, path: &[u8]) {
        self.closing.extend(self.files.remove_entry(path));
        if self.closing.len() > CLOSING_MAX {
            self.leave_closing();
        }
    }

    /// Makes durable what waits for that, and returns it.
    fn sync_closing(&mut self) -> Vec<(Vec<u8>, Target<D>)> {
        let closing = std::mem::take(&mut self.closing);
        for (_, target) in closing.iter().filter(|(_, target)| target.dirty) {
            if let Err(error) = target.file.sync() {
                self.poison(format!("a rotated file cannot be made durable: {error}; check the disk"));
            }
        }
        closing
    }

    fn poison(&mut self, reason: String) -> String {
        self.poisoned.get_or_insert(reason).clone()
    }

    /// The files with bytes that are not known to be durable.
    pub fn dirty_files(&self) -> Vec<Arc<D::File>> {
        self.files.values().filter(|target| target.dirty).map(|target| target.file.clone()).collect()
    }

    /// Makes all that was taken durable and says what the files hold.
    pub fn commit(&mut self, now: Now) -> Result<State, String> {
        if let Some(reason) = &self.poisoned {
            return Err(reason.clone());
        }
        self.flush(now)?;
        // Also of files that were just opened no more than the state may name.
        self.uses += 1;
        self.make_room(now)?;
        for path in self.files.keys().cloned().collect::<Vec<_>>() {
            self.finish(&path, now.wall)?;
        }
        drop(self.sync_closing());
        if let Err(reason) = self.sync() {
            self.poison(reason);
        }
        if let Some(reason) = &self.poisoned {
            return Err(reason.clone());
        }
        let files = self.files.iter().map(|(path, target)| {
            let marker = marker_of(&*target.file, target.length);
            Ok(Committed {
                path: path.clone(),
                identity: target.identity,
                length: target.length,
                marker: marker.map_err(|error| explain("read", as_path(path), &error))?,
                first_write: target.first_write,
                generation: target.generation,
                compression: Some(self.options.compression),
            })
        });
        let state =
            State { journal: self.journal.last(), made: now.wall.0, files: files.collect::<Result<_, String>>()? };
        self.journal.committed(now.monotonic).map_err(|error| format!("the journal cannot be shortened: {error}"))?;
        self.files.values_mut().for_each(|target| target.committed = Some(target.length));
        Ok(state)
    }

    /// Notes that nothing more is written: what lies behind the last commit at the next start is somebody else's.
    pub fn close(&mut self, _: Now) -> Result<(), String> {
        let records = self.files.iter().map(|(path, target)| self.left(path, target)).collect();
        self.journal.note(Run::Ended, records).map_err(|error| format!("the journal cannot be written: {error}"))
    }

    fn sync(&mut self) -> Result<(), String> {
        for (path, target) in &mut self.files {
            if target.dirty {
                target.file.sync().map_err(|error| explain("make durable", as_path(path), &error))?;
                target.dirty = false;
            }
        }
        for directory in std::mem::take(&mut self.directories) {
            match self.disk.sync_dir(&directory) {
                Err(error) if !is_gone(&error) => return Err(explain("make durable", &directory, &error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn warn(&self, message: &str) {
        tracing::error!(component_id = %self.name, component_kind = "output", "output {}: {message}", self.name);
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
