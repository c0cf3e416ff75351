//! E5: what may cross a lane.

use crate::batch::{Batch, Chunk, EventSpan, Source, SourceKey, SourceRange};
use crate::counters::InputCounters;
use crate::env::Timestamp;
use crate::lane::{LaneAcknowledger, LaneOptions, LaneReceiver, LaneSender, lane};
use crate::mesh::ShardEnds;
use crate::shard::ShardSeed;
use crate::signal::Signal;
use crate::sim::SimEnv;
use std::panic::RefUnwindSafe;
use std::sync::Arc;

/// `Send`, so no `Rc`; and nothing with interior mutability behind a shared reference, so no cell and no lock.
fn plain<T: ?Sized + Send + Sync + RefUnwindSafe + 'static>(_: &T) {}

fn crosses<T: Send + 'static>() {}

fn source() -> Arc<Source> {
    let (name, descriptor) = (b"name".to_vec(), Vec::new());
    Arc::new(Source { key: SourceKey(1), input: "input".into(), name, descriptor, repeatable: true })
}

#[test]
fn e5_only_owned_batches_cross_a_lane() {
    crosses::<Box<Batch>>();
    crosses::<(LaneSender, LaneReceiver, LaneAcknowledger)>();
    crosses::<ShardEnds>();
    crosses::<ShardSeed<SimEnv>>();
    // Without `..`, so that a new field must be checked here.
    let Batch {
        chunk,
        events,
        source,
        range,
        settled,
        chunk_offset,
        offsets,
        truncated,
        received,
        ticket,
        gone,
        dropped_events,
    } = Batch::new(64, source());
    plain::<(Vec<u64>, Vec<u32>)>(&(offsets, truncated));
    plain::<Chunk>(&chunk);
    plain::<Vec<EventSpan>>(&events);
    plain::<(SourceRange, SourceRange)>(&(range, settled));
    plain::<Timestamp>(&received);
    plain::<(u64, u64, u64, bool)>(&(chunk_offset, ticket, dropped_events, gone));
    let Source { key, input, name, descriptor, repeatable } = &*source;
    plain::<SourceKey>(key);
    plain::<str>(input);
    plain::<(Vec<u8>, Vec<u8>, bool)>(&(name.clone(), descriptor.clone(), *repeatable));
}

/// A batch is sent to another thread and back: the same allocation, owned by one side at a time.
#[test]
fn e5_a_batch_comes_home_from_another_thread() {
    let counters = Arc::new(InputCounters::default());
    let (sender, mut receiver, _) = lane(LaneOptions::default(), Arc::new(Signal::new()), counters);
    let source = source();
    let mut batch = sender.try_batch(&source).expect("a new lane has batches");
    batch.chunk.spare()[..3].copy_from_slice(b"abc");
    batch.chunk.set_length(3);
    let address = std::ptr::from_ref(&*batch).addr();
    let sent = futures_lite::future::block_on(sender.send(batch));
    assert_eq!(sent, Some(1));
    let other = std::thread::spawn(move || {
        let batch = receiver.pop(|_| false).expect("it was sent");
        let seen = (std::ptr::from_ref(&*batch).addr(), batch.chunk.bytes().to_vec());
        receiver.give_back(batch);
        seen
    });
    assert_eq!(other.join().expect("nothing there panics"), (address, b"abc".to_vec()));
    let again = sender.try_batch(&source).expect("it is home");
    assert_eq!(std::ptr::from_ref(&*again).addr(), address);
}
