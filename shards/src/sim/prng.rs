//! The simulator's random numbers: xoshiro256++, seeded through splitmix64.
//!
//! Guarantees: a stream is a function of its seed and its salt, on every platform and permanently. Streams of different salts
//! are independent, so that an additional draw in one place changes nothing in another. Not for secrets.

/// One step of splitmix64: spreads the bits of a counter or a seed.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Prng {
    state: [u64; 4],
}

impl Prng {
    /// The stream of `seed` for the purpose `salt`.
    pub fn new(seed: u64, salt: &str) -> Prng {
        let mut start = mix(seed);
        for &byte in salt.as_bytes() {
            start = mix(start ^ u64::from(byte));
        }
        let mut state = [0; 4];
        for word in &mut state {
            start = mix(start);
            *word = start;
        }
        Prng { state }
    }

    /// 64 random bits.
    pub fn draw(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below zero");
        // The bias of the multiplication is below 2^-40 for every bound used here.
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// An index below `length`, which is not zero.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "empty range {low}..={high}");
        match (high - low).checked_add(1) {
            Some(width) => low + self.below(width),
            None => self.draw(),
        }
    }

    /// True once in `times` on average. Never if zero.
    pub fn one_in(&mut self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }

    /// True with this probability in percent.
    pub fn percent(&mut self, chances: u64) -> bool {
        self.below(100) < chances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_function_of_seed_and_salt() {
        let draw = |seed, salt: &str| {
            let mut prng = Prng::new(seed, salt);
            (0..8).map(|_| prng.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, "disk"), draw(7, "disk"));
        assert_ne!(draw(7, "disk"), draw(8, "disk"));
        assert_ne!(draw(7, "disk"), draw(7, "schedule"));
    }

    #[test]
    fn draws_reach_every_number_of_a_range_and_none_outside() {
        let mut prng = Prng::new(1, "range");
        let mut seen = [0_u32; 5];
        for _ in 0..1000 {
            seen[usize::try_from(prng.between(3, 7)).unwrap() - 3] += 1;
        }
        assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
        assert_eq!(prng.between(9, 9), 9);
        assert!(!(0..100).any(|_| prng.one_in(0)));
    }
}
