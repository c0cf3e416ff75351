//! Whose the events of a delivery are, as far as the search for events at fault has to know it ([`super::suspects`]).
//!
//! Guarantees: events of two batches of an input are never of one source. So events of two files are not either, unless a transform
//! combined them. With `dead_letters.share_by`, neither are events with different values of it. Nobody can make his events count as those
//! of somebody else's batch. Several batches of one file are several sources: that costs requests, and loses nothing. Four bytes for
//! each event, made only when it is needed.

use super::part::Part;
use crate::net::client::breathe;
use crate::outputs::letters::Owner;
use std::collections::{BTreeMap, HashMap};
use tailwater_shards::env::Env;
use tailwater_shards::plugin::Delivery;

/// The source of each event of a delivery, by its index. A piece of a delivery is of one batch.
pub async fn sources_of<E: Env>(env: &E, delivery: &Delivery<'_>, owner: Option<&Owner>) -> Vec<u32> {
    let mut sources = Vec::with_capacity(usize::try_from(delivery.events).unwrap_or(0));
    let (mut next, mut name) = (0, Vec::new());
    for piece in &delivery.pieces {
        let mut owners: HashMap<Vec<u8>, u32> = HashMap::new();
        for event in piece.iter() {
            if let Some(owner) = owner {
                owner.of(&event, &mut name);
            }
            let number = owners.get(&name).copied().unwrap_or_else(|| {
                owners.insert(name.clone(), next);
                next += 1;
                next - 1
            });
            sources.push(number);
        }
        breathe(env).await;
    }
    sources
}

/// The sources, and how they are doing.
#[derive(Default)]
pub struct Sources {
    of: Vec<u32>,
    /// Single events of each that were drawn, and how many of them were rejected, since one of its events was accepted.
    drawn: BTreeMap<u32, u32>,
    refused: BTreeMap<u32, u32>,
}

impl Sources {
    /// Sources of which nothing was tried yet.
    pub fn new(of: Vec<u32>) -> Sources {
        Sources { of, ..Sources::default() }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// The source of an event. As long as nothing is known, all events are of one.
    pub fn of(&self, index: u64) -> u32 {
        usize::try_from(index).ok().and_then(|index| self.of.get(index)).copied().unwrap_or_default()
    }

    /// The source of a part whose events are of one.
    pub fn of_part(&self, part: &Part) -> u32 {
        part.indexes().next().map_or(0, |index| self.of(index))
    }

    /// The events of a part by source.
    pub fn split(&self, part: &Part) -> impl Iterator<Item = Part> {
        let mut events: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for index in part.indexes() {
            events.entry(self.of(index)).or_default().push(index);
        }
        events.into_values().map(|indexes| part.only(indexes.into_iter()))
    }

    /// How many single events of a source were drawn.
    pub fn drawn(&self, source: u32) -> u32 {
        self.drawn.get(&source).copied().unwrap_or_default()
    }

    /// Counts a drawn event.
    pub fn draw(&mut self, source: u32) {
        *self.drawn.entry(source).or_default() += 1;
    }

    /// Counts a drawn event that was rejected. Returns the count.
    pub fn refuse(&mut self, source: u32) -> u32 {
        let refused = self.refused.entry(source).or_default();
        *refused += 1;
        *refused
    }

    /// Counts from zero again.
    pub fn forget(&mut self, source: u32) {
        self.drawn.remove(&source);
        self.refused.remove(&source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::encoding::testing::piece;
    use crate::outputs::letters::DeadLetters;
    use crate::outputs::requests::tests::on_shard;
    use tailwater_shards::plugin::Column;

    #[test]
    fn events_are_of_one_source_only_with_others_of_their_batch_and_owner() {
        let sources = |share_by: &'static str| {
            on_shard(move |env| async move {
                let mut delivery = Delivery::default();
                for lines in [&[1, 2, 1][..], &[1], &[2, 2]] {
                    let lines: Vec<String> = lines.iter().map(|user| format!("{{\"user\":{user}}}\n")).collect();
                    delivery.push(piece(&lines, Column::Same(0)));
                }
                let settings: DeadLetters = serde_json::from_str(share_by).expect("settings");
                sources_of(&env, &delivery, settings.owner().as_ref()).await
            })
        };
        assert_eq!(sources("{}"), [0, 0, 0, 1, 2, 2]);
        let by_user = r#"{"when_full":"drop_newest","share_by":"{{ user }}"}"#;
        assert_eq!(sources(by_user), [0, 1, 0, 2, 3, 3]);
    }

    #[test]
    fn parts_are_split_by_source() {
        let sources = Sources::new(vec![7, 3, 7, 7]);
        let split: Vec<Part> = sources.split(&Part::of(0..4)).collect();
        assert_eq!(split, [Part::of(1..2), Part::at([0, 2, 3].into_iter())]);
        assert_eq!(Sources::default().split(&Part::of(0..4)).collect::<Vec<_>>(), [Part::of(0..4)]);
    }
}
