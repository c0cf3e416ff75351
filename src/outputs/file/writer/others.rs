//! What others do to the files of an output: write to them, cut, move and remove them, or put something in their place.
//!
//! Guarantees: what others wrote stays, and this output goes on behind it, or in a new file where nothing can go behind it. No
//! hole is left where a file was cut. An open file that was moved or removed is let go of. What was delivered and is not in the
//! file because of that is written again. Each is told once for a file and always counted. Does not bring back what others
//! removed, and does not notice bytes that were changed without a change of the length.

use super::*;
use tailwater_shards::counters::Interference;

/// A path that cannot be written, and why.
pub type Refused = (Vec<u8>, String);

/// Files that are remembered for having been told of.
const TOLD_MAX: usize = 1024;

impl<D: Disk> Writer<D> {
    /// Takes out the groups that something else is in the place of, or whose names the file system does not take: what one
    /// event says must not hold up all others. Below a `fixed` directory that is none, no event is to blame.
    pub fn refuse(&self, groups: &mut Vec<Group>, fixed: &[u8]) -> Vec<Refused> {
        let mut refused = Vec::new();
        groups.retain(|group| {
            if self.files.contains_key(&group.path) {
                return true;
            }
            let Some(why) = self.in_the_way(as_path(&group.path)) else { return true };
            let fixed = if fixed.is_empty() { b"/" } else { fixed };
            if !self.disk.stat(as_path(fixed)).is_ok_and(|stat| stat.kind == FileKind::Directory) {
                return true;
            }
            let path = as_path(&group.path).display();
            let next = "move away what is there, or choose another `path`";
            refused.push((group.path.clone(), format!("no file can be made at {path}: {why}; {next}")));
            false
        });
        refused
    }

    /// What keeps a path from ever being a file of this output, as long as nobody changes it.
    fn in_the_way(&self, path: &Path) -> Option<String> {
        use io::ErrorKind::{InvalidFilename, IsADirectory, NotADirectory};
        match self.disk.is_link(path) {
            Ok(true) => return Some("it is a symbolic link, which is not followed".to_owned()),
            Err(error) if matches!(error.kind(), NotADirectory | InvalidFilename) => return Some(error.to_string()),
            _ => {}
        }
        match self.disk.stat(path).ok()?.kind {
            FileKind::Regular => None,
            FileKind::Directory => Some(io::Error::from(IsADirectory).to_string()),
            FileKind::Other => Some("it is a named pipe, a socket or a device".to_owned()),
        }
    }

    /// Looks after files that others touched, and rotates those that are old enough.
    pub fn look_after(&mut self, now: Now) -> Result<(), String> {
        if self.poisoned.is_some() {
            return Ok(());
        }
        let paths: Vec<Vec<u8>> = self.files.keys().cloned().collect();
        for path in paths {
            self.settle(&path)?;
            let Some(target) = self.files.get(&path) else { continue };
            let inode = target.identity.inode;
            match self.disk.stat(as_path(&path)) {
                Ok(stat) if stat.inode == inode => {
                    if self.is_due(&path, 0, now) {
                        self.rotate(&path, now)?;
                    }
                }
                Err(error) if !is_gone(&error) => return Err(explain("look at", as_path(&path), &error)),
                _ => {
                    self.count(Interference::Moved);
                    tracing::info!(output = %self.name, "{} was moved away; a new file follows", as_path(&path).display());
                    self.close_one(&path, now)?;
                }
            }
        }
        self.hand_over(false, now)
    }

    /// Makes sure that a file is as this output left it, or takes in what others did to it: the next byte goes behind what they
    /// wrote. Afterwards the file may be closed. Costs one look at the file where nobody touched it.
    pub(super) fn settle(&mut self, path: &[u8]) -> Result<(), String> {
        let Some(target) = self.files.get_mut(path) else { return Ok(()) };
        let looked = |error: io::Error| explain("look at", as_path(path), &error);
        let stat = target.file.stat().map_err(looked)?;
        if target.is_as_left(&stat) {
            return Ok(());
        }
        if stat.links == 0 {
            return self.let_go_of_removed(path);
        }
        if target.gap.is_none() && (target.length..=target.touched).contains(&stat.length) {
            return target.cut_touched().map_err(|error| explain("write", as_path(path), &error));
        }
        let left = target.gap.map_or(target.length, |(left, _)| left.min(target.length));
        let at = match target.gap {
            // What this output wrote behind the others is still the end.
            Some((_, at)) if stat.length == target.length => at,
            _ => stat.length,
        };
        let mut records = Vec::new();
        let (identity, compression) = (target.identity, Some(self.options.compression));
        let marker = marker_of(&*target.file, at).map_err(looked)?;
        let opened =
            Opened { number: 0, step: Step::Opened, identity, length: at, marker, compression, path: path.to_vec() };
        if at > left {
            records.push(Opened { step: Step::Left, length: left, marker: 0, ..opened.clone() });
        }
        records.push(opened);
        let holds_more = target.holds_more();
        let gap = target.gap.take();
        (target.length, target.touched) = (stat.length, stat.length);
        target.generation += u32::from(at < left);
        if let Err(error) = self.journal.append(records) {
            return Err(self.poison(explain("write the journal for", as_path(path), &error)));
        }
        let what = self.tell(path, left, at, gap.is_some());
        if holds_more {
            // The member goes on from bytes that are not before it any more, and what it holds was delivered.
            return Err(self.poison(format!("{what}; what was written since the last commit is written again")));
        }
        self.go_on_behind(path, &stat)
    }

    /// Says and counts what somebody did to a file that this output had left at `left`, and that goes on at `at`.
    fn tell(&mut self, path: &[u8], left: u64, at: u64, is_between: bool) -> String {
        let shown = as_path(path).display();
        let (kind, what) = match at.cmp(&left) {
            std::cmp::Ordering::Less if is_between => {
                (Interference::Truncated, format!("{shown} was cut below {left} bytes by somebody"))
            }
            std::cmp::Ordering::Less => {
                (Interference::Truncated, format!("{shown} was cut from {left} to {at} bytes by somebody"))
            }
            _ => {
                let bytes = at - left;
                (Interference::Written, format!("{bytes} bytes were written to {shown} by somebody"))
            }
        };
        self.count(kind);
        if self.told.len() < TOLD_MAX && self.told.insert(path.to_vec()) {
            self.warn(&format!(
                "{what}; they stay, and this output goes on behind what is there. Let nobody else write to its files: lines can \
                 be repeated after a crash, and compressed files begun anew. It is told once for a file"
            ));
        }
        what
    }

    fn count(&self, kind: Interference) {
        self.counters.interferences[kind as usize].add(1);
    }

    /// Finds out how a file that others wrote to ends, and sets it aside if nothing can go behind it.
    fn go_on_behind(&mut self, path: &[u8], stat: &Stat) -> Result<(), String> {
        let Some(target) = self.files.get(path) else { return Ok(()) };
        let file = target.file.clone();
        let end = self.end_of(path, &file, stat, Trust::Nothing);
        let end = end.map_err(|error| explain("read", as_path(path), &error))?;
        if end == End::Unfit {
            let is_there = self.disk.stat(as_path(path)).is_ok_and(|found| found.inode == stat.inode);
            if is_there {
                self.set_aside(path).map_err(|error| explain("set aside", as_path(path), &error))?;
            }
            self.put_away(path);
            return Ok(());
        }
        if let Some(target) = self.files.get_mut(path) {
            target.within_line = end == End::WithinLine;
        }
        Ok(())
    }

    /// Lets go of a file that somebody removed: what is written to it now would be gone with it.
    fn let_go_of_removed(&mut self, path: &[u8]) -> Result<(), String> {
        let shown = as_path(path).display();
        tracing::info!(output = %self.name, "{shown} was removed; a new file follows");
        self.count(Interference::Moved);
        let removed = self.files.remove(path);
        if removed.is_some_and(|target| target.holds_more()) {
            return Err(self.poison(format!(
                "{shown} was removed by somebody; what was written since the last commit is written again"
            )));
        }
        Ok(())
    }
}
