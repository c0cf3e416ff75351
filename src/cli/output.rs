//! Standard output and standard error; either may be closed.
//!
//! Guarantees: content of events, files and configurations cannot control a terminal. Everything that is printed is escaped
//! here, except painted text, which the painter has escaped. A pipe receives JSON unchanged.

use crate::codec::visible::{visible, visible_json, visible_lines};
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// The reader of standard output went away, so there is no reason to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader of standard output went away")]
pub struct ReaderGone;

/// Prints a result for people.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_painted(&visible_lines(text))
}

/// Prints a result for programs, in JSON.
pub fn print_json(json: &str) -> anyhow::Result<()> {
    print_painted(&json_for(json, io::stdout().is_terminal()))
}

/// JSON for a terminal or for anything else: equivalent JSON in both cases.
pub fn json_for(json: &str, terminal: bool) -> Cow<'_, str> {
    if terminal { visible_json(json).into() } else { json.into() }
}

/// Prints a result for people that may have colors; foreign content in it is already escaped.
pub fn print_painted(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
    }
}

/// Prints an error or warning.
pub fn complain(text: &str) {
    complain_painted(&visible_lines(text));
}

/// Prints an error or warning that may have colors; foreign content in it is already escaped.
pub fn complain_painted(text: &str) {
    // If standard error fails, there is nowhere to report it.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether standard error shows colors.
pub fn stderr_colors() -> bool {
    io::stderr().is_terminal() && colors_wanted()
}

/// Whether standard output shows colors.
pub fn stdout_colors() -> bool {
    io::stdout().is_terminal() && colors_wanted()
}

fn colors_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Adds colors, and escapes what it paints to one line that cannot control a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    /// Whether colors are shown.
    pub on: bool,
}

impl Paint {
    /// For removals and errors.
    pub fn red(self, text: &str) -> String {
        self.code("31", text)
    }

    /// For additions and success.
    pub fn green(self, text: &str) -> String {
        self.code("32", text)
    }

    /// For changes.
    pub fn yellow(self, text: &str) -> String {
        self.code("33", text)
    }

    /// For emphasis.
    pub fn bold(self, text: &str) -> String {
        self.code("1", text)
    }

    /// For details.
    pub fn dim(self, text: &str) -> String {
        self.code("2", text)
    }

    fn code(self, code: &str, text: &str) -> String {
        let text = visible(text);
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn painted_text_cannot_control_a_terminal() {
        assert_eq!(Paint { on: false }.red("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
        assert_eq!(Paint { on: true }.red("\u{9b}2J"), "\u{1b}[31m\\u{9b}2J\u{1b}[0m");
    }

    #[test]
    fn a_pipe_gets_json_as_it_is_and_a_terminal_the_same_json() {
        let json = "{\"a\":\"\u{9b}2J\"}\n";
        assert_eq!(json_for(json, false), json);
        assert_eq!(json_for(json, true), "{\"a\":\"\\u009b2J\"}\n");
    }
}
