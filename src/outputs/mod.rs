//! Outputs: one file or folder each, and one line in the table.

pub mod blackhole;
pub mod console;
pub mod encoding;
pub mod file;
