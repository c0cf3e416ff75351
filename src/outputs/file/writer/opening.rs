//! Opens the files that are about to be written.
//!
//! Guarantees: a file is acquired and looked at before it counts as open, and the journal says so before the first byte is written.
//! What cannot be opened concerns its own events only, where [`super::alone`] says so. Does not close files to stay within limits,
//! except where no descriptor is left.

use super::*;

impl<D: Disk> Writer<D> {
    /// Opens files that are not open, and records this in the journal before the first byte is written. Returns the paths that
    /// events lead to although no file can be there.
    pub(super) fn ensure_open(&mut self, paths: &[Vec<u8>], now: Now) -> Result<Vec<Refused>, String> {
        self.uses += 1;
        let mut refused = Vec::new();
        let mut opened: Vec<(Vec<u8>, Target<D>)> = Vec::new();
        let mut records = Vec::new();
        for path in paths {
            // Also if it is open: a start opens the files of the last commit.
            if let Some(why) = self.why_barred(path, now) {
                refused.push((path.clone(), why));
                continue;
            }
            if let Some(target) = self.files.get_mut(path) {
                target.used = self.uses;
                continue;
            }
            if let Some(target) = self.closing_at(path) {
                self.files.insert(path.clone(), Target { used: self.uses, ..target });
                continue;
            }
            let target = match self.open_with_room(path, now)?.and_then(|target| self.recorded(path, target)) {
                Ok((target, record)) => {
                    records.push(record);
                    target
                }
                // Two of these paths lead to the same file: it is written under the first before it is opened under the
                // other.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && !opened.is_empty() => break,
                Err(error) => {
                    self.counters.held_files.add(u64::from(is_held(&error)));
                    let why = self.why_refused(path, "open", &error, now);
                    refused.push((path.clone(), why.ok_or_else(|| explain("open", as_path(path), &error))?));
                    continue;
                }
            };
            opened.push((path.clone(), target));
        }
        if opened.is_empty() {
            return Ok(refused);
        }
        if let Err(error) = self.journal.append(records) {
            return Err(self.poison(explain("write the journal for", as_path(&opened[0].0), &error)));
        }
        for (path, mut target) in opened {
            target.used = self.uses;
            self.blocked.clear(&path);
            self.files.insert(path, target);
        }
        self.make_room(now).map(|()| refused)
    }

    /// Whether there is a file at a path.
    pub fn is_there(&self, path: &[u8]) -> bool {
        self.places.stat(as_path(path)).is_ok_and(|stat| stat.kind == FileKind::Regular)
    }

    /// Opens a file. If no descriptor is left, closes idle files, which this output can do without.
    fn open_with_room(&mut self, path: &[u8], now: Now) -> Result<io::Result<Target<D>>, String> {
        loop {
            match self.open_one(path, now.wall) {
                Err(error) if is_exhausted(&error) && self.close_idle(now)? => {}
                opened => return Ok(opened),
            }
        }
    }

    /// An opened file with its record.
    fn recorded(&self, path: &[u8], target: Target<D>) -> io::Result<(Target<D>, Opened)> {
        let record = self.opened(path, &target)?;
        Ok((target, record))
    }

    /// A file that waits to be closed and is still at its path.
    fn closing_at(&mut self, path: &[u8]) -> Option<Target<D>> {
        let at = self.closing.iter().position(|(closing, _)| closing == path)?;
        let is_it = self.places.is_at(as_path(path), &self.closing[at].1.identity).ok()?;
        is_it.then(|| self.closing.remove(at).1)
    }

    fn open_one(&mut self, bytes: &[u8], now: Timestamp) -> io::Result<Target<D>> {
        let path = as_path(bytes);
        let mut made = self.places.make_directories(parent(path), self.options.access)?;
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
        let identity = Identity::of(&stat);
        let note = self.extents.note_of(identity);
        Ok(Target { first_write, within_line, ..target(hold, note, identity, stat.length) })
    }

    /// Opens a file, and creates it if it does not exist. The inputs of this process know its path before it is there.
    fn open_file(&mut self, path: &Path) -> io::Result<D::File> {
        let place = self.places.place(path)?;
        self.claims.note_path(&place.path()?, &self.name);
        self.places.open_or_create(&place, path, self.options.access)
    }
}
