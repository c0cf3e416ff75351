//! The `file` output: writes events to files whose path may depend on the event's date and fields.
//!
//! Guarantees: after a kill or a power loss, no event that was in the WAL at that time is missing or repeated. A file holds
//! events in the order of the WAL. A path never leaves the fixed directory of its template. Does not delete files of past
//! dates (only `rotate.keep` removes files), and does not write to pipes and devices.
//!
//! # Why nothing is repeated
//!
//! The engine delivers, then commits: the cursor together with this output's state, which holds the length of every open file
//! ([`record`]). A start truncates each of these files to that length, and the engine delivers again what was removed. That
//! leaves files that are not in the state, because they were created or opened again after it. So there is a journal beside
//! the WAL: *before the first byte is written to a file that was not open, a record with its path, inode and current length
//! is durable.* A record that is newer than the state is undone as well: the file is truncated to that length. Every byte
//! that was written after a commit is either in a file that was open at that commit, which is in the state, or in a file that
//! was opened after it, which is in the journal. So all of these bytes are removed, and nothing else. This holds for any
//! state that comes back, also for one that is older than the last: a power loss does that to a WAL that was not synced yet.
//! For that reason records are kept for an hour after their commit, or for a minute if there are very many.
//!
//! Rotation renames files, so files are found by inode, under another name in the same directory if necessary. A rotated file
//! is truncated under its new name, and writing continues at the path: a rotation needs no record and is never undone. Each
//! rename is durable before the next one and before the new file exists. The next commit at the latest syncs a rotated or
//! evicted file before it is forgotten. A commit finishes the gzip member or zstd frame, so that truncation leaves complete
//! ones.
//!
//! If the fields of an event lead to a path that cannot be a file, because it is a directory, a link or a pipe, has other names, or
//! leads through a file or a link, only this event is rejected. So it is, after a while, whatever else fails where others can write
//! and works in the fixed directory (`alone.rs`). For every other reason why a file cannot be opened or written, the output waits
//! and retries.
//!
//! # Who may write to the directories
//!
//! Up to the first date or field the path belongs to the administrator. Below it, anyone may have placed, linked or exchanged
//! anything at any time (`places.rs`). So no link is followed there, only regular files with one name are opened, and a
//! file is looked at again after it was opened, before anything of it is cut.
//!
//! # Other programs that write
//!
//! A file belongs to one output. It is locked while it is open ([`writer`], `hold.rs`), and an output that needs the file of
//! another output waits until that one releases it. If programs that do not ask for the lock write to the file, their bytes
//! are neither overwritten nor removed: each write goes to the current end of the file, and the journal records where the
//! output stopped and where it continued (`others.rs`).
//!
//! # What is never truncated
//!
//! A start removes only bytes that will be delivered again, so it removes no more than the engine reports ([`Resume`]). There
//! can be more bytes after the commit than that: if positions come from an older copy of the data directory, if the WAL is
//! lost, damaged or kept in memory, or if another program appended lines. Each write is recorded before it is made
//! (`extents.rs`), so after a kill a file that is longer than its last write is not truncated. If a power loss took the last
//! frames of the WAL, the engine reports less than the sources will repeat. Then bytes that were written before the next
//! commit was due, by a run that did not end in an orderly way, are removed all the same. In all other cases, complete lines
//! and members stay and may be repeated. Only an incomplete line or member at the end is removed, and only after the commit.
//! A file is recognised by its inode number, its creation time and the bytes before its committed length. A file that another
//! program rewrote, or that reuses the number, is left unchanged. Nothing is appended to half a line (a newline is written
//! first), to half a member, or to another format (such a file is renamed to `path.aside-1`).
//!
//! If a file is shorter than at its commit, or missing, another program changed it or its disk lost data. This is reported as
//! an error, and writing continues at its end.

mod admitted;
pub mod compress;
mod instance;
pub mod journal;
mod names;
pub mod paths;
pub mod record;
pub mod template;
#[cfg(test)]
mod tests;
mod writer;

use super::encoding::{Encoding, message_field, output_full};
use super::letters::{DeadLetters, Owner};
use crate::codec::marked;
use crate::config::claims::Claims;
use crate::config::component::{Component, Facts, Mistake, OutputSettings};
use crate::config::timezone::Timezone;
use crate::config::types::{Batching, ByteSize, Encode, Newlines, Period, Retry, TextForm, WhenFull, WithoutMessage};
use admitted::Admitted;
use compress::Compression;
use instance::{FileOutput, Naming};
use record::State;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::delivery::OutputFull;
use tailwater_shards::dlq;
use tailwater_shards::env::{Access, Disk, Env};
use tailwater_shards::limits::COMMIT_STATE_BYTES_MAX;
use tailwater_shards::plugin::{
    LocalFuture, OpenResult, Output, OutputContext, OutputSpec, Placement, PluginError, Resume,
};
use template::PathTemplate;
use writer::{Blocked, Means, Options, Writer};

/// When a file is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// Rotate before the file grows larger than this on disk. Compressed files may exceed it by one delivery.
    #[serde(default)]
    pub bytes: Option<ByteSize>,
    /// Rotate when the first byte in the file is this old.
    #[serde(default)]
    pub age: Option<Period>,
    /// How many rotated files are kept for each path, as `path.1` (the newest), `path.2` and so on. Each date and each value of a field
    /// in `path` makes another path: files of earlier dates are never removed.
    #[serde(default = "keep_default")]
    pub keep: u32,
}

fn keep_default() -> u32 {
    5
}

/// Maximum number of rotated files for one path: a rotation renames each of them.
const KEEP_MAX: u32 = 1000;

/// Maximum number of open files, whatever is configured.
const OPEN_FILES_MAX: u32 = 1024;

/// Maximum number of paths that events may lead to, whatever is configured: up to 500 bytes of memory for each.
const PATHS_MAX: u32 = 1_000_000;

/// Permission bits of new files that belong to a group, unless the settings say others.
const MODE_WITH_GROUP: u32 = 0o640;

/// How long a start waits for files that another process holds before it says that it cannot open them, and how often it looks.
const LOCKS_WAIT: Duration = Duration::from_secs(5);
const LOCKS_INTERVAL: Duration = Duration::from_millis(100);

/// The settings of the output.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where events are written: an absolute path with dates (`%Y %m %d %F %H ...`, of the event) and fields. Something fixed, or
    /// a date, must come before the first field. If an event
    /// lacks a field, its default (`{{ host | default('none') }}`) or `unknown` is used. Null, objects and arrays count as
    /// missing. `/` in a field becomes `%2F`. Symbolic links are followed only up to the first directory with a date or field.
    #[serde(deserialize_with = "marked::text")]
    pub path: String,
    /// The time zone of the dates in `path`: a name such as `Europe/Berlin`, an offset such as `"+02:00"`, or `local`; by
    /// default UTC.
    #[serde(default)]
    pub timezone: Timezone,
    /// The directory that no path may leave; by default the part of `path` before the first date or field.
    #[serde(default)]
    pub base: Option<PathBuf>,
    /// How an event is encoded.
    #[serde(default)]
    pub encode: Encode,
    /// With `encode: text`, the field that holds the message.
    #[serde(default = "message_field")]
    pub message_field: String,
    /// With `encode: text`, what happens to newlines inside a message.
    #[serde(default)]
    pub newlines: Newlines,
    /// With `encode: text`, what happens to an event without a message.
    #[serde(default)]
    pub without_message: WithoutMessage,
    /// The permissions of new files, in octal and in quotes, such as `"0644"`; by default `"0640"` less the umask of the
    /// process. New directories get the same, and whoever may read the files may enter them; by default `"0750"` less the
    /// umask. Existing files and directories keep theirs.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// The group of new files and directories, by name or number; by default that of the process. The process must be a
    /// member of it, or run as root.
    #[serde(default)]
    pub group: Option<String>,
    /// How files are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// When a file is rotated; by default never.
    #[serde(default)]
    pub rotate: Option<Rotate>,
    /// Maximum number of open files, 1 to 1024. If more are needed, the least recently used one is closed.
    #[serde(default = "open_files_default")]
    pub max_open_files: u32,
    /// Maximum number of different values of the fields in `path`, or combinations of them, that get new files within a day, 1 to
    /// 1,000,000. Events with other values become dead letters. Dates do not count, except those of more than 7 days ago or more than
    /// a day ahead: of these, as many paths get new files.
    #[serde(default = "paths_default")]
    pub max_paths: u32,
    /// How deliveries are grouped.
    #[serde(default)]
    pub batch: Batching,
    /// How failed deliveries are retried.
    #[serde(default)]
    pub retry: Retry,
    /// What happens to its events if the WAL is full because of this output.
    #[serde(default)]
    pub when_full: WhenFull,
    /// What happens to its dead letters beyond its share of the queue.
    #[serde(default)]
    pub dead_letters: DeadLetters,
}

/// The permissions of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Mode(pub u32);

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Mode, String> {
        let digits = text.strip_prefix("0o").unwrap_or(&text);
        let is_octal = (3..=4).contains(&digits.len()) && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        match u32::from_str_radix(digits, 8) {
            Ok(mode) if is_octal && mode <= 0o777 && mode & 0o600 == 0o600 => Ok(Mode(mode)),
            Ok(mode) if is_octal && mode <= 0o777 => Err(format!("`{text}` keeps the owner from reading and writing")),
            _ => Err(format!("`{text}` is not a mode such as \"0640\"")),
        }
    }
}

fn open_files_default() -> u32 {
    256
}

fn paths_default() -> u32 {
    10_000
}

impl Component for Settings {
    const NAME: &'static str = "file";
    const SUMMARY: &'static str =
        "Writes events to files, by date and field. After a crash, no event in the WAL is repeated.";
    const EXAMPLE: &'static str =
        "type: file\npath: /var/log/collected/{{ host }}/%F.log\nrotate: {bytes: 100MiB, keep: 10}\n";

    fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        match PathTemplate::parse(&self.path) {
            Ok(template) => mistakes.extend(self.check_template(&template)),
            Err(wrong) => {
                let help = "write it like /var/log/out/{{ host }}/%F.log";
                mistakes.extend(wrong.into_iter().map(|what| Mistake::new("path", what, help)));
            }
        }
        if !(1..=OPEN_FILES_MAX).contains(&self.max_open_files) {
            let what = format!("{} is not between 1 and {OPEN_FILES_MAX}", self.max_open_files);
            mistakes.push(Mistake::new("max_open_files", what, "remove the key to use the default, 256"));
        }
        if !(1..=PATHS_MAX).contains(&self.max_paths) {
            let what = format!("{} is not between 1 and {PATHS_MAX}", self.max_paths);
            mistakes.push(Mistake::new("max_paths", what, "remove the key to use the default, 10000"));
        }
        mistakes.extend(self.rotate.iter().flat_map(Rotate::check));
        mistakes.extend(self.dead_letters.check());
        mistakes
    }

    fn check_files<D: Disk>(&self, disk: &D) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if let Some(name) = &self.group
            && !is_number(name)
            && let Ok(None) = disk.group(name)
        {
            let help =
                "use a group of this machine, or its number; to check on another machine, use `validate --no-files`";
            let what = format!("there is no group `{name}`");
            mistakes.push(Mistake::new("group", what, help));
        }
        if let Ok(template) = self.template() {
            mistakes.extend(paths::in_the_way(&self.path, &template, disk));
        }
        mistakes
    }
}

fn is_number(name: &str) -> bool {
    name.parse::<u32>().is_ok()
}

impl Rotate {
    fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.bytes.is_none() && self.age.is_none() {
            let help = "give one, or leave `rotate` out";
            let mistake = Mistake::new("rotate", "neither `bytes` nor `age` is given", help);
            mistakes.push(mistake.needing(&["rotate.bytes", "rotate.age"]));
        }
        if self.bytes == Some(ByteSize(0)) {
            mistakes.push(Mistake::new("rotate.bytes", "it must be more than 0", "write it like 100MiB"));
        }
        if self.age == Some(Period(Duration::ZERO)) {
            mistakes.push(Mistake::new("rotate.age", "it must be more than 0", "write it like 1d"));
        }
        if !(1..=KEEP_MAX).contains(&self.keep) {
            let what = format!("{} is not between 1 and {KEEP_MAX}", self.keep);
            mistakes.push(Mistake::new("rotate.keep", what, "remove the key to use the default, 5"));
        }
        mistakes
    }
}

impl Settings {
    /// What does not go together with the path.
    fn check_template(&self, template: &PathTemplate) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if let Some(base) = self.base.as_ref().filter(|base| !template.is_within(base)) {
            let what = format!("`{}` does not begin with {}", marked::shown(&self.path), base.display());
            let help = "put the fixed beginning of `path` into `base`, or leave `base` out";
            mistakes.push(Mistake::new("base", what, help).needing(&["path"]));
        }
        // An event with the value `a.1` would be written to a file that the rotation of `a` renames and removes.
        if self.rotate.is_some() && template.ends_with_field() {
            let what =
                format!("`{}` ends with a field, and rotated files end with a number", marked::shown(&self.path));
            let help = "add an ending such as .log, or leave `rotate` out";
            mistakes.push(Mistake::new("path", what, help));
        }
        mistakes
    }

    /// The template of the paths that it writes to.
    pub fn template(&self) -> Result<PathTemplate, Vec<String>> {
        Ok(PathTemplate::parse(&self.path)?.in_zone(&self.timezone.0))
    }
}

impl<E: Env> OutputSettings<E> for Settings {
    fn spec(&self, facts: &Facts, _: &str) -> Arc<dyn OutputSpec<E>> {
        let age = self.rotate.and_then(|rotate| rotate.age);
        let template = self.template().map_err(|wrong| wrong.join("; "));
        let options = Options {
            compression: self.compression,
            rotate_bytes: self.rotate.and_then(|rotate| rotate.bytes).map(|bytes| bytes.0),
            rotate_age: age.map(|age| i64::try_from(age.0.as_nanos()).unwrap_or(i64::MAX)),
            keep: self.rotate.map_or(1, |rotate| rotate.keep),
            open_files_max: self.max_open_files as usize,
            state_bytes_max: COMMIT_STATE_BYTES_MAX,
            access: Access { mode: self.mode.map(|mode| mode.0), group: None },
            fixed: template.as_ref().map(PathTemplate::fixed_path).unwrap_or_default(),
            blames_events: template.as_ref().is_ok_and(PathTemplate::has_fields),
        };
        let form = TextForm { field: &self.message_field, newlines: self.newlines, without: self.without_message };
        let encoding = Encoding::new(self.encode, &form);
        let (group, claims) = (self.group.clone(), facts.claims.clone());
        let admitted = Arc::new(Admitted::new(self.max_paths as usize));
        let (owner, blocked) = (self.dead_letters.owner(), Arc::default());
        self.dead_letters.of(Arc::new(Spec { template, owner, encoding, options, group, claims, blocked, admitted }))
    }

    fn batching(&self) -> Batching {
        self.batch
    }

    fn retry(&self) -> Retry {
        self.retry
    }

    fn when_full(&self) -> OutputFull {
        output_full(self.when_full)
    }

    fn letters_full(&self) -> Option<dlq::WhenFull> {
        self.dead_letters.full()
    }

    fn held_bytes_max(&self) -> u64 {
        // The encoded delivery, and its compressed form if it is compressed.
        2 * self.batch.max_bytes.0 + compress::MEMBER_BYTES_MAX
    }

    fn descriptors_max(&self) -> u64 {
        // In addition to the open files: files that wait for their sync, the journal, and two directories.
        u64::from(self.max_open_files) + (writer::CLOSING_MAX + writer::OPENED_AT_ONCE + 4) as u64
    }
}

struct Spec {
    template: Result<PathTemplate, String>,
    owner: Option<Owner>,
    encoding: Encoding,
    options: Options,
    group: Option<String>,
    claims: Arc<Claims>,
    /// Kept here so that they outlive each opening.
    blocked: Arc<Blocked>,
    admitted: Arc<Admitted>,
}

impl<E: Env> OutputSpec<E> for Spec {
    fn placement(&self) -> Placement {
        Placement::One
    }

    fn open(&self, context: OutputContext<E>, resume: Resume) -> LocalFuture<'static, OpenResult> {
        let (template, encoding, options) = (self.template.clone(), self.encoding.clone(), self.options.clone());
        let (group, admitted) = (self.group.clone(), self.admitted.clone());
        let (owner, claims, blocked) = (self.owner.clone(), self.claims.clone(), self.blocked.clone());
        Box::pin(async move {
            let template = template.map_err(PluginError::Fatal)?;
            let state = match resume.state.as_slice() {
                // The commit was made before the first delivery, or was lost.
                [] => State::default(),
                bytes => State::decode(bytes).ok_or_else(|| unreadable_state(&context.name))?,
            };
            let again_bytes = resume.again_bytes;
            let journal = context.data_dir.join("outputs").join(format!("{}.journal", context.number.0));
            let (disk, name, counters) = (context.env.disk().clone(), context.name.clone(), context.counters.clone());
            let means = Means { disk, name, claims, blocked, counters };
            let state_bytes_max = options.state_bytes_max.min(context.state_bytes_max);
            let work = move || {
                let group = group_of(&means.disk, group.as_deref())?;
                // A file that is made to be given to a group would otherwise stay its owner's alone.
                let mode = options.access.mode.or(group.map(|_| MODE_WITH_GROUP));
                let access = Access { mode, group };
                let options = Options { state_bytes_max, access, ..options };
                Writer::new(means, options, &journal, &state).map(|writer| (writer, state))
            };
            let opened = match context.env.blocking(work).await {
                Ok((writer, state)) => restore_patiently(&context, writer, state, again_bytes).await,
                Err(error) => Err(error),
            };
            let writer = opened.map_err(|error| {
                PluginError::Retry(format!(
                    "output {}: its files cannot be restored to the last commit: {error}; {}. Its events wait in the write-ahead \
                     log",
                    context.name,
                    writer::advice(&error)
                ))
            })?;
            Ok(Box::new(FileOutput::new(context, Naming { template, owner, admitted }, encoding, writer))
                as Box<dyn Output>)
        })
    }
}

/// Restores the files, but first waits for a while until no other process holds one of them: a killed process may be gone before
/// the requests that it had begun have ended, and its locks last as long as they do.
async fn restore_patiently<E: Env>(
    context: &OutputContext<E>,
    writer: Writer<E::Disk>,
    state: State,
    again_bytes: Option<u64>,
) -> std::io::Result<Writer<E::Disk>> {
    let deadline = context.env.now().after(LOCKS_WAIT);
    let mut told = false;
    let mut opening = (writer, state);
    while context.env.now() < deadline {
        let (writer, state) = opening;
        let look = move || writer.held(&state).map(|held| (held, (writer, state)));
        let held;
        (held, opening) = context.env.blocking(look).await?;
        let Some(held) = held.filter(|_| opening.0.may_wait(context.env.now())) else { break };
        if !std::mem::replace(&mut told, true) {
            tracing::info!(output = %context.name, "{held}; waiting for up to {LOCKS_WAIT:?}");
        }
        context.env.sleep(LOCKS_INTERVAL).await;
    }
    let (writer, state) = opening;
    context.env.blocking(move || writer.restore(state, again_bytes)).await
}

/// The number of a group.
fn group_of(disk: &impl Disk, name: Option<&str>) -> std::io::Result<Option<u32>> {
    let Some(name) = name else { return Ok(None) };
    let number = if is_number(name) { name.parse().ok() } else { disk.group(name)? };
    let none = || std::io::Error::new(std::io::ErrorKind::NotFound, format!("there is no group `{name}`"));
    number.map(Some).ok_or_else(none)
}

fn unreadable_state(name: &str) -> PluginError {
    PluginError::Fatal(format!(
        "output {name}: the state of its last commit has a version that this program does not know; run the version that \
         wrote it, or give the output a new name, which starts it from scratch"
    ))
}
