//! What is reported of patterns and paths.
//!
//! Guarantees: the same failure of a path is reported once, as long as it is remembered, and the number of those is bounded.

use super::Home;
use std::io;
use std::path::{Path, PathBuf};
use tailwater_shards::env::{Disk, Env, FileKind};

/// Paths of which an error was told that are remembered. Beyond, some are told again.
const TOLD_MAX: usize = 16 * 1024;

impl<E: Env> Home<'_, E> {
    /// Reports the patterns that match nothing at the start.
    pub(super) async fn tell_idle_patterns(&self) {
        let (disk, patterns) = (self.context.env.disk().clone(), self.patterns.clone());
        let look = move || patterns.idle(|path| disk.canonical(path).ok());
        for glob in self.context.env.blocking(look).await {
            self.owner.error(&format!(
                "exclude {glob}: it can match nothing that `include` matches or links may lead to; begin it as the pattern of \
                 `include`, or exclude a name in every directory, as in `*.gz`"
            ));
        }
        let offered = self.offered_paths();
        let followed = self.files.values().flat_map(|known| known.paths.iter());
        let paths: Vec<&PathBuf> = followed.chain(&offered).collect();
        let is_empty = |index: &usize| !paths.iter().any(|path| self.patterns.matches(*index, path));
        for index in (0..self.patterns.bases.len()).filter(is_empty) {
            let (glob, base) = &self.patterns.bases[index];
            let (disk, path) = (self.context.env.disk().clone(), PathBuf::from(glob));
            let look = move || (disk.stat(&path), disk.is_link(&path).unwrap_or(false));
            let (stat, is_link) = self.context.env.blocking(look).await;
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

    pub(super) fn tell_once(&mut self, path: &Path, error: &io::Error, what: &str, next: &str) {
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        if self.told.insert(path.to_path_buf(), error.kind()) != Some(error.kind()) {
            self.owner.error(&format!("{}: {what}: {error}; {next}", path.display()));
        }
    }
}
