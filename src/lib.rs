//! Tailwater, the product: formats, protocols, configuration and the command line around the engine.
//!
//! Never accesses an atomic, a mapping or a sequence number of the WAL: those belong to the engine.
#![forbid(unsafe_code)]

pub mod app;
pub mod cli;
pub mod codec;
pub mod config;
pub mod expr;
pub mod inputs;
pub mod net;
pub mod outputs;
pub mod parsers;
pub mod process;
pub mod telemetry;
pub mod transforms;
