//! One instance of the output: converts events to the bytes of each path, and passes them to a writer.
//!
//! Guarantees: those of the parent module for a delivery. Blocks the executor only for writes into the page cache. Knows
//! neither journal nor locks.

use super::admitted::{Admitted, Wanted};
use super::template::PathTemplate;
use super::writer::{self, Group, Now, Refused, Writer};
use crate::outputs::distinct::is_date_counted;
use crate::outputs::encoding::Encoding;
use crate::outputs::letters::Owner;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io::{self, IoSlice};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::env::{Env, Monotonic};
use tailwater_shards::plugin::{Delivery, Event, LocalFuture, Outcome, Output, OutputContext, PluginError};

/// How often files are checked while deliveries keep coming.
const LOOK_AFTER_INTERVAL: Duration = Duration::from_secs(1);

/// If the last check is older than this, a delivery checks first, so that a file that was moved gets no more lines.
const LOOK_FIRST_AFTER: Duration = Duration::from_secs(2);

/// How long a delivery waits for a file that another output is about to release, and how often it asks.
const TURN_WAIT: Duration = Duration::from_secs(5);
const TURN_INTERVAL: Duration = Duration::from_millis(50);

/// Maximum number of waits that are remembered as reported.
const TOLD_MAX: usize = 1024;

/// Pieces of a delivery that are written in one call: at most the work of one slice.
const PIECES_AT_ONCE: usize = 8;

/// A file that could not be made durable, and why.
type Unsynced = (Vec<u8>, io::Error);

/// Which paths events have, and how many there may be.
pub(super) struct Naming {
    pub(super) template: PathTemplate,
    /// Whose an event is; none if only its path says so.
    pub(super) owner: Option<Owner>,
    pub(super) admitted: Arc<Admitted>,
}

/// The bytes of a delivery by path.
#[derive(Default)]
struct Grouped {
    groups: Vec<Group>,
    by_path: HashMap<Vec<u8>, usize>,
    /// Why there is no group for a path that is one too many, by whose event it is and the path. The next event for the same path may
    /// be of somebody who has places left.
    refused: HashMap<Vec<u8>, Rc<str>>,
}

/// See the module.
pub(super) struct FileOutput<E: Env> {
    context: OutputContext<E>,
    naming: Naming,
    constant: Option<Vec<u8>>,
    encoding: Encoding,
    /// None while it works where blocking is allowed. Lost if that call is cancelled, as the instance is then.
    writer: Option<Writer<E::Disk>>,
    buffer: Vec<u8>,
    /// The first file that a sync before a commit failed for.
    unsynced: Rc<RefCell<Option<Unsynced>>>,
    looked_after: Monotonic,
    is_first_attempt: bool,
    /// The waits that were reported.
    told: BTreeSet<String>,
}

impl<E: Env> Output for FileOutput<E> {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery<'a>) -> LocalFuture<'a, Outcome> {
        Box::pin(async move {
            match self.write_patiently(delivery).await {
                Ok(refused) if refused.is_empty() => Outcome::Delivered,
                Ok(refused) => Outcome::Rejected(refused),
                Err(error) => {
                    let lost = self.writer.as_mut().is_some_and(|writer| writer.has_lost(&error));
                    if lost {
                        self.let_go().await;
                    }
                    let error = format!("output {}: {error}", self.context.name);
                    if lost { Outcome::Reopen(error) } else { Outcome::Retry { after: None, error } }
                }
            }
        })
    }

    /// Whoever holds the file that this output waits for will release it soon.
    fn has_progressed(&self) -> bool {
        self.writer.as_ref().is_some_and(Writer::is_next)
    }

    fn begin_sync(&mut self) -> LocalFuture<'static, Result<(), PluginError>> {
        let files = self.writer.as_ref().map(Writer::dirty_files).unwrap_or_default();
        let (env, unsynced) = (self.context.env.clone(), self.unsynced.clone());
        Box::pin(async move {
            for (path, file) in files {
                // The kernel reports a failed sync once, to whoever syncs first. The commit that follows must not continue as if
                // nothing had happened, and it can tell whose fault that is.
                if let Err(error) = env.sync(&file).await {
                    unsynced.borrow_mut().get_or_insert((path, error));
                }
            }
            Ok(())
        })
    }

    fn commit<'a>(&'a mut self, state: &'a mut Vec<u8>) -> LocalFuture<'a, Result<(), PluginError>> {
        Box::pin(async move {
            let unsynced = self.unsynced.take();
            let commit = move |writer: &mut Writer<E::Disk>, now| match unsynced {
                Some((path, error)) => Err(writer.not_durable(&path, &error)),
                None => writer.commit(now),
            };
            let committed = self.blocking(commit).await;
            if committed.is_err() {
                self.let_go().await;
            }
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
    /// Closes its files where blocking is allowed.
    fn drop(&mut self) {
        self.context.env.discard(self.writer.take());
    }
}

impl<E: Env> FileOutput<E> {
    /// An output that writes with `writer`.
    pub(super) fn new(
        context: OutputContext<E>,
        naming: Naming,
        encoding: Encoding,
        writer: Writer<E::Disk>,
    ) -> FileOutput<E> {
        let (constant, looked_after) = (naming.template.constant(), context.env.now());
        FileOutput {
            context,
            naming,
            constant,
            encoding,
            writer: Some(writer),
            buffer: Vec::new(),
            unsynced: Rc::default(),
            looked_after,
            is_first_attempt: true,
            told: BTreeSet::new(),
        }
    }

    fn now(&self) -> Now {
        Now { wall: self.context.env.wall(), monotonic: self.context.env.now() }
    }

    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Writer<E::Disk>, Now) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let mut writer = self.writer.take().ok_or("an earlier call was cancelled")?;
        let now = self.now();
        let done = self.context.env.blocking(move || {
            let result = work(&mut writer, now);
            (writer, result)
        });
        let (writer, result) = done.await;
        self.writer = Some(writer);
        result
    }

    /// Like [`FileOutput::write`], but waits for a while if another output of this process will release the file soon.
    async fn write_patiently(&mut self, delivery: &Delivery<'_>) -> Result<Vec<(u64, String)>, String> {
        let begun = self.context.env.now();
        self.is_first_attempt = delivery.attempt == 0;
        loop {
            let written = self.write(delivery).await;
            self.is_first_attempt = false;
            let waited = self.context.env.now().since(begun);
            let Err(error) = &written else { return written };
            if !self.has_progressed() || waited >= TURN_WAIT {
                return written;
            }
            if self.told.len() < TOLD_MAX && self.told.insert(error.clone()) {
                let name = &self.context.name;
                tracing::warn!(component_id = %name, component_kind = "output", "output {name}: {error}");
            }
            self.context.env.sleep(TURN_INTERVAL).await;
        }
    }

    /// Returns the events that cannot be written, with reasons. On an error, nothing of the delivery counts as written.
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
        let groups = self.groups(delivery, &mut refused).await?;
        let paths = self.blocking(move |writer, now| writer.accept(groups, now)).await?;
        if !paths.is_empty() {
            refused.extend(self.events_of(delivery, &paths));
            refused.sort_by_key(|(index, _)| *index);
            refused.dedup_by_key(|(index, _)| *index);
        }
        Ok(refused)
    }

    /// The events whose paths were rejected, by their index in the delivery.
    fn events_of(&self, delivery: &Delivery<'_>, refused: &[Refused]) -> Vec<(u64, String)> {
        // Events choose how many there are.
        let reasons: HashMap<&[u8], &String> = refused.iter().map(|(path, why)| (path.as_slice(), why)).collect();
        let mut path = Vec::new();
        let mut events = Vec::new();
        for (index, event) in (0..).zip(delivery.pieces.iter().flat_map(|piece| piece.iter())) {
            self.naming.template.render(&event, &mut path);
            if let Some(reason) = reasons.get(path.as_slice()) {
                events.push((index, (*reason).clone()));
            }
        }
        events
    }

    /// Writes a delivery straight from the mapped WAL if its file is known and open. Returns false if more is needed.
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
        // Few large writes: the page cache then uses large folios, which cost half as much as single pages.
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

    /// The bytes of a delivery by path; the paths are in the order of their first event.
    async fn groups(
        &mut self,
        delivery: &Delivery<'_>,
        refused: &mut Vec<(u64, String)>,
    ) -> Result<Vec<Group>, String> {
        let mut grouped = Grouped::default();
        // Empty range: no event is in it.
        let (mut path, mut current, mut moments) = (Vec::new(), None, 0..0);
        let (mut index, mut unnamed, mut excess) = (0, 0, 0);
        for piece in &delivery.pieces {
            for event in piece.iter() {
                let same = !self.naming.template.has_fields() && moments.contains(&event.timestamp.0);
                let group = match current.take().filter(|_| same) {
                    Some(group) => Ok(group),
                    None => {
                        moments = self.naming.template.same_dates(event.timestamp);
                        unnamed += u64::from(!self.naming.template.render(&event, &mut path));
                        self.group_of(&event, &path, &mut grouped).await?
                    }
                };
                match &group {
                    Ok(group) => self.encoding.event(event, index, &mut grouped.groups[*group].bytes, refused),
                    Err(why) => {
                        refused.push((index, why.to_string()));
                        excess += 1;
                    }
                }
                current = group.ok();
                index += 1;
            }
            if self.context.env.slice_used() {
                self.context.env.turn().await;
            }
        }
        // Counted once per event, however often it is retried.
        if self.is_first_attempt {
            self.context.counters.unnamed_events.add(unnamed);
            self.context.counters.excess_path_events.add(excess);
        }
        Ok(grouped.groups)
    }

    /// The group of an event, or why it has none.
    async fn group_of(
        &mut self,
        event: &Event<'_>,
        path: &[u8],
        grouped: &mut Grouped,
    ) -> Result<Result<usize, Rc<str>>, String> {
        if let Some(group) = grouped.by_path.get(path) {
            return Ok(Ok(*group));
        }
        // Without an owner, the path alone. No path contains a NUL.
        let mut owned = Vec::new();
        if let Some(owner) = &self.naming.owner {
            owner.of(event, &mut owned);
            owned.push(0);
        }
        owned.extend_from_slice(path);
        if let Some(why) = grouped.refused.get(&owned) {
            return Ok(Err(why.clone()));
        }
        if let Err(why) = self.admit(event, path).await? {
            grouped.refused.insert(owned, why.clone());
            return Ok(Err(why));
        }
        grouped.groups.push(Group::new(path.to_vec()));
        grouped.by_path.insert(path.to_vec(), grouped.groups.len() - 1);
        Ok(Ok(grouped.groups.len() - 1))
    }

    /// Whether an event may have the file at `path`, as far as the number of paths goes: why not. One that is there is not made.
    async fn admit(&mut self, event: &Event<'_>, path: &[u8]) -> Result<Result<(), Rc<str>>, String> {
        let Naming { template, owner, admitted } = &self.naming;
        let is_dated = template.has_dates() && is_date_counted(event.timestamp, self.context.env.wall());
        if !template.has_fields() && !is_dated {
            return Ok(Ok(()));
        }
        let (mut values, mut owned) = (Vec::new(), Vec::new());
        let of_first = template.render_values(event, &mut values);
        let group = match owner {
            Some(owner) => {
                owner.of(event, &mut owned);
                owned.as_slice()
            }
            None if of_first == 0 => path,
            None => &values[..of_first],
        };
        let wanted = Wanted { group, name: if is_dated { path } else { &values }, is_dated };
        if admitted.admit(wanted, self.context.env.now()) {
            return Ok(Ok(()));
        }
        if !admitted.is_missing(path, self.context.env.now()) {
            let at = path.to_vec();
            if self.blocking(move |writer, _| Ok(writer.is_there(&at))).await? {
                self.naming.admitted.has_file(wanted);
                return Ok(Ok(()));
            }
            self.naming.admitted.note_missing(path, self.context.env.now());
        }
        let (why, is_first) = self.naming.admitted.refusal(is_dated);
        if is_first {
            let name = &self.context.name;
            tracing::warn!(
                component_id = %name, component_kind = "output",
                "output {name}: {why}. Events for other paths become dead letters, unless their files are there"
            );
        }
        Ok(Err(why.into()))
    }

    /// Closes the files of an instance that is finished: the next one opens them before this one is dropped.
    async fn let_go(&mut self) {
        if let Err(error) = self.blocking(Writer::let_go).await {
            tracing::debug!(component_id = %self.context.name, component_kind = "output", "{error}");
        }
    }

    async fn look_after(&mut self) {
        self.looked_after = self.context.env.now();
        if let Err(error) = self.blocking(Writer::look_after).await {
            self.context.counters.errors.add(1);
            tracing::warn!(component_id = %self.context.name, component_kind = "output", "{error}");
        }
    }
}
