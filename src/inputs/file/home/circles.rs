//! The inodes of the directories that are scanned: a link to one of them would lead in a circle.
//!
//! Guarantees: whether an inode is scanned is found without visiting all directories, however many links there are. As large as the
//! number of directories. Knows a directory from its first listing on.

use super::super::identity::Inode;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Default)]
pub(super) struct Scanned {
    by_path: HashMap<PathBuf, Inode>,
    /// At how many paths each is.
    paths: HashMap<Inode, usize>,
}

impl Scanned {
    /// Whether it is scanned.
    pub(super) fn has(&self, inode: Inode) -> bool {
        self.paths.contains_key(&inode)
    }

    /// This directory is at this path now.
    pub(super) fn is_at(&mut self, inode: Inode, path: &Path) {
        if self.by_path.get(path) == Some(&inode) {
            return;
        }
        self.is_gone(path);
        self.by_path.insert(path.to_path_buf(), inode);
        *self.paths.entry(inode).or_default() += 1;
    }

    /// None is at this path any more.
    pub(super) fn is_gone(&mut self, path: &Path) {
        let Some(inode) = self.by_path.remove(path) else { return };
        if let Some(paths) = self.paths.get_mut(&inode) {
            *paths -= 1;
            if *paths == 0 {
                self.paths.remove(&inode);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_scanned_as_long_as_it_is_at_a_path() {
        let inode = |number| Inode { device: 1, number, created: None };
        let mut scanned = Scanned::default();
        scanned.is_at(inode(1), Path::new("/a"));
        scanned.is_at(inode(1), Path::new("/b"));
        scanned.is_at(inode(1), Path::new("/b"));
        assert!(scanned.has(inode(1)) && !scanned.has(inode(2)));
        scanned.is_at(inode(2), Path::new("/a"));
        assert!(scanned.has(inode(1)) && scanned.has(inode(2)));
        scanned.is_gone(Path::new("/b"));
        scanned.is_gone(Path::new("/b"));
        assert!(!scanned.has(inode(1)) && scanned.has(inode(2)));
        scanned.is_gone(Path::new("/a"));
        assert_eq!((scanned.by_path.len(), scanned.paths.len()), (0, 0));
    }
}
