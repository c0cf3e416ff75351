//! The section `dlq`: the dead letter queue.
//!
//! Guarantees: sizes that do not fit the number of shards are reported with their position. Opens nothing.

use super::node::Node;
use super::problem::Problem;
use super::types::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tailwater_shards::dlq::{Options, WhenFull};
use tailwater_shards::limits;

/// What happens to a dead letter when the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DlqFull {
    /// The output or input that has the letter waits until there is room; nothing is lost.
    #[default]
    Block,
    /// The letter is dropped and counted as discarded.
    DropNewest,
    /// The oldest segment of letters is dropped and its letters are counted as discarded.
    DropOldest,
}

/// The dead letter queue keeps events that no output accepts and lines that cannot be parsed, each with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dlq {
    /// Size of the whole queue, split evenly over the shards. Default: 1GiB, more with many shards or very long lines.
    pub max_bytes: Option<ByteSize>,
    /// Size of one segment file, 64KiB to 1GiB: what `drop_oldest` drops at once. At most half of a shard's share of `max_bytes`.
    pub segment_bytes: ByteSize,
    /// What happens when a component has used up its share of the queue.
    pub when_full: DlqFull,
}

impl Default for Dlq {
    fn default() -> Dlq {
        Dlq {
            max_bytes: None,
            segment_bytes: ByteSize(limits::DEAD_LETTER_SEGMENT_BYTES_DEFAULT),
            when_full: DlqFull::default(),
        }
    }
}

/// The settings of each shard's queue if no line is longer than `longest_line`.
pub fn options(dlq: Dlq, shards: usize, longest_line: usize, root: &Node, problems: &mut Vec<Problem>) -> Options {
    let ByteSize(segment) = dlq.segment_bytes;
    let default = limits::dead_letter_bytes_default(shards, longest_line);
    let total = dlq.max_bytes.map_or(default, |ByteSize(total)| total);
    let at = |key: &str| root.span_at(&["dlq", key]);
    let least = limits::SEGMENT_BYTES_MIN;
    if segment < least || segment > limits::SEGMENT_BYTES_MAX {
        let (least, most) = (ByteSize(least), ByteSize(limits::SEGMENT_BYTES_MAX));
        problems.push(
            Problem::error(at("segment_bytes"), "`dlq.segment_bytes` is out of range")
                .label(format!("must be {least} to {most}"))
                .help("leave it out, or use 16MiB"),
        );
    }
    let share = total / shards.max(1) as u64;
    // A letter that does not fit into the whole share would wait forever.
    let needed = limits::dead_letter_bytes_max(longest_line).max(2 * least).saturating_mul(shards as u64);
    if total < needed {
        problems.push(
            Problem::error(at("max_bytes"), "`dlq.max_bytes` is too small")
                .label(format!(
                    "{shards} shards with lines of up to {} need {}",
                    ByteSize(longest_line as u64),
                    ByteSize(needed)
                ))
                .help(format!("use at least {}, or leave it out, or lower `shards`", ByteSize(needed))),
        );
    }
    Options {
        bytes_max: share,
        // So that newer segments remain when the oldest one is dropped.
        segment_bytes: segment.min(share / 2),
        when_full: match dlq.when_full {
            DlqFull::Block => WhenFull::Block,
            DlqFull::DropNewest => WhenFull::DropNewest,
            DlqFull::DropOldest => WhenFull::DropOldest,
        },
    }
}
