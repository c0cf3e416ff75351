//! The writer: the only component that appends to a log.
//!
//! Guarantees: a group of up to half a segment is appended as a whole or refused before a byte is written. It is published
//! when all of it is in the file, and from then on it survives the death of the process. Data never uses the space that
//! commits need, so a full log can always be emptied. A failed write or sync poisons the writer, and nothing is retried
//! (invariant E7). The snapshot of every segment contains all cursors and outputs, and the positions that half a segment has
//! space for. Never waits: work that may block is returned as [`super::standby::Maintenance`] and [`SyncTarget`].

mod durable;
mod plan;
mod snapshots;
mod staging;

use super::builder::{FrameBuilder, Group, Stamp};
use super::commits::Commits;
use super::frame::{FRAME_HEADER_BYTES, FrameKind};
use super::log::{Log, LogStart, Place};
use super::positions::{Recorded, SourceTable};
use super::recent::Recent;
use super::record::encode_commit;
use super::recovery::RecoveredLog;
use super::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader, Standby, io_error};
use super::standby::Unsettled;
use super::{Commit, LogId, RegistryEntry, Sequence, WalError, WalOptions, WalType};
use crate::batch::Source;
use crate::env::{Disk, Env, Pool, Sabotage, Timestamp};
use crate::limits::{
    EPOCH_MAX, RECENT_FRAME_BYTES_MAX, SEGMENT_NUMBER_MAX, SEGMENTS_RESERVED, SEQUENCE_MAX, commit_state_bytes_max,
};
use crate::signal::Signal;
use crate::spell::Spell;
use durable::Mark;
use staging::Staging;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// Number of standby files that are kept ready. Events use one only while [`SEGMENTS_RESERVED`] remain.
const STANDBYS: u64 = 3 + SEGMENTS_RESERVED;

/// Standby files that the start waits for, and that are created even if the disk has little space. The others are created while
/// the log is used.
const STANDBYS_FIRST: u64 = 1 + SEGMENTS_RESERVED;

/// Number of former segments that are kept as standby files: their pages are in the cache, and a log that is used that fast
/// needs them again.
const SPARES: u64 = 8;

/// A source that has been gone for less than this when the log is opened may come back, for example with a late mount.
const RECENTLY_NANOS: i64 = 3_600 * 1_000_000_000;

/// The state that a log passes on to its next segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Positions of all sources.
    pub sources: SourceTable,
    /// Outputs by number.
    pub registry: Vec<RegistryEntry>,
    /// The latest commit of each instance of an output.
    pub commits: Commits,
}

/// Files to sync, in this order, and what is durable afterwards.
pub struct SyncTarget<D: Disk> {
    /// The directory, if a name in it is not durable yet. Synced first.
    pub directory: Option<PathBuf>,
    /// Sealed segments first, then the active one.
    pub files: Vec<Arc<D::File>>,
    /// Durable if all of the above succeeded.
    pub sequence: Sequence,
    names: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Data,
    Commit,
}

struct Poison {
    what: &'static str,
    path: PathBuf,
    error: io::Error,
}

/// See the module.
pub struct Writer<E: Env> {
    env: E,
    log: Arc<Log<E::Disk>>,
    options: WalOptions,
    epoch: u32,
    active: Arc<Segment<E::Disk>>,
    /// Where the next frame begins.
    offset: u64,
    staging: Staging,
    /// Groups that are not published yet.
    unpublished: VecDeque<Unpublished>,
    /// Events of all groups since this start, published or not.
    events: u64,
    mark: Mark,
    /// Sequence of the next frame.
    next: Sequence,
    /// The next frame is the first of this start.
    starts_epoch: bool,
    standbys: Vec<Standby<E::Disk>>,
    /// Numbers of standby files are not reused, so that a rename never replaces a file in use.
    standby_number: u64,
    maintenance_out: bool,
    /// Work that maintenance could not finish.
    unsettled: Unsettled<E::Disk>,
    /// There was space only for the first standby files. Checked again with the next segment.
    modest: bool,
    /// Sealed segments that are not known to be durable, with the sequence of their seal.
    sealed: VecDeque<(Sequence, Arc<Segment<E::Disk>>)>,
    /// Increases with each assigned name; `names_synced` follows.
    names: u64,
    names_synced: u64,
    state: LogState,
    /// Maximum number of sources that existed at once.
    sources_max: usize,
    snapshot: Group,
    control: Group,
    recent: Rc<Recent>,
    poison: Option<Poison>,
    signals: Vec<Arc<Signal>>,
    signals_generation: u64,
    refused: bool,
    /// Snapshots without space for all positions.
    crowded: Spell,
}

/// A group that is appended and not published.
struct Unpublished {
    end: Place,
    /// The sequence of its last frame.
    last: Sequence,
    /// Events up to its end, since this start.
    events: u64,
}

impl<E: Env> Writer<E> {
    /// Opens the log for writing: makes the recovered content durable, then starts a new epoch with a snapshot of `state`.
    /// Blocks; must be called before the shard serves anything. `floor` is a sequence that an earlier start may have assigned,
    /// such as the highest cursor that refers to this log: the new epoch begins after it.
    pub fn open(
        env: E,
        options: WalOptions,
        recovered: RecoveredLog<E::Disk>,
        state: LogState,
        floor: Sequence,
    ) -> Result<Writer<E>, WalError> {
        let disk = env.disk().clone();
        Writer::open_on(disk, env, options, recovered, state, floor)
    }

    /// As [`Writer::open`], on a disk other than the environment's own, for example one in memory.
    pub fn open_on(
        disk: E::Disk,
        env: E,
        options: WalOptions,
        mut recovered: RecoveredLog<E::Disk>,
        state: LogState,
        floor: Sequence,
    ) -> Result<Writer<E>, WalError> {
        recovered.harden(&disk)?;
        let mut standbys = recovered.clear_leftovers(&disk, options.segment_bytes, STANDBYS_FIRST as usize)?;
        let number = recovered.stock(&disk, options.segment_bytes, STANDBYS_FIRST as usize, &mut standbys)?;
        disk.sync_dir(&recovered.directory).map_err(io_error(&recovered.directory))?;
        let next = first_sequence(&recovered, &options, floor);
        let epoch = recovered.epoch + 1;
        check_numbers(&recovered, next)?;
        let offset = recovered.tail.map_or(SEGMENT_HEADER_BYTES as u64, |tail| tail.offset);
        let active = match recovered.segments.last() {
            Some(last) => last.clone(),
            None => {
                let header = SegmentHeader {
                    log: recovered.id,
                    number: recovered.next_segment,
                    first_sequence: next,
                    epoch,
                    segment_bytes: options.segment_bytes,
                    previous: 0,
                };
                Arc::new(standbys.remove(0).begin(&disk, &header)?)
            }
        };
        let segments = if recovered.segments.is_empty() { vec![active.clone()] } else { recovered.segments };
        let tail = Place { segment: active.number, offset };
        let start = LogStart { segments, tail, last: recovered.last, synced: recovered.last };
        let log = Log::new(recovered.id, recovered.directory, disk, options.segment_bytes, start);
        log.counters.standbys.set(standbys.len() as u64);
        let mut writer = Writer {
            env,
            log: Arc::new(log),
            options,
            epoch,
            active,
            offset,
            staging: Staging::at(offset),
            unpublished: VecDeque::new(),
            events: 0,
            mark: Mark::default(),
            next,
            starts_epoch: true,
            standbys,
            standby_number: number,
            maintenance_out: false,
            unsettled: Unsettled::default(),
            modest: false,
            sealed: VecDeque::new(),
            names: 1,
            names_synced: 0,
            sources_max: 0,
            state,
            snapshot: Group::new(),
            control: Group::new(),
            recent: Rc::default(),
            poison: None,
            signals: Vec::new(),
            signals_generation: u64::MAX,
            refused: false,
            crowded: Spell::default(),
        };
        writer.begin_epoch(recovered.sealed)?;
        Ok(writer)
    }

    fn begin_epoch(&mut self, sealed: bool) -> Result<(), WalError> {
        self.sources_max = self.state.sources.existing(Timestamp(self.env.wall().0 - RECENTLY_NANOS));
        self.build_snapshot()?;
        if sealed || !fits(self.offset, self.snapshot.frame_bytes() as usize, self.active.bytes()) {
            if self.standbys.is_empty() {
                let (path, bytes) = (self.log.directory().to_path_buf(), self.options.segment_bytes);
                let reason = format!("no space for the segment that this start needs: free {bytes} bytes on that disk");
                return Err(WalError::Unusable { path, reason });
            }
            self.name_next()?;
            self.roll(sealed)?;
        } else {
            self.write_snapshot()?;
        }
        self.end_group();
        self.flush()?;
        self.settle()
    }

    /// The log, to be shared with readers.
    pub fn log(&self) -> &Arc<Log<E::Disk>> {
        &self.log
    }

    /// The last appended frames, for readers on this shard.
    pub fn recent(&self) -> &Rc<Recent> {
        &self.recent
    }

    /// The log's identity.
    pub fn id(&self) -> LogId {
        self.log.id()
    }

    /// This start of the log.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Positions, outputs and commits as the next snapshot will contain them.
    pub fn state(&self) -> &LogState {
        &self.state
    }

    /// Whether a position of `source` needs no record, because the log knows the source unchanged.
    pub fn knows(&self, source: &Arc<Source>) -> bool {
        let known = self.state.sources.get(source.key);
        known.is_some_and(|state| Arc::ptr_eq(&state.source, source) || state.source == *source)
    }

    /// Largest frame that fits a fresh segment, in bytes.
    pub fn frame_bytes_max(&self) -> u64 {
        self.options.segment_bytes / 2 - (SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES) as u64
    }

    /// Appends the group and publishes it. Its frames must be finished. Returns the sequence of its last frame: the events are
    /// durable when [`Writer::acknowledged`] reaches it.
    ///
    /// A group that fits in no new segment is appended as several, each whole or not at all. Its positions come with the last
    /// of them, so that after a crash in between, all of it is read again.
    ///
    /// [`WalError::Full`]: wait for [`Log::recycled`] and call this again with the same group, which knows how much of it was
    /// appended. [`WalError::TooLarge`]: its next frame will never fit.
    pub fn append(&mut self, group: &mut Group) -> Result<Sequence, WalError> {
        let sequence = self.stage(group)?;
        self.flush()?;
        Ok(sequence)
    }

    /// As [`Writer::append`], but the group may stay in memory, unpublished, until [`Writer::flush`], for a caller with more
    /// groups. If a group is refused, the groups before it are flushed.
    pub fn stage(&mut self, group: &mut Group) -> Result<Sequence, WalError> {
        assert!(!group.is_empty(), "an empty group is not appended");
        let room = self.frame_bytes_max();
        while let Some(run) = group.next_run(room) {
            let end = run.end;
            self.append_for(&mut group.frames_mut()[run], Purpose::Data)?;
            group.appended(end);
            if E::Disk::sabotaged(Sabotage::AppendFirstPart) {
                break;
            }
        }
        self.publish();
        Ok(Sequence(self.next.0 - 1))
    }

    /// Whether a group waits for [`Writer::flush`].
    pub fn has_staged(&self) -> bool {
        !self.unpublished.is_empty()
    }

    /// Writes and publishes every group that was appended.
    pub fn flush(&mut self) -> Result<(), WalError> {
        self.check_poison()?;
        let marked = self.mark.end.take();
        self.unpublished.extend(marked.map(|end| Unpublished { end, last: self.mark.last, events: self.events }));
        self.write_staged()?;
        self.publish();
        Ok(())
    }

    /// Maximum state bytes of a commit with cursors in this many logs.
    pub fn state_bytes_max(&self, logs: usize) -> usize {
        commit_state_bytes_max(self.options.segment_bytes, self.state.registry.len(), logs)
    }

    /// Appends a cursor commit. It may use the space that is reserved from data.
    pub fn commit(&mut self, commit: &Commit) -> Result<Sequence, WalError> {
        let most = self.state_bytes_max(commit.cursors.len());
        if commit.state_bytes() > most {
            return Err(WalError::StateTooLarge { bytes: commit.state_bytes(), most });
        }
        let mut control = std::mem::take(&mut self.control);
        control.clear();
        let frame = control.frame(FrameKind::Commit, 0, 0);
        encode_commit(frame.payload(), commit);
        frame.set_timestamp(self.env.wall());
        frame.finish();
        let result =
            self.append_for(control.frames_mut(), Purpose::Commit).and_then(|sequence| self.flush().map(|()| sequence));
        self.control = control;
        if result.is_ok() {
            self.state.commits.take(commit.clone());
        }
        result
    }

    /// Replaces the registry and writes a snapshot with it.
    pub fn set_registry(&mut self, registry: Vec<RegistryEntry>) -> Result<Sequence, WalError> {
        self.check_poison()?;
        let before = std::mem::replace(&mut self.state.registry, registry);
        let result = self.build_snapshot().and_then(|()| {
            let mut snapshot = std::mem::take(&mut self.snapshot);
            let result = self.append_for(snapshot.frames_mut(), Purpose::Commit);
            self.snapshot = snapshot;
            result.and_then(|sequence| self.flush().map(|()| sequence))
        });
        if result.is_err() {
            self.state.registry = before;
        }
        result
    }

    fn append_for(&mut self, frames: &mut [FrameBuilder], purpose: Purpose) -> Result<Sequence, WalError> {
        self.check_poison()?;
        if let Err(error) = self.plan(frames, purpose) {
            // Only the delivery of appended frames frees space.
            self.flush()?;
            self.refused |= matches!(error, WalError::Full);
            self.log.set_full(self.refused);
            if self.refused {
                self.wake_readers();
            }
            return Err(error);
        }
        let count = frames.len();
        for (index, frame) in frames.iter_mut().enumerate() {
            if !fits(self.offset, frame.length(), self.active.bytes()) {
                self.roll(false)?;
            }
            // Snapshot frames are independent: they do not form a group.
            let more = index + 1 < count && purpose == Purpose::Data;
            self.write(frame, more)?;
        }
        for frame in &*frames {
            self.account(frame);
        }
        self.end_group();
        Ok(Sequence(self.next.0 - 1))
    }

    pub(super) fn segments_max(&self) -> u64 {
        (self.options.log_bytes / self.options.segment_bytes).max(crate::limits::SEGMENTS_MIN)
    }

    /// Ends the active segment and begins the next one with a snapshot, which [`Writer::build_snapshot`] has made.
    fn roll(&mut self, sealed_before: bool) -> Result<(), WalError> {
        if !sealed_before {
            let mut seal = FrameBuilder::new();
            seal.begin(FrameKind::Seal, 0, 0);
            seal.set_timestamp(self.env.wall());
            seal.finish();
            // The first frame of an epoch is a snapshot. A seal before it only continues the sequence.
            let starts_epoch = std::mem::take(&mut self.starts_epoch);
            self.write_stamped(&mut seal, false, starts_epoch)?;
        }
        let header = SegmentHeader {
            log: self.log.id(),
            number: self.active.number + 1,
            first_sequence: self.next,
            epoch: self.epoch,
            segment_bytes: self.options.segment_bytes,
            previous: self.log.last_with_events(),
        };
        self.write_staged()?;
        assert!(!self.standbys.is_empty(), "a roll is planned: its standby is there");
        let begun = self.standbys.remove(0).begin(self.log.disk(), &header);
        let next = Arc::new(self.poisoning(begun)?);
        let old = std::mem::replace(&mut self.active, next);
        self.sealed.push_back((Sequence(self.next.0 - 1), old));
        self.modest = false;
        self.offset = SEGMENT_HEADER_BYTES as u64;
        self.staging.restart(self.offset);
        self.log.add_segment(self.active.clone());
        self.log.counters.standbys.set(self.standbys.len() as u64);
        self.log.housekeeping.notify();
        self.write_snapshot()
    }

    fn write(&mut self, frame: &mut FrameBuilder, more: bool) -> Result<(), WalError> {
        let starts_epoch = std::mem::take(&mut self.starts_epoch);
        self.write_stamped(frame, more, starts_epoch)
    }

    fn write_stamped(&mut self, frame: &mut FrameBuilder, more: bool, starts_epoch: bool) -> Result<(), WalError> {
        if frame.kind() == FrameKind::Events {
            self.active.take_events();
        }
        let bytes = frame.stamp(&Stamp {
            log: self.log.id(),
            epoch: self.epoch,
            shard: u32::from(self.env.shard().0),
            sequence: self.next,
            synced: self.log.synced(),
            written: self.env.wall(),
            more,
            starts_epoch,
        });
        let length = bytes.len() as u64;
        let place = Place { segment: self.active.number, offset: self.offset };
        if let Err(source) = self.stage_frame(frame, place) {
            return self.write_failed(source);
        }
        self.offset += length;
        self.next.0 += 1;
        self.log.counters.bytes.add(length);
        self.log.counters.frames.add(1);
        Ok(())
    }

    fn stage_frame(&mut self, frame: &mut FrameBuilder, place: Place) -> io::Result<()> {
        let (staging, recent, file) = (&mut self.staging, &self.recent, &*self.active.file);
        if frame.length() > RECENT_FRAME_BYTES_MAX {
            return staging.write_through(frame.written(), file, recent);
        }
        match frame.event_count() {
            0 => staging.push(frame.written(), recent),
            _ => staging.push_shared(recent.keep(place, frame.written()), recent),
        }
        staging.write_blocks(file, recent)
    }

    fn account(&mut self, frame: &FrameBuilder) {
        let counters = &self.log.counters;
        self.events += frame.event_count() as u64;
        counters.discarded.add(frame.discarded());
        frame.count_outputs(|output, events| self.log.count_appended(output, events));
        let when = Recorded { epoch: self.epoch, at: self.env.wall() };
        for recorded in frame.recorded() {
            let gone = recorded.gone.then_some(when.at);
            self.state.sources.insert(&recorded.source, &recorded.range, gone, when);
        }
    }

    fn write_staged(&mut self) -> Result<(), WalError> {
        self.staging.write_all(&*self.active.file, &self.recent).or_else(|source| self.write_failed(source))
    }

    fn write_failed(&mut self, source: io::Error) -> Result<(), WalError> {
        let path = self.active.path.clone();
        self.poisoning(Err(WalError::Poisoned { what: "write", path, source }))
    }

    fn end_group(&mut self) {
        // A mark is covered by the frames after it.
        self.mark.end = None;
        let end = Place { segment: self.active.number, offset: self.offset };
        self.unpublished.push_back(Unpublished { end, last: Sequence(self.next.0 - 1), events: self.events });
    }

    /// Publishes the groups that are completely in the file.
    fn publish(&mut self) {
        let written = Place { segment: self.active.number, offset: self.staging.written() };
        let mut whole = None;
        while self.unpublished.front().is_some_and(|group| group.end <= written) {
            whole = self.unpublished.pop_front();
        }
        let Some(Unpublished { end, last, events }) = whole else { return };
        self.log.counters.events.set(events);
        self.log.publish(end, last);
        if self.options.kind == WalType::Memory {
            self.sealed.clear();
            self.log.set_synced(last);
        }
        self.wake_readers();
    }

    /// Wakes every reader, including those that have registered since the last time. What they are woken for is stored before.
    fn wake_readers(&mut self) {
        let generation = self.log.readers_generation();
        if generation != self.signals_generation {
            self.signals = self.log.reader_signals();
            self.signals_generation = generation;
        }
        self.signals.iter().for_each(|signal| signal.notify());
    }
}

/// One round of maintenance, off the executor. Returns whether anything was done.
pub async fn maintain<E: Env>(env: &E, writer: &RefCell<Writer<E>>) -> Result<bool, WalError> {
    let Some(work) = writer.borrow_mut().take_maintenance() else {
        return Ok(false);
    };
    let done = env.blocking_in(Pool::Log, move || work.run()).await;
    writer.borrow_mut().maintained(done).map(|()| true)
}

/// Refuses a log whose numbers could overflow: adding to a number that was read would wrap.
fn check_numbers<D: Disk>(recovered: &RecoveredLog<D>, next: Sequence) -> Result<(), WalError> {
    if next.0 <= SEQUENCE_MAX / 2 && recovered.epoch < EPOCH_MAX && recovered.next_segment <= SEGMENT_NUMBER_MAX / 2 {
        return Ok(());
    }
    let reason = "the numbers of this log are near their end, which only damage brings about: restore the data \
                  directory from a copy, or move it away";
    Err(WalError::Unusable { path: recovered.directory.clone(), reason: reason.to_owned() })
}

/// The first sequence of a new epoch.
fn first_sequence<D: Disk>(recovered: &RecoveredLog<D>, options: &WalOptions, floor: Sequence) -> Sequence {
    // Frames of an earlier start that were lost unsynced may have been delivered. They were inside the log and each used at
    // least a header, so this jump skips all their sequences.
    let found_bytes: u64 = recovered.segments.iter().map(|segment| segment.bytes()).sum();
    let jump = options.log_bytes.max(found_bytes) / FRAME_HEADER_BYTES as u64;
    let seen = recovered.highest_seen.max(floor);
    if seen.0 == 0 { Sequence(1) } else { Sequence(seen.0.saturating_add(jump + 1)) }
}

/// Whether a frame fits after `offset` and leaves space for the seal.
fn fits(offset: u64, frame: usize, segment_bytes: u64) -> bool {
    offset + (frame + FRAME_HEADER_BYTES) as u64 <= segment_bytes
}

fn copy_error(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}
