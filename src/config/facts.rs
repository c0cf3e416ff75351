//! Facts of the host and the process that components may need.

use crate::codec::zone::Zone;
use std::sync::Arc;

/// What is known before anything runs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The host's name.
    pub host: Arc<str>,
    /// The zone of times that say none.
    pub timezone: Zone,
}

impl Facts {
    /// Of a host whose times without a zone are UTC.
    pub fn of(host: impl Into<Arc<str>>) -> Facts {
        Facts { host: host.into(), timezone: Zone::UTC }
    }
}
