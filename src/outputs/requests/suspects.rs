//! Finds the events at fault in a rejected request, if the server only says that there are some: halves are tried, down to
//! single events.
//!
//! Guarantees: a single event that is rejected is at fault, and no event of an accepted request is. To find `k` such events
//! in a request of `n` takes about `2 * k * log2(n)` further requests. A server that rejects everything is not asked about
//! each event: after [`REFUSALS_MAX`] rejections without an accepted request in between, randomly drawn single events are
//! tried. Only if [`PROBES_MAX`] of them in a row are rejected do the others count as at fault together, and their reason
//! says so. So a row of bad events is not mistaken for such a server. If nine in ten events of a delivery are at fault, this
//! happens about every thirtieth time. Sends nothing.

use super::part::Part;

/// This many rejected requests in a row raise the suspicion that the server rejects everything.
pub const REFUSALS_MAX: u32 = 64;

/// This many rejected events in a row, drawn at random, confirm it.
pub const PROBES_MAX: u32 = 32;

/// The same if it was confirmed before and nothing was accepted since.
pub const PROBES_AGAIN: u32 = 16;

/// See the module.
#[derive(Default)]
pub struct Suspects {
    /// Parts of rejected requests, newest last.
    parts: Vec<Part>,
    /// Requests rejected since one was accepted.
    refusals: u32,
    /// Randomly drawn events that were not accepted, and how many of them were rejected.
    drawn: Vec<u64>,
    probes: u32,
    lot: u64,
    /// An event that was accepted, or the first.
    taken: u64,
}

impl Suspects {
    /// Starts a new delivery and forgets the previous one.
    pub fn begin(&mut self) {
        self.parts.clear();
        self.drawn.clear();
        self.taken = 0;
    }

    /// The part to try next. Normally this is the one closest to the last accepted one, because events at fault tend to be
    /// adjacent, and so do the others. Under suspicion, it is a randomly drawn event.
    pub fn next(&mut self) -> Option<Part> {
        if self.refusals >= REFUSALS_MAX {
            return self.draw();
        }
        let near = |part: &Part| (part.distance(self.taken), part.events());
        let (chosen, _) = self.parts.iter().map(near).enumerate().min_by_key(|(_, near)| *near)?;
        Some(self.parts.remove(chosen))
    }

    /// One random event of all that are left.
    fn draw(&mut self) -> Option<Part> {
        let events = self.events();
        // The generator of Knuth's MMIX, whose high bits are the good ones. It need not be secure: the authors of events
        // cannot see it.
        self.lot = self.lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut at = (self.lot >> 33).checked_rem(events)?;
        let chosen = self.parts.iter().position(|part| {
            let is_here = at < part.events();
            at -= if is_here { 0 } else { part.events() };
            is_here
        })?;
        let part = self.parts.remove(chosen);
        let [before, one, behind] = part.around(at);
        self.drawn.extend(one.indexes());
        self.parts.extend([behind, before].into_iter().filter(|part| part.events() > 0));
        Some(one)
    }

    /// The server accepted a request with these events, or reported a result for each of them.
    pub fn taken(&mut self, part: &Part) {
        self.taken = part.indexes().next().unwrap_or_default();
        self.refusals = 0;
        self.probes = 0;
        self.drawn.clear();
    }

    /// The server rejected a request with these events. Adds those that are at fault to `rejected`, with the reason.
    pub fn refused(&mut self, part: Part, error: &str, rejected: &mut Vec<(u64, String)>) {
        match part.halves() {
            Some([first, second]) if self.refusals < REFUSALS_MAX => self.parts.extend([second, first]),
            Some(_) => self.parts.push(part),
            None => {
                // Adjacent events from the search say nothing about the others.
                let is_drawn = part.indexes().any(|index| self.drawn.contains(&index));
                self.probes += u32::from(is_drawn);
                rejected.extend(part.indexes().map(|index| (index, error.to_owned())));
            }
        }
        self.refusals = self.refusals.saturating_add(1);
        if self.probes >= PROBES_MAX {
            self.probes = PROBES_MAX - PROBES_AGAIN;
            let together = format!(
                "{error}; rejected together with others: the server accepted nothing, so it was not tried alone"
            );
            let left = self.parts.drain(..).flat_map(|part| part.indexes().collect::<Vec<_>>());
            rejected.extend(left.map(|index| (index, together.clone())));
        }
    }

    /// Number of events that are neither accepted nor at fault yet.
    pub fn events(&self) -> u64 {
        self.parts.iter().map(Part::events).sum()
    }

    /// Removes and returns what is left.
    pub fn drain(&mut self) -> impl Iterator<Item = Part> + '_ {
        self.parts.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, VecDeque};

    struct Found {
        taken: BTreeSet<u64>,
        rejected: Vec<(u64, String)>,
        requests: u64,
    }

    /// [`deliver_in_order`], and the request that began first ends first.
    fn deliver(suspects: &mut Suspects, sizes: [u64; 3], at_fault: impl Fn(u64) -> bool) -> Found {
        deliver_in_order(suspects, sizes, |_| 0, at_fault)
    }

    /// Delivers events in requests to a server that rejects each request with an event at fault. `sizes`: number of events,
    /// events per request, concurrent requests. `lands`: which of so many running requests ends first.
    fn deliver_in_order(
        suspects: &mut Suspects,
        sizes: [u64; 3],
        mut lands: impl FnMut(usize) -> usize,
        at_fault: impl Fn(u64) -> bool,
    ) -> Found {
        let [events, of_request, under_way] = sizes;
        let mut found = Found { taken: BTreeSet::new(), rejected: Vec::new(), requests: 0 };
        suspects.begin();
        let parts = (0..events).step_by(of_request as usize);
        let mut left: VecDeque<Part> = parts.map(|at| Part::of(at..events.min(at + of_request))).collect();
        let mut flights: VecDeque<Part> = VecDeque::new();
        loop {
            while (flights.len() as u64) < under_way
                && let Some(part) = suspects.next().or_else(|| left.pop_front())
            {
                flights.push_back(part);
            }
            if flights.is_empty() {
                break;
            }
            let part = flights.remove(lands(flights.len())).expect("it is one of them");
            found.requests += 1;
            if part.indexes().any(&at_fault) {
                suspects.refused(part, "HTTP 400", &mut found.rejected);
            } else {
                assert!(part.indexes().all(|index| found.taken.insert(index)), "an event is taken twice");
                suspects.taken(&part);
            }
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
    fn server_that_rejects_everything_gets_a_bounded_number_of_requests() {
        let mut suspects = Suspects::default();
        let requests: Vec<u64> = (0..4).map(|_| deliver(&mut suspects, [5000, 5000, 1], |_| true).requests).collect();
        assert_eq!(requests, [96, 17, 17, 17]);
        let found = deliver(&mut suspects, [5000, 5000, 1], |_| true);
        let alone = found.rejected.iter().filter(|(_, reason)| reason == "HTTP 400").count();
        let together = found.rejected.iter().filter(|(_, reason)| reason.contains("with others")).count();
        assert_eq!((alone, together), (16, 4984));
        let found = deliver(&mut Suspects::default(), [50_000, 1000, 4], |_| true);
        assert!(found.requests < 96 + 50 * 18, "{}", found.requests);
    }

    #[test]
    fn one_event_at_fault_is_found_after_a_server_that_accepted_nothing() {
        let mut suspects = Suspects::default();
        for guilty in [0, 1, 2500, 4999] {
            deliver(&mut suspects, [5000, 5000, 1], |_| true);
            let found = deliver(&mut suspects, [5000, 5000, 1], |index| index == guilty);
            assert_eq!(found.rejected, [(guilty, "HTTP 400".to_owned())]);
        }
    }

    #[test]
    fn good_events_among_many_at_fault_are_accepted() {
        type AtFault = fn(u64) -> bool;
        let cases: [(&str, AtFault); 8] = [
            ("the first half", |index| index < 1500),
            ("the last half", |index| index >= 1500),
            ("all but the middle", |index| !(1000..2000).contains(&index)),
            ("every tenth", |index| index % 10 == 3),
            ("every second", |index| index % 2 == 0),
            ("three of four", |index| index % 4 != 3),
            ("a row, then a few", |index| index < 60 || index % 33 == 0),
            ("a row at the head of each request", |index| index % 750 < 60),
        ];
        for (name, at_fault) in cases {
            for (of_request, under_way) in [(3000, 1), (3000, 4), (750, 2), (750, 4), (40, 64)] {
                let found = deliver(&mut Suspects::default(), [3000, of_request, under_way], at_fault);
                let guilty: Vec<u64> = (0..3000).filter(|index| at_fault(*index)).collect();
                assert!(rejected(&found) == guilty, "{name}, {of_request} to a request, {under_way} under way");
            }
        }
    }

    proptest! {
        /// What was under way when the server counted as one that rejects everything is not known to be like the rest.
        #[test]
        fn late_requests_of_several_events_are_looked_into_once_more(
            under_way in 1u64..6,
            order in prop::collection::vec(0usize..6, 1..200),
        ) {
            let mut order = order.iter().cycle();
            let lands = |running| order.next().map_or(0, |drawn| drawn % running);
            let found = deliver_in_order(&mut Suspects::default(), [3000, 3000, under_way], lands, |_| true);
            let again = (under_way - 1) * (u64::from(PROBES_AGAIN) + under_way);
            let most = u64::from(REFUSALS_MAX + PROBES_MAX) + 2 * under_way + again;
            prop_assert!(found.requests <= most, "{} requests", found.requests);
        }

        #[test]
        fn few_events_at_fault_are_found_and_no_others(
            events in 1u64..20_000,
            guilty in prop::collection::btree_set(0u64..20_000, 1..20),
        ) {
            let guilty: Vec<u64> = guilty.into_iter().filter(|index| *index < events).collect();
            let found = deliver(&mut Suspects::default(), [events, events, 1], |index| guilty.contains(&index));
            prop_assert_eq!(rejected(&found), guilty.clone());
            let depth = u64::from(events.next_power_of_two().ilog2());
            prop_assert!(found.requests <= 1 + 2 * guilty.len() as u64 * depth, "{} requests", found.requests);
        }
    }
}
