//! The generations of a log, which are read oldest first.
//!
//! Guarantees: a file whose name is the name of a log plus a number or date is a generation of this log, and is read before the
//! next generation (see [`super::super::owner`]). The name alone is not enough: the log must exist or have existed. A file waits only
//! for files of its own owner and of root, because others could make theirs take as long as they like. Also here: files that
//! continue after an input that has a different name now.

use super::super::copies::{originals, undated};
use super::super::post::FileId;
use super::Home;
use std::path::{Path, PathBuf};
use tailwater_shards::batch::SourceRange;
use tailwater_shards::counted::counted;
use tailwater_shards::env::Env;
use tailwater_shards::wal::SourceState;

/// The user whose files are waited for by files of all users.
const ROOT: u32 = 0;

impl<E: Env> Home<'_, E> {
    /// The generations that must be read before the file `id`, which was found at `path` and belongs to `owner`. And the one whose shard
    /// it gets, so that all are on one shard.
    pub(super) fn generations_before(&mut self, id: FileId, path: &Path, owner: u32) -> (Vec<FileId>, Option<FileId>) {
        let log = self.log_of(path);
        let beside = self.latest.insert(log.clone(), id);
        let by_root = self.latest_of.get(&(log.clone(), ROOT)).copied().filter(|_| owner != ROOT);
        let by_owner = self.latest_of.insert((log, owner), id);
        let most = 2 * self.files.len() + 64;
        let is_there = |latest: &FileId| *latest == id || self.files.contains_key(latest);
        if self.latest.len() > most {
            self.latest.retain(|_, latest| is_there(latest));
        }
        if self.latest_of.len() > most {
            self.latest_of.retain(|_, latest| is_there(latest));
        }
        let before = by_root.into_iter().chain(by_owner).filter(|earlier| self.files.contains_key(earlier)).collect();
        (before, beside)
    }

    /// The log of which a file is a generation: the file itself, or the log whose name it has plus a number or date.
    fn log_of(&self, path: &Path) -> PathBuf {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path.to_path_buf() };
        let directory = self.directories.get(parent);
        let mut logs = originals(name).chain(undated(name)).map(|name| (parent.join(&name), name));
        let is_log = |(path, name): &(PathBuf, _)| {
            self.latest.contains_key(path) || directory.is_some_and(|directory| directory.names.contains_key(name))
        };
        logs.find(is_log).map_or_else(|| path.to_path_buf(), |(path, _)| path)
    }

    /// Splits a state into this input's own state, or the ranges that an input read which no longer exists. Those ranges are
    /// recorded again under a new key, because two inputs may continue after the same one.
    pub(super) fn adopt(&mut self, state: Option<SourceState>) -> (Option<SourceState>, Vec<SourceRange>) {
        let state = match state {
            Some(state) if *state.source.input != *self.context.name => state,
            own => return (own, Vec::new()),
        };
        *self.adopted.entry(state.source.input.clone()).or_default() += 1;
        let range = |(from, to): &(u64, u64)| SourceRange { from: *from, to: *to, marker: state.marker };
        (None, state.intervals.iter().map(range).collect())
    }

    /// Reports files that continue where an input ended that is no longer configured.
    pub(super) fn tell_of_adopted(&mut self) {
        for (input, files) in std::mem::take(&mut self.adopted) {
            tracing::info!(
                component_id = %self.context.name,
                "{} continued where the input `{input}` ended, which is no longer configured",
                counted(files, "file")
            );
        }
    }
}
