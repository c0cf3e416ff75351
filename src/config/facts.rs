//! Facts of the host and the process that components may need.

use std::sync::Arc;

/// What is known before anything runs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The host's name.
    pub host: Arc<str>,
}
