//! The house rules as tests: floors, islands of `unsafe`, words that must not land, sizes, links.
//!
//! Each rule is a function from a file's path and text to findings, a test that runs it over the repository, and a test that it
//! finds what is wrong in a bad snippet: a rule that sees nothing there is broken. Rules read text, not syntax: rustfmt makes
//! that reliable. It deliberately does not repeat what the compiler or clippy refuse already.

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
