//! Handles what other programs do to the files of an output: write to them, truncate, move, remove or replace them.
//!
//! Guarantees: bytes of other programs stay. This output continues after them, or in a new file if nothing can be appended.
//! No hole is left where a file was truncated. If an open file was moved or removed, it is closed. Delivered bytes that are
//! not in the file because of that are written again. Each case is always counted, and logged once per file. Does not restore
//! what others removed, and does not detect bytes that were changed without a change of the length.

use super::*;
use tailwater_shards::counters::Interference;

/// Maximum number of files that are remembered as reported.
const TOLD_MAX: usize = 1024;

impl<D: Disk> Writer<D> {
    /// Checks files for changes by other programs, and rotates those that are old enough.
    pub fn look_after(&mut self, now: Now) -> Result<(), String> {
        if self.poisoned.is_some() {
            return Ok(());
        }
        self.moment = now.monotonic;
        self.count_refused(now);
        let paths: Vec<Vec<u8>> = self.files.keys().cloned().collect();
        let mut failed = Ok(());
        for path in paths {
            // What somebody did to one file must not keep the others from a look.
            failed = failed.and(self.look_after_one(&path, now));
        }
        self.hand_over(false, now)?;
        failed
    }

    fn look_after_one(&mut self, path: &[u8], now: Now) -> Result<(), String> {
        self.settle(path)?;
        let Some(target) = self.files.get(path) else { return Ok(()) };
        match self.places.is_at(as_path(path), &target.identity) {
            // What blocks a rotation is reported with the next event for the file.
            Ok(true) if self.is_due(path, 0, now) => self.rotate(path, now).map(drop),
            Ok(true) => Ok(()),
            Err(error) if is_gone(&error) => self.close_moved(path, now),
            Err(error) if self.is_alone(as_path(path), &error) => Ok(()),
            Err(error) => Err(explain("look at", as_path(path), &error)),
            Ok(false) => self.close_moved(path, now),
        }
    }

    fn close_moved(&mut self, path: &[u8], now: Now) -> Result<(), String> {
        self.count(Interference::Moved);
        tracing::info!(output = %self.name, "{} was moved; continuing in a new file", as_path(path).display());
        self.close_one(path, now)
    }

    /// Makes sure that a file is as this output left it, or handles what other programs did to it: the next byte is appended
    /// after theirs. Afterwards the file may be closed. Costs one `stat` call if the file is unchanged.
    pub(super) fn settle(&mut self, path: &[u8]) -> Result<(), String> {
        let Some(target) = self.files.get_mut(path) else { return Ok(()) };
        let stat = match target.file.stat() {
            Ok(stat) => stat,
            Err(error) => return Err(self.unsure_of(path, "look at", &error)),
        };
        if target.is_as_left(&stat) {
            return Ok(());
        }
        if stat.links == 0 {
            return self.close_removed(path);
        }
        if target.gap.is_none() && (target.length..=target.touched).contains(&stat.length) {
            return target.remove_touched().map_err(|error| explain("write", as_path(path), &error));
        }
        let left = target.gap.map_or(target.length, |(left, _)| left.min(target.length));
        let at = match target.gap {
            // The bytes that this output wrote after the others are still at the end.
            Some((_, at)) if stat.length == target.length => at,
            _ => stat.length,
        };
        let mut records = Vec::new();
        let (identity, compression) = (target.identity, Some(self.options.compression));
        let marker = match marker_of(&*target.file, at) {
            Ok(marker) => marker,
            Err(error) => return Err(self.unsure_of(path, "read", &error)),
        };
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
            // The open member would continue after bytes that are gone, and its content was delivered.
            return Err(
                self.poison_by(path, format!("{what}; what was written since the last commit is written again"))
            );
        }
        self.continue_after(path, &stat)
    }

    /// Counts and reports what another program did to a file that this output had left at `left` bytes and that continues at
    /// `at`.
    fn tell(&mut self, path: &[u8], left: u64, at: u64, is_between: bool) -> String {
        let shown = as_path(path).display();
        let (kind, what) = match at.cmp(&left) {
            std::cmp::Ordering::Less if is_between => {
                (Interference::Truncated, format!("{shown} was truncated below {left} bytes by another program"))
            }
            std::cmp::Ordering::Less => {
                (Interference::Truncated, format!("{shown} was truncated from {left} to {at} bytes by another program"))
            }
            _ => {
                let bytes = at - left;
                (Interference::Written, format!("another program wrote {} to {shown}", counted(bytes, "byte")))
            }
        };
        self.count(kind);
        if self.told.len() < TOLD_MAX && self.told.insert(path.to_vec()) {
            self.warn(&format!(
                "{what}; this output continues at the end of the file. No other program should write to it: after a crash, lines \
                 may be repeated and a compressed file may be replaced by a new one. Logged once per file"
            ));
        }
        what
    }

    fn count(&self, kind: Interference) {
        self.counters.interferences[kind as usize].add(1);
    }

    /// Finds out how a file ends that other programs wrote to, and renames it if nothing can be appended.
    fn continue_after(&mut self, path: &[u8], stat: &Stat) -> Result<(), String> {
        let Some(target) = self.files.get(path) else { return Ok(()) };
        let file = target.file.clone();
        let end = self.end_of(path, &file, stat, Trust::Nothing);
        let end = end.map_err(|error| self.unsure_of(path, "read", &error))?;
        if end == End::Unfit {
            let is_there = self.places.is_at(as_path(path), &Identity::of(stat));
            if is_there.is_ok_and(|is_there| is_there)
                && let Err(error) = self.set_aside(path)
                // Otherwise it is reported with the next event for the file, when it is opened again.
                && !self.is_alone(as_path(path), &error)
            {
                return Err(explain("set aside", as_path(path), &error));
            }
            self.put_away(path);
            // If it is still at its path, it must not be taken for one that can be continued.
            self.leave_closing();
            return self.poisoned.clone().map_or(Ok(()), Err);
        }
        if let Some(target) = self.files.get_mut(path) {
            target.within_line = end == End::WithinLine;
        }
        Ok(())
    }

    /// Closes a file that another program removed: anything that is written to it now would be lost.
    fn close_removed(&mut self, path: &[u8]) -> Result<(), String> {
        let shown = as_path(path).display();
        tracing::info!(output = %self.name, "{shown} was removed; continuing in a new file");
        self.count(Interference::Moved);
        let removed = self.files.remove(path);
        if removed.is_some_and(|target| target.holds_more()) {
            let reason = format!(
                "{shown} was removed by another program; what was written since the last commit is written again"
            );
            return Err(self.poison_by(path, reason));
        }
        Ok(())
    }
}
