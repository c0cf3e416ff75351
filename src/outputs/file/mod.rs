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
//! An event whose fields lead to a path that cannot be a file, because it is a directory or leads through a file, is refused
//! alone. Whatever else keeps a file from being opened or written is waited for.
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
pub mod journal;
pub mod record;
pub mod template;
#[cfg(test)]
mod tests;
mod writer;

use super::encoding::{Encoding, message_field, output_full};
use crate::codec::marked;
use crate::config::component::{Component, Facts, Mistake, OutputSettings};
use crate::config::timezone::Timezone;
use crate::config::types::{Batching, ByteSize, Encode, Newlines, Period, Retry, TextForm, WhenFull, WithoutMessage};
use compress::Compression;
use record::State;
use schemars::JsonSchema;
use serde::Deserialize;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::delivery::OutputFull;
use tailwater_shards::env::{Env, Monotonic};
use tailwater_shards::limits::COMMIT_STATE_BYTES_MAX;
use tailwater_shards::plugin::{
    Delivery, LocalFuture, OpenResult, Outcome, Output, OutputContext, OutputSpec, Placement, PluginError, Resume,
};
use template::PathTemplate;
use writer::{Group, Now, Options, Refused, Writer};

/// How often files are looked after while deliveries keep coming.
const LOOK_AFTER_INTERVAL: Duration = Duration::from_secs(1);

/// Age of the last look beyond which a delivery looks first: whoever moved a file away meanwhile gets no more lines in it.
const LOOK_FIRST_AFTER: Duration = Duration::from_secs(2);

/// Pieces of a delivery that are written at once: a slice's work at most.
const PIECES_AT_ONCE: usize = 8;

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
    /// Where events go: an absolute path with dates (`%Y %m %d %F %H ...`, of the event) and fields (`{{ host }}`).
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

fn open_files_default() -> u32 {
    256
}

impl Component for Settings {
    const NAME: &'static str = "file";
    const SUMMARY: &'static str =
        "Writes events to files, by date and field; repeats nothing of the log after a crash.";
    const EXAMPLE: &'static str =
        "type: file\npath: /var/log/collected/{{ host }}/%F.log\nrotate: {bytes: 100MiB, keep: 10}\n";

    fn check(&self) -> Result<(), Mistake> {
        let mistake =
            |key: &str, what: String, help: &str| Err(Mistake { key: key.to_owned(), what, help: help.to_owned() });
        let template = match PathTemplate::parse(&self.path) {
            Ok(template) => template,
            Err(what) => return mistake("path", what, "write it like /var/log/out/{{ host }}/%F.log"),
        };
        if let Some(base) = self.base.as_ref().filter(|base| !template.is_within(base)) {
            let what = format!("`{}` does not begin with {}", marked::shown(&self.path), base.display());
            return mistake("base", what, "put the fixed beginning of `path` into `base`, or leave `base` out");
        }
        if !(1..=OPEN_FILES_MAX).contains(&self.max_open_files) {
            let what = format!("{} is not between 1 and {OPEN_FILES_MAX}", self.max_open_files);
            return mistake("max_open_files", what, "leave it out for 256");
        }
        match self.rotate {
            // An event with the value `a.1` would write to what the rotation of `a` moves and removes.
            Some(_) if template.ends_with_field() => mistake(
                "path",
                format!("`{}` ends with a field, and rotated files end with a number", marked::shown(&self.path)),
                "add an ending such as .log, or leave `rotate` out",
            ),
            Some(Rotate { bytes: None, age: None, .. }) => {
                mistake("rotate", "neither `bytes` nor `age` is given".to_owned(), "give one, or leave `rotate` out")
            }
            Some(Rotate { bytes: Some(ByteSize(0)), .. }) => {
                mistake("rotate.bytes", "0 bytes hold no event".to_owned(), "write it like 100MiB")
            }
            Some(Rotate { age: Some(Period(Duration::ZERO)), .. }) => {
                mistake("rotate.age", "no time at all".to_owned(), "write it like 1d")
            }
            Some(Rotate { keep, .. }) if !(1..=KEEP_MAX).contains(&keep) => {
                mistake("rotate.keep", format!("{keep} is not between 1 and {KEEP_MAX}"), "leave it out for 5")
            }
            _ => Ok(()),
        }
    }
}

impl Settings {
    fn template(&self) -> Result<PathTemplate, String> {
        Ok(PathTemplate::parse(&self.path)?.in_zone(&self.timezone.0))
    }
}

impl<E: Env> OutputSettings<E> for Settings {
    fn spec(&self, _: &Facts, _: &str) -> Arc<dyn OutputSpec<E>> {
        let age = self.rotate.and_then(|rotate| rotate.age);
        let options = Options {
            compression: self.compression,
            rotate_bytes: self.rotate.and_then(|rotate| rotate.bytes).map(|bytes| bytes.0),
            rotate_age: age.map(|age| i64::try_from(age.0.as_nanos()).unwrap_or(i64::MAX)),
            keep: self.rotate.map_or(1, |rotate| rotate.keep),
            open_files_max: self.max_open_files as usize,
            state_bytes_max: COMMIT_STATE_BYTES_MAX,
        };
        let form = TextForm { field: &self.message_field, newlines: self.newlines, without: self.without_message };
        let encoding = Encoding::new(self.encode, &form);
        Arc::new(Spec { template: self.template(), encoding, options })
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
}

impl<E: Env> OutputSpec<E> for Spec {
    fn placement(&self) -> Placement {
        Placement::One
    }

    fn open(&self, context: OutputContext<E>, resume: Resume) -> LocalFuture<'static, OpenResult> {
        let (template, encoding, options) = (self.template.clone(), self.encoding.clone(), self.options.clone());
        Box::pin(async move {
            let template = template.map_err(PluginError::Fatal)?;
            let state = match resume.state.as_slice() {
                // Committed before anything was delivered, or lost.
                [] => State::default(),
                bytes => State::decode(bytes).ok_or_else(|| unreadable_state(&context.name))?,
            };
            let again_bytes = resume.again_bytes;
            let journal = context.data_dir.join("outputs").join(format!("{}.journal", context.number.0));
            let (disk, name) = (context.env.disk().clone(), context.name.clone());
            let state_bytes_max = options.state_bytes_max.min(context.state_bytes_max);
            let options = Options { state_bytes_max, ..options };
            let work = move || Writer::open(disk, name, options, &journal, state, again_bytes);
            let opened = context.env.blocking(work).await;
            let writer = opened.map_err(|error| {
                PluginError::Retry(format!(
                    "output {}: its files cannot be brought back to the last commit: {error}; check the disk, \
                     and the rights on its directories and on the data directory. Its events wait in the log",
                    context.name
                ))
            })?;
            let (constant, looked_after) = (template.constant(), context.env.now());
            let buffer = Vec::new();
            Ok(Box::new(FileOutput {
                context,
                template,
                constant,
                encoding,
                writer: Some(writer),
                buffer,
                looked_after,
            }) as Box<dyn Output>)
        })
    }
}

fn unreadable_state(name: &str) -> PluginError {
    PluginError::Fatal(format!(
        "output {name}: the state of its last commit is of a version that this program does not know; run the version that \
         wrote it, or give the output a new name, which starts it afresh"
    ))
}

struct FileOutput<E: Env> {
    context: OutputContext<E>,
    template: PathTemplate,
    constant: Option<Vec<u8>>,
    encoding: Encoding,
    /// Out while it works where it may block; lost with a call that was given up, as the instance is then.
    writer: Option<Writer<E::Disk>>,
    buffer: Vec<u8>,
    looked_after: Monotonic,
}

impl<E: Env> Output for FileOutput<E> {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery<'a>) -> LocalFuture<'a, Outcome> {
        Box::pin(async move {
            match self.write(delivery).await {
                Ok(refused) if refused.is_empty() => Outcome::Delivered,
                Ok(refused) => Outcome::Rejected(refused),
                Err(error) => {
                    let lost = self.writer.as_mut().is_some_and(|writer| writer.has_lost(&error));
                    let error = format!("output {}: {error}", self.context.name);
                    if lost { Outcome::Reopen(error) } else { Outcome::Retry { after: None, error } }
                }
            }
        })
    }

    fn begin_sync(&mut self) -> LocalFuture<'static, Result<(), PluginError>> {
        let files = self.writer.as_ref().map(Writer::dirty_files).unwrap_or_default();
        let (env, name) = (self.context.env.clone(), self.context.name.clone());
        Box::pin(async move {
            for file in files {
                // A failure is told once, to whoever syncs first: the instance must not go on as if it had not been.
                env.sync(&file).await.map_err(|error| {
                    PluginError::Retry(format!("output {name}: what was written cannot be made durable: {error}"))
                })?;
            }
            Ok(())
        })
    }

    fn commit<'a>(&'a mut self, state: &'a mut Vec<u8>) -> LocalFuture<'a, Result<(), PluginError>> {
        Box::pin(async move {
            let committed = self.blocking(Writer::commit).await;
            let failed = |error| PluginError::Retry(format!("output {}: {error}", self.context.name));
            committed.map_err(failed)?.encode(state);
            if self.context.env.now().since(self.looked_after) >= LOOK_AFTER_INTERVAL {
                self.look_after().await;
            }
            Ok(())
        })
    }

    fn close(&mut self) -> LocalFuture<'_, ()> {
        Box::pin(async move {
            if let Err(error) = self.blocking(Writer::close).await {
                tracing::warn!(component_id = %self.context.name, component_kind = "output", "{error}");
            }
        })
    }

    fn tick(&mut self) -> LocalFuture<'_, ()> {
        Box::pin(self.look_after())
    }
}

impl<E: Env> Drop for FileOutput<E> {
    /// Its files are closed where that may block.
    fn drop(&mut self) {
        self.context.env.discard(self.writer.take());
    }
}

impl<E: Env> FileOutput<E> {
    fn now(&self) -> Now {
        Now { wall: self.context.env.wall(), monotonic: self.context.env.now() }
    }

    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Writer<E::Disk>, Now) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let mut writer = self.writer.take().ok_or("an earlier call was given up")?;
        let now = self.now();
        let done = self.context.env.blocking(move || {
            let result = work(&mut writer, now);
            (writer, result)
        });
        let (writer, result) = done.await;
        self.writer = Some(writer);
        result
    }

    /// Returns the events that cannot be written, and why. An error means that nothing of the delivery counts.
    async fn write(&mut self, delivery: &Delivery<'_>) -> Result<Vec<(u64, String)>, String> {
        if self.context.env.now().since(self.looked_after) >= LOOK_FIRST_AFTER {
            self.look_after().await;
        }
        let mut refused = Vec::new();
        if self.write_directly(delivery, &mut refused).await? {
            return Ok(refused);
        }
        if self.writer.as_ref().is_some_and(Writer::is_waiting) {
            self.blocking(Writer::flush).await?;
        }
        let mut groups = self.groups(delivery, &mut refused).await;
        let fixed = self.template.has_fields().then(|| self.template.fixed_directory());
        let work = move |writer: &mut Writer<E::Disk>, now| {
            let refused = fixed.map(|fixed| writer.refuse(&mut groups, &fixed)).unwrap_or_default();
            writer.accept(groups, now).map(|()| refused)
        };
        let paths = self.blocking(work).await?;
        if !paths.is_empty() {
            refused.extend(self.events_of(delivery, &paths));
            refused.sort_by_key(|(index, _)| *index);
            refused.dedup_by_key(|(index, _)| *index);
        }
        Ok(refused)
    }

    /// The events whose paths were refused, by their index in the delivery.
    fn events_of(&self, delivery: &Delivery<'_>, refused: &[Refused]) -> Vec<(u64, String)> {
        let mut path = Vec::new();
        let mut events = Vec::new();
        for (index, event) in (0..).zip(delivery.pieces.iter().flat_map(|piece| piece.iter())) {
            self.template.render(&event, &mut path);
            if let Some((_, reason)) = refused.iter().find(|(other, _)| *other == path) {
                events.push((index, reason.clone()));
            }
        }
        events
    }

    /// Writes a delivery whose file is known and open straight from the log's mapping. False if there is more to do.
    async fn write_directly(
        &mut self,
        delivery: &Delivery<'_>,
        refused: &mut Vec<(u64, String)>,
    ) -> Result<bool, String> {
        let now = self.now();
        let (Some(path), Some(writer)) = (&self.constant, &mut self.writer) else {
            return Ok(false);
        };
        let Some(target) = writer.ready(path, delivery.bytes, now) else {
            return Ok(false);
        };
        let (before, mut first) = (target.length(), 0);
        // Few large writes: the page cache then takes large folios, which cost it half of what single pages do.
        for pieces in delivery.pieces.chunks(PIECES_AT_ONCE) {
            self.buffer.clear();
            let mut parts = Vec::with_capacity(pieces.len());
            if let Encoding::Json = self.encoding {
                parts.extend(pieces.iter().map_while(|piece| piece.lines()).map(IoSlice::new));
            }
            if parts.len() < pieces.len() {
                let mut first = first;
                for piece in pieces {
                    self.encoding.piece(piece, first, &mut self.buffer, refused);
                    first += piece.events();
                }
                parts.clear();
                parts.push(IoSlice::new(&self.buffer));
            }
            if let Err(error) = target.append_parts(&parts, now.wall) {
                target.roll_back(before);
                return Err(writer::explain("write", Path::new(&*String::from_utf8_lossy(path)), &error));
            }
            drop(parts);
            first += pieces.iter().map(|piece| piece.events()).sum::<u64>();
            if self.context.env.slice_used() {
                self.context.env.turn().await;
            }
        }
        Ok(true)
    }

    /// The bytes of a delivery by path, paths in the order of their first event.
    async fn groups(&self, delivery: &Delivery<'_>, refused: &mut Vec<(u64, String)>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut by_path = std::collections::HashMap::new();
        // Empty: the first event has none of them.
        let (mut path, mut current, mut moments) = (Vec::new(), None, 0..0);
        let mut index = 0;
        for piece in &delivery.pieces {
            for event in piece.iter() {
                let same = !self.template.has_fields() && moments.contains(&event.timestamp.0);
                let group = match current.filter(|_| same) {
                    Some(group) => group,
                    None => {
                        moments = self.template.same_dates(event.timestamp);
                        self.template.render(&event, &mut path);
                        *by_path.entry(path.clone()).or_insert_with(|| {
                            groups.push(Group::new(path.clone()));
                            groups.len() - 1
                        })
                    }
                };
                current = Some(group);
                self.encoding.event(event, index, &mut groups[group].bytes, refused);
                index += 1;
            }
            if self.context.env.slice_used() {
                self.context.env.turn().await;
            }
        }
        groups
    }

    async fn look_after(&mut self) {
        self.looked_after = self.context.env.now();
        if let Err(error) = self.blocking(Writer::look_after).await {
            self.context.counters.errors.add(1);
            tracing::warn!(component_id = %self.context.name, component_kind = "output", "{error}");
        }
    }
}
