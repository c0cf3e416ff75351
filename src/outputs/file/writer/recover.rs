//! Restores the files of an output to its last commit.
//!
//! Guarantees: described on [`super::Writer::restore`]. Bytes that are removed will be delivered again. If that is not certain,
//! only an incomplete line or member at the end is removed. If other programs wrote to a file after this output closed it,
//! according to the journal, or after its last write, according to [`super::extents`], neither their bytes nor those before them
//! are removed. A file is truncated only while its lock is held, and the journal says where it ends before the lock is released.
//! No more files are open at a time than `max_open_files` and [`OPENED_AT_ONCE`]. A file that was moved to another
//! directory or compressed is not found ([`super::locate`]), which is reported as an error.
//!
//! Whoever may write to the directories may exchange any name at any time. So a file is looked at again after it was opened, and only
//! then cut: it is a regular file, the known one, and has no other name. What is behind a link, or is something else by now, is
//! reported and left as it is, and the other files are restored.

use super::judge::{Start, Writers};
use super::locate::Listed;
use super::whole::Whole;
use super::*;
use crate::config::claims::key_of;
use tailwater_shards::env::located::Located;

/// The next commit follows within a second and is durable soon after. Bytes that were written until then belong to this
/// commit.
const NEXT_COMMIT_NANOS: i64 = 3_000_000_000;

/// A file as it is known from the last commit, or from the record of its opening after that.
struct Known {
    path: Vec<u8>,
    identity: Identity,
    length: u64,
    marker: u64,
    /// None if the version of the record or state does not have it.
    compression: Option<Compression>,
    /// First write and generation from the commit; none for a file that was opened after it.
    committed: Option<(i64, u32)>,
    /// The length at which this output closed it.
    left: Option<u64>,
}

impl Known {
    /// Whether an opened file is this one, and nobody else's: only then it is cut.
    fn check(&self, stat: &Stat) -> io::Result<()> {
        hold::check_is_ours(stat)?;
        match Identity::of(stat).fits(&self.identity) {
            true => Ok(()),
            false => Err(words::unusable("another file has its name by now")),
        }
    }

    /// Applies the next record of the file. Returns false if other programs wrote to the file after the known length.
    fn applies(&mut self, record: &Opened) -> bool {
        match record.step {
            Step::Left => self.left = Some(record.length),
            Step::Opened if self.left.is_some_and(|left| record.length > left) => return false,
            Step::Opened => self.left = None,
        }
        true
    }

    /// Whether other programs have written to the file since this output closed it, so that it is not changed.
    fn is_for_others(&self, length: u64) -> bool {
        self.left.is_some_and(|left| length > left)
    }
}

impl From<Committed> for Known {
    fn from(file: Committed) -> Known {
        let Committed { path, identity, length, marker, first_write, generation, compression } = file;
        let committed = Some((first_write, generation));
        Known { path, identity, length, marker, compression, committed, left: None }
    }
}

impl From<&Opened> for Known {
    fn from(opened: &Opened) -> Known {
        let Opened { path, identity, length, marker, compression, .. } = opened.clone();
        Known { path, identity, length, marker, compression, committed: None, left: None }
    }
}

/// A file that is open for truncation, and locked unless nothing is to be written.
type ForCutting<D> = (Arc<<D as Disk>::File>, Option<Hold<D>>);

/// A known file and where it was found.
pub(super) struct Found {
    known: Known,
    pub(super) at: PathBuf,
    identity: Identity,
    length: u64,
    modified: i64,
    pub(super) writers: Writers,
    /// Another program wrote the last bytes.
    is_foreign: bool,
}

impl Found {
    /// Whether nobody wrote to it after the next commit was due.
    pub(super) fn is_of(&self, made: i64) -> bool {
        self.beyond() == 0 || made != 0 && self.modified <= made.saturating_add(NEXT_COMMIT_NANOS)
    }

    /// Number of bytes after the known length.
    pub(super) fn beyond(&self) -> u64 {
        self.length.saturating_sub(self.known.length)
    }

    /// Whether it is certainly not compressed.
    pub(super) fn is_plain(&self) -> bool {
        self.known.compression == Some(Compression::None)
    }

    /// A file without compression that has this many bytes after the commit.
    #[cfg(test)]
    pub(super) fn for_test(writers: Writers, beyond: u64, modified: i64) -> Found {
        let (path, identity) = (b"/x".to_vec(), Identity { device: 1, inode: 2, created: 3 });
        let (compression, committed) = (Some(Compression::None), Some((0, 0)));
        let known = Known { path, identity, length: 0, marker: 0, compression, committed, left: None };
        Found { known, at: "/x".into(), identity, length: beyond, modified, writers, is_foreign: false }
    }

    fn is_moved(&self) -> bool {
        self.at != as_path(&self.known.path)
    }
}

/// A file that is restored, while its lock is held.
struct Restored<D: Disk> {
    file: Arc<D::File>,
    hold: Option<Hold<D>>,
    length: u64,
}

/// Restored files that are not in the journal yet.
struct Batch<D: Disk> {
    records: Vec<Opened>,
    /// Locks of the files that are not used further.
    holds: Vec<Hold<D>>,
    files: usize,
}

impl Known {
    fn record(&self, step: Step, identity: Identity, length: u64) -> Opened {
        let (path, compression) = (self.path.clone(), self.compression);
        Opened { number: 0, step, identity, length, marker: 0, compression, path }
    }

    /// The record that nothing after the known length is to be removed unless the file is opened again.
    fn is_left(&self) -> Opened {
        self.record(Step::Left, self.identity, self.length)
    }
}

impl<D: Disk> Writer<D> {
    /// Restores the files to `state`, if everything after it will be delivered again: at most `again_bytes`.
    pub(super) fn recover(&mut self, state: State, again_bytes: Option<u64>) -> io::Result<()> {
        if again_bytes.is_none() && state == State::default() {
            // The lengths of the files at the last commit are unknown: their ends are checked when they are opened.
            self.is_lost = true;
            if self.journal.behind(0).next().is_some() {
                self.warn(
                    "its last commit was lost to damage in the write-ahead log: its files are not changed, and the last \
                     events in them may be repeated",
                );
            }
            self.journal.mend()?;
            self.journal.note(Run::Began, Vec::new())?;
            return self.extents.begin();
        }
        let made = state.made;
        let (foreign, found): (Vec<Found>, Vec<Found>) =
            self.find_all(self.known_files(state))?.into_iter().partition(|found| found.is_foreign);
        let (is_damaged, has_ended) = (self.journal.is_damaged(), self.journal.has_ended());
        let kept = Start { made, again_bytes, is_damaged, has_ended }.kept(&found);
        kept.iter().for_each(|(writers, (found, why))| self.tell_of_kept(*writers, found, why));
        let kept: BTreeSet<Writers> = kept.into_keys().collect();
        let mut batch = Batch { records: Vec::new(), holds: Vec::new(), files: 0 };
        for found in foreign {
            self.warn(&format!(
                "{}: another program wrote the last of the {} bytes after the last commit: they are not truncated, and events that \
                 this output wrote there since then may be repeated",
                found.at.display(),
                found.beyond()
            ));
            batch.records.push(found.known.is_left());
        }
        for found in found {
            let (path, is_kept, left) =
                (found.known.path.clone(), kept.contains(&found.writers), found.known.is_left());
            if let Err(error) = self.restore_one(found, is_kept, &mut batch) {
                batch.records.push(self.given_up(left, &path, error)?);
            }
        }
        self.put_down(&mut batch)?;
        self.journal.mend()?;
        // They were closed at the end of the previous run, and here until all of them were restored.
        let records = self.files.iter().map(|(path, target)| self.opened(path, target)).collect::<io::Result<_>>()?;
        self.journal.note(Run::Began, records)?;
        self.extents.begin()?;
        for directory in std::mem::take(&mut self.directories) {
            match self.places.sync_names(&directory) {
                Err(error) if !is_gone(&error) && !self.is_alone(&directory, &error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The record for a file that cannot be restored, if that concerns no other file. Reports it.
    fn given_up(&self, left: Opened, path: &[u8], error: io::Error) -> io::Result<Opened> {
        let path = as_path(path);
        if !self.is_alone(path, &error) {
            return Err(naming(path, error));
        }
        self.warn(&format!(
            "{} is not restored: {error}; the other files are, and the last events in this one may be repeated",
            path.display()
        ));
        Ok(left)
    }

    /// Restores one file. If no descriptor is left, closes those that were restored before.
    fn restore_one(&mut self, found: Found, is_kept: bool, batch: &mut Batch<D>) -> io::Result<()> {
        let opened = match self.open_if_there(&found.at, &found.known) {
            Err(error) if is_exhausted(&error) && !(self.files.is_empty() && batch.holds.is_empty()) => {
                self.put_down(batch)?;
                self.files.clear();
                self.open_if_there(&found.at, &found.known)
            }
            opened => opened,
        };
        let Some((file, hold)) = opened? else {
            batch.records.push(found.known.is_left());
            return Ok(());
        };
        let stat = file.stat()?;
        if stat.length > found.length && found.writers != Writers::Nobody {
            self.warn(&format!("{}: another program is writing to it; it is not changed", found.at.display()));
            batch.records.push(found.known.is_left());
            return Ok(());
        }
        // Through another path, it may be shorter by now.
        if stat.length > found.length {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "another program is changing it"));
        }
        let found = Found { length: stat.length, ..found };
        let restored = match is_kept {
            false => self.bring_back(&found, file, hold)?,
            true => self.keep_whole(&found, file, hold)?,
        };
        let Some(restored) = restored else {
            // A removed file may come back with its content until its directory is durable.
            batch.records.extend(is_kept.then(|| found.known.is_left()));
            return Ok(());
        };
        self.extents.note_of(found.identity).note(restored.length, &[]);
        if restored.length > found.known.length {
            batch.records.push(found.known.record(Step::Left, found.identity, found.known.length));
            batch.records.push(found.known.record(Step::Opened, found.identity, restored.length));
        }
        batch.records.push(found.known.record(Step::Left, found.identity, restored.length));
        batch.files += 1;
        batch.holds.extend(self.continue_with(found, restored)?);
        if batch.files >= OPENED_AT_ONCE { self.put_down(batch) } else { Ok(()) }
    }

    /// Records where the restored files end, and only then releases those that are not used further.
    fn put_down(&mut self, batch: &mut Batch<D>) -> io::Result<()> {
        if !batch.records.is_empty() {
            self.journal.append(std::mem::take(&mut batch.records))?;
        }
        batch.files = 0;
        batch.holds.clear();
        Ok(())
    }

    /// The files that were open at the commit, or were opened after it, each with its first known length; or, if other
    /// programs wrote to it, with its first known length after that. Those of a directory follow each other.
    fn known_files(&self, state: State) -> Vec<Known> {
        let key_of = |path: &[u8], identity: Identity| (path.to_vec(), identity);
        let mut committed: BTreeMap<(Vec<u8>, Identity), Known> =
            state.files.into_iter().map(|file| (key_of(&file.path, file.identity), file.into())).collect();
        let mut opened: BTreeMap<(Vec<u8>, Identity), Known> = BTreeMap::new();
        for record in self.journal.behind(state.journal) {
            let key = key_of(&record.path, record.identity);
            if committed.get_mut(&key).is_some_and(|known| !known.applies(record)) {
                committed.remove(&key);
            }
            match (opened.get_mut(&key), record.step) {
                (Some(known), step) => {
                    let is_shorter = step == Step::Opened && record.length < known.length;
                    if !known.applies(record) || is_shorter {
                        *known = record.into();
                    }
                }
                (None, Step::Opened) => drop(opened.insert(key, record.into())),
                (None, Step::Left) => {}
            }
        }
        let mut all = Vec::new();
        for (key, known) in committed {
            // A file that was shorter when it was opened later was truncated, or it is another file with a reused inode
            // number.
            if opened.get(&key).is_none_or(|opened| opened.length >= known.length) {
                opened.remove(&key);
                all.push(known);
            }
        }
        all.extend(opened.into_values());
        // Their directory is listed once.
        all.sort_by(|one, other| parent(as_path(&one.path)).cmp(parent(as_path(&other.path))));
        all
    }

    /// Whether a start may wait for files that are held.
    pub fn may_wait(&self, now: Monotonic) -> bool {
        !self.options.blames_events || self.blocked.may_wait(now)
    }

    /// The first file to restore that another process holds, if there is one, and who it is. Changes nothing.
    pub fn held(&self, state: &State) -> io::Result<Option<io::Error>> {
        let mut listed = Listed::default();
        for known in self.known_files(state.clone()) {
            let Ok(Some(at)) = self.locate(as_path(&known.path), &known.identity, &mut listed) else { continue };
            let file = match self.places.open(&at, Open::Write) {
                Ok(file) => file,
                Err(error) if is_held(&error) => return Ok(Some(naming(&at, error))),
                Err(_) => continue,
            };
            let stat = file.stat()?;
            if known.check(&stat).is_err() || known.is_for_others(stat.length) || self.claims.is_held(key_of(&stat)) {
                continue;
            }
            match file.try_lock() {
                Err(error) if is_held(&error) => return Ok(Some(naming(&at, hold::held(error)))),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The known files that are still there. None of them stays open.
    fn find_all(&mut self, known: Vec<Known>) -> io::Result<Vec<Found>> {
        let mut all: Vec<Found> = Vec::new();
        let (mut left, mut listed) = (Vec::new(), Listed::default());
        for known in known {
            let (path, record) = (known.path.clone(), known.is_left());
            match self.find(known, &mut left, &mut listed) {
                Ok(found) => all.extend(found),
                Err(error) => left.push(self.given_up(record, &path, error)?),
            }
        }
        if !left.is_empty() {
            self.journal.append(left)?;
        }
        // The inode number of a removed file may have been reused: a file at its own path has precedence.
        let own: BTreeSet<Identity> = all.iter().filter(|one| !one.is_moved()).map(|one| one.identity).collect();
        let mut moved = BTreeSet::new();
        all.retain(|one| !one.is_moved() || !own.contains(&one.identity) && moved.insert(one.identity));
        Ok(all)
    }

    /// The file, if it is still the known one, and nothing but this output has written to it. Adds a record to `left` if
    /// others may write to it from here on.
    fn find(&mut self, known: Known, left: &mut Vec<Opened>, listed: &mut Listed) -> io::Result<Option<Found>> {
        let path = as_path(&known.path);
        let looked = match self.locate(path, &known.identity, listed)? {
            Some(at) => self.places.stat(&at).map(|stat| (at, stat)),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let (at, stat) = match looked {
            Err(error) if is_gone(&error) => {
                self.tell_of_missing(&known);
                // Whoever took it away may bring it back, with bytes that are written again by then.
                left.extend((known.left.is_none() && self.places.is_ready()).then(|| known.is_left()));
                return Ok(None);
            }
            looked => looked?,
        };
        if known.is_for_others(stat.length) {
            let shown = at.display();
            tracing::info!(
                output = %self.name,
                "{shown}: another program wrote to it after this output closed it; it is not changed"
            );
            return Ok(None);
        }
        let opened = match self.open_if_there(&at, &known) {
            // Nobody knows what the holder has written behind the bytes of this output.
            Err(error) if is_held(&error) && !self.extents.is_known() => {
                self.journal.append(vec![known.is_left()])?;
                return Err(error);
            }
            opened => opened?,
        };
        let Some((file, _hold)) = opened else {
            left.push(known.is_left());
            return Ok(None);
        };
        let stat = file.stat()?;
        let (identity, length, modified) = (Identity::of(&stat), stat.length, stat.modified.0);
        let writers = self.places.writers(&stat);
        if length >= known.length && known.marker != 0 && marker_of(&*file, known.length)? != known.marker {
            self.warn(&format!("{} was rewritten by another program; it is not changed", at.display()));
            left.push(known.is_left());
            return Ok(None);
        }
        let is_foreign = !self.extents.covers(&file, &identity, known.length, length)?;
        Ok(Some(Found { known, at, identity, length, modified, writers, is_foreign }))
    }

    /// [`Writer::open_known`], or none with a message if something else is there by now.
    fn open_if_there(&mut self, at: &Path, known: &Known) -> io::Result<Option<ForCutting<D>>> {
        match self.open_known(at, known) {
            Err(error) if is_gone(&error) || is_of_path(&error) => {
                self.warn(&format!("{} is not restored: {error}; it is not changed", at.display()));
                Ok(None)
            }
            opened => opened,
        }
    }

    /// Reports a file of the commit that is neither at its path nor beside it.
    fn tell_of_missing(&self, known: &Known) {
        if known.committed.is_none() || known.length == 0 {
            return;
        }
        let (path, bytes) = (as_path(&known.path), counted(known.length, "byte"));
        let shown = path.display();
        self.warn(&match self.places.find(path) {
            Ok(_) => format!(
                "{shown} is another file now, and the one with the {bytes} that this output wrote is missing; what is there is not \
                 changed by this start"
            ),
            Err(error) if is_of_path(&error) => {
                format!("{shown} is not restored, with the {bytes} that this output wrote: {error}; nothing is changed there")
            }
            Err(_) => format!("{shown} is missing, with {bytes} that this output wrote; continuing in a new file"),
        });
    }

    /// Opens a file for truncation. If nothing is to be removed, a file without write permission need not be locked, and none
    /// is returned for a file that another output or process holds.
    fn open_known(&mut self, at: &Path, known: &Known) -> io::Result<Option<ForCutting<D>>> {
        let file = match self.places.open(at, Open::Write) {
            Ok(file) => file,
            Err(error) if is_exhausted(&error) || is_held(&error) || is_gone(&error) || is_of_path(&error) => {
                return Err(error);
            }
            Err(error) => {
                let Ok(file) = self.places.open(at, Open::Read) else { return Err(error) };
                let stat = file.stat()?;
                known.check(&stat)?;
                return match at != as_path(&known.path) && stat.length == known.length {
                    true => Ok(Some((Arc::new(file), None))),
                    false => Err(error),
                };
            }
        };
        let stat = file.stat()?;
        known.check(&stat)?;
        let length = stat.length;
        match self.take(file, at, Timestamp(0)) {
            Ok((hold, _)) => Ok(Some((hold.file.clone(), Some(hold)))),
            // Both paths of this file belong to this output.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let file = self.places.open(at, Open::Write)?;
                known.check(&file.stat()?)?;
                Ok(Some((Arc::new(file), None)))
            }
            Err(error) if is_held(&error) && length <= known.length => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Durably removes the bytes after the commit. A file that is already short enough is synced as well, because an earlier
    /// start may have truncated it and died before the sync. Returns none if the whole file was removed.
    fn bring_back(
        &mut self,
        found: &Found,
        file: Arc<D::File>,
        hold: Option<Hold<D>>,
    ) -> io::Result<Option<Restored<D>>> {
        if found.known.committed.is_none() && found.known.length == 0 && found.is_moved() {
            let place = self.places.place(&found.at)?;
            if self.places.is_at(&found.at, &found.identity)? {
                place.directory.remove(&place.name)?;
            }
            self.directories.insert(parent(&found.at).to_owned());
            return Ok(None);
        }
        let beyond = found.beyond();
        if beyond > 0 {
            tracing::info!(
                output = %self.name,
                "{}: removing {} after the last commit; they will be delivered again",
                found.at.display(),
                counted(beyond, "byte")
            );
            file.truncate(found.known.length)?;
        }
        if beyond > 0 || !found.is_moved() {
            file.sync()?;
        }
        Ok(Some(Restored { file, hold, length: found.length.min(found.known.length) }))
    }

    /// Removes only an incomplete line or member after the commit, if nobody is writing. Returns none if the file is not to be used.
    fn keep_whole(
        &mut self,
        found: &Found,
        file: Arc<D::File>,
        hold: Option<Hold<D>>,
    ) -> io::Result<Option<Restored<D>>> {
        let (known, length) = (&found.known, found.length);
        let mut kept = length;
        if found.beyond() > 0 {
            let compression = known.compression.unwrap_or(self.options.compression);
            match self.whole(&file, (known.length, length), compression, found.writers)? {
                Whole::Upto(whole) => kept = whole,
                // Nothing readable can follow unreadable content.
                Whole::Unreadable if !found.is_moved() => return self.set_aside(&known.path).map(|()| None),
                Whole::Unreadable => return Ok(None),
            }
        }
        if kept < length {
            // What another program is just writing is not incomplete.
            file.await_writes()?;
            if file.stat()?.length != length {
                kept = length;
            }
        }
        if kept < length {
            let (cut, at) = (length - kept, found.at.display());
            tracing::info!(output = %self.name, "{at}: removing {} of an incomplete line or compressed member", counted(cut, "byte"));
            file.truncate(kept)?;
        }
        if !found.is_moved() {
            file.sync()?;
        }
        Ok(Some(Restored { file, hold, length: kept }))
    }

    /// Continues with a file of the commit that is still at its path. Returns the lock of any other file.
    fn continue_with(&mut self, found: Found, restored: Restored<D>) -> io::Result<Option<Hold<D>>> {
        let is_moved = found.is_moved();
        let Found { known, at, identity, length: had, writers, .. } = found;
        let Restored { file, hold, length } = restored;
        let Some((first_write, mut generation)) = known.committed else { return Ok(hold) };
        if had < known.length {
            let should = known.length;
            self.warn(&format!(
                "{} has {} and should have {should}: it was truncated or its disk lost data; continuing at its end",
                at.display(),
                counted(had, "byte")
            ));
            generation += 1;
        }
        // A file in another format is replaced by a new one: see `open_one`.
        let is_same_format = known.compression.is_none_or(|compression| compression == self.options.compression);
        let has_room = self.files.len() < self.options.open_files_max;
        let Some(hold) = hold else { return Ok(None) };
        if is_moved || !is_same_format || !has_room {
            return Ok(Some(hold));
        }
        let within_line = match had < known.length && length > 0 {
            true if self.options.compression != Compression::None => {
                if self.whole(&file, (0, length), self.options.compression, writers)? != Whole::Upto(length) {
                    self.set_aside(&known.path)?;
                    return Ok(Some(hold));
                }
                false
            }
            true => last_byte(&*file, length)? != b'\n',
            false => false,
        };
        let committed = (length == known.length).then_some(length);
        let note = self.extents.note_of(identity);
        let target = Target { generation, first_write, committed, within_line, ..target(hold, note, identity, length) };
        self.files.insert(known.path, target);
        Ok(None)
    }
}
