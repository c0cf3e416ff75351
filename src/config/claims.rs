//! Which output of this process writes which file: only one output has a file at a time.
//!
//! Guarantees: two outputs never hold the same file at the same time, whatever paths lead to it. An output that asks for a file
//! that another output holds gets it as soon as that output releases it. Inputs can ask which files outputs write or wrote
//! recently, so that no input reads what its own events become, also through files that other inputs read. Does not keep other
//! processes away: the lock on the file does that.

mod flows;

use flows::Flows;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tailwater_shards::env::Stat;

/// Identifies a file, whatever its name: device, inode and creation time (ns since 1970, 0 if unknown).
pub type Key = (u64, u64, i64);

/// The key of the file that `stat` describes.
pub fn key_of(stat: &Stat) -> Key {
    (stat.device, stat.inode, stat.created.map_or(0, |created| created.0))
}

/// How many requests of other outputs are refused while a released file is reserved for the next owner: about a second of
/// attempts.
const TURNS: u32 = 20;

/// Number of files that are remembered after their output has stopped writing them.
const REMEMBERED_MAX: usize = 65_536;

/// The files that the outputs of a process hold or have written.
#[derive(Debug, Default)]
pub struct Claims(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    held: BTreeMap<Key, Held>,
    last_owner: u64,
    written: Written,
    flows: Flows,
}

/// The current owner of a file and the next one.
#[derive(Debug)]
struct Held {
    owner: Option<Owner>,
    next: Option<Owner>,
    turns: u32,
}

/// One opened instance of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    number: u64,
    /// The name of the output.
    pub name: Arc<str>,
}

/// The files and paths that outputs have written, oldest first.
#[derive(Debug, Default)]
struct Written {
    files: BTreeMap<Key, Arc<str>>,
    order: VecDeque<Key>,
    paths: BTreeMap<PathBuf, Arc<str>>,
    path_order: VecDeque<PathBuf>,
}

impl Claims {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A poisoned lock is safe to use: no step of a change panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a new owner.
    pub fn owner(&self, name: Arc<str>) -> Owner {
        let mut inner = self.inner();
        inner.last_owner += 1;
        Owner { number: inner.last_owner, name }
    }

    /// Gives a file to `owner`, or returns the output that holds it or is next in line.
    pub fn take(&self, key: Key, owner: &Owner) -> Result<(), Owner> {
        let mut inner = self.inner();
        if inner.held.len() > REMEMBERED_MAX {
            inner.held.retain(|_, held| held.owner.is_some());
        }
        let held = inner.held.entry(key).or_insert(Held { owner: None, next: None, turns: 0 });
        if let Some(other) = held.owner.clone() {
            if other != *owner {
                held.next = Some(owner.clone());
            }
            return Err(other);
        }
        if let Some(next) = held.next.clone().filter(|next| next != owner)
            && held.turns > 0
        {
            held.turns -= 1;
            return Err(next);
        }
        *held = Held { owner: Some(owner.clone()), next: None, turns: 0 };
        inner.written.note(key, &owner.name);
        Ok(())
    }

    /// Releases a file that `owner` holds and reserves it for the output that asked first.
    pub fn release(&self, key: Key, owner: &Owner) {
        let mut inner = self.inner();
        let Some(held) = inner.held.get_mut(&key).filter(|held| held.owner.as_ref() == Some(owner)) else { return };
        held.owner = None;
        held.turns = TURNS;
        if held.next.is_none() {
            inner.held.remove(&key);
        }
    }

    /// Takes an owner that is gone out of all lines.
    pub fn forget(&self, owner: &Owner) {
        let mut inner = self.inner();
        inner.held.retain(|_, held| {
            held.next.take_if(|next| next == owner);
            held.owner.is_some() || held.next.is_some()
        });
    }

    /// Whether an output of this process holds a file.
    pub fn is_held(&self, key: Key) -> bool {
        self.inner().held.get(&key).is_some_and(|held| held.owner.is_some())
    }

    /// Whether another output waits for a file that `owner` holds.
    pub fn is_wanted(&self, key: Key, owner: &Owner) -> bool {
        let inner = self.inner();
        inner.held.get(&key).is_some_and(|held| held.owner.as_ref() == Some(owner) && held.next.is_some())
    }

    /// Records a path that an output is about to create: `path` has no symbolic links.
    pub fn note_path(&self, path: &Path, name: &Arc<str>) {
        self.inner().written.note_path(path, name);
    }

    /// An input reads this file and feeds the outputs `names`. Returns the output that writes the file or wrote it recently,
    /// whatever its path, if its events would come back to it: then it must not be read.
    pub fn read_file(&self, key: Key, names: &BTreeSet<Arc<str>>) -> Result<(), Arc<str>> {
        let mut inner = self.inner();
        let Inner { written, flows, .. } = &mut *inner;
        match written.files.get(&key) {
            Some(writer) if !flows.add(writer, names) => Err(writer.clone()),
            _ => Ok(()),
        }
    }

    /// The same before the file at `path`, which has no symbolic links, is opened. Rotated files count too.
    pub fn read(&self, stat: &Stat, path: &Path, names: &BTreeSet<Arc<str>>) -> Result<(), Arc<str>> {
        if names.is_empty() {
            return Ok(());
        }
        self.read_file(key_of(stat), names)?;
        let inner = self.inner();
        let paths = &inner.written.paths;
        let unrotated = unrotated(path);
        // Who will write there is not known to be its writer, so this is no flow yet.
        let writer = [Some(path), unrotated.as_deref()].into_iter().flatten().find_map(|path| paths.get(path));
        match writer {
            Some(writer) if inner.flows.come_back(writer, names) => Err(writer.clone()),
            _ => Ok(()),
        }
    }
}

impl Written {
    fn note(&mut self, key: Key, name: &Arc<str>) {
        if self.files.insert(key, name.clone()).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.files.remove(&oldest);
        }
    }

    fn note_path(&mut self, path: &Path, name: &Arc<str>) {
        if self.paths.insert(path.to_owned(), name.clone()).is_none() {
            self.path_order.push_back(path.to_owned());
        }
        if self.path_order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.path_order.pop_front()
        {
            self.paths.remove(&oldest);
        }
    }
}

/// The path that a file had before an output rotated it (`x.log.3`) or moved it aside (`x.log.aside-1`).
pub fn unrotated(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let (before, ending) = name.rsplit_once('.')?;
    let number = ending.strip_prefix("aside-").unwrap_or(ending);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !before.is_empty()).then(|| path.with_file_name(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_shards::env::{FileKind, Timestamp};

    const FILE: Key = (1, 2, 0);

    #[test]
    fn a_file_goes_to_whoever_asked_for_it() {
        let claims = Claims::default();
        let [one, other] = ["one", "other"].map(|name| claims.owner(name.into()));
        assert_eq!(claims.take(FILE, &one), Ok(()));
        assert!(!claims.is_wanted(FILE, &one));
        assert_eq!(claims.take(FILE, &other), Err(one.clone()));
        assert!(claims.is_wanted(FILE, &one));
        claims.release(FILE, &other);
        assert_eq!(claims.take(FILE, &other), Err(one.clone()), "only the owner releases a file");
        claims.release(FILE, &one);
        assert_eq!(claims.take(FILE, &one), Err(other.clone()), "the other one is next");
        assert_eq!(claims.take(FILE, &other), Ok(()));
        assert!(!claims.is_wanted(FILE, &other));
    }

    #[test]
    fn a_file_is_not_kept_for_ever_for_one_that_asked_once() {
        let claims = Claims::default();
        let [one, other] = ["one", "other"].map(|name| claims.owner(name.into()));
        claims.take(FILE, &one).expect("nobody has it");
        claims.take(FILE, &other).expect_err("the other one has it");
        claims.release(FILE, &one);
        let refusals = (0..1000).take_while(|_| claims.take(FILE, &one).is_err()).count();
        assert_eq!(refusals, TURNS as usize);
    }

    #[test]
    fn a_file_is_not_kept_for_an_opening_that_is_gone() {
        let claims = Claims::default();
        let [holder, earlier, later] = ["one", "out", "out"].map(|name| claims.owner(name.into()));
        claims.take(FILE, &holder).expect("nobody has it");
        claims.take(FILE, &earlier).expect_err("the other one has it");
        claims.forget(&earlier);
        assert!(!claims.is_wanted(FILE, &holder));
        claims.release(FILE, &holder);
        assert_eq!(claims.take(FILE, &later), Ok(()));
    }

    #[test]
    fn an_earlier_opening_of_an_output_is_another_owner() {
        let claims = Claims::default();
        let [earlier, later] = ["out", "out"].map(|name| claims.owner(name.into()));
        claims.take(FILE, &earlier).expect("nobody has it");
        assert_eq!(claims.take(FILE, &later), Err(earlier));
    }

    #[test]
    fn what_is_written_is_known_by_file_by_path_and_rotated() {
        let claims = Claims::default();
        let names: BTreeSet<Arc<str>> = BTreeSet::from(["out".into()]);
        let stat = |inode| {
            let (kind, modified) = (FileKind::Regular, Timestamp(0));
            Stat { kind, device: 1, inode, length: 0, modified, created: None, links: 1, owner: 0, mode: 0o640 }
        };
        let owner = claims.owner("out".into());
        claims.take(FILE, &owner).expect("nobody has it");
        claims.release(FILE, &owner);
        claims.note_path(Path::new("/o/x.log"), &owner.name);
        for (inode, path, is_written) in [
            (2, "/elsewhere", true),
            (3, "/elsewhere", false),
            (3, "/o/x.log", true),
            (3, "/o/x.log.12", true),
            (3, "/o/x.log.aside-1", true),
            (3, "/o/x.log.gz", false),
            (3, "/o/x.log.", false),
        ] {
            let read = claims.read(&stat(inode), Path::new(path), &names);
            assert_eq!(read.is_err(), is_written, "{inode} {path}");
        }
        assert_eq!(claims.read(&stat(2), Path::new("/o/x.log"), &BTreeSet::from(["b".into()])), Ok(()));
        // Now its content goes to `b`, so it must not come back.
        let back = claims.owner("b".into());
        claims.take((1, 9, 0), &back).expect("nobody has it");
        claims.note_path(Path::new("/o/b.log"), &back.name);
        assert_eq!(claims.read_file((1, 9, 0), &names), Err(back.name.clone()));
        assert_eq!(claims.read(&stat(8), Path::new("/o/b.log"), &names), Err(back.name));
    }
}
