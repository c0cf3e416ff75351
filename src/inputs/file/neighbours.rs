//! Which files of an earlier run are still in a directory, whatever their names are now.
//!
//! Guarantees: a directory is listed once, however many of its files have been replaced: strangers decide how many. What is kept is
//! bounded by the number of files that are remembered, and by a number of links. When in doubt, a file is there: then the one that
//! took its path is read from its beginning. For the first look only, after which nobody asks any more. Blocks.

use super::identity::{Inode, Memory};
use super::scout::{Place, Scout};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tailwater_shards::env::located::Located;
use tailwater_shards::env::{Disk, Stat};

/// Number of symbolic links in a directory that are followed to see what they lead to.
const LINKS_MAX: usize = if cfg!(test) { 8 } else { 1000 };

/// See the module.
#[derive(Default)]
pub struct Neighbours(Mutex<HashMap<PathBuf, Arc<Present>>>);

/// What a directory had when it was listed.
#[derive(Default)]
struct Present {
    /// A name of each remembered inode number, and whether it is a symbolic link.
    names: HashMap<u64, (OsString, bool)>,
    links: usize,
}

impl Neighbours {
    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<Present>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a name in the directory of `path` leads to this inode.
    pub fn has<D: Disk>(&self, scout: &Scout<'_, D>, path: &Path, inode: Inode, memory: &Memory) -> io::Result<bool> {
        let Some(directory) = path.parent() else { return Ok(false) };
        let place = scout.directory(scout.patterns.base_of(path), directory)?;
        let present = self.present(scout, &place, directory, memory)?;
        let Some((name, is_link)) = present.names.get(&inode.number) else { return Ok(present.links > LINKS_MAX) };
        match stat(scout, &place, name, *is_link) {
            Ok(stat) if stat.inode == inode.number => Ok(Inode::of(&stat).may_be(inode) && stat.device == inode.device),
            // It was there when the directory was listed.
            _ => Ok(true),
        }
    }

    fn present<D: Disk>(
        &self,
        scout: &Scout<'_, D>,
        place: &Place<D::Located>,
        directory: &Path,
        memory: &Memory,
    ) -> io::Result<Arc<Present>> {
        // Not under the lock: a directory may hang.
        if let Some(present) = self.lock().get(directory) {
            return Ok(present.clone());
        }
        let (mut present, follows) = (Present::default(), scout.patterns.links.follow);
        place.handle.each(&mut |entry| {
            let mut inode = entry.inode;
            if entry.directory || entry.link && !follows {
                return;
            }
            if entry.link {
                present.links += 1;
                if present.links > LINKS_MAX {
                    return;
                }
            }
            // Removed since it was listed, or it leads nowhere.
            if entry.link || inode == 0 {
                let Ok(stat) = stat(scout, place, &entry.name, entry.link) else { return };
                inode = stat.inode;
            }
            if memory.has_inode(inode) {
                present.names.insert(inode, (entry.name, entry.link));
            }
        })?;
        let present = Arc::new(present);
        self.lock().insert(directory.to_path_buf(), present.clone());
        Ok(present)
    }
}

fn stat<D: Disk>(scout: &Scout<'_, D>, place: &Place<D::Located>, name: &OsString, link: bool) -> io::Result<Stat> {
    match link {
        true => scout.find_in(place, name).map(|spot| spot.stat),
        false => place.handle.stat_name(name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::{Descriptor, Head, Identity};
    use super::super::patterns::Patterns;
    use super::*;
    use tailwater_shards::batch::{Source, SourceKey};
    use tailwater_shards::env::Timestamp;
    use tailwater_shards::sim::SimDisk;
    use tailwater_shards::wal::SourceState;

    fn remember(memory: &mut Memory, inode: Inode) {
        let descriptor = Descriptor::encode(&Identity { inode, head: Head::of(b"line\n") }, Path::new("/log/a"));
        let key = SourceKey(u128::from(inode.number));
        let source = Source { key, input: "app".into(), name: Vec::new(), descriptor, repeatable: true };
        let (intervals, recorded) = (vec![(0, 5)], Timestamp(0));
        memory.insert(SourceState { source: Arc::new(source), intervals, marker: 0, gone: None, told: 0, recorded });
    }

    #[test]
    fn a_directory_is_listed_once_and_a_name_that_changed_counts_as_there() {
        let disk = SimDisk::new(1);
        let outside = disk.outside();
        outside.create_dir_all("/log").expect("made");
        let mut memory = Memory::default();
        let inodes: Vec<Inode> = ["/log/a", "/log/b", "/elsewhere"]
            .iter()
            .map(|path| {
                outside.write(path, b"line\n").expect("written");
                let inode = Inode::of(&outside.stat(path).expect("there"));
                remember(&mut memory, inode);
                inode
            })
            .collect();
        let patterns = Patterns::new(&["/log/*".to_owned()], &[], Path::new("/")).expect("a glob");
        let neighbours = Neighbours::default();
        let has = |inode| {
            let scout = Scout::new(&disk, &patterns);
            neighbours.has(&scout, Path::new("/log/new"), inode, &memory).expect("listed")
        };
        assert_eq!([has(inodes[0]), has(inodes[1]), has(inodes[2])], [true, true, false]);
        let other = Inode { created: Some(Timestamp(1)), ..inodes[0] };
        assert!(!has(other), "an inode that was reused");
        outside.rename("/elsewhere", "/log/c").expect("renamed");
        assert!(!has(inodes[2]), "it was not there when the directory was listed");
        outside.rename("/log/a", "/log/d").expect("renamed");
        outside.remove("/log/b").expect("removed");
        assert!(has(inodes[0]) && has(inodes[1]), "they were there");
    }
}
