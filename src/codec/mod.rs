//! Converts bytes to events and events to bytes. Pure: no files, no sockets, no clock.

pub mod calendar;
pub mod encoding;
pub mod envelope;
pub mod framing;
pub mod json;
pub mod layout;
pub mod marked;
pub mod matches;
pub mod moment;
pub mod nuls;
pub mod path;
pub mod pattern;
pub mod rewrite;
pub mod rfc3339;
pub mod secret;
pub mod template;
pub mod text;
pub mod visible;
pub mod zone;
