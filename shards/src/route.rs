//! Which shard an event goes to. Pure functions.
//!
//! Guarantees: the same key and number of shards give the same shard on every machine and in every version (the hash is
//! specified: XXH3-64). Does not balance: unevenly distributed keys load the shards unevenly.

use crate::env::ShardId;

/// Where the batches of an input go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ShardBy {
    /// To the shard that reads the source. Order holds per source.
    #[default]
    Source,
    /// To all shards in turn. Order does not hold across batches.
    Spread,
}

/// The shard that owns `key`.
///
/// # Panics
/// If there are no shards.
pub fn shard_of(key: &[u8], shards: usize) -> ShardId {
    assert!(shards > 0, "no shards to route to");
    // The high half of the product maps the hash to 0..shards without the bias and the cost of a division.
    let scaled = (u128::from(xxhash_rust::xxh3::xxh3_64(key)) * shards as u128) >> 64;
    ShardId(u16::try_from(scaled).expect("a shard number fits its type, since shards are capped"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routing_is_stable_across_versions() {
        let shards: Vec<u16> = [&b""[..], b"a", b"checkout", b"tenant-42"].iter().map(|k| shard_of(k, 7).0).collect();
        assert_eq!(shards, EXPECTED);
    }

    /// Computed once; a change would send keys to other shards than before and break their order over an upgrade.
    const EXPECTED: [u16; 4] = [1, 6, 5, 6];

    #[test]
    fn every_shard_gets_its_part() {
        let mut counts = [0u32; 5];
        for i in 0..50_000u32 {
            counts[shard_of(&i.to_le_bytes(), 5).index()] += 1;
        }
        assert!(counts.iter().all(|&count| (9_500..10_500).contains(&count)), "{counts:?}");
    }
}
