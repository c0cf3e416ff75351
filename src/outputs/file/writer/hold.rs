//! Acquires files for this output alone, and releases them for others.
//!
//! Guarantees: a file is opened for writing by one output of one process at a time, if the file system has locks. Before a file
//! passes to another output, its content is durable and the journal records where it ends, so that no later start truncates what
//! the other output writes. Two outputs that wait for each other's files both get them in the end. Does not stop programs that do
//! not ask for the lock: see [`super::others`].

use super::*;
use crate::config::claims::{Claims, Key, Owner, key_of};

/// Exclusive access of this output to a file, until this is dropped.
pub struct Hold<D: Disk> {
    pub(super) file: Arc<D::File>,
    claims: Arc<Claims>,
    key: Key,
    owner: Owner,
}

impl<D: Disk> Hold<D> {
    /// Whether another output of this process waits for the file.
    pub(super) fn is_wanted(&self) -> bool {
        self.claims.is_wanted(self.key, &self.owner)
    }
}

impl<D: Disk> Drop for Hold<D> {
    fn drop(&mut self) {
        // A cancelled sync may keep the descriptor open for a long time.
        self.file.unlock();
        self.claims.release(self.key, &self.owner);
    }
}

/// Whether a file that was opened may be cut and written: with a further name, it may be that of another user, who did not put it
/// there.
pub(super) fn check_is_ours(stat: &Stat) -> io::Result<()> {
    match (stat.kind, stat.links) {
        (FileKind::Regular, 0 | 1) => Ok(()),
        (FileKind::Regular, links) => {
            Err(words::unusable(format!("it has {links} names (hard links), so it may be a file of somebody else")))
        }
        _ => Err(words::unusable("it is not a regular file")),
    }
}

/// Whether an error means that another output or process holds the file.
pub(super) fn is_held(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

pub(super) fn held(who: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, format!("{who} has it open for writing"))
}

impl<D: Disk> Writer<D> {
    /// Acquires a file that was just opened at `path`, and returns its metadata. `WouldBlock` names the holder.
    /// `ResourceBusy` means that this output is opening the same file under another path.
    pub(super) fn take(&mut self, file: D::File, path: &Path, now: Timestamp) -> io::Result<(Hold<D>, Stat)> {
        let stat = file.stat()?;
        check_is_ours(&stat)?;
        let key = key_of(&stat);
        if let Err(other) = self.claims.take(key, &self.owner) {
            if other != self.owner {
                // It will be released soon, so the file is requested again without growing backoff.
                self.is_next = true;
                return Err(held(format_args!("the output `{}`", other.name)));
            }
            self.close_other_path(key, Now { wall: now, monotonic: self.moment })?;
            self.claims.take(key, &self.owner).map_err(|_| io::ErrorKind::ResourceBusy)?;
        }
        let (file, claims, owner) = (Arc::new(file), self.claims.clone(), self.owner.clone());
        let hold: Hold<D> = Hold { file, claims, key, owner };
        match hold.file.try_lock() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.tell_of_no_locks(path, &error),
            Err(error) if is_held(&error) => return Err(held(error)),
            Err(error) => return Err(error),
        }
        // Before the lock was acquired, the file may have been written to or moved.
        match self.places.stat(path) {
            Ok(stat) if key_of(&stat) == key => Ok((hold, stat)),
            Ok(_) => Err(io::Error::new(io::ErrorKind::WouldBlock, "it is being replaced")),
            Err(error) => Err(error),
        }
    }

    /// Two paths lead to one file through a link: closes it under the other path.
    fn close_other_path(&mut self, key: Key, now: Now) -> io::Result<()> {
        self.leave_closing();
        let other = self.files.iter().find(|(_, target)| target.hold.key == key).map(|(path, _)| path.clone());
        if let Some(other) = other {
            self.finish(&other, now).and_then(|()| self.leave(&[other])).map_err(io::Error::other)?;
        }
        match &self.poisoned {
            Some(reason) => Err(io::Error::other(reason.clone())),
            None => Ok(()),
        }
    }

    /// Finishes the content of a file, after anything that other programs wrote to it.
    pub(super) fn finish(&mut self, path: &[u8], now: Now) -> Result<(), String> {
        self.settle(path)?;
        self.complete(path, now)?;
        self.settle(path)
    }

    /// Finishes the content of a file.
    pub(super) fn complete(&mut self, path: &[u8], now: Now) -> Result<(), String> {
        let Some(target) = self.files.get_mut(path) else { return Ok(()) };
        target.finish(now.wall).map_err(|error| self.not_written(path, &error, now))
    }

    fn tell_of_no_locks(&mut self, path: &Path, error: &io::Error) {
        if !std::mem::replace(&mut self.has_told_of_no_locks, true) {
            let why = match error.get_ref() {
                Some(who) => who.to_string(),
                None => "its file system has no file locks".to_owned(),
            };
            tracing::warn!(
                component_id = %self.name, component_kind = "output",
                "{} is written without a lock: {why}; make sure that no other process writes to the files of this output",
                path.display()
            );
        }
    }

    /// Releases the files that other outputs of this process wait for: those whose content is covered by a commit, or `all`
    /// of them if this output waits itself and no commit follows.
    pub(super) fn hand_over(&mut self, all: bool, now: Now) -> Result<(), String> {
        if self.poisoned.is_some() {
            return Ok(());
        }
        if self.closing.iter().any(|(_, target)| target.hold.is_wanted()) {
            self.leave_closing();
        }
        let is_covered = |target: &Target<D>| {
            !target.dirty && !target.holds_more() && target.gap.is_none() && target.committed == Some(target.length)
        };
        let wanted = self.files.iter().filter(|(_, target)| target.hold.is_wanted() && (all || is_covered(target)));
        let wanted: Vec<Vec<u8>> = wanted.map(|(path, _)| path.clone()).collect();
        wanted.iter().try_for_each(|path| self.finish(path, now))?;
        if wanted.is_empty() { Ok(()) } else { self.leave(&wanted) }
    }

    /// Closes files for good, and records in the journal where this output's bytes end.
    fn leave(&mut self, paths: &[Vec<u8>]) -> Result<(), String> {
        let mut records = Vec::new();
        for path in paths {
            let Some(target) = self.files.get_mut(path) else { continue };
            if std::mem::take(&mut target.dirty)
                && let Err(error) = target.file.sync()
            {
                return Err(self.not_durable(path, &error));
            }
            records.extend(self.files.get(path).map(|target| self.left(path, target)));
        }
        if let Err(error) = self.journal.append(records) {
            return Err(self.poison(explain("write the journal for", as_path(&paths[0]), &error)));
        }
        paths.iter().for_each(|path| drop(self.files.remove(path)));
        Ok(())
    }

    /// The record that this output writes to a file from here on.
    pub(super) fn opened(&self, path: &[u8], target: &Target<D>) -> io::Result<Opened> {
        let marker = marker_of(&*target.file, target.length)?;
        Ok(Opened { step: Step::Opened, marker, ..self.left(path, target) })
    }

    /// The record that this output closed a file with its current content.
    pub(super) fn left(&self, path: &[u8], target: &Target<D>) -> Opened {
        let (identity, length, compression) = (target.identity, target.length, Some(self.options.compression));
        Opened { number: 0, step: Step::Left, identity, length, marker: 0, compression, path: path.to_vec() }
    }

    /// Closes some of the least recently used files at once. Returns false if there are none.
    pub(super) fn close_idle(&mut self, now: Now) -> Result<bool, String> {
        let idle = self.files.iter().filter(|(_, target)| target.used < self.uses);
        let mut idle: Vec<(u64, Vec<u8>)> = idle.map(|(path, target)| (target.used, path.clone())).collect();
        idle.sort();
        for (_, path) in idle.iter().take(OPENED_AT_ONCE) {
            self.close_one(path, now)?;
        }
        let any = !self.closing.is_empty();
        self.leave_closing();
        match &self.poisoned {
            Some(reason) => Err(reason.clone()),
            None => Ok(any),
        }
    }

    /// Closes the files that wait for the next commit before it comes, so the journal must record where they end.
    pub(super) fn leave_closing(&mut self) {
        let records: Vec<Opened> = self.closing.iter().map(|(path, target)| self.left(path, target)).collect();
        let closing = self.sync_closing();
        if self.poisoned.is_none()
            && !records.is_empty()
            && let Err(error) = self.journal.append(records)
        {
            self.poison(format!("the journal cannot be written: {error}; check the disk of the data directory"));
        }
        drop(closing);
    }

    /// Closes all files of a writer that is finished, so that the next one can acquire them.
    pub fn let_go(&mut self, _: Now) -> Result<(), String> {
        if self.poisoned.is_some() {
            self.files.clear();
            self.closing.clear();
        }
        Ok(())
    }
}
