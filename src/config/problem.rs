//! Problems of a configuration: collected, sorted by position, and rendered with the line that they are about.
//!
//! Guarantees: every problem names file, line and column; the excerpt comes from the file itself, so a variable shows as
//! `${NAME}`, never as its value. Does not decide what is wrong.

use super::env::Variable;
use crate::codec::visible::{steers, visible, visible_lines};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// A range of bytes in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// Places from here on are in no file.
const ASSUMED: usize = usize::MAX / 2;

impl Span {
    /// The place of a value that is not written, but stands in for one that is missing. Each number makes another one.
    pub fn assumed(number: usize) -> Span {
        Span { start: ASSUMED + number, end: ASSUMED + number }
    }

    /// Whether this is such a place.
    pub fn is_assumed(self) -> bool {
        self.assumption().is_some()
    }

    /// The number of such a place.
    pub fn assumption(self) -> Option<usize> {
        self.start.checked_sub(ASSUMED)
    }
}

/// Whether a problem prevents the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing starts.
    Error,
    /// It runs, but probably not as intended.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it prevents the start.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub what: String,
    /// Where in the file; `None` for the file as a whole.
    pub span: Option<Span>,
    /// What was found there, or why it is wrong.
    pub label: String,
    /// What to do.
    pub help: Option<String>,
    /// Follows from no other problem, though another one may have the same place.
    pub independent: bool,
    /// It is that a variable is not set.
    pub unset: bool,
}

impl Problem {
    /// An error at a position.
    pub fn error(span: Span, what: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            what: what.into(),
            span: Some(span),
            label: String::new(),
            help: None,
            independent: false,
            unset: false,
        }
    }

    /// A warning at a position.
    pub fn warning(span: Span, what: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(span, what) }
    }

    /// An error about the file as a whole.
    pub fn whole(what: impl Into<String>) -> Problem {
        Problem { span: None, ..Problem::error(Span::default(), what) }
    }

    /// Sets the label: what was found there.
    pub fn label(mut self, label: impl Into<String>) -> Problem {
        self.label = label.into();
        self
    }

    /// The same, told beside others of its place: it follows from none of them.
    pub fn independent(self) -> Problem {
        Problem { independent: true, ..self }
    }

    /// Replaces the values of variables with their names. `variables` must be sorted by length, longest values first.
    pub fn hide(&mut self, variables: &[Variable]) {
        for text in [Some(&mut self.what), Some(&mut self.label), self.help.as_mut()].into_iter().flatten() {
            variables
                .iter()
                .filter(|variable| variable.value.len() >= SECRET_BYTES_MIN)
                .for_each(|variable| hide(text, variable));
        }
    }

    /// Sets the help: what to do.
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
}

/// Shorter values are not replaced: they occur in unrelated words.
const SECRET_BYTES_MIN: usize = 6;

/// Values of at least this length are replaced inside words too.
const LONG_BYTES: usize = 16;

fn hide(text: &mut String, variable: &Variable) {
    let Variable { name, value } = variable;
    let (mut hidden, mut rest) = (String::new(), text.as_str());
    while let Some(at) = rest.find(value.as_str()) {
        let (before, behind) = (&rest[..at], &rest[at + value.len()..]);
        let goes_on = before.ends_with(char::is_alphanumeric) || behind.starts_with(char::is_alphanumeric);
        hidden.push_str(before);
        match goes_on && value.len() < LONG_BYTES {
            true => hidden.push_str(value),
            false => hidden.extend(["${", name, "}"]),
        }
        rest = behind;
    }
    if !hidden.is_empty() {
        hidden.push_str(rest);
        *text = hidden;
    }
}

/// A configuration that was rejected.
#[derive(Debug)]
pub struct Refused {
    /// The problems and the file they are in.
    pub report: Report,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.report.render(false).trim_end())
    }
}

impl std::error::Error for Refused {}

/// The problems of one file.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The file's name as the user wrote it.
    pub file: String,
    /// Its text.
    pub text: String,
    /// What is wrong, in any order.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether a problem prevents the start.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Line and column of a byte, both from 1. Columns count characters.
    pub fn line_and_column(&self, byte: usize) -> (usize, usize) {
        let before = &self.text[..floor(&self.text, byte)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// Renders all problems for the terminal, in the order of the file.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut problems: Vec<&Problem> = self.problems.iter().collect();
        problems.sort_by_key(|problem| problem.span);
        let mut out = String::new();
        for problem in problems {
            push_escaped(&self.render_one(problem, &renderer), &mut out);
            out.push_str("\n\n");
        }
        out
    }

    fn render_one(&self, problem: &Problem, renderer: &Renderer) -> String {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let Some(span) = problem.span else {
            let mut group = level.primary_title(format!("{}: {}", self.file, problem.what)).elements(
                Some(problem.label.as_str())
                    .filter(|label| !label.is_empty())
                    .map(|label| Level::NOTE.message(visible_lines(label))),
            );
            group = group.elements(problem.help.as_deref().map(|help| Level::HELP.message(visible_lines(help))));
            return renderer.render(&[group]);
        };
        let (line, window, inside) = self.window(span);
        let annotation = AnnotationKind::Primary.span(inside);
        let annotation = match problem.label.is_empty() {
            true => annotation,
            false => annotation.label(visible_lines(&problem.label)),
        };
        let snippet = Snippet::source(window).line_start(line).path(visible(&self.file)).annotation(annotation);
        let group = level.primary_title(problem.what.as_str()).element(snippet);
        renderer.render(&[group.elements(problem.help.as_deref().map(|help| Level::HELP.message(visible_lines(help))))])
    }

    /// The line where a span starts, shortened for a terminal, and the span inside it.
    fn window(&self, span: Span) -> (usize, &str, std::ops::Range<usize>) {
        let start = floor(&self.text, span.start);
        let (line, _) = self.line_and_column(start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |newline| start + newline);
        let line_end = floor(&self.text, line_end.min(start + WINDOW_BYTES_MAX)).max(start);
        let end = floor(&self.text, span.end).clamp(start, line_end);
        let window = &self.text[line_start..line_end];
        // The line ending is not shown unless the problem is about it.
        let shown = window.trim_end_matches('\r').len().max(end - line_start);
        (line, &window[..shown], start - line_start..end - line_start)
    }
}

/// Bytes of a line that are shown, starting at the problem.
const WINDOW_BYTES_MAX: usize = 400;

/// The renderer replaces some of what could control a terminal, among it every escape of a source, and adds its own for colors:
/// this replaces the rest.
fn push_escaped(rendered: &str, out: &mut String) {
    for c in rendered.chars() {
        match steers(c) && !matches!(c, '\u{1b}' | '\n' | '\t') {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
}

fn floor(text: &str, byte: usize) -> usize {
    text.floor_char_boundary(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_out_of_a_configuration_steer_no_terminal() {
        let hostile = "a\u{1b}[2J\u{7f}\u{9b}2J\u{202e}\u{200f}\u{61c}\u{2028}b";
        let text = format!("x: {hostile}\n");
        let spanned = Problem::error(Span { start: 3, end: 6 }, hostile).label(hostile).help(hostile);
        let whole = Problem::whole(hostile).label(hostile).help(hostile);
        let report = Report { file: hostile.to_owned(), text, problems: vec![spanned, whole] };
        let shown = report.render(false);
        assert_eq!(shown.chars().find(|c| steers(*c) && *c != '\n'), None, "{shown:?}");
        assert!(shown.contains("2J"), "{shown}");
    }
}
