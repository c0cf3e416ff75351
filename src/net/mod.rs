//! Network code that inputs, outputs and the admin endpoint share.

pub mod auth;
pub mod client;
pub mod encode;
pub mod endpoint;
pub mod host;
pub mod http;
pub mod meter;
pub mod places;
pub mod proxy;
pub mod reply;
pub mod secrets;
pub mod secured;
pub mod stream;
pub mod tls;
pub mod trust;
