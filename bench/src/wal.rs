//! The write-ahead log in the page cache of the real disk: frames built, checked and written, and read back by a cursor.
//!
//! Nothing is synced, because that would measure the disk. The files are in the temporary directory and are removed after the
//! run.

use crate::Outcome;
use crate::data::{batches, fold, fold_bytes, line};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;
use tailwater_shards::batch::Batch;
use tailwater_shards::env::Env;
use tailwater_shards::glommio_env::{GlommioEnv, launch};
use tailwater_shards::wal::builder::Group;
use tailwater_shards::wal::cursor::Cursor;
use tailwater_shards::wal::frame::FrameKind;
use tailwater_shards::wal::recovery::scan_log;
use tailwater_shards::wal::writer::{LogState, Writer};
use tailwater_shards::wal::{LogId, Sequence, SyncPolicy, WalOptions, WalType};

/// The checksum over events as a frame stores them.
pub fn checksum(events: u64) -> Option<Outcome> {
    let batches = batches(events, line);
    let begun = Instant::now();
    let hash = batches
        .iter()
        .fold(0, |hash, batch| fold(hash, u64::from(tailwater_shards::wal::frame::checksum(batch.chunk.bytes()))));
    Some(Outcome { elapsed: begun.elapsed(), hash })
}

/// From events to frames, and frames to the log.
pub fn append(events: u64) -> Option<Outcome> {
    through_a_log(events).map(|both| both.0)
}

/// Frames from the log, and their events.
pub fn read(events: u64) -> Option<Outcome> {
    through_a_log(events).map(|both| both.1)
}

fn through_a_log(events: u64) -> Option<(Outcome, Outcome)> {
    static RUN: AtomicU64 = AtomicU64::new(0);
    let name = format!("tailwater-bench-{}-{}", std::process::id(), RUN.fetch_add(1, Ordering::Relaxed));
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory).ok()?;
    let (sender, receiver) = mpsc::channel();
    let within = directory.clone();
    let drivers = launch(&[None], move |env| {
        let outcome = on_a_shard(env, &within, events);
        // The receiver waits below until the shard has ended.
        let _ = sender.send(outcome);
        std::future::ready(())
    });
    if let Ok(drivers) = drivers {
        drivers.wait();
    }
    let outcome = receiver.try_recv().ok().flatten();
    // The directory is temporary, and no result depends on its removal.
    let _ = std::fs::remove_dir_all(&directory);
    outcome
}

fn on_a_shard(env: GlommioEnv, directory: &Path, events: u64) -> Option<(Outcome, Outcome)> {
    let batches = batches(events, line);
    let mut writer = open(env, directory.to_path_buf(), events)?;
    let log = writer.log().clone();
    let start = log.end();
    let mut group = Group::new();
    let begun = Instant::now();
    for batch in &batches {
        fill(&mut group, batch, !writer.knows(&batch.source));
        writer.stage(&mut group).ok()?;
    }
    writer.flush().ok()?;
    let appended = begun.elapsed();

    let begun = Instant::now();
    let (bytes, hash) = lines(&mut Cursor::open(log.clone(), start))?;
    let read = begun.elapsed();
    let content = content(&mut Cursor::open(log, start))?;
    let hash = fold(hash, bytes);
    Some((Outcome { elapsed: appended, hash: content }, Outcome { elapsed: read, hash }))
}

fn open(env: GlommioEnv, directory: PathBuf, events: u64) -> Option<Writer<GlommioEnv>> {
    let recovered = scan_log(env.disk(), &directory, LogId(1), None).ok()?;
    // Everything fits in the first segment: another thread handles rolling.
    let segment_bytes = (events * 600 + (1 << 20)).next_multiple_of(1 << 16);
    let options = WalOptions {
        kind: WalType::Disk,
        sync: SyncPolicy::Never,
        segment_bytes,
        log_bytes: segment_bytes * tailwater_shards::limits::SEGMENTS_MIN,
    };
    Writer::open(env, options, recovered, LogState::default(), Sequence(0)).ok()
}

fn fill(group: &mut Group, batch: &Batch, introduce: bool) {
    group.clear();
    let frame = group.frame(FrameKind::Events, 0, 1);
    for index in 0..batch.events.len() {
        let payload = frame.payload();
        payload.extend_from_slice(batch.event(index));
        payload.push(b'\n');
        frame.end_event(batch.received, None);
    }
    frame.position(&batch.range, &batch.source, introduce, false);
    frame.finish();
}

/// What an output does with frames: it reads each event's bytes. Only their lengths and ends are hashed, not all bytes.
fn lines(cursor: &mut Cursor<<GlommioEnv as Env>::Disk>) -> Option<(u64, u64)> {
    let (mut bytes, mut hash) = (0, 0);
    while let Some(frame) = cursor.next().ok()? {
        let view = frame.view().ok()?;
        for line in view.lines(frame.first_event()).ok()? {
            bytes += line.bytes.len() as u64;
            hash = fold(hash, u64::from(*line.bytes.get(22)?) + line.bytes.len() as u64 + u64::from(line.index));
        }
    }
    Some((bytes, hash))
}

fn content(cursor: &mut Cursor<<GlommioEnv as Env>::Disk>) -> Option<u64> {
    let mut hash = 0;
    while let Some(frame) = cursor.next().ok()? {
        hash = fold_bytes(hash, &frame.payload());
    }
    Some(hash)
}
