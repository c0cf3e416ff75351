//! Compressed files that were found: copies of files that were read, or files to be skipped.
//!
//! Guarantees: nothing waits until they were looked into. One is looked into at a time, through a limited number of its bytes.
//! The result is remembered for the inode with its length and modification time, so other names of a file cost nothing. Those
//! that find no room to wait are found again by the next scan.

use super::super::archive::{self, Format, HEAD_INPUT_BYTES};
use super::super::identity::{HEAD_BYTES, Version};
use super::super::patterns::Patterns;
use super::super::recency::Recency;
use super::super::scout;
use super::Home;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use tailwater_shards::env::{Disk, Env, File};
use tailwater_shards::signal::Signal;

/// Bytes of the paths that wait.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Number of results that are remembered.
const VERDICTS_MAX: usize = 16 * 1024;

/// What a compressed file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// A copy of a file that was read.
    Known,
    /// Something else.
    Foreign,
    /// It has too little content to tell.
    Short,
}

/// A compressed file at a path.
#[derive(Clone)]
struct Found {
    path: PathBuf,
    format: Format,
    version: Version,
}

/// The first bytes of its content; none if another file is at its path now.
type Looked = (Found, io::Result<Option<Vec<u8>>>);

#[derive(Default)]
struct Verdicts {
    all: HashMap<Version, Verdict>,
    order: Recency<Version>,
}

impl Verdicts {
    fn get(&mut self, version: &Version) -> Option<Verdict> {
        let verdict = self.all.get(version).copied()?;
        self.order.see(*version);
        Some(verdict)
    }

    fn add(&mut self, version: Version, verdict: Verdict) {
        self.all.insert(version, verdict);
        self.order.see(version);
        if let Some(oldest) = self.order.evict_beyond(VERDICTS_MAX) {
            self.all.remove(&oldest);
        }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Packed {
    waiting: VecDeque<Found>,
    waiting_bytes: usize,
    verdicts: Verdicts,
    is_looking: bool,
    looked: Rc<RefCell<Option<Looked>>>,
    /// Raised when one was looked into.
    pub(super) done: Rc<Signal>,
}

impl<E: Env> Home<'_, E> {
    /// A compressed file was found.
    pub(super) fn is_packed(&mut self, path: PathBuf, format: Format, version: Version) {
        let bytes = path.as_os_str().len();
        if self.packed.waiting_bytes + bytes > WAITING_BYTES_MAX {
            return self.look_again(&path);
        }
        self.packed.waiting_bytes += bytes;
        self.packed.waiting.push_back(Found { path, format, version });
        self.look_into_next();
    }

    /// Takes the result of the last look.
    pub(super) fn take_verdict(&mut self) {
        let Some((found, looked)) = self.packed.looked.take() else { return };
        self.packed.is_looking = false;
        match looked {
            Ok(Some(head)) => {
                let verdict = match self.memory.knows_head(&head) {
                    true => Verdict::Known,
                    false if head.len() < HEAD_BYTES => Verdict::Short,
                    false => Verdict::Foreign,
                };
                self.packed.verdicts.add(found.version, verdict);
                self.judge(&found, verdict);
            }
            // What is at the path now, or why it cannot be opened, is found out as for any file.
            Ok(None) | Err(_) => self.look_again(&found.path),
        }
        self.look_into_next();
    }

    fn look_into_next(&mut self) {
        while !self.packed.is_looking
            && let Some(found) = self.packed.waiting.pop_front()
        {
            self.packed.waiting_bytes -= found.path.as_os_str().len();
            match self.packed.verdicts.get(&found.version) {
                Some(verdict) => self.judge(&found, verdict),
                None => self.look_into(found),
            }
        }
    }

    fn look_into(&mut self, found: Found) {
        self.packed.is_looking = true;
        let (patience, patterns) = (self.owner.patience.clone(), self.patterns.clone());
        let disk = self.context.env.disk().clone();
        let (looked, done) = (self.packed.looked.clone(), self.packed.done.clone());
        self.context.env.spawn("compressed file", async move {
            let (path, one) = (found.path.clone(), found.clone());
            let head = patience.once(&path, move || head(&disk, &patterns, &one)).await;
            // If it hangs, it is looked at again when it answers.
            looked.replace(Some((found, head.unwrap_or(Ok(None)))));
            done.notify();
        });
    }

    fn judge(&mut self, found: &Found, verdict: Verdict) {
        match verdict {
            Verdict::Known => tracing::debug!("{}: a compressed copy of a file that was read", found.path.display()),
            Verdict::Foreign => self.skip_copy(&found.path, found.format.name()),
            Verdict::Short => self.skip_short_copy(&found.path),
        }
    }
}

fn head<D: Disk>(disk: &D, patterns: &Patterns, found: &Found) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = scout::reopen(disk, patterns, &found.path, found.version.inode())? else { return Ok(None) };
    if Version::of(&file.stat()?) != found.version {
        return Ok(None);
    }
    let mut allowed = HEAD_INPUT_BYTES;
    archive::head(&Arc::new(file), found.format, &mut allowed).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailwater_shards::env::Stat;
    use tailwater_shards::sim::SimDisk;

    #[test]
    fn results_that_are_remembered_are_bounded_and_the_latest_stay() {
        let disk = SimDisk::new(1);
        disk.outside().write("/a", b"line\n").expect("written");
        let stat = disk.outside().stat("/a").expect("there");
        let version = |length: usize| Version::of(&Stat { length: length as u64, ..stat });
        let mut verdicts = Verdicts::default();
        for length in 0..VERDICTS_MAX + 10 {
            verdicts.add(version(length), Verdict::Foreign);
            assert_eq!(verdicts.get(&version(0)), Some(Verdict::Foreign), "it is asked for all the time");
        }
        assert_eq!(verdicts.all.len(), VERDICTS_MAX);
        assert_eq!(verdicts.get(&version(5)), None);
    }
}
