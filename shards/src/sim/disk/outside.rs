//! The disk as other programs see it: writers of logs, administrators, and the test that reads what was delivered.
//!
//! Guarantees: everything here uses the same page cache and the same names as the process's own calls, is seen by watches, and
//! is lost by a power loss unless [`Outside::sync_all`] was called first. Works while the process is dead.

use super::tree::{Id, Node, State, error};
use super::{SimDisk, make_directories, make_file, named};
use crate::env::{Access, FileKind, Stat};
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// See the module.
#[derive(Clone)]
pub struct Outside {
    disk: SimDisk,
}

pub(super) fn rename(state: &mut State, from: &Path, to: &Path) -> io::Result<()> {
    let source = named(state, from)?;
    let target = named(state, to)?;
    let id = source.id.ok_or_else(|| error(libc::ENOENT))?;
    if target.id == Some(id) {
        return Ok(());
    }
    if let Some(replaced) = target.id {
        let directory = state.stat(id)?.kind == FileKind::Directory;
        match state.directory(replaced) {
            Ok(_) if !directory => return Err(error(libc::EISDIR)),
            Ok(listing) if !listing.names.is_empty() => return Err(error(libc::ENOTEMPTY)),
            Err(_) if directory => return Err(error(libc::ENOTDIR)),
            _ => {}
        }
    }
    state.change(vec![(source.directory, &source.name, None), (target.directory, &target.name, Some(id))]);
    Ok(())
}

pub(super) fn remove(state: &mut State, path: &Path) -> io::Result<()> {
    let place = named(state, path)?;
    let id = place.id.ok_or_else(|| error(libc::ENOENT))?;
    if state.stat(id)?.kind == FileKind::Directory {
        return Err(error(libc::EISDIR));
    }
    state.change(vec![(place.directory, &place.name, None)]);
    Ok(())
}

impl Outside {
    pub(super) fn new(disk: SimDisk) -> Outside {
        Outside { disk }
    }

    fn file(&self, state: &mut State, path: &Path) -> io::Result<Id> {
        let (place, _) = state.place(path, true)?;
        match place.id {
            Some(id) => Ok(id),
            None => make_file(state, &place),
        }
    }

    /// Replaces the content of a file as `>` does, and creates it if missing.
    pub fn write(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let id = self.file(&mut state, path.as_ref())?;
        if state.content(id)?.length() > 0 {
            state.truncate(id, 0)?;
        }
        state.write(id, bytes, 0)
    }

    /// Appends to a file as `>>` does, and creates it if missing.
    pub fn append(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let id = self.file(&mut state, path.as_ref())?;
        let length = state.content(id)?.length();
        state.write(id, bytes, length)
    }

    /// Begins to append to a file that exists: `first` is there, and `rest` follows before the next write by this process.
    pub fn begin_append(&self, path: impl AsRef<Path>, first: &[u8], rest: &[u8]) -> io::Result<()> {
        self.append(path.as_ref(), first)?;
        let mut state = self.disk.state();
        let id = state.find(path.as_ref())?;
        state.under_way.push((id, rest.to_vec()));
        Ok(())
    }

    /// Overwrites bytes of a file at an offset: damage, or a flipped bit.
    pub fn overwrite(&self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let id = state.find(path.as_ref())?;
        state.write(id, bytes, offset)
    }

    /// Overwrites bytes of a file through a memory map: no watch tells of it, and the time of modification stays.
    pub fn overwrite_mapped(&self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let id = state.find(path.as_ref())?;
        let mut prng = state.prng.clone();
        state.content(id)?.write(bytes, offset, &mut prng);
        state.prng = prng;
        Ok(())
    }

    /// Flips bits of a byte on the platter itself: rot, which no cache hides and no later loss undoes.
    pub fn rot(&self, path: impl AsRef<Path>, offset: u64, bits: u8) -> io::Result<()> {
        let mut state = self.disk.state();
        let id = state.find(path.as_ref())?;
        state.note("rot", id, offset, u64::from(bits));
        state.content(id)?.rot(offset as usize, bits);
        Ok(())
    }

    /// The content of a file.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let mut state = self.disk.state();
        let id = state.find(path.as_ref())?;
        Ok(state.content(id)?.current.clone())
    }

    /// Sets the length of a file.
    pub fn truncate(&self, path: impl AsRef<Path>, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let id = state.find(path.as_ref())?;
        state.truncate(id, length)
    }

    /// Renames a file or directory, and replaces an existing one.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        rename(&mut self.disk.state(), from.as_ref(), to.as_ref())
    }

    /// Removes a file.
    pub fn remove(&self, path: impl AsRef<Path>) -> io::Result<()> {
        remove(&mut self.disk.state(), path.as_ref())
    }

    /// Removes a directory and everything in it.
    pub fn remove_dir_all(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut state = self.disk.state();
        let place = named(&mut state, path.as_ref())?;
        let id = place.id.ok_or_else(|| error(libc::ENOENT))?;
        remove_tree(&mut state, id)?;
        state.change(vec![(place.directory, &place.name, None)]);
        Ok(())
    }

    /// Makes a directory and its parents.
    pub fn create_dir_all(&self, path: impl AsRef<Path>) -> io::Result<()> {
        make_directories(&mut self.disk.state(), path.as_ref())
    }

    /// Creates a symbolic link at `link`, and atomically replaces an existing one, as `ln -sfn` should.
    pub fn symlink(&self, target: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
        let mut state = self.disk.state();
        let place = named(&mut state, link.as_ref())?;
        let id = state.add(Node::Link(target.as_ref().to_path_buf()));
        state.change(vec![(place.directory, &place.name, Some(id))]);
        Ok(())
    }

    /// Gives a symbolic link to another user.
    pub fn set_link_owner(&self, link: impl AsRef<Path>, owner: u32) -> io::Result<()> {
        let mut state = self.disk.state();
        let id = named(&mut state, link.as_ref())?.id.ok_or_else(|| error(libc::ENOENT))?;
        state.inode(id)?.owner = owner;
        Ok(())
    }

    /// Gives a file another name, which must be free.
    pub fn hard_link(&self, file: impl AsRef<Path>, name: impl AsRef<Path>) -> io::Result<()> {
        let mut state = self.disk.state();
        let id = state.find(file.as_ref())?;
        let place = named(&mut state, name.as_ref())?;
        if place.id.is_some() {
            return Err(error(libc::EEXIST));
        }
        state.change(vec![(place.directory, &place.name, Some(id))]);
        Ok(())
    }

    /// Creates a named pipe that nobody writes: something that is not a file.
    pub fn pipe(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut state = self.disk.state();
        let place = named(&mut state, path.as_ref())?;
        if place.id.is_some() {
            return Err(error(libc::EEXIST));
        }
        let id = state.add(Node::Pipe);
        state.change(vec![(place.directory, &place.name, Some(id))]);
        Ok(())
    }

    /// What `path` leads to.
    pub fn stat(&self, path: impl AsRef<Path>) -> io::Result<Stat> {
        let mut state = self.disk.state();
        let id = state.find(path.as_ref())?;
        state.stat(id)
    }

    /// Gives what `path` leads to to another user.
    pub fn set_owner(&self, path: impl AsRef<Path>, owner: u32) -> io::Result<()> {
        let mut state = self.disk.state();
        let id = state.find(path.as_ref())?;
        state.inode(id)?.owner = owner;
        Ok(())
    }

    /// Changes the permission bits of a file.
    pub fn set_mode(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        let mut state = self.disk.state();
        let id = state.find(path.as_ref())?;
        state.inode(id)?.access.mode = Some(mode);
        Ok(())
    }

    /// Who may do what with a file, as far as somebody said.
    pub fn access(&self, path: impl AsRef<Path>) -> io::Result<Access> {
        let mut state = self.disk.state();
        let id = state.find(path.as_ref())?;
        Ok(state.inode(id)?.access)
    }

    /// Whether `path` leads to something.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.disk.state().find(path.as_ref()).is_ok()
    }

    /// The names in a directory, sorted.
    pub fn list(&self, directory: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        let state = self.disk.state();
        let id = state.find(directory.as_ref())?;
        Ok(state.directory(id)?.names.keys().cloned().collect())
    }

    /// Makes all files and names durable.
    pub fn sync_all(&self) {
        self.disk.state().sync_all();
    }

    /// Whether a power loss could remove nothing from a file, apart from its name.
    pub fn clean(&self, path: impl AsRef<Path>) -> io::Result<bool> {
        let mut state = self.disk.state();
        let id = state.find(path.as_ref())?;
        Ok(state.content(id)?.clean())
    }
}

fn remove_tree(state: &mut State, directory: Id) -> io::Result<()> {
    let names: Vec<(OsString, Id)> =
        state.directory(directory)?.names.iter().map(|(name, &id)| (name.clone(), id)).collect();
    for (name, id) in names {
        if state.stat(id)?.kind == FileKind::Directory {
            remove_tree(state, id)?;
        }
        state.change(vec![(directory, &name, None)]);
    }
    Ok(())
}
