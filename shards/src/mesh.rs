//! The mesh: the lanes between the inputs and the shards.
//!
//! Guarantees: an input that shards by source has one lane on each shard on which it runs, to that shard. A spread input has a
//! lane from each shard on which it runs to every shard. All queues are limited by the lanes' options. Does not choose where a
//! batch goes: [`crate::plugin::Lanes`] does.

use crate::counters::InputCounters;
use crate::intake::IntakeLane;
use crate::lane::{LaneMeter, LaneOptions, LaneSender, lane};
use crate::plugin::{PeersSeed, Placement, peers};
use crate::route::ShardBy;
use crate::signal::Signal;
use std::sync::Arc;

/// What the mesh needs to know about an input.
pub struct MeshInput {
    /// On which shards it runs. A single instance runs on `home`.
    pub placement: Placement,
    /// The shard of a single instance.
    pub home: usize,
    /// How its batches are assigned to shards.
    pub shard_by: ShardBy,
    /// Size and policy of each lane.
    pub lane: LaneOptions,
    /// If it spreads: ranges of its sources that each instance may leave unmerged in the logs.
    pub spread_ranges: usize,
}

/// An instance of an input on its shard.
pub struct InputEnds {
    /// Its index in the configuration.
    pub input: usize,
    /// Its lanes, in the order of the shards.
    pub lanes: Vec<LaneSender>,
    /// See [`MeshInput::spread_ranges`].
    pub spread_ranges: usize,
    /// Its mailboxes.
    pub peers: PeersSeed,
    /// Its counters.
    pub counters: Arc<InputCounters>,
}

/// The ends that belong to one shard.
pub struct ShardEnds {
    /// The instances that run here.
    pub inputs: Vec<InputEnds>,
    /// The lanes that end here.
    pub lanes: Vec<IntakeLane>,
    /// Raised by these lanes.
    pub ready: Arc<Signal>,
}

/// Read access to the counters of one instance of an input.
pub struct InputMeters {
    /// Index of the input in the configuration.
    pub input: usize,
    /// Its shard.
    pub shard: usize,
    /// Its counters.
    pub counters: Arc<InputCounters>,
    /// Its lanes.
    pub lanes: Vec<LaneMeter>,
}

/// Connects `inputs` and `shards`.
pub fn mesh(inputs: &[MeshInput], shards: usize) -> (Vec<ShardEnds>, Vec<InputMeters>) {
    let mut ends: Vec<ShardEnds> = (0..shards)
        .map(|_| ShardEnds { inputs: Vec::new(), lanes: Vec::new(), ready: Arc::new(Signal::new()) })
        .collect();
    let mut meters = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        for (from, seed) in peers(shards).into_iter().enumerate() {
            if input.placement == Placement::One && from != input.home {
                continue;
            }
            let counters = Arc::new(InputCounters::default());
            let targets = match input.shard_by {
                ShardBy::Source => from..from + 1,
                ShardBy::Spread => 0..shards,
            };
            let mut senders = Vec::new();
            let mut lane_meters = Vec::new();
            for to in targets {
                let (sender, receiver, meter) = lane(input.lane, ends[to].ready.clone(), counters.clone());
                ends[to].lanes.push(IntakeLane { receiver, path: index });
                senders.push(sender);
                lane_meters.push(meter);
            }
            meters.push(InputMeters { input: index, shard: from, counters: counters.clone(), lanes: lane_meters });
            ends[from].inputs.push(InputEnds {
                input: index,
                lanes: senders,
                spread_ranges: input.spread_ranges,
                peers: seed,
                counters,
            });
        }
    }
    (ends, meters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(placement: Placement, shard_by: ShardBy) -> MeshInput {
        MeshInput { placement, home: 1, shard_by, lane: LaneOptions::default(), spread_ranges: 0 }
    }

    #[test]
    fn spreading_reaches_every_shard_and_sources_stay() {
        let inputs = [
            input(Placement::Every, ShardBy::Source),
            input(Placement::Every, ShardBy::Spread),
            input(Placement::One, ShardBy::Source),
        ];
        let (ends, meters) = mesh(&inputs, 3);
        let lanes_here: Vec<usize> = ends.iter().map(|end| end.lanes.len()).collect();
        assert_eq!(lanes_here, [1 + 3, 1 + 3 + 1, 1 + 3]);
        let lanes_of = |shard: usize| ends[shard].inputs.iter().map(|i| (i.input, i.lanes.len())).collect::<Vec<_>>();
        assert_eq!(lanes_of(0), [(0, 1), (1, 3)]);
        assert_eq!(lanes_of(1), [(0, 1), (1, 3), (2, 1)]);
        assert_eq!(meters.len(), 7);
    }
}
