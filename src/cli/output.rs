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
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
