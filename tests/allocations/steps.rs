//! The single steps: lines, envelope, escape, conditions, lane, ring, frame, WAL, cursor.

use crate::allocations;
use futures_lite::future::block_on;
use std::hint::black_box;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};
use tailwater::codec::encoding::Encoding;
use tailwater::codec::envelope::{EnvelopeKind, spec};
use tailwater::codec::framing::{Ending, LineTooLong, Place, Rules, cut};
use tailwater::codec::path::Path;
use tailwater::config::component::Facts;
use tailwater::config::types::FieldNames;
use tailwater::expr::{FieldValue, Fields, PathIndex, Program};
use tailwater_shards::batch::{Batch, EventSpan, Source, SourceKey, SourceRange};
use tailwater_shards::counters::InputCounters;
use tailwater_shards::dlq::Letters;
use tailwater_shards::env::{Env, ShardId, Timestamp};
use tailwater_shards::glommio_env::{GlommioEnv, launch};
use tailwater_shards::lane::{LaneOptions, lane};
use tailwater_shards::limits::{CHUNK_BYTES, LINE_BYTES_DEFAULT};
use tailwater_shards::plugin::{Frames, Lanes};
use tailwater_shards::ring::ring;
use tailwater_shards::scan::escape::escape_json_into;
use tailwater_shards::signal::Signal;
use tailwater_shards::wal::builder::Group;
use tailwater_shards::wal::cursor::Cursor;
use tailwater_shards::wal::frame::FrameKind;
use tailwater_shards::wal::recovery::scan_log;
use tailwater_shards::wal::writer::{LogState, Writer};
use tailwater_shards::wal::{LogId, Sequence, SyncPolicy, WalOptions, WalType};

/// Number of counted rounds.
const ROUNDS: usize = 50;

/// Number of rounds before those, in which reusable buffers are created.
const WARM: usize = 10;

/// Longest time of being disturbed; only a bug takes this long.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often the watchdog has woken a shard. A step leaves the executor no turn, so on a busy machine its shard looks stalled.
static KICKS: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>> = OnceLock::new();

/// A batch of whole lines with characters to escape, split into events.
fn batch() -> Batch {
    let source = Source {
        key: SourceKey(1),
        input: "app".into(),
        name: b"/var/log/app/current.log".to_vec(),
        descriptor: vec![7; 40],
        repeatable: true,
    };
    let mut batch = Batch::new(CHUNK_BYTES, Arc::new(source));
    let line =
        "{\"level\":\"info\",\"user\":\"J\u{fc}rgen\",\"message\":\"request served from cache\",\"status\":200}\n";
    let mut length = 0;
    for bytes in batch.chunk.spare().chunks_exact_mut(line.len()) {
        bytes.copy_from_slice(line.as_bytes());
        let start = length as u32;
        length += line.len();
        batch.events.push(EventSpan { start, end: length as u32 - 1 });
    }
    batch.chunk.set_length(length);
    batch.range = SourceRange { from: 0, to: length as u64, marker: 1 };
    batch.received = Timestamp(1_795_392_754_567_890_123);
    batch
}

/// Warms up `step`, then records its allocations. Counts again if the watchdog has woken the shard meanwhile, for which it
/// allocates.
pub fn count(name: &str, wrong: &mut Vec<String>, mut step: impl FnMut()) {
    let (begun, kicks) = (Instant::now(), || KICKS.get().map_or(0, |kicks| kicks()));
    (0..WARM).for_each(|_| step());
    let count = loop {
        crate::wait_for_other_threads();
        let before = kicks();
        let count = allocations(|| (0..ROUNDS).for_each(|_| step()));
        if kicks() == before {
            break count;
        }
        assert!(begun.elapsed() < PATIENCE, "{name}: the watchdog does not rest");
    };
    if count > 0 {
        wrong.push(format!("{name}: {count} allocations in {ROUNDS} rounds"));
    }
}

/// See the module.
pub fn every_step_allocates_nothing() {
    let mut wrong = Vec::new();
    text(&mut wrong);
    expressions(&mut wrong);
    crate::pipelines::pipelines(&mut wrong);
    crate::verbs::verbs(&mut wrong);
    lanes(&mut wrong);
    frames(&mut wrong);
    wrong.extend(log());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn text(wrong: &mut Vec<String>) {
    let mut batch = batch();
    for too_long in [LineTooLong::Truncate, LineTooLong::Split, LineTooLong::Discard] {
        for line_bytes_max in [LINE_BYTES_DEFAULT, 16] {
            let rules = Rules {
                line_bytes_max,
                too_long,
                keep_cr: false,
                skip_nuls: true,
                skip_empty: true,
                encoding: Encoding::Utf8,
            };
            let mut events = Vec::with_capacity(batch.events.capacity() * 8);
            count("line split", wrong, || {
                events.clear();
                black_box(cut(batch.chunk.bytes(), 0, Place::LineStart, rules, Ending::Open, &mut events));
            });
        }
    }
    for kind in [EnvelopeKind::File, EnvelopeKind::Stream] {
        let mut processor = spec(&FieldNames::default(), &Facts::of("web-03"), kind).open(ShardId(0));
        let mut group = Group::new();
        count("envelope", wrong, || {
            group.clear();
            batch.received.0 += 1_000_000;
            processor.begin(&batch);
            processor.process(&batch, 0, &mut Frames::new(&mut group, 0, 1, &[1], &mut Letters::new()));
        });
    }
    let mut out = Vec::new();
    for text in ["plain text of a line", "\"quoted\" and \u{1} controlled", "f\u{fc}r alle"] {
        for bad in [&b""[..], b"\xff\xfe"] {
            let text = [text.as_bytes(), bad, text.as_bytes()].concat().repeat(20);
            count("escape", wrong, || {
                out.clear();
                black_box(escape_json_into(&text, &mut out));
            });
        }
    }
}

/// The fields of an event, each as JSON or as plain text.
struct Event<'a>(Vec<Option<FieldValue<'a>>>);

impl Fields for Event<'_> {
    fn get(&self, path: PathIndex) -> Option<FieldValue<'_>> {
        self.0[path.index()]
    }
}

fn expressions(wrong: &mut Vec<String>) {
    let fields = [
        ("status", FieldValue::Json(b"503")),
        ("took", FieldValue::Json(b"0.25")),
        ("level", FieldValue::Json(b"\"warn\"")),
        ("message", FieldValue::Json(br#""GET \"/index\" served""#)),
        ("line", FieldValue::Text(b"GET /index served \xff")),
        ("user.id", FieldValue::Json(b"\"u1\"")),
        ("tags", FieldValue::Json(br#"["a","b"]"#)),
        ("labels", FieldValue::Json(br#"{"a.b":{"c":1}}"#)),
        ("time", FieldValue::Json(b"\"2026-11-23T10:20:30Z\"")),
    ];
    for source in [
        "status >= 500",
        "level in [\"warn\", \"error\"]",
        "has(user.id) && message.startsWith(\"GET\")",
        "!(level == \"debug\") && took * 2.0 < 1.0 && status % 2 == 1",
        "message == \"GET \\\"/index\\\" served\" && message.contains(\"index\") && message.endsWith(\"served\")",
        "message.matches(r'^GET \"/\\w+') && line.matches(\"served\") && size(line) > 5",
        "missing == 1 || status == 503",
        "\"b\" in tags && \"a.b\" in labels && tags.exists(tag, tag == \"b\") && tags[status - 503] == \"a\"",
        "timestamp(time) > timestamp(\"2026-01-01T00:00:00Z\") && int(\"42\") < status && tags == [\"a\", \"b\"]",
    ] {
        let program = Program::compile(source).unwrap_or_else(|error| panic!("{source}: {error:?}"));
        let found = |path: &Path| fields.iter().find(|(name, _)| *name == path.to_string()).map(|(_, value)| *value);
        let event = Event(program.paths().iter().map(found).collect());
        let mut scratch = program.scratch();
        count(source, wrong, || assert_eq!(program.test(&event, &mut scratch), Ok(true)));
    }
}

fn lanes(wrong: &mut Vec<String>) {
    let (mut producer, mut consumer) = ring(64);
    count("ring", wrong, || {
        for item in 0..64u64 {
            assert!(producer.push(item).is_ok());
        }
        while consumer.pop().is_some() {}
    });
    let counters = Arc::new(InputCounters::default());
    let (sender, mut receiver, _meter) = lane(LaneOptions::default(), Arc::new(Signal::new()), counters);
    let acknowledger = receiver.acknowledger();
    let source = batch().source.clone();
    count("lane", wrong, || {
        for _ in 0..8 {
            let batch = block_on(sender.batch(&source));
            assert!(block_on(sender.send(batch)).is_some());
        }
        while let Some(batch) = receiver.pop(|_| false) {
            acknowledger.acknowledge(batch.ticket);
            receiver.give_back(batch);
        }
        sender.settle();
    });
}

fn fill(group: &mut Group, batch: &Batch, own_times: bool) {
    group.clear();
    let frame = group.frame(FrameKind::Events, 0, 3);
    for index in 0..batch.events.len() {
        frame.payload().extend_from_slice(batch.event(index));
        frame.payload().push(b'\n');
        let later = if own_times { index as i64 } else { 0 };
        frame.end_event(Timestamp(batch.received.0 + later), own_times.then_some(index as u64 & 3));
    }
    frame.position(&batch.range, &batch.source, false, false);
    frame.finish();
}

fn frames(wrong: &mut Vec<String>) {
    let (batch, mut group) = (batch(), Group::new());
    for own_times in [false, true] {
        count("frame", wrong, || fill(&mut group, &batch, own_times));
    }
}

/// Appends and reads on the shard of a real executor and a real disk.
fn log() -> Vec<String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_path_buf();
    let (sender, receiver) = mpsc::channel();
    let drivers = launch(&[None], move |env| {
        let (sender, path) = (sender.clone(), path.clone());
        async move {
            // The receiver waits until the shard has ended.
            let _ = sender.send(on_a_shard(env, path).await);
        }
    });
    let drivers = drivers.expect("a shard starts");
    let pulses = drivers.pulses();
    let set = KICKS.set(Box::new(move || pulses().iter().map(|pulse| pulse.kicks).sum()));
    assert!(set.is_ok(), "there is one shard");
    drivers.wait();
    receiver.recv().expect("the shard has sent what it counted")
}

/// A source whose events go to two shards in turn, and become durable in one earlier than in the other.
fn spread(env: &GlommioEnv, wrong: &mut Vec<String>) {
    let counters = Arc::new(InputCounters::default());
    let both = || lane(LaneOptions::default(), Arc::new(Signal::new()), counters.clone());
    let (senders, mut receivers): (Vec<_>, Vec<_>) =
        std::iter::repeat_with(both).take(2).map(|(sender, receiver, _)| (sender, receiver)).unzip();
    let acknowledgers: Vec<_> = receivers.iter().map(|receiver| receiver.acknowledger()).collect();
    let lanes = Lanes::new(env.clone(), senders);
    let (source, mut at, mut settled) = (batch().source.clone(), 0, 0);
    count("lanes to two shards", wrong, || {
        for _ in 0..8 {
            let mut batch = block_on(lanes.batch(&source));
            batch.range = SourceRange { from: at, to: at + 10, marker: at };
            at += 10;
            assert!(block_on(lanes.send(batch)).is_some());
        }
        for (receiver, acknowledger) in receivers.iter_mut().zip(&acknowledgers).rev() {
            while let Some(batch) = receiver.pop(|_| false) {
                settled = settled.max(batch.settled.to);
                acknowledger.acknowledge(batch.ticket);
                receiver.give_back(batch);
            }
        }
    });
    assert!(settled + 160 >= at, "{settled} of {at} bytes are settled");
}

async fn on_a_shard(env: GlommioEnv, path: std::path::PathBuf) -> Vec<String> {
    let mut wrong = Vec::new();
    KICKS.wait();
    // Those of the shard's pools, the watchdog, and the one that launched the shard.
    crate::wait_for_other_threads();
    // A shard that beats is not woken.
    env.sleep(Duration::from_millis(1)).await;
    spread(&env, &mut wrong);
    env.sleep(Duration::from_millis(1)).await;
    let segment_bytes = 64 << 20;
    let log_bytes = segment_bytes * 3;
    let options = WalOptions { kind: WalType::Disk, sync: SyncPolicy::Never, segment_bytes, log_bytes };
    let recovered = scan_log(env.disk(), &path, LogId(1), None).expect("an empty log is found");
    let writer = Writer::open(env.clone(), options, recovered, LogState::default(), Sequence(0));
    let mut writer = writer.expect("an empty log opens");
    let (mut batch, mut group) = (batch(), Group::new());
    let mut at = 0;
    let mut cursor = Cursor::open(writer.log().clone(), writer.log().end());
    group.frame(FrameKind::Events, 0, 3).position(&batch.range, &batch.source, true, false);
    group.finish();
    writer.append(&mut group).expect("the first position is taken");
    let (mut lines, mut rounds) = (0, 0);
    count("append and read", &mut wrong, || {
        let length = batch.chunk.bytes().len() as u64;
        at += length;
        rounds += 1;
        batch.range = SourceRange { from: at, to: at + length, marker: at };
        fill(&mut group, &batch, false);
        writer.append(&mut group).expect("the segment has room");
        while let Some(frame) = cursor.next().expect("nothing is damaged") {
            let view = frame.view().expect("the frame is whole");
            lines += view.lines(frame.first_event()).expect("its lines are whole").count();
        }
    });
    assert_eq!(lines, batch.events.len() * rounds, "what was appended was read");
    wrong
}
