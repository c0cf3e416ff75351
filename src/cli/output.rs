//! Standard output and standard error, both of which may be gone.

use std::io::{self, IsTerminal, Write};

/// Whoever read standard output went away: there is nobody left to work for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader of standard output went away")]
pub struct ReaderGone;

/// Writes a result.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
    }
}

/// Writes what went wrong.
pub fn complain(text: &str) {
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

/// Colours, where they show.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    /// Whether they do.
    pub on: bool,
}

/// Text of an event for a terminal: what could steer one is spelled out.
pub fn visible(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for character in String::from_utf8_lossy(text).chars() {
        match character.is_control() && character != '\t' {
            true => out.extend(character.escape_default()),
            false => out.push(character),
        }
    }
    out
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
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_could_steer_a_terminal_is_spelled_out() {
        assert_eq!(
            super::visible(b"a\tb \x1b[31m\x07\x7f\xc2\x9b \xff"),
            "a\tb \\u{1b}[31m\\u{7}\\u{7f}\\u{9b} \u{fffd}"
        );
    }
}
