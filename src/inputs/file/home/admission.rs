//! The files that were found and wait to be opened, and which of them is next.
//!
//! Guarantees: owners (users) take turns, and so do the directories of one owner, so one file of a user does not wait for the
//! hundred thousand files of another one. In a directory the files of an owner are followed in the order of their modification
//! time, and so are all that are taken together. Files that took the path of a followed file come first in their directory.
//! Each path waits once. Adding and taking are cheap, however many wait. Does not bound how many wait: what is added has been
//! admitted (see [`super::crowd`]).

use super::Unknown;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};

/// Files that took the path of a followed one first, and then by age. For the same age, the highest number first, because
/// rotation counts up.
type Place = (bool, (i64, Reverse<u64>, PathBuf));

/// What one owner waits for.
#[derive(Default)]
struct OfOwner {
    directories: HashMap<PathBuf, BTreeMap<Place, Unknown>>,
    /// Directories with waiting files.
    turn: VecDeque<PathBuf>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    owners: HashMap<u32, OfOwner>,
    /// Owners with waiting files.
    turn: VecDeque<u32>,
    /// The owner and the place of each path.
    places: HashMap<PathBuf, (u32, Place)>,
    /// Number of files that were there when the input began to look.
    first: usize,
}

impl Queue {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Number of files that wait.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether files wait that were there when the input began to look.
    pub(super) fn has_first(&self) -> bool {
        self.first > 0
    }

    /// Adds a file. Returns what has no use any more: another file that waited under its path, or the file itself if that one
    /// waited already.
    pub(super) fn push(&mut self, unknown: Unknown) -> Option<Unknown> {
        let before = self.places.get(&unknown.path).cloned();
        let earlier = before.and_then(|(owner, place)| self.remove(owner, &place));
        if let Some(earlier) = earlier {
            if earlier.inode == unknown.inode && earlier.replaces.is_some() {
                self.insert(earlier);
                return Some(unknown);
            }
            self.insert(unknown);
            return Some(earlier);
        }
        self.insert(unknown);
        None
    }

    /// Takes the next files, at most `most`.
    pub(super) fn take(&mut self, most: usize) -> Vec<Unknown> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(owner) = self.turn.pop_front()
        {
            let next = self.owners.get_mut(&owner).and_then(OfOwner::next);
            if let Some(unknown) = next {
                self.places.remove(&unknown.path);
                self.first -= usize::from(unknown.first);
                taken.push(unknown);
            }
            match self.owners.get(&owner) {
                Some(waiting) if !waiting.turn.is_empty() => self.turn.push_back(owner),
                _ => {
                    self.owners.remove(&owner);
                }
            }
        }
        taken.sort_by_cached_key(|one| place_of(one).1);
        taken
    }

    fn insert(&mut self, unknown: Unknown) {
        let (owner, place) = (unknown.owner, place_of(&unknown));
        self.places.insert(unknown.path.clone(), (owner, place.clone()));
        self.first += usize::from(unknown.first);
        if !self.owners.contains_key(&owner) {
            self.turn.push_back(owner);
        }
        let of_owner = self.owners.entry(owner).or_default();
        let directory = parent(&unknown.path);
        let is_urgent = unknown.replaces.is_some();
        let waiting = of_owner.directories.entry(directory.clone()).or_default();
        match waiting.is_empty() {
            true if is_urgent => of_owner.turn.push_front(directory),
            true => of_owner.turn.push_back(directory),
            false => {}
        }
        waiting.insert(place, unknown);
    }

    /// Removes a file. Its owner and directory keep their turns, which may be empty then.
    fn remove(&mut self, owner: u32, place: &Place) -> Option<Unknown> {
        self.places.remove(&place.1.2);
        let of_owner = self.owners.get_mut(&owner)?;
        let directory = parent(&place.1.2);
        let waiting = of_owner.directories.get_mut(&directory)?;
        let removed = waiting.remove(place)?;
        if waiting.is_empty() {
            of_owner.directories.remove(&directory);
            of_owner.turn.retain(|turn| *turn != directory);
        }
        self.first -= usize::from(removed.first);
        Some(removed)
    }
}

impl OfOwner {
    fn next(&mut self) -> Option<Unknown> {
        let directory = self.turn.pop_front()?;
        let waiting = self.directories.get_mut(&directory)?;
        let (_, next) = waiting.pop_first()?;
        if waiting.is_empty() {
            self.directories.remove(&directory);
        } else {
            self.turn.push_back(directory);
        }
        Some(next)
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_path_buf()
}

fn place_of(unknown: &Unknown) -> Place {
    use std::os::unix::ffi::OsStrExt;
    let name = unknown.path.file_name().unwrap_or_default().as_bytes();
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&name[name.len() - digits..]).ok().and_then(|digits| digits.parse().ok());
    (unknown.replaces.is_none(), (unknown.modified.0, Reverse(number.unwrap_or(0)), unknown.path.clone()))
}

#[cfg(test)]
mod tests {
    use super::super::Inode;
    use super::*;
    use tailwater_shards::env::Timestamp;

    fn file(owner: u32, path: &str, modified: i64) -> Unknown {
        let inode = Inode { device: 1, number: modified.unsigned_abs(), created: None };
        let modified = Timestamp(modified);
        Unknown { path: path.into(), inode, modified, owner, replaces: None, first: false }
    }

    fn names(taken: &[Unknown]) -> Vec<&str> {
        taken.iter().map(|one| one.path.to_str().expect("a plain name")).collect()
    }

    #[test]
    fn one_file_of_a_user_does_not_wait_for_the_many_of_another() {
        let mut queue = Queue::default();
        for number in 0..1000 {
            queue.push(file(7, &format!("/crowd/{}/{number}", number % 10), number));
        }
        queue.push(file(8, "/app/app.log", 5000));
        queue.push(file(7, "/other/one", 6000));
        let first = queue.take(8);
        assert!(names(&first).contains(&"/app/app.log"), "{:?}", names(&first));
        let first = queue.take(8);
        assert!(names(&first).contains(&"/other/one"), "directories of one owner take turns: {:?}", names(&first));
        let mut left = 0;
        while !queue.is_empty() {
            left += queue.take(100).len();
        }
        assert_eq!((left, queue.owners.len(), queue.turn.len(), queue.first), (1002 - 16, 0, 0, 0));
    }

    #[test]
    fn what_is_taken_together_is_in_the_order_of_its_age() {
        let mut queue = Queue::default();
        for (owner, path, modified) in [
            (1, "/log/app.log", 30),
            (2, "/log/app.log.1", 20),
            (1, "/log/app.log.2", 10),
            (1, "/log/b.1", 20),
            (1, "/log/b.2", 20),
        ] {
            queue.push(file(owner, path, modified));
        }
        assert_eq!(names(&queue.take(9)), ["/log/app.log.2", "/log/b.2", "/log/app.log.1", "/log/b.1", "/log/app.log"]);
    }

    #[test]
    fn a_path_waits_once_with_what_was_last_found_there() {
        let mut queue = Queue::default();
        assert!(queue.push(Unknown { first: true, replaces: Some(3), ..file(1, "/log/a", 10) }).is_none());
        let same = queue.push(file(1, "/log/a", 10)).expect("the same file");
        assert!(same.replaces.is_none() && queue.has_first());
        let other = queue.push(Unknown { replaces: Some(4), ..file(2, "/log/a", 20) }).expect("another file was there");
        assert_eq!((other.replaces, queue.has_first()), (Some(3), false));
        let all = queue.take(9);
        assert_eq!(all.iter().map(|one| (one.owner, one.replaces)).collect::<Vec<_>>(), [(2, Some(4))]);
        assert!(queue.is_empty() && queue.turn.len() <= 1, "a turn without a file is dropped when it comes");
        queue.push(file(1, "/log/a", 30));
        assert_eq!(queue.take(9).len(), 1);
    }
}
