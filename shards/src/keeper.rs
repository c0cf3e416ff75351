//! The keeper drives the WAL of one shard, so that the intake and the deliveries only append.
//!
//! Guarantees: what is acknowledged is durable, as the sync policy defines it (invariant E1). A failed sync or write ends the
//! engine and is never retried (invariant E7). Syncs and the preparation of segments run off the executor (invariant E8). The
//! number of acknowledgements that wait for a sync is bounded. Does not read the WAL: deliveries have cursors.

use crate::counters::ShardCounters;
use crate::env::{Disk, Env, Pool, Sabotage, is_exhausted};
use crate::lane::LaneAcknowledger;
use crate::limits::{SEGMENTS_MIN, SEGMENTS_RESERVED};
use crate::signal::Signal;
use crate::stop::{Phase, Stop};
use crate::wal::builder::Group;
use crate::wal::log::{Log, Reader};
use crate::wal::writer::{SyncTarget, Writer, maintain};
use crate::wal::{Commit, Position, Sequence, SyncPolicy, WalError, WalOptions, WalType};
use event_listener::Event;
use futures_lite::future::or;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Maximum number of acknowledgements that wait individually. Beyond it, each lane's latest replaces its previous one. A lane
/// without one may still add its first.
pub(crate) const WAITING_MAX: usize = 4096;

/// Maximum number of commits whose releases wait if nothing else requests a sync. Then a sync is made for them.
const RELEASES_MAX: usize = 64;

/// How often a failed preparation of a segment (for example on a full disk) is retried.
const ROOM_RETRY: Duration = Duration::from_secs(1);

/// A ticket that waits for a sequence to become durable.
struct Waiting {
    sequence: Sequence,
    lane: usize,
    ticket: u64,
}

/// The position to which a reader moves when a commit is durable.
pub struct Release<D: Disk> {
    /// The WAL that it reads.
    pub log: Arc<Log<D>>,
    /// Its claim on that WAL.
    pub reader: Arc<Reader>,
    /// The first event to which it may still go back.
    pub position: Position,
}

/// Releases that wait for their commits to become durable.
type Releases<D> = VecDeque<(Sequence, Vec<Release<D>>)>;

/// See the module. Shared by the tasks of one shard.
pub struct Keeper<E: Env> {
    env: E,
    writer: RefCell<Writer<E>>,
    log: Arc<Log<E::Disk>>,
    policy: SyncPolicy,
    /// Tickets are acknowledged before they are durable.
    early: bool,
    segments_max: u64,
    segment_bytes: u64,
    acknowledgers: Vec<LaneAcknowledger>,
    waiting: RefCell<VecDeque<Waiting>>,
    releases: RefCell<Releases<E::Disk>>,
    /// A release that frees a segment waits for a sync, or many that free nothing do.
    letting_go: Cell<bool>,
    /// Something was appended since the last sync began.
    dirty: Signal,
    /// A segment can be recycled as soon as what was appended is durable.
    hurry: Signal,
    syncing: Cell<bool>,
    /// A sync ended.
    synced: Event,
    closing: Cell<bool>,
    stop: Stop,
    counters: Arc<ShardCounters>,
}

/// The parts of a keeper.
pub struct KeeperParts<E: Env> {
    /// The environment.
    pub env: E,
    /// The open log.
    pub writer: Writer<E>,
    /// Settings of the WAL.
    pub options: WalOptions,
    /// The acknowledging ends of the lanes, by their number on this shard.
    pub acknowledgers: Vec<LaneAcknowledger>,
    /// The shutdown control.
    pub stop: Stop,
    /// The shard's counters.
    pub counters: Arc<ShardCounters>,
}

impl<E: Env> Keeper<E> {
    /// Creates a keeper. [`Keeper::start`] starts its tasks.
    pub fn new(parts: KeeperParts<E>) -> Rc<Keeper<E>> {
        let KeeperParts { env, writer, options, acknowledgers, stop, counters } = parts;
        let early = options.sync == SyncPolicy::Never && options.kind == WalType::Disk;
        if early {
            acknowledgers.iter().for_each(LaneAcknowledger::acknowledges_early);
        }
        Rc::new(Keeper {
            env,
            log: writer.log().clone(),
            writer: RefCell::new(writer),
            policy: options.sync,
            early,
            segment_bytes: options.segment_bytes,
            segments_max: (options.log_bytes / options.segment_bytes).max(SEGMENTS_MIN),
            acknowledgers,
            waiting: RefCell::default(),
            releases: RefCell::default(),
            letting_go: Cell::new(false),
            dirty: Signal::new(),
            hurry: Signal::new(),
            syncing: Cell::new(false),
            synced: Event::new(),
            closing: Cell::new(false),
            stop,
            counters,
        })
    }

    /// Starts the tasks that sync and that prepare segments.
    pub fn start(self: &Rc<Self>) {
        let keeper = self.clone();
        self.env.spawn("log sync", async move { keeper.sync_loop().await });
        let keeper = self.clone();
        self.env.spawn("log upkeep", async move { keeper.upkeep_loop().await });
    }

    /// The log.
    pub fn log(&self) -> &Arc<Log<E::Disk>> {
        &self.log
    }

    /// Bytes of the segments of the log.
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Runs `look` on the writer's tables.
    pub fn with_writer<R>(&self, look: impl FnOnce(&Writer<E>) -> R) -> R {
        look(&self.writer.borrow())
    }

    /// Appends a group. It survives the death of the process, and is delivered, from the next [`Keeper::flush`] on. A sync and
    /// a commit also flush.
    pub fn append(&self, group: &mut Group) -> Result<Sequence, WalError> {
        let result = self.writer.borrow_mut().stage(group);
        self.after_append(result, group.frames().len() as u64)
    }

    /// Whether appended frames wait for a flush.
    pub fn has_staged(&self) -> bool {
        self.writer.borrow().has_staged()
    }

    /// Writes everything that was appended to the file, and makes it available to deliveries.
    pub fn flush(&self) -> Result<(), WalError> {
        let result = self.writer.borrow_mut().flush();
        match &result {
            Ok(()) => self.settle_unsynced(),
            Err(error) => self.stop.fail(error.to_string()),
        }
        result
    }

    /// Appends a commit. `releases` take effect when it is durable, because the segments behind them may be overwritten then.
    pub fn commit(&self, commit: &Commit, releases: Vec<Release<E::Disk>>) -> Result<Sequence, WalError> {
        let result = self.writer.borrow_mut().commit(commit);
        let sequence = self.after_append(result, 1)?;
        let lets_go = releases.iter().any(|release| release.log.lets_go(&release.reader, release.position));
        if lets_go {
            self.hurry.notify();
        }
        let mut waiting = self.releases.borrow_mut();
        waiting.push_back((sequence, releases));
        if lets_go || waiting.len() >= RELEASES_MAX {
            self.letting_go.set(true);
        }
        Ok(sequence)
    }

    /// Returns `ticket` of a lane when `sequence` is durable.
    pub fn acknowledge_later(&self, sequence: Sequence, lane: usize, ticket: u64) {
        // No sync would come for a ticket that is returned later than its frame was synced: nothing is written with it.
        if sequence <= self.writer.borrow().acknowledged() {
            self.acknowledgers[lane].acknowledge(ticket);
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= WAITING_MAX
            && let Some(at) = waiting.iter().rposition(|earlier| earlier.lane == lane)
        {
            // It is near the end, because every lane beyond the limit is merged like this.
            waiting.remove(at);
        }
        waiting.push_back(Waiting { sequence, lane, ticket });
        self.counters.waiting_acknowledgements.set(waiting.len() as u64);
    }

    /// Returns `ticket` of a lane at once. Only for proving that tests detect this.
    pub(crate) fn acknowledge_early(&self, lane: usize, ticket: u64) {
        self.acknowledgers[lane].acknowledge(ticket);
    }

    /// Records how many ranges of dropped batches wait for space.
    pub fn count_owed(&self, ranges: usize) {
        self.counters.owed_ranges.set(ranges as u64);
    }

    /// Records what waits for dead letters (batches, bytes), and how many runs of positions wait for lines.
    pub fn count_waiting(&self, batches: usize, bytes: usize, runs: usize) {
        self.counters.parked_batches.set(batches as u64);
        self.counters.parked_bytes.set(bytes as u64);
        self.counters.withheld_runs.set(runs as u64);
    }

    /// Counts an append that has to wait.
    pub fn count_full(&self) {
        self.counters.wal_full.add(1);
    }

    /// Makes the next sync happen soon, under every policy: something waits for what it makes durable.
    pub fn hurry(&self) {
        if self.early {
            self.letting_go.set(true);
            self.dirty.notify();
        }
        self.hurry.notify();
    }

    /// Waits until a refused append may succeed, or for a limited time.
    pub async fn room(&self) {
        or(self.log.recycled.wait(), self.env.sleep(ROOM_RETRY)).await;
    }

    /// Whether three quarters of the log's space for events are used.
    pub fn is_under_pressure(&self) -> bool {
        self.log.counters.segments.get() * 4 >= (self.segments_max - SEGMENTS_RESERVED) * 3
    }

    /// Syncs everything that was appended and ends the tasks. Afterwards nothing more is appended. If the shutdown is forced,
    /// the appended frames are in the page cache, and the next start makes them durable.
    pub async fn close(&self) {
        // Before waiting for a sync of another task, which may never end.
        let _ = self.flush();
        let synced = async {
            self.sync().await;
            // A mark records what the first sync made durable. The second sync makes the mark durable too.
            self.sync().await;
        };
        or(synced, self.stop.reached(Phase::Forced)).await;
        self.closing.set(true);
        self.dirty.notify();
        self.log.housekeeping.notify();
    }

    /// Makes what was appended so far durable, also under the policy `never`, because starts and shutdowns request it.
    pub async fn sync(&self) {
        while self.syncing.get() {
            // Only one sync runs at a time: the next one covers what this caller needs.
            self.synced.listen().await;
        }
        if self.flush().is_err() {
            return;
        }
        // Everything is published, so the sync covers it.
        let acknowledged = self.acknowledged_early();
        let Some(target) = self.writer.borrow().sync_target() else {
            // A log in memory has nothing to sync: appended frames count as durable at once.
            if self.log.synced() >= self.log.last() {
                self.harden(&acknowledged);
            }
            return self.settle();
        };
        self.syncing.set(true);
        let begun = self.env.now();
        let result = self.sync_files(&target).await;
        self.syncing.set(false);
        match result {
            Ok(()) => {
                self.counters.syncs.add(1);
                self.counters.sync_nanos.add(self.env.now().since(begun).as_nanos() as u64);
                self.writer.borrow_mut().synced(&target);
                self.harden(&acknowledged);
                self.settle();
                let marked = self.writer.borrow_mut().mark();
                marked.unwrap_or_else(|error| self.stop.fail(error.to_string()));
            }
            Err(error) => {
                let failure = self.writer.borrow_mut().sync_failed(error);
                self.stop.fail(failure.to_string());
            }
        }
        self.synced.notify(usize::MAX);
    }

    /// The highest acknowledged ticket of each lane whose acknowledgements do not imply durability.
    fn acknowledged_early(&self) -> Vec<u64> {
        let lanes = if self.early { self.acknowledgers.as_slice() } else { &[] };
        lanes.iter().map(LaneAcknowledger::acknowledged).collect()
    }

    fn harden(&self, acknowledged: &[u64]) {
        self.acknowledgers.iter().zip(acknowledged).for_each(|(lane, ticket)| lane.harden(*ticket));
    }

    async fn sync_files(&self, target: &SyncTarget<E::Disk>) -> std::io::Result<()> {
        if let Some(directory) = target.directory.clone() {
            loop {
                let (disk, directory) = (self.log.disk().clone(), directory.clone());
                match self.env.blocking_in(Pool::Log, move || disk.sync_dir(&directory)).await {
                    // The file could not be opened, so no sync has failed.
                    Err(error) if is_exhausted(&error) && self.stop.phase() < Phase::Forced => {
                        tracing::warn!(%error, "no file descriptor is free to sync the write-ahead log: nothing is acknowledged until \
                            one is; raise the limit of open files (ulimit -n, LimitNOFILE)");
                        self.env.sleep(ROOM_RETRY).await;
                    }
                    synced => break synced?,
                }
            }
        }
        for file in &target.files {
            let synced = self.env.sync(file).await;
            if synced.is_err() && E::Disk::sabotaged(Sabotage::RetryFailedSync) {
                self.env.sync(file).await?;
            } else {
                synced?;
            }
        }
        Ok(())
    }

    fn after_append(&self, result: Result<Sequence, WalError>, frames: u64) -> Result<Sequence, WalError> {
        match &result {
            Ok(_) => {
                self.counters.frames.add(frames);
                self.settle_unsynced();
                self.dirty.notify();
            }
            Err(WalError::Full) => {
                // Parts of the group may be in the log: until they are durable, no segment that they need is recycled.
                self.dirty.notify();
                self.log.housekeeping.notify();
            }
            // The caller that made it handles this error.
            Err(WalError::TooLarge { .. } | WalError::StateTooLarge { .. }) => {}
            Err(error) => self.stop.fail(error.to_string()),
        }
        result
    }

    /// Under a policy without durability, acknowledges what the system has received.
    fn settle_unsynced(&self) {
        if self.policy == SyncPolicy::Never {
            self.settle();
        }
    }

    /// Acknowledges, and releases the readers' claims, up to what is durable now.
    fn settle(&self) {
        let durable = self.writer.borrow().acknowledged();
        let mut waiting = self.waiting.borrow_mut();
        while let Some(first) = waiting.front().filter(|first| first.sequence <= durable) {
            self.acknowledgers[first.lane].acknowledge(first.ticket);
            waiting.pop_front();
        }
        self.counters.waiting_acknowledgements.set(waiting.len() as u64);
        // Under every policy: if both the commit and the segment were lost, its events would be neither delivered nor in the log.
        let durable = self.log.synced();
        let mut releases = self.releases.borrow_mut();
        while releases.front().is_some_and(|(sequence, _)| *sequence <= durable) {
            for release in releases.pop_front().into_iter().flat_map(|(_, releases)| releases) {
                release.log.release(&release.reader, release.position);
            }
        }
    }

    async fn sync_loop(&self) {
        while !self.closing.get() && self.stop.phase() < Phase::Forced {
            self.dirty.wait().await;
            match self.policy {
                SyncPolicy::EveryBatch => self.sync().await,
                SyncPolicy::Interval(interval) => {
                    or(self.env.sleep(interval), self.hurry.wait()).await;
                    self.sync().await;
                }
                // A sealed segment is synced under every policy, and so is a commit that frees one: only then may it be recycled.
                SyncPolicy::Never if self.letting_go.take() || self.writer.borrow().sealed_unsynced() => {
                    self.sync().await;
                }
                SyncPolicy::Never => {}
            }
        }
    }

    async fn upkeep_loop(&self) {
        while !self.closing.get() {
            self.log.housekeeping.wait().await;
            while !self.closing.get() {
                match maintain(&self.env, &self.writer).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error @ WalError::Poisoned { .. }) => return self.stop.fail(error.to_string()),
                    Err(error) => {
                        tracing::warn!(%error, "no new segment for the write-ahead log: the intake waits and nothing is lost");
                        self.env.sleep(ROOM_RETRY).await;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
