//! Finds the events at fault in a rejected request, if the server only says that there are some: halves are tried, down to
//! single events.
//!
//! Guarantees: a single event that is rejected is at fault, and no event of an accepted request is. To find `k` such events
//! in a request of `n` takes about `2 * k * log2(n)` further requests. A server that rejects everything is not asked about
//! each event: after [`REFUSALS_MAX`] rejections without an accepted request in between, randomly drawn single events are
//! tried, of each source in turn ([`super::sources`]). An event stands only for others of its source: those of a source count as at
//! fault together if enough of its own were drawn and all of them were rejected, and their reason says so. So whoever writes nearly all
//! events of a delivery loses only his own, and a source with one event loses it only if this event was rejected itself.
//!
//! [`PROBES_MAX`] events in a row are enough. So a row of bad events is not mistaken for a server that rejects everything. If nine in ten
//! events of a source are at fault, this happens about every thirtieth time. As long as nothing of the delivery was accepted, the sources
//! share these [`PROBES_MAX`], but [`PROBES_EACH`] of each are drawn.
//!
//! Such a server gets [`DRAWS_MAX`] single events in an attempt: with more sources, the search continues with the next attempt. Sends
//! nothing.

use super::part::Part;
use super::sources::Sources;
use std::collections::{BTreeMap, BTreeSet};

/// This many rejected requests in a row raise the suspicion that the server rejects everything.
pub const REFUSALS_MAX: u32 = 64;

/// This many rejected events in a row, drawn at random from a source, confirm that it accepts none of this source.
pub const PROBES_MAX: u32 = 32;

/// The same if it was confirmed before and nothing was accepted since.
pub const PROBES_AGAIN: u32 = 16;

/// How many events of each source are drawn at least, however many sources there are: at first, and if nothing was accepted since.
pub const PROBES_EACH: u32 = 4;
pub const PROBES_EACH_AGAIN: u32 = 2;

/// How many events are drawn in an attempt if none of them is accepted.
pub const DRAWS_MAX: u32 = 256;

/// See the module.
#[derive(Default)]
pub struct Suspects {
    /// Parts of rejected requests, newest last.
    parts: Vec<Part>,
    /// Whether each of them is of one source.
    is_split: bool,
    /// Requests rejected since one was accepted.
    refusals: u32,
    /// Empty until it matters.
    sources: Sources,
    /// How many events of a source are enough to judge it. None if it depends on what was accepted since.
    enough: Option<u32>,
    /// Randomly drawn events that were neither accepted nor rejected yet.
    drawn: BTreeSet<u64>,
    /// How many were drawn in this attempt since one was accepted.
    draws: u32,
    lot: u64,
    /// An event that was accepted, or the first.
    taken: u64,
    /// Whether anything of the delivery was accepted.
    has_taken: bool,
    /// Whether a source was given up since something was accepted.
    is_confirmed: bool,
}

impl Suspects {
    /// Starts a new delivery and forgets the previous one.
    pub fn begin(&mut self) {
        let (refusals, lot, is_confirmed) = (self.refusals, self.lot, self.is_confirmed);
        *self = Suspects { refusals, lot, is_confirmed, ..Suspects::default() };
    }

    /// Starts another attempt of the delivery.
    pub fn begin_attempt(&mut self) {
        self.draws = 0;
    }

    /// Whether [`Suspects::learn`] must be called before [`Suspects::next`].
    pub fn wants_sources(&self) -> bool {
        self.is_suspicious() && self.sources.is_empty()
    }

    /// Learns the source of each event of the delivery.
    pub fn learn(&mut self, sources: Vec<u32>) {
        self.is_split = false;
        self.sources = Sources::new(sources);
    }

    /// Whether the server was asked about enough single events for this attempt.
    pub fn has_asked_enough(&self) -> bool {
        self.is_suspicious() && self.draws >= DRAWS_MAX
    }

    fn is_suspicious(&self) -> bool {
        self.refusals >= REFUSALS_MAX && !self.parts.is_empty()
    }

    /// The part to try next. Normally this is the one closest to the last accepted one, because events at fault tend to be
    /// adjacent, and so do the others. If sources are known, parts of the same source are closer. Under suspicion, it is a randomly drawn
    /// event.
    pub fn next(&mut self) -> Option<Part> {
        if self.is_suspicious() {
            return self.draw();
        }
        let source = self.sources.of(self.taken);
        let near = |part: &Part| (self.sources.of_part(part) != source, part.distance(self.taken), part.events());
        let (chosen, _) = self.parts.iter().map(near).enumerate().min_by_key(|(_, near)| *near)?;
        Some(self.parts.remove(chosen))
    }

    /// One random event of the source of which the fewest were drawn.
    fn draw(&mut self) -> Option<Part> {
        if !std::mem::replace(&mut self.is_split, true) {
            self.parts = self.parts.iter().flat_map(|part| self.sources.split(part)).collect();
        }
        let mut left: BTreeMap<u32, u64> = BTreeMap::new();
        for part in &self.parts {
            *left.entry(self.sources.of_part(part)).or_default() += part.events();
        }
        let sources = u32::try_from(left.len()).unwrap_or(u32::MAX);
        self.enough.get_or_insert_with(|| match (self.has_taken, self.is_confirmed) {
            (true, _) => PROBES_MAX,
            (false, false) => PROBES_MAX.div_ceil(sources.max(1)).max(PROBES_EACH),
            (false, true) => PROBES_AGAIN.div_ceil(sources.max(1)).max(PROBES_EACH_AGAIN),
        });
        let fewest = left.keys().map(|source| self.sources.drawn(*source)).min()?;
        left.retain(|source, _| self.sources.drawn(*source) == fewest);
        let (source, events) = left.iter().nth(self.random(left.len() as u64) as usize)?;
        let mut at = self.random(*events);
        let chosen = self.parts.iter().position(|part| {
            let is_of_source = self.sources.of_part(part) == *source;
            let is_here = is_of_source && at < part.events();
            at -= if is_here || !is_of_source { 0 } else { part.events() };
            is_here
        })?;
        let part = self.parts.remove(chosen);
        let [before, one, behind] = part.around(at);
        self.drawn.extend(one.indexes());
        self.sources.draw(*source);
        self.draws += 1;
        self.parts.extend([behind, before].into_iter().filter(|part| part.events() > 0));
        Some(one)
    }

    /// A random number below `end`.
    fn random(&mut self, end: u64) -> u64 {
        // The generator of Knuth's MMIX, whose high bits are the good ones. It need not be secure: the authors of events
        // cannot see it.
        self.lot = self.lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.lot >> 33).checked_rem(end).unwrap_or_default()
    }

    /// The server accepted a request with these events, or reported a result for each of them.
    pub fn taken(&mut self, part: &Part) {
        self.taken = part.indexes().next().unwrap_or_default();
        self.refusals = 0;
        self.draws = 0;
        self.enough = None;
        self.has_taken = true;
        self.is_confirmed = false;
        if self.sources.is_empty() {
            return;
        }
        let sources: BTreeSet<u32> = part.indexes().map(|index| self.sources.of(index)).collect();
        sources.iter().for_each(|source| self.sources.forget(*source));
        // What was drawn before no longer counts.
        self.drawn.retain(|index| !sources.contains(&self.sources.of(*index)));
    }

    /// The server rejected a request with these events. Adds those that are at fault to `rejected`, with the reason.
    pub fn refused(&mut self, part: Part, error: &str, rejected: &mut Vec<(u64, String)>) {
        self.is_split &= part.events() == 1;
        match part.halves() {
            Some([first, second]) if self.refusals < REFUSALS_MAX => self.parts.extend([second, first]),
            Some(_) => self.parts.push(part),
            None => {
                rejected.extend(part.indexes().map(|index| (index, error.to_owned())));
                // Adjacent events from the search say nothing about the others.
                let is_drawn = part.indexes().any(|index| self.drawn.remove(&index));
                let source = self.sources.of_part(&part);
                if is_drawn && self.sources.refuse(source) >= self.enough.unwrap_or(PROBES_MAX) {
                    self.give_up(source, error, rejected);
                }
            }
        }
        self.refusals = self.refusals.saturating_add(1);
    }

    /// Rejects what is left of a source.
    fn give_up(&mut self, source: u32, error: &str, rejected: &mut Vec<(u64, String)>) {
        let together = format!(
            "{error}; rejected together with others of its source: the server accepted none of them, so it was not tried alone"
        );
        for part in std::mem::take(&mut self.parts) {
            let is_of_source = |index: &u64| self.sources.of(*index) == source;
            rejected.extend(part.indexes().filter(is_of_source).map(|index| (index, together.clone())));
            let others = part.only(part.indexes().filter(|index| !is_of_source(index)));
            self.parts.extend(Some(others).filter(|part| part.events() > 0));
        }
        self.sources.forget(source);
        self.is_confirmed = true;
        if self.parts.is_empty() {
            self.enough = None;
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
        attempts: u64,
    }

    /// [`deliver_in_order`], and the request that began first ends first. All events are of one source.
    fn deliver(suspects: &mut Suspects, sizes: [u64; 3], at_fault: impl Fn(u64) -> bool) -> Found {
        deliver_in_order(suspects, sizes, |_| 0, (|_| 0, at_fault))
    }

    /// Delivers events in requests to a server that rejects each request with an event at fault. `sizes`: number of events,
    /// events per request, concurrent requests. `lands`: which of so many running requests ends first. `events`: the source of an event,
    /// and whether it is at fault.
    fn deliver_in_order(
        suspects: &mut Suspects,
        sizes: [u64; 3],
        mut lands: impl FnMut(usize) -> usize,
        (source, at_fault): (impl Fn(u64) -> u32, impl Fn(u64) -> bool),
    ) -> Found {
        let [events, of_request, under_way] = sizes;
        let mut found = Found { taken: BTreeSet::new(), rejected: Vec::new(), requests: 0, attempts: 1 };
        suspects.begin();
        let parts = (0..events).step_by(of_request as usize);
        let mut left: VecDeque<Part> = parts.map(|at| Part::of(at..events.min(at + of_request))).collect();
        let mut flights: VecDeque<Part> = VecDeque::new();
        loop {
            while (flights.len() as u64) < under_way && !suspects.has_asked_enough() {
                if suspects.wants_sources() {
                    suspects.learn((0..events).map(&source).collect());
                }
                let Some(part) = suspects.next().or_else(|| left.pop_front()) else { break };
                flights.push_back(part);
            }
            if flights.is_empty() && suspects.has_asked_enough() {
                suspects.begin_attempt();
                found.attempts += 1;
                continue;
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

    /// How many of the others there are does not matter.
    #[test]
    fn only_good_event_of_its_source_is_tried_itself() {
        for bad_sources in [1, 2, 31, 300, 599] {
            let source = |index| if index == 234 { 9999 } else { index as u32 % bad_sources };
            let mut suspects = Suspects::default();
            for round in 0..2 {
                let found = deliver_in_order(&mut suspects, [600, 600, 4], |_| 0, (source, |index| index != 234));
                assert_eq!(found.taken, BTreeSet::from([234]), "{bad_sources} others, {round}");
                // The next delivery meets a server that seems to reject everything.
                deliver_in_order(&mut suspects, [600, 600, 4], |_| 0, (source, |_| true));
            }
        }
    }

    #[test]
    fn source_with_good_events_is_not_judged_by_a_few_once_the_server_accepted_some() {
        let source = |index| index as u32 / 100;
        // Most of the events of each source are at fault.
        let at_fault = |index| index % 10 < 6 || index % 100 < 50;
        let found = deliver_in_order(&mut Suspects::default(), [3000, 3000, 1], |_| 0, (source, at_fault));
        assert_eq!(rejected(&found), (0..3000).filter(|index| at_fault(*index)).collect::<Vec<_>>());
    }

    #[test]
    fn server_that_rejects_everything_gets_few_requests_for_each_source() {
        for (sources, first, next) in [(2, 64 + 2 * 16, 1 + 2 * 8), (20, 64 + 20 * 4, 1 + 20 * 2)] {
            let mut suspects = Suspects::default();
            let mut requests = || {
                let events = (|index| index as u32 % sources, |_| true);
                deliver_in_order(&mut suspects, [5000, 5000, 1], |_| 0, events).requests
            };
            assert_eq!([requests(), requests(), requests()], [first, next, next], "{sources} sources");
        }
        let source = |index| index as u32;
        let found = deliver_in_order(&mut Suspects::default(), [1000, 1000, 1], |_| 0, (source, |_| true));
        assert!(found.attempts == 4 && found.requests <= 1100, "{} in {}", found.requests, found.attempts);
    }

    proptest! {
        /// Whoever writes bad events, and however many, loses only his own.
        #[test]
        fn good_events_of_others_are_accepted(
            runs in prop::collection::vec((0u32..12, 1u64..400), 1..40),
            is_bad in prop::collection::vec(prop::bool::weighted(0.7), 12),
            of_request in 50u64..4000,
            under_way in 1u64..6,
            order in prop::collection::vec(0usize..6, 1..200),
        ) {
            let sources: Vec<u32> = runs.iter().flat_map(|(source, events)| vec![*source; *events as usize]).collect();
            let source = |index: u64| sources[index as usize];
            let at_fault = |index: u64| is_bad[source(index) as usize];
            let events = sources.len() as u64;
            let mut suspects = Suspects::default();
            for _ in 0..2 {
                let mut order = order.iter().cycle();
                let lands = |running| order.next().map_or(0, |drawn| drawn % running);
                let found = deliver_in_order(&mut suspects, [events, of_request, under_way], lands, (source, at_fault));
                prop_assert_eq!(rejected(&found), (0..events).filter(|index| at_fault(*index)).collect::<Vec<_>>());
                deliver_in_order(&mut suspects, [events, of_request, under_way], |_| 0, (source, |_| true));
            }
        }

        /// What was under way when the server counted as one that rejects everything is not known to be like the rest.
        #[test]
        fn late_requests_of_several_events_are_looked_into_once_more(
            under_way in 1u64..6,
            order in prop::collection::vec(0usize..6, 1..200),
        ) {
            let mut order = order.iter().cycle();
            let lands = |running| order.next().map_or(0, |drawn| drawn % running);
            let found = deliver_in_order(&mut Suspects::default(), [3000, 3000, under_way], lands, (|_| 0, |_| true));
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
