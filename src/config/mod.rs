//! Configuration: what the file says and what will run.

pub mod component;
pub mod types;
