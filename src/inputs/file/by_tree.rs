//! What is slow, or takes long, and waits to be done beside everything else: one at a time in each tree.
//!
//! Guarantees: each path waits once. Trees take turns, and at most [`BUSY_MAX`] of them are busy, so nobody waits for the many slow paths of
//! somebody else, and they do not use all threads. Does not bound how much waits: what is added has been admitted.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};

/// Number of trees in which something is done at a time.
pub const BUSY_MAX: usize = 4;

/// See the module.
pub struct ByTree<T> {
    waiting: HashMap<PathBuf, VecDeque<(PathBuf, T)>>,
    /// Trees in which something waits.
    turn: VecDeque<PathBuf>,
    all: HashSet<PathBuf>,
    /// What was taken last in each tree.
    current: HashMap<PathBuf, PathBuf>,
}

impl<T> Default for ByTree<T> {
    fn default() -> ByTree<T> {
        ByTree { waiting: HashMap::new(), turn: VecDeque::new(), all: HashSet::new(), current: HashMap::new() }
    }
}

impl<T> ByTree<T> {
    /// Adds a path. Returns what was given if the path waits already.
    pub fn add(&mut self, tree: PathBuf, path: PathBuf, what: T) -> Option<T> {
        if !self.all.insert(path.clone()) {
            return Some(what);
        }
        let waiting = self.waiting.entry(tree.clone()).or_default();
        if waiting.is_empty() {
            self.turn.push_back(tree);
        }
        waiting.push_back((path, what));
        None
    }

    /// The place of the next tree that is not busy. None if too many are. `is_busy` says whether what was taken still takes long.
    fn next(&mut self, is_busy: impl Fn(&Path) -> bool) -> Option<usize> {
        self.current.retain(|_, path| is_busy(path));
        let has_place = self.current.len() < BUSY_MAX;
        self.turn.iter().position(|tree| !self.current.contains_key(tree)).filter(|_| has_place)
    }

    /// Takes the next path of a tree that is not busy.
    pub fn take(&mut self, is_busy: impl Fn(&Path) -> bool) -> Option<(PathBuf, T)> {
        let place = self.next(is_busy)?;
        let tree = self.turn.remove(place)?;
        let waiting = self.waiting.get_mut(&tree)?;
        let (path, what) = waiting.pop_front()?;
        if waiting.is_empty() {
            self.waiting.remove(&tree);
        } else {
            self.turn.push_back(tree.clone());
        }
        self.all.remove(&path);
        self.current.insert(tree, path.clone());
        Some((path, what))
    }

    /// Whether there is something to be taken.
    pub fn has_next(&mut self, is_busy: impl Fn(&Path) -> bool) -> bool {
        self.next(is_busy).is_some()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.turn.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_of_each_tree_is_taken_at_a_time() {
        let mut all = ByTree::default();
        for number in 0..3 {
            assert!(all.add("/eve".into(), format!("/eve/{number}").into(), number).is_none());
        }
        assert_eq!(all.add("/eve".into(), "/eve/1".into(), 9), Some(9), "it waits already");
        all.add("/app".into(), "/app/0".into(), 7);
        let mut order = Vec::new();
        while let Some((_, what)) = all.take(|_| true) {
            order.push(what);
        }
        assert_eq!((order, all.is_empty()), (vec![0, 7], false));
        assert_eq!(all.take(|path| path != Path::new("/eve/0")).map(|one| one.1), Some(1));
        assert_eq!(all.take(|_| false).map(|one| one.1), Some(2));
        assert!(all.is_empty() && !all.has_next(|_| false));
    }

    #[test]
    fn few_trees_are_busy_at_a_time() {
        let mut all = ByTree::default();
        for number in 0..2 * BUSY_MAX {
            all.add(format!("/{number}").into(), format!("/{number}/a").into(), ());
        }
        let taken = std::iter::from_fn(|| all.take(|_| true)).count();
        assert_eq!(taken, BUSY_MAX);
        assert!(!all.has_next(|_| true) && all.has_next(|path| path != Path::new("/0/a")));
    }
}
