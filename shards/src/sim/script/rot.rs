//! What rots or disappears in the logs between two lives: frames of any kind and headers of segments; whole logs, all of their
//! segments, and the first one.
//!
//! Guarantees: a function of the seed. Rot hits only what a later frame proves to have been durable, because anything else is
//! truncated as a torn tail, and no guarantee covers that. The oracle is told what the bytes contain: events may be gone.
//! Nothing else may be gone, although everything that the log knew may be delivered again.

use super::setup::DATA_DIR;
use super::{Cluster, OutputKind, decode_line};
use crate::sim::Outside;
use crate::wal::Damage;
use crate::wal::frame::{FLAG_MORE, FRAME_HEADER_BYTES, FrameHeader, FrameKind, FrameView, checksum_holds};
use crate::wal::segment::SEGMENT_HEADER_BYTES;
use std::path::{Path, PathBuf};

/// A byte of a log that the world has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotten {
    log: u64,
    segment: u64,
    /// Where its frame begins.
    offset: u64,
}

impl Rotten {
    fn is_in(&self, damage: &Damage) -> bool {
        let inside = damage.offset <= self.offset && self.offset < damage.offset + damage.bytes;
        damage.log.0 == self.log && damage.segment == self.segment && inside
    }

    /// Whether it explains that segments seem to be missing: its header would say that none of them is required.
    fn hides(&self, damage: &Damage) -> bool {
        damage.log.0 == self.log && damage.bytes == 0 && damage.segment < self.segment && self.offset == 0
    }
}

/// A frame of a log on the disk.
struct Found {
    path: PathBuf,
    segment: u64,
    offset: u64,
    header: FrameHeader,
    bytes: Vec<u8>,
}

/// The frames of a log, as far as they are intact and in order.
fn frames(outside: &Outside, directory: &Path) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for name in outside.list(directory).unwrap_or_default() {
        let path = directory.join(&name);
        let Some(segment) = name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse().ok()) else { continue };
        let bytes = outside.read(&path).unwrap_or_default();
        let mut offset = SEGMENT_HEADER_BYTES;
        while let Some(header) = bytes.get(offset..).and_then(|rest| FrameHeader::decode(rest).ok()) {
            let Some(frame) = bytes.get(offset..offset + header.length as usize) else { break };
            if !checksum_holds(frame) || found.last().is_some_and(|last| last.header.sequence >= header.sequence) {
                break;
            }
            let bytes = frame.to_vec();
            found.push(Found { path: path.clone(), segment, offset: offset as u64, header, bytes });
            offset += header.length as usize;
        }
    }
    found
}

/// What rots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Events,
    /// Positions without events.
    Positions,
    Snapshot,
    Commit,
    Seal,
    /// The header of a segment.
    Header,
}

/// Seals more often than others, because most logs have none that is known to be durable.
const ALL: [What; 10] = [
    What::Events,
    What::Events,
    What::Positions,
    What::Snapshot,
    What::Commit,
    What::Seal,
    What::Seal,
    What::Seal,
    What::Seal,
    What::Header,
];

impl What {
    fn is(self, found: &Found) -> bool {
        match self {
            What::Events => found.header.events > 0,
            What::Positions => found.header.kind == FrameKind::Events && found.header.events == 0,
            What::Snapshot => found.header.kind == FrameKind::Snapshot,
            What::Commit => found.header.kind == FrameKind::Commit,
            What::Seal => found.header.kind == FrameKind::Seal,
            What::Header => found.offset == SEGMENT_HEADER_BYTES as u64,
        }
    }
}

/// A log on the disk.
struct Lying {
    log: u64,
    found: Vec<Found>,
    /// How many of the frames are known to be durable.
    durable: usize,
}

impl Lying {
    /// Reads one of the logs.
    fn any(cluster: &mut Cluster) -> Option<Lying> {
        let outside = cluster.simulation.disk().outside();
        let wal = Path::new(DATA_DIR).join("wal");
        let logs = outside.list(&wal).unwrap_or_default();
        if logs.is_empty() {
            return None;
        }
        let name = &logs[cluster.chance.index(logs.len())];
        Lying::of(cluster, name.to_str()?.strip_prefix("log-")?.parse().ok()?)
    }

    /// Reads this one.
    fn of(cluster: &Cluster, log: u64) -> Option<Lying> {
        let found = frames(
            &cluster.simulation.disk().outside(),
            &Path::new(DATA_DIR).join("wal").join(format!("log-{log:08}")),
        );
        // The proof must be durable too, otherwise the next power loss removes it.
        let synced = found.last().map_or(0, |last| last.header.synced.0);
        let proofs = found.iter().filter(|found| found.header.sequence.0 <= synced);
        let proved = proofs.map(|found| found.header.synced.0).max().unwrap_or(0);
        let durable = found.iter().take_while(|found| found.header.sequence.0 <= proved).count();
        Some(Lying { log, found, durable })
    }

    fn those_of(&self, what: What) -> Vec<usize> {
        (0..self.durable).filter(|at| what.is(&self.found[*at])).collect()
    }

    fn rot(&self, cluster: &mut Cluster, what: What, at: usize) {
        tell(cluster, what, &self.found, at);
        let frame = &self.found[at];
        let (offset, length) = match what {
            What::Header => (0, SEGMENT_HEADER_BYTES as u64),
            _ => (frame.offset, u64::from(frame.header.length)),
        };
        let byte = offset + cluster.chance.below(length);
        let bits = cluster.chance.between(1, 255) as u8;
        cluster.simulation.disk().outside().rot(&frame.path, byte, bits).expect("the file was just read");
        let (log, segment, sequence) = (self.log, frame.segment, frame.header.sequence.0);
        cluster.note(format!("rot of {what:?} in log {log}, segment {segment}, frame {sequence}, byte {byte}"));
        let rotten = Rotten { log, segment, offset };
        cluster.rotten.push(rotten);
        cluster.unreported.push(rotten);
    }
}

/// Flips bits in a part of a log that is known to be durable, if there is one.
pub(super) fn rot(cluster: &mut Cluster) {
    let Some(lying) = Lying::any(cluster) else { return };
    let there: Vec<What> = ALL.into_iter().filter(|what| !lying.those_of(*what).is_empty()).collect();
    if there.is_empty() {
        return;
    }
    let what = there[cluster.chance.index(there.len())];
    let candidates = lying.those_of(what);
    let at = candidates[cluster.chance.index(candidates.len())];
    lying.rot(cluster, what, at);
}

/// What disappears of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vanishing {
    /// Its directory.
    Directory,
    /// All of its segments.
    Segments,
    /// The first of them.
    First,
}

/// A part of a log that has disappeared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vanished {
    log: u64,
    /// Whether the next start must report it.
    untold: bool,
}

/// Removes a part of a log that has segments.
pub(super) fn vanish(cluster: &mut Cluster) {
    let outside = cluster.simulation.disk().outside();
    let logs = outside.list(Path::new(DATA_DIR).join("wal")).unwrap_or_default();
    if logs.is_empty() {
        return;
    }
    let name = &logs[cluster.chance.index(logs.len())];
    // Most logs have only one segment.
    let what = match cluster.chance.below(8) {
        0 => Vanishing::Directory,
        1 => Vanishing::Segments,
        _ => Vanishing::First,
    };
    if let Some(log) = name.to_str().and_then(|name| name.strip_prefix("log-")?.parse().ok()) {
        cluster.vanish(log, what);
    }
}

impl Cluster {
    /// Whether the manifest records that a log has segments. Until a full disk has room for that, a log whose segments are gone
    /// looks like one that was never written.
    pub fn is_recorded(&self, log: u64) -> bool {
        let manifest = self.simulation.disk().outside().read(Path::new(DATA_DIR).join("manifest")).unwrap_or_default();
        let manifest = String::from_utf8_lossy(&manifest);
        let mut logs = manifest.lines().filter_map(|line| line.strip_prefix("logs ")).flat_map(str::split_whitespace);
        logs.any(|recorded| recorded == log.to_string())
    }

    /// Removes a part of a log. Returns whether there was a segment.
    pub fn vanish(&mut self, log: u64, what: Vanishing) -> bool {
        let outside = self.simulation.disk().outside();
        let directory = Path::new(DATA_DIR).join("wal").join(format!("log-{log:08}"));
        let is_segment = |name: &std::ffi::OsString| name.to_str().is_some_and(|name| name.starts_with('0'));
        let mut segments: Vec<_> = outside.list(&directory).unwrap_or_default();
        segments.retain(is_segment);
        segments.sort();
        if segments.is_empty() {
            return false;
        }
        // Only its file shows whether it had begun.
        let had_frames = !frames(&outside, &directory).is_empty();
        segments.truncate(if what == Vanishing::First { 1 } else { usize::MAX });
        let left = outside.list(&directory).unwrap_or_default().into_iter().filter(is_segment).count() - segments.len();
        if left == 0 && what != Vanishing::Directory && !self.is_recorded(log) {
            return false;
        }
        let lost: u64 = tell_what_vanishes(self, log, &directory, &segments);
        match what {
            Vanishing::Directory => outside.remove_dir_all(&directory).expect("it is there"),
            // Standby files are not part of the log. They are removed with the last segment, otherwise their bytes would come
            // back as later frames.
            _ if left == 0 => {
                let all = outside.list(&directory).unwrap_or_default();
                all.iter().for_each(|name| outside.remove(directory.join(name)).expect("it is there"));
            }
            _ => segments.iter().for_each(|name| outside.remove(directory.join(name)).expect("it is there")),
        }
        // Ensures that no power loss brings it back.
        outside.sync_all();
        let is_all = u64::from(left == 0);
        self.ledger.state().told.lost_logs += is_all;
        self.ledger.state().told.lost_segments += 1 - is_all;
        self.note(format!("{what:?} of log {log} vanishes: {} segments, {lost} frames of events", segments.len()));
        self.vanished.push(Vanished { log, untold: what == Vanishing::Directory && had_frames });
        true
    }

    /// Flips bits in the last frame of events that a later mark states to be durable. Returns whether there is one. Only for
    /// what a kill has left, if no power loss happens before the next start, because the mark itself need not be durable.
    pub fn rot_last_events(&mut self) -> bool {
        let Some(mut lying) = Lying::any(self) else { return false };
        let synced = lying.found.iter().map(|found| found.header.synced).max();
        lying.durable = lying.found.iter().take_while(|found| Some(found.header.sequence) <= synced).count();
        let last = lying.those_of(What::Events).pop();
        last.into_iter().for_each(|at| lying.rot(self, What::Events, at));
        last.is_some()
    }

    /// Flips bits in every snapshot of a log but the first. Returns their number.
    pub fn rot_snapshots(&mut self, log: u64) -> usize {
        let Some(lying) = Lying::of(self, log) else { return 0 };
        let all: Vec<usize> = lying.those_of(What::Snapshot).into_iter().filter(|at| *at > 0).collect();
        all.iter().for_each(|at| lying.rot(self, What::Snapshot, *at));
        all.len()
    }

    /// Flips bits in everything that records how far outputs had come, except for the oldest part. Returns the number of
    /// frames.
    pub fn rot_commits(&mut self) -> usize {
        let Some(lying) = Lying::any(self) else { return 0 };
        let all: Vec<(What, usize)> = [What::Snapshot, What::Commit]
            .into_iter()
            .flat_map(|what| lying.those_of(what).into_iter().map(move |at| (what, at)))
            .filter(|(_, at)| *at > 0)
            .collect();
        all.iter().for_each(|(what, at)| lying.rot(self, *what, *at));
        all.len()
    }
}

/// What is no longer known afterwards is delivered again, and nothing else happens to it.
fn tell(cluster: &Cluster, what: What, found: &[Found], at: usize) {
    let exact = cluster.setup.outputs.iter().any(|output| output.kind == OutputKind::Exact);
    let mut state = cluster.ledger.state();
    state.torn = true;
    let told = &mut state.told;
    *match what {
        What::Events | What::Positions => &mut told.rotten,
        What::Snapshot => &mut told.rotten_snapshots,
        What::Commit => &mut told.rotten_commits,
        What::Seal => &mut told.rotten_seals,
        What::Header => &mut told.rotten_headers,
    } += 1;
    // An exact output undoes nothing while a log is damaged whose beginning its commit does not cover.
    if exact || matches!(what, What::Positions | What::Snapshot | What::Commit) {
        (0..state.sources.len() as u64).for_each(|source| state.oracle.forgotten(source));
    }
    drop(state);
    if what == What::Events {
        tell_what_is_lost(cluster, found, at);
    }
}

/// The group of the frame depends on its positions: their ranges are read again, including what a lane had dropped of them.
/// Sources that are no longer introduced are read again from their beginning.
fn tell_what_is_lost(cluster: &Cluster, found: &[Found], at: usize) {
    let events: Vec<&Found> = found.iter().filter(|found| found.header.kind == FrameKind::Events).collect();
    let at = events.iter().position(|event| event.header.sequence == found[at].header.sequence).unwrap_or(0);
    let open = |event: &Found| event.header.flags & FLAG_MORE != 0;
    let first = (0..at).rev().find(|before| !open(events[*before])).map_or(0, |before| before + 1);
    let last = (at..events.len()).find(|at| !open(events[*at])).unwrap_or(events.len() - 1);
    let mut state = cluster.ledger.state();
    let lines = |found: &Found| {
        let payload = &found.bytes[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + found.header.payload_bytes as usize];
        payload.split_inclusive(|&byte| byte == b'\n').filter_map(decode_line).collect::<Vec<_>>()
    };
    let source = lines(events[at]).first().map(|event| event.source);
    for frame in &events[first..=last] {
        let Ok(view) = FrameView::new(std::borrow::Cow::Borrowed(frame.bytes.as_slice())) else { continue };
        let introduces = view.positions().flatten().any(|position| position.record.is_some());
        // A group comes from one batch, which has one source.
        let covered: Vec<u64> = source.map_or(Vec::new(), |source| {
            let ordinal = |offset| state.sources[source as usize].event_at(offset);
            let all: Vec<_> = view.positions().flatten().map(|position| (position.key, position.range)).collect();
            // Settled ranges before this one are in other frames or other logs, which still contain them.
            let settled = |at: usize| {
                let (key, range) = all[at];
                all.get(at + 1).is_some_and(|(next, behind)| *next == key && range.to <= behind.from)
            };
            let own = (0..all.len()).filter(|at| !settled(*at)).map(|at| all[at].1);
            own.flat_map(|range| ordinal(range.from)..ordinal(range.to)).collect()
        });
        source.into_iter().for_each(|source| covered.iter().for_each(|at| state.oracle.destroyed(source, *at)));
        for event in lines(frame) {
            state.oracle.destroyed(event.source, event.ordinal);
            let all = if introduces { state.sources[event.source as usize].events() } else { 0 };
            (0..all).for_each(|ordinal| state.oracle.destroyed(event.source, ordinal));
        }
    }
}

/// Events in disappearing segments may be gone, and everything that the log knew may be delivered again. What exact outputs
/// have of it stays.
fn tell_what_vanishes(cluster: &Cluster, log: u64, directory: &Path, segments: &[std::ffi::OsString]) -> u64 {
    let outside = cluster.simulation.disk().outside();
    let found = frames(&outside, directory);
    let gone = |found: &Found| {
        segments.iter().any(|name| found.path.ends_with(name)) && found.header.kind == FrameKind::Events
    };
    let gone: Vec<usize> = (0..found.len()).filter(|at| gone(&found[*at])).collect();
    gone.iter().for_each(|at| tell_what_is_lost(cluster, &found, *at));
    let exact = (0..cluster.setup.outputs.len()).filter(|at| cluster.setup.outputs[*at].kind == OutputKind::Exact);
    for output in exact {
        let bytes = outside.read(cluster.setup.file(output)).unwrap_or_default();
        let record = &mut cluster.ledger.state().outputs[output];
        let durable = &bytes[..bytes.len().min(record.synced_bytes as usize)];
        record.kept = durable.split_inclusive(|&byte| byte == b'\n').filter_map(decode_line).collect();
    }
    let mut state = cluster.ledger.state();
    state.torn = true;
    (0..state.sources.len() as u64).for_each(|source| state.oracle.forgotten(source));
    // The snapshot of a remaining segment vouches for everything before it, which ends with a seal if all of it was found.
    let is_gone = |found: &Found| segments.iter().any(|name| found.path.ends_with(name));
    let behind = found.iter().position(|found| !is_gone(found));
    let unseen = behind.is_some_and(|at| at == 0 || found[at - 1].header.kind != FrameKind::Seal);
    if unseen || cluster.rotten.iter().any(|rotten| rotten.log == log) {
        // Frames after rotten or non-durable ones were not read.
        let all = |source: &u64| state.sources[*source as usize].events();
        let all: Vec<_> = (0..state.sources.len() as u64).map(|source| (source, all(&source))).collect();
        all.iter().for_each(|&(source, events)| (0..events).for_each(|at| state.oracle.destroyed(source, at)));
    }
    gone.len() as u64
}

/// Compares the damage that a start reports with the damage that the world has done.
pub(super) fn judge(cluster: &mut Cluster, reported: &[Damage]) {
    let mut state = cluster.ledger.state();
    // Without it, later torn frames can no longer be proved to be torn.
    let vanished = |damage: &Damage| cluster.vanished.iter().any(|gone| gone.log == damage.log.0);
    let explained = |damage: &Damage| {
        vanished(damage) || cluster.rotten.iter().any(|rotten| rotten.is_in(damage) || rotten.hides(damage))
    };
    for damage in reported.iter().filter(|damage| !explained(damage)) {
        state.oracle.damage(&format!("reported, and nobody did it: {damage:?}"));
    }
    for gone in &mut cluster.vanished {
        if std::mem::take(&mut gone.untold)
            && !reported.iter().any(|damage| damage.log.0 == gone.log && damage.segment == 0)
        {
            state.oracle.damage(&format!("not reported: log {} vanished", gone.log));
        }
    }
    let vanished = |rotten: &Rotten| cluster.vanished.iter().any(|gone| gone.log == rotten.log);
    for rotten in std::mem::take(&mut cluster.unreported).into_iter().filter(|rotten| !vanished(rotten)) {
        if !reported.iter().any(|damage| rotten.is_in(damage)) {
            state.oracle.damage(&format!("not reported: {rotten:?}"));
        }
    }
}
