//! The house rules as tests: floors, islands of `unsafe`, banned words, sizes, links.
//!
//! Each rule is a function from a file's path and text to findings, a test that runs it on the repository, and a test with a
//! bad snippet: a rule that finds nothing there is broken. Rules read text, not syntax, which works because of rustfmt. They
//! deliberately do not repeat what the compiler or clippy report.

#[path = "tidy/docs.rs"]
mod docs;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/limits.rs"]
mod limits;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;
