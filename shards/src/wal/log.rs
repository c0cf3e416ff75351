//! A log, as its writer and its readers on other cores share it.
//!
//! Guarantees: a reader sees a group of frames only when it is complete. A segment that a reader's floor covers is not
//! recycled. Publishing takes no lock. The lock of the segment table is taken when a segment begins or is removed and when a
//! reader moves from one to the next, and never while anything waits. Has one writer. Does not write files itself.

use super::segment::Segment;
use super::{LogId, OutputNumber, Position, Sequence};
use crate::env::{Disk, Sabotage};
use crate::limits::{OUTPUTS_MAX, SEGMENT_NUMBER_MAX};
use crate::signal::Signal;
#[cfg(loom)]
use loom::sync::{Arc, Mutex, MutexGuard, atomic::AtomicBool, atomic::AtomicU64};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
#[cfg(not(loom))]
use std::sync::{Arc, Mutex, MutexGuard, atomic::AtomicBool, atomic::AtomicU64};

/// A location in a log's files. Ordered like the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    /// Number of the segment.
    pub segment: u64,
    /// Byte in it.
    pub offset: u64,
}

/// Bits of a packed location for the offset, in units of 8 bytes: enough for 1 GiB and its end.
const OFFSET_BITS: u32 = 28;

const _: () = assert!(SEGMENT_NUMBER_MAX.leading_zeros() >= OFFSET_BITS);

impl Place {
    fn pack(self) -> u64 {
        debug_assert!(self.offset.is_multiple_of(8) && self.offset >> (OFFSET_BITS + 3) == 0);
        (self.segment << OFFSET_BITS) | (self.offset >> 3)
    }

    fn unpack(packed: u64) -> Place {
        Place { segment: packed >> OFFSET_BITS, offset: (packed & ((1 << OFFSET_BITS) - 1)) << 3 }
    }
}

/// A reader's claim on segments, and how it is notified of new frames.
pub struct Reader {
    /// Lowest segment that it still needs.
    floor: AtomicU64,
    /// Sequence of the first frame that it still needs.
    sequence: AtomicU64,
    /// Its name, for people.
    name: Box<str>,
    /// Raised when frames were published.
    pub published: Arc<Signal>,
}

/// Counters of one log. Each has one writer and can be read at any time.
#[derive(Default)]
pub struct LogCounters {
    /// Bytes of frames appended.
    pub bytes: Counter,
    /// Frames appended.
    pub frames: Counter,
    /// Events published: they survive the death of the process. Those that only memory holds are not counted yet.
    pub events: Counter,
    /// Events discarded before the log, according to its frames.
    pub discarded: Counter,
    /// Syncs that succeeded.
    pub syncs: Counter,
    /// Segments with frames, including the active one.
    pub segments: Counter,
    /// Files that are prepared to become segments.
    pub standbys: Counter,
    /// Bytes of the last snapshot, and number of source ranges in it.
    pub snapshot_bytes: Counter,
    /// See [`LogCounters::snapshot_bytes`].
    pub snapshot_ranges: Counter,
    /// Positions of existing sources that did not fit into a snapshot and were dropped.
    pub positions_dropped: Counter,
}

/// A relaxed counter with a single writer: a plain load and store, without a locked instruction. Orders nothing, so models of
/// the log need not interleave it.
#[derive(Default)]
pub struct Counter(std::sync::atomic::AtomicU64);

impl Counter {
    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, amount: u64) {
        self.0.store(self.get().wrapping_add(amount), Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// See the module. Shared by `Arc`.
pub struct Log<D: Disk> {
    id: LogId,
    directory: PathBuf,
    disk: D,
    segment_bytes: u64,
    segments: Mutex<BTreeMap<u64, Arc<Segment<D>>>>,
    tail: AtomicU64,
    last: AtomicU64,
    synced: AtomicU64,
    readers: Mutex<Vec<Arc<Reader>>>,
    readers_generation: AtomicU64,
    /// An append was refused and waits for a segment.
    full: AtomicBool,
    /// Whether all readers with a claim from an earlier start are registered.
    recycling: AtomicBool,
    /// Raised when there may be maintenance work: a floor moved, or a standby file was used.
    pub housekeeping: Signal,
    /// Raised when a refused append may now succeed.
    pub recycled: Signal,
    /// Counters for the metrics.
    pub counters: LogCounters,
    appended: [Counter; OUTPUTS_MAX],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds the lock, and a panic of the engine ends the process anyway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The state with which a log starts in this process.
pub(crate) struct LogStart<D: Disk> {
    pub(crate) segments: Vec<Arc<Segment<D>>>,
    pub(crate) tail: Place,
    pub(crate) last: Sequence,
    pub(crate) synced: Sequence,
}

impl<D: Disk> Log<D> {
    pub(crate) fn new(id: LogId, directory: PathBuf, disk: D, segment_bytes: u64, start: LogStart<D>) -> Log<D> {
        let segments: BTreeMap<_, _> = start.segments.into_iter().map(|segment| (segment.number, segment)).collect();
        let counters = LogCounters::default();
        counters.segments.set(segments.len() as u64);
        Log {
            id,
            directory,
            disk,
            segment_bytes,
            segments: Mutex::new(segments),
            tail: AtomicU64::new(start.tail.pack()),
            last: AtomicU64::new(start.last.0),
            synced: AtomicU64::new(start.synced.0),
            readers: Mutex::default(),
            readers_generation: AtomicU64::new(0),
            full: AtomicBool::new(false),
            recycling: AtomicBool::new(false),
            housekeeping: Signal::new(),
            recycled: Signal::new(),
            counters,
            appended: std::array::from_fn(|_| Counter::default()),
        }
    }

    /// The log's identity.
    pub fn id(&self) -> LogId {
        self.id
    }

    /// Where its files are.
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// The disk that it is on.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Where the next group will be published. At least that of any [`Log::end`] read before.
    pub fn tail(&self) -> Place {
        Place::unpack(self.tail.load(Ordering::Acquire))
    }

    /// The last published frame.
    pub fn last(&self) -> Sequence {
        Sequence(self.last.load(Ordering::Acquire))
    }

    /// The first position after everything that is published: where a new output starts.
    pub fn end(&self) -> Position {
        Position { sequence: Sequence(self.last().0 + 1), event: 0 }
    }

    /// Everything up to this frame survives a power loss.
    pub fn synced(&self) -> Sequence {
        Sequence(self.synced.load(Ordering::Acquire))
    }

    /// Bytes that the log uses on disk, including standby files.
    pub fn disk_bytes(&self) -> u64 {
        (self.counters.segments.get() + self.counters.standbys.get()) * self.segment_bytes
    }

    /// Whether an append waits for a segment to be recycled.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Release);
    }

    /// Whether every reader has passed all of it. Only for a log without a writer.
    pub fn is_passed(&self) -> bool {
        let last = self.last();
        lock(&self.readers).iter().all(|reader| reader.sequence.load(Ordering::Acquire) > last.0)
    }

    /// Events appended for one output since this process opened the log.
    pub fn appended(&self, output: OutputNumber) -> u64 {
        self.appended[usize::from(output.0)].get()
    }

    pub(crate) fn count_appended(&self, output: u8, events: u64) {
        self.appended[usize::from(output)].add(events);
    }

    /// The segment with this number, or the next higher one.
    pub fn segment_from(&self, number: u64) -> Option<Arc<Segment<D>>> {
        lock(&self.segments).range(number..).next().map(|(_, segment)| segment.clone())
    }

    /// Releases the pages of a segment. Its bytes stay readable.
    pub fn release_pages(&self, number: u64) {
        use crate::env::Map as _;
        if let Some(segment) = lock(&self.segments).get(&number) {
            segment.map.release(0, segment.map.length());
        }
    }

    /// The segment where reading for `position` starts: the last one that begins at or before it, otherwise the lowest.
    pub fn segment_of(&self, position: Position) -> Option<Arc<Segment<D>>> {
        let segments = lock(&self.segments);
        let below = segments.values().rev().find(|segment| segment.first_sequence <= position.sequence);
        below.or_else(|| segments.values().next()).cloned()
    }

    /// All segments, lowest first.
    pub fn segments(&self) -> Vec<Arc<Segment<D>>> {
        lock(&self.segments).values().cloned().collect()
    }

    /// Records that every reader with a cursor from an earlier start is registered. Until then no segment is recycled, because
    /// an output that has not registered yet may need it.
    pub fn allow_recycling(&self) {
        self.recycling.store(true, Ordering::Release);
        self.housekeeping.notify();
    }

    /// Number of registered readers.
    pub fn reader_count(&self) -> usize {
        lock(&self.readers).len()
    }

    /// The readers that hold the lowest segment.
    pub fn holders(&self) -> Vec<Box<str>> {
        let readers = lock(&self.readers);
        let floor = |reader: &Arc<Reader>| reader.floor.load(Ordering::Acquire);
        let lowest = readers.iter().map(floor).min();
        readers.iter().filter(|reader| Some(floor(reader)) == lowest).map(|reader| reader.name.clone()).collect()
    }

    /// Registers a reader without a name that needs everything from `position` on.
    pub fn register(&self, position: Position, published: Arc<Signal>) -> Arc<Reader> {
        self.register_as("", position, published)
    }

    /// The same for a reader with a name.
    pub fn register_as(&self, name: &str, position: Position, published: Arc<Signal>) -> Arc<Reader> {
        // Recycling takes this lock too, so the floor is effective from the moment when the segment was looked up.
        let mut readers = lock(&self.readers);
        let floor = self.segment_of(position).map_or(0, |segment| segment.number);
        let (floor, sequence) = (AtomicU64::new(floor), AtomicU64::new(position.sequence.0));
        let reader = Arc::new(Reader { floor, sequence, name: name.into(), published });
        readers.push(reader.clone());
        // Acquire too, so that what the writer published before it last read the generation is visible from here on.
        self.readers_generation.fetch_add(1, Ordering::AcqRel);
        reader
    }

    /// Ends a reader's claim.
    pub fn unregister(&self, reader: &Arc<Reader>) {
        lock(&self.readers).retain(|other| !Arc::ptr_eq(other, reader));
        self.readers_generation.fetch_add(1, Ordering::Release);
        self.housekeeping.notify();
    }

    /// Records that a reader will not return to anything before `position`, because a commit of it is durable. The claim only
    /// moves forward.
    pub fn release(&self, reader: &Reader, position: Position) {
        reader.sequence.fetch_max(position.sequence.0, Ordering::AcqRel);
        let floor = self.segment_of(position).map_or(0, |segment| segment.number);
        if reader.floor.fetch_max(floor, Ordering::AcqRel) < floor {
            self.housekeeping.notify();
        }
    }

    /// Whether [`Log::release`] would free a segment, or the last part of a log without a writer.
    pub fn lets_go(&self, reader: &Reader, position: Position) -> bool {
        let floor = self.segment_of(position).map_or(0, |segment| segment.number);
        let (adopted, last) = (!self.recycling.load(Ordering::Acquire), self.last());
        let passes_end = position.sequence > last && reader.sequence.load(Ordering::Relaxed) <= last.0;
        floor > reader.floor.load(Ordering::Relaxed) || adopted && passes_end
    }

    /// Changes when a reader is added or removed. The writer reads it after it has published, to know whether its cached
    /// signals are still those of all readers.
    ///
    /// It adds zero instead of loading, because a load may run ahead of the stores that publish. Of two operations that change
    /// the same word, one comes first: either this one sees a reader that registers in the meantime, or that reader sees what
    /// was published. With a load, neither might see the other, and the reader would sleep although there are frames.
    pub(crate) fn readers_generation(&self) -> u64 {
        self.readers_generation.fetch_add(0, Ordering::AcqRel)
    }

    pub(crate) fn reader_signals(&self) -> Vec<Arc<Signal>> {
        lock(&self.readers).iter().map(|reader| reader.published.clone()).collect()
    }

    /// Makes everything up to `last`, which ends at `tail`, visible to readers.
    ///
    /// Readers learn of it through two words, which they read in the opposite order: first [`Log::end`], then [`Log::tail`].
    /// The tail is stored first, so that a reader that sees an end also sees at least the corresponding tail, and finds every
    /// frame below that end before it reaches the tail. In the other order, a reader could consider an end as passed without
    /// having seen any frame of it.
    pub(crate) fn publish(&self, tail: Place, last: Sequence) {
        self.tail.store(tail.pack(), Ordering::Release);
        self.last.store(last.0, Ordering::Release);
    }

    pub(crate) fn set_synced(&self, sequence: Sequence) {
        self.synced.store(sequence.0, Ordering::Release);
    }

    pub(crate) fn add_segment(&self, segment: Arc<Segment<D>>) {
        let mut segments = lock(&self.segments);
        segments.insert(segment.number, segment);
        self.counters.segments.set(segments.len() as u64);
    }

    /// Returns segments that [`Log::take_consumed`] removed and that still exist.
    pub(crate) fn put_back(&self, left: impl IntoIterator<Item = Segment<D>>) {
        left.into_iter().for_each(|segment| self.add_segment(Arc::new(segment)));
    }

    /// Number of the last segment with events. Zero for none.
    pub(crate) fn last_with_events(&self) -> u64 {
        let segments = lock(&self.segments);
        segments.values().rev().find(|segment| segment.holds_events()).map_or(0, |segment| segment.number)
    }

    /// Removes and returns segments below `limit` that no reader needs and for which the snapshot of the next segment is
    /// durable: the lowest ones, and segments without events anywhere.
    pub(crate) fn take_consumed(&self, limit: u64) -> Vec<Segment<D>> {
        if !self.recycling.load(Ordering::Acquire) {
            return Vec::new();
        }
        let readers = lock(&self.readers);
        let needed = readers.iter().map(|reader| reader.floor.load(Ordering::Acquire)).min().unwrap_or(u64::MAX);
        let floor = needed.saturating_add(u64::from(D::sabotaged(Sabotage::RecycleEarly)));
        let synced = self.synced();
        let mut segments = lock(&self.segments);
        let mut taken = Vec::new();
        while let Some((&number, _)) = segments.first_key_value() {
            let behind = segments.range(number + 1..).next();
            let covered = behind.is_some_and(|(_, behind)| behind.first_sequence <= synced);
            if number >= floor.min(limit) || !covered {
                break;
            }
            let (_, segment) = segments.pop_first().expect("the first entry was just seen");
            match Arc::try_unwrap(segment) {
                Ok(segment) => taken.push(segment),
                Err(held) => {
                    segments.insert(number, held);
                    break;
                }
            }
        }
        take_without_events(&mut segments, limit, synced, &mut taken);
        self.counters.segments.set(segments.len() as u64);
        taken
    }
}

/// Readers skip segments without events, so none has a claim on them.
fn take_without_events<D: Disk>(
    segments: &mut BTreeMap<u64, Arc<Segment<D>>>,
    limit: u64,
    synced: Sequence,
    taken: &mut Vec<Segment<D>>,
) {
    let behind = segments.values().skip(1);
    let without = segments.values().zip(behind).filter(|(segment, behind)| {
        let passed = !segment.holds_events() && behind.previous < segment.number;
        passed && segment.number < limit && behind.first_sequence <= synced
    });
    let numbers: Vec<u64> = without.map(|(segment, _)| segment.number).collect();
    for number in numbers {
        match segments.remove(&number).map(Arc::try_unwrap) {
            Some(Ok(segment)) => taken.push(segment),
            Some(Err(held)) => drop(segments.insert(number, held)),
            None => {}
        }
    }
}
