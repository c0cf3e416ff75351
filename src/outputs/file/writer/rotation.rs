//! Rotation: a full or old file is renamed, and a new one follows.
//!
//! Guarantees: each step is durable before the next. If a rename fails, both names are reported. Removes nothing but the
//! oldest rotated file. Does not depend on the content of the files.

use super::*;
use tailwater_shards::env::located::Located;

impl<D: Disk> Writer<D> {
    /// Rotates a file: `path` becomes `path.1`, `path.1` becomes `path.2`, and the last one is removed. Each step is durable
    /// before the next, so a power loss never leaves a later step without an earlier one, which would put one file in
    /// another's place.
    ///
    /// Returns what blocks it, if events chose the path and so one of them is to blame.
    pub(super) fn rotate(&mut self, path: &[u8], now: Now) -> Result<Option<String>, String> {
        let Some(target) = self.files.get(path) else { return Ok(None) };
        let identity = target.identity;
        self.complete(path, now)?;
        match self.shift(as_path(path), &identity) {
            Err(error) if self.options.blames_events && is_blocked(&error) => {
                let why = words::blocked(as_path(path), &error);
                self.refuse(path, &why, now);
                return Ok(Some(why));
            }
            // Its directory was moved or exchanged: what is there now is not this output's.
            Err(error) if is_gone(&error) => {}
            Err(error) => match self.why_refused(path, "rotate", &error, now) {
                Some(why) => return Ok(Some(why)),
                None => return Err(explain("rotate", as_path(path), &error)),
            },
            Ok(()) => {}
        }
        self.close_one(path, now).map(|()| None)
    }

    fn shift(&self, path: &Path, identity: &Identity) -> io::Result<()> {
        let place = self.places.place(path)?;
        let stat = place.directory.stat_name(&place.name)?;
        if (stat.device, stat.inode) != (identity.device, identity.inode) {
            return Ok(());
        }
        let numbered = |number: u32| ending(&place.name, format_args!(".{number}"));
        // A gap that an interrupted rotation left is filled first.
        let mut free = self.options.keep;
        for number in 1..=self.options.keep {
            match place.directory.stat_name(&numbered(number)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    free = number;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        for number in (1..free).rev() {
            rename(&place.directory, path, &numbered(number), &numbered(number + 1))?;
            place.directory.sync_names()?;
        }
        rename(&place.directory, path, &place.name, &numbered(1))?;
        place.directory.sync_names()
    }
}

/// Renames a file over an existing file, in the directory of `path`. An error names both.
fn rename(directory: &impl Located, path: &Path, from: &OsStr, to: &OsStr) -> io::Result<()> {
    directory.rename(from, directory, to).map_err(|error| {
        let (from, to) = (path.with_file_name(from), path.with_file_name(to));
        io::Error::new(error.kind(), format!("{} cannot be renamed to {}: {error}", from.display(), to.display()))
    })
}

/// Whether something has the name of a rotated file that a rename does not replace.
fn is_blocked(error: &io::Error) -> bool {
    use io::ErrorKind::{DirectoryNotEmpty, IsADirectory, NotADirectory, ResourceBusy};
    // Busy is a mount point.
    matches!(error.kind(), DirectoryNotEmpty | IsADirectory | NotADirectory | ResourceBusy)
}
