//! Facts about the host and the process that components need.

use super::claims::Claims;
use super::room::Room;
use crate::codec::zone::Zone;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is known before anything starts.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The host name.
    pub host: Arc<str>,
    /// The time zone of times that have none.
    pub timezone: Zone,
    /// The files that outputs write.
    pub claims: Arc<Claims>,
    /// The outputs that may receive the events of an input.
    pub downstream: Arc<BTreeSet<Arc<str>>>,
    /// Room for the positions of what inputs follow.
    pub room: Arc<Room>,
}

impl Facts {
    /// The facts of a host with UTC as its time zone.
    pub fn of(host: impl Into<Arc<str>>) -> Facts {
        Facts {
            host: host.into(),
            timezone: Zone::UTC,
            claims: Arc::default(),
            downstream: Arc::default(),
            room: Arc::default(),
        }
    }

    /// The same facts for an input whose events go to these outputs.
    pub fn feeding(&self, downstream: Arc<BTreeSet<Arc<str>>>) -> Facts {
        Facts { downstream, ..self.clone() }
    }
}
