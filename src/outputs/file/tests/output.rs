//! The files in ordinary and odd circumstances.
