//! All matches of a pattern in the texts of one event.
//!
//! Guarantees: a single search takes time in proportion to the text, but each of many matches may look far ahead, such as those of
//! `a(.*b)?` in a text without a `b`. All searches in the texts of an event together read at most [`BYTES_BASE`] bytes, and
//! [`BYTES_PER_BYTE`] more for each byte of a text; then they end with [`TooMuchWork`]. Nothing is measured before searches that
//! read all of the rest could have read as many, so nearly no event pays for it.
//!
//! Measured is where an automaton of the pattern knows that nothing further can change the match. In that automaton, every position
//! counts as a boundary of words, because none that is as fast knows all letters of Unicode. A search that it cannot do counts as
//! one that reads the whole rest.

use super::pattern::{PATTERN_BYTES_MAX, Pattern};
use regex_automata::hybrid::dfa::{self, DFA};
use regex_automata::meta::Cache;
use regex_automata::nfa::thompson::{NFA, WhichCaptures};
use regex_automata::util::captures::Captures;
use regex_automata::util::iter::Searcher;
use regex_automata::{Input, Match};
use regex_syntax::hir::{Capture, Hir, HirKind, LookSet, Repetition};

/// The bytes that the searches of one pattern may read in one event, whatever its texts are.
pub const BYTES_BASE: u64 = 4 << 20;

/// The further bytes for each byte of a text.
pub const BYTES_PER_BYTE: u64 = 8;

/// The matches of an event take too much work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuchWork;

/// A pattern opened on one shard.
pub struct Matches {
    pattern: Pattern,
    cache: Cache,
    captures: Captures,
    /// What may still be read, if each search reads the whole rest of its text.
    assumed: u64,
    /// What may still be read by searches that are measured.
    measured: u64,
    /// Made for the first event that needs it.
    meter: Option<Box<Meter>>,
}

impl Matches {
    /// Opens a pattern.
    pub fn new(pattern: &Pattern) -> Matches {
        let regex = pattern.regex();
        let (cache, captures) = (regex.create_cache(), regex.create_captures());
        Matches { pattern: pattern.clone(), cache, captures, assumed: 0, measured: 0, meter: None }
    }

    /// Begins an event.
    pub fn begin(&mut self) {
        (self.assumed, self.measured) = (BYTES_BASE, BYTES_BASE);
    }

    /// Visits the matches in a text of the event, which is UTF-8, until `visit` returns false. The groups are those of the match if
    /// they are asked for.
    pub fn each(
        &mut self,
        text: &[u8],
        with_groups: bool,
        mut visit: impl FnMut(Match, &Captures) -> bool,
    ) -> Result<(), TooMuchWork> {
        let more = BYTES_PER_BYTE.saturating_mul(text.len() as u64);
        self.assumed = self.assumed.saturating_add(more);
        self.measured = self.measured.saturating_add(more);
        let mut searcher = Searcher::new(Input::new(text));
        let mut outcome = Ok(());
        while let Some(hit) = searcher.advance(|input| {
            outcome = self.take(input);
            Ok(outcome.ok().and_then(|()| self.search(input, with_groups)))
        }) {
            if !visit(hit, &self.captures) {
                break;
            }
        }
        outcome
    }

    fn search(&mut self, input: &Input<'_>, with_groups: bool) -> Option<Match> {
        let Matches { pattern, cache, captures, .. } = self;
        if !with_groups {
            return pattern.regex().search_with(cache, input);
        }
        pattern.regex().search_captures_with(cache, input, captures);
        captures.get_match()
    }

    /// Takes what a search reads from what may still be read.
    fn take(&mut self, input: &Input<'_>) -> Result<(), TooMuchWork> {
        if let Some(left) = self.assumed.checked_sub(rest_of(input)) {
            self.assumed = left;
            return Ok(());
        }
        let meter = self.meter.get_or_insert_with(|| Box::new(Meter::new(&self.pattern)));
        let left = self.measured.checked_sub(meter.read(input, self.measured));
        self.measured = left.unwrap_or(0);
        left.map(drop).ok_or(TooMuchWork)
    }
}

/// The bytes from where a search begins, and its end.
fn rest_of(input: &Input<'_>) -> u64 {
    input.get_span().len() as u64 + 1
}

/// Tells how far a search reads. None if the pattern has no automaton.
struct Meter(Option<(DFA, dfa::Cache)>);

impl Meter {
    fn new(pattern: &Pattern) -> Meter {
        let config = NFA::config().which_captures(WhichCaptures::None).nfa_size_limit(Some(PATTERN_BYTES_MAX));
        // An automaton that becomes too large while it reads is no faster than what it measures.
        let limits = DFA::config()
            .cache_capacity(PATTERN_BYTES_MAX)
            .skip_cache_capacity_check(true)
            .minimum_cache_clear_count(Some(3))
            .minimum_bytes_per_state(Some(10));
        let automaton = pattern.parsed().and_then(|parsed| {
            let nfa = NFA::compiler().configure(config).build_from_hir(&without_words(&parsed)).ok()?;
            DFA::builder().configure(limits).build_from_nfa(nfa).ok()
        });
        Meter(automaton.map(|dfa| {
            let cache = dfa.create_cache();
            (dfa, cache)
        }))
    }

    /// The bytes that a search reads; beyond `most`, any number that is larger.
    fn read(&mut self, input: &Input<'_>, most: u64) -> u64 {
        let all = rest_of(input);
        let Some((dfa, cache)) = self.0.as_mut().filter(|_| !input.is_done()) else { return all };
        let Ok(mut state) = dfa.start_state_forward(cache, input) else { return all };
        for (read, byte) in (1..).zip(&input.haystack()[input.get_range()]) {
            match dfa.next_state(cache, state, *byte) {
                Ok(next) if next.is_dead() => return read,
                Ok(next) if !next.is_quit() && read <= most => state = next,
                _ => return all,
            }
        }
        all
    }
}

/// The same pattern, in which every position is a boundary of words. Recurses as deep as the pattern is nested.
fn without_words(hir: &Hir) -> Hir {
    let inside = |all: &[Hir]| all.iter().map(without_words).collect();
    match hir.kind() {
        HirKind::Look(look) if LookSet::singleton(*look).contains_word_unicode() => Hir::empty(),
        HirKind::Repetition(of) => Hir::repetition(Repetition { sub: Box::new(without_words(&of.sub)), ..of.clone() }),
        HirKind::Capture(of) => Hir::capture(Capture { sub: Box::new(without_words(&of.sub)), ..of.clone() }),
        HirKind::Concat(all) => Hir::concat(inside(all)),
        HirKind::Alternation(all) => Hir::alternation(inside(all)),
        _ => hir.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::pattern::compile;
    use proptest::prelude::*;

    /// The number of matches in texts of one event.
    fn count(pattern: &str, texts: &[&str]) -> Result<usize, TooMuchWork> {
        let mut matches = Matches::new(&Pattern::new(pattern).expect("a pattern"));
        let mut count = 0;
        matches.begin();
        for text in texts {
            matches.each(text.as_bytes(), false, |_, _| {
                count += 1;
                true
            })?;
        }
        Ok(count)
    }

    #[test]
    fn matches_that_look_far_ahead_end_in_an_error() {
        let (few, many) = ("a".repeat(1_000), "a".repeat(10_000));
        for pattern in ["a(.*b)?", "a.*b|a", "(a)(?:.*b)??.*?c|a", r"a(\w+\b.*b)?"] {
            assert_eq!(count(pattern, &[&few]).map(|_| ()), Ok(()), "{pattern}");
            assert_eq!(count(pattern, &[&many]), Err(TooMuchWork), "{pattern}");
        }
        // Nor in many short texts of one event. The next one begins anew.
        assert_eq!(count("a(.*b)?", &[few.as_str(); 100]), Err(TooMuchWork));
        let mut matches = Matches::new(&Pattern::new("a(.*b)?").expect("a pattern"));
        for _ in 0..100 {
            matches.begin();
            assert_eq!(matches.each(few.as_bytes(), true, |_, _| true), Ok(()));
        }
    }

    #[test]
    fn matches_that_end_where_they_are_found_have_no_limit() {
        const LINES: usize = 2_000;
        let words = "word 12 wörter, слово; ".repeat(LINES);
        for (pattern, per_line) in [
            (r"\d+", 1),
            (r"\w+", 4),
            (r"\b\w+\b", 4),
            (r"\pL+?(?:,|;)", 2),
            ("[a-z]+ [0-9]", 1),
            ("(?i)WORD|(слово;)", 2),
            (r"\B", 15),
            ("w[^;]{0,30}", 1),
            ("", 23),
        ] {
            let found = count(pattern, &[&words]).expect("it is in proportion to the text");
            assert!(found.abs_diff(per_line * LINES) <= 1, "{pattern}: {found}");
        }
    }

    proptest! {
        /// What was not read cannot change what is found.
        #[test]
        fn search_reads_as_far_as_is_measured(
            pattern in "([abc.]|[ab][*+?]|[ab][?][?]|[(]a[.][*]b[)][?]|a[|]b|[$^]|[.][*][?]c){1,4}",
            text in "[abcé\n]{0,12}",
            start in 0usize..12,
        ) {
            let pattern = Pattern::new(&pattern).expect("a pattern");
            let start = (0..=start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).expect("zero is one");
            let (regex, mut meter) = (compile(pattern.source(), true).expect("a pattern"), Meter::new(&pattern));
            let input = Input::new(&text).span(start..text.len());
            let read = meter.read(&input, u64::MAX) as usize;
            prop_assert!(read >= 1 && read <= text.len() - start + 1);
            let mut part = text.clone().into_bytes();
            part[(start + read).min(text.len())..].fill(b'b');
            let part = String::from_utf8(part).unwrap_or(text.clone());
            prop_assert_eq!(regex.find(input), regex.find(Input::new(&part).span(start..part.len())));
        }
    }
}
