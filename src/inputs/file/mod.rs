//! The `file` input: follows log files through rotation, truncation, crash and restart.
//!
//! ```text
//!  home shard                                        every shard
//!  discover ── scan directories ─────> home ── assign ──> owner ── ready files ──> reader ── batches ──> lanes
//!      ^ watch events, rescan            ^                  │
//!      └─────────────────────────────────└──── released ────┘
//! ```
//!
//! Guarantees: every line that was in a followed file while it was open is read once, in the order of the file. A file with
//! unread bytes is closed only if its owner (user) has too many open, and then opened again for its turn. Bytes that a
//! truncation destroyed are counted. Positions are kept in the WAL, and a restart continues where it ends. Notes beside it name
//! the files that still had unread bytes (see [`notes`]). Does not map files into memory. Symbolic and hard links are read only
//! as far as the settings allow (see [`scout`]). Reads gzip and zstd archives only in place of a followed file that is gone.

mod archive;
mod away;
mod backwards;
mod by_tree;
mod content;
mod copies;
mod discover;
mod excludes;
pub mod fixed;
mod follow;
mod glimpse;
mod home;
mod identify;
pub mod identity;
mod neighbours;
mod notes;
mod nuls;
mod own;
mod owner;
mod patience;
pub mod patterns;
mod place;
mod post;
mod reader;
mod recency;
pub mod scout;
mod seek;
mod suspects;
#[cfg(test)]
mod tests;
mod watcher;

use crate::codec::encoding::Encoding;
use crate::codec::envelope::EnvelopeKind;
use crate::codec::framing::{LineTooLong, Rules};
use crate::config::component::{Component, Facts, InputSettings, Mistake};
use crate::config::room::Room;
use crate::config::timezone::Timezone;
use crate::config::types::{ByteSize, FieldNames, OnConflict, Period, Ring};
use crate::parsers::{Events, Parse};
use own::Own;
use patterns::{HardLinks, LinkRules, Patterns};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::env::{Disk, Env};
use tailwater_shards::limits::{LINE_BYTES_DEFAULT, LINE_BYTES_MAX};
use tailwater_shards::plugin::{InputContext, InputSpec, LocalFuture, Placement, PluginError};
use tailwater_shards::route::ShardBy as Route;

/// Smallest `max_line_bytes`: shorter pieces would cost more than the lines they come from.
const LINE_BYTES_MIN: u64 = 64;

/// Where reading starts in files that exist when the input runs for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// At their first byte.
    #[default]
    Beginning,
    /// At the last line if it is unfinished, otherwise at the end. Files that appear later are read from their beginning.
    End,
}

/// Which shard processes the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShardBy {
    /// The shard that reads the file. The order of its lines is kept.
    #[default]
    Source,
    /// All shards in turn, for a single file that is too much for one core. The order of its lines may change.
    Spread,
}

/// The settings of the input.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Files to follow, as globs: `*`, `?`, `[a-z]`, `{a,b}`, and `**` for any number of directories. For the files in a
    /// directory, write `/dir/*`.
    pub include: Vec<String>,
    /// Files and directories to exclude, as globs. A pattern without `/`, such as `*.gz`, excludes this name in every directory.
    /// With `/` at its end, it excludes a directory with everything below it. What is behind a symbolic link is excluded by the path
    /// that it leads to as well.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Follow symbolic links that are below the fixed part of a pattern, which ends before its first wildcard, or before the
    /// name of the file. Links in the fixed part itself are always followed if root or the user of Tailwater made them, or if
    /// their maker owns what they lead to.
    #[serde(default)]
    pub follow_links: bool,
    /// Directories to which such links may lead, in addition to the fixed parts of the patterns. `exclude` applies to what they
    /// lead to as well.
    #[serde(default)]
    pub link_targets: Vec<String>,
    /// Which files with several names (hard links) are read.
    #[serde(default)]
    pub hard_links: HardLinks,
    /// Where reading starts in files that exist at the very first run.
    #[serde(default)]
    pub start_at: StartAt,
    /// Files that were last modified longer ago than this when they are found for the first time count as read: only lines
    /// that are appended later are read. By default all files are read.
    #[serde(default)]
    pub ignore_older: Option<Period>,
    /// The longest line, without its line ending; 64B to 4MiB.
    #[serde(default = "default_max_line_bytes")]
    pub max_line_bytes: ByteSize,
    /// What happens to longer lines.
    #[serde(default)]
    pub line_too_long: LineTooLong,
    /// Keep a carriage return before the newline as part of the line.
    #[serde(default)]
    pub keep_cr: bool,
    /// Drop empty lines.
    #[serde(default = "default_skip_empty")]
    pub skip_empty: bool,
    /// The character encoding of the files. A byte order mark is removed.
    #[serde(default)]
    pub encoding: Encoding,
    /// How long a rotated or deleted file is followed after it last grew, for late writes. After that, a last line without a
    /// newline counts as complete.
    #[serde(default = "default_rotate_wait")]
    pub rotate_wait: Period,
    /// Which shard processes the events.
    #[serde(default)]
    pub shard_by: ShardBy,
    /// How events are parsed. By default, they are plain text.
    #[serde(default)]
    pub parse: Option<Parse>,
    /// The time zone for times without one; by default the zone of the process.
    #[serde(default)]
    pub timezone: Option<Timezone>,
    /// Names of the fields of each event.
    #[serde(default)]
    pub fields: FieldNames,
    /// Whose value a field has if both the input and an event have it.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// The lane to the pipeline.
    #[serde(default)]
    pub ring: Ring,
}

fn default_max_line_bytes() -> ByteSize {
    ByteSize(LINE_BYTES_DEFAULT as u64)
}

fn default_skip_empty() -> bool {
    true
}

fn default_rotate_wait() -> Period {
    Period(Duration::from_secs(5))
}

impl Component for Settings {
    const NAME: &'static str = "file";
    const SUMMARY: &'static str = "follows log files through rotation and truncation";
    const EXAMPLE: &'static str = "type: file\ninclude: [/var/log/app/*.log]\n";

    fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.include.is_empty() {
            mistakes.push(Mistake::new("include", "the list is empty", "give at least one path or glob"));
        }
        for (key, globs) in [("include", &self.include), ("exclude", &self.exclude)] {
            for (number, glob) in globs.iter().enumerate() {
                let wrong = patterns::check_glob(glob).err();
                let help = "use a pattern like /var/log/app/*.log";
                mistakes.extend(wrong.map(|what| Mistake::new(format!("{key}.{number}"), what, help)));
            }
        }
        for (number, glob) in
            self.exclude.iter().enumerate().filter(|(_, glob)| glob.split('/').any(|part| part == ".."))
        {
            let what = format!("{glob:?} has `..`, which matches no path");
            mistakes.push(Mistake::new(format!("exclude.{number}"), what, "write the path without `..`"));
        }
        mistakes.extend(self.check_targets());
        let bytes = self.max_line_bytes.0;
        if !(LINE_BYTES_MIN..=LINE_BYTES_MAX as u64).contains(&bytes) {
            let what = format!(
                "{} is not between {LINE_BYTES_MIN}B and {}",
                self.max_line_bytes,
                ByteSize(LINE_BYTES_MAX as u64)
            );
            mistakes.push(Mistake::new("max_line_bytes", what, "`line_too_long` says what happens to longer lines"));
        }
        mistakes
    }
}

impl Settings {
    fn check_targets(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if !self.link_targets.is_empty() && !self.follow_links {
            let help = "set `follow_links: true`, or remove `link_targets`";
            let mistake = Mistake::new("link_targets", "links are not followed, so they lead nowhere", help);
            mistakes.push(mistake.needing(&["follow_links"]));
        }
        for (number, target) in self.link_targets.iter().enumerate() {
            let what = match target {
                target if !patterns::is_literal(target) => format!("{target:?} has a wildcard"),
                target if !target.starts_with('/') => format!("{target:?} is not an absolute path"),
                _ => continue,
            };
            let help = "name directories, such as /var/log/pods: links may lead to everything below them";
            mistakes.push(Mistake::new(format!("link_targets.{number}"), what, help));
        }
        mistakes
    }

    /// What the settings say about links.
    pub fn link_rules(&self) -> LinkRules {
        LinkRules {
            follow: self.follow_links,
            targets: self.link_targets.iter().map(PathBuf::from).collect(),
            hard: self.hard_links,
        }
    }
}

impl<E: Env> InputSettings<E> for Settings {
    fn spec(&self, facts: &Facts) -> Arc<dyn InputSpec<E>> {
        Arc::new(Spec(self.clone(), Own::new(facts), facts.room.clone()))
    }

    fn events(&self) -> Events {
        Events {
            fields: self.fields.clone(),
            on_conflict: self.on_conflict,
            kind: EnvelopeKind::File,
            parse: self.parse.clone(),
            timezone: self.timezone.clone(),
            bytes_max: InputSettings::<E>::line_bytes_max(self),
        }
    }

    fn fields(&self) -> &FieldNames {
        &self.fields
    }

    fn ring(&self) -> &Ring {
        &self.ring
    }

    fn shard_by(&self) -> Route {
        match self.shard_by {
            ShardBy::Source => Route::Source,
            ShardBy::Spread => Route::Spread,
        }
    }

    fn line_bytes_max(&self) -> usize {
        self.max_line_bytes.0 as usize
    }

    fn rules(&self) -> Rules {
        let line_bytes_max = InputSettings::<E>::line_bytes_max(self);
        Rules {
            line_bytes_max,
            too_long: self.line_too_long,
            keep_cr: self.keep_cr,
            skip_nuls: !self.encoding.is_wide(),
            skip_empty: self.skip_empty,
            encoding: self.encoding,
        }
    }

    fn descriptors_max(&self) -> u64 {
        // In addition to the followed files: the watch, the files that are being identified, what leads to one of them, the same for
        // jobs that are left alone, archives, and the files that are held open to be compared.
        let jobs = 6 * (1 + patience::LEFT_MAX);
        let identified = (home::files::IDENTIFY_FILES + jobs + home::missing::ARCHIVES_MAX) as u64;
        owner::descriptors::OPEN_FILES_HARD_MAX as u64 + identified + home::crowd::OFFERED_MAX
    }

    fn follows_files(&self) -> bool {
        true
    }
}

/// Checked settings on their way to the shards.
struct Spec(Settings, Own, Arc<Room>);

impl<E: Env> InputSpec<E> for Spec {
    fn placement(&self) -> Placement {
        Placement::Every
    }

    fn run(&self, context: InputContext<E>) -> LocalFuture<'static, Result<(), PluginError>> {
        let (settings, own, room) = (self.0.clone(), self.1.clone(), self.2.clone());
        Box::pin(async move {
            let (disk, data_dir) = (context.env.disk().clone(), context.data_dir.clone());
            let look = move || (disk.canonical(Path::new(".")), own.with_process(&disk, &data_dir));
            let (here, own) = context.env.blocking(look).await;
            let base = here.unwrap_or_else(|_| "/".into());
            let patterns = Patterns::new(&settings.include, &settings.exclude, &base).map_err(PluginError::Fatal)?;
            let patterns = Arc::new(patterns.with(settings.link_rules(), own));
            let options = Rc::new(owner::Options {
                rules: InputSettings::<E>::rules(&settings),
                rotate_wait: settings.rotate_wait.0,
                start_at: settings.start_at,
                ignore_older: settings.ignore_older.map(|age| age.0),
                patterns: patterns.clone(),
                room,
            });
            let post = Rc::new(post::Post::new(context.peers.clone(), context.shards));
            let owner = Rc::new(owner::Owner::new(&context, options.clone(), post.clone()));
            let control = home::control(&context, owner.clone(), patterns, options, post);
            let result = futures_lite::future::or(reader::run(&context, &owner), control).await;
            owner.notebook.write(owner.last_notes(&context.lanes)).await;
            owner.close_all();
            result
        })
    }
}
