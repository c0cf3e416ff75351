//! What Tailwater says about itself.

pub mod log;
