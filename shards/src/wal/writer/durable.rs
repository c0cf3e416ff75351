//! The writer's work that others do where blocking is allowed: syncs and maintenance, and the consequences of a failure.
//!
//! Guarantees: a failed sync or write poisons the writer permanently (invariant E7). Only one maintenance runs at a time.

use super::{Poison, SPARES, STANDBYS, STANDBYS_FIRST, SyncTarget, Writer, copy_error, fits};
use crate::env::{Disk as _, Env, File as _};
use crate::limits::SEGMENTS_RESERVED;
use crate::wal::frame::FrameKind;
use crate::wal::log::Place;
use crate::wal::standby::{Maintained, Maintenance};
use crate::wal::{Sequence, SyncPolicy, WalError, WalType};
use std::io;

/// The sequence of the last mark, and its end while it waits for a flush with nothing after it.
#[derive(Default)]
pub(super) struct Mark {
    pub(super) last: Sequence,
    pub(super) end: Option<Place>,
}

impl<E: Env> Writer<E> {
    /// What must be synced so that everything appended so far is durable. One at a time: request the next one after
    /// [`Writer::synced`] has received this one.
    pub fn sync_target(&self) -> Option<SyncTarget<E::Disk>> {
        let last = self.log.last();
        if self.options.kind == WalType::Memory || self.poison.is_some() || self.log.synced() >= last {
            return None;
        }
        let mut files: Vec<_> = self.sealed.iter().map(|(_, segment)| segment.file.clone()).collect();
        files.push(self.active.file.clone());
        let directory = (self.names > self.names_synced).then(|| self.log.directory().to_path_buf());
        Some(SyncTarget { directory, files, sequence: last, names: self.names })
    }

    /// Whether a sealed segment waits for its sync, which happens under every policy.
    pub fn sealed_unsynced(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// Records that everything in `target` was synced successfully.
    pub fn synced(&mut self, target: &SyncTarget<E::Disk>) {
        if self.poison.is_some() {
            return;
        }
        while self.sealed.front().is_some_and(|(seal, _)| *seal <= target.sequence) {
            self.sealed.pop_front();
        }
        self.names_synced = self.names_synced.max(target.names);
        self.log.counters.syncs.add(1);
        self.log.set_synced(target.sequence.max(self.log.synced()));
        self.log.housekeeping.notify();
    }

    /// Appends a mark that says that everything is durable, unless something was appended since. Without the mark, damage to
    /// the last frames would be truncated as a torn tail. The mark itself is durable with the next sync, and readers are not
    /// notified of it before the next [`Writer::flush`].
    pub fn mark(&mut self) -> Result<(), WalError> {
        let last = Sequence(self.next.0 - 1);
        let is_all = self.log.synced() == last && self.mark.last != last && last > Sequence(0);
        if !is_all || self.options.kind == WalType::Memory || self.poison.is_some() {
            return Ok(());
        }
        let mut control = std::mem::take(&mut self.control);
        control.clear();
        let frame = control.frame(FrameKind::Mark, 0, 0);
        frame.set_timestamp(self.env.wall());
        frame.finish();
        let frame = &mut control.frames_mut()[0];
        let written = match fits(self.offset, frame.length(), self.active.bytes()) {
            true => self.write(frame, false).and_then(|()| self.write_staged()).map(|()| true),
            // The next segment contains the same information.
            false => Ok(false),
        };
        self.control = control;
        if written? {
            let end = Place { segment: self.active.number, offset: self.offset };
            self.mark = Mark { last: Sequence(self.next.0 - 1), end: Some(end) };
        }
        Ok(())
    }

    /// Records that a sync failed: bytes written since the last success may be lost, and no later sync would report it. From
    /// now on every call fails.
    pub fn sync_failed(&mut self, error: io::Error) -> WalError {
        let path = self.active.path.clone();
        match self.poisoning::<()>(Err(WalError::Poisoned { what: "sync", path, source: error })) {
            Err(error) => error,
            Ok(()) => unreachable!("an error went in"),
        }
    }

    /// Everything up to this frame is acknowledged, as the sync policy defines it.
    pub fn acknowledged(&self) -> Sequence {
        match self.options.sync {
            SyncPolicy::Never => self.log.last(),
            SyncPolicy::EveryBatch | SyncPolicy::Interval(_) => self.log.synced(),
        }
    }

    pub(super) fn poisoning<T>(&mut self, result: Result<T, WalError>) -> Result<T, WalError> {
        if let Err(WalError::Poisoned { what, path, source }) = &result
            && self.poison.is_none()
        {
            self.poison = Some(Poison { what, path: path.clone(), error: copy_error(source) });
        }
        result
    }

    pub(super) fn check_poison(&self) -> Result<(), WalError> {
        self.poison.as_ref().map_or(Ok(()), |poison| {
            let Poison { what, path, error } = poison;
            Err(WalError::Poisoned { what, path: path.clone(), source: copy_error(error) })
        })
    }

    /// Work that may block, if there is any. Only one round runs at a time. Its result goes to [`Writer::maintained`].
    pub fn take_maintenance(&mut self) -> Option<Maintenance<E::Disk>> {
        self.maintenance(if self.modest { STANDBYS_FIRST } else { STANDBYS })
    }

    fn maintenance(&mut self, standbys: u64) -> Option<Maintenance<E::Disk>> {
        if self.maintenance_out || self.poison.is_some() {
            return None;
        }
        let consumed = self.log.take_consumed(self.active.number);
        let live = self.log.counters.segments.get();
        // If an earlier start had more segments than are allowed now, commits still need their own.
        let room = self.segments_max().checked_sub(live).unwrap_or(SEGMENTS_RESERVED);
        let ready = self.standbys.len() + self.unsettled.standbys.len();
        let more = |wanted: u64| wanted.min(room).saturating_sub(ready as u64) as usize;
        let missing = more(standbys);
        let recycle = more(SPARES).min(consumed.len());
        if consumed.is_empty() && missing == 0 && !self.unsettled.names {
            return None;
        }
        self.maintenance_out = true;
        let first_number = self.standby_number;
        self.standby_number += missing.max(recycle) as u64;
        Some(Maintenance {
            disk: self.log.disk().clone(),
            directory: self.log.directory().to_path_buf(),
            segment_bytes: self.options.segment_bytes,
            consumed,
            recycle,
            create: missing.saturating_sub(recycle),
            needed: more(STANDBYS_FIRST).saturating_sub(recycle),
            first_number,
            unsettled: std::mem::take(&mut self.unsettled),
        })
    }

    /// Applies the result of maintenance. An error in it means that there are fewer standby files for now (for example on a
    /// full disk). Trying again later is correct, unless it is [`WalError::Poisoned`].
    pub fn maintained(&mut self, done: Maintained<E::Disk>) -> Result<(), WalError> {
        self.maintenance_out = false;
        self.standbys.extend(done.standbys);
        self.log.put_back(done.left);
        self.unsettled = done.unsettled;
        self.log.counters.standbys.set(self.standbys.len() as u64);
        if std::mem::take(&mut self.refused) {
            self.log.set_full(false);
            self.log.recycled.notify();
        }
        // More than the first ones only improve speed.
        let enough = self.standbys.len() as u64 >= STANDBYS_FIRST && self.unsettled.is_empty();
        self.modest = enough && (done.scarce || done.failed.as_ref().is_some_and(WalError::is_no_room));
        self.poisoning(done.failed.filter(|_| !self.modest).map_or(Ok(()), Err))
    }

    /// Makes the start itself durable before anything is served. What an earlier start left after the tail can then never come
    /// back in its place. Blocks.
    pub(super) fn settle(&mut self) -> Result<(), WalError> {
        if let Some(target) = self.sync_target() {
            let log = self.log.clone();
            let directory = target.directory.as_deref().map_or(Ok(()), |directory| log.disk().sync_dir(directory));
            let synced = directory.and_then(|()| target.files.iter().try_for_each(|file| file.sync()));
            synced.map_err(|error| self.sync_failed(error))?;
            self.synced(&target);
        }
        // The roll or the first segment used a standby file. Creating another one may block here too.
        let restocked = self.maintenance(STANDBYS_FIRST).map(|work| work.run());
        match restocked.map_or(Ok(()), |done| self.maintained(done)) {
            Err(error) if error.is_no_room() => {
                tracing::warn!(%error, "no disk space for another segment of the write-ahead log: its content is delivered, and when \
                    it is full, the intake waits for disk space");
                Ok(())
            }
            restocked => restocked,
        }
    }
}
