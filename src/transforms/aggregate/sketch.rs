//! Sketch: the distribution of numbers in bounded memory, for percentiles.
//!
//! Guarantees: a percentile is within the relative error [`ERROR`] of the number with this rank, whatever the distribution and
//! the order. The memory is bounded: numbers more than 17 orders of magnitude closer to zero than the largest count as the
//! smallest that are not. The sizes of buckets grow exponentially, as in DDSketch (Masson, Rim, Lee, 2019).

/// The largest relative error of a percentile.
pub const ERROR: f64 = 0.01;

/// The base of the buckets: all numbers in a bucket are within [`ERROR`] of the number that represents it.
const GAMMA: f64 = (1.0 + ERROR) / (1.0 - ERROR);

/// Buckets on each side of zero.
const BUCKETS_MAX: usize = 2048;

/// Numbers closer to zero than this count as zero.
const LEAST: f64 = 1e-300;

/// Counts of numbers of one sign, by the logarithm of their size.
#[derive(Clone, Debug, Default)]
struct Side {
    counts: Vec<u64>,
    /// The bucket of the first count.
    first: i32,
}

impl Side {
    fn add(&mut self, size: f64) {
        let mut bucket = (size.ln() / GAMMA.ln()).ceil() as i32;
        if self.counts.is_empty() {
            self.first = bucket;
        }
        let last = self.first + self.counts.len() as i32 - 1;
        if bucket > last {
            self.reach(bucket);
        } else if bucket < self.first {
            bucket = bucket.max(last - (BUCKETS_MAX as i32 - 1));
            let more = (self.first - bucket).max(0) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.first -= more as i32;
        }
        let at = (bucket - self.first).max(0) as usize;
        self.counts[at] += 1;
    }

    /// Makes room up to a bucket. If there are too many, the lowest buckets are merged.
    fn reach(&mut self, bucket: i32) {
        let first = self.first.max(bucket - (BUCKETS_MAX as i32 - 1));
        let gone = ((first - self.first) as usize).min(self.counts.len());
        let merged: u64 = self.counts.drain(..gone).sum();
        self.first = first;
        self.counts.resize((bucket - first) as usize + 1, 0);
        self.counts[0] += merged;
    }

    fn clear(&mut self) {
        self.counts.clear();
    }

    /// The size that represents a bucket.
    fn size(&self, at: usize) -> f64 {
        2.0 * GAMMA.powi(self.first + at as i32) / (GAMMA + 1.0)
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    negative: Side,
    zeros: u64,
    positive: Side,
    count: u64,
    least: f64,
    greatest: f64,
}

impl Sketch {
    /// Empties it, and keeps its memory.
    pub fn clear(&mut self) {
        self.negative.clear();
        self.positive.clear();
        (self.zeros, self.count) = (0, 0);
    }

    /// Adds a finite number.
    pub fn add(&mut self, number: f64) {
        debug_assert!(number.is_finite(), "JSON has no other numbers, and what is too large is not given to sketches");
        (self.least, self.greatest) = match self.count {
            0 => (number, number),
            _ => (self.least.min(number), self.greatest.max(number)),
        };
        self.count += 1;
        if number >= LEAST {
            self.positive.add(number);
        } else if number <= -LEAST {
            self.negative.add(-number);
        } else {
            self.zeros += 1;
        }
    }

    /// The smallest number that at least this fraction of all numbers does not exceed (nearest rank); none if there are no
    /// numbers.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let last = self.count.checked_sub(1)?;
        let found = self.at(nearest_rank(part, self.count).min(last));
        Some(found.clamp(self.least, self.greatest))
    }

    /// The approximate number at an index in the sorted order.
    fn at(&self, mut rank: u64) -> f64 {
        for (at, count) in self.negative.counts.iter().enumerate().rev() {
            if rank < *count {
                return -self.negative.size(at);
            }
            rank -= count;
        }
        if rank < self.zeros {
            return 0.0;
        }
        rank -= self.zeros;
        for (at, count) in self.positive.counts.iter().enumerate() {
            if rank < *count {
                return self.positive.size(at);
            }
            rank -= count;
        }
        self.greatest
    }
}

/// The index of the percentile in the sorted order of this many numbers, from zero.
fn nearest_rank(part: f64, count: u64) -> u64 {
    // A product that differs from a whole number only by rounding counts as that number.
    let rank = (part.clamp(0.0, 1.0) * count as f64 - 1e-9).ceil();
    (rank as u64).max(1) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sketch(numbers: &[f64]) -> Sketch {
        let mut sketch = Sketch::default();
        numbers.iter().for_each(|number| sketch.add(*number));
        sketch
    }

    fn is_close(found: f64, exact: f64) -> bool {
        // A little more than the error, for the rounding of logarithms.
        (found - exact).abs() <= exact.abs() * ERROR * 1.000_001 + 1e-300
    }

    #[test]
    fn percentiles_of_a_hundred_numbers() {
        let sketch = sketch(&(1..=101).map(f64::from).collect::<Vec<_>>());
        for percent in [0, 1, 50, 90, 99, 100] {
            let found = sketch.quantile(f64::from(percent) / 100.0).expect("there are numbers");
            assert!(is_close(found, f64::from(percent + 1)), "{percent}: {found}");
        }
        assert_eq!(Sketch::default().quantile(0.5), None);
    }

    #[test]
    fn percentiles_of_few_numbers_are_among_them() {
        let sketch = sketch(&[1.0, 100.0]);
        for (part, expected) in [(0.0, 1.0), (0.5, 1.0), (0.51, 100.0), (0.9, 100.0), (0.99, 100.0), (1.0, 100.0)] {
            assert!(is_close(sketch.quantile(part).expect("numbers"), expected), "{part}");
        }
        assert_eq!([0.07, 0.29, 0.57, 0.58].map(|part| nearest_rank(part, 100)), [6, 28, 56, 57]);
    }

    #[test]
    fn range_that_is_too_wide_costs_only_the_smallest_numbers() {
        let mut numbers: Vec<f64> = (-297..=300).step_by(3).map(|exponent| 10f64.powi(exponent)).collect();
        for _ in 0..2 {
            let sketch = sketch(&numbers);
            assert!(sketch.positive.counts.len() <= BUCKETS_MAX);
            assert!(is_close(sketch.quantile(1.0).expect("numbers"), 1e300));
            assert!(is_close(sketch.quantile(0.99).expect("numbers"), 1e294));
            assert!(sketch.quantile(0.0).expect("numbers") > 1e280);
            numbers.reverse();
        }
    }

    #[test]
    fn cleared_sketch_is_an_empty_one() {
        let mut sketch = sketch(&[5.0, -5.0, 0.0]);
        sketch.clear();
        assert_eq!(sketch.quantile(0.5), None);
        sketch.add(1000.0);
        assert_eq!(sketch.quantile(0.5), Some(1000.0));
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            Just(0.0),
            -1e6..1e6f64,
            (-8..9i32, 1.0..10.0f64, any::<bool>())
                .prop_map(|(exponent, digits, minus)| 10f64.powi(exponent) * if minus { -digits } else { digits }),
        ]
    }

    proptest! {
        #[test]
        fn error_is_bounded(numbers in proptest::collection::vec(number(), 1..300), part in 0.0..=1.0f64) {
            let sketch = sketch(&numbers);
            let mut sorted = numbers;
            sorted.sort_by(f64::total_cmp);
            let exact = sorted[nearest_rank(part, sorted.len() as u64) as usize];
            let found = sketch.quantile(part).expect("there are numbers");
            prop_assert!(is_close(found, exact), "{found} for {exact}");
        }
    }
}
