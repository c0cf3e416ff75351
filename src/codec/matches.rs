//! All matches of a pattern in the texts of one event.
//!
//! Guarantees: a single search takes time in proportion to the text, but each of many matches may look far ahead, such as those of
//! `a(.*b)?` in a text without a `b`. All searches in the texts of an event together read at most twice [`BYTES_BASE`] bytes, and twice
//! [`BYTES_PER_BYTE`] more for each byte of a text; then they end with [`TooMuchWork`]. Nothing is measured before searches that
//! read all of the rest could have read half of that, so nearly no event pays for it. From then on as much is read again to measure it.
//!
//! A search is measured by how far an automaton of the pattern reads until nothing further can change the match. Where that automaton
//! cannot go on (words next to letters that are not ASCII, too many states), the states are followed one by one, as searches do there.

use super::pattern::{PATTERN_BYTES_MAX, Pattern, syntax};
use regex_automata::hybrid::dfa::{self, DFA};
use regex_automata::meta::Cache;
use regex_automata::nfa::thompson::{NFA, State, WhichCaptures};
use regex_automata::util::captures::Captures;
use regex_automata::util::iter::Searcher;
use regex_automata::util::primitives::StateID;
use regex_automata::{Input, Match};

/// The bytes that the searches of one pattern may read in one event, whatever its texts are: before they are measured, and again then.
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

/// Tells how far a search reads.
struct Meter {
    /// None if the pattern is too large.
    nfa: Option<NFA>,
    automaton: Option<(DFA, dfa::Cache)>,
    threads: Threads,
}

impl Meter {
    fn new(pattern: &Pattern) -> Meter {
        let config = NFA::config().which_captures(WhichCaptures::None).nfa_size_limit(Some(PATTERN_BYTES_MAX));
        // An automaton that becomes too large while it reads is no faster than to follow the states.
        let limits = DFA::config()
            .cache_capacity(PATTERN_BYTES_MAX)
            .skip_cache_capacity_check(true)
            .minimum_cache_clear_count(Some(3))
            .minimum_bytes_per_state(Some(10))
            .unicode_word_boundary(true);
        let nfa = NFA::compiler().configure(config).syntax(syntax()).build(pattern.source()).ok();
        let dfa = nfa.clone().and_then(|nfa| DFA::builder().configure(limits).build_from_nfa(nfa).ok());
        let automaton = dfa.map(|dfa| {
            let cache = dfa.create_cache();
            (dfa, cache)
        });
        Meter { nfa, automaton, threads: Threads::default() }
    }

    /// The bytes that a search reads; beyond `most`, any number that is larger.
    fn read(&mut self, input: &Input<'_>, most: u64) -> u64 {
        let all = rest_of(input);
        let Some(nfa) = self.nfa.as_ref().filter(|_| !input.is_done()) else { return all };
        let read = self.automaton.as_mut().and_then(|(dfa, cache)| read_by(dfa, cache, input, most));
        read.unwrap_or_else(|| self.threads.read(nfa, input, most)).min(all)
    }
}

/// How far an automaton reads; none if it cannot go on.
fn read_by(dfa: &DFA, cache: &mut dfa::Cache, input: &Input<'_>, most: u64) -> Option<u64> {
    let mut state = dfa.start_state_forward(cache, input).ok()?;
    for (read, byte) in (1..).zip(&input.haystack()[input.get_range()]) {
        state = dfa.next_state(cache, state, *byte).ok()?;
        match () {
            () if state.is_dead() || read > most => return Some(read),
            () if state.is_quit() => return None,
            () => {}
        }
    }
    Some(rest_of(input))
}

/// How many bytes are looked at to tell whether a word begins or ends at a place: a character.
const LOOKED_AT: u64 = 4;

/// The states in which a pattern may be, those first that decide.
#[derive(Default)]
struct Threads {
    now: Vec<StateID>,
    next: Vec<StateID>,
    /// States that lead to others without a byte.
    open: Vec<StateID>,
    /// The step in which each state was last added.
    added: Vec<u64>,
    step: u64,
}

impl Threads {
    fn read(&mut self, nfa: &NFA, input: &Input<'_>, most: u64) -> u64 {
        let text = input.haystack();
        self.added.resize(nfa.states().len(), 0);
        self.next.clear();
        self.step += 1;
        let mut is_found = false;
        for (read, at) in (1 + LOOKED_AT..).zip(input.get_range()) {
            // Without a match, one may begin here.
            if !is_found {
                self.add(nfa, nfa.start_anchored(), text, at);
            }
            std::mem::swap(&mut self.now, &mut self.next);
            self.next.clear();
            self.step += 1;
            for index in 0..self.now.len() {
                let to = match nfa.state(self.now[index]) {
                    State::ByteRange { trans } => trans.matches(text, at).then_some(trans.next),
                    State::Sparse(sparse) => sparse.matches(text, at),
                    State::Dense(dense) => dense.matches(text, at),
                    // What comes later has no say.
                    State::Match { .. } => {
                        is_found = true;
                        break;
                    }
                    _ => None,
                };
                to.into_iter().for_each(|to| self.add(nfa, to, text, at + 1));
            }
            if is_found && self.next.is_empty() || read > most {
                return read;
            }
        }
        rest_of(input)
    }

    /// Adds what a state leads to without a byte, before the byte at this place.
    fn add(&mut self, nfa: &NFA, first: StateID, text: &[u8], at: usize) {
        self.open.push(first);
        while let Some(id) = self.open.pop() {
            if std::mem::replace(&mut self.added[id.as_usize()], self.step) == self.step {
                continue;
            }
            match nfa.state(id) {
                State::Look { look, next } if nfa.look_matcher().matches(*look, text, at) => self.open.push(*next),
                State::Union { alternates } => self.open.extend(alternates.iter().rev()),
                State::BinaryUnion { alt1, alt2 } => self.open.extend([*alt2, *alt1]),
                State::Capture { next, .. } => self.open.push(*next),
                State::Look { .. } | State::Fail => {}
                _ => self.next.push(id),
            }
        }
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
        let others = "é".repeat(10_000);
        for pattern in ["a(.*b)?", "a.*b|a", "(a)(?:.*b)??.*?c|a", r"a(\w+\b.*b)?", r"a\b|a.*b|a", r"a(\b|.*b|\B)"] {
            assert_eq!(count(pattern, &[&few]).map(|_| ()), Ok(()), "{pattern}");
            assert_eq!(count(pattern, &[&many]), Err(TooMuchWork), "{pattern}");
            assert_eq!(count(&pattern.replace('a', "é"), &[&others]), Err(TooMuchWork), "{pattern}");
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
            pattern in r"([abcé.]|[ab][*+?]|[ab][?][?]|[(]a[.][*]b[)][?]|a[|]b|[$^]|\\b|\\B|\\b[|]|[.][*][?]c){1,5}",
            text in "[abcé \n]{0,12}",
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
