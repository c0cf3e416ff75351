//! Which events of a refused request are at fault, when the server says only that some are: its halves are tried, down to single
//! events.
//!
//! Guarantees: a single event that is refused is at fault, and every event of a request that is taken is not. To find `k` such
//! events in a request of `n` takes about `2 * k * log2(n)` further requests. A server that refuses whatever it is sent is not asked
//! about each event: after [`REFUSALS_MAX`] refusals with nothing taken in between, events that are left of refused requests count
//! as at fault together, and their reason says so; then [`REFUSALS_AGAIN`] more are let pass for each delivery until something is
//! taken. Sends nothing.

use super::part::Part;

/// So many refused requests, and none taken, say that the server takes nothing.
pub const REFUSALS_MAX: u32 = 64;

/// As many are let pass for a new delivery to a server that has taken nothing: enough to come down to single events.
pub const REFUSALS_AGAIN: u32 = 32;

/// See the module.
#[derive(Default)]
pub struct Suspects {
    /// Parts of refused requests, newest last.
    parts: Vec<Part>,
    /// Requests refused since one was taken.
    refusals: u32,
    turn_of_largest: bool,
}

impl Suspects {
    /// A new delivery; nothing of another is left.
    pub fn begin(&mut self) {
        self.parts.clear();
        self.refusals = self.refusals.min(REFUSALS_MAX - REFUSALS_AGAIN);
    }

    /// The part to try next: the smallest, which soon is a single event. When that has led to nothing for a while, in turn the
    /// largest, which leads away from a row of events that are all at fault.
    pub fn next(&mut self) -> Option<Part> {
        let sizes = self.parts.iter().map(Part::events).enumerate();
        self.turn_of_largest = !self.turn_of_largest && self.refusals >= REFUSALS_MAX / 3;
        let (chosen, _) = match self.turn_of_largest {
            true => sizes.max_by_key(|(_, events)| *events)?,
            false => sizes.rev().min_by_key(|(_, events)| *events)?,
        };
        Some(self.parts.remove(chosen))
    }

    /// The server has taken a request, or said of each of its events what is wrong with it.
    pub fn taken(&mut self) {
        self.refusals = 0;
    }

    /// The server has refused a request with these events. Adds those that are at fault, and why, to `rejected`.
    pub fn refused(&mut self, part: Part, error: &str, rejected: &mut Vec<(u64, String)>) {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals < REFUSALS_MAX
            && let Some([first, second]) = part.halves()
        {
            self.parts.extend([second, first]);
            return;
        }
        let is_alone = part.events() == 1;
        let together = format!(
            "{error}; this event was refused with others, and nothing was taken meanwhile, so it was not tried alone"
        );
        let reason = if is_alone { error } else { &together };
        rejected.extend(part.indexes().map(|index| (index, reason.to_owned())));
        if self.refusals >= REFUSALS_MAX {
            let left = self.parts.drain(..).flat_map(|part| part.indexes().collect::<Vec<_>>());
            rejected.extend(left.map(|index| (index, together.clone())));
        }
    }

    /// Events that are neither taken nor at fault yet.
    pub fn events(&self) -> u64 {
        self.parts.iter().map(Part::events).sum()
    }

    /// Takes out what is left.
    pub fn drain(&mut self) -> impl Iterator<Item = Part> + '_ {
        self.parts.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    struct Found {
        taken: BTreeSet<u64>,
        rejected: Vec<(u64, String)>,
        requests: u64,
    }

    /// Delivers so many events in one request to a server that refuses each request with an event that is at fault.
    fn deliver(suspects: &mut Suspects, events: u64, at_fault: impl Fn(u64) -> bool) -> Found {
        let mut found = Found { taken: BTreeSet::new(), rejected: Vec::new(), requests: 0 };
        suspects.begin();
        let mut next = Some(Part::of(0..events));
        while let Some(part) = next {
            found.requests += 1;
            if part.indexes().any(&at_fault) {
                suspects.refused(part, "HTTP 400", &mut found.rejected);
            } else {
                assert!(part.indexes().all(|index| found.taken.insert(index)), "an event is taken twice");
                suspects.taken();
            }
            next = suspects.next();
        }
        found.rejected.sort();
        assert_eq!(found.taken.len() + found.rejected.len(), events as usize);
        assert_eq!(suspects.events(), 0);
        found
    }

    fn rejected(found: &Found) -> Vec<u64> {
        found.rejected.iter().map(|(index, _)| *index).collect()
    }

    #[test]
    fn server_that_refuses_everything_is_asked_a_bounded_number_of_times() {
        let mut suspects = Suspects::default();
        let requests: Vec<u64> = (0..4).map(|_| deliver(&mut suspects, 5000, |_| true).requests).collect();
        assert_eq!(requests, [64, 32, 32, 32]);
        let found = deliver(&mut suspects, 5000, |_| true);
        let alone = found.rejected.iter().filter(|(_, reason)| reason == "HTTP 400").count();
        let together = found.rejected.iter().filter(|(_, reason)| reason.contains("with others")).count();
        assert!(alone > 0 && alone + together == 5000, "{alone} alone, {together} together");
    }

    #[test]
    fn one_guilty_event_is_found_even_after_a_server_that_took_nothing() {
        let mut suspects = Suspects::default();
        deliver(&mut suspects, 5000, |_| true);
        for guilty in [0, 1, 2500, 4999] {
            let found = deliver(&mut suspects, 5000, |index| index == guilty);
            assert_eq!(found.rejected, [(guilty, "HTTP 400".to_owned())]);
        }
    }

    #[test]
    fn innocent_events_among_many_guilty_ones_are_taken() {
        type AtFault = fn(u64) -> bool;
        let cases: [(&str, AtFault); 6] = [
            ("the first half", |index| index < 1500),
            ("the last half", |index| index >= 1500),
            ("all but the middle", |index| !(1000..2000).contains(&index)),
            ("every tenth", |index| index % 10 == 3),
            ("every second", |index| index % 2 == 0),
            ("nine of ten", |index| index % 10 != 3),
        ];
        // Some of the innocent may be refused together with rows of guilty neighbours.
        for ((name, at_fault), lost_max) in cases.into_iter().zip([0, 0, 100, 0, 0, 0]) {
            let found = deliver(&mut Suspects::default(), 3000, at_fault);
            let innocent = (0..3000).filter(|index| !at_fault(*index)).count();
            assert!(found.taken.len() + lost_max >= innocent, "{name}: {} of {innocent}", found.taken.len());
        }
    }

    proptest! {
        #[test]
        fn few_guilty_events_are_found_and_no_others(
            events in 1u64..20_000,
            guilty in prop::collection::btree_set(0u64..20_000, 1..20),
        ) {
            let guilty: Vec<u64> = guilty.into_iter().filter(|index| *index < events).collect();
            let found = deliver(&mut Suspects::default(), events, |index| guilty.contains(&index));
            prop_assert_eq!(rejected(&found), guilty.clone());
            let depth = u64::from(events.next_power_of_two().ilog2());
            prop_assert!(found.requests <= 1 + 2 * guilty.len() as u64 * depth, "{} requests", found.requests);
        }
    }
}
