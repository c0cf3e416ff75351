//! Standard output and standard error, both of which may be gone.
//!
//! Guarantees: what comes from events, files and configurations cannot steer a terminal: all that is printed is made visible here,
//! but for text that is painted, whose painter has done so. A pipe gets JSON as it is.

use crate::codec::visible::{visible, visible_json, visible_lines};
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// Whoever read standard output went away: there is nobody left to work for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader of standard output went away")]
pub struct ReaderGone;

/// Writes a result for people.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_painted(&visible_lines(text))
}

/// Writes a result for programs, in JSON.
pub fn print_json(json: &str) -> anyhow::Result<()> {
    print_painted(&json_for(json, io::stdout().is_terminal()))
}

/// JSON as a terminal, or anything else, gets it: the same JSON.
pub fn json_for(json: &str, terminal: bool) -> Cow<'_, str> {
    if terminal { visible_json(json).into() } else { json.into() }
}

/// Writes a result for people that may have colours: what is not ours in it has been made visible.
pub fn print_painted(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
    }
}

/// Writes what went wrong.
pub fn complain(text: &str) {
    complain_painted(&visible_lines(text));
}

/// Writes what went wrong, which may have colours: what is not ours in it has been made visible.
pub fn complain_painted(text: &str) {
    // There is nowhere to report that the report failed.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether standard error shows colours.
pub fn stderr_colors() -> bool {
    io::stderr().is_terminal() && colors_wanted()
}

/// Whether standard output shows colours.
pub fn stdout_colors() -> bool {
    io::stdout().is_terminal() && colors_wanted()
}

fn colors_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Colours, where they show. What it paints becomes a line that steers no terminal.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    /// Whether they do.
    pub on: bool,
}

impl Paint {
    /// What is gone or wrong.
    pub fn red(self, text: &str) -> String {
        self.code("31", text)
    }

    /// What is new or right.
    pub fn green(self, text: &str) -> String {
        self.code("32", text)
    }

    /// What is different.
    pub fn yellow(self, text: &str) -> String {
        self.code("33", text)
    }

    /// What stands out.
    pub fn bold(self, text: &str) -> String {
        self.code("1", text)
    }

    /// What may be passed over.
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
    fn what_is_painted_steers_no_terminal() {
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
