//! Keys in the order in which they were last seen.
//!
//! Guarantees: each key is stored once. Adding a key and removing the oldest take logarithmic time. Has no size limit of its
//! own: the caller removes keys when there are too many.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// See the module.
#[derive(Clone)]
pub struct Recency<K> {
    seen: HashMap<K, u64>,
    by_age: BTreeMap<u64, K>,
    next: u64,
}

impl<K> Default for Recency<K> {
    fn default() -> Recency<K> {
        Recency { seen: HashMap::new(), by_age: BTreeMap::new(), next: 0 }
    }
}

impl<K: Copy + Eq + Hash> Recency<K> {
    /// Makes the key the most recent one.
    pub fn see(&mut self, key: K) {
        self.next += 1;
        self.by_age.insert(self.next, key);
        if let Some(earlier) = self.seen.insert(key, self.next) {
            self.by_age.remove(&earlier);
        }
    }

    /// Removes and returns the key that was not seen for the longest time, if there are more than `max`.
    pub fn evict_beyond(&mut self, max: usize) -> Option<K> {
        if self.seen.len() <= max {
            return None;
        }
        let (_, oldest) = self.by_age.pop_first()?;
        self.seen.remove(&oldest);
        Some(oldest)
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &K) {
        if let Some(seen) = self.seen.remove(key) {
            self.by_age.remove(&seen);
        }
    }

    /// Number of keys.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether the key is stored.
    pub fn contains(&self, key: &K) -> bool {
        self.seen.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_recently_seen_key_is_evicted() {
        let mut recency = Recency::default();
        [1, 2, 3, 1, 1].into_iter().for_each(|key| recency.see(key));
        assert_eq!((recency.len(), recency.by_age.len()), (3, 3));
        assert_eq!(recency.evict_beyond(3), None);
        assert_eq!(
            (recency.evict_beyond(1), recency.evict_beyond(1), recency.evict_beyond(1)),
            (Some(2), Some(3), None)
        );
        assert!(recency.contains(&1) && !recency.contains(&2));
        recency.remove(&1);
        assert!(recency.len() == 0 && recency.by_age.is_empty());
    }
}
