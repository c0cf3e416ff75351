//! The hash function of the maps in this module: names in one call, numbers with one multiplication each.
//!
//! Each map draws a random seed, so that nobody can construct names that collide. Equal values have different hashes in
//! different maps.

use std::hash::{BuildHasher, Hasher, RandomState};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The builder for the maps' hashers.
#[derive(Clone)]
pub(super) struct Build(u64);

impl Default for Build {
    fn default() -> Build {
        Build(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Build {
    type Hasher = Hashed;

    #[inline]
    fn build_hasher(&self) -> Hashed {
        Hashed(self.0)
    }
}

/// See the module.
pub(super) struct Hashed(u64);

impl Hashed {
    #[inline]
    fn mix(&mut self, value: u64) {
        // The golden ratio in 64 bits.
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

impl Hasher for Hashed {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    #[inline]
    fn write_u16(&mut self, value: u16) {
        self.mix(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    #[inline]
    fn write_isize(&mut self, value: isize) {
        self.mix(value as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        // Hash maps use the highest bits and the lowest bits.
        let folded = (self.0 ^ self.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        folded ^ folded >> 29
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::Hash;

    fn distinct<T: Hash>(all: impl Iterator<Item = T>, bits: impl Fn(u64) -> u64) -> usize {
        let build = Build::default();
        all.map(|one| bits(build.hash_one(one))).collect::<HashSet<u64>>().len()
    }

    #[test]
    fn neighbours_are_far_apart() {
        // 4,096 things into 65,536 places by lot meet some 125 times.
        for bits in [|hash: u64| hash >> 48, |hash: u64| hash & 0xffff] {
            assert!(distinct(0..4096u32, bits) > 3800);
            assert!(distinct((0..4096u32).map(|number| [(number % 64, 7), (number / 64, 9)]), bits) > 3800);
            assert!(distinct((0..4096).map(|number| format!("k{number}").into_bytes()), bits) > 3800);
        }
    }
}
