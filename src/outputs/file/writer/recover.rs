//! Bringing the files of an output back to its last commit.
//!
//! Guarantees: told on [`super::Writer::open`]. Finds a file that was rotated or moved beside its path by its number on the
//! disk. Does not find one that went to another directory or was compressed: that is said loudly.

use super::super::record::{Committed, Opened, State};
use super::whole::whole_bytes;
use super::*;

/// Which file an error is about.
fn naming(path: &[u8], error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", as_path(path).display()))
}

/// Cuts a file, durably. Also one that is already short enough is synced: an earlier start may have cut it and died before.
fn cut(file: &impl File, length: u64, wanted: u64) -> io::Result<()> {
    if length > wanted {
        file.truncate(wanted)?;
    }
    file.sync()
}

impl<D: Disk> Writer<D> {
    pub(super) fn recover(&mut self, state: State) -> io::Result<()> {
        let mut before: BTreeMap<(Vec<u8>, u64), Opened> = BTreeMap::new();
        for opened in self.journal.behind(state.journal) {
            let first = before.entry((opened.path.clone(), opened.inode)).or_insert_with(|| opened.clone());
            first.length = first.length.min(opened.length);
        }
        for file in state.files {
            let key = (file.path.clone(), file.inode);
            // A file that was shorter when it was opened later is another one, which got the number of one that is gone.
            if before.get(&key).is_none_or(|opened| opened.length >= file.length) {
                before.remove(&key);
                let path = file.path.clone();
                self.recover_committed(file).map_err(|error| naming(&path, error))?;
            }
        }
        for opened in before.into_values() {
            self.recover_opened(&opened).map_err(|error| naming(&opened.path, error))?;
        }
        let directories = std::mem::take(&mut self.directories);
        directories.iter().try_for_each(|directory| self.disk.sync_dir(directory))
    }

    /// Cuts only what is not a whole line or member, of the files that the journal knows: no commit covers it, so it comes again.
    pub(super) fn keep_what_is_whole(&mut self) -> io::Result<()> {
        self.warn(
            "damage in the write-ahead log has taken its last commit: its files are not cut to what that says, and the last \
             events in them may be repeated",
        );
        let opened: BTreeSet<(Vec<u8>, u64, u64)> =
            self.journal.behind(0).map(|opened| (opened.path.clone(), opened.device, opened.inode)).collect();
        for (path, device, inode) in opened {
            self.keep_whole(as_path(&path), device, inode).map_err(|error| naming(&path, error))?;
        }
        Ok(())
    }

    fn keep_whole(&self, path: &Path, device: u64, inode: u64) -> io::Result<()> {
        let Some(found) = self.locate(path, device, inode)? else { return Ok(()) };
        let file = self.disk.open(&found, Open::Write)?;
        let length = file.stat()?.length;
        cut(&file, length, whole_bytes(&file, length, self.options.compression)?)
    }

    fn recover_committed(&mut self, mut committed: Committed) -> io::Result<()> {
        let path = as_path(&committed.path).to_owned();
        let Some(found) = self.locate(&path, committed.device, committed.inode)? else {
            if committed.length > 0 {
                self.warn(&format!(
                    "{} is gone, with {} bytes that were written to it; a new file is begun",
                    path.display(),
                    committed.length
                ));
            }
            return Ok(());
        };
        let file = self.disk.open(&found, Open::Write)?;
        let stat = file.stat()?;
        if stat.length < committed.length {
            self.warn(&format!(
                "{} has {} bytes and should have {}: somebody cut it, or its disk lost them; writing goes on at its end",
                found.display(),
                stat.length,
                committed.length
            ));
            committed.length = stat.length;
            committed.generation += 1;
        }
        cut(&file, stat.length, committed.length)?;
        if found == path {
            let Committed { path, length, first_write, generation, .. } = committed;
            let target = Target { generation, first_write, ..target(Arc::new(file), stat.device, stat.inode, length) };
            self.files.insert(path, target);
        }
        Ok(())
    }

    fn recover_opened(&mut self, opened: &Opened) -> io::Result<()> {
        let path = as_path(&opened.path);
        let Some(found) = self.locate(path, opened.device, opened.inode)? else {
            return Ok(());
        };
        if opened.length == 0 && found != path {
            self.disk.remove(&found)?;
            self.directories.insert(parent(&found).to_owned());
            return Ok(());
        }
        let file = self.disk.open(&found, Open::Write)?;
        let length = file.stat()?.length;
        cut(&file, length, opened.length)
    }

    /// Where a file is now: under its own path, or under another name beside it.
    fn locate(&self, path: &Path, device: u64, inode: u64) -> io::Result<Option<PathBuf>> {
        match self.disk.stat(path) {
            // The device's number may change when it is mounted again; the file's stays.
            Ok(stat) if stat.inode == inode && stat.kind == FileKind::Regular => return Ok(Some(path.to_owned())),
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
        let entries = match self.disk.list(parent(path)) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        for entry in entries.into_iter().filter(|entry| !entry.directory && !entry.link) {
            let beside = parent(path).join(&entry.name);
            match self.disk.stat(&beside) {
                Ok(stat) if (stat.device, stat.inode) == (device, inode) => return Ok(Some(beside)),
                _ => {}
            }
        }
        Ok(None)
    }
}
