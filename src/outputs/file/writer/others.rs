//! What others do to the files of an output: move, remove and cut them, or put something in their place.
//!
//! Guarantees: an open file that was moved or removed is let go of; one that was cut goes on at its end, and what was delivered
//! and not written by then is written again. Does not bring back what others removed.

use super::*;

/// A path that cannot be written, and why.
pub type Refused = (Vec<u8>, String);

impl<D: Disk> Writer<D> {
    /// Takes out the groups that something else is in the place of, or whose names the file system does not take: what one
    /// event says must not hold up all others. Below a `fixed` directory that is none, no event is to blame.
    pub fn refuse(&self, groups: &mut Vec<Group>, fixed: &[u8]) -> Vec<Refused> {
        use io::ErrorKind::{InvalidFilename, IsADirectory, NotADirectory};
        let mut refused = Vec::new();
        groups.retain(|group| {
            if self.files.contains_key(&group.path) {
                return true;
            }
            let error = match self.disk.stat(as_path(&group.path)) {
                Ok(stat) if stat.kind == FileKind::Directory => IsADirectory.into(),
                Err(error) if matches!(error.kind(), NotADirectory | InvalidFilename) => error,
                _ => return true,
            };
            let fixed = if fixed.is_empty() { b"/" } else { fixed };
            if !self.disk.stat(as_path(fixed)).is_ok_and(|stat| stat.kind == FileKind::Directory) {
                return true;
            }
            let path = as_path(&group.path).display();
            let next = "move away what is there, or choose another `path`";
            refused.push((group.path.clone(), format!("no file can be made at {path}: {error}; {next}")));
            false
        });
        refused
    }

    /// Looks after files that others touched, and rotates those that are old enough.
    pub fn look_after(&mut self, now: Now) -> Result<(), String> {
        if self.poisoned.is_some() {
            return Ok(());
        }
        let paths: Vec<Vec<u8>> = self.files.keys().cloned().collect();
        for path in paths {
            let Some(target) = self.files.get_mut(&path) else { continue };
            let own = target.file.stat().map_err(|error| explain("look at", as_path(&path), &error))?;
            if own.length < target.length {
                let (had, has) = (target.length, own.length);
                // The member goes on from bytes that are gone, and what it holds was delivered.
                let holds_more = target.member.is_some() || !target.out.is_empty();
                (target.length, target.touched) = (has, has);
                target.generation += 1;
                let was_cut = format!("{} was cut from {had} to {has} bytes by somebody", as_path(&path).display());
                self.warn(&was_cut);
                if holds_more {
                    self.poison(format!("{was_cut}; what was written since the last commit is written again"));
                    return Ok(());
                }
            }
            let inode = own.inode;
            match self.disk.stat(as_path(&path)) {
                Ok(stat) if stat.inode == inode => {
                    if self.is_due(&path, 0, now) {
                        self.rotate(&path, now)?;
                    }
                }
                Err(error) if !is_gone(&error) => return Err(explain("look at", as_path(&path), &error)),
                _ => {
                    tracing::info!(output = %self.name, "{} was moved away; a new file follows", as_path(&path).display());
                    self.close_one(&path, now)?;
                }
            }
        }
        Ok(())
    }

    /// Lets go of a file that somebody removed: what is written to it now would be gone with it.
    pub(super) fn let_go_of_removed(&mut self, path: &[u8], now: Now) -> Result<(), String> {
        if self.files.get(path).is_some_and(Target::is_removed) {
            tracing::info!(output = %self.name, "{} was removed; a new file follows", as_path(path).display());
            self.close_one(path, now)?;
        }
        Ok(())
    }
}
