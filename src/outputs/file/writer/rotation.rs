//! Rotation: a full or old file is renamed, and a new one follows.
//!
//! Guarantees: each step is durable before the next. If a rename fails, both names are reported. Removes nothing but the
//! oldest rotated file. Does not depend on the content of the files.

use super::*;

impl<D: Disk> Writer<D> {
    /// Rotates a file: `path` becomes `path.1`, `path.1` becomes `path.2`, and the last one is removed. Each step is durable
    /// before the next, so a power loss never leaves a later step without an earlier one, which would put one file in
    /// another's place.
    pub(super) fn rotate(&mut self, path: &[u8], now: Now) -> Result<(), String> {
        let Some(target) = self.files.get_mut(path) else { return Ok(()) };
        target.finish(now.wall).map_err(|error| explain("write", as_path(path), &error))?;
        let inode = target.identity.inode;
        if self.disk.stat(as_path(path)).is_ok_and(|stat| stat.inode == inode) {
            self.shift(path).map_err(|error| explain("rotate", as_path(path), &error))?;
        }
        self.close_one(path, now)
    }

    fn shift(&self, path: &[u8]) -> io::Result<()> {
        let directory = parent(as_path(path));
        // A gap that an interrupted rotation left is filled first.
        let mut free = self.options.keep;
        for number in 1..=self.options.keep {
            match self.disk.stat(&numbered(path, number)) {
                Ok(_) => {}
                Err(error) if is_gone(&error) => {
                    free = number;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        for number in (1..free).rev() {
            self.rename(&numbered(path, number), &numbered(path, number + 1))?;
            self.disk.sync_dir(directory)?;
        }
        self.rename(as_path(path), &numbered(path, 1))?;
        self.disk.sync_dir(directory)
    }

    /// Renames a file over an existing file. An error names both.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to).map_err(|error| {
            let (from, to) = (from.display(), to.display());
            io::Error::new(error.kind(), format!("{from} cannot be renamed to {to}: {error}"))
        })
    }
}
