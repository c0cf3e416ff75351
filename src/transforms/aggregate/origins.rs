//! Origins: for each source, the position from which events are counted in an open window.
//!
//! Guarantees: no source with such events is reported as free of them. The memory is bounded: beyond [`SOURCES_MAX`] sources,
//! the lowest position of the remaining sources stands for each of them. Allocates at most once per batch.

use super::super::Origin;
use std::collections::HashMap;
use tailwater_shards::batch::SourceKey;

/// The number of sources of one window that are tracked separately.
pub const SOURCES_MAX: usize = 4096;

/// See the module.
#[derive(Default)]
pub struct Origins {
    /// Where the current batch begins, until an event of it is counted.
    next: Option<Origin>,
    first: HashMap<SourceKey, u64>,
    /// The lowest position of all other sources.
    others: Option<u64>,
}

impl Origins {
    /// A batch begins.
    pub fn begin(&mut self, origin: Origin) {
        self.next = Some(origin);
    }

    /// An event of the current batch is counted.
    #[inline]
    pub fn count(&mut self) {
        if let Some(origin) = self.next.take() {
            self.note(origin);
        }
    }

    fn note(&mut self, Origin { source, from }: Origin) {
        if let Some(first) = self.first.get_mut(&source) {
            *first = from.min(*first);
        } else if self.first.len() < SOURCES_MAX {
            self.first.insert(source, from);
        } else {
            self.others = Some(self.others.map_or(from, |others| others.min(from)));
        }
    }

    /// The position from which events of a source are counted.
    pub fn of(&self, source: SourceKey) -> Option<u64> {
        self.first.get(&source).copied().or(self.others)
    }

    /// The window has ended.
    pub fn clear(&mut self) {
        self.first.clear();
        self.others = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(origins: &mut Origins, source: u128, from: u64) {
        origins.begin(Origin { source: SourceKey(source), from });
        origins.count();
        origins.count();
    }

    #[test]
    fn a_batch_counts_from_its_begin_once_an_event_of_it_does() {
        let mut origins = Origins::default();
        origins.begin(Origin { source: SourceKey(1), from: 5 });
        assert_eq!(origins.of(SourceKey(1)), None, "no event of it was counted");
        count(&mut origins, 1, 10);
        count(&mut origins, 1, 20);
        count(&mut origins, 2, 7);
        assert_eq!([1, 2, 3].map(|key| origins.of(SourceKey(key))), [Some(10), Some(7), None]);
        origins.clear();
        assert_eq!(origins.of(SourceKey(1)), None);
    }

    #[test]
    fn sources_beyond_the_bound_have_the_lowest_position_of_them() {
        let mut origins = Origins::default();
        let many = SOURCES_MAX as u128;
        (0..many).for_each(|key| count(&mut origins, key, 1000));
        for (key, from) in [(many, 50), (many + 1, 30), (many + 2, 90)] {
            count(&mut origins, key, from);
        }
        assert_eq!(
            [0, many, many + 2, many + 9].map(|key| origins.of(SourceKey(key))),
            [Some(1000), Some(30), Some(30), Some(30)]
        );
        assert_eq!(origins.first.len(), SOURCES_MAX);
    }
}
