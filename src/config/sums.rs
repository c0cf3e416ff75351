//! The most memory, descriptors and disk space that a plan uses, from what its components declare.
//!
//! Guarantees: only what is started counts. The bounds themselves and how they add up are in [`tailwater_shards::limits::sums`].

use super::facts::Facts;
use super::plan::Plan;
use super::types::ByteSize;
use crate::net::http::CONNECTIONS_MAX;
use std::fmt::Write as _;
use tailwater_shards::env::Env;
use tailwater_shards::limits::sums::{InputNeeds, Needs, OutputNeeds, Share, Sums, total};
use tailwater_shards::plugin::Placement;
use tailwater_shards::route::ShardBy;
use tailwater_shards::wal::WalType;

/// The sums of a plan.
pub fn sums<E: Env>(plan: &Plan) -> Sums {
    let facts = Facts::of("");
    let instances = |placement| match placement {
        Placement::One => 1,
        Placement::Every => plan.shard_count,
    };
    let inputs = plan.inputs.iter().enumerate().filter(|(_, input)| input.used).map(|(index, input)| InputNeeds {
        line_bytes_max: input.settings.line_bytes_max::<E>(),
        instances: instances(input.settings.spec::<E>(&facts).placement()),
        targets: match input.settings.shard_by::<E>() {
            ShardBy::Source => 1,
            ShardBy::Spread => plan.shard_count,
        },
        lane_bytes: usize::try_from(input.settings.ring::<E>().bytes.0).unwrap_or(usize::MAX),
        pipelines: plan.pipelines.iter().filter(|pipeline| pipeline.inputs.contains(&index)).count(),
        descriptors: input.settings.descriptors_max::<E>(),
        follows_files: input.settings.follows_files::<E>(),
    });
    let outputs = plan.outputs.iter().filter(|output| output.used).map(|output| OutputNeeds {
        instances: instances(output.settings.spec::<E>(&facts, &output.name).placement()),
        batch_bytes_max: output.settings.batching::<E>().max_bytes.0,
        held_bytes_max: output.settings.held_bytes_max::<E>(),
        descriptors: output.settings.descriptors_max::<E>(),
    });
    let needs = Needs {
        shards: plan.shard_count,
        log_in_memory: plan.wal.kind == WalType::Memory,
        segment_bytes: plan.wal.segment_bytes,
        log_bytes: plan.wal.log_bytes,
        dead_letter_bytes: plan.dead_letters.bytes_max,
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        // The connections that are served, and the socket that listens.
        admin_connections: plan.admin.as_ref().map_or(0, |_| CONNECTIONS_MAX as u64 + 1),
    };
    needs.sums()
}

/// The sums as text: each maximum and what it consists of.
pub fn summary(sums: &Sums) -> String {
    let mut out = String::new();
    let bytes = |amount: u64| rounded(amount).to_string();
    let mut line = |key: &str, shares: &[Share], shown: &dyn Fn(u64) -> String| {
        let named = shares.iter().filter(|share| share.amount > 0);
        let parts: Vec<String> = named.map(|share| format!("{} {}", share.consumer, shown(share.amount))).collect();
        let _ = writeln!(out, "{key:<10} at most {}: {}", shown(total(shares)), parts.join(", "));
    };
    line("memory", &sums.memory, &bytes);
    line("files", &sums.descriptors, &|amount| amount.to_string());
    line("disk", &sums.disk, &bytes);
    out
}

/// The size rounded up to whole MiB: the bound is no more exact than that.
pub fn rounded(bytes: u64) -> ByteSize {
    ByteSize(bytes.div_ceil(1 << 20).saturating_mul(1 << 20))
}
