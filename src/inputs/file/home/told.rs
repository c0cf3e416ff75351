//! What is reported of patterns and paths.
//!
//! Guarantees: the same failure of a path is reported once, as long as it is remembered, and the number of those is bounded. At most
//! [`LINES_MAX`] such lines are written in a minute: strangers decide how many paths fail, and how often.

use super::super::patience::{HANGS, Work};
use super::Home;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tailwater_shards::env::{Disk, Env, FileKind, Monotonic};

/// Paths of which an error was told that are remembered. Beyond, some are told again.
const TOLD_MAX: usize = 16 * 1024;

/// Lines about failures of paths that are written in a period. The others are counted.
const LINES_MAX: u64 = 100;
const PERIOD: Duration = Duration::from_secs(60);

impl<E: Env> Home<'_, E> {
    /// Reports the patterns that match nothing at the start.
    pub(super) async fn tell_idle_patterns(&self) {
        let (disk, patterns) = (self.context.env.disk().clone(), self.patterns.clone());
        let patience = &self.owner.patience;
        let look = move |work: &Work<Vec<String>>| {
            let real = |path: &Path| {
                work.steps.at_path(path);
                disk.canonical(path).ok()
            };
            work.done(patterns.idle(real));
        };
        let (idle, late) = patience.attend(HANGS, look).await;
        late.into_iter().for_each(|late| patience.leave_unused(late.path(), late));
        for glob in idle.into_iter().flatten() {
            self.owner.error(&format!(
                "exclude {glob}: it can match nothing that `include` matches or links may lead to; begin it as the pattern of \
                 `include`, or exclude a name in every directory, as in `*.gz`"
            ));
        }
        let offered = self.offered_paths();
        let followed = self.files.values().flat_map(|known| known.paths.iter());
        let paths: Vec<&PathBuf> = followed.chain(&offered).collect();
        let is_followed = |index: usize| paths.iter().any(|path| self.patterns.matches(index, path));
        let is_empty = |index: &usize| !is_followed(*index) && !self.has_names_of(*index);
        for index in (0..self.patterns.bases.len()).filter(is_empty) {
            let (glob, base) = &self.patterns.bases[index];
            let (disk, path) = (self.context.env.disk().clone(), PathBuf::from(glob));
            let at = path.clone();
            let look = move || (disk.stat(&path), disk.is_link(&path).unwrap_or(false));
            let Some((stat, is_link)) = patience.once(&at, look).await else { continue };
            let is_link = is_link && !self.patterns.links.follow;
            if stat.is_ok_and(|stat| stat.kind == FileKind::Directory) {
                let files = glob.trim_end_matches('/');
                self.owner.error(&format!("include {glob}: nothing to follow: it is a directory; write {files}/*"));
                continue;
            }
            let stamp = self.directories.get(base).and_then(|directory| directory.stamp);
            let cause = match stamp {
                Some(_) if is_link => "it is a symbolic link, and `follow_links` is false",
                Some(_) => "no file there matches",
                None => "its directory does not exist or cannot be read",
            };
            self.owner.error(&format!("include {glob}: nothing to follow yet: {cause}; checking every second"));
        }
    }

    /// Whether names of a pattern were found that are not followed: they wait, for example for room or for permission, and why was told.
    fn has_names_of(&self, index: usize) -> bool {
        let base = &self.patterns.bases[index].1;
        let below = self.directories.iter().filter(|(path, _)| path.starts_with(base));
        below.into_iter().any(|(path, directory)| {
            let mut names = directory.names.keys().chain(&directory.retry);
            directory.crowded > 0 || names.any(|name| self.patterns.matches(index, &path.join(name)))
        })
    }

    pub(super) fn tell_once(&mut self, path: &Path, error: &io::Error, what: &str, next: &str) {
        if self.told.is_new(path, error.kind()) {
            match self.told.may_tell(self.context.env.now()) {
                true => self.owner.error(&format!("{}: {what}: {error}; {next}", path.display())),
                false => self.context.counters.errors.add(1),
            }
        }
    }
}

/// Failures of paths that were told.
#[derive(Default)]
pub(super) struct Told {
    kinds: HashMap<PathBuf, io::ErrorKind>,
    /// Since when lines are counted, and how many there were.
    since: Monotonic,
    lines: u64,
}

impl Told {
    /// Whether something was told of a path that is remembered.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.kinds.contains_key(path)
    }

    /// Remembers a failure. Returns whether it is another one than before.
    pub(super) fn is_new(&mut self, path: &Path, kind: io::ErrorKind) -> bool {
        if self.kinds.len() >= TOLD_MAX {
            self.kinds.clear();
        }
        self.kinds.insert(path.to_path_buf(), kind) != Some(kind)
    }

    /// The failure is over.
    pub(super) fn forget(&mut self, path: &Path) {
        self.kinds.remove(path);
    }

    /// Counts a line. Returns whether it is one of those that may be written.
    fn may_tell(&mut self, now: Monotonic) -> bool {
        if now.since(self.since) >= PERIOD {
            if self.lines > LINES_MAX {
                tracing::warn!("{} more failures of files were only counted", self.lines - LINES_MAX);
            }
            (self.since, self.lines) = (now, 0);
        }
        self.lines += 1;
        self.lines <= LINES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_fail_without_end_do_not_fill_the_log() {
        let (mut told, mut lines) = (Told::default(), 0);
        for second in 0..600 {
            let now = Monotonic::default().after(Duration::from_secs(second));
            for number in 0..2 * TOLD_MAX / 100 {
                let path = PathBuf::from(format!("/log/{second}/{number}"));
                lines += u64::from(told.is_new(&path, io::ErrorKind::PermissionDenied) && told.may_tell(now));
            }
        }
        assert!((100..=11 * LINES_MAX).contains(&lines), "{lines}");
        assert!(told.kinds.len() <= TOLD_MAX);
        assert!(told.is_new(Path::new("/log/a"), io::ErrorKind::NotFound));
        assert!(!told.is_new(Path::new("/log/a"), io::ErrorKind::NotFound));
        told.forget(Path::new("/log/a"));
        assert!(told.is_new(Path::new("/log/a"), io::ErrorKind::NotFound));
    }
}
