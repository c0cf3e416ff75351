//! What of a configuration file is not shown: values of secret keys, and the parts of URLs that may contain secrets.
//!
//! ```text
//! marks: the schema says which keys are secret ──> tree:  ranges of a file that is valid YAML, by path  ──> here: the report
//!                                              └─> lines: whole lines of any other file, by the names of keys ┘
//! ```
//!
//! Guarantees: the text of a report, and so every excerpt, has [`MASK`] in the place of these bytes, and its messages do not repeat them.
//! A mask says nothing of the length of what it hides. References to variables stay readable. What the configuration gives to events
//! (`add`, tests) is not secret, whatever its names. Does not change what is read.

mod lines;
mod marks;
mod tree;

use super::node::Node;
use super::problem::{Problem, Report, Span};
use crate::codec::secret::{MASK, users_in};

/// Shorter values are replaced only where a message quotes its own place: they occur among other words.
const VALUE_BYTES_MIN: usize = 6;

/// Values of at least this length are replaced inside words too.
const LONG_BYTES: usize = 16;

/// Shorter quotes are masked only if they are the whole value: they name characters, such as `?`.
const PART_BYTES_MIN: usize = 3;

/// What messages write in an example.
const PLACEHOLDER: &str = "user:password";

/// The bytes of a file that are not shown.
#[derive(Default)]
pub struct Hidden {
    /// Where they are, in order and without overlaps.
    ranges: Vec<Span>,
    /// Values as they are read, without quotes and escapes; longest first.
    values: Vec<String>,
    /// Where secrets are written in the file itself.
    literals: Vec<Span>,
}

impl Hidden {
    /// What is hidden of a file. Without a tree it could not be read.
    pub fn of(text: &str, root: Option<&Node>) -> Hidden {
        let mut hidden = match root {
            Some(root) => tree::hidden(text, root),
            None => lines::hidden(text),
        };
        hidden.settle(text);
        hidden
    }

    fn push(&mut self, start: usize, end: usize) {
        if start < end {
            self.ranges.push(Span { start, end });
        }
    }

    /// Cuts the ranges at lines, which stay lines, and joins those that overlap.
    fn settle(&mut self, text: &str) {
        let mut pieces: Vec<Span> = self.ranges.iter().flat_map(|range| pieces(text, *range)).collect();
        pieces.sort();
        self.ranges.clear();
        for piece in pieces {
            match self.ranges.last_mut() {
                Some(last) if piece.start <= last.end => last.end = last.end.max(piece.end),
                _ => self.ranges.push(piece),
            }
        }
        self.values.retain(|value| !value.trim().is_empty());
        self.values.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        self.values.dedup();
    }

    /// Where secrets are written in the file itself, as places in the masked text.
    pub fn literals(&self) -> Vec<Span> {
        let mut literals: Vec<Span> = self.literals.iter().map(|span| self.moved(*span)).collect();
        literals.sort();
        literals.dedup();
        literals
    }

    /// Masks the text and the messages of a report.
    pub fn apply(&self, report: &mut Report) {
        for problem in &mut report.problems {
            self.mask_messages(problem, &report.text);
            problem.span = problem.span.map(|span| self.moved(span));
        }
        report.text = self.masked(&report.text);
    }

    /// The text of the file with masks.
    fn masked(&self, text: &str) -> String {
        let (mut out, mut from) = (String::with_capacity(text.len()), 0);
        for range in &self.ranges {
            out.push_str(&text[from..range.start]);
            out.push_str(MASK);
            from = range.end;
        }
        out.push_str(&text[from..]);
        out
    }

    /// Where a place of the file is in the masked text.
    pub fn moved(&self, span: Span) -> Span {
        if span.is_assumed() {
            return span;
        }
        let moved = |at: usize, is_end: bool| {
            let mut shift = 0isize;
            for range in self.ranges.iter().take_while(|range| range.start < at) {
                if at < range.end || at == range.end && is_end {
                    let mask = range.start.saturating_add_signed(shift);
                    return mask + if is_end { MASK.len() } else { 0 };
                }
                shift += MASK.len() as isize - (range.end - range.start) as isize;
            }
            at.saturating_add_signed(shift)
        };
        let start = moved(span.start, false);
        // An empty place stays empty.
        Span { start, end: if span.end > span.start { moved(span.end, true).max(start) } else { start } }
    }

    fn mask_messages(&self, problem: &mut Problem, text: &str) {
        let touched = problem.span.map(|span| self.touched(span, text)).unwrap_or_default();
        for message in [Some(&mut problem.what), Some(&mut problem.label), problem.help.as_mut()].into_iter().flatten()
        {
            for range in users_in(message).into_iter().rev() {
                if &message[range.clone()] != PLACEHOLDER {
                    message.replace_range(range, MASK);
                }
            }
            for value in self.values.iter().filter(|value| value.len() >= VALUE_BYTES_MIN) {
                replace(message, value);
            }
            if !touched.is_empty() {
                self.mask_quotes(message, &touched);
                // Numbers are quoted without quotes.
                let numbers = self.values.iter().filter(|value| value.parse::<f64>().is_ok());
                numbers.for_each(|value| replace(message, value));
            }
        }
    }

    /// What is hidden in a place or right beside it.
    fn touched<'a>(&self, span: Span, text: &'a str) -> Vec<&'a str> {
        let touches = |range: &&Span| range.start <= span.end && span.start <= range.end;
        self.ranges.iter().filter(touches).map(|range| &text[range.start..range.end]).collect()
    }

    /// Masks what a message quotes from a place that is hidden, also where it quotes only a part.
    fn mask_quotes(&self, message: &mut String, touched: &[&str]) {
        let is_hidden = |quoted: &str| {
            let is_in = |whole: &str| {
                whole.trim_matches(['"', '\'']) == quoted || quoted.len() >= PART_BYTES_MIN && whole.contains(quoted)
            };
            let mut hidden = touched.iter().copied().chain(self.values.iter().map(String::as_str));
            !quoted.is_empty() && hidden.any(is_in)
        };
        let parts: Vec<&str> = message.split('`').collect();
        // A backtick in what is quoted ends the quote early.
        let is_uneven = parts.len().is_multiple_of(2);
        let masked: Vec<&str> = parts
            .iter()
            .enumerate()
            .map(|(number, part)| if (is_uneven || number % 2 == 1) && is_hidden(part) { MASK } else { part })
            .collect();
        *message = masked.join("`");
    }
}

/// The parts of a range on each of its lines, without the blanks around them.
fn pieces(text: &str, range: Span) -> Vec<Span> {
    let (mut pieces, mut start) = (Vec::new(), range.start);
    for line in text[range.start..range.end].split_inclusive('\n') {
        let lead = line.len() - line.trim_start().len();
        let body = line.trim().len();
        if body > 0 {
            pieces.push(Span { start: start + lead, end: start + lead + body });
        }
        start += line.len();
    }
    pieces
}

/// Replaces a value with the mask, inside words only if it is long.
fn replace(message: &mut String, value: &str) {
    let (mut out, mut rest) = (String::new(), message.as_str());
    while let Some(at) = rest.find(value) {
        let (before, behind) = (&rest[..at], &rest[at + value.len()..]);
        let goes_on = before.ends_with(char::is_alphanumeric) || behind.starts_with(char::is_alphanumeric);
        out.push_str(before);
        out.push_str(if goes_on && value.len() < LONG_BYTES { value } else { MASK });
        rest = behind;
    }
    if !out.is_empty() {
        out.push_str(rest);
        *message = out;
    }
}

#[cfg(test)]
mod tests;
