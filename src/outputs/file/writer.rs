//! The open files of an output, and the protocol that keeps them exact after a crash. All calls may block.
//!
//! Guarantees, for a kill and for a power loss at any point, described on [`Writer::restore`] and covered by tests: after a
//! start, the files contain exactly what was delivered before the commit that it starts from. The parent module explains why.

mod alone;
mod blocked;
mod ends;
mod extents;
mod hold;
mod judge;
mod locate;
mod opening;
mod others;
mod places;
mod recover;
mod room;
mod rotation;
mod target;
mod whole;
mod words;

pub use blocked::Blocked;
use ends::{End, Trust, last_byte};
use extents::{Extents, Note};
pub use hold::Hold;
use hold::is_held;
use places::{Place, Places, is_gone};
pub use target::Target;
use target::{compressed_at_most, target, whole_lines};
pub use words::{advice, explain};
use words::{is_of_path, naming};

use super::compress::{Compression, Member};
use super::journal::{Journal, Opened, Run, Step, is_no_room};
use super::record::{Bytes, Committed, Identity, STATE_HEAD_BYTES, State, marker_of};
use crate::config::claims::{Claims, Owner};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tailwater_shards::counted::counted;
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
    /// Number of rotated files that are kept for each path.
    pub keep: u32,
    pub open_files_max: usize,
    /// Maximum size of the state in a commit.
    pub state_bytes_max: usize,
    /// Permissions and group of new files.
    pub access: Access,
    /// The directory up to which links are followed: its path does not depend on events.
    pub fixed: PathBuf,
    /// Events choose the paths: one that leads to something unusable is rejected, and the others do not wait for it.
    pub blames_events: bool,
}

/// What a writer works with.
#[derive(Clone)]
pub struct Means<D: Disk> {
    pub disk: D,
    /// The name of the output.
    pub name: Arc<str>,
    /// Which output of this process writes which file.
    pub claims: Arc<Claims>,
    /// Which files cannot be used; the same for each opening of the output.
    pub blocked: Arc<Blocked>,
    pub counters: Arc<OutputCounters>,
}

/// The current time of both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub wall: Timestamp,
    pub monotonic: Monotonic,
}

/// The bytes for one path.
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

/// Number of files that are opened with one sync of the journal.
pub const OPENED_AT_ONCE: usize = 16;

/// A compressed file is rotated if less than this fraction of its limit is left, because further members would be tiny.
const SMALLEST_ROOM: u64 = 16;

/// Maximum number of rotated and evicted files that wait for the next commit to sync them.
pub const CLOSING_MAX: usize = 64;

/// See the module.
pub struct Writer<D: Disk> {
    places: Places<D>,
    name: Arc<str>,
    claims: Arc<Claims>,
    blocked: Arc<Blocked>,
    owner: Owner,
    counters: Arc<OutputCounters>,
    options: Options,
    files: BTreeMap<Vec<u8>, Target<D>>,
    /// Files that get no more bytes. The next commit syncs and closes them.
    closing: Vec<(Vec<u8>, Target<D>)>,
    /// Directories with entries that are not durable yet.
    directories: BTreeSet<PathBuf>,
    journal: Journal<D>,
    extents: Extents<D>,
    /// The lengths of files at the last commit are unknown, so their ends may be incomplete.
    is_lost: bool,
    /// Accepted but not written yet.
    pending: VecDeque<Group>,
    /// What of the groups that are being accepted is rejected; none while earlier groups are written.
    refused: Option<Vec<Refused>>,
    uses: u64,
    /// Why delivered bytes may be lost, for example because a sync failed: repeating a failed sync proves nothing. Nothing
    /// more is written and no commit follows. The instance is opened again at its last commit and gets the events since then
    /// again.
    poisoned: Option<String>,
    /// Paths whose files other programs changed, and for which this was reported.
    told: BTreeSet<Vec<u8>>,
    has_told_of_no_locks: bool,
    /// The last failure was a file that another output of this process holds and will release soon.
    is_next: bool,
    /// When it was last called.
    moment: Monotonic,
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// A path that cannot be written, and the reason.
pub type Refused = (Vec<u8>, String);

/// The name of a file with `ending` behind it.
fn ending(name: &OsStr, ending: std::fmt::Arguments<'_>) -> OsString {
    let mut name = name.to_owned();
    name.push(ending.to_string());
    name
}

impl<D: Disk> Drop for Writer<D> {
    /// Files that it waits for are no longer reserved for it.
    fn drop(&mut self) {
        self.claims.forget(&self.owner);
    }
}

impl<D: Disk> Writer<D> {
    /// A writer that has changed nothing yet: [`Writer::restore`] comes next. `state` is that of the last commit.
    pub fn new(means: Means<D>, options: Options, journal: &Path, state: &State) -> io::Result<Writer<D>> {
        let Means { disk, name, claims, blocked, counters } = means;
        let extents = journal.with_extension("extents");
        let mut journal = Journal::open(&disk, journal)?;
        let extents = Extents::open(&disk, &extents)?;
        journal.skip_to(state.journal);
        let owner = claims.owner(name.clone());
        let places = Places::new(disk, options.fixed.clone(), claims.clone(), name.clone());
        Ok(Writer {
            places,
            name,
            claims,
            blocked,
            owner,
            counters,
            options,
            files: BTreeMap::new(),
            closing: Vec::new(),
            directories: BTreeSet::new(),
            journal,
            extents,
            is_lost: false,
            pending: VecDeque::new(),
            refused: None,
            uses: 0,
            poisoned: None,
            told: BTreeSet::new(),
            has_told_of_no_locks: false,
            is_next: false,
            moment: Monotonic(0),
        })
    }

    /// Opens the files of the commit with this `state` and restores all files to their content at that time. Each file of the
    /// commit is truncated to its length, and each file that was opened after the commit, according to the journal, to the
    /// length that it had before. All truncations are durable when this returns, so no later crash brings the bytes back.
    /// Bytes after the commit are removed only if this output wrote them and there are at most `again_bytes`, because that many
    /// will be delivered again. Otherwise files keep everything that is complete.
    pub fn restore(mut self, state: State, again_bytes: Option<u64>) -> io::Result<Writer<D>> {
        self.recover(state, again_bytes)?;
        Ok(self)
    }

    /// Accepts groups and writes them. Returns those whose path cannot be a file until somebody changes what is there: one event
    /// must not hold up all others. On an error, none of them was accepted. What was accepted but not written waits:
    /// [`Writer::flush`] is called before the next groups and before a commit.
    pub fn accept(&mut self, groups: Vec<Group>, now: Now) -> Result<Vec<Refused>, String> {
        assert!(!self.is_waiting(), "earlier groups are not written yet");
        if let Some(reason) = &self.poisoned {
            return Err(reason.clone());
        }
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let count = groups.len();
        self.pending = groups.into();
        self.refused = Some(Vec::new());
        let flushed = self.flush(now);
        let refused = self.refused.take().unwrap_or_default();
        let Err(error) = flushed else {
            return Ok(refused);
        };
        if self.has_lost(&error) {
            return Err(error);
        }
        let is_begun = self.pending.front().is_some_and(|group| group.written > 0);
        if self.pending.len() + refused.len() == count && !is_begun && !self.is_waiting_compressed() {
            self.pending.clear();
            return Err(error);
        }
        self.warn(&error);
        Ok(refused)
    }

    /// Gives up a group whose path cannot be written. If some of it was accepted, all since the last commit is delivered again.
    fn give_up(&mut self, group: &mut Group, why: String) -> Result<(), String> {
        match &mut self.refused {
            Some(refused) if group.written == 0 => {
                refused.push((group.path.clone(), why));
                group.written = group.bytes.len();
                Ok(())
            }
            _ => {
                let reason = format!("{why}; what was written since the last commit is written again");
                Err(self.poison_by(&group.path, reason))
            }
        }
    }

    /// Whether a failure means that bytes accepted since the last commit may be lost, so that nothing more is accepted.
    pub fn has_lost(&mut self, error: &str) -> bool {
        if self.files.values().any(|target| target.broken) {
            self.poison(error.to_owned());
        }
        self.poisoned.is_some()
    }

    /// Whether accepted bytes are not written yet.
    pub fn is_waiting(&self) -> bool {
        self.poisoned.is_none() && (!self.pending.is_empty() || self.is_waiting_compressed())
    }

    /// Whether the last failure was a file that another output of this process will release soon.
    pub fn is_next(&self) -> bool {
        self.is_next
    }

    fn is_waiting_compressed(&self) -> bool {
        self.options.compression != Compression::None && self.files.values().any(|target| !target.out.is_empty())
    }

    /// Writes the waiting bytes.
    pub fn flush(&mut self, now: Now) -> Result<(), String> {
        self.is_next = false;
        self.moment = now.monotonic;
        self.hand_over(false, now)?;
        let written = self.write_waiting(now);
        if written.is_err() && self.is_next {
            // The output that holds the file may wait for one of this output's files, and no commit follows meanwhile.
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
                let bytes = target.out.len();
                if let Err(error) = target.flush(now.wall) {
                    self.places.failed_to_write(bytes);
                    return Err(self.not_written(&path, &error, now));
                }
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
            let bytes = rest.len();
            let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            self.settle(&group.path)?;
            if self.is_due(&group.path, self.expected(&group.path, line as u64), now)
                && let Some(why) = self.rotate(&group.path, now)?
            {
                return self.give_up(group, why);
            }
            if let Some((_, why)) = self.ensure_open(std::slice::from_ref(&group.path), now)?.pop() {
                return self.give_up(group, why);
            }
            let (limit, compression) = (self.options.rotate_bytes, self.options.compression);
            let target = self.files.get_mut(&group.path).ok_or("a file was closed while it was being written")?;
            let written = if compression == Compression::None {
                let room = limit.map_or(rest.len() as u64, |limit| limit.saturating_sub(target.length));
                let count = whole_lines(rest, usize::try_from(room).unwrap_or(usize::MAX)).max(line);
                target.append(&rest[..count], now.wall).map(|()| group.written += count)
            } else {
                target.compress(rest, line, compression, limit).and_then(|count| {
                    group.written += count;
                    if count == 0 { target.finish(now.wall) } else { target.flush(now.wall) }
                })
            };
            if let Err(error) = written {
                self.places.failed_to_write(bytes);
                return match self.why_refused(&group.path, "write to", &error, now) {
                    Some(why) => self.give_up(group, why),
                    None => Err(explain("write", as_path(&group.path), &error)),
                };
            }
        }
        Ok(())
    }

    /// Number of bytes that must fit into a file without an open member; if they do not, the file is rotated before a line of
    /// `line` bytes.
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

    /// The open file of a path, if `bytes` may be written to it now and nothing has to be done first.
    pub fn ready(&mut self, path: &[u8], bytes: u64, now: Now) -> Option<&mut Target<D>> {
        let is_plain = self.options.compression == Compression::None && self.poisoned.is_none();
        if !is_plain || self.is_waiting() || self.is_due(path, bytes, now) {
            return None;
        }
        let limit = self.options.rotate_bytes.unwrap_or(u64::MAX);
        let fits = |target: &&mut Target<D>| target.length.saturating_add(bytes) <= limit;
        self.files.get_mut(path).filter(|target| {
            // One check for a whole delivery. If another program changed the file, this is handled where blocking is allowed.
            let is_as_left = || target.file.stat().is_ok_and(|stat| target.is_as_left(&stat));
            fits(target)
                && !target.file.is_remote()
                && !target.note.is_remote()
                && !target.hold.is_wanted()
                && is_as_left()
        })
    }

    /// Closes the least recently used files until the others are within the limits. Files that were just opened stay open.
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

    /// Finishes the content of a file, and stops writing to it. It is synced by the next commit.
    fn close_one(&mut self, path: &[u8], now: Now) -> Result<(), String> {
        self.complete(path, now)?;
        self.put_away(path);
        Ok(())
    }

    /// Stops writing to a file.
    fn put_away(&mut self, path: &[u8]) {
        self.closing.extend(self.files.remove_entry(path));
        if self.closing.len() > CLOSING_MAX {
            self.leave_closing();
        }
    }

    /// Syncs the closing files and returns them.
    fn sync_closing(&mut self) -> Vec<(Vec<u8>, Target<D>)> {
        let closing = std::mem::take(&mut self.closing);
        let dirty: Vec<&(Vec<u8>, Target<D>)> = closing.iter().filter(|(_, target)| target.dirty).collect();
        let files: Vec<Arc<D::File>> = dirty.iter().map(|(_, target)| target.file.clone()).collect();
        for ((path, _), synced) in dirty.into_iter().zip(self.places.sync_files(&files)) {
            if let Err(error) = synced {
                self.not_durable(path, &error);
            }
        }
        closing
    }

    fn poison(&mut self, reason: String) -> String {
        self.poisoned.get_or_insert(reason).clone()
    }

    /// The files with bytes that may not be durable, and their paths.
    pub fn dirty_files(&self) -> Vec<(Vec<u8>, Arc<D::File>)> {
        let dirty = self.files.iter().filter(|(_, target)| target.dirty);
        dirty.map(|(path, target)| (path.clone(), target.file.clone())).collect()
    }

    /// Makes all accepted bytes durable and returns the state of the files.
    pub fn commit(&mut self, now: Now) -> Result<State, String> {
        if let Some(reason) = &self.poisoned {
            return Err(reason.clone());
        }
        self.flush(now)?;
        // Even of files that were just opened, at most as many as the state can name.
        self.uses += 1;
        self.make_room(now)?;
        for path in self.files.keys().cloned().collect::<Vec<_>>() {
            self.finish(&path, now)?;
        }
        drop(self.sync_closing());
        if let Err(reason) = self.sync_all(now) {
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
                marker: marker.map_err(|error| (path.clone(), error))?,
                first_write: target.first_write,
                generation: target.generation,
                compression: Some(self.options.compression),
            })
        });
        let files = match files.collect::<Result<_, (Vec<u8>, io::Error)>>() {
            Ok(files) => files,
            Err((path, error)) => return Err(self.unsure_of(&path, "read", &error)),
        };
        let state = State { journal: self.journal.last(), made: now.wall.0, files };
        self.journal.committed(now.monotonic).map_err(|error| format!("the journal cannot be shortened: {error}"))?;
        self.files.values_mut().for_each(|target| target.committed = Some(target.length));
        self.extents.committed(self.files.values().map(|target| target.identity));
        Ok(state)
    }

    /// Records that nothing more is written: bytes after the last commit belong to other programs at the next start.
    pub fn close(&mut self, _: Now) -> Result<(), String> {
        let records = self.files.iter().map(|(path, target)| self.left(path, target)).collect();
        self.journal.note(Run::Ended, records).map_err(|error| format!("the journal cannot be written: {error}"))
    }

    fn sync_all(&mut self, now: Now) -> Result<(), String> {
        let (paths, files): (Vec<Vec<u8>>, Vec<Arc<D::File>>) = self.dirty_files().into_iter().unzip();
        for (path, synced) in paths.iter().zip(self.places.sync_files(&files)) {
            synced.map_err(|error| self.not_durable(path, &error))?;
        }
        self.files.values_mut().for_each(|target| target.dirty = false);
        for directory in std::mem::take(&mut self.directories) {
            loop {
                match self.places.sync_names(&directory) {
                    // Nothing was attempted, so nothing is lost.
                    Err(error) if is_exhausted(&error) && self.close_idle(now)? => continue,
                    // Its names are in the hands of others, who may as well remove them.
                    Err(error) if is_gone(&error) || self.is_alone(&directory, &error) => break,
                    Err(error) => return Err(explain("make durable", &directory, &error)),
                    Ok(()) => break,
                }
            }
        }
        Ok(())
    }

    fn warn(&self, message: &str) {
        tracing::error!(component_id = %self.name, component_kind = "output", "output {}: {message}", self.name);
    }
}
