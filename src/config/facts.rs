//! Facts of the host and the process that components may need.

use super::claims::Claims;
use crate::codec::zone::Zone;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is known before anything runs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The host's name.
    pub host: Arc<str>,
    /// The zone of times that say none.
    pub timezone: Zone,
    /// The files that outputs write.
    pub claims: Arc<Claims>,
    /// The outputs that events of an input may go to.
    pub downstream: Arc<BTreeSet<Arc<str>>>,
}

impl Facts {
    /// Of a host whose times without a zone are UTC.
    pub fn of(host: impl Into<Arc<str>>) -> Facts {
        Facts { host: host.into(), timezone: Zone::UTC, claims: Arc::default(), downstream: Arc::default() }
    }

    /// The same for an input whose events go to these outputs.
    pub fn feeding(&self, downstream: Arc<BTreeSet<Arc<str>>>) -> Facts {
        Facts { downstream, ..self.clone() }
    }
}
