//! Output `file`: events in files, whose path may depend on an event's date and fields.
//!
//! Guarantees: over a kill or a power loss nothing that the log held when the loss came is missing or repeated. A file holds
//! events in the order of the log. A path never leaves the fixed directory of its template. What it does not do: delete files
//! that dates left behind (only `rotate.keep` removes anything), or write to pipes and devices.
//!
//! # How nothing is repeated
//!
//! The engine delivers, then commits: the cursor together with this output's state, which holds the length of every open
//! file ([`record`]). A start cuts each of them to that length, and the engine delivers again what was cut off. That leaves
//! files that the state does not name, because they were created, or opened again, after it. So there is a journal beside
//! the log: *before the first byte goes to a file that was not open, a record with its path, inode and present length is
//! durable.* A record that is newer than the state is undone as well: the file is cut to that length. Every byte written
//! after a commit went to a file open at that commit, which the state names, or opened after it, which the journal names;
//! so all of it is cut, and nothing else is. It holds for any state that comes back, also an older one than the last: that
//! is what a power loss does to a log that was not synced yet. Records are kept an hour beyond their commit for that, or a
//! minute when there are very many.
//!
//! Rotation renames, so files are found by inode, beside their path if need be. A rotated file is cut where it lies, and
//! writing goes on at the path: a rotation needs no record and is never taken back. Each rename is durable before the next
//! and before the new file exists. A rotated or evicted file is synced by the next commit at the latest, before it is
//! forgotten. A commit ends the gzip member or zstd frame, so that a cut leaves whole ones.
//!
//! An event whose fields lead to a path that cannot be a file, because it is a directory, a link, a pipe or leads through a file, is
//! refused alone. Whatever else keeps a file from being opened or written is waited for.
//!
//! # Others who write
//!
//! A file belongs to one output: it is locked while it is open ([`writer`], `hold.rs`), and an output that comes to the file of
//! another waits until that one lets go. What others write, who do not ask for the lock, is neither overwritten nor cut: each write
//! goes to the end of the file, wherever that is, and the journal notes where the output left a file and where it went on
//! (`others.rs`).
//!
//! # What is never cut
//!
//! What a start cuts has to come again, so it cuts no more than the engine says comes again ([`Resume`]): positions from an older copy of
//! the data directory, a log that is lost, damaged or kept in memory, and lines that somebody appended leave more behind the commit
//! than that. A log that lost its last frames with the power says less than comes again, from its sources: what was written before the
//! next commit was due, by a start that did not end in order, is cut all the same. Otherwise all that is whole stays, and is repeated at most; only the end of a line or member that is not whole is cut, and
//! only behind the commit. A file is known by its number, the time at which it was made and the bytes before its committed length: what
//! somebody wrote anew, or put under the same number, stays as it is. Nothing is appended behind half a line (a newline comes first),
//! behind half a member or another format (such a file is set aside as `path.aside-1`).
//!
//! A file that is shorter than its commit, or gone, was changed by somebody else or lost by its disk: that is said loudly, and
//! writing goes on at its end.

pub mod compress;
mod instance;
pub mod journal;
pub mod paths;
pub mod record;
pub mod template;
#[cfg(test)]
mod tests;
mod writer;

use super::encoding::{Encoding, message_field, output_full};
use crate::codec::marked;
use crate::config::claims::Claims;
use crate::config::component::{Component, Facts, Mistake, OutputSettings};
use crate::config::timezone::Timezone;
use crate::config::types::{Batching, ByteSize, Encode, Newlines, Period, Retry, TextForm, WhenFull, WithoutMessage};
use compress::Compression;
use instance::FileOutput;
use record::State;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::delivery::OutputFull;
use tailwater_shards::env::{Access, Disk, Env};
use tailwater_shards::limits::COMMIT_STATE_BYTES_MAX;
use tailwater_shards::plugin::{
    LocalFuture, OpenResult, Output, OutputContext, OutputSpec, Placement, PluginError, Resume,
};
use template::PathTemplate;
use writer::{Means, Options, Writer};

/// When a file is set aside for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// Before it grows larger than this, as it lies on disk; compressed files plus one delivery at most.
    #[serde(default)]
    pub bytes: Option<ByteSize>,
    /// When its first byte is this old.
    #[serde(default)]
    pub age: Option<Period>,
    /// How many files are kept aside for each path, as `path.1` (the youngest), `path.2` and so on.
    #[serde(default = "keep_default")]
    pub keep: u32,
}

fn keep_default() -> u32 {
    5
}

/// Most rotated files of one path: a rotation renames each of them.
const KEEP_MAX: u32 = 1000;

/// Most files open at a time, whatever is configured.
const OPEN_FILES_MAX: u32 = 1024;

/// Settings of an output `file`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where events go: an absolute path with dates (`%Y %m %d %F %H ...`, of the event) and fields. An event without the field
    /// goes to its default (`{{ host | default('none') }}`), or to `unknown`.
    #[serde(deserialize_with = "marked::text")]
    pub path: String,
    /// The zone of the dates in `path`: a name such as `Europe/Berlin`, an offset such as `"+02:00"`, `local`; by default UTC.
    #[serde(default)]
    pub timezone: Timezone,
    /// The directory that no path may leave; by default the part of `path` before the first date or field.
    #[serde(default)]
    pub base: Option<PathBuf>,
    /// How an event is written.
    #[serde(default)]
    pub encode: Encode,
    /// With `encode: text`, the field that holds the message.
    #[serde(default = "message_field")]
    pub message_field: String,
    /// With `encode: text`, what becomes of newlines inside a message.
    #[serde(default)]
    pub newlines: Newlines,
    /// With `encode: text`, what becomes of an event that has no message.
    #[serde(default)]
    pub without_message: WithoutMessage,
    /// The permissions of files that are made, in octal and in quotation marks, such as `"0640"`, which is the default less what the
    /// process's umask takes. Files that are there keep theirs.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// The group of files that are made, by name or number; by default that of the process. The process has to be in it, or run as root.
    #[serde(default)]
    pub group: Option<String>,
    /// How files are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// When a file is set aside; without it, never.
    #[serde(default)]
    pub rotate: Option<Rotate>,
    /// Files held open, 1 to 1024; the one unused for longest is closed for another.
    #[serde(default = "open_files_default")]
    pub max_open_files: u32,
    /// How deliveries are grouped.
    #[serde(default)]
    pub batch: Batching,
    /// How failed deliveries are tried again.
    #[serde(default)]
    pub retry: Retry,
    /// What happens to its events when the log is full because of it.
    #[serde(default)]
    pub when_full: WhenFull,
}

/// Permissions of a file.
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

impl Component for Settings {
    const NAME: &'static str = "file";
    const SUMMARY: &'static str =
        "Writes events to files, by date and field; repeats nothing of the log after a crash.";
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
            mistakes.push(Mistake::new("max_open_files", what, "leave it out for 256"));
        }
        mistakes.extend(self.rotate.iter().flat_map(Rotate::check));
        mistakes
    }

    fn check_files<D: Disk>(&self, disk: &D) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if let Some(name) = &self.group
            && !is_number(name)
            && let Ok(None) = disk.group(name)
        {
            let help = "name a group of this machine, or its number; on another machine, `validate --no-files`";
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
            mistakes.push(Mistake::new("rotate.bytes", "0 bytes hold no event", "write it like 100MiB"));
        }
        if self.age == Some(Period(Duration::ZERO)) {
            mistakes.push(Mistake::new("rotate.age", "no time at all", "write it like 1d"));
        }
        if !(1..=KEEP_MAX).contains(&self.keep) {
            let what = format!("{} is not between 1 and {KEEP_MAX}", self.keep);
            mistakes.push(Mistake::new("rotate.keep", what, "leave it out for 5"));
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
        // An event with the value `a.1` would write to what the rotation of `a` moves and removes.
        if self.rotate.is_some() && template.ends_with_field() {
            let what =
                format!("`{}` ends with a field, and rotated files end with a number", marked::shown(&self.path));
            let help = "add an ending such as .log, or leave `rotate` out";
            mistakes.push(Mistake::new("path", what, help));
        }
        mistakes
    }

    /// The paths that it writes to.
    pub fn template(&self) -> Result<PathTemplate, Vec<String>> {
        Ok(PathTemplate::parse(&self.path)?.in_zone(&self.timezone.0))
    }
}

impl<E: Env> OutputSettings<E> for Settings {
    fn spec(&self, facts: &Facts, _: &str) -> Arc<dyn OutputSpec<E>> {
        let age = self.rotate.and_then(|rotate| rotate.age);
        let options = Options {
            compression: self.compression,
            rotate_bytes: self.rotate.and_then(|rotate| rotate.bytes).map(|bytes| bytes.0),
            rotate_age: age.map(|age| i64::try_from(age.0.as_nanos()).unwrap_or(i64::MAX)),
            keep: self.rotate.map_or(1, |rotate| rotate.keep),
            open_files_max: self.max_open_files as usize,
            state_bytes_max: COMMIT_STATE_BYTES_MAX,
            access: Access { mode: self.mode.map(|mode| mode.0), group: None },
        };
        let form = TextForm { field: &self.message_field, newlines: self.newlines, without: self.without_message };
        let encoding = Encoding::new(self.encode, &form);
        let (group, claims) = (self.group.clone(), facts.claims.clone());
        let template = self.template().map_err(|wrong| wrong.join("; "));
        Arc::new(Spec { template, encoding, options, group, claims })
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

    fn held_bytes_max(&self) -> u64 {
        // The delivery as it is written, which a compressor may have beside it.
        2 * self.batch.max_bytes.0 + compress::MEMBER_BYTES_MAX
    }

    fn descriptors_max(&self) -> u64 {
        // Beside the open files: those that wait for their sync, and the journal.
        u64::from(self.max_open_files) + (writer::CLOSING_MAX + writer::OPENED_AT_ONCE + 2) as u64
    }
}

struct Spec {
    template: Result<PathTemplate, String>,
    encoding: Encoding,
    options: Options,
    group: Option<String>,
    claims: Arc<Claims>,
}

impl<E: Env> OutputSpec<E> for Spec {
    fn placement(&self) -> Placement {
        Placement::One
    }

    fn open(&self, context: OutputContext<E>, resume: Resume) -> LocalFuture<'static, OpenResult> {
        let (template, encoding, options) = (self.template.clone(), self.encoding.clone(), self.options.clone());
        let (group, claims) = (self.group.clone(), self.claims.clone());
        Box::pin(async move {
            let template = template.map_err(PluginError::Fatal)?;
            let state = match resume.state.as_slice() {
                // Committed before anything was delivered, or lost.
                [] => State::default(),
                bytes => State::decode(bytes).ok_or_else(|| unreadable_state(&context.name))?,
            };
            let again_bytes = resume.again_bytes;
            let journal = context.data_dir.join("outputs").join(format!("{}.journal", context.number.0));
            let (disk, name, counters) = (context.env.disk().clone(), context.name.clone(), context.counters.clone());
            let means = Means { disk, name, claims, counters };
            let state_bytes_max = options.state_bytes_max.min(context.state_bytes_max);
            let work = move || {
                let access = Access { group: group_of(&means.disk, group.as_deref())?, ..options.access };
                let options = Options { state_bytes_max, access, ..options };
                Writer::open(means, options, &journal, state, again_bytes)
            };
            let opened = context.env.blocking(work).await;
            let writer = opened.map_err(|error| {
                PluginError::Retry(format!(
                    "output {}: its files cannot be brought back to the last commit: {error}; check the disk, \
                     and the rights on its directories and on the data directory. Its events wait in the log",
                    context.name
                ))
            })?;
            Ok(Box::new(FileOutput::new(context, template, encoding, writer)) as Box<dyn Output>)
        })
    }
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
        "output {name}: the state of its last commit is of a version that this program does not know; run the version that \
         wrote it, or give the output a new name, which starts it afresh"
    ))
}
