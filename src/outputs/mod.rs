//! Outputs: one file or folder each, and one line in the table.
